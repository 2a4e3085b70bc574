"""Augmented views, the training images of a backbone: random segments of recordings as spectrogram images.

A segment is resampled to another speed, which makes another speaker of it, and augmented with rooms, noise, telephone
lines and codecs. Several views are cut from its spectrogram, as wide as a chunk or narrower, with random frequency
responses, vocal tract length perturbation and SpecAugment masks. The auxiliary targets of a view are computed from the
same segment before augmentation.
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
"""Speed perturbation factors; pitch and formants scale with them."""

SPECTROGRAM = SpectrogramConfig()

_SEGMENT_SECONDS = 3.3
_SHORTEST_SECONDS = 2.0  # of a view without padding
_SHORT_SHARE, _SHORTEST_WORD_SECONDS = 0.25, 0.4  # short clips are padded with silence
_CODEC_SHARE = 0.15  # encoding takes as long as all other augmentation together
_ROLLED_SHARE = 0.2
_WARP = 0.03  # less than the step between SPEED_FACTORS, which makes another speaker
_TILT = 0.15  # of the level's range, 80 dB, from the lowest band to the highest
_RIPPLE = 0.05
_MASKS, _WIDEST_MASK = 2, 0.15

_TRAJECTORY_MFCCS, _TRAJECTORY_TERMS = 12, 5
AUXILIARY_WIDTH = 2 * COEFFICIENTS + _TRAJECTORY_MFCCS * _TRAJECTORY_TERMS


class ViewTask(NamedTuple):
    """Segments for a worker to render, with the same number of views of each.

    Attributes
    ----------
    paths : list of Path
    speeds : list of int
        Indices of SPEED_FACTORS.
    seeds : list of int
        Seeds of all other random choices, one for each segment.
    views : int
        Number of views of each segment.
    size : (int, int)
        Height and width of the network's input in pixels.
    max_strength : float
        Maximum augmentation strength, 0 to 1.
    """

    paths: list[Path]
    speeds: list[int]
    seeds: list[int]
    views: int
    size: tuple[int, int]
    max_strength: float = 0.7


@dataclass(frozen=True)
class Views:
    """Augmented views with their auxiliary targets.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (n, height, width, 3)
    auxiliary : ndarray of float32, shape (n, AUXILIARY_WIDTH)
        `auxiliary_targets` of each view before augmentation.
    segment : ndarray of int64, shape (n,)
        Index of its segment in the task; segments that cannot be decoded have no views.
    """

    pixels: UInt8Array
    auxiliary: FloatArray
    segment: NDArray[np.int64]


def make_views(task: ViewTask) -> Views:
    """Render the views of each segment of a task."""
    pixels, auxiliary, segments = [], [], []
    for index, (path, speed, seed) in enumerate(zip(task.paths, task.speeds, task.seeds, strict=True)):
        generator = np.random.default_rng(seed)
        try:
            recording = samples_of(path)
        except RecordingError:
            continue
        clean = draw_segment(recording, SPEED_FACTORS[speed], generator)
        # Mixed strengths: with strong augmentation alone, the loss of a network takes long to begin to fall.
        strength = generator.uniform(0, task.max_strength)
        augmented = augment_segment(clean, generator) if generator.random() < strength else clean
        levels = level(clean, SPECTROGRAM), level(augmented, SPECTROGRAM)
        for _ in range(task.views):
            clean_view, augmented_view = crop_views(*levels, generator)
            auxiliary.append(auxiliary_targets(clean_view))
            pixels.append(render_view(augment_levels(augmented_view, strength, generator), task.size))
            segments.append(index)
    height, width = task.size
    return Views(
        np.array(pixels, np.uint8).reshape(-1, height, width, 3),
        np.array(auxiliary, np.float32).reshape(-1, AUXILIARY_WIDTH),
        np.array(segments, np.int64),
    )


@functools.lru_cache(maxsize=4096)
def samples_of(path: Path) -> Int16Array:
    """Return a whole recording, mono, at the spectrogram's sample rate.

    Recordings stay in memory: datasets for pretraining are hours long, not days.

    Raises
    ------
    RecordingError
        If it cannot be decoded.
    """
    with open_sound(path) as sound:
        return to_int16(np.concatenate(list(resampled(sound, SPECTROGRAM.sample_rate))))


def draw_segment(recording: Int16Array, speed: float, generator: np.random.Generator) -> Int16Array:
    """Draw a segment of a recording, perturb its speed and pad it with silence to 3.3 s."""
    length = round(_SEGMENT_SECONDS * SPECTROGRAM.sample_rate)
    source_length = round(length * speed)
    start = int(generator.integers(max(1, len(recording) - source_length + 1)))
    perturbed = perturb_speed(recording[start : start + source_length], speed)[:length]
    return np.pad(perturbed, (0, length - len(perturbed)))


def augment_segment(samples: Int16Array, generator: np.random.Generator) -> Int16Array:
    """Augment a segment with a room, noise, gain, a telephone line and sometimes a codec."""
    kinds = ("room", "noise", "gain", "telephone") + (("codec",) if generator.random() < _CODEC_SHARE else ())
    return augment_chunk(samples, SPECTROGRAM.sample_rate, Recipe(kinds), str(generator.integers(2**62)))


def crop_views(
    clean: FloatArray, augmented: FloatArray, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Cut the same view out of two spectrograms and scale the maximum of each to 1.

    A quarter of the views are short and padded with silence, as single words are. A fifth of all are rotated in time.
    """
    frames = clean.shape[1]
    per_second = frames / _SEGMENT_SECONDS
    if generator.random() < _SHORT_SHARE:
        sound_width = round(generator.uniform(_SHORTEST_WORD_SECONDS, _SHORTEST_SECONDS) * per_second)
        width = round(SPECTROGRAM.chunk_seconds * per_second)
    else:
        sound_width = width = round(generator.uniform(_SHORTEST_SECONDS, _SEGMENT_SECONDS) * per_second)
    loudest = int(clean.mean(axis=0).argmax())  # the view has to contain it, or it may be silent
    start = int(generator.integers(max(0, loudest - sound_width + 1), min(frames - sound_width, loudest) + 1))
    roll = int(generator.integers(width)) if generator.random() < _ROLLED_SHARE else 0
    parts = []
    for levels in (clean, augmented):
        part = levels[:, start : start + sound_width]
        raised = np.where(part > 0, part + (1 - part.max()), 0) if part.any() else part
        padded = np.pad(raised, ((0, 0), (0, width - raised.shape[1])))
        parts.append(np.roll(padded, roll, axis=1).astype(np.float32))
    return parts[0], parts[1]


def augment_levels(levels: FloatArray, strength: float, generator: np.random.Generator) -> FloatArray:
    """Augment a spectrogram by a random channel response, vocal tract length perturbation, and masks.

    `strength`, 0 to 1, scales all three. Vocal tract length perturbation warps frequencies (VTLP: Jaitly & Hinton,
    2013); frequency and time masks are those of SpecAugment (Park et al., 2019).
    """
    rows, frames = levels.shape
    source_row = np.clip(np.arange(rows) * (1 + strength * generator.uniform(-_WARP, _WARP)), 0, rows - 1)
    below = np.minimum(source_row.astype(np.int64), rows - 2)
    weight = (source_row - below).astype(np.float32)[:, None]
    warped = levels[below] * (1 - weight) + levels[below + 1] * weight
    scale = np.linspace(-0.5, 0.5, rows)
    ripple = np.interp(np.arange(rows), np.linspace(0, rows - 1, 9), generator.normal(0, _RIPPLE, 9))
    channel = strength * (generator.uniform(-_TILT, _TILT) * scale + ripple).astype(np.float32)[:, None]
    filtered = np.where(warped > 0, warped + channel, 0)
    filtered += 1 - max(float(filtered.max()), 1e-6) if filtered.any() else 0
    filtered = np.where(warped > 0, np.clip(filtered, 0, 1), 0)
    for axis, length in ((0, rows), (1, frames)):
        for _ in range(int(generator.binomial(_MASKS, strength))):
            width = int(generator.uniform(0, _WIDEST_MASK) * length)
            first = int(generator.integers(length - width + 1))
            filtered[(slice(None),) * axis + (slice(first, first + width),)] = 0
    result: FloatArray = filtered.astype(np.float32)
    return result


def render_view(levels: FloatArray, size: tuple[int, int]) -> UInt8Array:
    """Render levels as an image at the network's input size, uint8 RGB, shape (height, width, 3)."""
    height, width = size
    return np.asarray(colour(levels).resize((width, height), Image.Resampling.BILINEAR))


def auxiliary_targets(levels: FloatArray) -> FloatArray:
    """Compute the auxiliary regression targets of a view (as in PASE: Pascual et al., 2019).

    The mean and the standard deviation over time of 20 MFCCs, and the first 5 cosine terms over time of the first 12
    of them, which describe their course within the view.

    Returns
    -------
    ndarray of float32, shape (AUXILIARY_WIDTH,)
    """
    cepstrum = cosine_transform() @ levels
    frames = levels.shape[1]
    time = np.cos(np.pi * np.outer(np.arange(frames) + 0.5, np.arange(1, _TRAJECTORY_TERMS + 1)) / frames)
    trajectory = cepstrum[:_TRAJECTORY_MFCCS] @ (time * (2 / frames)).astype(np.float32)
    result: FloatArray = np.concatenate([cepstrum.mean(axis=1), cepstrum.std(axis=1), trajectory.ravel()])
    return result.astype(np.float32)
