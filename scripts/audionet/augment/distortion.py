"""Other conditions than training heard: noise, a telephone line, another speed. What a good feature survives."""

from __future__ import annotations

import hashlib

import numpy as np
import soxr
from numpy.typing import NDArray

from audionet.audio.resampling import perturb_speed
from audionet.audio.samples import to_float, to_int16
from audionet.utils.arrays import FloatArray, Int16Array

CLEAN = "clean"
SNR_DB = 10.0
SPEED_FACTORS = {"slower": 0.9, "faster": 1.1}
TITLES = {
    CLEAN: CLEAN,
    "noise": f"noise {SNR_DB:g} dB",
    "telephone": "telephone",
    **{name: f"speed {factor:g}" for name, factor in SPEED_FACTORS.items()},
}
"""Every condition, and how a table calls it."""

_TELEPHONE_HZ = (300.0, 3400.0)
_TELEPHONE_RATE = 8_000
_RIPPLE_DB, _STOP_DB = 0.5, 40.0  # of its filter: in the band, and beside it
_LOWEST_NOISE_HZ = 20.0
_BLOCK_SECONDS = 0.02
_SOUNDING_DB = 30.0  # below the loudest block; what is quieter is a pause


def apply_condition(condition: str, samples: Int16Array, rate: int, seed: int, name: str) -> Int16Array:
    """A recording as a condition makes it.

    Parameters
    ----------
    condition : str
        One of `TITLES`.
    samples : ndarray of int16, shape (n,)
    rate : int
        Hz; the one it was recorded at, that what is added ends where the recording does.
    seed : int
    name : str
        The recording's. With the seed it decides the noise, so that each recording has its own, always the same.

    Returns
    -------
    ndarray of int16, shape (m,)
        ``m`` is ``n``, but ``n`` over the factor where the speed is changed.
    """
    if condition == CLEAN:
        return samples
    if condition in SPEED_FACTORS:
        return perturb_speed(samples, SPEED_FACTORS[condition])
    if condition == "telephone":
        return simulate_telephone(samples, rate)
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return add_noise(samples, rate, SNR_DB, np.random.default_rng(int.from_bytes(digest, "big")))


def add_noise(samples: Int16Array, rate: int, snr_db: float, generator: np.random.Generator) -> Int16Array:
    """Pink noise on a recording, so far below the mean power of its sounding part.

    Both are made quieter alike where their sum would clip. A recording without any sound, or of a few samples, stays as
    it is.

    Parameters
    ----------
    samples : ndarray of int16, shape (n,)
    rate : int
        Hz.
    snr_db : float
        Power of the sounding part over that of the noise in it, dB.
    generator : numpy.random.Generator
    """
    sound = to_float(samples)
    heard = active_samples(samples, rate)
    noise = pink_noise(len(samples), rate, generator)
    if not samples.any() or not noise[heard].any():  # too short for any frequency that is heard
        return samples
    ratio = np.square(sound[heard]).mean() / np.square(noise[heard]).mean() / 10 ** (snr_db / 10)
    mixed: FloatArray = sound + np.float32(np.sqrt(ratio)) * noise
    return to_int16(mixed, 1 / max(1.0, float(np.abs(mixed).max())))


def active_samples(samples: Int16Array, rate: int) -> NDArray[np.bool_]:
    """Which samples, shape (n,), lie in blocks of 20 ms at most 30 dB below the loudest."""
    length = max(1, round(_BLOCK_SECONDS * rate))
    power = np.add.reduceat(np.square(samples, dtype=np.float64), np.arange(0, len(samples), length))
    loud = power >= power.max() * 10 ** (-_SOUNDING_DB / 10)
    return np.repeat(loud, length)[: len(samples)]


def pink_noise(length: int, rate: int, generator: np.random.Generator) -> FloatArray:
    """Noise with equal power in each octave from 20 Hz up, shape (length,): white noise, filtered by 1/sqrt(f)."""
    frequencies = np.fft.rfftfreq(length, 1 / rate)
    weights = np.where(frequencies >= _LOWEST_NOISE_HZ, 1 / np.sqrt(np.maximum(frequencies, _LOWEST_NOISE_HZ)), 0)
    noise = np.fft.irfft(weights * np.fft.rfft(generator.standard_normal(length)), length)
    narrow: FloatArray = noise.astype(np.float32)
    return narrow


def simulate_telephone(samples: Int16Array, rate: int) -> Int16Array:
    """300 to 3400 Hz at 8 kHz, in eight bits of mu-law (ITU-T G.711, without its segments)."""
    from scipy.signal import ellip, sosfilt

    line = ellip(8, _RIPPLE_DB, _STOP_DB, _TELEPHONE_HZ, "bandpass", fs=_TELEPHONE_RATE, output="sos")
    narrow = sosfilt(line, soxr.resample(to_float(samples), rate, _TELEPHONE_RATE)).astype(np.float32)
    heard = soxr.resample(mu_law(narrow), _TELEPHONE_RATE, rate)
    whole: FloatArray = np.zeros(len(samples), np.float32)
    whole[: len(heard)] = heard[: len(whole)]
    return to_int16(whole)


def mu_law(sound: FloatArray) -> FloatArray:
    """Samples of -1 to 1 rounded to the 255 levels of mu-law companding: finer where it is quiet."""
    mu = np.float32(255)
    companded = np.sign(sound) * np.log1p(mu * np.minimum(np.abs(sound), 1)) / np.log1p(mu)
    rounded = np.rint(companded * 127) / np.float32(127)
    expanded: FloatArray = (np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(mu)) / mu).astype(np.float32)
    return expanded
