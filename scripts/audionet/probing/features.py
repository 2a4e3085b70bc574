"""Feature extraction for probing: clips of recordings, distorted by each condition, as features of several kinds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from audionet.audio.network_input import cosine_transform, image_features
from audionet.audio.recording import SILENT
from audionet.audio.resampling import resample_samples
from audionet.audio.samples import is_silent
from audionet.audio.spectrogram import level
from audionet.augment.distortion import CLEAN, apply_condition
from audionet.backbones.litert import AT_A_TIME, thread_runner
from audionet.backbones.resemblyzer import embedding
from audionet.errors import RecordingError
from audionet.probing.tasks import Excerpt, ProbeMaterial, conditions_of, cut_clips, read_excerpt
from audionet.utils.arrays import FloatArray, Int16Array, UInt8Array
from audionet.utils.parallel import Pool, WorkerDied, map_unordered
from audionet.utils.progress import progress

MFCC, BANDS, FRAMES, RESEMBLYZER = "MFCC statistics", "band statistics", "MFCC frames", "Resemblyzer"
"""Names of the kinds of features that need no backbone."""

SOUNDING_LEVEL = 0.5
"""Level, half the image's range, that the loudest band of a frame must reach, or the frame counts as a pause."""

_EXCERPTS_PER_BATCH = 16


class Network(NamedTuple):
    """Backbone for worker processes.

    Attributes
    ----------
    name : str
    path : Path
        Its LiteRT file.
    input_size : (int, int)
        Height and width of its input in pixels.
    voice_width : int
        Number of its last features that are a voice embedding.
    """

    name: str
    path: Path
    input_size: tuple[int, int]
    voice_width: int = 0

    @property
    def parts(self) -> tuple[str, ...]:
        """Names of the parts of its features: bottleneck and voice embedding, or the whole."""
        return (f"{self.name}, bottleneck", f"{self.name}, voice") if self.voice_width else (self.name,)


class Extraction(NamedTuple):
    """Numbered excerpts for one worker, and the settings of their feature extraction."""

    excerpts: list[tuple[int, Excerpt]]
    material: ProbeMaterial
    conditions: tuple[str, ...]
    networks: tuple[Network, ...]
    max_seconds: float
    seed: int
    resemblyzer: bool


class ClipFeatures(NamedTuple):
    """Position and features of a clip.

    Attributes
    ----------
    excerpt : int
        Number of the clip's excerpt.
    condition : str
    start, stop : float
        Seconds from the start of the excerpt.
    features : dict of str to ndarray of float32
        Features by kind, shape (width,); MFCC frames: shape (frames, 20).
    """

    excerpt: int
    condition: str
    start: float
    stop: float
    features: dict[str, FloatArray]


def extract_clips(pool: Pool, work: Extraction) -> tuple[list[ClipFeatures], list[tuple[Excerpt, str]]]:
    """Extract the clips of all excerpts, sorted, and the unusable excerpts, each with the reason."""
    numbered = work.excerpts
    batches = [
        work._replace(excerpts=numbered[i : i + _EXCERPTS_PER_BATCH])
        for i in range(0, len(numbered), _EXCERPTS_PER_BATCH)
    ]
    clips: list[ClipFeatures] = []
    unusable: list[tuple[Excerpt, str]] = []
    with progress("Features", "recordings", len(numbered)) as advance:
        for batch, results in map_unordered(pool, extract_batch, batches, _split):
            if isinstance(results, WorkerDied):
                results = ["crashed the process that read it, twice" for _ in batch.excerpts]
            for (_, excerpt), found in zip(batch.excerpts, results, strict=True):
                if isinstance(found, str):
                    unusable.append((excerpt, found))
                else:
                    clips += found
            advance(len(batch.excerpts))
    clips.sort(key=lambda clip: (clip.excerpt, clip.condition, clip.start))
    return clips, sorted(unusable)


def _split(work: Extraction) -> list[Extraction]:
    return [work._replace(excerpts=[excerpt]) for excerpt in work.excerpts]


def extract_batch(work: Extraction) -> list[list[ClipFeatures] | str]:
    """Extract the clips of each excerpt, or the reason why it has none."""
    found = [_clips(number, excerpt, work) for number, excerpt in work.excerpts]
    # Render all images first, then run one network on all of them: alternating would evict each other's data from the
    # processor cache.
    rendered = [(clip, jpg) for each in found if not isinstance(each, str) for clip, jpg in each]
    for network in work.networks:
        pixels = stack_pixels([jpg for _, jpg in rendered], network.input_size)
        features = thread_runner(network.path).features(pixels, AT_A_TIME)
        edges = [features.shape[1] - network.voice_width] if network.voice_width else []
        for name, values in zip(network.parts, np.split(features, edges, axis=1), strict=True):
            for (clip, _), row in zip(rendered, values, strict=True):
                clip.features[name] = row
    return [each if isinstance(each, str) else [clip for clip, _ in each] for each in found]


def stack_pixels(jpgs: Sequence[bytes], input_size: tuple[int, int]) -> UInt8Array:
    """Decode images to a network's input size, shape (n, height, width, 3)."""
    if not jpgs:
        return np.empty((0, *input_size, 3), np.uint8)
    return np.concatenate([image_features(jpg, input_size).pixels for jpg in jpgs])


def _clips(number: int, excerpt: Excerpt, work: Extraction) -> list[tuple[ClipFeatures, bytes]] | str:
    """Extract the clips of an excerpt, with their images and the features that need no backbone."""
    config = SpectrogramConfig(chunk_seconds=work.material.clip_seconds)
    rate = config.sample_rate
    try:
        samples, own_rate = read_excerpt(excerpt, rate, work.max_seconds)
    except RecordingError as error:
        return str(error)
    if not len(samples) or is_silent(samples):
        return SILENT
    step = round(config.chunk_length * (work.material.training_step if excerpt.use == "training" else 1))
    found = []
    for condition in conditions_of(excerpt, work.conditions, CLEAN):
        distorted = resample_samples(
            apply_condition(condition, samples, own_rate, work.seed, excerpt.recording), own_rate, rate
        )
        for start, piece in cut_clips(distorted, config.chunk_length, step, keep_short=excerpt.whole):
            if is_silent(piece):
                continue
            jpg, features = describe_clip(piece, config)
            if work.resemblyzer:
                features[RESEMBLYZER] = embedding(piece)
            stop = (start + len(piece)) / rate
            found.append((ClipFeatures(number, condition, start / rate, stop, features), jpg))
    part = "" if excerpt.whole else f"of which {excerpt.start:.0%} to {excerpt.stop:.0%} are for {excerpt.use}, "
    return found or f"{part}is too short for a clip"


def describe_clip(piece: Int16Array, config: SpectrogramConfig) -> tuple[bytes, dict[str, FloatArray]]:
    """Render a clip, zero-padded to the full length, as an image, and compute its features that need no network."""
    samples = np.zeros(config.chunk_length, np.int16)
    samples[: len(piece)] = piece
    jpg = render(samples, config)
    statistics = image_features(jpg, (8, 8))
    frames = mfcc_frames(level(samples, config))
    return jpg, {MFCC: statistics.mfcc_statistics, BANDS: statistics.band_statistics, FRAMES: frames}


def mfcc_frames(levels: FloatArray) -> FloatArray:
    """Compute the MFCCs, shape (frames, 20), of the frames of levels, shape (128, all frames), that are no pauses."""
    sounding = levels.max(axis=0) >= SOUNDING_LEVEL
    frames: FloatArray = np.ascontiguousarray((cosine_transform() @ levels[:, sounding]).T)
    return frames
