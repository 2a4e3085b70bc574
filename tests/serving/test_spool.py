"""Uploads that arrive: how fast they have to, and which of them makes room."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from starlette.types import Message

from audionet.serving.problems import ProblemError
from audionet.serving.spool import GRACE_SECONDS, LEAST_RATE, Spool
from tests.support.clock import run_without_waiting


async def upload(to: Spool, client: str, parts: Sequence[int], pause: float, hold: float = 0.0) -> int:
    """Send parts of some sizes with a pause before each, and keep what was sent for a while."""

    async def receive() -> Message:
        await asyncio.sleep(pause)
        return {"type": "http.request", "body": bytes(parts[arrived]), "more_body": True}

    async with to.body(client) as body:
        async with body.arriving():
            for arrived in range(len(parts)):  # noqa: B007 -- receive() reads it
                await body.counted(receive)()
        await asyncio.sleep(hold)
        return body.size


def outcomes(to: Spool, *uploads: tuple[str, Sequence[int], float]) -> list[object]:
    """Sizes of uploads that begin one after the other, or what they are refused with."""

    async def all_of_them() -> list[object]:
        tasks = []
        for client, parts, pause in uploads:
            tasks.append(asyncio.ensure_future(upload(to, client, parts, pause)))
            await asyncio.sleep(0.02)
        found = await asyncio.gather(*tasks, return_exceptions=True)
        assert len(to) == 0
        assert not to._sizes
        return [str(one) if isinstance(one, ProblemError) else one for one in found]

    return run_without_waiting(all_of_them())


def test_an_upload_at_the_least_rate_arrives_whole() -> None:
    assert outcomes(Spool(2, 10**6, 60.0), ("a", [LEAST_RATE] * 50, 1.0)) == [50 * LEAST_RATE]
    assert outcomes(Spool(2, 10**6, 60.0), ("a", [20 * LEAST_RATE], GRACE_SECONDS - 0.1)) == [20 * LEAST_RATE]


@pytest.mark.parametrize("parts", [[1] * 100, [0] * 100, [10_000, *[1] * 100], [LEAST_RATE // 2] * 100])
def test_an_upload_slower_than_the_least_rate_is_refused(parts: list[int]) -> None:
    assert outcomes(Spool(2, 10**6, 60.0), ("a", parts, 1.0)) == [
        f"the upload is slower than {LEAST_RATE} bytes a second"
    ]


def test_no_upload_may_last_for_ever() -> None:
    assert outcomes(Spool(2, 10**9, 60.0), ("a", [10_000] * 100, 1.0)) == ["the upload took longer than 60 s"]


def test_the_one_that_is_furthest_behind_makes_room() -> None:
    announced, quick, third = outcomes(
        Spool(2, 10**6, 60.0), ("a", [1], 0.2), ("a", [5000, 1], 0.03), ("a", [10], 0.01)
    )
    assert "one of the slowest" in str(announced)
    assert (quick, third) == (5001, 10)


def test_the_client_with_most_uploads_makes_room() -> None:
    slow, *greedy = outcomes(Spool(3, 10**6, 60.0), ("a", [1], 0.2), *[("b", [1], 0.1)] * 2, ("c", [1], 0.1))
    assert slow == 1
    assert sum("one of the slowest" in str(one) for one in greedy) == 1
    assert greedy[2] == 1


def test_the_largest_makes_room_where_all_are_too_large() -> None:
    large, small, third = outcomes(
        Spool(9, 10_000, 60.0), ("a", [8000, 1000], 0.05), ("a", [500, 500], 0.05), ("a", [3000], 0.05)
    )
    assert "too many uploads" in str(large)
    assert (small, third) == (1000, 3000)


def test_one_byte_too_many_displaces_one_alone() -> None:
    to = Spool(99, 10_000, 60.0)
    large, *others = outcomes(to, ("a", [9000, 1], 1.0), *[("a", [550, 1], 1.0)] * 10)
    assert "too many uploads" in str(large)
    assert others == [551] * 10


def test_an_upload_whose_time_is_over_in_the_moment_of_being_displaced_harms_no_other() -> None:
    async def ask() -> list[object]:
        to = Spool(1, 10**6, 5.0)
        first = asyncio.ensure_future(upload(to, "a", [0] * 9, 1.0))
        await asyncio.sleep(5.0)
        second = await upload(to, "a", [7], 1.0)
        return [*await asyncio.gather(first, return_exceptions=True), second]

    over, second = run_without_waiting(ask())
    assert isinstance(over, ProblemError)
    assert second == 7


def test_what_has_arrived_counts_until_it_is_gone() -> None:
    async def ask() -> list[object]:
        to = Spool(9, 10_000, 60.0)
        held = asyncio.ensure_future(upload(to, "a", [9000], 0.0, hold=0.2))
        await asyncio.sleep(0.05)
        with pytest.raises(ProblemError, match="too many uploads"):
            await upload(to, "a", [2000, 1], 0.0)
        assert await held == 9000
        return [await upload(to, "a", [2000], 0.0)]

    assert run_without_waiting(ask()) == [2000]
