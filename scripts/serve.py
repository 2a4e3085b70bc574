"""Answer over HTTP who or what is heard, with a page to try it: http://127.0.0.1:8000.

The same as ``audionet serve``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from audionet.cli.main import run_command

    run_command("serve")
