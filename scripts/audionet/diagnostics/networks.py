"""Checks of networks: the bundled backbones, and the trained model."""

from __future__ import annotations

import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from audionet._paths import lite_path
from audionet.backbones.litert import Runner
from audionet.backbones.registry import BUNDLED
from audionet.classifier.model_files import load_model_files
from audionet.diagnostics.check import Check
from audionet.errors import AudioNetError
from audionet.utils.text import first_line, pluralise

_REPEATS = 5


def check_backbones(folder: Path = BUNDLED) -> Iterator[Check]:
    """Yield a check of each bundled backbone: it computes finite features of an image, in so many milliseconds."""
    found = sorted(folder.glob("*/*.tflite"))
    if not found:
        yield Check("backbones", "broken", f"there are none in {folder}", "pip install --force-reinstall audionet")
    for path in found:
        yield check_backbone(path)


def check_backbone(path: Path) -> Check:
    """Check that a network runs, and time it on one image."""
    remedy = "pip install --force-reinstall audionet ai-edge-litert"
    try:
        runner = Runner(path)
        pixels = np.random.default_rng(0).integers(0, 256, runner.input_shapes[0], dtype=np.uint8)
        seconds = []
        for _ in range(_REPEATS):
            start = time.perf_counter()
            features = runner(pixels)
            seconds.append(time.perf_counter() - start)
    except AudioNetError as error:
        return Check(path.stem, "broken", first_line(error), remedy)
    if not np.isfinite(features).all():
        return Check(path.stem, "broken", "its features are not finite", remedy)
    return Check(path.stem, "ok", f"{features.shape[-1]} features, {min(seconds) * 1000:.1f} ms an image")


def check_model(graph: Path) -> Iterator[Check]:
    """Yield a check of the trained model, if there is one: its files belong together."""
    if not graph.exists():
        yield Check("model", "missing", f"there is no {graph} yet", "audionet data, then audionet train")
        return
    try:
        files = load_model_files(graph)
        written = datetime.datetime.fromtimestamp(lite_path(graph).stat().st_mtime).astimezone()
    except (AudioNetError, OSError) as error:
        yield Check("model", "broken", first_line(error), "audionet train")
        return
    labels = pluralise(len(files.parsed.labels), "label")
    yield Check("model", "ok", f"{graph}: {labels}, written {written:%Y-%m-%d %H:%M}")
