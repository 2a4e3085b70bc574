from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.classifier import calibration
from audionet.classifier.calibration import apply_temperature, fit_temperature


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
