"""Make a backbone from public recordings: Inception-v3 learns to hear in images of sound.

The same as ``audionet pretrain``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from audionet.cli.main import run_command

    run_command("pretrain")
