"""Conversion of samples between integers, floats and WAV files."""

from __future__ import annotations

import io
import math
import wave

import numpy as np

from audionet.utils.arrays import FloatArray, Int16Array

SILENCE_PEAK = 8
"""Highest absolute 16-bit sample that counts as silence: -72 dBFS, three bits."""

PAUSE_DB = 45.0
"""Sound this far below a recording's loudest moment is a pause."""

_BLOCKS_A_SECOND = 20


def to_int16(samples: FloatArray, gain: float = 1.0) -> Int16Array:
    """Convert samples of -1 to 1 to 16-bit integers, clipping; the exact inverse of libsndfile's scaling."""
    scaled: FloatArray = np.rint(np.clip(samples * np.float32(gain), -1, 1) * np.float32(32768))
    return np.minimum(scaled, 32767).astype(np.int16)


def to_float(samples: Int16Array) -> FloatArray:
    """Convert 16-bit samples to floats of -1 to 1."""
    return samples.astype(np.float32) / np.float32(32768)


def is_silent(samples: Int16Array) -> bool:
    """Return whether no sample differs from a constant by more than SILENCE_PEAK."""
    return int(samples.max()) - int(samples.min()) <= 2 * SILENCE_PEAK


def peak_level(samples: Int16Array, sample_rate: int) -> float:
    """Compute the level of the loudest 50 ms of a chunk, dB relative to full scale; -100 for digital silence."""
    return 10 * math.log10(max(float(_powers(samples, sample_rate).max()), 1e-10))


def active_part(samples: Int16Array, sample_rate: int) -> tuple[int, int]:
    """Return where the sound begins and ends: the first and last 50 ms less than `PAUSE_DB` below the loudest.

    Returns
    -------
    (int, int)
        In samples; the whole chunk if it is silent.
    """
    if is_silent(samples):
        return 0, len(samples)
    powers = _powers(samples, sample_rate)
    loud = np.flatnonzero(powers >= powers.max() * 10 ** (-PAUSE_DB / 10))
    block = sample_rate // _BLOCKS_A_SECOND
    return int(loud[0]) * block, len(samples) if loud[-1] == len(powers) - 1 else (int(loud[-1]) + 1) * block


def _powers(samples: Int16Array, sample_rate: int) -> FloatArray:
    """Compute the mean power of each whole 50 ms without the chunk's constant; of a shorter chunk, as a whole.

    Full scale is 1.
    """
    length = min(len(samples), max(1, sample_rate // _BLOCKS_A_SECOND))
    blocks = samples[: len(samples) // length * length].reshape(-1, length).astype(np.float32)
    blocks -= np.float32(samples.mean())
    powers: FloatArray = np.einsum("ij,ij->i", blocks, blocks) / np.float32(length * 32768.0**2)
    return powers


def wav_bytes(samples: Int16Array, sample_rate: int) -> bytes:
    """Encode samples as a mono 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
