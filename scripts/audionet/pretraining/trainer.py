"""Pretraining of a backbone: multi-task training on augmented views of public recordings, with distillation."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.tf_runtime import import_keras
from audionet.errors import ModelError
from audionet.metrics.detection import detection
from audionet.pretraining.batches import Batch, BatchSource, Material, prepare_material
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.manifest import Corpus, find_utterances, read_manifest
from audionet.pretraining.network import Student, build
from audionet.pretraining.pitch_shift import add_pitch_shifted_speakers
from audionet.pretraining.synthetic_sounds import add_synthetic_sounds
from audionet.training.checkpoint import Checkpoint, State
from audionet.training.tensorboard_log import Scalars
from audionet.utils.arrays import FloatArray, IntArray, UInt8Array
from audionet.utils.json_files import real
from audionet.utils.parallel import local_processes
from audionet.utils.progress import progress
from audionet.utils.text import os_error_reason, pluralise

log = logging.getLogger(__name__)

_WARM_UP_SHARE = 0.05
_VALIDATION_IMAGES = 600
_STATISTICS_IMAGES = 600  # for the mean and deviation of the auxiliary targets
_LEAST_DEVIATION = 1e-3
_BATCH_NORM_BATCHES = 100
_SAMPLE_IMAGES = 32
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
    sample_images : ndarray of uint8, shape (n, height, width, 3)
        Images to compare a converted or loaded copy's output on.
    """

    student: Student
    corpus: Corpus
    held_out: dict[str, float]
    steps: int
    hours: float
    sample_images: UInt8Array


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
    folder = config.checkpoint_dir / "synthetic sounds"
    corpus = add_synthetic_sounds(corpus, folder, config.synthetic_sounds, config.workers)
    for dataset in corpus.datasets:
        log.info(f"{dataset.name}: {dataset.task}s, {dataset.licence}")
    log.info(f"{pluralise(len(corpus.training), 'recording')} to train on, {len(corpus.held_out)} held out")
    if not corpus.held_out:
        log.warning("too few recordings to hold any out: validation metrics are computed on the training recordings")
    material = prepare_material(corpus, config)
    keras = import_keras()
    keras.utils.set_random_seed(config.seed)
    classes = {task: len(labels) for task, labels in corpus.labels.items()}
    student = build(config, classes, 0 if material.embeddings is None else material.embeddings.shape[-1])
    return _Training(config, material, student).run()


class _Training:
    """One pretraining run: network, data, and state on disk."""

    def __init__(self, config: PretrainConfig, material: Material, student: Student) -> None:
        self.config, self.material, self.student = config, material, student
        self.corpus = material.corpus
        self.datasets = np.array([utterance.dataset for utterance in material.utterances])
        self.labels = np.array([utterance.label for utterance in material.utterances])
        self.variables = [*student.model.variables, *student.model.optimizer.variables]
        self.checkpoint = Checkpoint(config.checkpoint_dir, "pretraining", self._identity(), config.eval_interval)
        self.rate_factor = 1.0
        self.step = 0
        self.seconds, self.started = 0.0, time.monotonic()

    def run(self) -> Pretrained:
        config, training = self.config, self.material.training
        self._resume()
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(local_processes(config.workers))
            source = BatchSource(self.material, config, pool)
            # The same images at every validation, and from run to run.
            auxiliary = source.fixed(training, _STATISTICS_IMAGES).auxiliary
            self.auxiliary_mean = auxiliary.mean(axis=0)
            self.auxiliary_deviation = auxiliary.std(axis=0) + _LEAST_DEVIATION
            validation = source.fixed(self.material.held_out or training, _VALIDATION_IMAGES)
            scalars = stack.enter_context(contextlib.closing(Scalars(config.summaries_dir)))
            batches = stack.enter_context(contextlib.closing(source.endless(self.step)))
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
                pixels = source.fixed(training, number * config.batch_size).pixels
                recompute_batch_norm(self.student.features, np.array_split(pixels, number))
        metrics = self._validate(validation)
        log.info(f"Held out, with the moving average of the weights: {format_metrics(metrics)}")
        pixels = validation.pixels[:: max(1, len(validation.pixels) // _SAMPLE_IMAGES)][:_SAMPLE_IMAGES]
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
        for utterance in self.material.utterances:
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
        if self.material.embeddings is not None:
            embeddings = self.material.embeddings[batch.utterance, batch.voice]
            is_known: FloatArray = np.where(embeddings.any(axis=1), ones, 0)
            for name in self._taught:
                targets[name], weights[name] = embeddings, is_known
        datasets, labels = self.datasets[batch.utterance], self.labels[batch.utterance]
        for task in self.corpus.labels:
            has_label = np.array([dataset.task == task for dataset in self.corpus.datasets])[datasets]
            if task == "speaker":
                has_label &= batch.voice == 0  # recordings of one speaker have different other voices
            targets[task] = np.where(has_label, labels, 0)
            weights[task] = has_label.astype(np.float32)
        return targets, weights

    @property
    def _taught(self) -> list[str]:
        """Names of the outputs that the teacher's embeddings are the targets of."""
        return [name for name in ("teacher", "voice") if name in self.student.model.output]

    def _validate(self, validation: Batch) -> dict[str, float]:
        """Compute the metrics on a validation batch.

        Explained variance of the auxiliary targets; mean cosine similarity to the teacher; equal error rate of the
        voice embeddings, over all pairs of images of different recordings; accuracy of words.
        """
        blocks = [
            self.student.model.predict_on_batch(validation.pixels[i : i + 64].astype(np.float32))
            for i in range(0, len(validation.pixels), 64)
        ]
        outputs = {name: np.concatenate([np.asarray(block[name]) for block in blocks]) for name in blocks[0]}
        targets, weights = self._targets(validation)
        errors = np.square(outputs["content"] - targets["content"]).mean()
        metrics = {"content": float(1 - errors / np.square(targets["content"]).mean())}
        for name in self._taught:
            cosines = (outputs[name] * targets[name]).sum(axis=1)
            metrics[name] = float(cosines.sum() / max(weights[name].sum(), 1))
        if "voice" in outputs and "speaker" in weights:
            metrics["equal error rate"] = voice_error_rate(
                outputs["voice"], np.where(weights["speaker"] > 0, targets["speaker"], -1), validation.utterance
            )
        # Accuracy of words alone: speakers' and sounds' classes serve training, and may be single recordings.
        if "word" in weights and (labelled := weights["word"] > 0).any():
            metrics["word"] = float((outputs["word"][labelled].argmax(axis=1) == targets["word"][labelled]).mean())
        return metrics


class _Resumed(NamedTuple):
    """State that a pretraining resumes from."""

    step: int
    arrays: list[NDArray[Any]]
    rate_factor: float
    seconds: float


def _parse_state(state: State) -> _Resumed:
    rate_factor, seconds = real(state.progress, "slower", 0.5, 1), real(state.progress, "seconds", 0)
    return _Resumed(state.step, state.arrays, rate_factor, seconds)


def voice_error_rate(voices: FloatArray, speakers: IntArray, recordings: IntArray) -> float:
    """Compute the equal error rate over all pairs of embeddings of different recordings; NaN without both kinds.

    Parameters
    ----------
    voices : ndarray of float32, shape (n, width)
    speakers : ndarray of int64, shape (n,)
        -1: unknown, left out.
    recordings : ndarray of int64, shape (n,)
    """
    first, second = np.triu_indices(len(voices), 1)
    known = (speakers[first] >= 0) & (speakers[second] >= 0) & (recordings[first] != recordings[second])
    first, second = first[known], second[known]
    scores = (voices[first] * voices[second]).sum(axis=1)
    found = detection(scores, speakers[first] == speakers[second])
    return float("nan") if found is None else found.equal_error_rate


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
