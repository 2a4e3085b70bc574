"""Train a new top layer on a pretrained network, for the labels that the folders of images are named after.

The same as ``audionet train``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from audionet.cli.main import run_command

    run_command("train")
