from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.classifier import calibration
from audionet.classifier.calibration import Calibration, apply_temperature, fit_calibration, join_scores


def fit_temperature(probabilities: np.ndarray, labels: np.ndarray, recordings: object) -> float:
    """The temperature, where the scores say nothing."""
    scores = np.zeros_like(probabilities)
    return fit_calibration(probabilities, scores, labels, recordings).temperature  # type: ignore[arg-type]


def draw_examples(seed: int, rows: int, labels: int = 4, sharpness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Draw labels from random probabilities, and return both; the logits are then multiplied by `sharpness`."""
    generator = np.random.default_rng(seed)
    logits = generator.standard_normal((rows, labels)).astype(np.float32) * 2
    honest = apply_temperature(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True), 1.0)
    true = np.array([generator.choice(labels, p=row / row.sum()) for row in honest.astype(np.float64)])
    return apply_temperature(honest, 1 / sharpness), true


@given(st.integers(0, 2**32 - 1), st.floats(0.1, 10))
def test_the_inverse_temperature_restores_probabilities_and_the_order_stays(seed: int, temperature: float) -> None:
    probabilities, _ = draw_examples(seed, 5)
    changed = apply_temperature(probabilities, temperature)
    np.testing.assert_allclose(changed.sum(axis=1), 1, atol=1e-5)
    assert (changed.argmax(axis=1) == probabilities.argmax(axis=1)).all()
    if temperature > 0.3:
        np.testing.assert_allclose(apply_temperature(changed, 1 / temperature), probabilities, atol=1e-3)


@pytest.mark.parametrize("sharpness", [0.5, 1.0, 3.0])
def test_the_temperature_undoes_overconfidence(sharpness: float) -> None:
    probabilities, true = draw_examples(0, 4000, sharpness=sharpness)
    assert fit_temperature(probabilities, true, range(4000)) == pytest.approx(sharpness, rel=0.08)


def test_correct_predictions_do_not_prove_certainty() -> None:
    """Laplace's rule, after n correct of n: the next is correct with probability (n + 1) / (n + 2), 0.98 for 48."""
    for number, least, most in ((2, 0.97, 0.99), (48, 0.98, 0.9895), (4000, 0.999, 1.0)):
        probabilities = np.tile(np.float32([0.99, 0.01]), (number, 1))
        temperature = fit_temperature(probabilities, np.zeros(number, np.int64), range(number))
        assert least < apply_temperature(probabilities, temperature)[0, 0] < most


def test_few_recordings_change_little() -> None:
    wrong = np.tile(np.float32([0.01, 0.99]), (400, 1))
    few, many = (fit_temperature(wrong[:n], np.zeros(n, np.int64), range(n)) for n in (1, 400))
    assert 1 < few < 1.6
    assert many > 5


def test_the_fit_is_on_recordings_not_on_chunks() -> None:
    """Ten copies of a chunk in one recording add no information."""
    probabilities, true = draw_examples(1, 60)
    alone = fit_temperature(probabilities, true, range(60))
    together = fit_temperature(probabilities.repeat(10, axis=0), true.repeat(10), np.arange(60).repeat(10).tolist())
    assert together == pytest.approx(alone, rel=1e-3)


def test_without_examples_the_temperature_is_one() -> None:
    assert fit_temperature(np.zeros((0, 3), np.float32), np.zeros(0, np.int64), []) == 1.0


@settings(max_examples=20)
@given(st.integers(1, 30), st.booleans())
def test_any_validation_set_gives_a_finite_temperature(rows: int, right: bool) -> None:
    probabilities = np.tile(np.float32([1, 0, 0]), (rows, 1))
    found = fit_temperature(probabilities, np.full(rows, 0 if right else 1), range(rows))
    assert 0 < found < 100


def test_a_large_validation_set_is_subsampled(monkeypatch: pytest.MonkeyPatch) -> None:
    probabilities, true = draw_examples(2, 3000, sharpness=2.0)
    every = fit_temperature(probabilities, true, range(3000))
    monkeypatch.setattr(calibration, "_MAX_VALUES", 4000)
    some = fit_temperature(probabilities, true, range(3000))
    assert some != every
    assert some == pytest.approx(every, rel=0.2)


def test_scores_that_tell_more_get_more_weight() -> None:
    """The logits of the truth are the sum of half of a head's and of three times the scores."""
    generator = np.random.default_rng(0)
    head = generator.standard_normal((4000, 4)).astype(np.float32)
    scores = generator.standard_normal((4000, 4)).astype(np.float32)
    probabilities = np.exp(head) / np.exp(head).sum(axis=1, keepdims=True)
    joined = join_scores(probabilities, scores, 0.5, 3.0)
    expected = 0.5 * head + 3 * scores
    np.testing.assert_allclose(np.log(joined[:, 1:] / joined[:, :1]), expected[:, 1:] - expected[:, :1], atol=1e-3)
    true = np.array([generator.choice(4, p=row / row.sum()) for row in joined.astype(np.float64)])
    found = fit_calibration(probabilities, scores, true, range(4000))
    assert found.score_weight == pytest.approx(3.0, rel=0.1)
    assert found.head_weight / found.temperature == pytest.approx(0.5, rel=0.15)
    noise = fit_calibration(probabilities, generator.permutation(scores), true, range(4000))
    assert noise.score_weight < 0.3


def test_the_scores_weigh_by_experience_where_nothing_was_held_out() -> None:
    nothing = np.zeros((0, 3), np.float32)
    found = fit_calibration(nothing, nothing, np.zeros(0, np.int64), [])
    assert found == pytest.approx((1.0, 0.25, 6.0))
    assert fit_calibration(nothing[:, :1], nothing[:, :1], np.zeros(0, np.int64), []) == Calibration(1.0, 1.0, 0.0)


def test_three_right_of_three_promise_no_more_than_that() -> None:
    """A head and scores that agree are no two witnesses: both heard the same sound."""
    probabilities = np.float32([[0.98, 0.01, 0.01]] * 3)
    scores = np.float32([[1.0, 0.1, 0.0]] * 3)
    found = fit_calibration(probabilities, scores, np.zeros(3, np.int64), range(3))
    assert 0.8 < found.apply(probabilities, scores)[0, 0] < 0.995
