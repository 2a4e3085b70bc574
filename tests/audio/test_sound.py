"""Mixing of channels, and levels of floats."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from audionet.audio.array_sound import ArraySound
from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import FileChannel, choose_channels, open_sound
from audionet.audio.recording import Recording
from audionet.audio.sound import PEAK_LIMIT, Sound
from audionet.errors import RecordingError
from tests.support.sounds import tone

RATE = 16_000
SECOND = SpectrogramConfig(chunk_seconds=1.0)


def mix(samples: NDArray[Any], channel: Any = "auto", start: int = 0) -> tuple[NDArray[np.float32], list[str]]:
    sound = Sound(ArraySound(np.asarray(samples, np.float32).T, RATE), channel)
    return np.concatenate(list(sound.mono(start))), sound.remarks


def test_channels_that_cancel_leave_one() -> None:
    left = tone(500, 3)
    mixed, remarks = mix(np.stack([left, -left], axis=1))
    np.testing.assert_allclose(mixed, left, atol=1e-6)
    assert remarks == ["its channels cancel each other: where they do, channel 1 is used alone"]


def test_the_louder_channel_is_taken() -> None:
    left = tone(500, 3, amplitude=0.3)
    mixed, remarks = mix(np.stack([left * 0.6, -left, left * 0.4], axis=1))
    np.testing.assert_allclose(mixed, -left, atol=1e-6)
    assert "channel 2 is used" in remarks[0]


def test_only_where_they_cancel() -> None:
    left, right = tone(500, 4), tone(700, 4)
    right[2 * RATE :] = -left[2 * RATE :]
    mixed, _ = mix(np.stack([left, right], axis=1))
    np.testing.assert_allclose(mixed[: 2 * RATE], (left + right)[: 2 * RATE] / 2, atol=1e-6)
    np.testing.assert_allclose(mixed[2 * RATE :], left[2 * RATE :], atol=1e-6)


@pytest.mark.parametrize("channels", [2, 6, 64])
def test_one_voice_among_silent_channels_is_the_mean(channels: int) -> None:
    samples = np.zeros((2 * RATE, channels))
    samples[:, channels // 2] = tone(500, 2)
    mixed, remarks = mix(samples)
    np.testing.assert_allclose(mixed, tone(500, 2) / channels, atol=1e-6)
    assert not remarks


def test_noise_and_silence_are_the_mean() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, (3 * RATE, 2))
    noise[RATE : 2 * RATE] = 0
    mixed, remarks = mix(noise)
    np.testing.assert_allclose(mixed, noise.mean(axis=1), atol=1e-6)
    assert not remarks


@settings(deadline=None)
@given(start=st.integers(0, 4 * RATE - 1), phase=st.sampled_from([1.0, -1.0]))
def test_the_mix_does_not_depend_on_where_it_begins(start: int, phase: float) -> None:
    left, right = tone(500, 4), tone(700, 4)
    right[RATE : 3 * RATE] = phase * left[RATE : 3 * RATE]
    samples = np.stack([left, right], axis=1)
    np.testing.assert_array_equal(mix(samples, start=start)[0], mix(samples)[0][start:])


def test_a_channel_or_the_mean_by_choice(tmp_path: Path) -> None:
    left = tone(500, 2)
    soundfile.write(tmp_path / "x.wav", np.stack([left, -left], axis=1), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "mono.wav", left, RATE, subtype="FLOAT")

    def read(name: str, channel: Any) -> NDArray[np.float32]:
        with open_sound(FileChannel(tmp_path / name, channel)) as sound:
            return np.concatenate(list(sound.mono()))

    np.testing.assert_allclose(read("x.wav", 1), left, atol=1e-6)
    np.testing.assert_allclose(read("x.wav", 2), -left, atol=1e-6)
    assert not read("x.wav", "mean").any()
    np.testing.assert_allclose(read("mono.wav", 2), left, atol=1e-6)
    with pytest.raises(RecordingError, match="has 2 channels, so none with the number 3"):
        read("x.wav", 3)
    assert choose_channels(tmp_path / "x.wav", "split") == [FileChannel(tmp_path / "x.wav", n) for n in (1, 2)]
    assert choose_channels(tmp_path / "mono.wav", "split") == [tmp_path / "mono.wav"]


@pytest.mark.parametrize("subtype", ["FLOAT", "DOUBLE"])
@pytest.mark.parametrize("peak", [1.5, 4.0, 300.0, 1e6])
def test_floats_are_levelled_before_anything_clips(tmp_path: Path, subtype: str, peak: float) -> None:
    path = tmp_path / "x.wav"
    sound = tone(500, 2, amplitude=1.0) * np.linspace(0.1, 1, 2 * RATE)
    soundfile.write(path, sound * peak, RATE, subtype=subtype)
    (tmp_path / "y").mkdir()
    soundfile.write(tmp_path / "y" / "x.wav", sound * PEAK_LIMIT, RATE, subtype=subtype)
    for loud, plain in zip(Recording(path, SECOND), Recording(tmp_path / "y" / "x.wav", SECOND), strict=True):
        assert np.abs(loud.samples.astype(int) - plain.samples).max() <= 6


@pytest.mark.parametrize(("scale", "bits"), [(2.0**15, 16), (2.0**23, 24), (2.0**31, 32)])
def test_integers_in_floats_are_recognised(tmp_path: Path, scale: float, bits: int) -> None:
    whole = np.rint(tone(500, 2, amplitude=0.01 if bits == 16 else 0.5) * scale)
    soundfile.write(tmp_path / "x.wav", whole, RATE, subtype="DOUBLE")
    with open_sound(tmp_path / "x.wav") as sound:
        np.testing.assert_allclose(np.concatenate(list(sound.mono())), whole / scale, atol=1e-6)
    np.testing.assert_allclose(mix(whole[:, None])[0], whole / scale, atol=1e-6)


def test_floats_within_full_scale_are_as_they_are(tmp_path: Path) -> None:
    sound = np.stack([tone(500, 2, amplitude=1.2), np.zeros(2 * RATE)], axis=1)
    soundfile.write(tmp_path / "x.wav", sound, RATE, subtype="FLOAT")
    with open_sound(tmp_path / "x.wav") as opened:  # the mean is what may clip
        np.testing.assert_allclose(np.concatenate(list(opened.mono())), sound.mean(axis=1), atol=1e-6)
