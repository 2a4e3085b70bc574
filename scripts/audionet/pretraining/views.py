"""Augmented views, the training images of a backbone: random segments of recordings as spectrogram images.

A segment is played at its own speed or at one that makes another voice of it, and up to a tenth faster or slower than
that, which does not; it is then augmented with another sound behind it, a room, noise, a telephone line or a codec.
Several views are cut from its spectrogram, as wide as a chunk or narrower, with random frequency responses, vocal tract
length perturbation and SpecAugment masks. The auxiliary targets of a view are computed from the same segment before
augmentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audionet.audio.image import colour
from audionet.audio.network_input import COEFFICIENTS, cosine_transform
from audionet.audio.resampling import perturb_speed
from audionet.audio.samples import to_float, to_int16
from audionet.audio.spectrogram import level
from audionet.augment.waveform import Recipe, augment_chunk
from audionet.pretraining.sounds import SPECTROGRAM, PreparedSound
from audionet.utils.arrays import FloatArray, Int16Array, UInt8Array

SAME_VOICE = 1.1
"""Largest factor by which a voice may be faster or slower and remain the same. With every factor a voice of its own, a
network learns to tell speeds apart, which its users call errors."""

OTHER_VOICES = ((0.69, 0.82), (1.22, 1.45))
"""Ranges of speed perturbation factors that make another voice of a recording: pitch and formants scale with them."""

VOICES = 1 + len(OTHER_VOICES)
"""Number of voices of a recording: its own, and one of each range."""

_SEGMENT_SECONDS = 3.3
_SHORTEST_SECONDS = 2.0  # of a view without padding
_SHORT_SHARE, _SHORTEST_WORD_SECONDS = 0.25, 0.4  # short clips are padded with silence
_BACKGROUND_DECIBELS = (0, 20)  # speech above another sound
_CODEC_SHARE = 0.15  # encoding takes as long as all other augmentation together
_ROLLED_SHARE = 0.2
_WARP = 0.03  # with SAME_VOICE, less than the step to OTHER_VOICES
_TILT = 0.15  # of the level's range, 80 dB, from the lowest band to the highest
_RIPPLE = 0.05
_MASKS, _WIDEST_MASK = 2, 0.15

_TRAJECTORY_MFCCS, _TRAJECTORY_TERMS = 12, 5
AUXILIARY_WIDTH = 2 * COEFFICIENTS + _TRAJECTORY_MFCCS * _TRAJECTORY_TERMS


class ViewTask(NamedTuple):
    """Segments for a worker to render, with the same number of views of each.

    Attributes
    ----------
    sounds : list of PreparedSound
    backgrounds : list of PreparedSound or None
        Another sound behind each segment.
    speeds : list of float
        Speed perturbation factor of each segment's voice.
    seeds : list of int
        Seeds of all other random choices, one for each segment.
    views : int
        Number of views of each segment.
    size : (int, int)
        Height and width of the network's input in pixels.
    keys : list of (int, int)
        Numbers of the recordings and of their voices, for the caller.
    max_strength : float
        Maximum augmentation strength, 0 to 1.
    """

    sounds: list[PreparedSound]
    backgrounds: list[PreparedSound | None]
    speeds: list[float]
    seeds: list[int]
    views: int
    size: tuple[int, int]
    keys: list[tuple[int, int]]
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
        Index of its segment in the task; segments without sound have no views.
    """

    pixels: UInt8Array
    auxiliary: FloatArray
    segment: NDArray[np.int64]


def make_views(task: ViewTask) -> Views:
    """Render the views of each segment of a task."""
    height, width = task.size
    pixels, auxiliary = [np.zeros((0, height, width, 3), np.uint8)], [np.zeros((0, AUXILIARY_WIDTH), np.float32)]
    segments: list[int] = []
    for index, (sound, background, speed, seed) in enumerate(
        zip(task.sounds, task.backgrounds, task.speeds, task.seeds, strict=True)
    ):
        samples = sound.samples()
        if not samples.any():
            continue
        generator = np.random.default_rng(seed)
        behind = None if background is None else background.samples()
        found = segment_views(samples, behind, speed, task.views, task.size, task.max_strength, generator)
        pixels.append(found[0])
        auxiliary.append(found[1])
        segments += [index] * task.views
    return Views(np.concatenate(pixels), np.concatenate(auxiliary), np.array(segments, np.int64))


def voice_speeds(sound: PreparedSound) -> tuple[float, ...]:
    """Return the speed perturbation factors of a recording's voices, shape (VOICES,): 1, and one of each range.

    They follow from the recording's place: every recording has others, which together fill the ranges.
    """
    generator = np.random.default_rng([sound.start, sound.stop])
    others = [float(np.exp(generator.uniform(*np.log(limits)))) for limits in OTHER_VOICES]
    return (1.0, *others)


def segment_views(
    recording: Int16Array,
    background: Int16Array | None,
    speed: float,
    views: int,
    size: tuple[int, int],
    max_strength: float,
    generator: np.random.Generator,
) -> tuple[UInt8Array, FloatArray]:
    """Draw a segment of a recording and render views of it; return their pixels and auxiliary targets."""
    same_voice = SAME_VOICE ** generator.uniform(-1, 1)
    clean = draw_segment(recording, speed * same_voice, generator)
    # Mixed strengths: with strong augmentation alone, the loss of a network takes long to begin to fall.
    strength = generator.uniform(0, max_strength)
    behind = clean if background is None else add_background(clean, background, generator)
    augmented = augment_segment(behind, generator) if generator.random() < strength else behind
    levels = level(clean, SPECTROGRAM), level(augmented, SPECTROGRAM)
    pixels, auxiliary = [], []
    for _ in range(views):
        clean_view, augmented_view = crop_views(*levels, generator)
        auxiliary.append(auxiliary_targets(clean_view))
        pixels.append(render_view(augment_levels(augmented_view, strength, generator), size))
    return np.stack(pixels), np.stack(auxiliary)


def draw_segment(recording: Int16Array, speed: float, generator: np.random.Generator) -> Int16Array:
    """Draw a segment of a recording, perturb its speed and pad it with silence to 3.3 s."""
    length = round(_SEGMENT_SECONDS * SPECTROGRAM.sample_rate)
    source_length = round(length * speed)
    start = int(generator.integers(max(1, len(recording) - source_length + 1)))
    perturbed = perturb_speed(recording[start : start + source_length], speed)[:length]
    return np.pad(perturbed, (0, length - len(perturbed)))


def add_background(segment: Int16Array, background: Int16Array, generator: np.random.Generator) -> Int16Array:
    """Add a part of another sound to a segment, repeated if it is shorter, 0 to 20 dB below its mean power."""
    start = int(generator.integers(max(1, len(background) - len(segment) + 1)))
    other = np.resize(to_float(background[start : start + len(segment)]), len(segment))
    sound = to_float(segment)
    powers = [float(np.square(part).mean()) for part in (sound, other)]
    if not all(powers):
        return segment
    decibels = generator.uniform(*_BACKGROUND_DECIBELS)
    mixed: FloatArray = sound + np.float32(np.sqrt(powers[0] / powers[1]) * 10 ** (-decibels / 20)) * other
    return to_int16(np.clip(mixed, -1, 1))


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
