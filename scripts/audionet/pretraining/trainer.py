"""Pretraining of a backbone: multi-task training on augmented views of public recordings, with distillation."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.tf_runtime import import_keras
from audionet.errors import DatasetError, ModelError
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.manifest import Corpus, find_utterances, read_manifest
from audionet.pretraining.network import Student, build
from audionet.pretraining.pitch_shift import add_pitch_shifted_speakers
from audionet.pretraining.teachers import TEACHERS, teacher_embeddings
from audionet.pretraining.views import SPEED_FACTORS, ViewTask, make_views
from audionet.training.checkpoint import Checkpoint, State
from audionet.training.tensorboard_log import Scalars
from audionet.utils.arrays import FloatArray, UInt8Array
from audionet.utils.json_files import real
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress
from audionet.utils.text import os_error_reason, pluralise

log = logging.getLogger(__name__)

_SEGMENTS_PER_TASK = 4
_WARM_UP_SHARE = 0.05
_VALIDATION_IMAGES = 600
_STATISTICS_IMAGES = 600  # for the mean and deviation of the auxiliary targets
_LEAST_DEVIATION = 1e-3
_BATCH_NORM_BATCHES = 100
_CHECK_IMAGES = 4  # stored with the weights
_IDENTITY_EXCLUDES = (
    "data_dir",
    "output_dir",
    "checkpoint_dir",
    "summaries_dir",
    "workers",
    "eval_interval",
    "manifest",
    "version",
    "bottleneck",
    "statistics",
)


class Batch(NamedTuple):
    """Images with the values that their targets are computed from.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (n, height, width, 3)
    auxiliary : ndarray of float32, shape (n, AUXILIARY_WIDTH)
        Auxiliary targets, not normalised.
    utterance : ndarray of int64, shape (n,)
        Index of the recording of each image.
    speed : ndarray of int64, shape (n,)
        Index of its speed factor in SPEED_FACTORS.
    """

    pixels: UInt8Array
    auxiliary: FloatArray
    utterance: NDArray[np.int64]
    speed: NDArray[np.int64]


@dataclass(frozen=True)
class Pretrained:
    """A finished backbone.

    Attributes
    ----------
    student : Student
    corpus : Corpus
    held_out : dict of str to float
        Metrics on held-out recordings.
    steps : int
    hours : float
        Training time, including that of interrupted runs.
    check_images : ndarray of uint8, shape (n, height, width, 3)
        Images to compare a loaded copy's output on.
    """

    student: Student
    corpus: Corpus
    held_out: dict[str, float]
    steps: int
    hours: float
    check_images: UInt8Array


def pretrain(config: PretrainConfig) -> Pretrained:
    """Pretrain a backbone.

    Raises
    ------
    DatasetError
        If the manifest is invalid, or none of its recordings exist or can be decoded.
    UsageError
        If the teacher is not installed.
    ModelError
        If the loss becomes NaN or infinite before the first checkpoint, or a second time.
    """
    corpus = find_utterances(read_manifest(config.manifest), config.data_dir)
    corpus = add_pitch_shifted_speakers(corpus, config.checkpoint_dir / "other pitches", config.workers)
    for dataset in corpus.datasets:
        log.info(f"{dataset.name}: {dataset.task}s, {dataset.licence}")
    log.info(f"{pluralise(len(corpus.training), 'recording')} to train on, {len(corpus.held_out)} held out")
    if not corpus.held_out:
        log.warning("too few recordings to hold any out: validation metrics are computed on the training recordings")
    embeddings = None
    if config.teacher != "none":
        embeddings = centre_embeddings(_embed_corpus(corpus, config))
    keras = import_keras()
    keras.utils.set_random_seed(config.seed)
    classes = {
        task: len(labels) * (len(SPEED_FACTORS) if task == "speaker" else 1) for task, labels in corpus.labels.items()
    }
    student = build(config, classes, TEACHERS[config.teacher].width if embeddings is not None else 0)
    return _Training(config, corpus, embeddings, student).run()


def _embed_corpus(corpus: Corpus, config: PretrainConfig) -> FloatArray:
    """Compute the teacher's embeddings, cached per dataset, so that the cache of one outlives changes to another."""
    utterances = corpus.training + corpus.held_out
    embeddings = np.zeros((len(utterances), len(SPEED_FACTORS), TEACHERS[config.teacher].width), np.float32)
    for number in range(len(corpus.datasets)):
        rows = [row for row, utterance in enumerate(utterances) if utterance.dataset == number]
        paths = [utterances[row].path for row in rows]
        embeddings[rows] = teacher_embeddings(config.teacher, paths, config.checkpoint_dir, config.workers)
    return embeddings


class _Training:
    """One pretraining run: network, data, and state on disk."""

    def __init__(self, config: PretrainConfig, corpus: Corpus, embeddings: FloatArray | None, student: Student) -> None:
        self.config, self.corpus, self.student = config, corpus, student
        self.utterances = corpus.training + corpus.held_out
        self.embeddings = embeddings
        self.datasets = np.array([utterance.dataset for utterance in self.utterances])
        self.labels = np.array([utterance.label for utterance in self.utterances])
        self.variables = [*student.model.variables, *student.model.optimizer.variables]
        self.checkpoint = Checkpoint(config.checkpoint_dir, "pretraining", self._identity(), config.eval_interval)
        self.rate_factor = 1.0
        self.step = 0
        self.seconds, self.started = 0.0, time.monotonic()

    def run(self) -> Pretrained:
        config, training = self.config, range(len(self.corpus.training))
        self._resume()
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(local_processes(config.workers))
            # The same images at every validation, and from run to run.
            auxiliary = self._fixed_batch(pool, training, _STATISTICS_IMAGES).auxiliary
            self.auxiliary_mean = auxiliary.mean(axis=0)
            self.auxiliary_deviation = auxiliary.std(axis=0) + _LEAST_DEVIATION
            validation = self._fixed_batch(
                pool, range(len(training), len(self.utterances)) or training, _VALIDATION_IMAGES
            )
            scalars = stack.enter_context(contextlib.closing(Scalars(config.summaries_dir)))
            batches = stack.enter_context(contextlib.closing(self._batches(pool, training)))
            advance = stack.enter_context(progress("Pretraining", "steps", config.steps))
            advance(self.step)
            recent: list[dict[str, float]] = []
            self.started = time.monotonic()
            while (done := self._progress()) < 1:
                losses = self._train_step(next(batches), done)
                if not math.isfinite(losses["loss"]):
                    failed_at = self.step
                    self._roll_back()
                    advance(self.step - failed_at)
                    recent = []
                    continue
                recent.append(losses)
                self.step += 1
                advance(1)
                if self.step % config.eval_interval == 0:
                    self._log_and_save(recent, validation, scalars)
                    recent = []
            if recent:
                self._log_and_save(recent, validation, scalars)
            if config.ema_decay:
                self.student.model.optimizer.finalize_variable_values(self.student.model.trainable_variables)
                number = min(_BATCH_NORM_BATCHES, self.step)
                pixels = self._fixed_batch(pool, training, number * config.batch_size).pixels
                recompute_batch_norm(self.student.features, np.array_split(pixels, number))
        metrics = self._validate(validation)
        log.info(f"Held out, with the moving average of the weights: {format_metrics(metrics)}")
        pixels = validation.pixels[:: max(1, len(validation.pixels) // _CHECK_IMAGES)][:_CHECK_IMAGES]
        return Pretrained(self.student, self.corpus, metrics, self.step, self._elapsed() / 3600, pixels)

    def _log_and_save(self, recent: list[dict[str, float]], validation: Batch, scalars: Scalars) -> None:
        """Log the mean losses and the validation metrics, and save a checkpoint."""
        means = {name: float(np.mean([losses[name] for losses in recent])) for name in recent[0]}
        metrics = self._validate(validation)
        log.warning(f"step {self.step}: {format_metrics(means)}; held out: {format_metrics(metrics)}")
        scalars.add(self.step, {f"training/{name}": value for name, value in means.items()})
        scalars.add(self.step, {f"held out/{name}": value for name, value in metrics.items()})
        self._save()

    def _elapsed(self) -> float:
        """Return the training time in seconds, including that of interrupted runs."""
        return self.seconds + time.monotonic() - self.started

    def _progress(self) -> float:
        """Return the share of the training that is done, by steps or by time, whichever is larger."""
        by_time = self._elapsed() / 3600 / self.config.hours if self.config.hours else 0
        return max(self.step / self.config.steps, by_time)

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for utterance in self.utterances:
            digest.update(
                f"{utterance.path.name} {utterance.dataset} {utterance.label}\n".encode("utf-8", "surrogateescape")
            )
        # By the names that the settings had first, so that a checkpoint outlives their renaming.
        settings = {
            item.metadata["alias"] or item.name: getattr(self.config, item.name)
            for item in dataclasses.fields(self.config)
            if item.name not in _IDENTITY_EXCLUDES
        }
        return {"settings": settings, "recordings": digest.hexdigest(), "labels": self.corpus.labels}

    def _resume(self) -> None:
        others = [path for path in self.config.checkpoint_dir.glob("pretraining-*.npz") if path != self.checkpoint.path]
        if others and not self.checkpoint.path.exists():
            log.warning(
                f"{others[0]}: has other settings or other data; training starts from scratch and leaves it as it is"
            )
        state = self._load_checkpoint()
        if state is not None:
            self._restore(state)
            log.info(f"Resuming from step {self.step}")

    def _load_checkpoint(self) -> _Resumed | None:
        like = [(tuple(v.shape), str(np.dtype(v.dtype))) for v in self.variables]
        return self.checkpoint.load(like, 0, _parse_state)

    def _restore(self, resumed: _Resumed) -> None:
        for variable, array in zip(self.variables, resumed.arrays, strict=True):
            variable.assign(array)
        self.step, self.rate_factor, self.seconds = resumed.step, resumed.rate_factor, resumed.seconds
        self.started = time.monotonic()

    def _save(self) -> None:
        import keras

        arrays = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in self.variables]
        state = State(self.step, arrays, [], {"slower": self.rate_factor, "seconds": self._elapsed()})
        try:
            self.checkpoint.save(state)
        except OSError as error:
            log.warning(
                f"{self.checkpoint.path}: cannot be written ({os_error_reason(error)}); the previous "
                "checkpoint is kept and training continues"
            )

    def _roll_back(self) -> None:
        """Restore the last checkpoint and halve the learning rate from there on; possible once.

        Raises
        ------
        ModelError
            The second time, or if there is no checkpoint.
        """
        if self.rate_factor < 1:
            raise ModelError("the loss became NaN or infinite again; lower --learning_rate")
        state = self._load_checkpoint()
        if state is None:
            raise ModelError(
                f"the loss became NaN or infinite at step {self.step}, before the first checkpoint; "
                "lower --learning_rate"
            )
        failed_at = self.step
        self._restore(state)
        self.rate_factor = 0.5
        log.warning(
            f"the loss became NaN or infinite at step {failed_at}; back to step {self.step}, at half the learning rate"
        )

    def _train_step(self, batch: Batch, done: float) -> dict[str, float]:
        """Train on one batch and return the losses, each and in total."""
        config, model = self.config, self.student.model
        model.optimizer.learning_rate = config.learning_rate * learning_rate_factor(done) * self.rate_factor
        targets, weights = self._targets(batch)
        losses = model.train_on_batch(batch.pixels.astype(np.float32), targets, sample_weight=weights, return_dict=True)
        return {name.removesuffix("_loss"): float(value) for name, value in losses.items()}

    def _targets(self, batch: Batch) -> tuple[dict[str, Any], dict[str, FloatArray]]:
        """Return the targets of each head and the sample weights, 0 for images without a label of the task."""
        ones = np.ones(len(batch.utterance), np.float32)
        targets: dict[str, Any] = {"content": (batch.auxiliary - self.auxiliary_mean) / self.auxiliary_deviation}
        weights = {"content": ones}
        if self.embeddings is not None:
            targets["teacher"] = self.embeddings[batch.utterance, batch.speed]
            weights["teacher"] = ones
        datasets, labels = self.datasets[batch.utterance], self.labels[batch.utterance]
        for task in self.corpus.labels:
            has_label = np.array([dataset.task == task for dataset in self.corpus.datasets])[datasets]
            classes = labels * len(SPEED_FACTORS) + batch.speed if task == "speaker" else labels
            targets[task] = np.where(has_label, classes, 0)
            weights[task] = has_label.astype(np.float32)
        return targets, weights

    def _validate(self, validation: Batch) -> dict[str, float]:
        """Compute the metrics on a validation batch.

        Explained variance of the auxiliary targets, mean cosine similarity to the teacher, accuracy of the other tasks.
        """
        blocks = [
            self.student.model.predict_on_batch(validation.pixels[i : i + 64].astype(np.float32))
            for i in range(0, len(validation.pixels), 64)
        ]
        outputs = {name: np.concatenate([np.asarray(block[name]) for block in blocks]) for name in blocks[0]}
        targets, weights = self._targets(validation)
        errors = np.square(outputs["content"] - targets["content"]).mean()
        metrics = {"content": float(1 - errors / np.square(targets["content"]).mean())}
        if self.embeddings is not None:
            metrics["teacher"] = float((outputs["teacher"] * targets["teacher"]).sum(axis=1).mean())
        for task in self.corpus.labels:
            labelled = weights[task] > 0
            if task != "speaker" and labelled.any():  # no accuracy of speakers, whose classes serve training alone
                metrics[task] = float((outputs[task][labelled].argmax(axis=1) == targets[task][labelled]).mean())
        return metrics

    def _fixed_batch(self, pool: Any, indices: range, wanted: int) -> Batch:
        """Return `wanted` images or a few more, the same ones for the same indices and seed.

        Raises
        ------
        DatasetError
            If none of the recordings can be decoded.
        """
        generator = np.random.default_rng([self.config.seed, indices.start])
        segments = -(-wanted // self.config.views)
        chosen = generator.choice(indices, segments)
        tasks = list(self._view_tasks(chosen, generator))
        rendered = {task.seeds[0]: batch for task, batch in self._render(pool, tasks)}
        batches = [rendered[task.seeds[0]] for task in tasks if task.seeds[0] in rendered]
        if not any(len(batch.utterance) for batch in batches):
            raise DatasetError("none of the recordings that were tried can be decoded; check --data_dir")
        return Batch(*(np.concatenate(parts) for parts in zip(*batches, strict=True)))

    def _view_tasks(self, utterances: Any, generator: np.random.Generator) -> Iterator[ViewTask]:
        """Draw one segment of each recording, at a random speed."""
        size = (self.config.input_height, self.config.input_width)
        for i in range(0, len(utterances), _SEGMENTS_PER_TASK):
            part = utterances[i : i + _SEGMENTS_PER_TASK]
            speeds = generator.integers(len(SPEED_FACTORS), size=len(part)).tolist()
            seeds = generator.integers(2**62, size=len(part)).tolist()
            paths = [self.utterances[k].path for k in part]
            yield ViewTask(paths, speeds, seeds, self.config.views, size, self.config.augmentation_strength)

    def _render(self, pool: Any, tasks: Any) -> Iterator[tuple[ViewTask, Batch]]:
        index = {utterance.path: number for number, utterance in enumerate(self.utterances)}
        for task, views in map_unordered(pool, make_views, tasks, lambda task: [task]):
            if isinstance(views, WorkerDied):
                log.warning("a worker process crashed twice on the same recordings; skipped")
                continue
            utterances = np.array([index[path] for path in task.paths])[views.segment]
            yield task, Batch(views.pixels, views.auxiliary, utterances, np.array(task.speeds)[views.segment])

    def _batches(self, pool: Any, indices: range) -> Generator[Batch, None, None]:
        """Yield batches without end, shuffled, with every dataset sampled equally often."""
        config = self.config
        generator = np.random.default_rng([config.seed, 1, self.step])
        by_dataset = [
            np.array([i for i in indices if self.utterances[i].dataset == number])
            for number in range(len(self.corpus.datasets))
        ]
        by_dataset = [members for members in by_dataset if len(members)]

        def endless() -> Iterator[ViewTask]:
            while True:
                drawn = generator.integers(len(by_dataset), size=_SEGMENTS_PER_TASK)
                chosen = [generator.choice(by_dataset[dataset]) for dataset in drawn]
                yield from self._view_tasks(chosen, generator)

        buffer: list[NDArray[Any]] | None = None
        size = max(config.shuffle_buffer, 2 * config.batch_size)
        pending: list[Batch] = []
        for _, batch in self._render(pool, endless()):
            pending.append(batch)
            needed = config.batch_size if buffer is not None else size
            if sum(len(batch.utterance) for batch in pending) < needed:
                continue
            fresh = [np.concatenate(parts) for parts in zip(*pending, strict=True)]
            pending = [Batch(*(part[needed:] for part in fresh))]
            if buffer is None:
                buffer = [part[:needed].copy() for part in fresh]
                continue
            drawn = generator.choice(size, config.batch_size, replace=False)
            yield Batch(*(part[drawn] for part in buffer))
            for part, new in zip(buffer, fresh, strict=True):
                part[drawn] = new[:needed]


class _Resumed(NamedTuple):
    """State that a pretraining resumes from."""

    step: int
    arrays: list[NDArray[Any]]
    rate_factor: float
    seconds: float


def _parse_state(state: State) -> _Resumed:
    rate_factor, seconds = real(state.progress, "slower", 0.5, 1), real(state.progress, "seconds", 0)
    return _Resumed(state.step, state.arrays, rate_factor, seconds)


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


def recompute_batch_norm(model: Any, batches: Iterable[UInt8Array]) -> None:
    """Recompute the batch normalisation statistics for the current weights.

    The network never ran with the averaged weights in training, and with the statistics of other weights its output is
    random (Izmailov et al., Averaging weights leads to wider optima, 2018).
    """
    import keras

    layers = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in layers]
    for number, pixels in enumerate(batches):
        for layer in layers:
            layer.momentum = number / (number + 1)  # the mean over all batches
        model(pixels.astype(np.float32), training=True)
    for layer, momentum in zip(layers, momenta, strict=True):
        layer.momentum = momentum


def format_metrics(values: Mapping[str, float]) -> str:
    """Format metrics as ``content 0.560, word 0.962``."""
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def learning_rate_factor(done: float) -> float:
    """Return the learning rate, relative to its peak, when the share `done` of the training is done.

    Linear warm-up over the first twentieth, then cosine decay to 0.
    """
    if done < _WARM_UP_SHARE:
        return done / _WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * min(1, (done - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE))))
