"""Region of a relevance map: the smallest rectangle that holds most of the evidence."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from audionet.utils.arrays import Float64Array, FloatArray

_SHARE = 0.5  # of the evidence that the region holds
_WIDEST = 0.35  # share of the map; evidence without a place fills half of it
_LEAST = 0.02  # log-odds or score: less is the network's arithmetic
_LEAST_OF_NEGATIVE = 0.1  # share of the evidence against; less is a detail
_MOST_ROWS, _MOST_COLUMNS = 32, 96


class EvidenceRegion(NamedTuple):
    """Rectangle with half of the evidence.

    Attributes
    ----------
    start, end : float
        Seconds.
    low, high : float or None
        Hz; None if rows have no frequencies.
    rows, columns : (int, int)
        First row and frame, and the one after the last.
    share : float
        Of the map's area, 0 to 1.
    """

    start: float
    end: float
    low: float | None
    high: float | None
    rows: tuple[int, int]
    columns: tuple[int, int]
    share: float

    @property
    def is_spread(self) -> bool:
        """True if the evidence is all over the map, so that the rectangle says nothing."""
        return self.share > _WIDEST

    def describe(self, in_seconds: bool = True) -> tuple[str, str]:
        """Format the times, such as "1.2 to 1.9 s", and the frequencies, "300 to 900 Hz", or "" if there are none."""
        start, end = max(0.0, self.start), self.end
        time = f"{start:.1f} to {end:.1f} s" if in_seconds else f"frames {start:.0f} to {end:.0f}"
        if self.low is None or self.high is None:
            return time, ""
        return time, f"{_rounded(self.low)} to {_rounded(self.high)} Hz"


def find_region(relevance: FloatArray, times: Float64Array, frequencies: Float64Array | None) -> EvidenceRegion | None:
    """Find the smallest rectangle with half of the positive relevance; None if there is none to speak of.

    Parameters
    ----------
    relevance : ndarray of float32, shape (rows, frames)
    times : ndarray of float64, shape (frames,)
    frequencies : ndarray of float64, shape (rows,), or None
    """
    positive = float(np.maximum(relevance, 0).sum())
    if positive < max(_LEAST, _LEAST_OF_NEGATIVE * (positive - float(relevance.sum()))):
        return None
    rows, columns = (_edges(n, most) for n, most in zip(relevance.shape, (_MOST_ROWS, _MOST_COLUMNS), strict=True))
    total = np.pad(np.maximum(relevance, 0).astype(np.float64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    total = total[np.ix_(rows, columns)]
    low, high = np.triu_indices(len(rows), 1)
    left, right = np.triu_indices(len(columns), 1)
    strips = total[high] - total[low]
    inside = strips[:, right] - strips[:, left]
    area = np.multiply.outer(rows[high] - rows[low], columns[right] - columns[left])
    best = np.where(inside >= _SHARE * total[-1, -1], area, area.max() + 1).argmin()
    row, column = np.unravel_index(best, area.shape)
    bottom, top = rows[low[row]], rows[high[row]]
    start, end = columns[left[column]], columns[right[column]]
    half = 0.5 * float(times[1] - times[0]) if len(times) > 1 else 0.5
    return EvidenceRegion(
        float(times[start]) - half,
        float(times[end - 1]) + half,
        None if frequencies is None else float(frequencies[bottom]),
        None if frequencies is None else float(frequencies[top - 1]),
        (int(bottom), int(top)),
        (int(start), int(end)),
        float(area[row, column] / relevance.size),
    )


def _edges(length: int, most: int) -> np.ndarray:
    """Divide an axis into at most `most` parts; returns their edges."""
    return np.linspace(0, length, min(length, most) + 1).round().astype(np.int64)


def _rounded(frequency: float) -> int:
    """Round a frequency to two significant digits."""
    return int(float(f"{frequency:.1e}"))
