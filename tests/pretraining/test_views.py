"""Augmented views and their auxiliary targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.audio.spectrogram import level
from audionet.pretraining import views
from audionet.pretraining.sounds import SPECTROGRAM, PreparedSound, prepare_sounds
from audionet.pretraining.views import (
    AUXILIARY_WIDTH,
    ViewTask,
    add_background,
    augment_levels,
    auxiliary_targets,
    crop_views,
    draw_segment,
    make_views,
)
from tests.support.sounds import tone, write_tone

SIZE = (80, 76)


def sound(seconds: float = 3.3) -> np.ndarray:
    return (tone(500, seconds) * 30_000).astype(np.int16)


def levels_of(seconds: float = 3.3) -> np.ndarray:
    generator = np.random.default_rng(0)
    return level((generator.standard_normal(round(seconds * 16_000)) * 3000).astype(np.int16), SPECTROGRAM)


def test_all_segments_have_the_same_length() -> None:
    generator = np.random.default_rng(0)
    lengths = {len(draw_segment(sound(seconds), speed, generator)) for seconds in (0.3, 9) for speed in (0.7, 1.0, 1.4)}
    assert lengths == {52_800}
    assert not draw_segment(sound(0.3), 1.0, generator)[5000:].any()


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_both_views_are_cut_alike_and_scaled_to_1(seed: int) -> None:
    levels = levels_of()
    one, other = crop_views(levels, levels, np.random.default_rng(seed))
    np.testing.assert_array_equal(one, other)
    assert one.max() == pytest.approx(1)
    assert one.min() >= 0
    assert 195 <= one.shape[1] <= levels.shape[1]


def test_some_views_are_short_clips() -> None:
    generator = np.random.default_rng(1)
    padded = [not crop_views(levels_of(), levels_of(), generator)[0].any(axis=0).all() for _ in range(100)]
    assert 10 < sum(padded) < 45


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_augmented_levels_stay_in_range(seed: int) -> None:
    levels = levels_of()
    levels[:, 100:] = 0
    result = augment_levels(levels, 1.0, np.random.default_rng(seed))
    assert result.shape == levels.shape
    assert result.min() >= 0
    assert result.max() <= 1
    assert not result[:, 100:].any()
    assert np.abs(result - levels).mean() > 0.005


def test_auxiliary_targets_describe_mean_and_course() -> None:
    rising = np.tile(np.linspace(0, 1, 300, dtype=np.float32), (128, 1))
    up, down = auxiliary_targets(rising), auxiliary_targets(rising[:, ::-1])
    assert up.shape == (AUXILIARY_WIDTH,)
    np.testing.assert_allclose(up[:40], down[:40], atol=1e-4)
    # An orthonormal transform of 128 equal bands: all in the first coefficient, times the square root of 128.
    assert up[0] == pytest.approx(0.5 * np.sqrt(128), rel=1e-3)
    assert up[20] == pytest.approx(np.sqrt(128 / 12), rel=1e-2)
    first = up[40]  # the first cosine term of a ramp from 0 to 1 is -4 / pi squared
    assert first == pytest.approx(-4 / np.pi**2 * np.sqrt(128), rel=1e-2)
    assert down[40] == pytest.approx(-first, rel=1e-3)


def prepared(folder: Path, *paths: Path) -> list[PreparedSound]:
    return prepare_sounds(paths, folder / "prepared", 1)


def test_views_are_the_same_for_the_same_seeds(tmp_path: Path) -> None:
    sounds = prepared(tmp_path, write_tone(tmp_path / "a.wav", 300, 4), write_tone(tmp_path / "b.mp3", 2000, 0.6))
    task = ViewTask(sounds, [None, sounds[0]], [1.0, 1.3], [1, 2], 3, SIZE, [(7, 0), (8, 2)])
    rendered = make_views(task)
    assert rendered.pixels.shape == (6, *SIZE, 3)
    assert rendered.auxiliary.shape == (6, AUXILIARY_WIDTH)
    assert rendered.segment.tolist() == [0, 0, 0, 1, 1, 1]
    again = make_views(task)
    np.testing.assert_array_equal(rendered.pixels, again.pixels)
    np.testing.assert_array_equal(rendered.auxiliary, again.auxiliary)
    other = make_views(task._replace(seeds=[3, 4]))
    assert (rendered.pixels != other.pixels).any()


def test_recordings_without_sound_have_no_views(tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(b"fLaC" + bytes(100))
    silent = tmp_path / "silent.wav"
    soundfile.write(silent, np.zeros(16_000), 16_000)
    sounds = prepared(tmp_path, damaged, write_tone(tmp_path / "whole.wav", 300, 3), silent)
    rendered = make_views(ViewTask(sounds, [None] * 3, [1.0] * 3, [1, 2, 3], 2, SIZE, [(0, 0)] * 3))
    assert rendered.segment.tolist() == [1, 1]
    assert make_views(ViewTask(sounds[:1], [None], [1.0], [1], 2, SIZE, [(0, 0)])).pixels.shape == (0, *SIZE, 3)


@given(start=st.integers(0, 10**9), length=st.integers(0, 10**6))
@settings(deadline=None)
def test_the_voices_of_a_recording_do_not_overlap(start: int, length: int) -> None:
    """No speed within SAME_VOICE of one voice is within SAME_VOICE of another."""
    sound = PreparedSound(Path("x"), start, start + length)
    own, slower, faster = views.voice_speeds(sound)
    assert own == 1
    assert slower * views.SAME_VOICE < own / views.SAME_VOICE
    assert own * views.SAME_VOICE < faster / views.SAME_VOICE
    assert views.voice_speeds(sound) == (own, slower, faster)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_a_background_is_as_far_below_the_sound_as_was_drawn(seed: int) -> None:
    generator = np.random.default_rng(0)
    segment = (generator.standard_normal(52_800) * 2000).astype(np.int16)
    background = (generator.standard_normal(20_000) * 300).astype(np.int16)  # shorter: repeated
    mixed = add_background(segment, background, np.random.default_rng(seed)).astype(np.float64)
    decibels = 10 * np.log10(np.square(segment.astype(np.float64)).mean() / np.square(mixed - segment).mean())
    assert -0.1 < decibels < 20.1


def test_a_silent_background_changes_nothing() -> None:
    generator = np.random.default_rng(0)
    np.testing.assert_array_equal(add_background(sound(), np.zeros(100, np.int16), generator), sound())
