"""Samples in memory, read like a file."""

from __future__ import annotations

import array
import numbers
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from audionet.audio.sound import SAMPLE_RATES
from audionet.utils.arrays import FloatArray

_MOST_CHANNELS = 64
_BLOCK_SAMPLES = 1 << 16


class ArraySound:
    """Samples in memory, open for reading.

    Parameters
    ----------
    samples : array_like, shape (n,) or (channels, n)
        Integers at full scale, or floats of -1 to 1. Floats above 1 are levelled as those of a file are.
    sample_rate : int
        Hz, 1,000 to 1,000,000.

    Raises
    ------
    TypeError
        If the samples are not numbers, or the rate is not an integer.
    ValueError
        If the shape, the rate or a value makes no sound; the message names it.
    """

    can_seek = True
    start = 0.0

    def __init__(self, samples: ArrayLike, sample_rate: int) -> None:
        if isinstance(sample_rate, bool) or not isinstance(sample_rate, numbers.Integral):
            raise TypeError(f"sample_rate is {sample_rate!r}: it must be an integer, in Hz")
        if sample_rate not in SAMPLE_RATES:
            raise ValueError(f"sample_rate is {sample_rate}: it must be 1000 to 1000000 Hz")
        self.rate: int = int(sample_rate)
        self._samples: FloatArray
        self.is_float: bool
        self._samples, self.is_float = _checked(samples)
        self.channels: int = self._samples.shape[0]
        self.frames: int | None = self._samples.shape[1]
        self.remarks: list[str] = []

    def __str__(self) -> str:
        return f"samples of {self._samples.shape[1] / self.rate:.1f} s"

    def blocks(self, start: int = 0) -> Iterator[FloatArray]:
        """Yield the samples from sample `start` to the end, shape (n, channels)."""
        for begin in range(start, self._samples.shape[1], _BLOCK_SAMPLES):
            yield np.ascontiguousarray(self._samples[:, begin : begin + _BLOCK_SAMPLES].T)


@runtime_checkable
class AudioSegment(Protocol):
    """Part of pydub's class of this name that is used; importing it takes long."""

    channels: int
    frame_rate: int

    def get_array_of_samples(self) -> array.array[int]:
        """Return integers of one, two or four bytes, the channels interleaved."""
        ...


def segment_sound(segment: AudioSegment) -> ArraySound:
    """Return the samples of a pydub AudioSegment as a sound."""
    samples = np.array(segment.get_array_of_samples())
    return ArraySound(samples.reshape(-1, segment.channels).T, segment.frame_rate)


def _checked(samples: ArrayLike) -> tuple[FloatArray, bool]:
    """Return samples as float32, shape (channels, n), integers scaled to -1 to 1; and whether they came as floats."""
    try:
        array = np.asarray(samples)
    except ValueError:
        raise ValueError("samples differ in length from channel to channel") from None
    if array.dtype.kind not in "iuf":
        raise TypeError(f"samples are of type {array.dtype}: they must be integers or floats")
    if array.ndim not in (1, 2) or not array.size:
        raise ValueError(f"samples have the shape {array.shape}: it must be (samples,) or (channels, samples)")
    array = np.atleast_2d(array)
    if len(array) > _MOST_CHANNELS:
        raise ValueError(
            f"samples have {len(array)} channels: they must come as (channels, samples), so transpose them first"
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all():
            raise ValueError("samples hold NaN or infinite values")
        return array.astype(np.float32), True
    if array.dtype.itemsize > 4:  # as a list of integers becomes: nobody knows what its full scale is
        raise TypeError(f"samples are of type {array.dtype}: they must be int16, int32, uint8, or floats of -1 to 1")
    limits = np.iinfo(array.dtype)
    half = (int(limits.max) - int(limits.min) + 1) / 2
    zero = half if array.dtype.kind == "u" else 0.0  # unsigned samples rest at half of their range
    scaled: FloatArray = ((array.astype(np.float64) - zero) / half).astype(np.float32)
    return scaled, False
