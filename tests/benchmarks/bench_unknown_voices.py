"""How well are unknown voices told from known ones? Digits of six speakers, every pair left out in turn.

Bars: area under the curve at least 0.90 on average, and of the unknown clips the asked 5 % accepted, within 3 points.
Trained on four speakers' training clips; tested on the official test clips (index 0 to 4) of those four and on those
of the two that were left out. Needs --data, a folder that holds fsdd/recordings/{digit}_{speaker}_{index}.wav.
"""

from __future__ import annotations

import itertools
import json
import tempfile
from pathlib import Path

import numpy as np
from bench_real_voices import two_trees
from measuring import arguments, digits, machine, model_flags, script


def main() -> None:
    options = arguments(__doc__)
    recordings = digits(options)
    if recordings is None:
        return
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        two_trees(recordings, folder, 1)
        speakers = sorted(path.name for path in (folder / "train").iterdir())
        results = [without(pair, folder, speakers) for pair in itertools.combinations(speakers, 2)]
    area, accepted, refused = np.mean(results, axis=0)
    print(f"all {len(results)} pairs: area {area:.3f}, unknown accepted {accepted:.1%}, known refused {refused:.1%}")


def without(pair: tuple[str, ...], folder: Path, speakers: list[str]) -> tuple[float, float, float]:
    """Area under the curve, share of unknown clips accepted and of known ones refused."""
    place = folder / "+".join(pair)
    for tree, kept in (("train", set(speakers) - set(pair)), ("test", set(speakers))):
        (place / tree).mkdir(parents=True)
        for speaker in kept:
            (place / tree / speaker).symlink_to(folder / tree / speaker)
    script(
        "data_maker.py",
        f"--audio_dir={place / 'train'}",
        f"--wav_dir={place / 'wav'}",
        f"--image_dir={place / 'image'}",
    )
    flags = [flag for flag in model_flags(place) if not flag.startswith("--bottleneck_dir")]
    script("retrain.py", *flags, f"--bottleneck_dir={folder / 'bottlenecks'}")
    graph, report = place / "retrained_graph.tflite", place / "report"
    script("evaluate.py", f"--graph={graph}", f"--test_dir={place / 'test'}", f"--report_dir={report}")
    found = json.loads((report / "report.json").read_text())["open_set"]
    unknown, known = found["unknown"], found["known"]
    accepted, refused = unknown["accepted"] / unknown["clips"], known["refused"] / known["recordings"]
    print(
        f"without {' and '.join(pair):<20} area {found['area']:.3f}, unknown accepted {accepted:5.1%} of "
        f"{unknown['clips']}, known refused {refused:5.1%} of {known['recordings']}"
    )
    return found["area"], accepted, refused


if __name__ == "__main__":
    main()
