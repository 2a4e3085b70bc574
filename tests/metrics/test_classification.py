from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    precision_recall_fscore_support,
    top_k_accuracy_score,
)

from audionet.metrics.classification import brier_score, class_scores, cllr, reliability, top_k


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


def test_brier_score_is_scikit_learns() -> None:
    from sklearn.metrics import brier_score_loss

    generator = np.random.default_rng(0)
    probabilities = generator.dirichlet(np.ones(3), 50)
    true = generator.integers(0, 3, 50)
    expected = sum(brier_score_loss(true == label, probabilities[:, label]) for label in range(3))
    assert brier_score(probabilities, true) == pytest.approx(expected)
    assert np.isnan(brier_score(probabilities[:0], true[:0]))


def test_cllr_of_one_who_knows_nothing_everything_and_the_contrary() -> None:
    true = np.arange(40) % 4
    assert cllr(np.full((40, 4), 0.25), true) == pytest.approx(1)
    assert cllr(np.eye(4)[true], true) == pytest.approx(0, abs=1e-9)
    assert cllr(np.eye(4)[(true + 1) % 4], true) > 5
    assert np.isnan(cllr(np.ones((3, 1)), np.zeros(3, np.int64)))


def test_cllr_is_lowest_where_probabilities_are_true() -> None:
    generator = np.random.default_rng(0)
    logits = 2 * generator.standard_normal((20_000, 2))
    calibrated = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    true = (calibrated.cumsum(axis=1) < generator.random((20_000, 1))).sum(axis=1)
    costs = []
    for sharpness in (0.6, 1.0, 1.6):
        powers = calibrated**sharpness
        costs.append(cllr(powers / powers.sum(axis=1, keepdims=True), true))
    assert costs[1] == min(costs)
