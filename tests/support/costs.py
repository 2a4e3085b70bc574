"""Made-up costs and probabilities."""

from __future__ import annotations

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st

from audionet.classifier.decision import Cost, Costs

VOICES = ["human", "voicemail"]
cost_values = st.sampled_from([0.0, 0.125, 1.0, 3.0, 40.0, 1e4])


@st.composite
def any_costs(draw: st.DrawFn, least: int = 2, most: int = 5) -> Costs:
    labels = draw(st.integers(least, most))
    pairs = [(i, j) for i in range(labels) for j in range(labels) if i != j]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True))
    drawn = Costs(labels, tuple(Cost(*pair, draw(cost_values)) for pair in chosen))
    assume(not drawn.all_zero)
    return drawn


def softmax(log_odds: np.ndarray) -> np.ndarray:
    powers = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def calibrated(n: int, labels: int, seed: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and true labels drawn by them."""
    generator = np.random.default_rng(seed)
    probabilities = softmax(spread * generator.standard_normal((n, labels)))
    true = (probabilities.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return probabilities, np.minimum(true, labels - 1)
