"""How good are a backbone's frozen features? Linear probes on real recordings, beside what needs no network.

The same as ``audionet probe``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from audionet.cli.main import run_command

    run_command("probe")
