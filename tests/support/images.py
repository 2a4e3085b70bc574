"""Folders of spectrogram images."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from tests.support.sounds import tone


def make_images(folder: Path, recordings: int, chunks: int, labels: tuple[str, ...], detuned: float = 0) -> Path:
    """A folder of images: labels of different pitch, more or less, some recordings each."""
    generator = np.random.default_rng(0)
    config = SpectrogramConfig(chunk_seconds=0.5)
    for number, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for recording in range(recordings):
            for chunk in range(chunks):
                pitch = 300 * 2**number * (1 + (detuned and detuned * generator.uniform(-1, 1)))
                sound = tone(pitch, 0.5) + 0.05 * generator.standard_normal(8000)
                jpg = render((sound * 16_000).astype(np.int16), config)
                (folder / label / f"{recording}.wav_nohash_{chunk:04d}.jpg").write_bytes(jpg)
    return folder
