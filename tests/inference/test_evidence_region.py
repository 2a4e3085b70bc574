"""Region with most of the evidence."""

from __future__ import annotations

import numpy as np
import pytest

from audionet.inference.evidence_region import find_region

TIMES = (np.arange(300) + 0.5) / 100


@pytest.mark.parametrize(("rows", "frames"), [((0, 4), (0, 10)), ((100, 128), (280, 300)), ((40, 41), (150, 200))])
def test_the_region_is_where_the_evidence_is(rows: tuple[int, int], frames: tuple[int, int]) -> None:
    relevance = np.full((128, 300), -1e-4, np.float32)
    relevance[slice(*rows), slice(*frames)] = 1
    found = find_region(relevance, TIMES, 10.0 * np.arange(128))
    assert found is not None
    assert rows[0] - 4 <= found.rows[0] < found.rows[1] <= rows[1] + 4
    assert frames[0] - 4 <= found.columns[0] < found.columns[1] <= frames[1] + 4
    assert (found.start, found.end) == (pytest.approx(found.columns[0] / 100), pytest.approx(found.columns[1] / 100))
    assert (found.low, found.high) == (10.0 * found.rows[0], 10.0 * (found.rows[1] - 1))
    held = relevance[slice(*found.rows), slice(*found.columns)].clip(0).sum()
    assert held >= 0.5 * relevance.clip(0).sum()


def test_a_region_in_words() -> None:
    relevance = np.zeros((128, 300), np.float32)
    relevance[60:68, 120:190] = 0.01
    found = find_region(relevance, TIMES, 20.0 * np.arange(128))
    assert found is not None
    time, pitch = found.describe()
    assert time.startswith("1.")
    assert time.endswith(" s")
    assert pitch.startswith("1200 to 1")
    assert find_region(relevance, TIMES, None).describe()[1] == ""  # type: ignore[union-attr]


def test_evidence_everywhere_has_no_region_to_name() -> None:
    found = find_region(np.full((128, 297), 1e-3, np.float32), np.arange(297) / 100, None)
    assert found is not None
    assert found.is_spread
    assert (found.low, found.high) == (None, None)


def test_evidence_that_is_a_detail_of_what_speaks_against_it_has_no_region() -> None:
    relevance = np.full((40, 60), -0.01, np.float32)
    relevance[3, 4] = 1
    assert find_region(relevance, np.arange(60) / 100, None) is None
    assert find_region(-relevance, np.arange(60) / 100, None) is not None
