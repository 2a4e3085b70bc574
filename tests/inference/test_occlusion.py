"""Occlusion: windows, what the network gets of each, and how the loss is shared."""

from __future__ import annotations

import numpy as np
import pytest

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import decode, level_of, render
from audionet.audio.network_input import features_of
from audionet.inference.evidence_region import find_region
from audionet.inference.occlusion import (
    FREQUENCY_WINDOWS,
    OCCLUSIONS,
    TIME_WINDOWS,
    occluded,
    relevance_of,
    sound_above_quiet,
    window_weights,
)
from audionet.utils.arrays import FloatArray
from tests.support.sounds import tone

SIZES = [(128, 297), (40, 61), (64, 1500), (8, 8), (12, 3)]


def noisy(size: tuple[int, int]) -> FloatArray:
    """Noise below half of the range."""
    return np.random.default_rng(0).uniform(0, 0.5, size).astype(np.float32)


def evidence_of(level: FloatArray, rows: slice, frames: slice) -> FloatArray:
    """Evidence of a model that measures the mean level in a box, in the image and its occlusions."""
    return np.array([level_of(image)[rows, frames].mean() for image in occluded(level)], np.float32)


@pytest.mark.parametrize(("length", "number"), [(128, 9), (297, 13), (5, 13), (1, 9)])
def test_windows_cover_every_point_once(length: int, number: int) -> None:
    weights = window_weights(length, number)
    assert weights.shape == (number, length)
    np.testing.assert_allclose(weights.sum(axis=0), 1, atol=1e-6)
    assert weights.min() >= 0


def test_the_first_image_is_whole_and_each_other_loses_one_part() -> None:
    level = noisy((40, 61))
    whole, *others = (level_of(image) for image in occluded(level))
    assert len(others) + 1 == OCCLUSIONS
    np.testing.assert_allclose(whole, level, atol=0.01)
    quiet = np.quantile(level, 0.1)
    for number, other in enumerate(others):
        row, column = divmod(number, TIME_WINDOWS)
        centre = round(row * 39 / (FREQUENCY_WINDOWS - 1)), round(column * 60 / (TIME_WINDOWS - 1))
        assert other[centre] <= quiet + 0.05
        weights = np.outer(window_weights(40, FREQUENCY_WINDOWS)[row], window_weights(61, TIME_WINDOWS)[column])
        np.testing.assert_array_equal(other[weights == 0], whole[weights == 0])
        assert (other <= whole + 0.01).all()


def test_every_loss_is_shared_by_the_sound_in_its_window() -> None:
    level = noisy((40, 61))
    evidence = np.random.default_rng(1).normal(size=OCCLUSIONS).astype(np.float32)
    relevance = relevance_of(evidence, level)
    assert relevance.sum() == pytest.approx((evidence[0] - evidence[1:]).sum(), rel=1e-4)
    assert not relevance[sound_above_quiet(level) == 0].any()


@pytest.mark.parametrize("size", SIZES[:3])
def test_evidence_lies_in_the_same_place_of_images_of_any_size(size: tuple[int, int]) -> None:
    level = noisy(size)
    rows = slice(round(0.55 * size[0]), round(0.7 * size[0]))
    frames = slice(round(0.2 * size[1]), round(0.3 * size[1]))
    level[rows, frames] = 1
    relevance = relevance_of(evidence_of(level, rows, frames), level)
    row, frame = np.unravel_index(relevance.argmax(), size)
    assert rows.start <= row < rows.stop
    assert frames.start <= frame < frames.stop
    assert relevance[rows, frames].sum() > 0.5 * relevance.sum()
    found = find_region(relevance, np.arange(size[1]) + 0.5, np.arange(size[0]) + 0.5)
    assert found is not None
    assert not found.is_spread
    assert found.start / size[1] == pytest.approx(0.2, abs=0.05)
    assert found.end / size[1] == pytest.approx(0.3, abs=0.05)
    assert found.low is not None
    assert found.high is not None
    assert found.low / size[0] == pytest.approx(0.55, abs=0.08)
    assert found.high / size[0] == pytest.approx(0.7, abs=0.08)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [0.0, 0.6, 1.0])
def test_an_image_without_a_difference_explains_nothing(size: tuple[int, int], value: float) -> None:
    level = np.full(size, value, np.float32)
    evidence = evidence_of(level, slice(None), slice(None))
    relevance = relevance_of(evidence, level)
    assert relevance.shape == size
    assert not relevance.any()
    assert find_region(relevance, np.arange(size[1]) / 100, None) is None


def test_the_input_of_an_image_is_that_of_its_jpg() -> None:
    jpg = render((16_000 * tone(440, 0.5)).astype(np.int16), SpectrogramConfig(chunk_seconds=0.5))
    features = features_of(decode(jpg), (64, 48))
    assert features.pixels.shape == (1, 64, 48, 3)
