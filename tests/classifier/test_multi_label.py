from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from audionet.classifier.multi_label import (
    apply_independent_temperature,
    fit_independent_temperature,
    fit_thresholds,
    fit_thresholds_out_of_fold,
    pool_chunks,
    pool_recordings,
)
from audionet.metrics.accuracy import Groups

PROBABILITIES = arrays(np.float32, st.tuples(st.integers(1, 8), st.just(3)), elements=st.floats(0, 1, width=32))


@given(PROBABILITIES, st.data())
def test_pooled_lies_between_mean_and_maximum(probabilities: np.ndarray, data: st.DataObject) -> None:
    shape = (len(probabilities),)
    weights = data.draw(arrays(np.float32, shape, elements=st.floats(np.float32(0.1), 1, width=32)))
    pooled = pool_chunks(probabilities, weights)
    assert (pooled >= np.average(probabilities, axis=0, weights=weights) - 1e-5).all()
    assert (pooled <= probabilities.max(axis=0) + 1e-5).all()
    both = pool_recordings(
        np.concatenate([probabilities, probabilities]),
        np.concatenate([weights, weights]),
        Groups(["a"] * len(weights) + ["b"] * len(weights)),
    )
    np.testing.assert_allclose(both, [pooled, pooled], atol=1e-5)


def test_a_label_in_one_chunk_of_ten_is_found_and_a_thousand_doubts_are_none() -> None:
    one = np.full((10, 1), 0.02, np.float32)
    one[3] = 0.95
    assert pool_chunks(one, np.ones(10, np.float32))[0] > 0.75
    doubts = np.full((1000, 1), 0.1, np.float32)
    assert pool_chunks(doubts, np.ones(1000, np.float32))[0] == pytest.approx(0.1, abs=1e-3)


def test_a_threshold_separates_recordings_at_the_middle() -> None:
    probabilities = np.array([[0.1], [0.15], [0.2], [0.3], [0.35], [0.4], [0.42], [0.45]], np.float32)
    present = np.array([0, 0, 0, 1, 1, 1, 1, 1], bool)[:, None]
    found = fit_thresholds(probabilities, present)
    assert found.values[0] == pytest.approx(0.25)
    assert (found.decide(probabilities) == present).all()


def test_few_recordings_leave_the_threshold_at_a_half() -> None:
    assert fit_thresholds(np.array([[0.3]], np.float32), np.array([[True]])).values[0] == pytest.approx(0.5, abs=1e-3)
    nothing = fit_thresholds(np.zeros((0, 2), np.float32), np.zeros((0, 2), bool))
    assert nothing.values == pytest.approx([0.5, 0.5], abs=1e-3)


def test_recordings_of_one_probability_are_answered_together() -> None:
    probabilities = np.full((20, 1), 0.7, np.float32)
    present = (np.arange(20) < 4)[:, None]
    answered = fit_thresholds(probabilities, present).decide(probabilities)
    assert answered.all() or not answered.any()


def test_no_recording_is_decided_by_a_threshold_that_knows_it() -> None:
    # By its own label, each recording would be answered rightly; by the other fold's threshold, none is.
    probabilities = np.array([[0.8]] * 20 + [[0.2]] * 20, np.float32)
    present = np.array([False] * 20 + [True] * 20)[:, None]
    fold = np.repeat([0, 1], 20)
    assert (fit_thresholds_out_of_fold(probabilities, present, fold) != present).all()


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_the_temperature_of_independent_labels_is_found_again(temperature: float) -> None:
    generator = np.random.default_rng(0)
    true = generator.uniform(0.02, 0.98, (3000, 2)).astype(np.float32)
    present = generator.uniform(size=true.shape) < true
    given_probabilities = apply_independent_temperature(true, 1 / temperature)
    groups = Groups(range(3000))
    found = fit_independent_temperature(given_probabilities, np.ones(3000, np.float32), present, groups)
    assert found == pytest.approx(temperature, rel=0.1)
    np.testing.assert_allclose(apply_independent_temperature(given_probabilities, temperature), true, atol=1e-5)
