"""Recordings of several tones at a time, in folders that join their names."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from audionet.data.dataset import dataset_json
from audionet.data.naming import BACKGROUND, DATASET_JSON
from audionet.utils.files import write_json
from tests.support.sounds import tone

PITCHES = {"high": 2400.0, "low": 300.0, "middle": 900.0}
CHORD_SECONDS = 0.5


def chord(names: tuple[str, ...], seconds: float, seed: int = 0) -> NDArray[np.float64]:
    """Mix tones of these names, a little off their pitch, with a little noise."""
    generator = np.random.default_rng(seed)
    sound = 0.01 * generator.standard_normal(round(16_000 * seconds))
    for name in names:
        sound += tone(PITCHES[name] * generator.uniform(0.95, 1.05), seconds, amplitude=0.25)
    return sound


def combinations() -> Iterator[tuple[str, ...]]:
    """Yield every combination of the names, none included."""
    for number in range(len(PITCHES) + 1):
        yield from itertools.combinations(sorted(PITCHES), number)


def make_chords(folder: Path, recordings: int, chunks: int = 2) -> Path:
    """Images of every combination, as data_maker.py renders them."""
    config = SpectrogramConfig(chunk_seconds=CHORD_SECONDS)
    for place, names in enumerate(combinations()):
        label = folder / (";".join(names) or BACKGROUND)
        label.mkdir(parents=True)
        for recording, chunk in itertools.product(range(recordings), range(chunks)):
            samples = chord(names, CHORD_SECONDS, seed=1000 * place + 10 * recording + chunk)
            jpg = render((samples * 32_000).astype(np.int16), config)
            (label / f"{recording}.wav_nohash_{chunk:04d}.jpg").write_bytes(jpg)
    write_json(folder / DATASET_JSON, dataset_json(config, {}, None, complete=True))
    return folder
