"""Conversion of samples between integers, floats and WAV files."""

from __future__ import annotations

import io
import wave

import numpy as np

from audionet.utils.arrays import FloatArray, Int16Array

SILENCE_PEAK = 8
"""Highest absolute 16-bit sample that counts as silence: -72 dBFS, three bits."""


def to_int16(samples: FloatArray, gain: float = 1.0) -> Int16Array:
    """Convert samples of -1 to 1 to 16-bit integers, clipping; the exact inverse of libsndfile's scaling."""
    scaled: FloatArray = np.rint(np.clip(samples * np.float32(gain), -1, 1) * np.float32(32768))
    return np.minimum(scaled, 32767).astype(np.int16)


def to_float(samples: Int16Array) -> FloatArray:
    """Convert 16-bit samples to floats of -1 to 1."""
    return samples.astype(np.float32) / np.float32(32768)


def is_silent(samples: Int16Array) -> bool:
    """Return whether no sample exceeds SILENCE_PEAK."""
    return int(samples.max()) <= SILENCE_PEAK and int(samples.min()) >= -SILENCE_PEAK


def wav_bytes(samples: Int16Array, sample_rate: int) -> bytes:
    """Encode samples as a mono 16-bit WAV file."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(sample_rate)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
