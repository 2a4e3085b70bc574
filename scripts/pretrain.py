"""Pretrain a backbone on public recordings: Inception-v3 on spectrograms.

The same as ``audionet pretrain``.
"""

if __name__ == "__main__":
    from audionet.cli.main import run_command

    run_command("pretrain")
