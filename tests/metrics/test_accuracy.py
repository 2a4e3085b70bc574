from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from audionet.metrics.accuracy import Groups, accuracy, effective_sample_size


@pytest.mark.parametrize(("right", "total"), [(9, 10), (10, 10), (0, 10), (295, 300), (1, 1)])
def test_wilsons_interval(right: int, total: int) -> None:
    result = accuracy(np.arange(total) < right)
    expected = binomtest(right, total).proportion_ci(0.95, method="wilson")
    assert (result.right, result.total) == (right, total)
    assert result.low == pytest.approx(expected.low, abs=1e-9)
    assert result.high == pytest.approx(expected.high, abs=1e-9)


def test_no_answers_are_no_number() -> None:
    result = accuracy(np.zeros(0, bool))
    assert str(result) == "nothing to test on"
    assert np.isnan(result.share)


def test_chunks_that_go_together_count_as_one() -> None:
    right = np.repeat([True, True, True, False, True, False], 10)
    recordings = np.repeat(np.arange(6), 10)
    assert effective_sample_size(right, list(recordings)) == pytest.approx(6)
    wide, narrow = accuracy(right, list(recordings)), accuracy(right)
    assert wide.high - wide.low > 2 * (narrow.high - narrow.low)


def test_independent_chunks_keep_their_number() -> None:
    right = np.random.default_rng(0).random(4000) < 0.8
    assert effective_sample_size(right, list(np.repeat(np.arange(400), 10))) == pytest.approx(4000, rel=0.1)


def test_one_mistake_more_never_makes_the_interval_much_narrower() -> None:
    recordings = list(np.repeat(np.arange(8), 9))
    generator = np.random.default_rng(0)
    places = generator.permutation(72)
    widths = []
    for mistakes in range(6):
        right = np.ones(72, bool)
        right[places[:mistakes]] = False
        result = accuracy(right, recordings)
        widths.append(result.high - result.low)
    assert all(later > 0.6 * earlier for earlier, later in itertools.pairwise(widths))


def test_all_right_proves_no_more_than_the_recordings_do() -> None:
    assert effective_sample_size(np.ones(70, bool), list(np.repeat(np.arange(7), 10))) == pytest.approx(7)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=60))
def test_the_interval_holds_the_share(answers: list[tuple[bool, int]]) -> None:
    right = np.array([answer for answer, _ in answers])
    groups = [group for _, group in answers]
    result = accuracy(right, groups)
    assert 0 <= result.low <= result.share + 1e-12
    assert result.share - 1e-12 <= result.high <= 1
    assert len(set(groups)) - 1e-9 <= effective_sample_size(right, groups) <= len(right) + 1e-9


def test_rows_are_averaged_by_group() -> None:
    values = np.array([[1, 0], [0, 1], [0, 1], [1, 1]], np.float32)
    groups = Groups([("a", "x"), ("b", "y"), ("a", "x"), ("a", "z")])
    assert groups.names == [("a", "x"), ("b", "y"), ("a", "z")]
    assert groups.sizes.tolist() == [2, 1, 1]
    np.testing.assert_allclose(groups.mean(values), [[0.5, 0.5], [0, 1], [1, 1]])


def test_a_cross_validation_proves_less_than_as_many_independent_answers() -> None:
    """By 1 + 5 / 4: the interval of 90 answers in five folds is that of 40 independent ones."""
    right = np.arange(90) < 81
    independent = accuracy(np.arange(40) < 36)
    found = accuracy(right, folds=5)
    assert (found.right, found.total) == (81, 90)
    assert (found.low, found.high) == (pytest.approx(independent.low), pytest.approx(independent.high))
    widths = [one.high - one.low for one in (accuracy(right, folds=2), found, accuracy(right))]
    assert widths == sorted(widths, reverse=True)
