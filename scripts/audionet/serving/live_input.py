"""Live sound as clients send it: 16-bit samples, Opus packets, or an Ogg Opus stream."""

from __future__ import annotations

import abc
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Literal

import numpy as np

from audionet.audio.opus import OPUS_RATE, OggOpus, ogg_file, packet_samples
from audionet.errors import RecordingError
from audionet.serving.problems import ProblemError
from audionet.utils.arrays import Int16Array

LiveFormat = Literal["s16le", "opus", "ogg"]

Decode = Callable[[bytes], Awaitable[Int16Array]]
"""Decodes an Ogg Opus file in a worker: mono samples at 48 kHz."""

_DECODED = round(0.2 * OPUS_RATE)  # samples at a time
_MOST_PACKETS = 500  # at a time: a message can hold 100,000, which would block the event loop, and last for hours
_WARM_UP = round(0.08 * OPUS_RATE)  # samples after which any decoder is exact (RFC 7845, section 4.6)


class LiveInput(abc.ABC):
    """Turns a client's messages into samples.

    Attributes
    ----------
    rate : int
        Of the samples, Hz.
    """

    rate: int

    @abc.abstractmethod
    def add(self, message: bytes) -> AsyncIterator[Int16Array]:
        """Add a message; yield the mono samples that are complete, perhaps none.

        Raises
        ------
        ProblemError
            If the message is not in the format that was announced.
        """

    async def finish(self) -> Int16Array:
        """Return the remaining samples."""
        return np.zeros(0, np.int16)


class PcmInput(LiveInput):
    """16-bit samples, little-endian, mono."""

    def __init__(self, rate: int) -> None:
        self.rate = rate

    async def add(self, message: bytes) -> AsyncIterator[Int16Array]:
        if len(message) % 2:
            raise ProblemError(400, "a message ends within a sample; send whole 16-bit samples, little-endian, mono")
        yield np.frombuffer(message, "<i2").astype(np.int16)


class OpusInput(LiveInput):
    """Opus packets, each a message, or as an Ogg stream that is cut anywhere.

    The packets are decoded some at a time, each time after those before them, so that no decoder needs to be kept.

    Parameters
    ----------
    decode : callable
    is_ogg : bool
    """

    rate = OPUS_RATE

    def __init__(self, decode: Decode, is_ogg: bool) -> None:
        self._decode = decode
        self._ogg = OggOpus() if is_ogg else None
        self._decoded: deque[tuple[bytes, int]] = deque()  # the last packets, and their durations
        self._waiting: list[tuple[bytes, int]] = []

    async def add(self, message: bytes) -> AsyncIterator[Int16Array]:
        for packet in self._packets(message):
            self._waiting.append(packet)
            if len(self._waiting) >= _MOST_PACKETS:
                yield await self.finish()
        if _duration(self._waiting) >= _DECODED:
            yield await self.finish()

    def _packets(self, message: bytes) -> Iterator[tuple[bytes, int]]:
        packets: Iterable[bytes] = [message] if self._ogg is None else self._ogg.add(message)
        try:
            for packet in packets:
                yield packet, packet_samples(packet)
        except RecordingError as error:
            raise ProblemError(400, f"the sound {error}; the formats are s16le, opus and ogg") from None

    async def finish(self) -> Int16Array:
        if not self._waiting:
            return np.zeros(0, np.int16)
        samples = await self._decode(ogg_file([packet for packet, _ in (*self._decoded, *self._waiting)]))
        new = samples[-_duration(self._waiting) :]
        self._decoded.extend(self._waiting)
        self._waiting = []
        while _duration(self._decoded) - self._decoded[0][1] >= _WARM_UP:
            self._decoded.popleft()
        return new


def _duration(packets: Iterable[tuple[bytes, int]]) -> int:
    return sum(samples for _, samples in packets)
