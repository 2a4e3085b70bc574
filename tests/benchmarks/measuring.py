"""What the benchmarks share: timing side by side, and a demo model to time."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from host import ROOT as ROOT
from host import machine as machine

from audionet.utils.process import tune_process

tune_process()  # as the command line is: importing the library alone does it no longer
SAMPLE_AUDIO = ROOT / "tf_files" / "sample_audio"


def arguments(description: str | None, **numbers: float) -> argparse.Namespace:
    """Parse the flags that all benchmarks have, and one for each of `numbers`, with its default."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, help="folder with public recordings, such as fsdd/recordings")
    parser.add_argument("--rounds", type=int, default=5, help="rounds that the contestants are timed in turn")
    for name, default in numbers.items():
        parser.add_argument(f"--{name}", type=float, default=default)
    return parser.parse_args()


def digits(options: argparse.Namespace) -> Path | None:
    """The recordings of the Free Spoken Digit Dataset; says so where they are not there."""
    recordings: Path | None = options.data / "fsdd" / "recordings" if options.data else None
    if recordings is None or not recordings.is_dir():
        print("left out: --data names no folder with fsdd/recordings (make bench DATA=folder)")
        return None
    return recordings


def in_turn(rounds: int, *contestants: Callable[[], object]) -> list[list[float]]:
    """Seconds of each contestant in each round, one after the other within it: drift hits all alike."""
    seconds: list[list[float]] = [[] for _ in contestants]
    for contestant in contestants:
        contestant()
    for _ in range(rounds):
        for times, contestant in zip(seconds, contestants, strict=True):
            start = time.perf_counter()
            contestant()
            times.append(time.perf_counter() - start)
    return seconds


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """Ours over theirs, round by round: median, lowest and highest."""
    ratios = sorted(a / b for a, b in zip(ours, theirs, strict=True))
    return f"{statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"


def script(name: str, *flags: object) -> str:
    """Run one of the scripts as a process of its own; returns what it prints."""
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, flags)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout


def model_flags(folder: Path) -> list[str]:
    """Flags that keep everything retrain.py makes in one folder."""
    return [
        f"--image_dir={folder / 'image'}",
        f"--bottleneck_dir={folder / 'bottlenecks'}",
        f"--checkpoint_dir={folder / 'checkpoints'}",
        f"--summaries_dir={folder / 'summaries'}",
        f"--output_graph={folder / 'retrained_graph.tflite'}",
        f"--output_labels={folder / 'retrained_labels.txt'}",
    ]


def demo_model(folder: Path) -> Path:
    """Train on the bundled voices; returns the graph."""
    script(
        "data_maker.py", f"--audio_dir={SAMPLE_AUDIO}", f"--wav_dir={folder / 'wav'}", f"--image_dir={folder / 'image'}"
    )
    script("retrain.py", *model_flags(folder))
    return folder / "retrained_graph.tflite"
