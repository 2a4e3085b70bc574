"""Embeddings of recordings, by a trained model or by a backbone alone."""

from __future__ import annotations

import functools
import logging
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.audio.network_input import LEAST_ACTIVITY, image_features
from audionet.audio.recording import SILENT, measure
from audionet.audio.sound_pieces import Piece, find_pieces
from audionet.backbones.litert import AT_A_TIME, thread_runner
from audionet.backbones.registry import Backbone, prepare
from audionet.classifier.prototypes import unit_length
from audionet.errors import DatasetError, ModelError, RecordingError, UsageError
from audionet.inference.clip import Clip, ClipChunk
from audionet.inference.config import EmbedConfig
from audionet.inference.predictor import Predictor
from audionet.utils.arrays import BoolArray, FloatArray, UInt8Array
from audionet.utils.files import walk
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress
from audionet.utils.text import escape

log = logging.getLogger(__name__)

_RECORDINGS_PER_TASK = 8
_SAMPLE_IMAGES = 16
_SAME_TIME = 1e-3  # seconds: times are rounded to samples


class ClipFile(NamedTuple):
    """Recording to embed.

    Attributes
    ----------
    path : Path
    name : str
        Path as it is written to files: inside the folder that the user named, or as the user named it.
    label : str
        Sub-folder that it lies in, empty if none.
    """

    path: Path
    name: str
    label: str


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of chunks or recordings.

    Attributes
    ----------
    files, labels : list of str
        Recording and label of each embedding.
    start, end : ndarray of float64, shape (n,)
        Seconds.
    vectors : ndarray of float32, shape (n, dimensions)
        Of unit length in a space of voices, as the backbone gives them otherwise.
    is_speech : ndarray of bool, shape (n,)
        By the backbone's detector; True where there is none.
    """

    files: list[str]
    labels: list[str]
    start: NDArray[np.float64]
    end: NDArray[np.float64]
    vectors: FloatArray
    is_speech: BoolArray

    def where(self, chosen: BoolArray) -> Embeddings:
        """Return some of the embeddings."""
        rows = np.flatnonzero(chosen)
        files, labels = ([values[row] for row in rows.tolist()] for values in (self.files, self.labels))
        return Embeddings(files, labels, self.start[rows], self.end[rows], self.vectors[rows], self.is_speech[rows])


def find_clips(paths: Sequence[Path]) -> Iterator[ClipFile]:
    """List the recordings in folders, with the folders that they lie in as labels; other paths as they are.

    Raises
    ------
    UsageError
        If a folder holds none.
    """
    for path in paths:
        if not path.is_dir():
            yield ClipFile(path, str(path), "")
            continue
        inside = [(name, file) for name, file in walk(path) if file.suffix.lower() in AUDIO_SUFFIXES]
        if not inside:
            raise UsageError(f"{escape(path)} holds no recordings: name a folder of recordings, or recordings")
        for name, file in inside:
            yield ClipFile(file, name if len(paths) == 1 else f"{path}/{name}", name.rpartition("/")[0])


class Embedder(Protocol):
    """Computes embeddings of images."""

    spectrogram: SpectrogramConfig
    input_size: tuple[int, int]
    are_voices: bool
    """True if embeddings are compared by their direction, and have unit length."""
    cohort: FloatArray
    """Mean embeddings of speakers to normalise scores by, of unit length, shape (speakers, dimensions); maybe none."""

    def embed(self, pixels: UInt8Array, mfcc: FloatArray) -> tuple[FloatArray, BoolArray]:
        """Compute embeddings of images, shape (n, height, width, 3), and MFCC statistics.

        Returns
        -------
        vectors : ndarray of float32, shape (n, dimensions)
        is_speech : ndarray of bool, shape (n,)
        """


class _ModelEmbedder:
    """Embeds in the space in which a trained model compares its labels."""

    are_voices = True

    def __init__(self, graph: Path) -> None:
        self._predictor = Predictor(graph, threads=1, with_enrolled=False)
        if self._predictor.spectrogram is None:
            raise ModelError(f"{escape(graph)}: data_maker.py did not render its images, so it cannot embed recordings")
        self.spectrogram, self.input_size = self._predictor.spectrogram, self._predictor.input_size
        self.cohort = self._predictor.voices.centroids

    def embed(self, pixels: UInt8Array, mfcc: FloatArray) -> tuple[FloatArray, BoolArray]:
        return unit_length(self._predictor.predict_batch(pixels, mfcc).embeddings), np.ones(len(pixels), bool)


class _BackboneEmbedder:
    """Embeds by a backbone's features, or in its voice space."""

    spectrogram = SpectrogramConfig()

    def __init__(self, backbone: Backbone, kind: str) -> None:
        self._backbone, self.are_voices = backbone, kind == "voice"
        if self.are_voices and backbone.voice_space is None:
            raise UsageError(
                f"{escape(backbone.name)} has no voice space, in which speakers are compared: choose the bundled "
                "backbone or a trained model (--graph); audionet embed gives its features with --kind bottleneck"
            )
        self.input_size = backbone.input_size
        self.cohort = np.zeros((0, 0), np.float32) if backbone.voice_space is None else backbone.voice_space.cohort

    def embed(self, pixels: UInt8Array, mfcc: FloatArray) -> tuple[FloatArray, BoolArray]:
        features, voice_space = (
            thread_runner(self._backbone.path).features(pixels, AT_A_TIME),
            self._backbone.voice_space,
        )
        is_speech = np.ones(len(pixels), bool) if voice_space is None else voice_space.speech_logits(features) > 0
        if self.are_voices and voice_space is not None:
            return voice_space.directions(features), is_speech
        return features[:, : self._backbone.width - self._backbone.voice_width], is_speech


@functools.lru_cache(maxsize=1)  # of a worker process
def load_embedder(config: EmbedConfig, samples: tuple[Path, ...] = ()) -> Embedder:
    """Load what computes embeddings.

    Parameters
    ----------
    config : EmbedConfig
    samples : tuple of Path
        Recordings, with images of which a backbone that is not yet converted is converted.

    Raises
    ------
    UsageError, BackboneError, ModelError
        If there is no such backbone or model, or it has no space of voices.
    """
    if config.graph is not None:
        return _ModelEmbedder(config.graph)

    def images(size: tuple[int, int]) -> UInt8Array:
        return _sample_images(samples, size)

    return _BackboneEmbedder(prepare(config.architecture, config.model_dir, None, images), config.kind)


def _sample_images(samples: Sequence[Path], size: tuple[int, int]) -> UInt8Array:
    found: list[UInt8Array] = []
    for path in samples:
        try:
            for chunk in Clip(path, _BackboneEmbedder.spectrogram):
                if chunk.jpg is not None:
                    found.append(image_features(chunk.jpg, size).pixels)
                if len(found) == _SAMPLE_IMAGES:
                    return np.concatenate(found)
        except RecordingError:
            continue
    if not found:
        raise DatasetError("no recording could be used")
    return np.concatenate(found)


class _EmbedTask(NamedTuple):
    paths: tuple[Path, ...]
    config: EmbedConfig
    by_piece: bool


class RecordingEmbeddings(NamedTuple):
    """Embeddings of the chunks of a recording.

    Attributes
    ----------
    starts, ends : list of float
        Seconds.
    vectors : ndarray of float32, shape (chunks, dimensions)
    weights : ndarray of float32, shape (chunks,)
        Share of each chunk with sound.
    is_speech : ndarray of bool, shape (chunks,)
    remark : str or None
        Damage, where part of it could be used, or why nothing could.
    """

    starts: list[float]
    ends: list[float]
    vectors: FloatArray
    weights: FloatArray
    is_speech: BoolArray
    remark: str | None = None


def embed_recordings(task: _EmbedTask) -> list[RecordingEmbeddings]:
    """Embed the chunks of some recordings, or their pieces between pauses, in a worker process."""
    embedder = load_embedder(task.config)
    return [_embed_recording(path, embedder, task.by_piece) for path in task.paths]


def _embed_recording(path: Path, embedder: Embedder, by_piece: bool) -> RecordingEmbeddings:
    pieces: list[Piece] | None = None
    if by_piece:
        pieces = find_pieces(measure(path, embedder.spectrogram), embedder.spectrogram.chunk_seconds)
    clip = Clip(path, embedder.spectrogram, pieces)
    parts: list[RecordingEmbeddings] = []
    chunks: list[ClipChunk] = []
    damage: str | None = None

    def finish() -> None:
        parts.append(_embed_chunks(chunks, embedder))
        chunks.clear()

    try:
        for chunk in clip:
            if chunk.jpg is not None:
                chunks.append(chunk)
            if len(chunks) == AT_A_TIME:
                finish()
    except RecordingError as error:
        damage = str(error)
    if chunks:
        finish()
    if not parts:
        nothing = np.zeros(0, np.float32)
        return RecordingEmbeddings([], [], nothing[:, None], nothing, np.zeros(0, bool), damage or SILENT)
    starts = [start for part in parts for start in part.starts]
    ends = [min(end, clip.seconds or 0.0) for part in parts for end in part.ends]
    if pieces is not None:
        ends = [min(ends[i], _end_of(pieces, start)) for i, start in enumerate(starts)]
    return RecordingEmbeddings(
        starts,
        ends,
        np.concatenate([part.vectors for part in parts]),
        np.concatenate([part.weights for part in parts]),
        np.concatenate([part.is_speech for part in parts]),
        clip.remark(damage),
    )


def _embed_chunks(chunks: Sequence[ClipChunk], embedder: Embedder) -> RecordingEmbeddings:
    found = [image_features(chunk.jpg, embedder.input_size) for chunk in chunks if chunk.jpg is not None]
    starts = [chunk.start for chunk in chunks]
    vectors, is_speech = embedder.embed(
        np.concatenate([features.pixels for features in found]),
        np.stack([features.mfcc_statistics for features in found]),
    )
    return RecordingEmbeddings(
        starts,
        [start + embedder.spectrogram.chunk_seconds for start in starts],
        vectors,
        np.maximum([features.activity for features in found], LEAST_ACTIVITY).astype(np.float32),
        is_speech,
    )


def _end_of(pieces: Sequence[Piece], start: float) -> float:
    """Return the end of the piece in which a chunk begins."""
    return pieces[max(0, bisect_right(pieces, start + _SAME_TIME, key=lambda piece: piece.start) - 1)].end


def embed_files(
    files: Sequence[ClipFile], config: EmbedConfig, per: Literal["chunk", "piece", "recording"]
) -> Embeddings:
    """Embed recordings in parallel; log those that cannot be used.

    Parameters
    ----------
    files : sequence of ClipFile
    config : EmbedConfig
    per : "chunk", "piece" or "recording"
        An embedding for each chunk; for each piece between pauses, see `find_pieces`; or the mean over a recording's
        chunks, weighted by how much of them is sound.

    Raises
    ------
    DatasetError
        If none can be used.
    UsageError, BackboneError, ModelError
        As `load_embedder`.
    """
    embedder = load_embedder(config, tuple(file.path for file in files[:_SAMPLE_IMAGES]))
    found: dict[Path, RecordingEmbeddings] = {}
    paths = list(dict.fromkeys(file.path for file in files))
    tasks = (
        _EmbedTask(tuple(paths[i : i + _RECORDINGS_PER_TASK]), config, per == "piece")
        for i in range(0, len(paths), _RECORDINGS_PER_TASK)
    )
    with local_processes(config.workers) as pool, progress("Embedding", "recordings", len(paths)) as advance:
        for task, results in map_unordered(pool, embed_recordings, tasks, _split):
            if isinstance(results, WorkerDied):
                log.warning(f"{task.paths[0]}: ended the process that read it; left out")
            else:
                found |= zip(task.paths, results, strict=True)
            advance(len(task.paths))
    rows: list[tuple[ClipFile, float, float, FloatArray, bool]] = []
    for file in files:
        one = found.get(file.path)
        if one is None:
            continue
        if one.remark is not None:
            log.warning(f"{file.path}: {one.remark}{'' if len(one.starts) else '; left out'}")
        if not len(one.starts):
            continue
        if per == "recording":
            mean: FloatArray = np.average(one.vectors, axis=0, weights=one.weights).astype(np.float32)
            vector = unit_length(mean) if embedder.are_voices else mean
            rows.append((file, one.starts[0], one.ends[-1], vector, bool(one.is_speech.any())))
        else:
            columns = one.starts, one.ends, one.vectors, one.is_speech.tolist()
            rows += [(file, *row) for row in zip(*columns, strict=True)]
    if not rows:
        raise DatasetError("no recording could be used: see the reasons above")
    return Embeddings(
        [file.name for file, *_ in rows],
        [file.label for file, *_ in rows],
        np.array([start for _, start, *_ in rows]),
        np.array([end for _, _, end, *_ in rows]),
        np.stack([vector for *_, vector, _ in rows]),
        np.array([is_speech for *_, is_speech in rows]),
    )


def _split(task: _EmbedTask) -> list[_EmbedTask]:
    return [task._replace(paths=(path,)) for path in task.paths]
