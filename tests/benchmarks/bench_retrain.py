"""How long is a second `retrain` on cached bottlenecks, export included, in units of `import tensorflow`?

Bar: at most 1.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from measuring import arguments, demo_model, in_turn, machine, model_flags, ratio, script


def main() -> None:
    options = arguments(__doc__)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        demo_model(folder)
        ours, theirs = in_turn(
            options.rounds,
            lambda: script("retrain.py", *model_flags(folder)),
            lambda: subprocess.run([sys.executable, "-c", "import tensorflow"], check=True, capture_output=True),
        )
    print(machine())
    print(f"second retrain    {statistics.median(ours):6.2f} s")
    print(f"import tensorflow {statistics.median(theirs):6.2f} s")
    print(f"ratio {ratio(ours, theirs)}   bar 1")


if __name__ == "__main__":
    main()
