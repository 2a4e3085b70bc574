from __future__ import annotations

import io
import subprocess

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from audionet.audio import spectrogram
from audionet.audio.config import CHROMA_ROWS, SpectrogramConfig
from audionet.audio.image import VIRIDIS, colour, decode, level_of, render
from audionet.audio.spectrogram import (
    chroma,
    chroma_filterbank,
    chroma_level,
    hz_to_mel,
    level,
    linear_power,
    mel_filterbank,
    mel_power,
    mel_to_hz,
    relative_level,
)
from audionet.errors import DatasetError
from tests.support.sounds import tone

CONFIG = SpectrogramConfig()


def int16(sound: np.ndarray) -> np.ndarray:
    return (sound * 32767).astype(np.int16)


@pytest.mark.parametrize("frequency", [100, 440, 1000, 3000, 7000])
def test_a_tone_lights_its_band(frequency: float) -> None:
    image = level(int16(tone(frequency, 3)), CONFIG)
    edges = mel_to_hz(np.linspace(*hz_to_mel(np.array([20.0, 7600.0])), CONFIG.n_mels + 2))
    band = int(image.mean(axis=1).argmax())
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
    config = SpectrogramConfig(sample_rate=rate, window_ms=window, hop_ms=hop, n_mels=mels, chunk_seconds=seconds)
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


@settings(max_examples=20, deadline=None)
@given(
    rate=st.sampled_from([8_000, 16_000, 22_050, 44_100]),
    window=st.sampled_from([20.0, 25.0, 32.0, 128.0]),
    hop=st.sampled_from([5.0, 10.0, 16.0]),
    seconds=st.floats(0.4, 2.0),
)
def test_bins_and_chroma_agree_with_librosa(rate: int, window: float, hop: float, seconds: float) -> None:
    whole = SpectrogramConfig(
        sample_rate=rate, window_ms=window, hop_ms=hop, chunk_seconds=seconds, min_frequency=0, max_frequency=1e5
    )
    signal = np.random.default_rng(1).standard_normal(whole.chunk_length).astype(np.float32)
    framing = {"n_fft": whole.fft_length, "win_length": whole.window_length, "hop_length": whole.hop_length}
    expected = np.abs(librosa.stft(signal, center=False, **framing)) ** 2
    np.testing.assert_allclose(linear_power(signal, whole), expected, atol=1e-4 * expected.max())
    np.testing.assert_allclose(
        chroma_filterbank(whole).T, librosa.filters.chroma(sr=rate, n_fft=whole.fft_length, tuning=0.0), atol=1e-6
    )
    expected = librosa.feature.chroma_stft(y=signal, sr=rate, tuning=0.0, norm=None, center=False, **framing)
    np.testing.assert_allclose(chroma(signal, whole), expected, atol=1e-4 * expected.max())
    expected = librosa.feature.chroma_stft(y=signal, sr=rate, tuning=0.0, center=False, **framing)
    np.testing.assert_allclose(chroma_level(chroma(signal, whole), 200), expected, atol=1e-4)


@pytest.mark.parametrize(("frequency", "pitch_class"), [(440.0, 9), (261.63, 0), (1046.5, 0), (739.99, 6)])
def test_a_tone_lights_its_pitch_class(frequency: float, pitch_class: int) -> None:
    config = SpectrogramConfig(representation="chroma", window_ms=128)
    image = level(int16(tone(frequency, 3)), config)
    assert image.shape == (config.rows, config.frames)
    rows = image.mean(axis=1)
    assert set(np.flatnonzero(rows == rows.max()) // CHROMA_ROWS) == {pitch_class}


def test_chroma_is_dark_where_it_is_quiet() -> None:
    power = np.array([[1.0, 1e-6, 1e-12, 0], [0.5, 1e-6, 1e-13, 0]], np.float32)
    np.testing.assert_allclose(chroma_level(power, 80), [[1, 1, 0, 0], [0.5, 1, 0, 0]])


def test_a_linear_image_has_a_row_for_each_bin_asked_for() -> None:
    config = SpectrogramConfig(representation="linear", min_frequency=1000, max_frequency=2000)
    image = level(int16(tone(1500, 3)), config)
    assert image.shape == (33, config.frames) == (config.rows, config.frames)
    assert image.mean(axis=1).argmax() == 16  # 1500 Hz in bins 31.25 Hz apart


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
    levels = np.zeros((128, 10), np.float32)
    levels[0] = 1
    image = np.asarray(colour(levels))
    np.testing.assert_array_equal(image[-1, 0], VIRIDIS[255])
    np.testing.assert_array_equal(image[0, 0], VIRIDIS[0])


def test_the_level_comes_back_from_the_jpg() -> None:
    generator = np.random.default_rng(0)
    sound = tone(300, 3) * generator.uniform(0, 1, 48_000) + 0.01 * generator.standard_normal(48_000)
    sent = level(int16(sound), CONFIG)
    back = level_of(decode(render(int16(sound), CONFIG)))
    assert back.shape == sent.shape
    assert np.abs(back - sent).mean() < 0.02
    assert np.abs(back.mean(axis=1) - sent.mean(axis=1)).max() < 0.005  # averaged over time JPEG's error is gone


def test_rendering_is_the_same_every_time() -> None:
    sound = int16(tone(440, 3))
    assert render(sound, CONFIG) == render(sound.copy(), CONFIG)


@pytest.mark.parametrize("data", [b"", b"no image", render(int16(tone(440, 3)), CONFIG)[:2000]])
def test_what_is_no_image_is_refused(data: bytes) -> None:
    with pytest.raises(DatasetError, match="not a JPG image that can be read"):
        decode(data)


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "TIFF", "WEBP", "EPS", "PPM"])
def test_other_formats_are_not_even_opened(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48)).save(buffer, kind)
    monkeypatch.setattr(subprocess, "Popen", None)  # with which Pillow starts Ghostscript
    with pytest.raises(DatasetError, match="not a JPG image that can be read"):
        decode(buffer.getvalue())


@pytest.mark.parametrize("size", [(65_500, 65_500), (40_000, 40_000), (10_000, 9_000)])
def test_an_image_of_great_size_is_not_decoded(size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    buffer = io.BytesIO()
    Image.new("L", (8, 8)).save(buffer, "JPEG")
    jpg = bytearray(buffer.getvalue())
    frame = jpg.index(b"\xff\xc0") + 5  # height and width follow
    jpg[frame : frame + 4] = size[1].to_bytes(2, "big") + size[0].to_bytes(2, "big")
    monkeypatch.setattr(JpegImageFile, "load", None)
    with pytest.raises(DatasetError, match=rf"^is an image of {size[0]} x {size[1]}, larger than any") as error:
        decode(bytes(jpg))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["mel", "linear", "chroma"])
def test_blocks_of_frames_make_no_difference(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SpectrogramConfig(kind, window_ms=64)  # type: ignore[arg-type]
    sound = int16(tone(440, 3) * np.linspace(0, 1, 48_000))
    whole = level(sound, config)
    monkeypatch.setattr(spectrogram, "_BLOCK", 7 * config.fft_length)
    np.testing.assert_allclose(level(sound, config), whole, atol=1e-5)
