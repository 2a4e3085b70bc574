"""Resampling of streams, in sections, and of whole arrays; speed perturbation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

from audionet.audio.samples import SILENCE_PEAK, to_float, to_int16
from audionet.audio.sound import Sound
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
_EDGE_SECONDS = 0.02
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
        A section each, but for the last one, which may have up to a second more; in all, ``to_rate / from_rate`` times
        as many samples without the lead.

    Raises
    ------
    RecordingError
        If `blocks` does, after what could be decoded.
    """
    pending: list[FloatArray] = []
    held = 0
    damage: RecordingError | None = None
    try:
        for block in blocks:
            pending.append(block)
            held += len(block)
            while held >= (size := (lead + SECTION_SECONDS + _MARGIN_SECONDS) * from_rate):
                native = np.concatenate(pending)
                section = _resample_level(native[:size], from_rate, to_rate)
                yield section[lead * to_rate : (lead + SECTION_SECONDS) * to_rate]
                rest = native[(lead + SECTION_SECONDS - _MARGIN_SECONDS) * from_rate :]
                pending, held, lead = [rest], len(rest), _MARGIN_SECONDS
    except RecordingError as error:
        damage = error
    if held > lead * from_rate:
        yield _resample_level(np.concatenate(pending), from_rate, to_rate)[lead * to_rate :]
    if damage is not None:
        raise damage


def _resample_level(samples: FloatArray, from_rate: int, to_rate: int) -> FloatArray:
    """Resample an array; an idle code at its beginning or end does not ring there, as the step to nothing would."""
    if len(samples) % from_rate == 0 and not samples.any():  # a gap, which may last for hours
        return np.zeros(len(samples) // from_rate * to_rate, np.float32)
    edge = max(1, round(_EDGE_SECONDS * from_rate))
    level = _idle_level(samples[:edge]) or _idle_level(samples[-edge:])
    changed: FloatArray = soxr.resample(samples - np.float32(level) if level else samples, from_rate, to_rate)
    return changed + np.float32(level) if level else changed


def _idle_level(samples: FloatArray) -> float:
    """Return the level at which samples rest, such as the idle code of a telephone; 0 if they are no constant."""
    low, high = float(samples.min()), float(samples.max())
    silence = SILENCE_PEAK / 32768
    middle = (low + high) / 2
    return middle if high - low <= 2 * silence and abs(middle) >= silence else 0.0
