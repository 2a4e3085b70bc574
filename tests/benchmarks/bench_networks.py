"""What does each way of training reach on real words: frozen backbone, fine-tuned, and from scratch?

Ten digits with the Free Spoken Digit Dataset's official test clips, and six wake words split by utterance. Bars:
simple_cnn 96 % and 90 %; deep_cnn above it; fine-tuned above frozen. Takes half an hour on two cores. Needs --data, a
folder that holds fsdd/recordings/{digit}_{speaker}_{index}.wav and wakewords/{word}/.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

from bench_real_voices import evaluated, two_trees
from measuring import arguments, machine, model_flags, script

WAYS = {
    "frozen backbone": "",
    "fine-tuned": "--fine_tune=2 --clip_norm=1",
    "simple_cnn": "--architecture=simple_cnn",
    "deep_cnn": "--architecture=deep_cnn",
}


def main() -> None:
    options = arguments(__doc__)
    if options.data is None or not (options.data / "fsdd").is_dir() or not (options.data / "wakewords").is_dir():
        print("left out: --data names no folder with fsdd and wakewords (make bench DATA=folder)")
        return
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        digits(Path(name), options.data / "fsdd" / "recordings")
    with tempfile.TemporaryDirectory() as name:
        wake_words(Path(name), options.data / "wakewords")


def digits(folder: Path, recordings: Path) -> None:
    """Chunks of one second: most digits are shorter than half."""
    two_trees(recordings, folder, 0)
    render(folder, folder / "train", "--chunk_seconds=1")
    for way, flags in WAYS.items():
        seconds = train(folder, flags)
        found = evaluated(folder)["accuracy"]["recordings"]
        right, total = found["right"], found["total"]
        print(
            f"ten digits, {way:<15} {right} of {total} official clips ({right / total:.1%}), {seconds:.0f} s",
            flush=True,
        )


def wake_words(folder: Path, recordings: Path) -> None:
    render(folder, recordings)
    for way, flags in WAYS.items():
        seconds = train(folder, flags)
        test = json.loads((folder / "retrained_model.json").read_text())["test"]["network"]["recordings"]
        share = test["right"] / test["total"]
        print(
            f"wake words, {way:<15} {test['right']} of {test['total']} utterances ({share:.1%}), {seconds:.0f} s",
            flush=True,
        )


def report(task: str, way: str, right: int, total: int, seconds: float) -> None:
    print(f"{task:<10} {way:<15} {right:3} of {total} test clips ({right / total:.1%}), {seconds:.0f} s", flush=True)


def render(folder: Path, recordings: Path, *flags: str) -> None:
    places = f"--wav_dir={folder / 'wav'}", f"--image_dir={folder / 'image'}"
    script("data_maker.py", f"--audio_dir={recordings}", *places, *flags)


def train(folder: Path, flags: str) -> float:
    """Seconds that retrain.py takes, all included."""
    start = time.perf_counter()
    script("retrain.py", *model_flags(folder), *flags.split())
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
