"""Rejection rule: below which score a clip is answered unknown, and what a score says about single windows."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from audionet.utils.arrays import BoolArray, FloatArray, IntArray
from audionet.utils.json_files import real

SEGMENT_CHUNKS = 4
"""Chunks of a segment, which is scored as a clip would be; a longer recording counts as several segments."""


_LEAST_SLOPE, _HIGHEST = 1e-6, 1e6  # fitted thresholds are about 1, and slopes 2 to 40


class KnownOdds(NamedTuple):
    """Logarithm of the odds of a known speaker: 0 at the threshold, and steeper or less with the score.

    Attributes
    ----------
    threshold : float
    slope : float
    lone : float or None
        Threshold of a moment that a single window covers, which has no better one to be judged by; None: the same.
    """

    threshold: float
    slope: float
    lone: float | None = None

    def of(self, score: float, coverage: float) -> float:
        """Return the logarithm of the odds at a score.

        Parameters
        ----------
        score : float
        coverage : float
            Share of the windows that may cover a moment, beyond the first, which do; 0 to 1.
        """
        lone = self.threshold if self.lone is None else self.lone
        return self.slope * (score - (lone + (self.threshold - lone) * coverage))


@dataclass(frozen=True)
class RejectionRule:
    """Lowest scores that are accepted.

    The mean score of several chunks varies less than that of one, so that each has its own threshold.

    Attributes
    ----------
    several : float
        For clips of `SEGMENT_CHUNKS` chunks or more.
    single : float
        For a single chunk.
    window : float
        For the best of the overlapping windows that cover a moment of a timeline.
    slope : float
        Logarithm of the odds of a known speaker, of a single window, gained by a score that is higher by 1.
    """

    several: float
    single: float
    window: float
    slope: float

    def threshold(self, chunks: float) -> float:
        """Return the threshold of a clip of so many chunks: between the two as the spread of a mean is."""
        last = 1 / math.sqrt(SEGMENT_CHUNKS)
        place = (1 / math.sqrt(min(max(chunks, 1.0), SEGMENT_CHUNKS)) - last) / (1 - last)
        return self.several + (self.single - self.several) * place

    def accepts(self, scores: FloatArray, chunks: IntArray) -> BoolArray:
        """Return which clips are accepted.

        Parameters
        ----------
        scores : ndarray of float32, shape (n,)
        chunks : ndarray of int64, shape (n,)
            Number of chunks of each clip.
        """
        return np.array(scores >= [self.threshold(number) for number in chunks], bool)

    def odds(self, chunks: float) -> KnownOdds:
        """Return the odds of the chunks of a clip of so many: on the whole, they decide as the threshold does."""
        return KnownOdds(self.threshold(chunks), self.slope)

    @property
    def window_odds(self) -> KnownOdds:
        """The odds of the moments of a timeline, which several windows cover."""
        return KnownOdds(self.window, self.slope, self.single)

    def as_json(self) -> dict[str, float]:
        """Return the rule in the form that `from_json` reads."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, content: Any) -> RejectionRule | None:
        """Read the rule from a model's JSON; None where the model never answers unknown.

        Raises
        ------
        DamagedError
            If it is not a rule.
        """
        if content is None:
            return None
        several, single, window = (real(content, name, -_HIGHEST, _HIGHEST) for name in ("several", "single", "window"))
        return cls(several, single, window, real(content, "slope", _LEAST_SLOPE, _HIGHEST))
