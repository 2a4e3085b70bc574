"""Hold a model against recordings it has not heard, and write a report: tf_files/report/report.html.

The same as ``audionet evaluate``.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parent))
    from audionet.cli.main import run_command

    run_command("evaluate")
