"""Pairs of recordings: products, cohort normalisation, and intervals by speaker."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.metrics import pairs as module
from audionet.metrics.detection import Detection, detection
from audionet.metrics.pairs import Pairs, normalise_by_cohort, pair_products, percentile_interval, resampled


def rates(found: Iterable[Detection]) -> list[float]:
    return [one.equal_error_rate for one in found]


def test_products_are_the_same_by_matrix_and_by_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(30, 7)), generator.normal(size=(40, 7))
    pairs = Pairs(generator.integers(0, 30, 9000), generator.integers(0, 40, 9000), np.zeros(9000, bool))
    at_once = pair_products(first, second, pairs)
    assert at_once[5] == pytest.approx(first[pairs.first[5]] @ second[pairs.second[5]])
    monkeypatch.setattr(module, "_MAX_MATRIX", 10)
    np.testing.assert_allclose(pair_products(first, second, pairs), at_once, atol=1e-12)


def test_adaptive_normalisation_takes_the_nearest_of_the_cohort() -> None:
    against = np.array([[0.0, 0.1, 0.7, 0.9], [0.2, 0.8, 0.4, 0.0]])
    pairs = Pairs(np.array([0]), np.array([1]), np.array([True]))
    found = normalise_by_cohort(np.array([1.0]), against, against, pairs, 2)
    assert found[0] == pytest.approx(((1 - 0.8) / 0.1 + (1 - 0.6) / 0.2) / 2)


def test_a_resample_that_draws_every_speaker_once_is_the_trials_themselves() -> None:
    """Of one speaker on both sides of every nontarget, each resample is the same."""
    generator = np.random.default_rng(1)
    target = np.arange(500) < 150
    scores = np.round(generator.normal(size=500) + target, 1)  # with ties
    whole = detection(scores, target)
    assert whole is not None
    alone = np.zeros(500, np.int64)
    for one in resampled(scores, target, alone, alone, 0, 3):
        assert one.equal_error_rate == pytest.approx(whole.equal_error_rate, abs=1e-12)
        assert one.min_dcf(0.05) == pytest.approx(whole.min_dcf(0.05), abs=1e-12)
        assert (one.targets, one.nontargets) == (150, 350)


def test_a_pair_counts_as_often_as_its_speakers_are_drawn() -> None:
    generator = np.random.default_rng(2)
    first = generator.integers(0, 9, 400)
    second = np.where(generator.random(400) < 0.4, first, generator.integers(0, 9, 400))
    target = first == second
    scores = np.round(generator.normal(size=400) + target, 1)
    (found,) = resampled(scores, target, first, second, 5, 1)
    drawn = np.random.default_rng(5).multinomial(9, np.full(9, 1 / 9))
    weights = np.where(target, drawn[first], drawn[first] * drawn[second])
    kept = weights > 0
    expected = detection(scores[kept], target[kept], weights[kept])
    assert expected is not None
    assert found.equal_error_rate == pytest.approx(expected.equal_error_rate, abs=1e-12)
    assert found.min_dcf() == pytest.approx(expected.min_dcf(), abs=1e-12)


def test_there_is_no_interval_without_targets() -> None:
    nobody = np.zeros(4, np.int64)
    assert np.isnan(percentile_interval(rates(resampled(np.arange(4.0), nobody > 0, nobody, nobody, 0)))).all()
    assert not list(resampled(np.zeros(0), np.zeros(0, bool), nobody[:0], nobody[:0], 0))


def test_cohort_normalisation_takes_out_a_side_s_mean_and_spread() -> None:
    generator = np.random.default_rng(0)
    against = generator.normal(0, 1, (4, 80)).astype(np.float32)
    pairs = Pairs(np.array([0, 1]), np.array([2, 3]), np.array([True, False]))
    scores = np.array([0.5, 0.2], np.float32)
    expected = normalise_by_cohort(scores, against, against, pairs)
    shifted, slope = scores * 3 + 2, against * 3 + 2
    np.testing.assert_allclose(normalise_by_cohort(shifted, slope, slope, pairs), expected, rtol=1e-4)
    mean, deviation = against.mean(axis=1), against.std(axis=1)
    by_hand = [(0.5 - mean[i]) / deviation[i] for i in (0, 2)]
    assert expected[0] == pytest.approx(np.mean(by_hand), rel=1e-5)


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10, deadline=None)
def test_weights_count_as_repetitions(seed: int) -> None:
    generator = np.random.default_rng(seed)
    scores, target = generator.normal(size=30), np.arange(30) < 10
    weights = generator.integers(1, 4, 30)
    one = detection(scores, target, weights)
    other = detection(np.repeat(scores, weights), np.repeat(target, weights))
    assert one is not None
    assert other is not None
    assert one.equal_error_rate == pytest.approx(other.equal_error_rate, abs=1e-9)


def test_the_interval_widens_with_fewer_speakers() -> None:
    widths = []
    for count in (8, 64):
        of = np.repeat(np.arange(count), 4)
        generator = np.random.default_rng(1)
        first, second = np.triu_indices(len(of), 1)
        target = of[first] == of[second]
        hard = generator.normal(0, 1, count)  # some speakers are harder than others
        scores = generator.normal(0, 1, len(first)) + np.where(target, 1.5 + hard[of[first]], 0)
        low, high = percentile_interval(rates(resampled(scores, target, of[first], of[second], 0)))
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]
