"""Resampling of streams, in sections, and of whole arrays; speed perturbation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from audionet.audio.samples import SILENCE_PEAK, to_float, to_int16
from audionet.audio.sound import Sound, until_damage
from audionet.errors import RecordingError
from audionet.utils.arrays import FloatArray, Int16Array


def perturb_speed(samples: Int16Array, factor: float) -> Int16Array:
    """Perturb the speed by `factor`, as on a tape: pitch and formants change too."""
    return to_int16(soxr.resample(to_float(samples), factor, 1.0))


def resample_samples(samples: Int16Array, from_rate: int, to_rate: int) -> Int16Array:
    """Resample a whole array to another sample rate."""
    return samples if from_rate == to_rate else to_int16(soxr.resample(to_float(samples), from_rate, to_rate))


SECTION_SECONDS = 10
"""A recording is resampled in sections of this length, so that reading may begin at any of them."""
_CONSTANT_STEP = 16  # of the samples, one in so many tells where they rest
_CONSTANT_SHARE = 0.1  # of the samples' usual distance from it
_MARGIN_SECONDS = 1  # context on either side of a section, many times the length of the resampling filter


def resampled(sound: Sound, rate: int, section: int = 0) -> Iterator[FloatArray]:
    """Return mono blocks at `rate` from the beginning of a section on."""
    seconds = section * SECTION_SECONDS
    if sound.rate == rate:
        return sound.mono(seconds * rate)
    lead = min(seconds, _MARGIN_SECONDS)
    return resample(sound.mono((seconds - lead) * sound.rate), sound.rate, rate, lead)


def resample(blocks: Iterable[FloatArray], from_rate: int, to_rate: int, lead: int = 0) -> Iterator[FloatArray]:
    """Resample a stream of mono blocks; the blocks' boundaries leave no trace.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (n,)
        From the beginning of a section or, with `lead`, so many seconds before it.
    from_rate, to_rate : int
        Hz.
    lead : int
        0 at the beginning of a recording, else 1.

    Yields
    ------
    ndarray of float32, shape (m,)
        A section each, the last one shorter; in all, ``to_rate / from_rate`` times as many samples without the lead.

    Raises
    ------
    RecordingError
        If `blocks` does, after what could be decoded.
    """
    pending: list[FloatArray] = []
    held = 0
    damage: RecordingError | None = None
    for block in until_damage(blocks):
        if isinstance(block, RecordingError):
            damage = block
            break
        pending.append(block)
        held += len(block)
        while held >= (size := (lead + SECTION_SECONDS + _MARGIN_SECONDS) * from_rate):
            native = np.concatenate(pending)
            section = _resample_level(native[:size], from_rate, to_rate)
            yield section[lead * to_rate : (lead + SECTION_SECONDS) * to_rate]
            rest = native[(lead + SECTION_SECONDS - _MARGIN_SECONDS) * from_rate :]
            pending, held, lead = [rest], len(rest), _MARGIN_SECONDS
    if held > lead * from_rate:
        yield _resample_level(np.concatenate(pending), from_rate, to_rate)[lead * to_rate :]
    if damage is not None:
        raise damage


def _resample_level(samples: FloatArray, from_rate: int, to_rate: int) -> FloatArray:
    """Resample an array; a constant in it does not ring where the array begins and ends, as a step would."""
    constant = _constant(samples)
    changed: FloatArray = soxr.resample(samples - constant if constant else samples, from_rate, to_rate)
    return changed + np.float32(constant) if constant else changed


def _constant(samples: FloatArray) -> float:
    """Return the level at which samples rest, such as the idle code of a telephone; 0 if it does not stand out."""
    some = samples[::_CONSTANT_STEP]
    level = float(np.median(some))
    if abs(level) <= SILENCE_PEAK / 32768 or abs(level) <= _CONSTANT_SHARE * float(np.median(np.abs(some - level))):
        return 0.0
    return level
