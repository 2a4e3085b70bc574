"""Batches of augmented views: recordings drawn by dataset, rendered by worker processes, and shuffled."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.errors import DatasetError
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.manifest import Corpus, Utterance
from audionet.pretraining.sounds import PreparedSound, prepare_sounds
from audionet.pretraining.teachers import TEACHERS, teacher_embeddings
from audionet.pretraining.views import VOICES, ViewTask, make_views, voice_speeds
from audionet.utils.arrays import FloatArray, IntArray, UInt8Array
from audionet.utils.parallel import Pool, WorkerDied, map_unordered

log = logging.getLogger(__name__)

_SEGMENTS_PER_TASK = 4
_OWN_VOICE_SHARE = 0.6  # of the segments
_BACKGROUND_SHARE = 0.3  # of the segments of speech, with another sound behind them


class Batch(NamedTuple):
    """Images with the values that their targets are computed from.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (n, height, width, 3)
    auxiliary : ndarray of float32, shape (n, AUXILIARY_WIDTH)
        Auxiliary targets, not normalised.
    utterance : ndarray of int64, shape (n,)
        Index of the recording of each image.
    voice : ndarray of int64, shape (n,)
        Number of the recording's voice: 0 is its own.
    """

    pixels: UInt8Array
    auxiliary: FloatArray
    utterance: NDArray[np.int64]
    voice: NDArray[np.int64]


@dataclass(frozen=True)
class Material:
    """Recordings to train on, prepared.

    Attributes
    ----------
    corpus : Corpus
    utterances : list of Utterance
        Those to train on, then those held out.
    sounds : list of PreparedSound
        One of each utterance.
    embeddings : ndarray of float32, shape (utterances, VOICES, width), or None
        The teacher's, centred; zeros where it has none.
    """

    corpus: Corpus
    utterances: list[Utterance]
    sounds: list[PreparedSound]
    embeddings: FloatArray | None

    @property
    def training(self) -> range:
        """Indices of the utterances to train on."""
        return range(len(self.corpus.training))

    @property
    def held_out(self) -> range:
        """Indices of the utterances held out."""
        return range(len(self.corpus.training), len(self.utterances))


def prepare_material(corpus: Corpus, config: PretrainConfig) -> Material:
    """Prepare a corpus's recordings and compute the teacher's embeddings.

    Each dataset has its own files, so that they outlive changes to another one.

    Raises
    ------
    UsageError
        If the teacher is not installed.
    """
    utterances = corpus.training + corpus.held_out
    width = TEACHERS[config.teacher].width if config.teacher != "none" else 0
    embeddings = np.zeros((len(utterances), VOICES, width), np.float32)
    sounds: dict[int, PreparedSound] = {}
    for number, dataset in enumerate(corpus.datasets):
        rows = [row for row, utterance in enumerate(utterances) if utterance.dataset == number]
        paths = [utterances[row].path for row in rows]
        prepared = prepare_sounds(paths, config.checkpoint_dir / "sounds", config.workers)
        sounds.update(zip(rows, prepared, strict=True))
        if width and dataset.task != "sound":  # a teacher of voices has nothing to say of them
            embeddings[rows] = teacher_embeddings(config.teacher, prepared, config.checkpoint_dir, config.workers)
    in_order = [sounds[row] for row in range(len(utterances))]
    return Material(corpus, utterances, in_order, centre_embeddings(embeddings) if width else None)


def centre_embeddings(embeddings: FloatArray) -> FloatArray:
    """Subtract the mean of a teacher's embeddings and scale them to unit length.

    The mean is the largest part of each embedding and carries no information. Zero embeddings, of recordings that
    cannot be decoded, stay zero.
    """
    is_known = np.linalg.norm(embeddings, axis=-1) > 0
    centred = np.where(is_known[..., None], embeddings - embeddings[is_known].mean(axis=0), 0)
    result: FloatArray = (centred / np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)).astype(
        np.float32
    )
    return result


class BatchSource:
    """Renders batches of views in worker processes.

    Parameters
    ----------
    material : Material
    config : PretrainConfig
    pool : Pool
    """

    def __init__(self, material: Material, config: PretrainConfig, pool: Pool) -> None:
        self._material, self._config, self._pool = material, config, pool
        datasets = np.array([utterance.dataset for utterance in material.utterances])
        is_sound = np.array([dataset.task == "sound" for dataset in material.corpus.datasets])
        self._is_speech = ~is_sound[datasets]
        training = datasets[: len(material.training)]
        self._by_dataset = [np.flatnonzero(training == number) for number in range(len(is_sound))]
        self._backgrounds = [
            rows for rows, sound in zip(self._by_dataset, is_sound, strict=True) if sound and len(rows)
        ]

    def fixed(self, indices: range, wanted: int) -> Batch:
        """Return `wanted` images or a few more, the same ones for the same indices and seed.

        Raises
        ------
        DatasetError
            If none of the recordings can be decoded.
        """
        generator = np.random.default_rng([self._config.seed, indices.start])
        segments = -(-wanted // self._config.views)
        chosen = generator.choice(indices, segments)
        tasks = list(self._view_tasks(chosen, generator))
        rendered = {task.seeds[0]: batch for task, batch in self._render(tasks)}
        batches = [rendered[task.seeds[0]] for task in tasks if task.seeds[0] in rendered]
        if not any(len(batch.utterance) for batch in batches):
            raise DatasetError("none of the recordings that were tried can be decoded; check --data_dir")
        return Batch(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    def endless(self, step: int) -> Generator[Batch, None, None]:
        """Yield batches of the recordings to train on, without end, shuffled, each dataset as often as its weight says.

        A buffer of many batches lies between: the views of a segment, which share a room and a channel, go into
        different ones, and the views of a voice in one batch come from different recordings.
        """
        config = self._config
        generator = np.random.default_rng([config.seed, 1, step])
        drawable = [number for number, rows in enumerate(self._by_dataset) if len(rows)]
        weights = np.array([self._material.corpus.datasets[number].weight for number in drawable])

        def tasks() -> Iterator[ViewTask]:
            while True:
                drawn = generator.choice(drawable, _SEGMENTS_PER_TASK, p=weights / weights.sum())
                yield from self._view_tasks(
                    [int(generator.choice(self._by_dataset[number])) for number in drawn], generator
                )

        buffer: list[NDArray[Any]] | None = None
        size = max(config.shuffle_buffer, 2 * config.batch_size)
        pending: list[Batch] = []
        for _, batch in self._render(tasks()):
            pending.append(batch)
            needed = config.batch_size if buffer is not None else size
            if sum(len(batch.utterance) for batch in pending) < needed:
                continue
            fresh = [np.concatenate(parts) for parts in zip(*pending, strict=True)]
            pending = [Batch(*(part[needed:] for part in fresh))]
            if buffer is None:
                buffer = [part[:needed].copy() for part in fresh]
                continue
            chosen = generator.choice(size, config.batch_size, replace=False)
            yield Batch(*(part[chosen] for part in buffer))
            for part, new in zip(buffer, fresh, strict=True):
                part[chosen] = new[:needed]

    def _view_tasks(self, utterances: Sequence[int] | IntArray, generator: np.random.Generator) -> Iterator[ViewTask]:
        """Draw one segment of each recording, in one of its voices, some with another sound behind them."""
        size = (self._config.input_height, self._config.input_width)
        shares = [_OWN_VOICE_SHARE, *[(1 - _OWN_VOICE_SHARE) / (VOICES - 1)] * (VOICES - 1)]
        for i in range(0, len(utterances), _SEGMENTS_PER_TASK):
            part = [int(row) for row in utterances[i : i + _SEGMENTS_PER_TASK]]
            sounds = [self._material.sounds[row] for row in part]
            voices = generator.choice(VOICES, len(part), p=shares).tolist()
            yield ViewTask(
                sounds,
                [self._draw_background(row, generator) for row in part],
                [voice_speeds(sound)[voice] for sound, voice in zip(sounds, voices, strict=True)],
                generator.integers(2**62, size=len(part)).tolist(),
                self._config.views,
                size,
                list(zip(part, voices, strict=True)),
                self._config.augmentation_strength,
            )

    def _draw_background(self, row: int, generator: np.random.Generator) -> PreparedSound | None:
        if not (self._is_speech[row] and len(self._backgrounds) and generator.random() < _BACKGROUND_SHARE):
            return None
        of_dataset = self._backgrounds[int(generator.integers(len(self._backgrounds)))]
        return self._material.sounds[int(generator.choice(of_dataset))]

    def _render(self, tasks: Iterable[ViewTask]) -> Iterator[tuple[ViewTask, Batch]]:
        for task, views in map_unordered(self._pool, make_views, tasks, lambda task: [task]):
            if isinstance(views, WorkerDied):
                log.warning("a worker process crashed twice on the same recordings; skipped")
                continue
            rows, voices = np.array(task.keys, np.int64).reshape(-1, 2)[views.segment].T
            yield task, Batch(views.pixels, views.auxiliary, rows, voices)
