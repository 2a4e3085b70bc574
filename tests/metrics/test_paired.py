from __future__ import annotations

import numpy as np
import pytest

from audionet.metrics.paired import compare_paired


def right(both: int, first: int, second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(True, True)] * both + [(True, False)] * first + [(False, True)] * second + [(False, False)] * neither
    one, other = np.array(pairs, bool).T
    return one, other


def test_mcnemars_exact_test() -> None:
    found = compare_paired(*right(80, 2, 10, 8))
    assert (found.both, found.first_only, found.second_only, found.neither) == (80, 2, 10, 8)
    assert found.p_value == pytest.approx(2 * (1 + 12 + 66) / 2**12)
    assert found.difference == pytest.approx(0.08)
    assert 0 < found.low < 0.08 < found.high


def test_equal_answers_show_no_difference() -> None:
    found = compare_paired(*right(5, 0, 0, 5))
    assert (found.p_value, found.difference, found.low, found.high) == (1, 0, 0, 0)


def test_systems_of_equal_accuracy_differ_in_one_of_twenty_comparisons() -> None:
    generator = np.random.default_rng(0)
    rejected = 0
    for _ in range(200):
        difficulty = generator.uniform(0.5, 1, 120)
        one, other = (generator.uniform(size=120) < difficulty for _ in range(2))
        rejected += compare_paired(one, other).p_value < 0.05
    assert rejected <= 16
