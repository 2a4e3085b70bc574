"""Spool of uploads: bounded in number and in bytes, each at a least rate, with equal shares for all clients.

An upload takes no place in the workers' queue before its body is there, so that connections that only announce one, or
send it byte by byte, keep nobody waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator

from starlette.types import Message, Receive

from audionet.serving.problems import ProblemError

LEAST_RATE = 1024
"""Bytes that must arrive every second, on average."""

GRACE_SECONDS = 10.0
"""Time by which an upload may be behind the least rate."""


class Body:
    """Body of a request that is arriving, and then stored.

    Parameters
    ----------
    spool : Spool
    client : str
    seconds : float
        Time limit.
    """

    def __init__(self, spool: Spool, client: str, seconds: float) -> None:
        self.client = client
        self.size = 0
        self._spool = spool
        self._began = asyncio.get_running_loop().time()
        self._seconds = seconds
        self._is_displaced = False
        self._deadline = asyncio.timeout_at(self._due())

    def _due(self) -> float:
        return self._began + min(self._seconds, GRACE_SECONDS + self.size / LEAST_RATE)

    def behind(self, now: float) -> float:
        """Return by how many seconds it is behind the least rate; negative if it is ahead."""
        return now - self._began - self.size / LEAST_RATE

    def displace(self) -> None:
        """End its arrival, to make room for others."""
        self._is_displaced = True
        if not self._deadline.expired():
            self._deadline.reschedule(0.0)

    @contextlib.asynccontextmanager
    async def arriving(self) -> AsyncIterator[None]:
        """Limit the time in which the body arrives to that of the block.

        Raises
        ------
        ProblemError
            If it takes too long, or had to make room for others.
        """
        try:
            async with self._deadline:
                self._spool.enter(self)
                yield
        except TimeoutError:
            raise self._problem() from None
        finally:
            self._spool.leave(self)

    def _problem(self) -> ProblemError:
        if self._is_displaced:
            return ProblemError.busy("too many uploads are arriving, and this is one of the slowest; try again later")
        if self._due() < self._began + self._seconds:
            return ProblemError(408, f"the upload is slower than {LEAST_RATE} bytes a second")
        return ProblemError(408, f"the upload took longer than {self._seconds:g} s")

    def counted(self, receive: Receive) -> Receive:
        """Return a function that receives a request's messages, and counts the bytes of the body."""

        async def receive_counted() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            self.size += size
            self._spool.add(self, size)
            if not (self._is_displaced or self._deadline.expired()):
                self._deadline.reschedule(self._due())
            return message

        return receive_counted


class Spool:
    """All bodies that are arriving or stored.

    If too many are arriving, one of the client with most of them makes room: the one that is furthest behind the least
    rate. If all that are arriving or stored are too large, the largest one that is arriving makes room, of the client
    whose bodies are largest together.

    Parameters
    ----------
    places : int
        Maximum number of bodies that arrive at a time.
    max_bytes : int
        Maximum size of all bodies that arrive or are stored.
    seconds : float
        Time limit for the arrival of a body.
    """

    def __init__(self, places: int, max_bytes: int, seconds: float) -> None:
        self._places = places
        self._max_bytes = max_bytes
        self._seconds = seconds
        self._sizes: Counter[str] = Counter()  # bytes that are held, by client
        self._arriving: set[Body] = set()

    def __len__(self) -> int:
        """Return the number of bodies that are arriving."""
        return len(self._arriving)

    @contextlib.asynccontextmanager
    async def body(self, client: str) -> AsyncIterator[Body]:
        """Hold a client's body, as far as it has arrived, for the duration of the block."""
        body = Body(self, client, self._seconds)
        try:
            yield body
        finally:
            self._remove(body)

    def enter(self, body: Body) -> None:
        """Let a body arrive; another one makes room for it if there are too many."""
        if len(self._arriving) >= self._places:
            now, number = asyncio.get_running_loop().time(), Counter(other.client for other in self._arriving)
            self._displace(max(self._arriving, key=lambda other: (number[other.client], other.behind(now))))
        self._arriving.add(body)

    def leave(self, body: Body) -> None:
        """Take note that a body is complete, or that its arrival has failed."""
        self._arriving.discard(body)

    def add(self, body: Body, size: int) -> None:
        """Add the size of a part of a body that has arrived."""
        self._sizes[body.client] += size
        if self._sizes.total() > self._max_bytes and self._arriving:
            self._displace(max(self._arriving, key=lambda other: (self._sizes[other.client], other.size)))

    def _displace(self, body: Body) -> None:
        self._arriving.discard(body)
        self._remove(body)
        body.displace()

    def _remove(self, body: Body) -> None:
        self._sizes[body.client] -= body.size
        body.size = 0
        if not self._sizes[body.client]:
            del self._sizes[body.client]
