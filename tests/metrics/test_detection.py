from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    det_curve,
    precision_recall_fscore_support,
    roc_auc_score,
    roc_curve,
    top_k_accuracy_score,
)

from audionet.metrics.bootstrap import bootstrap, bootstrap_ratio
from audionet.metrics.classification import class_scores, reliability, top_k
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


@given(st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 4)), min_size=1, max_size=40))
def test_label_scores_are_scikit_learns(answers: list[tuple[int, int]]) -> None:
    true, answered = np.array(answers).T
    result = class_scores(true, answered, 5)
    expected = precision_recall_fscore_support(true, answered, labels=range(5), zero_division=0)
    for ours, theirs in zip((result.precision, result.recall, result.f1, result.support), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-9)
    tested = sorted(set(true.tolist()) - {-1})
    assert result.tested == len(tested)
    if tested:
        macro = precision_recall_fscore_support(true, answered, labels=tested, average="macro", zero_division=0)
        ours = (result.macro_precision, result.macro_recall, result.macro_f1)
        np.testing.assert_allclose(ours, macro[:3], atol=1e-9)


def test_what_is_unknown_counts_against_precision_and_recall() -> None:
    result = class_scores(np.array([0, 0, -1, 1]), np.array([0, -1, 0, 1]), 3)
    assert result.precision.tolist() == [0.5, 1, 0]
    assert result.recall.tolist() == [0.5, 1, 0]
    assert result.f1.tolist() == [0.5, 1, 0]
    assert result.support.tolist() == [2, 1, 0]
    assert (result.tested, result.macro_precision, result.macro_recall, result.macro_f1) == (2, 0.75, 0.75, 0.75)


def test_scores_of_no_recordings() -> None:
    result = class_scores(np.zeros(0, np.int64), np.zeros(0, np.int64), 2)
    assert result.support.tolist() == [0, 0]
    assert result.tested == 0
    assert np.isnan([result.macro_precision, result.macro_recall, result.macro_f1]).all()


def test_thousands_of_labels_with_one_recording_each() -> None:
    true = np.arange(3000)
    result = class_scores(true, np.where(true % 3, true, 0), 3000)
    assert result.macro_recall == pytest.approx(accuracy_score(true, np.where(true % 3, true, 0)), abs=1e-9)


def test_top_k_is_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    probabilities, true = generator.random((300, 8)), generator.integers(8, size=300)
    counts = top_k(probabilities, true, [1, 2, 3, 5])
    for k, right in counts.items():
        expected = top_k_accuracy_score(true, probabilities, k=k, labels=range(8), normalize=False)
        assert right == pytest.approx(expected, abs=1e-9)
    assert counts[1] == (probabilities.argmax(axis=1) == true).sum()
    assert top_k(probabilities, true, [8, 20]) == {8: 300, 20: 300}


def test_top_k_of_ties_and_of_none_of_the_labels() -> None:
    probabilities = np.array([[0.4, 0.4, 0.2], [0.4, 0.4, 0.2], [0.4, 0.4, 0.2]])
    assert top_k(probabilities, np.array([0, 0, 1]), [1, 2]) == {1: 2, 2: 3}
    assert top_k(probabilities, np.array([0, 2, -1]), [1, 2, 3]) == {1: 1, 2: 1, 3: 2}
    assert top_k(probabilities[:0], np.zeros(0, np.int64), [1]) == {1: 0}


def test_the_bootstrap_of_a_mean_is_that_of_the_normal_distribution() -> None:
    right = (np.arange(1000) < 800).astype(float)
    low, high = bootstrap(right, samples=20_000)
    error = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == pytest.approx((0.8 - error, 0.8 + error), abs=1.5e-3)


def test_chunks_are_drawn_by_recording() -> None:
    generator = np.random.default_rng(1)
    chunks = generator.integers(1, 40, 60)
    right = np.where(generator.random(60) < 0.7, chunks, 0)
    low, high = bootstrap_ratio(right, chunks, samples=4000)
    drawn = generator.integers(60, size=(4000, 60))  # the plain way
    expected = np.quantile(right[drawn].sum(1) / chunks[drawn].sum(1), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected), abs=0.015)
    by_chunk = bootstrap(np.repeat(right > 0, chunks).astype(float))
    assert high - low > 2 * (by_chunk[1] - by_chunk[0])


def test_weights() -> None:
    values, weights = np.array([1, 0, 1, 1.0]), np.array([1, 2, 3, 4.0])
    assert bootstrap(values, weights) == bootstrap_ratio(values * weights, weights)
    assert bootstrap(values, weights) != bootstrap(values)
    assert bootstrap(values, 2 * weights) == pytest.approx(bootstrap(values, weights))


def test_the_bootstrap_is_the_same_each_time_and_in_any_order() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap(values) == bootstrap(values[::-1])
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_many_recordings_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(300)
    at_once = bootstrap(values, samples=500)
    monkeypatch.setattr("audionet.metrics.bootstrap._MAX_DRAWN", 1000)
    assert bootstrap(values, samples=500) == pytest.approx(at_once, abs=1e-12)


def test_no_mistakes_no_width_no_recordings_no_number() -> None:
    assert bootstrap(np.ones(30)) == (1, 1)
    assert np.isnan(bootstrap(np.zeros(0))).all()
    assert np.isnan(bootstrap_ratio(np.zeros(3), np.zeros(3))).all()
    assert bootstrap_ratio(np.array([0, 1]), np.array([0, 1])) == (1, 1)  # half the draws of these have no chunk


def test_calibration_error_by_hand() -> None:
    probabilities = np.array([0.9, 0.9, 0.9, 0.9, 0.6, 0.6])
    right = np.array([True, True, True, False, True, True])
    result = reliability(probabilities, right, bins=5)
    assert result.edges.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    assert result.counts.tolist() == [0, 0, 2, 0, 4]
    assert result.confidence[[2, 4]] == pytest.approx([0.6, 0.9])
    assert result.accuracy[[2, 4]] == pytest.approx([1, 0.75])
    assert np.isnan(result.accuracy[[0, 1, 3]]).all()
    assert result.error == pytest.approx((4 * 0.15 + 2 * 0.4) / 6, abs=1e-12)
    assert result.n == 6


def test_calibrated_and_overconfident_answers() -> None:
    assert reliability(np.full(10, 0.7), np.arange(10) < 7).error == pytest.approx(0, abs=1e-12)
    assert reliability(np.ones(10), np.zeros(10, bool)).error == pytest.approx(1)
    assert reliability(np.float32([1.0000001, 0]), np.array([True, False])).error == pytest.approx(0, abs=1e-6)


@settings(max_examples=50)
@given(
    st.lists(st.tuples(st.floats(0, 1) | st.sampled_from([0.25, 0.5, 0.75]), st.booleans()), min_size=1, max_size=60),
    st.sampled_from([2, 4, 15, 20]),
)
def test_reliability_is_scikit_learns(answers: list[tuple[float, bool]], bins: int) -> None:
    probabilities, right = np.array([p for p, _ in answers]), np.array([r for _, r in answers])
    result = reliability(probabilities, right, bins)
    accuracy, confidence = calibration_curve(np.append(right, [0, 1]), np.append(probabilities, [0, 1]), n_bins=bins)
    with_ends = reliability(np.append(probabilities, [0, 1]), np.append(right, [False, True]), bins)
    filled = with_ends.counts > 0
    np.testing.assert_allclose(with_ends.accuracy[filled], accuracy, atol=1e-9)
    np.testing.assert_allclose(with_ends.confidence[filled], confidence, atol=1e-9)
    filled = result.counts > 0
    gaps = np.abs(result.accuracy - result.confidence)[filled]
    assert result.error == pytest.approx(np.average(gaps, weights=result.counts[filled]), abs=1e-9)
    assert result.counts.sum() == result.n == len(answers)


def test_a_probability_on_an_edge_belongs_below() -> None:
    assert reliability(np.array([0, 0.25, 0.5, 1]), np.ones(4, bool), 4).counts.tolist() == [2, 1, 0, 1]


def test_reliability_of_nothing() -> None:
    result = reliability(np.zeros(0), np.zeros(0, bool))
    assert (result.n, result.counts.sum()) == (0, 0)
    assert np.isnan(result.error)
