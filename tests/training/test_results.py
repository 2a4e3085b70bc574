from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from audionet.metrics.accuracy import accuracy
from audionet.training.results import CrossValidation, CurveShare


@pytest.mark.parametrize(
    ("half", "whole", "folds", "expected"),
    [
        (60, 80, 5, 1 - 0.2 * 0.8),  # halved: the error is inverse to the number of recordings
        (80, 90, 2, 0.95),
        (70, 70, 5, 0.7),  # flat: more brings nothing
        (80, 70, 5, 0.7),  # falling, by chance
        (10, 90, 5, 1 - 0.1 * 0.8),  # no faster than inverse
        (50, 100, 5, 1.0),
        (100, 99, 5, 0.99),  # falling from no error at all
    ],
)
def test_the_accuracy_is_extrapolated_along_the_learning_curve(
    half: int, whole: int, folds: int, expected: float
) -> None:
    curve = [CurveShare(share, accuracy(np.arange(100) < right)) for share, right in ((0.5, half), (1.0, whole))]
    nothing: Any = None
    found = CrossValidation(nothing, nothing, None, curve, [curve[-1].accuracy], nothing)
    assert found.expected_accuracy(folds) == pytest.approx(expected)
