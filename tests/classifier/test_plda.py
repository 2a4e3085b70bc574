"""PLDA: its log-likelihood ratios, and its fit."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from audionet.classifier.plda import LEAST_SPEAKERS, Plda, fit_plda
from audionet.errors import DatasetError
from audionet.metrics.detection import detection


@pytest.mark.parametrize("count", [1, 3])
def test_the_ratio_is_that_of_the_joint_densities(count: int) -> None:
    generator = np.random.default_rng(0)
    between, width = np.array([4.0, 0.5]), 2
    model = Plda(np.array([1.0, -1.0]), np.eye(width), between)
    recordings = generator.normal(size=(count, width)).astype(np.float32)
    test = generator.normal(size=(1, width)).astype(np.float32)
    found = model.enrolled(recordings.mean(axis=0, keepdims=True), np.array([count])) @ model.tested(test).T
    expected = 0.0
    for axis, variance in enumerate(between):
        values = np.append(recordings[:, axis], test[:, axis]) - model.mean[axis]
        same = variance * np.ones((count + 1, count + 1)) + np.eye(count + 1)
        expected += multivariate_normal(cov=same).logpdf(values)
        expected -= np.atleast_1d(multivariate_normal(cov=same[:-1, :-1]).logpdf(values[:-1])).sum()
        expected -= multivariate_normal(cov=variance + 1).logpdf(values[-1])
    assert found.item() == pytest.approx(expected, rel=1e-5)


def draw(speakers: int, each: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Draw speakers who differ in four of twelve dimensions, and recordings that vary more in four others."""
    generator = np.random.default_rng(seed)
    means = np.concatenate([2 * generator.normal(size=(speakers, 4)), np.zeros((speakers, 8))], axis=1)
    spread = np.repeat([1.0, 5.0, 0.1], 4)
    rows = np.repeat(means, each, axis=0) + spread * generator.normal(size=(speakers * each, 12))
    return rows.astype(np.float32), [str(number // each) for number in range(speakers * each)]


def test_a_fit_finds_the_variance_between_speakers_and_beats_the_cosine() -> None:
    model = fit_plda(*draw(400, 5, 0))
    assert sorted(model.between)[-4:] == pytest.approx([4] * 4, rel=0.3)
    assert sum(model.between > 0.3) == 4
    vectors, speakers = draw(40, 3, 1)
    first, second = np.triu_indices(len(vectors), 1)
    target = np.array(speakers)[first] == np.array(speakers)[second]
    rates = []
    directions = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for scores in (
        directions @ directions.T,
        model.enrolled(vectors, np.ones(len(vectors), int)) @ model.tested(vectors).T,
    ):
        found = detection(scores[first, second], target)
        assert found is not None
        rates.append(found.equal_error_rate)
    assert rates[1] < 0.6 * rates[0]


def test_few_speakers_and_equal_ones_are_refused() -> None:
    vectors, speakers = draw(LEAST_SPEAKERS - 1, 3, 0)
    with pytest.raises(DatasetError, match=r"^9 speakers with two recordings or more: PLDA needs 10"):
        fit_plda(vectors, speakers)
    with pytest.raises(DatasetError, match="do not differ"):
        fit_plda(np.tile(np.eye(2, 5, dtype=np.float32), (12, 1)), [str(number // 2) for number in range(24)])
