"""Pieces of a recording between pauses, by the level of the sound."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from audionet.audio.recording import LEVELS_A_SECOND, Levels
from audionet.utils.arrays import BoolArray, Float64Array

_SHORTEST_SECONDS = 0.24
_BRIDGED_SECONDS = 0.16  # pauses within words and between them
_BELOW_LOUD_DB = 30.0  # the level of speech falls so far between loud and quiet syllables
_ABOVE_NOISE_DB = 6.0
_LOUD, _QUIET = 95, 5  # percentiles of the level over some minutes: speech, and the noise between
_MINUTES = 2.0  # over which loud and quiet are found: speakers and microphones change
_EDGE = 0.3  # share of a long piece, at either end, in which it is not cut


class Piece(NamedTuple):
    """Piece of a recording, seconds on its clock."""

    start: float
    end: float


def find_pieces(levels: Levels, longest: float) -> list[Piece]:
    """Find the pieces of sound between pauses; where nobody pauses for so long, they are cut at their quietest moments.

    Parameters
    ----------
    levels : Levels
        Of the whole recording.
    longest : float
        Length that no piece exceeds, seconds.
    """
    if not levels.samples:
        return []
    level = _decibels(levels)
    shortest, most = round(_SHORTEST_SECONDS * LEVELS_A_SECOND), int(longest * LEVELS_A_SECOND)
    found: list[tuple[int, int]] = []
    for begin, end in _runs(_is_sounding(level), round(_BRIDGED_SECONDS * LEVELS_A_SECOND)):
        found += _cut(level, begin, end, most)
    return [
        Piece(levels.start + begin / LEVELS_A_SECOND, levels.start + end / LEVELS_A_SECOND)
        for begin, end in found
        if end - begin >= shortest
    ]


def _decibels(levels: Levels) -> Float64Array:
    """Return the level of each 25th of a second, smoothed over three of them, dB."""
    size = levels.samples / len(levels.squares)
    power = levels.without_constant(size) / size
    smooth = np.convolve(power, np.full(3, 1 / 3), "same")[: len(power)]
    level: Float64Array = 10 * np.log10(smooth + 1e-10)
    return level


def _is_sounding(level: Float64Array) -> BoolArray:
    """Return where the level is near that of speech, and above that of the noise, of the minutes around."""
    size = round(60 * _MINUTES * LEVELS_A_SECOND)
    sounding = np.zeros(len(level), bool)
    for begin in range(0, len(level), size):
        around = level[max(0, begin - size // 2) : begin + size + size // 2]
        loud, quiet = np.percentile(around, [_LOUD, _QUIET])
        least = max(loud - _BELOW_LOUD_DB, min(quiet + _ABOVE_NOISE_DB, loud - _ABOVE_NOISE_DB))
        sounding[begin : begin + size] = level[begin : begin + size] > least
    return sounding


def _runs(sounding: BoolArray, bridged: int) -> list[tuple[int, int]]:
    """Return the begin and end of each run of True, with gaps of up to `bridged` closed."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], sounding, [False]])))
    runs: list[tuple[int, int]] = []
    for begin, end in edges.reshape(-1, 2).tolist():
        if runs and begin - runs[-1][1] <= bridged:
            runs[-1] = (runs[-1][0], end)
        else:
            runs.append((begin, end))
    return runs


def _cut(level: Float64Array, begin: int, end: int, most: int) -> list[tuple[int, int]]:
    """Cut a run at its quietest moments until no part is longer than `most`."""
    waiting, found = [(begin, end)], []
    while waiting:
        begin, end = waiting.pop()
        if end - begin <= most:
            found.append((begin, end))
            continue
        low, high = begin + round(_EDGE * (end - begin)), end - round(_EDGE * (end - begin))
        middle = low + int(level[low:high].argmin())
        waiting += [(middle, end), (begin, middle)]
    return found
