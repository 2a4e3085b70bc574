"""Comparison of two systems on the same recordings."""

from __future__ import annotations

from typing import NamedTuple

from audionet.metrics.bootstrap import paired_difference
from audionet.utils.arrays import BoolArray


class PairedComparison(NamedTuple):
    """Two systems' right answers on the same recordings.

    Attributes
    ----------
    both, first_only, second_only, neither : int
        Number of recordings that both, one or neither of the systems answers rightly.
    difference, low, high : float
        Accuracy of the second less that of the first, with its 95 % paired bootstrap interval over recordings.
    p_value : float
        Of McNemar's exact test: probability of a difference as large between systems of equal accuracy.
    """

    both: int
    first_only: int
    second_only: int
    neither: int
    difference: float
    low: float
    high: float
    p_value: float

    @property
    def recordings(self) -> int:
        """Number of recordings."""
        return self.both + self.first_only + self.second_only + self.neither


def compare_paired(first: BoolArray, second: BoolArray) -> PairedComparison:
    """Compare two systems on the same recordings (McNemar, 1947; the exact test, as discordant pairs are few).

    Parameters
    ----------
    first, second : ndarray of bool, shape (recordings,), at least one
        Which recordings each system answers rightly.
    """
    from scipy.stats import binomtest

    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    names = [str(number) for number in range(len(first))]
    difference, low, high = paired_difference([(second, first, names)], seed=0)
    return PairedComparison(
        int((first & second).sum()),
        lost,
        gained,
        int((~first & ~second).sum()),
        difference,
        low,
        high,
        float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0,
    )
