"""Turn recordings into WAV chunks and JPG spectrograms, one folder per label.

The same as ``audionet data``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from audionet.cli.main import run_command

    run_command("data")
