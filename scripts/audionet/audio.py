"""Recordings to chunks: decode, mix to mono, resample, cut, all of it streaming."""

from __future__ import annotations

import io
import os
import re
import stat
import wave
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from .config import PictureConfig
from .console import native_stderr_muted
from .errors import RecordingError

Int16Array = NDArray[np.int16]
Float32Array = NDArray[np.float32]

AUDIO_SUFFIXES = frozenset({".mp3", ".wav", ".flac", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".au", ".caf", ".w64"})
"""File name endings, lower case, of what libsndfile decodes."""

SILENCE_PEAK = 8
"""Highest 16-bit sample that still counts as silence: -72 dBFS, where three bits are left to hear."""

_BLOCK_FRAMES = 8192
_LOUDEST = np.float32(1000)  # 60 dB above full scale: no recording, and sums of it do not overflow
_STREAMED_LENGTHS = range(0x7FFFF000, 0x1_0000_0000)
"""Data sizes that programs writing WAV to a pipe put in the header because they cannot know better."""


@dataclass(frozen=True)
class Chunk:
    """A fixed-length piece of a recording.

    Attributes
    ----------
    index : int
        Place in the recording; the chunk begins at ``index * chunk_seconds``.
    start : float
        Seconds from the recording's beginning.
    samples : ndarray of int16, shape (chunk_length,)
        Mono, at the picture's sample rate; zeros after the recording's end.
    """

    index: int
    start: float
    samples: Int16Array


class Recording:
    """A recording on disk; iterate over it for its chunks.

    A recording shorter than a chunk is padded with zeros; a last piece of half a chunk or more likewise,
    a shorter one is dropped. Memory does not grow with the recording's length.

    Parameters
    ----------
    path : Path
        A file that libsndfile decodes: any rate, any number of channels (they are averaged).
    config : PictureConfig
        Gives the sample rate and the chunk's length.

    Attributes
    ----------
    seconds : float
        Length decoded so far; the recording's length once iteration has ended.

    Raises
    ------
    RecordingError
        While iterating: at once if nothing can be decoded, or after the chunks before the damage.
        Chunks that came before it are sound.
    """

    def __init__(self, path: Path, config: PictureConfig) -> None:
        self.path = path
        self.config = config
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Chunk]:
        length, rate = self.config.chunk_length, self.config.sample_rate
        pending: list[Int16Array] = []
        held = index = 0
        damage: RecordingError | None = None
        blocks = self._blocks()
        while True:
            try:
                block = next(blocks, None)
            except RecordingError as error:
                damage, block = error, None
            if block is None:
                break
            pending.append(block)
            held += len(block)
            if held < length:
                continue
            samples = np.concatenate(pending)
            while len(samples) >= length:
                yield Chunk(index, index * length / rate, samples[:length])
                samples, index = samples[length:], index + 1
            pending, held = [samples], len(samples)
        # What is left of a damaged recording is a fragment, not a short recording: no padding from next to nothing.
        is_short_recording = index == 0 and held > 0 and damage is None
        if 2 * held >= length or is_short_recording:
            samples = np.concatenate([*pending, np.zeros(length - held, np.int16)])
            yield Chunk(index, index * length / rate, samples)
        if damage is not None:
            raise damage

    def _blocks(self) -> Iterator[Int16Array]:
        """Mono 16-bit blocks at the configured rate, whatever their length."""
        with _open(self.path) as sound:
            native = self._decoded(sound)
            for block in resample(native, sound.samplerate, self.config.sample_rate):
                yield to_int16(block)

    def _decoded(self, sound: soundfile.SoundFile) -> Iterator[Float32Array]:
        """Mono float blocks at the file's own rate."""
        can_hold_nan = sound.subtype in ("FLOAT", "DOUBLE")
        frames = max(1, _BLOCK_FRAMES // sound.channels)
        decoded = 0
        while True:
            try:
                with native_stderr_muted():
                    block = sound.read(frames, dtype="float32", always_2d=True)
            except soundfile.LibsndfileError:
                raise RecordingError(f"damaged after {self.seconds:.1f} s") from None
            if not len(block):
                break
            if can_hold_nan and not np.isfinite(block).all():
                raise RecordingError(f"has samples that are not numbers (NaN or infinite) after {self.seconds:.1f} s")
            if can_hold_nan:
                block = np.clip(block, -_LOUDEST, _LOUDEST)
            decoded += len(block)
            self.seconds = decoded / sound.samplerate
            yield block.mean(axis=1, dtype=np.float32)
        if not decoded:
            raise RecordingError("holds no audio: its length is zero")
        promised = max(sound.frames, decoded * _promise(sound))
        # An MP3's promise is an estimate; a file cut short misses far more than five percent.
        if decoded < 0.95 * promised:
            raise RecordingError(
                f"cut short: its header promises {promised / sound.samplerate:.1f} s, it holds {self.seconds:.1f} s"
            )


class _Stream(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file read from beginning to end.

    soundfile seeks to where it already is after every read of a seekable file, and an MP3 decoder that seeks
    starts afresh: every block would begin with a glitch.
    """

    def seekable(self) -> bool:
        return False


def _open(path: Path) -> soundfile.SoundFile:
    try:
        if stat.S_ISFIFO(path.stat().st_mode):
            raise RecordingError("is a pipe, not a file")  # opening it would wait for ever
        with path.open("rb") as file:  # says why it cannot be opened, which libsndfile does not
            if not file.read(1):
                raise RecordingError("the file is empty")
        # As bytes, because a name need not be UTF-8.
        with native_stderr_muted():
            sound = _Stream(os.fsencode(path))
    except soundfile.LibsndfileError:
        raise RecordingError("cannot be decoded: damaged, or not the kind of file its name says") from None
    except IsADirectoryError:
        raise RecordingError("is a folder that holds no clips") from None
    except OSError as error:
        raise RecordingError(f"cannot be read: {error.strerror}") from None
    if not 1_000 <= sound.samplerate <= 1_000_000:
        raise RecordingError(f"has an impossible sample rate, {sound.samplerate} Hz")
    return sound


def _promise(sound: soundfile.SoundFile) -> float:
    """How many times more sound a header promises than there is; libsndfile quietly corrects what it says."""
    lie = re.search(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)", sound.extra_info, re.MULTILINE)
    if lie is None or int(lie[1]) in _STREAMED_LENGTHS:
        return 1
    return int(lie[1]) / max(1, int(lie[2]))


def resample(blocks: Iterable[Float32Array], from_rate: int, to_rate: int) -> Iterator[Float32Array]:
    """Resample a stream of mono blocks; the blocks' boundaries leave no trace.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (n,)
    from_rate, to_rate : int
        Hz.

    Yields
    ------
    ndarray of float32, shape (m,)
        In all, ``to_rate / from_rate`` times as many samples.
    """
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32")
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def to_int16(samples: Float32Array) -> Int16Array:
    """Samples of -1 to 1 as 16-bit integers; what is louder is clipped. Undoes libsndfile's own scaling exactly."""
    scaled: Float32Array = np.rint(np.clip(samples, -1, 1) * np.float32(32768))
    return np.minimum(scaled, 32767).astype(np.int16)


def is_silent(samples: Int16Array) -> bool:
    """Whether no sample exceeds SILENCE_PEAK."""
    return int(samples.max()) <= SILENCE_PEAK and int(samples.min()) >= -SILENCE_PEAK


def wav_bytes(samples: Int16Array, sample_rate: int) -> bytes:
    """A mono 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
