"""Say who or what is heard: clips, spectrogram JPGs or folders of them, to ranked labels or `unknown`.

The same as ``audionet label``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from audionet.cli.main import run_command

    run_command("label")
