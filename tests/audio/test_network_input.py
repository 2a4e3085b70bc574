from __future__ import annotations

import io

import librosa
import numpy as np
import pytest
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from audionet.audio.network_input import image_features
from audionet.audio.recording import Recording
from audionet.audio.spectrogram import mel_power, relative_level
from audionet.errors import DatasetError
from tests.support.sounds import SAMPLE_AUDIO, tone

CONFIG = SpectrogramConfig()


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return next(iter(Recording(SAMPLE_AUDIO / "flite-awb" / "kitchen.mp3", CONFIG))).samples


def test_band_statistics_are_those_of_the_sound(speech: np.ndarray) -> None:
    level = relative_level(mel_power(speech, CONFIG), CONFIG.dynamic_range_db)
    found = image_features(render(speech, CONFIG), (128, 128)).band_statistics
    np.testing.assert_allclose(found[:128], level.mean(axis=1), atol=0.01)
    np.testing.assert_allclose(found[128:], level.std(axis=1), atol=0.01)


def test_mfcc_statistics_are_librosas(speech: np.ndarray) -> None:
    """The baseline is the real one, though it is taken from the image."""
    power = librosa.feature.melspectrogram(
        y=speech / np.float32(32768), sr=16_000, n_fft=512, win_length=400, hop_length=160, center=False,
        n_mels=128, fmin=20, fmax=7600,
    )  # fmt: skip
    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(power, ref=np.max, top_db=80), n_mfcc=20)
    found = image_features(render(speech, CONFIG), (128, 128)).mfcc_statistics * CONFIG.dynamic_range_db
    # librosa counts decibels down from 0, the image up from its floor: coefficient 0 alone shifts.
    shift = CONFIG.dynamic_range_db * np.sqrt(128)
    np.testing.assert_allclose(found[0] - shift, mfcc[0].mean(), atol=1.0)
    np.testing.assert_allclose(found[1:20], mfcc[1:].mean(axis=1), atol=0.5)
    np.testing.assert_allclose(found[20:], mfcc.std(axis=1), atol=0.5)


def test_pixels_have_the_asked_size(speech: np.ndarray) -> None:
    features = image_features(render(speech, CONFIG), (96, 160))
    assert features.pixels.shape == (1, 96, 160, 3)
    assert features.pixels.dtype == np.uint8


@pytest.mark.parametrize(("size", "mode"), [((640, 480), "RGB"), ((50, 128), "L"), ((1, 1), "RGB"), ((90, 64), "CMYK")])
def test_any_image_gives_features_of_one_width(size: tuple[int, int], mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, "JPEG")
    features = image_features(buffer.getvalue(), (128, 128))
    assert features.band_statistics.shape == (256,)
    assert features.mfcc_statistics.shape == (40,)


def test_no_image_is_refused() -> None:
    with pytest.raises(DatasetError):
        image_features(b"GIF89a", (128, 128))


def test_activity_is_the_share_of_frames_with_sound() -> None:
    samples = np.zeros(48_000, np.int16)
    samples[:16_000] = (32767 * tone(440, 1.0)).astype(np.int16)
    samples[16_000:] = (10 * np.random.default_rng(0).standard_normal(32_000)).astype(np.int16)
    assert image_features(render(samples, SpectrogramConfig()), (64, 48)).activity == pytest.approx(1 / 3, abs=0.02)
