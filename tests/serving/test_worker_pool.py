"""Turns and places of clients in the queue for workers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.errors import BusyError
from audionet.serving.worker_pool import Worker, WorkerPool


class Idle(Worker):
    """A worker without a process."""

    def __init__(self) -> None:
        self.busy = False

    @property
    def has_exited(self) -> bool:
        return False

    async def kill(self) -> None: ...


class Queue:
    """A pool of one worker, and what becomes of the requests of its clients."""

    def __init__(self, places: int) -> None:
        self.pool = WorkerPool(1, 1024, places)
        self.pool._put(Idle())
        self.served: list[str] = []
        self.refused: list[str] = []
        self.go_on = asyncio.Event()

    async def ask(self, client: str) -> None:
        """Ask as an upload does that takes no time: it is refused at its beginning."""
        if self.pool.is_full(client):
            self.refused.append(client)
        else:
            await self.ask_at_the_end(client)

    async def ask_at_the_end(self, client: str) -> None:
        """Ask as an upload does that began before the queue was full."""
        try:
            async with self.pool.acquire(60, client):
                self.served.append(client)
                await self.go_on.wait()
        except BusyError:
            self.refused.append(client)


def run(places: int, clients: Sequence[str], after: Callable[[Queue], Awaitable[None]] | None = None) -> Queue:
    """Let clients ask one after the other while the worker is at work for the first of them."""

    async def ask() -> Queue:
        queue = Queue(places)
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(queue.ask(client))
                await asyncio.sleep(0)
            if after is not None:
                await after(queue)
            queue.go_on.set()
        assert len(queue.pool) == 0
        assert not queue.pool._waiting
        assert len(queue.pool._free) == 1
        return queue

    return asyncio.run(ask())


def test_clients_take_turns() -> None:
    assert run(64, "aaaabbc").served == list("aabcaba")


def test_a_client_alone_is_served_in_order_and_refused_at_the_end() -> None:
    queue = run(3, "aaaaa")
    assert (queue.served, queue.refused) == (list("aaa"), list("aa"))


def test_uploads_that_were_let_in_are_served_up_to_twice_the_places() -> None:
    async def ask() -> Queue:
        queue = Queue(3)
        tasks = [asyncio.ensure_future(queue.ask_at_the_end("a")) for _ in range(8)]
        await asyncio.sleep(0)
        queue.go_on.set()
        await asyncio.gather(*tasks)
        return queue

    queue = asyncio.run(ask())
    assert (queue.served, queue.refused) == (list("aaaaaa"), list("aa"))


def test_a_client_with_fewer_places_takes_one_of_the_client_with_most() -> None:
    queue = run(4, "aaaabbbb")
    assert sorted(queue.served) == list("aabb")
    assert sorted(queue.refused) == list("aabb")


def test_it_is_full_for_those_who_would_be_refused() -> None:
    async def look(queue: Queue) -> None:
        assert queue.pool.is_full("a")
        assert not queue.pool.is_full("b")

    run(4, "aaaa", look)


def test_who_leaves_the_queue_gives_up_the_place() -> None:
    async def ask() -> None:
        queue = Queue(2)
        first, second = (asyncio.ensure_future(queue.ask("a")) for _ in range(2))
        await asyncio.sleep(0)
        assert queue.pool.is_full("a")
        second.cancel()
        await asyncio.wait([second])
        assert not queue.pool.is_full("a")
        queue.go_on.set()
        await first
        await queue.ask("a")
        assert queue.served == ["a", "a"]

    asyncio.run(ask())


def test_who_leaves_at_the_moment_of_the_turn_passes_it_on() -> None:
    async def ask() -> None:
        queue = Queue(3)
        tasks = [asyncio.ensure_future(queue.ask(client)) for client in "abc"]
        await asyncio.sleep(0)
        queue.pool._put(Idle())  # it is b's from now on, who has not taken note of it
        tasks[1].cancel()
        queue.go_on.set()
        await asyncio.wait(tasks)
        assert queue.served == ["a", "c"]
        assert len(queue.pool._free) == 2

    asyncio.run(ask())


def test_who_leaves_at_the_moment_of_being_displaced_costs_no_worker() -> None:
    async def ask() -> None:
        queue = Queue(3)
        tasks = [asyncio.ensure_future(queue.ask("a")) for _ in range(3)]
        await asyncio.sleep(0)
        tasks.append(asyncio.ensure_future(queue.ask("b")))
        tasks[2].cancel()  # it takes note of that only after b has asked
        queue.go_on.set()
        await asyncio.wait(tasks)
        assert queue.served == ["a", "a", "b"]
        assert len(queue.pool._free) == 1

    asyncio.run(ask())


@given(st.integers(1, 6), st.lists(st.sampled_from("abc"), min_size=1, max_size=20))
def test_no_request_is_lost_and_places_are_shared(places: int, clients: list[str]) -> None:
    queue = run(places, clients)
    assert sorted(queue.served + queue.refused) == sorted(clients)
    assert len(queue.served) == min(places, len(clients))
    for client in set(queue.refused):  # one that was refused has about as many places as any other
        others = max(queue.served.count(other) for other in set(clients))
        assert queue.served.count(client) >= others - 1 or places == 1


def test_patience_ends() -> None:
    async def ask() -> None:
        queue = Queue(8)
        async with queue.pool.acquire(10):
            with pytest.raises(BusyError, match="try again later"):
                async with queue.pool.acquire(0.01):
                    pass
        queue.go_on.set()
        await queue.ask("a")
        assert queue.served == ["a"]

    asyncio.run(ask())
