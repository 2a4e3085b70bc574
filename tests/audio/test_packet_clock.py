"""Frames on the clock of their container."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.packet_clock import DamagedFrames, PacketClock

FRAME = 960
RATE = 48_000


def place(clock: PacketClock, times: list[float | None]) -> list[int]:
    """Return the number of the first sample of each frame."""
    places = []
    for time in times:
        clock.position += clock.gap(time)
        places.append(clock.position)
        clock.position += FRAME
    return places


@given(
    begin=st.floats(-1, 1e6),
    pauses=st.lists(st.sampled_from([0.0, 0.0, 0.2, 1.0, 30.0]), min_size=1, max_size=30),
    jitter=st.lists(st.floats(-0.0005, 0.0005), min_size=30, max_size=30),
)
def test_every_frame_lies_where_its_time_says(begin: float, pauses: list[float], jitter: list[float]) -> None:
    times, now = [], begin
    for pause, error in zip(pauses, jitter, strict=False):
        now += pause
        times.append(now + error)
        now += FRAME / RATE
    places = place(PacketClock(RATE, trusted=True), list(times))
    for found, time in zip(places, times, strict=True):
        assert found / RATE == pytest.approx(time - times[0], abs=0.062)


@given(times=st.lists(st.none() | st.floats(-1e12, 1e12), min_size=1, max_size=50), trusted=st.booleans())
def test_no_time_loses_a_frame_or_leaves_out_more_than_a_day(times: list[float | None], trusted: bool) -> None:
    places = place(PacketClock(RATE, trusted), times)
    assert places == sorted(set(places))
    assert places[-1] <= 24 * 3600 * RATE + len(times) * FRAME


def test_without_a_clock_frames_follow_each_other() -> None:
    assert place(PacketClock(RATE, trusted=False), [0.0, 5.0, 1.0]) == [0, FRAME, 2 * FRAME]


def test_a_lost_frame_leaves_its_length() -> None:
    for trusted in (False, True):
        clock = PacketClock(RATE, trusted)
        place(clock, [0.0])
        clock.lose(FRAME / RATE)
        assert place(clock, [2 * FRAME / RATE]) == [2 * FRAME]


def test_frames_after_a_jump_backwards_follow_and_keep_their_distances() -> None:
    assert place(PacketClock(RATE, trusted=True), [0.0, 100.0, 0.0, 0.02, 1.02]) == [
        0,
        100 * RATE,
        100 * RATE + FRAME,
        100 * RATE + 2 * FRAME,
        100 * RATE + FRAME + round(1.02 * RATE),
    ]


def test_reading_from_the_middle_begins_where_the_first_frame_lies() -> None:
    clock = PacketClock(RATE, trusted=True, first=0.5, sought=True)
    clock.gap(10.5)
    assert clock.position == 10 * RATE


def test_damage_is_counted_with_its_place() -> None:
    damaged = DamagedFrames()
    damaged.add(5.0, 0)
    assert damaged.remarks() == []
    damaged.add(12.3)
    damaged.add(12.9, 2)
    assert damaged.remarks() == ["3 damaged frames at 0:12"]
    damaged.add(3723)
    assert damaged.remarks() == ["4 damaged frames from 0:12 to 1:02:03"]
