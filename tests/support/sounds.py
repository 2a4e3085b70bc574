"""Tones, and the bundled recordings."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
SAMPLE_AUDIO = ROOT / "tf_files" / "sample_audio"


def tone(frequency: float, seconds: float, rate: int = 16_000, amplitude: float = 0.5) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write_tone(path: Path, frequency: float = 440, seconds: float = 1.0, rate: int = 16_000, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), tone(frequency, seconds, rate), rate, **options)
    return path


def link_voices(folder: Path, voices: int, recordings: int) -> Path:
    """Fill a folder with links to recordings of the first bundled voices, one sub-folder each."""
    for voice in sorted(path for path in SAMPLE_AUDIO.iterdir() if path.is_dir())[:voices]:
        (folder / voice.name).mkdir(parents=True)
        for recording in sorted(voice.iterdir())[:recordings]:
            (folder / voice.name / recording.name).symlink_to(recording)
    return folder
