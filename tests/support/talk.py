"""Recordings in which bundled voices take turns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import Recording
from tests.support.sounds import SAMPLE_AUDIO

RATE = 16_000
PAUSE = 0.5
"""Seconds before, between and after the turns."""


def write_talk(folder: Path, speakers: Sequence[str], recordings: int, turns: int, seconds: float) -> Path:
    """Write recordings ``part 0.wav`` and so on, in which every speaker has some turns, each from another place."""
    folder.mkdir(parents=True, exist_ok=True)
    pause = 1e-4 * np.random.default_rng(0).standard_normal(round(PAUSE * RATE))
    parts = [(seconds * turn, seconds * (turn + 1)) for turn in range(turns)]
    for number in range(recordings):
        clips = [sorted((SAMPLE_AUDIO / speaker).glob("[!u]*.mp3"))[number] for speaker in speakers]
        spoken = [list(Recording(clip, SpectrogramConfig()).excerpts(parts)) for clip in clips]
        sounds = [pause]
        for turn in range(turns):
            for of_speaker in spoken:
                sounds += [of_speaker[turn] / 32768, pause]
        soundfile.write(folder / f"part {number}.wav", np.concatenate(sounds), RATE)
    return folder
