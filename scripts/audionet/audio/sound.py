"""Sound open for reading: mono blocks, mixed from the channels of any reader and levelled."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, NamedTuple, Protocol

import numpy as np

from audionet.audio.samples import SILENCE_PEAK
from audionet.errors import RecordingError
from audionet.utils.arrays import FloatArray

SAMPLE_RATES = range(1_000, 1_000_001)
"""Sample rates of sounds that can be read, Hz."""

PEAK_LIMIT = 10 ** (-1 / 20)
"""Highest sample that levelling gives: 1 dB below full scale."""

ChannelChoice = int | Literal["auto", "mean"]
"""Channel to read, from 1, or the mean of all; "auto" is the mean except where the channels cancel each other."""

ChannelSetting = ChannelChoice | Literal["split"]
"""Channel that a user asks for; "split" is each channel as a recording of its own."""

_SEGMENT_VALUES = 1 << 18  # samples of all channels, at most, for which the channels are mixed in one way
_CANCELLED = 0.05  # of the power that the mean of unrelated channels has: 13 dB less
_LOUDER = 2.0  # times the power of the first channel, to be preferred to it
_TOLERATED_LOSS = 0.25  # seconds that a file may lack of what its header states: its last block, a rounded estimate
_LARGEST = 1e12  # what floats are clipped to, so that sums of their squares do not overflow
_INTEGER_SCALES = (2.0**15, 2.0**23, 2.0**31)


class Reader(Protocol):
    """Decoder of one sound.

    Attributes
    ----------
    rate : int
        Samples a second.
    channels : int
    frames : int or None
        Samples a channel that the header states; None if it does not.
    start : float
        Time of the first sample on the container's clock, seconds; final once blocks have been read.
    can_seek : bool
        True if `blocks` may begin elsewhere than at 0 without decoding what comes before.
    is_float : bool
        True if samples are stored as floats, so that they may exceed full scale, or be no numbers.
    remarks : list of str
        What a user should know of the file although its sound is used; grows while it is read.
    """

    rate: int
    channels: int
    frames: int | None
    can_seek: bool
    is_float: bool
    remarks: list[str]

    @property
    def start(self) -> float:
        """See above."""
        ...

    def blocks(self, start: int = 0) -> Iterator[FloatArray]:
        """Yield the samples from sample `start` to the end, in blocks of any length, shape (n, channels).

        Raises
        ------
        RecordingError
            After the last decodable block, if the sound is incomplete; every block yielded is intact.
        """
        ...


class Level(NamedTuple):
    """Peak of a mono mix, and whether the samples of all channels are whole numbers."""

    peak: float
    whole: bool


class Sound:
    """Sound open for reading, mixed to mono.

    Parameters
    ----------
    reader : Reader
    channel : int, "auto" or "mean"
    find_level : callable, optional
        Gives the level of samples stored as floats, if it may be known; default: `measure`.

    Attributes
    ----------
    reader : Reader
    rate, channels, frames, start, can_seek, remarks
        Of the reader.
    """

    def __init__(
        self, reader: Reader, channel: ChannelChoice = "auto", find_level: Callable[[], Level] | None = None
    ) -> None:
        self.reader = reader
        self._channel = channel
        self._used: set[int] = set()  # channels that were used alone
        self.rate = reader.rate
        self.channels = reader.channels
        self.frames = reader.frames
        self.can_seek = reader.can_seek
        self.remarks = reader.remarks
        self._find_level = find_level or self.measure
        if self.rate not in SAMPLE_RATES:
            raise RecordingError(f"has an impossible sample rate, {self.rate} Hz")
        if isinstance(channel, int) and 1 < self.channels < channel:
            raise RecordingError(f"has {self.channels} channels, so none with the number {channel}")

    @property
    def start(self) -> float:
        """Time of the first sample on the container's clock, seconds; final once `mono` has yielded a block."""
        return self.reader.start

    def mono(self, start: int = 0) -> Iterator[FloatArray]:
        """Yield blocks of float32, of any length, from sample `start` to the end.

        Samples stored as floats are levelled: whole numbers above 1 are integers that were not scaled, and any other
        sound above full scale is lowered to `PEAK_LIMIT`, before anything clips it.

        Raises
        ------
        RecordingError
            After the last decodable block, if the sound is incomplete; every block yielded is intact.
        """
        gain = self.gain
        for block in self._mixed(start):
            yield block if gain == 1.0 else block * np.float32(gain)

    def measure(self) -> Level:
        """Measure the level of the whole mono mix."""
        peak, whole = 0.0, True
        with contextlib.suppress(RecordingError):  # reading the sound reaches the same damage and reports it
            for segment in self._segments(0):
                peak = max(peak, float(np.abs(self._mix(segment)).max()))
                whole = whole and not (segment % 1).any()
        return Level(peak, whole)

    @functools.cached_property
    def gain(self) -> float:
        """Factor by which samples stored as floats are levelled; finding it may take decoding them all."""
        if not self.reader.is_float:
            return 1.0
        level = self._find_level()
        if level.peak <= 1:
            return 1.0
        if level.whole and level.peak <= _INTEGER_SCALES[-1]:
            return 1 / next(scale for scale in _INTEGER_SCALES if level.peak <= scale)
        return PEAK_LIMIT / level.peak

    def _mixed(self, start: int) -> Iterator[FloatArray]:
        """Yield mono blocks from sample `start`, each mixed in one way; which way depends on no other."""
        length = segment_length(self.rate, self.channels)
        position = start - start % length  # also of a mono file: there may be more channels than its header says
        for segment in self._segments(position):
            early = start - position
            position += len(segment)
            if position > start:
                yield self._mix(segment)[max(0, early) :]

    def _segments(self, start: int) -> Iterator[FloatArray]:
        """Yield the samples of all channels in arrays of one segment, from its beginning at sample `start`."""
        position = start
        for segment in _in_segments(self.reader.blocks(start), segment_length(self.rate, self.channels)):
            if self.reader.is_float and not np.isfinite(segment).all():
                raise RecordingError(
                    f"has samples that are not numbers (NaN or infinite) after {position / self.rate:.1f} s"
                )
            position += len(segment)
            yield np.clip(segment, -_LARGEST, _LARGEST) if self.reader.is_float else segment

    def _mix(self, segment: FloatArray) -> FloatArray:
        count = segment.shape[1]
        if count == 1:
            return segment[:, 0]
        if isinstance(self._channel, int):
            return segment[:, min(self._channel, count) - 1]
        # A product with weights takes a tenth of the time of NumPy's mean over so short an axis.
        mean: FloatArray = segment @ np.full(count, 1 / count, np.float32)
        if self._channel == "mean":
            return mean
        values = segment.ravel()
        power = float(np.dot(values, values))
        if float(np.dot(mean, mean)) >= _CANCELLED * power / count**2:
            return mean
        powers = np.einsum("ij,ij->j", segment, segment)
        louder = int(powers.argmax())
        channel = louder if powers[louder] > _LOUDER * powers[0] else 0
        if powers[channel] > len(segment) * (SILENCE_PEAK / 32768) ** 2:
            self._note_cancelled(channel + 1)
        return segment[:, channel]

    def _note_cancelled(self, channel: int) -> None:
        self._used.add(channel)
        which = f"channel {channel}" if len(self._used) == 1 else "the louder channel"
        remark = f"its channels cancel each other: where they do, {which} is used alone"
        others = [other for other in self.remarks if not other.startswith("its channels cancel")]
        self.remarks[:] = [*others, remark]


def segment_length(rate: int, channels: int) -> int:
    """Return the samples for which the channels are mixed in one way: a second, less for many channels."""
    return min(rate, max(1, _SEGMENT_VALUES // channels))


def minutes(seconds: float) -> str:
    """Format a time as a player does, ``1:02:03`` or ``0:12``."""
    whole = math.floor(max(0.0, seconds))
    hours, rest = divmod(whole, 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if hours else f"{rest // 60}:{rest % 60:02d}"


def check_length(seconds: float, stated: float) -> None:
    """Raise RecordingError if a sound is empty, or shorter than its header states."""
    if not seconds:
        raise RecordingError("holds no audio: its length is zero")
    if stated - seconds > max(_TOLERATED_LOSS, 1e-3 * stated):
        raise RecordingError(f"cut short: its header promises {stated:.1f} s, it holds {seconds:.1f} s")


def _in_segments(blocks: Iterable[FloatArray], length: int) -> Iterator[FloatArray]:
    """Yield the same samples in arrays of `length`; a shorter one where the number of channels changes."""
    held: list[FloatArray] = []
    size = 0
    damage: RecordingError | None = None
    try:
        for block in blocks:
            if held and held[0].shape[1] != block.shape[1]:
                yield np.concatenate(held)
                held, size = [], 0
            while size + len(block) >= length:
                taken = length - size
                yield np.concatenate([*held, block[:taken]]) if held else block[:taken]
                held, size, block = [], 0, block[taken:]
            if len(block):
                held.append(block)
                size += len(block)
    except RecordingError as error:
        damage = error
    if held:
        yield np.concatenate(held)
    if damage is not None:
        raise damage
