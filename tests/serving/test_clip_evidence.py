"""Picture of the evidence in a whole clip, from a worker's frames."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.backbones.litert import Runner
from audionet.inference.evidence_plot import evidence_image
from audionet.inference.explanation import explain
from audionet.inference.predictor import Predictor
from audionet.serving.clip_evidence import draw_evidence
from audionet.serving.worker import CLIP_IMAGE_WIDTH, Job, Limits, frames
from tests.support.sounds import tone

SPECTROGRAM = SpectrogramConfig(chunk_seconds=0.5)


def test_the_picture_of_a_short_clip_is_that_of_its_explanation(tone_model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", tone(600, 1.5), 16_000)
    predictor = Predictor(tone_model)
    job = Job(str(tmp_path / "clip.wav"), SPECTROGRAM, Limits(10, 1, 16_000), "occlusions", chunks=(0, 1, 2))
    found = draw_evidence(predictor, SPECTROGRAM, list(frames(job, Runner(predictor.network))), 1)
    _, explanation = explain(predictor, tmp_path / "clip.wav", "b600")
    assert (found.seconds, found.summary) == (1.5, explanation.summary())
    with Image.open(io.BytesIO(found.png), formats=["PNG"]) as drawn:
        np.testing.assert_array_equal(
            np.asarray(drawn), np.asarray(evidence_image(explanation.level, explanation.relevance))
        )


def test_of_a_long_clip_only_what_was_explained_is_coloured(tone_model: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "clip.wav", tone(600, 60), 16_000)
    predictor = Predictor(tone_model)
    job = Job(str(tmp_path / "clip.wav"), SPECTROGRAM, Limits(100, 1, 16_000), "occlusions", chunks=(60,))
    found = draw_evidence(predictor, SPECTROGRAM, list(frames(job, Runner(predictor.network))), 1)
    assert found.seconds == 60
    with Image.open(io.BytesIO(found.png), formats=["PNG"]) as drawn:
        pixels = np.asarray(drawn).astype(int)
    assert pixels.shape == (SPECTROGRAM.rows, CLIP_IMAGE_WIDTH, 3)
    coloured = np.flatnonzero((pixels[..., 0] != pixels[..., 2]).any(axis=0)) * 60 / CLIP_IMAGE_WIDTH
    assert len(coloured)
    assert 29.9 <= coloured.min() < coloured.max() <= 30.6
