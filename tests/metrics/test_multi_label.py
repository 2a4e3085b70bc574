from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score

from audionet.metrics.multi_label import multi_label_scores


def test_counts_of_each_label() -> None:
    present = np.array([[1, 0, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]], bool)
    answered = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 1], [0, 0, 1]], bool)
    probabilities = np.array([[0.9, 0.1, 1], [0.4, 0.8, 1], [0.6, 0.7, 1], [0.1, 0.2, 1]], np.float32)
    found = multi_label_scores(probabilities, present, answered)
    first, second, third = found.labels
    assert (first.recordings, first.right, first.wrong, first.missed) == (2, 1, 1, 1)
    assert (first.precision, first.recall, first.f1) == (0.5, 0.5, 0.5)
    assert first.average_precision == pytest.approx((1 + 2 / 3) / 2)
    assert second.average_precision == second.f1 == 1
    assert third.average_precision is None  # in every recording: nothing to rank
    assert found.mean_average_precision == pytest.approx((5 / 6 + 1) / 2)
    assert found.chance == 0.5
    assert (found.all_right.right, found.all_right.total) == (2, 4)
    assert found.low <= found.mean_average_precision <= found.high


def test_the_interval_holds_the_mean_of_most_samples() -> None:
    generator = np.random.default_rng(0)
    held = 0
    for _ in range(40):
        present = generator.uniform(size=(60, 3)) < 0.3
        probabilities = (generator.standard_normal((60, 3)) + 1.2 * present).astype(np.float32)
        found = multi_label_scores(probabilities, present, present)
        expected = np.mean([average_precision_score(present[:, k], probabilities[:, k]) for k in range(3)])
        assert found.mean_average_precision == pytest.approx(expected)
        held += found.low <= 0.70 <= found.high  # about the mean of many samples
    assert held >= 34


def test_the_interval_is_about_all_labels_where_a_resample_lacks_a_rare_one() -> None:
    present = np.zeros((30, 2), bool)
    present[:15, 0], present[20, 1] = True, True
    probabilities = np.where(present, 0.9, 0.1).astype(np.float32)
    probabilities[20, 1] = 0.0  # the rare label is ranked last, the other one perfectly
    found = multi_label_scores(probabilities, present, present)
    assert found.mean_average_precision == pytest.approx((1 + 1 / 30) / 2)
    assert found.high < 0.6


def test_nothing_to_score() -> None:
    found = multi_label_scores(np.zeros((0, 2), np.float32), np.zeros((0, 2), bool), np.zeros((0, 2), bool))
    assert found.mean_average_precision is None
    assert found.macro_f1 is None
    assert found.labels[0].precision is None
