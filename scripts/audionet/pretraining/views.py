"""What the network is shown while a backbone is made: stretches of recordings as images, never twice the same.

A stretch is played at another speed, which makes another speaker of it, then changed as rooms, noise, lines and codecs
change sound; of the image of that, several glimpses are taken, as wide as a chunk or narrower, with a channel's
colour on them, a slightly longer or shorter vocal tract, and parts masked. What is to be learned of a glimpse is
taken from the same stretch before it was changed.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import open_sound
from audionet.audio.image import colour
from audionet.audio.network_input import COEFFICIENTS, cosine_transform
from audionet.audio.resampling import perturb_speed, resampled
from audionet.audio.samples import to_int16
from audionet.audio.spectrogram import level
from audionet.augment.waveform import Recipe, augment_chunk
from audionet.errors import RecordingError
from audionet.utils.arrays import FloatArray, Int16Array, UInt8Array

SPEED_FACTORS = (0.85, 0.92, 1.0, 1.08, 1.15)
"""How much faster recordings are played; pitch and formants move with it."""

SPECTROGRAM = SpectrogramConfig()

_STRETCH_SECONDS = 3.3
_SHORTEST_SECONDS = 2.0  # of a glimpse that fills its image
_SHORT_SHARE, _SHORTEST_WORD_SECONDS = 0.25, 0.4  # short clips come padded with silence
_CODEC_SHARE = 0.15  # encoding takes as long as all else together
_ROLLED_SHARE = 0.2
_WARP = 0.03  # less than from one of SPEEDS to the next, which is another speaker
_TILT = 0.15  # of the level's range, 80 dB, from the lowest band to the highest
_RIPPLE = 0.05
_MASKS, _WIDEST_MASK = 2, 0.15

FOLLOWED, ORDERS = 12, 5
AUXILIARY_WIDTH = 2 * COEFFICIENTS + FOLLOWED * ORDERS


class ViewTask(NamedTuple):
    """Stretches for a worker to make glimpses of, as many of each.

    Attributes
    ----------
    paths : list of Path
    speeds : list of int
        Places in SPEEDS.
    seeds : list of int
        What decides all else, one a stretch.
    glimpses : int
        How many of each stretch.
    size : (int, int)
        Height and width of the network's input, pixels.
    disturbance : float
        How much they are changed at most, 0 to 1.
    """

    paths: list[Path]
    speeds: list[int]
    seeds: list[int]
    glimpses: int
    size: tuple[int, int]
    disturbance: float = 0.7


@dataclass(frozen=True)
class Views:
    """Images to learn from.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (n, height, width, 3)
    content : ndarray of float32, shape (n, CONTENT_WIDTH)
        What `auxiliary_targets` says of each, as it sounded before it was changed.
    stretch : ndarray of int64, shape (n,)
        Place of its stretch in the task; of a stretch that cannot be decoded there is none.
    """

    pixels: UInt8Array
    content: FloatArray
    stretch: NDArray[np.int64]


def make_views(task: ViewTask) -> Views:
    """The glimpses of each stretch of a task."""
    pixels, content, stretches = [], [], []
    for place, (path, speed, seed) in enumerate(zip(task.paths, task.speeds, task.seeds, strict=True)):
        generator = np.random.default_rng(seed)
        try:
            recording = samples_of(path)
        except RecordingError:
            continue
        clean = draw_segment(recording, SPEED_FACTORS[speed], generator)
        # Much for some and little for others: on those that are hard alone a network takes long to begin to learn.
        strength = generator.uniform(0, task.disturbance)
        changed = augment_segment(clean, generator) if generator.random() < strength else clean
        levels = level(clean, SPECTROGRAM), level(changed, SPECTROGRAM)
        for _ in range(task.glimpses):
            before, after = crop_views(*levels, generator)
            content.append(auxiliary_targets(before))
            pixels.append(pixels_of(augment_levels(after, strength, generator), task.size))
            stretches.append(place)
    height, width = task.size
    return Views(
        np.array(pixels, np.uint8).reshape(-1, height, width, 3),
        np.array(content, np.float32).reshape(-1, AUXILIARY_WIDTH),
        np.array(stretches, np.int64),
    )


@functools.lru_cache(maxsize=4096)
def samples_of(path: Path) -> Int16Array:
    """A whole recording, mono, at the image's rate. Datasets for this are hours long, not days: they are kept.

    Raises
    ------
    RecordingError
        If it cannot be decoded.
    """
    with open_sound(path) as sound:
        return to_int16(np.concatenate(list(resampled(sound, SPECTROGRAM.sample_rate))))


def draw_segment(recording: Int16Array, speed: float, generator: np.random.Generator) -> Int16Array:
    """A stretch of a recording at another speed, padded with silence to `_STRETCH_SECONDS`."""
    length = round(_STRETCH_SECONDS * SPECTROGRAM.sample_rate)
    wanted = round(length * speed)
    start = int(generator.integers(max(1, len(recording) - wanted + 1)))
    played = perturb_speed(recording[start : start + wanted], speed)[:length]
    return np.pad(played, (0, length - len(played)))


def augment_segment(samples: Int16Array, generator: np.random.Generator) -> Int16Array:
    """A stretch as a room, a line or a codec would have passed it on."""
    kinds = ("room", "noise", "gain", "telephone") + (("codec",) if generator.random() < _CODEC_SHARE else ())
    return augment_chunk(samples, SPECTROGRAM.sample_rate, Recipe(kinds), str(generator.integers(2**62)))


def crop_views(clean: FloatArray, changed: FloatArray, generator: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    """The same part of two images' levels; each is 1 at its loudest point again.

    A quarter are short and followed by silence, as single words are; some of the others begin in their middle.
    """
    frames = clean.shape[1]
    per_second = frames / _STRETCH_SECONDS
    if generator.random() < _SHORT_SHARE:
        heard = round(generator.uniform(_SHORTEST_WORD_SECONDS, _SHORTEST_SECONDS) * per_second)
        width = round(SPECTROGRAM.chunk_seconds * per_second)
    else:
        heard = width = round(generator.uniform(_SHORTEST_SECONDS, _STRETCH_SECONDS) * per_second)
    loudest = int(clean.mean(axis=0).argmax())  # which has to be in it, or there may be nothing to hear
    start = int(generator.integers(max(0, loudest - heard + 1), min(frames - heard, loudest) + 1))
    roll = int(generator.integers(width)) if generator.random() < _ROLLED_SHARE else 0
    parts = []
    for levels in (clean, changed):
        part = levels[:, start : start + heard]
        raised = np.where(part > 0, part + (1 - part.max()), 0) if part.any() else part
        padded = np.pad(raised, ((0, 0), (0, width - raised.shape[1])))
        parts.append(np.roll(padded, roll, axis=1).astype(np.float32))
    return parts[0], parts[1]


def augment_levels(levels: FloatArray, strength: float, generator: np.random.Generator) -> FloatArray:
    """Levels through another channel and of a slightly other vocal tract, with masks over bands and moments.

    `strength`, 0 to 1, is how much of it there is.

    The vocal tract's length scales frequencies (VTLP: Jaitly & Hinton, 2013); masks as in SpecAugment (Park et al.,
    2019).
    """
    rows, frames = levels.shape
    place = np.clip(np.arange(rows) * (1 + strength * generator.uniform(-_WARP, _WARP)), 0, rows - 1)
    below = np.minimum(place.astype(np.int64), rows - 2)
    share = (place - below).astype(np.float32)[:, None]
    warped = levels[below] * (1 - share) + levels[below + 1] * share
    scale = np.linspace(-0.5, 0.5, rows)
    ripple = np.interp(np.arange(rows), np.linspace(0, rows - 1, 9), generator.normal(0, _RIPPLE, 9))
    channel = strength * (generator.uniform(-_TILT, _TILT) * scale + ripple).astype(np.float32)[:, None]
    coloured = np.where(warped > 0, warped + channel, 0)
    coloured += 1 - max(float(coloured.max()), 1e-6) if coloured.any() else 0
    coloured = np.where(warped > 0, np.clip(coloured, 0, 1), 0)
    for axis, length in ((0, rows), (1, frames)):
        for _ in range(int(generator.binomial(_MASKS, strength))):
            wide = int(generator.uniform(0, _WIDEST_MASK) * length)
            first = int(generator.integers(length - wide + 1))
            coloured[(slice(None),) * axis + (slice(first, first + wide),)] = 0
    result: FloatArray = coloured.astype(np.float32)
    return result


def pixels_of(levels: FloatArray, size: tuple[int, int]) -> UInt8Array:
    """An image at the network's input size, uint8 RGB."""
    height, width = size
    return np.asarray(colour(levels).resize((width, height), Image.Resampling.BILINEAR))


def auxiliary_targets(levels: FloatArray) -> FloatArray:
    """What is said and how, in numbers that a network can be asked for (as PASE is: Pascual et al., 2019).

    The mean and the deviation over time of 20 MFCCs, and the first cosine terms over time of the first 12 of them:
    how they rise and fall within the glimpse.

    Returns
    -------
    ndarray of float32, shape (CONTENT_WIDTH,)
    """
    cepstrum = cosine_transform() @ levels
    frames = levels.shape[1]
    time = np.cos(np.pi * np.outer(np.arange(frames) + 0.5, np.arange(1, ORDERS + 1)) / frames)
    course = cepstrum[:FOLLOWED] @ (time * (2 / frames)).astype(np.float32)
    result: FloatArray = np.concatenate([cepstrum.mean(axis=1), cepstrum.std(axis=1), course.ravel()])
    return result.astype(np.float32)
