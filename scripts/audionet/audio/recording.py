"""Cutting of recordings into chunks: mix to mono, resample, normalise, cut, all streaming."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import Source, open_sound
from audionet.audio.resampling import SECTION_SECONDS, resampled
from audionet.audio.samples import SILENCE_PEAK, active_part, to_int16
from audionet.audio.sound import PEAK_LIMIT
from audionet.errors import RecordingError
from audionet.utils.arrays import FloatArray, Int16Array

SILENT = "is silent from beginning to end"

LEVELS_A_SECOND = 25

_LEAST_PAUSE = 0.1  # of a chunk, for which it is aligned
_TOLERATED_END = 0.5  # seconds by which labels may exceed a recording: other programs count its length otherwise


@dataclass(frozen=True)
class Chunk:
    """Fixed-length part of a recording.

    Attributes
    ----------
    index : int
        Number in the recording.
    start : float
        Seconds on the recording's clock: a film's sound may begin late.
    samples : ndarray of int16, shape (chunk_length,)
        Mono, at the image's sample rate; zeros after the recording's end.
    """

    index: int
    start: float
    samples: Int16Array


@dataclass(frozen=True)
class Span:
    """Part of a recording that is cut into chunks, in samples at the image's rate, and its gain."""

    start: int = 0
    stop: int | None = None
    gain: float = 1.0


@dataclass(frozen=True)
class Levels:
    """Loudness measurements of a segment.

    Attributes
    ----------
    squares, sums : ndarray of float64, shape (n,)
        Sums of the squared samples, and of the samples, in each 25th of a second.
    samples : int
        Total number of samples.
    low, high : float
        The smallest and the largest sample.
    start : float
        Where the segment begins on the recording's clock, seconds.
    """

    squares: NDArray[np.float64]
    sums: NDArray[np.float64]
    samples: int
    low: float
    high: float
    start: float = 0.0

    @property
    def constant(self) -> float:
        """Constant in the samples, as cheap recorders add; 0 if it is no louder than silence."""
        mean = float(self.sums.sum()) / max(1, self.samples)
        return mean if abs(mean) > SILENCE_PEAK / 32768 else 0.0

    def without_constant(self, sizes: NDArray[np.int64] | float) -> NDArray[np.float64]:
        """Return the sums of the squared samples less the constant, given the number of samples in each."""
        constant = self.constant
        if not constant:
            return self.squares
        found: NDArray[np.float64] = np.maximum(self.squares - constant * (2 * self.sums - constant * sizes), 0)
        return found


class Recording:
    """Recording; iterate over it for its chunks.

    A recording shorter than a chunk is padded with zeros; of what follows the last full chunk, half a step or more
    becomes a padded chunk, less is dropped. Memory does not grow with the recording's length.

    Parameters
    ----------
    source : Source
        Any rate, any number of channels.
    config : SpectrogramConfig
        Gives the sample rate and the chunk's length and step; loudness and trimming take a pass of their own.
    span : Span, optional
        Result of that pass, if it has been made.
    aligned : bool
        Whether a chunk that begins with a pause, far quieter than its loudest moment, begins after it instead, and so
        do those that follow. Training cuts on a fixed grid; a clip to judge is given whole chunks of sound.

    Attributes
    ----------
    start : float
        Where the sound begins on the recording's clock, seconds; final once a chunk has been yielded.
    seconds : float
        Position of decoding on that clock; where the recording ends once iteration has ended.
    remarks : list of str
        What a user should know although the sound is used; complete once iteration has ended.

    Raises
    ------
    RecordingError
        While iterating: at once if nothing can be decoded, or after the chunks before the damage.
        Chunks yielded before the error are intact.
    """

    def __init__(
        self, source: Source, config: SpectrogramConfig, span: Span | None = None, aligned: bool = False
    ) -> None:
        self.source = source
        self.config = config
        self._aligned = aligned
        self.start = self.seconds = 0.0
        self.remarks: list[str] = []
        self._span = span

    def __iter__(self) -> Iterator[Chunk]:
        return self.chunks()

    def chunks(self, first: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yield the chunks from number `first` up to but not including number `stop`.

        Chunks do not depend on the range they are read in; without a seekable file, what precedes it is decoded too.
        """
        config = self.config
        span = self._span or span_of([measure(self.source, config)] if needs_levels(config) else [], config)
        cutter = _Cutter(config, span, first, self._aligned)
        section = cutter.begin // (SECTION_SECONDS * config.sample_rate) if first else 0
        damage: RecordingError | None = None
        index = first
        try:
            for block, position in self._blocks(section):
                for begin, samples in cutter.feed(block, position):
                    yield self._chunk(index, begin, samples)
                    index += 1
                    if index == stop:
                        return
        except RecordingError as error:
            damage = error
        for begin, samples in cutter.rest(damage is None):
            yield self._chunk(index, begin, samples)
        if damage is not None:
            raise damage

    def chunks_of(self, parts: Sequence[tuple[float, float]]) -> Iterator[Chunk]:
        """Yield the chunks of parts of the recording, numbered by their start in steps of a chunk.

        Each part is cut as a recording of its own is: untrimmed, and with the gain of the whole recording. Where
        several parts begin in one step, numbers run ahead of the time. What follows the last part is not decoded.

        Parameters
        ----------
        parts : sequence of (float, float)
            Start and end of each on the recording's clock, seconds; one or more, ascending, without overlaps. The last
            may end at infinity.
        """
        rate = self.config.sample_rate
        config = dataclasses.replace(self.config, trim_silence=None)
        gain = span_of([measure(self.source, config)] if needs_levels(config) else [], config).gain
        waiting = list(reversed(parts))
        cutter: _Cutter | None = None
        damage: RecordingError | None = None
        index = -1

        def chunks(cut: Iterable[tuple[int, Int16Array]]) -> Iterator[Chunk]:
            nonlocal index
            for begin, samples in cut:
                index = max(index + 1, round(begin / self.config.step_length))
                yield self._chunk(index, begin, samples)

        try:
            for block, position in self._blocks():
                while cutter or waiting:
                    if cutter is None:
                        start, end = (time - self.start for time in waiting.pop())
                        span = Span(max(0, round(start * rate)), None if end == math.inf else round(end * rate), gain)
                        cutter = _Cutter(config, span)
                    yield from chunks(cutter.feed(block, position))
                    if not cutter.has_ended(position + len(block)):
                        break
                    yield from chunks(cutter.rest())
                    cutter = None
                if cutter is None:
                    return
        except RecordingError as error:
            damage = error
        if cutter:
            yield from chunks(cutter.rest(damage is None))
        if damage is not None:
            raise damage
        last = max((end for _, end in parts if end < math.inf), default=0.0)
        if last > self.seconds + _TOLERATED_END:
            self.remarks.append(f"is labelled up to {last:.1f} s, and ends at {self.seconds:.1f} s")

    def excerpts(self, parts: Sequence[tuple[float, float]]) -> Iterator[Int16Array]:
        """Yield the samples of parts of the recording as they are; what follows the last is not decoded.

        Parameters
        ----------
        parts : sequence of (float, float)
            Start and end of each on the recording's clock, seconds; ascending, without overlaps.
        """
        rate, waiting, held = self.config.sample_rate, list(reversed(parts)), [np.zeros(0, np.float32)]
        damage: RecordingError | None = None
        try:
            for block, position in self._blocks():
                while waiting:
                    begin, end = (max(0, round((time - self.start) * rate)) for time in waiting[-1])
                    held.append(block[max(0, begin - position) : max(0, end - position)])
                    if end > position + len(block):
                        break
                    yield to_int16(np.concatenate(held))
                    held = [np.zeros(0, np.float32)]
                    waiting.pop()
                if not waiting:
                    return
        except RecordingError as error:
            damage = error
        if waiting and sum(map(len, held)):
            yield to_int16(np.concatenate(held))
        if damage is not None:
            raise damage

    def _chunk(self, index: int, begin: int, samples: Int16Array) -> Chunk:
        return Chunk(index, self.start + begin / self.config.sample_rate, samples)

    def _blocks(self, section: int = 0) -> Iterator[tuple[FloatArray, int]]:
        """Yield blocks of samples at the image's rate from a section on, with the position of each."""
        rate = self.config.sample_rate
        position = section * SECTION_SECONDS * rate
        with open_sound(self.source) as sound:
            self.remarks = sound.remarks
            for block in resampled(sound, rate, section):
                self.start = sound.start
                self.seconds = self.start + (position + len(block)) / rate
                yield block, position
                position += len(block)


class _Cutter:
    """Cuts a span of the samples that it is fed with into chunks, from chunk number `first` on.

    Attributes
    ----------
    begin : int
        Sample at which the next chunk begins.
    """

    def __init__(self, config: SpectrogramConfig, span: Span, first: int = 0, aligned: bool = False) -> None:
        self._config, self._span, self._aligned = config, span, aligned
        self.begin = span.start + first * config.step_length
        self._held = np.zeros(0, np.float32)
        self._is_first = first == 0

    def feed(self, block: FloatArray, position: int) -> Iterator[tuple[int, Int16Array]]:
        """Yield the chunks that a block completes, each with its begin; the block is at `position`."""
        rate, length, step = self._config.sample_rate, self._config.chunk_length, self._config.step_length
        lacking = max(0, self.begin + len(self._held) - position)
        stop = None if self._span.stop is None else max(0, self._span.stop - position)
        self._held = np.concatenate([self._held, block[lacking:stop]])
        while len(self._held) >= length:
            pause = active_part(to_int16(self._held[:length]), rate)[0] if self._aligned else 0
            if pause > _LEAST_PAUSE * length:
                self._held, self.begin = self._held[pause:], self.begin + pause
                continue
            chunk = self.begin, to_int16(self._held[:length], self._span.gain)
            self._held, self.begin, self._is_first = self._held[step:], self.begin + step, False
            yield chunk

    def has_ended(self, position: int) -> bool:
        """Return whether the span ends at `position` or before."""
        return self._span.stop is not None and self._span.stop <= position

    def rest(self, is_whole: bool = True) -> Iterator[tuple[int, Int16Array]]:
        """Yield what is left as a padded chunk, if it is enough for one.

        The rest of a damaged recording is a fragment, not a short recording: a nearly empty chunk is not padded.
        """
        length, step, left = self._config.chunk_length, self._config.step_length, len(self._held)
        is_short_recording = self._is_first and left > 0 and is_whole
        new, enough = (left, length) if self._is_first else (left - (length - step), step)
        if is_short_recording or 2 * new >= enough:
            padded = np.concatenate([self._held, np.zeros(length - left, np.float32)])
            yield self.begin, to_int16(padded, self._span.gain)


def needs_levels(config: SpectrogramConfig) -> bool:
    """Return whether a recording must be measured before it is cut."""
    return config.loudness is not None or config.trim_silence is not None


def measure(source: Source, config: SpectrogramConfig, section: int = 0, sections: int | None = None) -> Levels:
    """Measure loudness from a section on, over `sections` sections or up to the recording's end or damage."""
    rate = config.sample_rate
    left = math.inf if sections is None else sections * SECTION_SECONDS
    squares, sums = [], []
    samples = 0
    low = high = start = 0.0
    edges = np.arange(LEVELS_A_SECOND) * rate // LEVELS_A_SECOND
    try:
        with open_sound(source) as sound:
            for second in _seconds(resampled(sound, rate, section), rate):
                inside = edges[edges < len(second)]
                squares.append(np.add.reduceat(np.square(second, dtype=np.float64), inside))
                sums.append(np.add.reduceat(second.astype(np.float64), inside))
                low, high = min(low, float(second.min())), max(high, float(second.max()))
                samples += len(second)
                start = sound.start + section * SECTION_SECONDS
                left -= 1
                if left == 0:
                    break
    except RecordingError:
        pass  # the pass that cuts the recording reaches the same damage and reports it
    nothing = [np.zeros(0)]
    return Levels(np.concatenate(squares or nothing), np.concatenate(sums or nothing), samples, low, high, start)


def span_of(levels: Sequence[Levels], config: SpectrogramConfig) -> Span:
    """Compute the part of a recording to cut, and its gain, from the levels of its consecutive segments.

    A constant in the samples counts as nothing.
    """
    if not needs_levels(config) or not levels:
        return Span()
    whole = Levels(
        np.concatenate([part.squares for part in levels]),
        np.concatenate([part.sums for part in levels]),
        sum(part.samples for part in levels),
        min(part.low for part in levels),
        max(part.high for part in levels),
    )
    if whole.high - whole.low <= 2 * SILENCE_PEAK / 32768:
        return Span()
    rate, samples = config.sample_rate, whole.samples
    sizes = np.diff(np.append(np.arange(len(whole.squares)) * rate // LEVELS_A_SECOND, samples))
    squares = whole.without_constant(sizes)
    span = Span()
    if config.trim_silence is not None:
        loud = np.flatnonzero(squares >= squares.max() * 10 ** (-config.trim_silence / 10))
        squares = squares[loud[0] : loud[-1] + 1]
        start, stop = (int(edge) * rate // LEVELS_A_SECOND for edge in (loud[0], loud[-1] + 1))
        span = Span(start, min(stop, samples))
        samples = min(stop, samples) - start
    if config.loudness is not None:
        root_mean_square = math.sqrt(squares.sum() / samples)
        gain = min(10 ** (config.loudness / 20) / root_mean_square, PEAK_LIMIT / max(-whole.low, whole.high))
        span = dataclasses.replace(span, gain=gain)
    return span


def _seconds(blocks: Iterable[FloatArray], rate: int) -> Iterator[FloatArray]:
    """Yield the same samples in blocks of one second."""
    held = np.zeros(0, np.float32)
    damage: RecordingError | None = None
    try:
        for block in blocks:
            held = np.concatenate([held, block])
            whole = len(held) // rate * rate
            yield from held[:whole].reshape(-1, rate)
            held = held[whole:]
    except RecordingError as error:
        damage = error
    if len(held):
        yield held
    if damage is not None:
        raise damage
