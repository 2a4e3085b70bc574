from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import LEVELS_A_SECOND, Levels, measure
from audionet.audio.sound_pieces import find_pieces

RATE = 16_000


def levels(decibels: list[float], start: float = 0.0) -> Levels:
    """Of a sound with this level in each 25th of a second."""
    size = RATE // LEVELS_A_SECOND
    squares = size * 10 ** (np.array(decibels, float) / 10)
    return Levels(squares, np.zeros(len(squares)), size * len(squares), -1.0, 1.0, start)


def test_pauses_part_pieces_and_gaps_within_words_do_not() -> None:
    quiet, loud = [-70.0], [-20.0]
    sound = levels(25 * quiet + 20 * loud + 3 * quiet + 20 * loud + 15 * quiet + 25 * loud + 25 * quiet, start=2.0)
    first, second = find_pieces(sound, 3.0)
    assert first == pytest.approx((3.0, 4.72), abs=0.05)
    assert second == pytest.approx((5.32, 6.32), abs=0.05)


def test_speech_without_a_pause_is_cut_where_it_is_quietest() -> None:
    sound = levels(25 * [-70.0] + 55 * [-20.0] + [-40.0] + 44 * [-20.0] + 25 * [-70.0])
    pieces = find_pieces(sound, 3.0)
    assert len(pieces) == 2
    assert pieces[0].end == pieces[1].start == pytest.approx(1 + 55 / 25, abs=0.05)


@given(st.lists(st.floats(-100, 0), max_size=2000), st.floats(0.5, 10))
def test_pieces_are_in_order_and_none_is_too_long(decibels: list[float], longest: float) -> None:
    pieces = find_pieces(levels(decibels), longest)
    times = [time for piece in pieces for time in piece]
    assert times == sorted(times)
    assert all(0.2 < piece.end - piece.start <= longest + 1e-9 for piece in pieces)
    assert not times or times[-1] <= len(decibels) / LEVELS_A_SECOND + 1e-9


def test_of_a_constant_nothing_sounds_and_of_nothing_either(tmp_path: Path) -> None:
    """A cheap recorder's constant is no sound."""
    noise = 1e-3 * np.random.default_rng(0).standard_normal(4 * RATE)
    noise[RATE : 2 * RATE] += 0.1 * np.sin(np.arange(RATE))
    soundfile.write(tmp_path / "x.wav", noise + 0.3, RATE)
    (piece,) = find_pieces(measure(tmp_path / "x.wav", SpectrogramConfig()), 3.0)
    assert piece == pytest.approx((1.0, 2.0), abs=0.1)
    assert find_pieces(levels([]), 3.0) == []
