from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from audionet.errors import ModelError
from audionet.training.exact_fit import STRENGTHS, design, fit_independent, fit_logistic, fit_path, recording_weights
from tests.support.features import clusters

EQUAL = np.ones(60)


@pytest.mark.parametrize(("n", "width"), [(60, 8), (60, 300)])
@pytest.mark.parametrize("strength", STRENGTHS[:3])
def test_the_fit_is_scikit_learns(n: int, width: int, strength: float) -> None:
    """In the coordinates of the features or, where they are more than the examples, of the examples."""
    data = clusters(n, width, 4, 1, spread=1.0)
    features = data.all()
    designed = design(features, [width])
    head = designed.head(fit_logistic(designed.rows, data.labels, 4, EQUAL, strength))
    standardised = (features - designed.offset) * designed.scale
    theirs = LogisticRegression(C=1 / (strength * n), tol=1e-9, max_iter=5000).fit(standardised, data.labels)
    np.testing.assert_allclose(head.probabilities(features), theirs.predict_proba(standardised), atol=2e-3)
    other = clusters(40, width, 4, 2, spread=1.0).all()
    expected = theirs.predict_proba((other - designed.offset) * designed.scale)
    np.testing.assert_allclose(head.probabilities(other), expected, atol=2e-3)


@settings(deadline=None, max_examples=30)
@given(st.integers(2, 30), st.integers(2, 60), st.integers(0, 99))
def test_coordinates_keep_inner_products_and_answers(n: int, width: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    features, other = generator.standard_normal((2, n, width)).astype(np.float32)
    designed = design(features, [width])
    gram = designed.standardised @ designed.standardised.T
    np.testing.assert_allclose(designed.rows @ designed.rows.T, gram, atol=1e-4)
    np.testing.assert_allclose(designed.project(features) @ designed.rows.T, gram, atol=1e-4)
    solution = fit_logistic(designed.rows, np.arange(n) % 2, 2, np.ones(n), 1e-2)
    np.testing.assert_allclose(
        designed.head(solution).probabilities(other), solution.probabilities(designed.project(other)), atol=1e-4
    )


def test_the_path_ends_where_a_fit_from_scratch_ends() -> None:
    data = clusters(80, 200, 3, 1, spread=2.0)
    rows = design(data.all(), [200]).rows
    path = fit_path(lambda strength, start: fit_logistic(rows, data.labels, 3, np.ones(80), strength, start, True))
    alone = fit_logistic(rows, data.labels, 3, np.ones(80), STRENGTHS[-1])
    np.testing.assert_allclose(path[-1].probabilities(rows), alone.probabilities(rows), atol=2e-3)
    losses = [solution.loss for solution in path]
    assert losses == sorted(losses, reverse=True)


def test_a_weight_of_two_is_two_examples() -> None:
    data = clusters(40, 6, 2, 1, spread=1.0)
    rows, twice = data.all(), np.concatenate([data.all(), data.all()[:10]])
    weights = np.where(np.arange(40) < 10, 2.0, 1.0)
    one = fit_logistic(rows, data.labels, 2, weights, 1e-2)
    other = fit_logistic(twice, np.append(data.labels, data.labels[:10]), 2, np.ones(50), 1e-2)
    np.testing.assert_allclose(one.probabilities(rows), other.probabilities(rows), atol=1e-3)


def test_every_recording_weighs_the_same_and_every_label_if_asked() -> None:
    recordings, targets = np.array([0, 0, 0, 1, 2, 2]), np.array([0, 0, 0, 0, 1, 1])
    equal = recording_weights(recordings)
    np.testing.assert_allclose(np.bincount(recordings, equal), 2)
    balanced = recording_weights(recordings, targets)
    np.testing.assert_allclose(np.bincount(targets, balanced), 3)
    np.testing.assert_allclose(balanced[3], 3 * balanced[0])


def test_a_label_without_an_example_is_never_predicted() -> None:
    data = clusters(60, 5, 2, 1)
    solution = fit_logistic(data.all(), 2 * data.labels, 4, EQUAL, 1e-3)
    probabilities = solution.probabilities(data.all())
    assert probabilities[:, [1, 3]].max() < 1e-12
    assert (probabilities.argmax(axis=1) == 2 * data.labels).all()


@pytest.mark.parametrize("value", [0.0, 3.0])
def test_features_without_variance_give_the_shares_of_the_labels(value: float) -> None:
    designed = design(np.full((12, 40), value, np.float32), [40])
    targets = np.arange(12) % 3 % 2
    solution = fit_logistic(designed.rows, targets, 2, np.ones(12), 1e-4)
    np.testing.assert_allclose(solution.probabilities(designed.rows), np.tile([2 / 3, 1 / 3], (12, 1)), atol=1e-2)


def test_copies_are_no_obstacle() -> None:
    features = np.repeat(clusters(10, 50, 2, 1).all(), 4, axis=0)
    targets = np.arange(40) // 4 % 2
    designed = design(features, [50])
    solution = fit_logistic(designed.rows, targets, 2, np.ones(40), 1e-5)
    assert np.isfinite(designed.head(solution).last.weights).all()
    assert (solution.probabilities(designed.rows).argmax(axis=1) == targets).all()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_must_be_numbers(value: float) -> None:
    with pytest.raises(ModelError, match="the bottleneck cache contains NaN or infinite values"):
        design(np.array([[1, value], [2, 3]], np.float32), [2])


def test_independent_labels_are_fitted_as_each_would_be_alone() -> None:
    data = clusters(60, 8, 3, 1, spread=1.0)
    rows = design(data.all(), [8]).rows
    present = np.stack([data.labels == 0, data.labels != 2, np.arange(60) % 2 == 0], axis=1)
    weights = np.linspace(1, 2, 60)
    together = fit_independent(rows, present, weights, 1e-3)
    for number in range(3):
        # Two exclusive labels: one logit is the difference of two, whose squares the penalty halves.
        alone = fit_logistic(rows, present[:, number].astype(int), 2, weights, 2e-3)
        np.testing.assert_allclose(together.probabilities(rows)[:, number], alone.probabilities(rows)[:, 1], atol=2e-3)


def test_a_label_that_is_nowhere_or_everywhere_is_certain() -> None:
    data = clusters(40, 6, 2, 1, spread=1.0)
    rows = data.all()
    present = np.stack([np.zeros(40, bool), data.labels == 0, np.ones(40, bool)], axis=1)
    found = fit_independent(rows, present, np.ones(40), 1e-3).probabilities(rows)
    assert found[:, 0].max() < 1e-6
    assert found[:, 2].min() > 1 - 1e-6
    assert ((found[:, 1] > 0.5) == present[:, 1]).all()
    nothing = fit_independent(rows, present[:, [0, 2]], np.ones(40), 1e-3)
    assert nothing.iterations == 0


def test_the_head_answers_for_independent_labels_as_the_solution_does() -> None:
    data = clusters(40, 90, 2, 1, spread=1.0)
    designed = design(data.all(), [90])
    solution = fit_independent(
        designed.rows, np.stack([data.labels == 0, np.arange(40) > 9], axis=1), np.ones(40), 1e-3
    )
    probabilities = designed.head(solution).probabilities(data.all())
    np.testing.assert_allclose(probabilities, solution.probabilities(designed.rows), atol=1e-4)
    assert not np.allclose(probabilities.sum(axis=1), 1)
