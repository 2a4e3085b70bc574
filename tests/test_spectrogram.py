from __future__ import annotations

import librosa
import numpy as np
import pytest
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps

from audionet.config import PictureConfig
from audionet.errors import DatasetError
from audionet.spectrogram import (
    VIRIDIS,
    colour,
    decode,
    hz_to_mel,
    level_of,
    mel_filterbank,
    mel_power,
    mel_to_hz,
    relative_level,
    render,
)

CONFIG = PictureConfig()


def int16(sound: np.ndarray) -> np.ndarray:
    return (sound * 32767).astype(np.int16)


@pytest.mark.parametrize("frequency", [100, 440, 1000, 3000, 7000])
def test_a_tone_lights_its_band(frequency: float) -> None:
    level = relative_level(mel_power(int16(tone(frequency, 3)), CONFIG), 80)
    edges = mel_to_hz(np.linspace(*hz_to_mel(np.array([20.0, 7600.0])), CONFIG.n_mels + 2))
    band = int(level.mean(axis=1).argmax())
    # Below some 200 Hz a band is narrower than the window's main lobe.
    assert edges[band] - 32 <= frequency <= edges[band + 2] + 32
    assert (
        np.asarray(decode(render(int16(tone(frequency, 3)), CONFIG)).convert("L")).mean(axis=1).argmax() == 127 - band
    )


@settings(max_examples=30, deadline=None)
@given(
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    window=st.sampled_from([20.0, 25.0, 32.0, 64.0]),
    hop=st.sampled_from([5.0, 10.0, 16.0]),
    mels=st.sampled_from([40, 80, 128]),
    seconds=st.floats(0.2, 2.0),
)
def test_agrees_with_librosa(rate: int, window: float, hop: float, mels: int, seconds: float) -> None:
    config = PictureConfig(sample_rate=rate, window_ms=window, hop_ms=hop, n_mels=mels, chunk_seconds=seconds)
    signal = np.random.default_rng(0).standard_normal(config.chunk_length).astype(np.float32)
    expected = librosa.feature.melspectrogram(
        y=signal,
        sr=rate,
        n_fft=config.fft_length,
        win_length=config.window_length,
        hop_length=config.hop_length,
        center=False,
        n_mels=mels,
        fmin=config.min_frequency,
        fmax=config.top_frequency,
    )
    ours = mel_power(signal, config)
    assert ours.shape == expected.shape == (mels, config.frames)
    np.testing.assert_allclose(ours, expected, atol=1e-4 * expected.max())


def test_no_default_band_is_empty() -> None:
    assert (mel_filterbank(CONFIG).sum(axis=0) > 0).all()


def test_viridis_is_matplotlibs() -> None:
    np.testing.assert_array_equal(VIRIDIS, colormaps["viridis"](np.arange(256), bytes=True)[:, :3])


def test_level_is_relative_and_clipped() -> None:
    power = np.array([[1.0, 0.1, 1e-4, 1e-8, 1e-12, 0.0]], np.float32)
    np.testing.assert_allclose(relative_level(power, 80), [[1, 1 - 10 / 80, 0.5, 0, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(relative_level(power * 1e-3, 80), relative_level(power, 80), atol=1e-5)
    assert not relative_level(np.zeros((4, 4), np.float32), 80).any()


def test_low_frequencies_are_at_the_bottom() -> None:
    level = np.zeros((128, 10), np.float32)
    level[0] = 1
    picture = colour(level)
    np.testing.assert_array_equal(picture[-1, 0], VIRIDIS[255])
    np.testing.assert_array_equal(picture[0, 0], VIRIDIS[0])


def test_the_level_comes_back_from_the_jpg() -> None:
    generator = np.random.default_rng(0)
    sound = tone(300, 3) * generator.uniform(0, 1, 48_000) + 0.01 * generator.standard_normal(48_000)
    level = relative_level(mel_power(int16(sound), CONFIG), 80)
    back = level_of(decode(render(int16(sound), CONFIG)))
    assert back.shape == level.shape
    assert np.abs(back - level).mean() < 0.02
    assert np.abs(back.mean(axis=1) - level.mean(axis=1)).max() < 0.005  # averaged over time JPEG's error is gone


def test_rendering_is_the_same_every_time() -> None:
    sound = int16(tone(440, 3))
    assert render(sound, CONFIG) == render(sound.copy(), CONFIG)


@pytest.mark.parametrize("data", [b"", b"no picture", render(int16(tone(440, 3)), CONFIG)[:2000]])
def test_what_is_no_picture_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetError, match="not a picture that can be read"):
        decode(data)
