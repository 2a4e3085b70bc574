"""Distortions that test the robustness of features: additive noise, a telephone line, speed perturbation."""

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
"""Conditions and their column titles in tables."""

_TELEPHONE_HZ = (300.0, 3400.0)
_TELEPHONE_RATE = 8_000
_RIPPLE_DB, _STOP_DB = 0.5, 40.0  # of the line's band-pass filter: pass-band ripple, stop-band attenuation
_LOWEST_NOISE_HZ = 20.0
_BLOCK_SECONDS = 0.02
_ACTIVE_DB = 30.0  # below the loudest block; quieter blocks are pauses


def apply_condition(condition: str, samples: Int16Array, rate: int, seed: int, name: str) -> Int16Array:
    """Apply a test condition to a recording.

    Parameters
    ----------
    condition : str
        One of `TITLES`.
    samples : ndarray of int16, shape (n,)
    rate : int
        Hz; the recording's own, so that added noise has no more bandwidth than the recording.
    seed : int
    name : str
        Name of the recording. With the seed it determines the noise: reproducible, and different for each recording.

    Returns
    -------
    ndarray of int16, shape (m,)
        ``m`` is ``n``, or ``n`` over the factor where the speed is perturbed.
    """
    if condition == CLEAN:
        return samples
    if condition in SPEED_FACTORS:
        return perturb_speed(samples, SPEED_FACTORS[condition])
    if condition == "telephone":
        return to_int16(simulate_telephone(to_float(samples), rate))
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return add_noise(samples, rate, SNR_DB, np.random.default_rng(int.from_bytes(digest, "big")))


def add_noise(samples: Int16Array, rate: int, snr_db: float, generator: np.random.Generator) -> Int16Array:
    """Add pink noise to a recording at a signal-to-noise ratio measured over the recording's active part.

    The mix is attenuated where it would clip. A digitally silent recording, or one of a few samples, is returned
    unchanged.

    Parameters
    ----------
    samples : ndarray of int16, shape (n,)
    rate : int
        Hz.
    snr_db : float
        Power of the active part over that of the noise in it, dB.
    generator : numpy.random.Generator
    """
    sound = to_float(samples)
    active = active_samples(samples, rate)
    noise = pink_noise(len(samples), rate, generator)
    if not samples.any() or not noise[active].any():  # too short for any frequency from 20 Hz up
        return samples
    ratio = np.square(sound[active]).mean() / np.square(noise[active]).mean() / 10 ** (snr_db / 10)
    mixed: FloatArray = sound + np.float32(np.sqrt(ratio)) * noise
    return to_int16(mixed, 1 / max(1.0, float(np.abs(mixed).max())))


def active_samples(samples: Int16Array, rate: int) -> NDArray[np.bool_]:
    """Return a mask, shape (n,), of the samples in 20 ms blocks at most 30 dB below the loudest block."""
    length = max(1, round(_BLOCK_SECONDS * rate))
    power = np.add.reduceat(np.square(samples, dtype=np.float64), np.arange(0, len(samples), length))
    loud = power >= power.max() * 10 ** (-_ACTIVE_DB / 10)
    return np.repeat(loud, length)[: len(samples)]


def pink_noise(length: int, rate: int, generator: np.random.Generator) -> FloatArray:
    """Generate noise with equal power per octave from 20 Hz up, shape (length,): white noise filtered by 1/sqrt(f)."""
    frequencies = np.fft.rfftfreq(length, 1 / rate)
    weights = np.where(frequencies >= _LOWEST_NOISE_HZ, 1 / np.sqrt(np.maximum(frequencies, _LOWEST_NOISE_HZ)), 0)
    noise = np.fft.irfft(weights * np.fft.rfft(generator.standard_normal(length)), length)
    narrow: FloatArray = noise.astype(np.float32)
    return narrow


def simulate_telephone(sound: FloatArray, rate: int) -> FloatArray:
    """Simulate a telephone line: 300 to 3400 Hz at 8 kHz, eight bits of mu-law (ITU-T G.711, without its segments).

    Parameters
    ----------
    sound : ndarray of float32, shape (n,)
        -1 to 1.
    rate : int
        Hz.

    Returns
    -------
    ndarray of float32, shape (n,)
    """
    from scipy.signal import ellip, sosfilt

    line = ellip(8, _RIPPLE_DB, _STOP_DB, _TELEPHONE_HZ, "bandpass", fs=_TELEPHONE_RATE, output="sos")
    narrow = sosfilt(line, soxr.resample(sound, rate, _TELEPHONE_RATE)).astype(np.float32)
    received = soxr.resample(mu_law(narrow), _TELEPHONE_RATE, rate)
    whole: FloatArray = np.zeros(len(sound), np.float32)
    whole[: len(received)] = received[: len(whole)]
    return whole


def mu_law(sound: FloatArray) -> FloatArray:
    """Quantise samples of -1 to 1 to the 255 levels of mu-law companding, which are finer at low amplitudes."""
    mu = np.float32(255)
    companded = np.sign(sound) * np.log1p(mu * np.minimum(np.abs(sound), 1)) / np.log1p(mu)
    rounded = np.rint(companded * 127) / np.float32(127)
    expanded: FloatArray = (np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(mu)) / mu).astype(np.float32)
    return expanded
