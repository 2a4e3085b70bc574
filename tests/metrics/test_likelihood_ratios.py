"""Calibration of scores, and Cllr."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from audionet.metrics.detection import detection
from audionet.metrics.likelihood_ratios import cross_calibrated, fit_calibration, min_ratio_cost, ratio_cost


def gaussian(targets: int, nontargets: int, distance: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores whose log-likelihood ratio is the distance times the score, and whose EER is known."""
    target = np.arange(targets + nontargets) < targets
    scores = np.random.default_rng(seed).normal(size=len(target)) + np.where(target, distance / 2, -distance / 2)
    return scores, target


def test_gaussian_scores_have_the_error_rate_and_the_calibration_of_theory() -> None:
    scores, target = gaussian(40_000, 120_000, 2.0)
    found = detection(scores, target)
    assert found is not None
    assert found.equal_error_rate == pytest.approx(norm.cdf(-1), abs=0.003)
    slope, offset = fit_calibration(3 * scores + 7, target)
    assert slope == pytest.approx(2 / 3, rel=0.03)
    assert offset == pytest.approx(-14 / 3, rel=0.03)
    best = ratio_cost(2 * scores, target)
    assert ratio_cost(slope * (3 * scores + 7) + offset, target) == pytest.approx(best, abs=0.002)
    assert best - 0.003 < min_ratio_cost(scores, target) <= best + 1e-9


def test_costs_of_knowing_nothing_of_being_right_and_of_misleading() -> None:
    target = np.arange(10) < 3
    assert ratio_cost(np.zeros(10), target) == pytest.approx(1)
    assert ratio_cost(np.where(target, 50.0, -50.0), target) == pytest.approx(0, abs=1e-12)
    assert ratio_cost(np.where(target, -50.0, 50.0), target) > 50
    assert min_ratio_cost(np.where(target, 0.2, 0.1), target) == pytest.approx(0, abs=1e-12)
    assert min_ratio_cost(np.zeros(10), target) == pytest.approx(1)


def test_perfectly_separated_scores_get_a_finite_slope() -> None:
    target = np.arange(40) < 10
    slope, offset = fit_calibration(np.where(target, 1.0, 0.0), target)
    assert 0 < slope < 100
    assert slope / 2 + offset == pytest.approx(0, abs=1)
    assert fit_calibration(np.ones(40), target)[0] == pytest.approx(0, abs=1e-6)


def test_each_trial_is_calibrated_without_its_speakers() -> None:
    scores, target = gaussian(3000, 9000, 2.0)
    generator = np.random.default_rng(3)
    first = generator.integers(0, 50, len(scores))
    second = np.where(target, first, (first + generator.integers(1, 50, len(scores))) % 50)
    found = cross_calibrated(scores, target, first, second)
    assert found is not None
    assert ratio_cost(found, target) == pytest.approx(ratio_cost(2 * scores, target), abs=0.02)
    changed = scores.copy()
    changed[(first == 7) | (second == 7)] += 100
    again = cross_calibrated(changed, target, first, second)
    assert again is not None
    mine = (first == 7) & (second == 7)
    slopes = [(np.ptp(values[mine]) / np.ptp(scores[mine])) for values in (found, again)]
    assert slopes[0] == pytest.approx(slopes[1])


def test_two_speakers_are_too_few_to_calibrate() -> None:
    scores, target = gaussian(20, 20, 2.0)
    assert cross_calibrated(scores, target, np.zeros(40, int), np.where(target, 0, 1)) is None
