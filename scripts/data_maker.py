"""Turn recordings into WAV chunks and JPG spectrograms, one folder per label.

The same as ``audionet data``.
"""

if __name__ == "__main__":
    from audionet.cli.main import run_command

    run_command("data")
