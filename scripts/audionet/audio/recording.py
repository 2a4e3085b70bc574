"""Cutting of recordings into chunks: mix to mono, resample, normalise, cut, all streaming."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audionet.audio.array_sound import ArraySound
from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import open_sound
from audionet.audio.resampling import SECTION_SECONDS, resampled, until_damage
from audionet.audio.samples import SILENCE_PEAK, active_part, to_int16
from audionet.errors import RecordingError
from audionet.utils.arrays import FloatArray, Int16Array

SILENT = "is silent from beginning to end"

LEVELS_A_SECOND = 25

_LEAST_PAUSE = 0.1  # of a chunk, for which it is aligned

_PEAK_LIMIT = 10 ** (-1 / 20)  # loudness may raise a recording's peak to 1 dB below full scale


@dataclass(frozen=True)
class Chunk:
    """Fixed-length part of a recording.

    Attributes
    ----------
    index : int
        Number in the recording; the chunk begins `index` steps after the first.
    start : float
        Seconds from the recording's beginning.
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
    squares : ndarray of float64, shape (n,)
        Sum of the squared samples in each 25th of a second.
    samples : int
        Total number of samples.
    peak : float
        The largest absolute sample.
    """

    squares: NDArray[np.float64]
    samples: int
    peak: float


class Recording:
    """Recording; iterate over it for its chunks.

    A recording shorter than a chunk is padded with zeros; of what follows the last full chunk, half a step or more
    becomes a padded chunk, less is dropped. Memory does not grow with the recording's length.

    Parameters
    ----------
    path : Path or ArraySound
        A file that libsndfile or ffmpeg decodes: any rate, any number of channels (they are averaged).
    config : SpectrogramConfig
        Gives the sample rate and the chunk's length and step; loudness and trimming take a pass of their own.
    span : Span, optional
        Result of that pass, if it has been made.
    aligned : bool
        Whether a chunk that begins with a pause, far quieter than its loudest moment, begins after it instead, and so
        do those that follow. Training cuts on a fixed grid; a clip to judge is given whole chunks of sound.

    Attributes
    ----------
    seconds : float
        Position of decoding; the recording's length once iteration has ended.

    Raises
    ------
    RecordingError
        While iterating: at once if nothing can be decoded, or after the chunks before the damage.
        Chunks yielded before the error are intact.
    """

    def __init__(
        self, path: Path | ArraySound, config: SpectrogramConfig, span: Span | None = None, aligned: bool = False
    ) -> None:
        self.path = path
        self.config = config
        self._aligned = aligned
        self.seconds = 0.0
        self._span = span

    def __iter__(self) -> Iterator[Chunk]:
        return self.chunks()

    def chunks(self, first: int = 0, stop: int | None = None) -> Iterator[Chunk]:
        """Yield the chunks from number `first` up to but not including number `stop`.

        Chunks do not depend on the range they are read in; a `first` above 0 needs a seekable file.
        """
        config = self.config
        rate, length, step = config.sample_rate, config.chunk_length, config.step_length
        span = self._span or span_of([measure(self.path, config)] if needs_levels(config) else [], config)
        begin = span.start + first * step
        section = begin // (SECTION_SECONDS * rate) if first else 0
        position = section * SECTION_SECONDS * rate
        held = np.zeros(0, np.float32)
        damage: RecordingError | None = None
        index = first
        with open_sound(self.path) as sound:
            for block in until_damage(resampled(sound, rate, section)):
                if isinstance(block, RecordingError):
                    damage = block
                    break
                lacking = max(0, begin + len(held) - position)
                wanted = block[lacking : None if span.stop is None else max(0, span.stop - position)]
                position += len(block)
                self.seconds = position / rate
                held = np.concatenate([held, wanted])
                while len(held) >= length:
                    pause = active_part(to_int16(held[:length]), rate)[0] if self._aligned else 0
                    if pause > _LEAST_PAUSE * length:
                        held, begin = held[pause:], begin + pause
                        continue
                    yield Chunk(index, begin / rate, to_int16(held[:length], span.gain))
                    held, begin, index = held[step:], begin + step, index + 1
                    if index == stop:
                        return
        # The rest of a damaged recording is a fragment, not a short recording: do not pad a nearly empty chunk.
        is_short_recording = index == 0 and len(held) > 0 and damage is None
        new, enough = (len(held) - (length - step), step) if index else (len(held), length)
        if is_short_recording or 2 * new >= enough:
            padded = np.concatenate([held, np.zeros(length - len(held), np.float32)])
            yield Chunk(index, begin / rate, to_int16(padded, span.gain))
        if damage is not None:
            raise damage


def needs_levels(config: SpectrogramConfig) -> bool:
    """Return whether a recording must be measured before it is cut."""
    return config.loudness is not None or config.trim_silence is not None


def measure(
    path: Path | ArraySound, config: SpectrogramConfig, section: int = 0, sections: int | None = None
) -> Levels:
    """Measure loudness from a section on, over `sections` sections or up to the recording's end or damage."""
    rate = config.sample_rate
    left = math.inf if sections is None else sections * SECTION_SECONDS
    squares = []
    samples = 0
    peak = 0.0
    edges = np.arange(LEVELS_A_SECOND) * rate // LEVELS_A_SECOND
    try:
        with open_sound(path) as sound:
            for second in _seconds(resampled(sound, rate, section), rate):
                squares.append(np.add.reduceat(np.square(second, dtype=np.float64), edges[edges < len(second)]))
                samples += len(second)
                peak = max(peak, float(np.abs(second).max()))
                left -= 1
                if left == 0:
                    break
    except RecordingError:
        pass  # the pass that cuts the recording reaches the same damage and reports it
    return Levels(np.concatenate(squares) if squares else np.zeros(0), samples, peak)


def span_of(levels: Sequence[Levels], config: SpectrogramConfig) -> Span:
    """Compute the part of a recording to cut, and its gain, from the levels of its consecutive segments."""
    squares = np.concatenate([part.squares for part in levels]) if levels else np.zeros(0)
    peak = max((part.peak for part in levels), default=0.0)
    if not needs_levels(config) or peak <= SILENCE_PEAK / 32768:
        return Span()
    rate = config.sample_rate
    span = Span()
    samples = sum(part.samples for part in levels)
    if config.trim_silence is not None:
        loud = np.flatnonzero(squares >= squares.max() * 10 ** (-config.trim_silence / 10))
        squares = squares[loud[0] : loud[-1] + 1]
        start, stop = (int(edge) * rate // LEVELS_A_SECOND for edge in (loud[0], loud[-1] + 1))
        span = Span(start, min(stop, samples))
        samples = min(stop, samples) - start
    if config.loudness is not None:
        root_mean_square = math.sqrt(squares.sum() / samples)
        gain = min(10 ** (config.loudness / 20) / root_mean_square, _PEAK_LIMIT / peak)
        span = dataclasses.replace(span, gain=gain)
    return span


def _seconds(blocks: Iterable[FloatArray], rate: int) -> Iterator[FloatArray]:
    """Yield the same samples in blocks of one second."""
    held = np.zeros(0, np.float32)
    damage: RecordingError | None = None
    for block in until_damage(blocks):
        if isinstance(block, RecordingError):
            damage = block
            break
        held = np.concatenate([held, block])
        whole = len(held) // rate * rate
        yield from held[:whole].reshape(-1, rate)
        held = held[whole:]
    if len(held):
        yield held
    if damage is not None:
        raise damage
