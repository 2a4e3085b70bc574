"""Making a backbone: images of public recordings, several tasks at once, teachers where there are any."""

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
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress
from audionet.utils.text import os_error_reason, pluralise

log = logging.getLogger(__name__)


_STRETCHES_A_TASK = 4
_WARM_UP_SHARE = 0.05
_SHOWN_IMAGES = 600  # at each look
_CONTENT_IMAGES = 600  # that the scale of the content's numbers is taken from
_LEAST_DEVIATION = 1e-3
_SETTLING_BATCHES = 100
_CHECKED = 4  # images kept with the weights
_NO_PART = (
    "data_dir",
    "output_dir",
    "checkpoint_dir",
    "summaries_dir",
    "workers",
    "look_every",
    "manifest",
    "version",
    "bottleneck",
    "statistics",
)


class Batch(NamedTuple):
    """Images with all that is known of them.

    Attributes
    ----------
    pixels : ndarray of uint8, shape (n, height, width, 3)
    content : ndarray of float32, shape (n, CONTENT_WIDTH)
    lesson : ndarray of int64, shape (n,)
        Which recording of the list each is of.
    speed : ndarray of int64, shape (n,)
        At which of SPEEDS.
    """

    pixels: UInt8Array
    content: FloatArray
    lesson: NDArray[np.int64]
    speed: NDArray[np.int64]


@dataclass(frozen=True)
class Pretrained:
    """A finished backbone.

    Attributes
    ----------
    student : Student
    corpus : Corpus
    held_out : dict of str to float
        How well it does on recordings held out.
    steps : int
    hours : float
        Spent training, in this run and those that it went on from.
    check_images : ndarray of uint8, shape (n, height, width, 3)
        Some images to compare a loaded copy's answers on.
    """

    student: Student
    corpus: Corpus
    held_out: dict[str, float]
    steps: int
    hours: float
    check_images: UInt8Array


def pretrain(config: PretrainConfig) -> Pretrained:
    """Make a backbone.

    Raises
    ------
    DatasetError
        If the manifest cannot be used, or nothing that it names is there or can be decoded.
    UsageError
        If the teacher is not installed.
    ModelError
        If the loss is no number, twice.
    """
    corpus = find_utterances(read_manifest(config.manifest), config.data_dir)
    corpus = add_pitch_shifted_speakers(corpus, config.checkpoint_dir / "other pitches", config.workers)
    for source in corpus.sources:
        log.info(f"{source.name}: {source.task}s, {source.licence}")
    log.info(f"{pluralise(len(corpus.training), 'recording')} to learn from, {len(corpus.held_out)} held out")
    if not corpus.held_out:
        log.warning("too few recordings to hold any out: what follows is about those it learns from")
    answers = None
    if config.teacher != "none":
        answers = centre_embeddings(_asked(corpus, config))
    keras = import_keras()
    keras.utils.set_random_seed(config.seed)
    classes = {
        task: len(labels) * (len(SPEED_FACTORS) if task == "speaker" else 1) for task, labels in corpus.labels.items()
    }
    student = build(config, classes, TEACHERS[config.teacher].width if answers is not None else 0)
    return _Training(config, corpus, answers, student).run()


def _asked(corpus: Corpus, config: PretrainConfig) -> FloatArray:
    """The teacher's answers, each dataset's kept apart: adding one leaves those of the others as they are."""
    lessons = corpus.training + corpus.held_out
    answers = np.zeros((len(lessons), len(SPEED_FACTORS), TEACHERS[config.teacher].width), np.float32)
    for number in range(len(corpus.sources)):
        rows = [row for row, lesson in enumerate(lessons) if lesson.source == number]
        paths = [lessons[row].path for row in rows]
        answers[rows] = teacher_embeddings(config.teacher, paths, config.checkpoint_dir, config.workers)
    return answers


class _Training:
    """One training: its network, its data, its state on disk."""

    def __init__(self, config: PretrainConfig, corpus: Corpus, answers: FloatArray | None, student: Student) -> None:
        self.config, self.corpus, self.student = config, corpus, student
        self.lessons = corpus.training + corpus.held_out
        self.answers = answers
        self.source_of = np.array([lesson.source for lesson in self.lessons])
        self.label_of = np.array([lesson.label for lesson in self.lessons])
        self.variables = [*student.model.variables, *student.model.optimizer.variables]
        self.checkpoint = Checkpoint(config.checkpoint_dir, "pretraining", self._identity(), config.look_every)
        self.slower = 1.0
        self.step = 0
        self.seconds, self.started = 0.0, time.monotonic()

    def run(self) -> Pretrained:
        config, training = self.config, range(len(self.corpus.training))
        self._resume()
        with contextlib.ExitStack() as stack:
            pool = stack.enter_context(local_processes(config.workers))
            # The same images at every look, and from run to run.
            content = self._some(pool, training, _CONTENT_IMAGES).content
            self.content_mean, self.content_deviation = content.mean(axis=0), content.std(axis=0) + _LEAST_DEVIATION
            shown = self._some(pool, range(len(training), len(self.lessons)) or training, _SHOWN_IMAGES)
            scalars = stack.enter_context(contextlib.closing(Scalars(config.summaries_dir)))
            images = stack.enter_context(contextlib.closing(self._images(pool, training)))
            advance = stack.enter_context(progress("Pretraining", "steps", config.steps))
            advance(self.step)
            recent: list[dict[str, float]] = []
            self.started = time.monotonic()
            while (done := self._done()) < 1:
                losses = self._learn(next(images), done)
                if not math.isfinite(losses["loss"]):
                    at = self.step
                    self._back()
                    advance(self.step - at)
                    recent = []
                    continue
                recent.append(losses)
                self.step += 1
                advance(1)
                if self.step % config.look_every == 0:
                    self._take_stock(recent, shown, scalars)
                    recent = []
            if recent:
                self._take_stock(recent, shown, scalars)
            if config.average:
                self.student.model.optimizer.finalize_variable_values(self.student.model.trainable_variables)
                batches = min(_SETTLING_BATCHES, self.step)
                pixels = self._some(pool, training, batches * config.batch_size).pixels
                recompute_batch_norm(self.student.features, np.array_split(pixels, batches))
        found = self._validate(shown)
        log.info(f"Held out, with the running average of the weights: {format_metrics(found)}")
        pixels = shown.pixels[:: max(1, len(shown.pixels) // _CHECKED)][:_CHECKED]
        return Pretrained(self.student, self.corpus, found, self.step, self._elapsed() / 3600, pixels)

    def _take_stock(self, recent: list[dict[str, float]], shown: Batch, scalars: Scalars) -> None:
        """Say how far it is, and keep it."""
        means = {name: float(np.mean([losses[name] for losses in recent])) for name in recent[0]}
        found = self._validate(shown)
        log.warning(f"step {self.step}: {format_metrics(means)}; held out: {format_metrics(found)}")
        scalars.add(self.step, {f"training/{name}": value for name, value in means.items()})
        scalars.add(self.step, {f"held out/{name}": value for name, value in found.items()})
        self._save()

    def _elapsed(self) -> float:
        """Seconds spent, those before an interruption counted in."""
        return self.seconds + time.monotonic() - self.started

    def _done(self) -> float:
        """The share of the training that is done, by steps or by the clock, whichever is further."""
        by_clock = self._elapsed() / 3600 / self.config.hours if self.config.hours else 0
        return max(self.step / self.config.steps, by_clock)

    def _identity(self) -> dict[str, Any]:
        config = dataclasses.asdict(self.config)
        digest = hashlib.sha256()
        for lesson in self.lessons:
            digest.update(f"{lesson.path.name} {lesson.source} {lesson.label}\n".encode("utf-8", "surrogateescape"))
        settings = {name: value for name, value in config.items() if name not in _NO_PART}
        return {"settings": settings, "recordings": digest.hexdigest(), "labels": self.corpus.labels}

    def _resume(self) -> None:
        others = [path for path in self.config.checkpoint_dir.glob("pretraining-*.npz") if path != self.checkpoint.path]
        if others and not self.checkpoint.path.exists():
            log.warning(f"{others[0]}: is of another recipe or other data; training begins anew beside it")
        state = self._saved()
        if state is not None:
            self._restore(state)
            log.info(f"Going on from step {self.step}")

    def _saved(self) -> State | None:
        return self.checkpoint.load([(tuple(v.shape), str(np.dtype(v.dtype))) for v in self.variables])

    def _restore(self, state: State) -> None:
        for variable, array in zip(self.variables, state.arrays, strict=True):
            variable.assign(array)
        self.step = state.step
        self.slower, self.seconds = state.progress["slower"], state.progress["seconds"]
        self.started = time.monotonic()

    def _save(self) -> None:
        import keras

        arrays = [np.asarray(keras.ops.convert_to_numpy(variable)) for variable in self.variables]
        state = State(self.step, arrays, [], {"slower": self.slower, "seconds": self._elapsed()})
        try:
            self.checkpoint.save(state)
        except OSError as error:
            log.warning(
                f"{self.checkpoint.path}: cannot be written ({os_error_reason(error)}); the last one stays, and "
                "training goes on"
            )

    def _back(self) -> None:
        """Go back to the last checkpoint, and on from there at half the rate; once.

        Raises
        ------
        ModelError
            The second time.
        """
        if self.slower < 1:
            raise ModelError("the loss is no number, again: lower --learning_rate")
        state = self._saved()
        if state is None:
            raise ModelError(f"the loss is no number at step {self.step}, before a checkpoint: lower --learning_rate")
        at = self.step
        self._restore(state)
        self.slower = 0.5
        log.warning(f"the loss is no number at step {at}: back to step {self.step}, at half the rate")

    def _learn(self, batch: Batch, done: float) -> dict[str, float]:
        """One step; the losses, one by one and in all."""
        config, model = self.config, self.student.model
        model.optimizer.learning_rate = config.learning_rate * learning_rate_factor(done) * self.slower
        targets, weights = self._targets(batch)
        losses = model.train_on_batch(batch.pixels.astype(np.float32), targets, sample_weight=weights, return_dict=True)
        return {name.removesuffix("_loss"): float(value) for name, value in losses.items()}

    def _targets(self, batch: Batch) -> tuple[dict[str, Any], dict[str, FloatArray]]:
        """What each head is to say of each image, and how much that counts: 0 where it is not known."""
        everywhere = np.ones(len(batch.lesson), np.float32)
        targets: dict[str, Any] = {"content": (batch.content - self.content_mean) / self.content_deviation}
        weights = {"content": everywhere}
        if self.answers is not None:
            targets["teacher"] = self.answers[batch.lesson, batch.speed]
            weights["teacher"] = everywhere
        sources, labels = self.source_of[batch.lesson], self.label_of[batch.lesson]
        for task in self.corpus.labels:
            of_task = np.array([source.task == task for source in self.corpus.sources])[sources]
            classes = labels * len(SPEED_FACTORS) + batch.speed if task == "speaker" else labels
            targets[task] = np.where(of_task, classes, 0)
            weights[task] = of_task.astype(np.float32)
        return targets, weights

    def _validate(self, shown: Batch) -> dict[str, float]:
        """How well recordings held out are answered for."""
        blocks = [
            self.student.model.predict_on_batch(shown.pixels[i : i + 64].astype(np.float32))
            for i in range(0, len(shown.pixels), 64)
        ]
        says = {name: np.concatenate([np.asarray(block[name]) for block in blocks]) for name in blocks[0]}
        targets, weights = self._targets(shown)
        errors = np.square(says["content"] - targets["content"]).mean()
        found = {"content": float(1 - errors / np.square(targets["content"]).mean())}
        if self.answers is not None:
            found["teacher"] = float((says["teacher"] * targets["teacher"]).sum(axis=1).mean())
        for task in self.corpus.labels:
            which = weights[task] > 0
            if task != "speaker" and which.any():  # a speaker held out is none of those in training
                found[task] = float((says[task][which].argmax(axis=1) == targets[task][which]).mean())
        return found

    def _some(self, pool: Any, which: range, wanted: int) -> Batch:
        """A fixed set of images."""
        generator = np.random.default_rng([self.config.seed, which.start])
        stretches = -(-wanted // self.config.glimpses)
        chosen = generator.choice(which, stretches)
        tasks = list(self._tasks(chosen, generator))
        made = {task.seeds[0]: blocks for task, blocks in self._made(pool, tasks)}
        blocks = [made[task.seeds[0]] for task in tasks if task.seeds[0] in made]
        if not any(len(block.lesson) for block in blocks):
            raise DatasetError("none of the recordings that were tried can be decoded: look at --data_dir")
        return Batch(*(np.concatenate(parts) for parts in zip(*blocks, strict=True)))

    def _tasks(self, lessons: Any, generator: np.random.Generator) -> Iterator[ViewTask]:
        """Stretches of these recordings, at random speeds."""
        size = (self.config.input_height, self.config.input_width)
        for i in range(0, len(lessons), _STRETCHES_A_TASK):
            part = lessons[i : i + _STRETCHES_A_TASK]
            speeds = generator.integers(len(SPEED_FACTORS), size=len(part)).tolist()
            seeds = generator.integers(2**62, size=len(part)).tolist()
            paths = [self.lessons[k].path for k in part]
            yield ViewTask(paths, speeds, seeds, self.config.glimpses, size, self.config.disturbance)

    def _made(self, pool: Any, tasks: Any) -> Iterator[tuple[ViewTask, Batch]]:
        place = {lesson.path: number for number, lesson in enumerate(self.lessons)}
        for task, found in map_unordered(pool, make_views, tasks, lambda task: [task]):
            if isinstance(found, WorkerDied):
                log.warning("a worker process ended, twice, over the same recordings; they are passed over")
                continue
            lessons = np.array([place[path] for path in task.paths])[found.stretch]
            yield task, Batch(found.pixels, found.content, lessons, np.array(task.speeds)[found.stretch])

    def _images(self, pool: Any, which: range) -> Generator[Batch, None, None]:
        """Batches for ever: each dataset as often as the others, images of one stretch far apart."""
        config = self.config
        generator = np.random.default_rng([config.seed, 1, self.step])
        by_source = [
            np.array([i for i in which if self.lessons[i].source == number])
            for number in range(len(self.corpus.sources))
        ]
        by_source = [places for places in by_source if len(places)]

        def endless() -> Iterator[ViewTask]:
            while True:
                drawn = generator.integers(len(by_source), size=_STRETCHES_A_TASK)
                chosen = [generator.choice(by_source[source]) for source in drawn]
                yield from self._tasks(chosen, generator)

        held: list[NDArray[Any]] | None = None
        size = max(config.shuffle, 2 * config.batch_size)
        waiting: list[Batch] = []
        for _, made in self._made(pool, endless()):
            waiting.append(made)
            enough = config.batch_size if held is not None else size
            if sum(len(block.lesson) for block in waiting) < enough:
                continue
            fresh = [np.concatenate(parts) for parts in zip(*waiting, strict=True)]
            waiting = [Batch(*(part[enough:] for part in fresh))]
            if held is None:
                held = [part[:enough].copy() for part in fresh]
                continue
            drawn = generator.choice(size, config.batch_size, replace=False)
            yield Batch(*(part[drawn] for part in held))
            for part, new in zip(held, fresh, strict=True):
                part[drawn] = new[:enough]


def centre_embeddings(answers: FloatArray) -> FloatArray:
    """A teacher's answers as directions from their mean: what they share, which is most, says nothing.

    Those of recordings that it could not hear stay 0.
    """
    heard = np.linalg.norm(answers, axis=-1) > 0
    away = np.where(heard[..., None], answers - answers[heard].mean(axis=0), 0)
    result: FloatArray = (away / np.maximum(np.linalg.norm(away, axis=-1, keepdims=True), 1e-6)).astype(np.float32)
    return result


def recompute_batch_norm(model: Any, batches: Iterable[UInt8Array]) -> None:
    """Give batch normalisation the statistics of the weights as they are now: its own are those of weights passed by.

    Averaged weights never were in training, and with the statistics of others they answer at random (Izmailov et al.,
    Averaging weights leads to wider optima, 2018).
    """
    import keras

    normalising = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    momenta = [layer.momentum for layer in normalising]
    for number, pixels in enumerate(batches):
        for layer in normalising:
            layer.momentum = number / (number + 1)  # the mean over all batches
        model(pixels.astype(np.float32), training=True)
    for layer, momentum in zip(normalising, momenta, strict=True):
        layer.momentum = momentum


def format_metrics(values: Mapping[str, float]) -> str:
    """``content 0.560, word 0.962``."""
    return ", ".join(f"{name} {value:.3f}" for name, value in values.items())


def learning_rate_factor(done: float) -> float:
    """Share of the highest learning rate when a share of the training is done.

    Up a line over the first twentieth, then down half a cosine to nothing.
    """
    if done < _WARM_UP_SHARE:
        return done / _WARM_UP_SHARE
    return 0.5 * (1 + math.cos(math.pi * min(1, (done - _WARM_UP_SHARE) / (1 - _WARM_UP_SHARE))))
