"""Are real voices told apart? The Free Spoken Digit Dataset with its official split, through the scripts.

Bar: six speakers, at least 98 % of the 300 test clips, and not below the MFCC-statistics baseline on the same clips.
Needs --data, a folder that holds fsdd/recordings/{digit}_{speaker}_{index}.wav.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
from measuring import arguments, digits, machine, model_flags, script


def two_trees(recordings: Path, folder: Path, place: int) -> None:
    """Index 0 to 4 to test/, the others to train/; `place` is that of the label in the file name."""
    for path in sorted(recordings.glob("*_*_*.wav")):
        parts = path.stem.split("_")
        label = folder / ("test" if int(parts[2]) < 5 else "train") / parts[place]
        label.mkdir(parents=True, exist_ok=True)
        (label / path.name).symlink_to(path.resolve())


def network(folder: Path) -> tuple[int, int]:
    """Test clips that label_image.py gets right, and their number."""
    lines = script(
        "label_image.py", "--graph", folder / "retrained_graph.tflite", "--json", folder / "test"
    ).splitlines()
    answers = [json.loads(line) for line in lines]
    right = [answer["labels"][0]["label"] == Path(answer["file"]).parent.name for answer in answers]
    return sum(right), len(right)


def baseline(folder: Path) -> int:
    """The same for the MFCC statistics, trained on the same part of the training tree."""
    from audionet.audio.network_input import MFCC_STATISTICS_WIDTH
    from audionet.backbones.bottlenecks import compute_bottlenecks
    from audionet.data.dataset import ChunkImage, find_images
    from audionet.data.split import SETS, split_images
    from audionet.training.config import RetrainConfig
    from audionet.training.datasets import FeatureExamples
    from audionet.training.head_training import train_head
    from audionet.utils.process import available_cores

    config = RetrainConfig()
    labels = sorted(path.name for path in (folder / "test").iterdir())

    def examples(images: list[ChunkImage]) -> FeatureExamples:
        found = compute_bottlenecks(images, None, folder / "statistics", available_cores())
        return FeatureExamples(found.records, np.array([labels.index(p.label) for p in found.images]), ["mfcc"])

    split = split_images(find_images(folder / "image"), config.validation_percentage, config.testing_percentage)
    training, validation = (examples(split.sets[name]) for name in SETS[:2])
    head, _ = train_head(training, validation, len(labels), [MFCC_STATISTICS_WIDTH], config)
    test = examples(find_images(folder / "test_image"))
    return int((head.answers(test.blocks()).argmax(axis=1) == test.labels).sum())


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
            for tree, prefix in (("train", ""), ("test", "test_")):
                script(
                    "data_maker.py",
                    f"--audio_dir={folder / tree}",
                    f"--wav_dir={folder / (prefix + 'wav')}",
                    f"--image_dir={folder / (prefix + 'image')}",
                )
            script("retrain.py", *model_flags(folder))
            right, total = network(folder)
            other = baseline(folder)
        print(f"{kind}: {right} of {total} right ({right / total:.1%}), MFCC statistics {other} ({other / total:.1%})")


if __name__ == "__main__":
    main()
