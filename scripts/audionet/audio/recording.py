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
    """

    squares: NDArray[np.float64]
    sums: NDArray[np.float64]
    samples: int
    low: float
    high: float

    @property
    def constant(self) -> float:
        """Constant in the samples, as cheap recorders add; 0 if it is no louder than silence."""
        mean = float(self.sums.sum()) / max(1, self.samples)
        return mean if abs(mean) > SILENCE_PEAK / 32768 else 0.0


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
        rate, length, step = config.sample_rate, config.chunk_length, config.step_length
        span = self._span or span_of([measure(self.source, config)] if needs_levels(config) else [], config)
        begin = span.start + first * step
        section = begin // (SECTION_SECONDS * rate) if first else 0
        position = section * SECTION_SECONDS * rate
        held = np.zeros(0, np.float32)
        damage: RecordingError | None = None
        index = first
        with open_sound(self.source) as sound:
            self.remarks = sound.remarks
            try:
                for block in resampled(sound, rate, section):
                    self.start = sound.start
                    lacking = max(0, begin + len(held) - position)
                    wanted = block[lacking : None if span.stop is None else max(0, span.stop - position)]
                    position += len(block)
                    self.seconds = self.start + position / rate
                    held = np.concatenate([held, wanted])
                    while len(held) >= length:
                        pause = active_part(to_int16(held[:length]), rate)[0] if self._aligned else 0
                        if pause > _LEAST_PAUSE * length:
                            held, begin = held[pause:], begin + pause
                            continue
                        yield Chunk(index, self.start + begin / rate, to_int16(held[:length], span.gain))
                        held, begin, index = held[step:], begin + step, index + 1
                        if index == stop:
                            return
            except RecordingError as error:
                damage = error
        # The rest of a damaged recording is a fragment, not a short recording: do not pad a nearly empty chunk.
        is_short_recording = index == 0 and len(held) > 0 and damage is None
        new, enough = (len(held) - (length - step), step) if index else (len(held), length)
        if is_short_recording or 2 * new >= enough:
            padded = np.concatenate([held, np.zeros(length - len(held), np.float32)])
            yield Chunk(index, self.start + begin / rate, to_int16(padded, span.gain))
        if damage is not None:
            raise damage


def needs_levels(config: SpectrogramConfig) -> bool:
    """Return whether a recording must be measured before it is cut."""
    return config.loudness is not None or config.trim_silence is not None


def measure(source: Source, config: SpectrogramConfig, section: int = 0, sections: int | None = None) -> Levels:
    """Measure loudness from a section on, over `sections` sections or up to the recording's end or damage."""
    rate = config.sample_rate
    left = math.inf if sections is None else sections * SECTION_SECONDS
    squares, sums = [], []
    samples = 0
    low = high = 0.0
    edges = np.arange(LEVELS_A_SECOND) * rate // LEVELS_A_SECOND
    try:
        with open_sound(source) as sound:
            for second in _seconds(resampled(sound, rate, section), rate):
                inside = edges[edges < len(second)]
                squares.append(np.add.reduceat(np.square(second, dtype=np.float64), inside))
                sums.append(np.add.reduceat(second.astype(np.float64), inside))
                low, high = min(low, float(second.min())), max(high, float(second.max()))
                samples += len(second)
                left -= 1
                if left == 0:
                    break
    except RecordingError:
        pass  # the pass that cuts the recording reaches the same damage and reports it
    nothing = [np.zeros(0)]
    return Levels(np.concatenate(squares or nothing), np.concatenate(sums or nothing), samples, low, high)


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
    rate, samples, constant = config.sample_rate, whole.samples, whole.constant
    squares = whole.squares
    if constant:
        sizes = np.diff(np.append(np.arange(len(squares)) * rate // LEVELS_A_SECOND, samples))
        squares = np.maximum(squares - constant * (2 * whole.sums - constant * sizes), 0)
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
