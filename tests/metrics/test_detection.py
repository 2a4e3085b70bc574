from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import (
    det_curve,
    roc_auc_score,
    roc_curve,
)

from audionet.metrics.detection import Detection, detection, trials


def found(scores: object, target: object) -> Detection:
    result = detection(np.array(scores, float), np.array(target, bool))
    assert result is not None
    return result


def quantiles_of_gaussians(distance: float, n: int = 20_000) -> Detection:
    scores = norm.ppf((np.arange(n) + 0.5) / n)
    return found(np.concatenate([scores + distance, scores]), np.arange(2 * n) < n)


TIED = st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=50).filter(
    lambda trials: len({target for _, target in trials}) == 2
)


@given(TIED)
def test_operating_points_are_scikit_learns(answers: list[tuple[int, bool]]) -> None:
    scores, target = np.array([score for score, _ in answers], float), np.array([target for _, target in answers])
    result = found(scores, target)
    ours = {
        threshold: pytest.approx((false_alarms, misses), abs=1e-9)
        for threshold, false_alarms, misses in zip(result.thresholds, result.false_alarms, result.misses, strict=True)
    }
    false_alarms, hits, thresholds = roc_curve(target, scores, drop_intermediate=False)
    theirs = dict(zip(thresholds, zip(false_alarms, 1 - hits, strict=True), strict=True))
    assert ours == {threshold: theirs[threshold] for threshold in ours}
    of_det = {threshold: rates for *rates, threshold in zip(*det_curve(target, scores), strict=True)}
    assert all(tuple(of_det[threshold]) == ours[threshold] for threshold in ours.keys() & of_det.keys())
    assert result.area == pytest.approx(roc_auc_score(target, scores), abs=1e-9)


@given(TIED)
def test_points_run_from_nothing_to_everything(answers: list[tuple[int, bool]]) -> None:
    result = found([score for score, _ in answers], [target for _, target in answers])
    assert (result.false_alarms[0], result.misses[0], result.thresholds[0]) == (0, 1, np.inf)
    assert (result.false_alarms[-1], result.misses[-1]) == (1, 0)
    assert result.thresholds[-1] == min(score for score, _ in answers)
    assert (np.diff(result.thresholds) < 0).all()
    assert (np.diff(result.false_alarms) >= 0).all()
    assert (np.diff(result.misses) <= 0).all()
    assert result.targets == sum(target for _, target in answers)
    assert result.targets + result.nontargets == len(answers)
    for threshold, false_alarms, misses in zip(result.thresholds, result.false_alarms, result.misses, strict=True):
        accepted = [target for score, target in answers if score >= threshold]
        assert accepted.count(False) == pytest.approx(false_alarms * result.nontargets)
        assert accepted.count(True) == pytest.approx((1 - misses) * result.targets)


@given(TIED)
def test_the_order_of_trials_changes_nothing(answers: list[tuple[int, bool]]) -> None:
    one, other = (found([s for s, _ in order], [t for _, t in order]) for order in (answers, sorted(answers)))
    assert one.equal_error_rate == pytest.approx(other.equal_error_rate, abs=1e-12)
    assert one.min_dcf() == pytest.approx(other.min_dcf(), abs=1e-12)


def test_separated_scores_err_nowhere() -> None:
    result = found([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    assert (result.equal_error_rate, result.area, result.min_dcf()) == (0, 1, 0)


def test_scores_the_wrong_way_round_err_everywhere() -> None:
    result = found([0.1, 0.2, 0.8, 0.9], [1, 1, 0, 0])
    assert (result.equal_error_rate, result.area, result.min_dcf()) == (1, 0, 1)


def test_equal_scores_are_one_point_halfway() -> None:
    result = found([3, 3, 3, 3, 3], [1, 0, 0, 0, 0])
    assert result.false_alarms.tolist() == [0, 1]
    assert (result.equal_error_rate, result.area, result.min_dcf()) == (0.5, 0.5, 1)


def test_the_crossing_lies_between_two_points() -> None:
    # Above 2: no false alarms, half missed. From 2 on: all found, 2 of 3 false alarms.
    result = found([3, 2, 2, 2, 1], [1, 1, 0, 0, 0])
    assert result.equal_error_rate == pytest.approx(2 / 7, abs=1e-12)


def test_no_convex_hull_flatters_few_targets() -> None:
    assert found([4, 3, 2, 1], [1, 0, 1, 0]).equal_error_rate == pytest.approx(0.5)


@pytest.mark.parametrize("distance", [0.0, 1.0, 2.0, 3.0])
def test_gaussians(distance: float) -> None:
    result = quantiles_of_gaussians(distance)
    assert result.equal_error_rate == pytest.approx(norm.cdf(-distance / 2), abs=1e-3)
    assert result.area == pytest.approx(norm.cdf(distance / 2**0.5), abs=1e-3)


@pytest.mark.parametrize(("prior", "miss_cost", "false_alarm_cost"), [(0.01, 1, 1), (0.01, 10, 1), (0.6, 1, 3)])
def test_least_cost_of_gaussians(prior: float, miss_cost: float, false_alarm_cost: float) -> None:
    distance = 2.0
    beta = false_alarm_cost * (1 - prior) / (miss_cost * prior)
    best = np.log(beta) / distance + distance / 2  # where the likelihood ratio is beta
    cost = miss_cost * prior * norm.cdf(best - distance) + false_alarm_cost * (1 - prior) * norm.sf(best)
    expected = cost / min(miss_cost * prior, false_alarm_cost * (1 - prior))
    result = quantiles_of_gaussians(distance, 100_000)
    assert result.min_dcf(prior, miss_cost, false_alarm_cost) == pytest.approx(expected, abs=2e-3)


def test_least_cost_by_hand() -> None:
    result = found([4, 3, 2, 1], [1, 0, 1, 0])
    assert result.min_dcf() == pytest.approx(0.5)  # half missed, nothing accepted wrongly
    assert result.min_dcf(0.5) == pytest.approx(0.5)
    assert result.min_dcf(0.99) == pytest.approx(0.5)
    assert result.min_dcf(0.5, miss_cost=3) == pytest.approx(0.5)


@pytest.mark.parametrize("target", [[True, True], [False, False], []])
def test_one_kind_of_trial_is_no_detection(target: list[bool]) -> None:
    assert detection(np.arange(len(target), dtype=float), np.array(target, bool)) is None


def test_scores_must_be_numbers() -> None:
    with pytest.raises(ValueError, match="NaN"):
        found([np.nan, 1], [1, 0])


def test_trials_of_one_label_and_of_all() -> None:
    scores = np.array([[0.7, 0.3], [0.4, 0.6], [0.5, 0.5]], np.float32)
    true = np.array([0, 1, -1])
    one = trials(scores, true, 1)
    assert (one.scores.tolist(), one.target.tolist(), one.total) == (
        scores[:, 1].tolist(),
        [False, True, False],
        3,
    )
    pooled = trials(scores, true)
    assert sorted(zip(pooled.scores.tolist(), pooled.target.tolist(), strict=True)) == sorted(
        zip(scores.ravel().tolist(), [True, False, False, True, False, False], strict=True)
    )
    assert pooled.total == 6


@pytest.mark.parametrize("labels", [100, 97])
def test_nontargets_are_left_out_evenly(labels: int) -> None:
    n = 400
    true = np.arange(n) * labels // n
    true[::10] = -1
    numbered = np.arange(n * labels, dtype=float).reshape(n, labels)
    some = trials(numbered, true, most=8000)
    assert some.total == n * labels
    assert 7500 < len(some.scores) <= 8000
    assert len(set(some.scores)) == len(some.scores)
    rows, columns = np.divmod(some.scores.astype(int), labels)
    np.testing.assert_array_equal(some.target, true[rows] == columns)
    assert some.target.sum() == (true >= 0).sum()
    per_recording = np.bincount(rows[~some.target], minlength=n)
    assert per_recording.max() - per_recording.min() <= 1
    per_label = np.bincount(columns[~some.target], minlength=labels)
    assert per_label.min() > 0.8 * per_label.mean()
    assert per_label.max() < 1.2 * per_label.mean()
    assert np.diff(np.sort(columns[rows == 0])).min() >= labels // per_recording[0]


def test_leaving_nontargets_out_hardly_changes_the_error_rate() -> None:
    generator = np.random.default_rng(0)
    true = np.arange(2000) % 200
    scores = generator.standard_normal((2000, 200)) + 2 * (true[:, None] == np.arange(200))
    few, whole = trials(scores, true, most=60_000), trials(scores, true)
    assert len(few.scores) < 0.2 * len(whole.scores)
    assert found(few.scores, few.target).equal_error_rate == pytest.approx(
        found(whole.scores, whole.target).equal_error_rate, abs=3e-3
    )
