"""Are real voices told apart? The Free Spoken Digit Dataset with its official split, through the scripts.

Bar: six speakers, at least 98 % of the 300 test clips, and not below the MFCC-statistics baseline on the same clips.
Needs --data, a folder that holds fsdd/recordings/{digit}_{speaker}_{index}.wav.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from measuring import arguments, digits, machine, model_flags, script


def two_trees(recordings: Path, folder: Path, place: int) -> None:
    """Index 0 to 4 to test/, the others to train/; `place` is that of the label in the file name."""
    for path in sorted(recordings.glob("*_*_*.wav")):
        parts = path.stem.split("_")
        label = folder / ("test" if int(parts[2]) < 5 else "train") / parts[place]
        label.mkdir(parents=True, exist_ok=True)
        (label / path.name).symlink_to(path.resolve())


def evaluated(folder: Path) -> dict[str, Any]:
    """Content of the report on the test clips."""
    graph, report = folder / "retrained_graph.tflite", folder / "report"
    script("evaluate.py", f"--graph={graph}", f"--test_dir={folder / 'test'}", f"--report_dir={report}")
    found: dict[str, Any] = json.loads((report / "report.json").read_text())
    return found


def main() -> None:
    options = arguments(__doc__)
    recordings = digits(options)
    if recordings is None:
        return
    print(machine())
    for kind, place in (("six speakers", 1), ("ten digits", 0)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            two_trees(recordings, folder, place)
            script(
                "data_maker.py",
                f"--audio_dir={folder / 'train'}",
                f"--wav_dir={folder / 'wav'}",
                f"--image_dir={folder / 'image'}",
            )
            script("retrain.py", *model_flags(folder))
            found = evaluated(folder)
            (right, total), (other, _) = (
                (found[name]["recordings"]["right"], found[name]["recordings"]["total"])
                for name in ("accuracy", "mfcc_statistics")
            )
        print(f"{kind}: {right} of {total} right ({right / total:.1%}), MFCC statistics {other} ({other / total:.1%})")


if __name__ == "__main__":
    main()
