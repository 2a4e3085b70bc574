"""Train a new top layer on a pretrained network; the folders of images give the labels.

The same as ``audionet train``.
"""

if __name__ == "__main__":
    from audionet.cli.main import run_command

    run_command("train")
