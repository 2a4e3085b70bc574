"""Label clips, spectrogram JPGs or folders of them: print ranked labels or `unknown`.

The same as ``audionet label``.
"""

if __name__ == "__main__":
    from audionet.cli.main import run_command

    run_command("label")
