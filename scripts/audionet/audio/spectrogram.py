"""Mel, linear and chroma spectrograms of chunks, scaled to levels of 0 to 1; one column per frame."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from audionet.audio.config import CHROMA_ROWS, SpectrogramConfig
from audionet.errors import UsageError
from audionet.utils.arrays import FloatArray, Int16Array

log = logging.getLogger(__name__)

_BLOCK = 2**21  # values in the frames that are transformed at once; a chunk of 3 s has a tenth of them at most

_LONGER_WINDOWS = (32.0, 64.0, 128.0, 256.0, 512.0)  # ms; suggested where bands are too narrow


def hz_to_mel(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
    """Convert Hz to Slaney's mel scale: linear to 1 kHz, logarithmic above (Auditory Toolbox, 1998)."""
    linear = frequency / (200 / 3)
    logarithmic = 15 + 27 * np.log(np.maximum(frequency, 1000) / 1000) / np.log(6.4)
    return np.where(frequency < 1000, linear, logarithmic)


def mel_to_hz(mel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse of `hz_to_mel`."""
    return np.where(mel < 15, mel * (200 / 3), 1000 * np.exp((mel - 15) * np.log(6.4) / 27))


@functools.lru_cache(maxsize=8)
def mel_filterbank(config: SpectrogramConfig) -> FloatArray:
    """Compute triangular mel filters of equal area (Slaney's normalisation).

    Returns
    -------
    ndarray of float32, shape (fft_length // 2 + 1, n_mels)
        Multiply a power spectrum by it from the right.
    """
    ends = hz_to_mel(np.array([config.min_frequency, config.top_frequency]))
    edges = mel_to_hz(np.linspace(ends[0], ends[1], config.n_mels + 2))
    bins = np.fft.rfftfreq(config.fft_length, 1 / config.sample_rate)[:, None]
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((bins - low) / (centre - low), (high - bins) / (high - centre))
    return (np.maximum(0, triangles) * 2 / (high - low)).astype(np.float32)


def row_frequencies(config: SpectrogramConfig) -> NDArray[np.float64] | None:
    """Return the centre of each row of an image in Hz, shape (rows,), the lowest first; None for pitch classes."""
    if config.representation == "chroma":
        return None
    if config.representation == "linear":
        return np.array(config.bins) * (config.sample_rate / config.fft_length)
    ends = hz_to_mel(np.array([config.min_frequency, config.top_frequency]))
    return mel_to_hz(np.linspace(ends[0], ends[1], config.n_mels + 2))[1:-1]


def check_bands(config: SpectrogramConfig) -> None:
    """Check that images of these settings have no rows without content, before they are rendered.

    Raises
    ------
    UsageError
        If there are mel bands so narrow that no FFT bin lies in them, or the upper edge of the image is chosen above
        half the sample rate, where there is no sound.
    """
    half = config.sample_rate / 2
    if config.max_frequency > half:
        if config.max_frequency != SpectrogramConfig.max_frequency:
            raise UsageError(
                f"--max_frequency is {config.max_frequency:g}: at --sample_rate {config.sample_rate} it must be "
                f"{half:g} or less"
            )
        log.warning(f"images end at {half:g} Hz, half of --sample_rate {config.sample_rate}")
    if config.representation != "mel" or not (empty := _empty_bands(config)):
        return
    fewer = next((n for n in range(config.n_mels, 7, -1) if not _empty_bands(config, n_mels=n)), None)
    longer = next((w for w in _LONGER_WINDOWS if w > config.window_ms and not _empty_bands(config, window_ms=w)), None)
    remedies = [f"--n_mels {fewer}"] if fewer else []
    remedies += [f"--window_ms {longer:g}"] if longer else []
    raise UsageError(
        f"--n_mels {config.n_mels}: no FFT bin lies in {empty} of the bands, whose rows would be empty: "
        f"choose {' or '.join(remedies) or 'a lower --min_frequency and a higher --max_frequency'}"
    )


def _empty_bands(config: SpectrogramConfig, **changes: float) -> int:
    """Count the mel bands in which no FFT bin lies."""
    try:
        filters = mel_filterbank.__wrapped__(dataclasses.replace(config, **changes))  # type: ignore[arg-type]
    except UsageError:  # such as a window that is longer than a chunk
        return config.n_mels
    return int((filters.max(axis=0) == 0).sum())


@functools.lru_cache(maxsize=8)
def _window(config: SpectrogramConfig) -> FloatArray:
    """Compute a periodic Hann window, centred in the FFT."""
    length, fft = config.window_length, config.fft_length
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    left = (fft - length) // 2
    return np.pad(hann, (left, fft - length - left)).astype(np.float32)


@functools.lru_cache(maxsize=8)
def chroma_filterbank(config: SpectrogramConfig) -> FloatArray:
    """Compute weights that sum FFT bins into pitch classes, highest near 440 Hz (Ellis, Chroma Analysis, 2007).

    Returns
    -------
    ndarray of float32, shape (fft_length // 2 + 1, 12)
        Pitch classes from C on. Multiply a power spectrum by it from the right.
    """
    frequencies = np.arange(1, config.fft_length) * (config.sample_rate / config.fft_length)
    semitones = 12 * np.log2(frequencies / 27.5)  # above the lowest A of a piano
    semitones = np.concatenate([[semitones[0] - 18], semitones])  # the bin of 0 Hz: an octave and a half lower
    widths = np.append(np.maximum(np.diff(semitones), 1), 1)
    distance = np.remainder(semitones[:, None] - np.arange(12) + 6, 12) - 6
    weights = np.exp(-0.5 * np.square(2 * distance / widths[:, None]))
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    weights *= np.exp(-0.5 * np.square((semitones / 12 - 5) / 2))[:, None]
    from_c: FloatArray = np.roll(weights, -3, axis=1)[: config.fft_length // 2 + 1].astype(np.float32)
    return from_c


def _power(
    samples: Int16Array | FloatArray, config: SpectrogramConfig, in_rows: Callable[[FloatArray], FloatArray]
) -> FloatArray:
    """Compute the power in each row of an image over time.

    Parameters
    ----------
    samples : ndarray, shape (n,), n >= fft_length
        Mono, at the configured rate; 16-bit integers count as -1 to 1.
    config : SpectrogramConfig
    in_rows : callable
        Maps the power in each FFT bin, shape (frames, fft_length // 2 + 1), to that in each row, (frames, rows).

    Returns
    -------
    ndarray of float32, shape (rows, frames)
        ``frames = 1 + (n - fft_length) // hop_length``.
    """
    signal = samples.astype(np.float32)
    if samples.dtype == np.int16:
        signal /= 32768
    frames = np.lib.stride_tricks.sliding_window_view(signal, config.fft_length)[:: config.hop_length]
    blocks = []
    for block in np.split(frames, range(step := max(1, _BLOCK // config.fft_length), len(frames), step)):
        spectrum = np.fft.rfft(block * _window(config))
        blocks.append(in_rows((np.square(spectrum.real) + np.square(spectrum.imag)).astype(np.float32)))
    return np.ascontiguousarray((np.concatenate(blocks) if len(blocks) > 1 else blocks[0]).T)


def mel_power(samples: Int16Array | FloatArray, config: SpectrogramConfig) -> FloatArray:
    """Compute the power in each mel band over time, shape (n_mels, frames); the lowest band first."""
    return _power(samples, config, lambda power: power @ mel_filterbank(config))


def linear_power(samples: Int16Array | FloatArray, config: SpectrogramConfig) -> FloatArray:
    """Compute the power in each FFT bin within the configured range, shape (bins, frames); the lowest first."""
    bins = config.bins
    return _power(samples, config, lambda power: power[:, bins.start : bins.stop])


def chroma(samples: Int16Array | FloatArray, config: SpectrogramConfig) -> FloatArray:
    """Compute the power in each pitch class over time, shape (12, frames), from C on, within the configured range."""
    bins = config.bins
    weights = chroma_filterbank(config)[bins.start : bins.stop]
    return _power(samples, config, lambda power: power[:, bins.start : bins.stop] @ weights)


def relative_level(power: FloatArray, dynamic_range_db: float) -> FloatArray:
    """Scale power in decibels below the maximum: 1 there, 0 at `dynamic_range_db` below it and for silence."""
    loudest = max(float(power.max()), 1e-10)
    decibels = 10 * np.log10(np.maximum(power / loudest, 1e-30))
    level: FloatArray = np.clip(1 + decibels / dynamic_range_db, 0, 1).astype(np.float32)
    return level


def chroma_level(power: FloatArray, dynamic_range_db: float) -> FloatArray:
    """Scale each pitch class by its frame's strongest one; 0 in frames `dynamic_range_db` below the loudest."""
    strongest = power.max(axis=0)
    audible = strongest > max(float(strongest.max()), 1e-10) * 10 ** (-dynamic_range_db / 10)
    level: FloatArray = np.where(audible, power / np.where(audible, strongest, 1), 0).astype(np.float32)
    return level


def level(samples: Int16Array | FloatArray, config: SpectrogramConfig) -> FloatArray:
    """Compute the spectrogram of an image as a level of 0 to 1, shape (rows, frames), the lowest row first."""
    if config.representation == "chroma":
        return np.repeat(chroma_level(chroma(samples, config), config.dynamic_range_db), CHROMA_ROWS, axis=0)
    power = mel_power if config.representation == "mel" else linear_power
    return relative_level(power(samples, config), config.dynamic_range_db)
