"""Training loop shared by classifier heads on bottlenecks, networks from scratch and fine-tuning."""

from __future__ import annotations

import contextlib
import functools
import logging
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.tf_runtime import import_tensorflow
from audionet.errors import DamagedError, ModelError
from audionet.training.checkpoint import Checkpoint, State
from audionet.training.config import StepConfig
from audionet.training.datasets import Examples, batches, prefetch
from audionet.training.tensorboard_log import SETS_LOGGED, Curves
from audionet.training.train_step import Network, TrainingSteps, ValidationStep, class_weights
from audionet.utils.arrays import IntArray
from audionet.utils.json_files import checked_real, checked_whole, field, nullable_field, real, whole
from audionet.utils.plots import CurvePoint
from audionet.utils.progress import progress

log = logging.getLogger(__name__)

_FIRST_CALL_STEPS = 10
_CALL_BYTES = 1 << 24
_PLATEAU_VALIDATIONS = 5
_PLATEAU_FACTOR = 1 / 3


@dataclass(frozen=True)
class Fit:
    """Course of a training; the network holds the weights of the best validation.

    Attributes
    ----------
    best_step : int
    validation_accuracy : float or None
        Accuracy by chunk at that step, 0 to 1; None without a validation set.
    last_step : int
    points : list of CurvePoint
        Loss and accuracy over the steps.
    strengths : sequence of float
        L2 strengths that the steps of the points number, where the head was fitted exactly.
    """

    best_step: int
    validation_accuracy: float | None
    last_step: int
    points: list[CurvePoint]
    strengths: Sequence[float] = ()


def fit(
    network: Network,
    training: Examples,
    validation: Examples,
    config: StepConfig,
    curves: Curves | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Train a network and leave it with the weights that were best on the validation set.

    AdamW minimises the cross entropy. The network is validated every ``eval_step_interval`` steps and compared by
    accuracy, then by loss. Without a validation set the last weights are kept. The same seed gives the same weights,
    whether or not training was interrupted.

    Parameters
    ----------
    network : Network
    training, validation : Examples
    config : StepConfig
        Number of steps, learning rate, batch size and regularisation.
    curves : Curves, optional
        Receives the loss and accuracy; also switches the progress bar on.
    checkpoint : Checkpoint, optional
        Stores the state; training resumes from a stored one.

    Raises
    ------
    ModelError
        If the loss becomes NaN or infinite before the first validation.
    """
    return _Loop(network, training, validation, config, curves, checkpoint).run()


class _Loop:
    def __init__(
        self,
        network: Network,
        training: Examples,
        validation: Examples,
        config: StepConfig,
        curves: Curves | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        tf = import_tensorflow()
        tf.config.experimental.enable_op_determinism()
        self.network, self.training, self.validation = network, training, validation
        self.config, self.checkpoint = config, checkpoint
        self.curves, self.quiet = curves or Curves(), curves is None
        labels = network.model.outputs[0].shape[-1]
        self.rate = config.rate(network.model.inputs[0].shape[-1])
        self.steps = TrainingSteps(network, config, class_weights(training.labels, labels, config))
        self.validate = ValidationStep(network, validation, config)
        self.step = self.best_step = self.validations_since_best = 0
        self.factor = 1.0
        self.score: tuple[float, float] | None = None
        self.best: list[NDArray[Any]] = []

    def run(self) -> Fit:
        steps = self.config.how_many_training_steps
        self._resume()
        if self.step == 0 and self.network.pretrained and len(self.validation.labels):
            self._validate()
        bar = contextlib.nullcontext(lambda done: None) if self.quiet else progress("Training", "steps", steps)
        with bar as advance, contextlib.closing(prefetch(self._calls())) as calls:
            advance(self.step)
            for inputs, labels in calls if not self._should_stop_early() else ():
                before, self.step = self.step, self.step + len(labels)
                if not self._train(before, inputs, labels):
                    break
                advance(len(labels))
                if self.step % self.config.eval_step_interval == 0 or self.step == steps:
                    self._validate()
                if self.checkpoint is not None and self.checkpoint.due(before, self.step):
                    self._save()
                if self._should_stop_early():
                    break
            else:
                if self.checkpoint is not None:
                    self._save()
        for variable, value in zip(self.network.state, self.best, strict=True):
            variable.assign(value)
        accuracy = self.score[0] if self.score and len(self.validation.labels) else None
        return Fit(self.best_step, accuracy, self.step, self.curves.points)

    def _calls(self) -> Iterator[tuple[tuple[NDArray[Any], ...], IntArray]]:
        """Yield the batches of one call after another; no call goes beyond the next validation."""
        config = self.config
        order = batches(len(self.training.labels), config.train_batch_size, config.seed, self.step)
        step, max_steps = self.step, 1 if self.network.takes_images else _FIRST_CALL_STEPS
        while step < config.how_many_training_steps:
            until_validation = config.eval_step_interval - step % config.eval_step_interval
            count = min(max_steps, until_validation, config.how_many_training_steps - step)
            rows = np.stack([next(order) for _ in range(count)])
            inputs = self.training.inputs(rows.reshape(-1))
            yield tuple(part.reshape(*rows.shape, *part.shape[1:]) for part in inputs), self.training.labels[rows]
            step += count
            if not self.network.takes_images:  # one call per step would spend more time in Python than in arithmetic
                max_steps = max(1, _CALL_BYTES * count // sum(part.nbytes for part in inputs))

    def _train(self, before: int, inputs: tuple[NDArray[Any], ...], labels: IntArray) -> bool:
        """Run some steps; return False if the loss became NaN or infinite."""
        steps = np.arange(before, before + len(labels))
        rates = np.array([self._rate(int(step)) for step in steps], np.float32)
        loss, accuracy, failed = self.steps(inputs, labels, rates, steps)
        if failed >= 0:
            if self.score is None:
                raise ModelError(
                    f"the loss became NaN or infinite at step {failed}, before the first validation: lower "
                    "--learning_rate, or set --clip_norm"
                )
            log.warning(
                f"the loss became NaN or infinite at step {failed}: training stops with the best weights so far, those "
                f"of step {self.best_step}; a lower --learning_rate or a --clip_norm may help"
            )
            self.step = failed
            return False
        self.curves.add(CurvePoint("training", self.step, loss, accuracy))
        return True

    def _rate(self, step: int) -> float:
        config = self.config
        if config.schedule == "cosine":
            return self.rate * 0.5 * (1 + math.cos(math.pi * step / config.how_many_training_steps))
        return self.rate * self.factor

    def _validate(self) -> None:
        """Score the validation set, and keep the weights if they are the best so far."""
        score = (0.0, float(self.step))
        if len(self.validation.labels):
            loss, accuracy = self.validate()
            self.curves.add(CurvePoint("validation", self.step, loss, accuracy))
            score = (accuracy, -loss if math.isfinite(loss) else -math.inf)
        self.validations_since_best += 1
        if self.score is None or score > self.score:
            self.score, self.best_step, self.validations_since_best = score, self.step, 0
            self.best = [variable.numpy() for variable in self.network.state]
        elif self.config.schedule == "plateau" and self.validations_since_best % _PLATEAU_VALIDATIONS == 0:
            self.factor *= _PLATEAU_FACTOR

    def _should_stop_early(self) -> bool:
        return 0 < self.config.early_stopping <= self.validations_since_best

    def _variables(self) -> list[Any]:
        return [*self.network.state, *self.steps.optimizer.variables]

    def _save(self) -> None:
        assert self.checkpoint is not None
        self.checkpoint.save(
            State(
                self.step,
                [variable.numpy() for variable in self._variables()],
                self.best,
                {
                    "score": self.score,
                    "best_step": self.best_step,
                    "looks_since_best": self.validations_since_best,
                    "factor": self.factor,
                    "points": self.curves.points,
                },
            )
        )

    def _resume(self) -> None:
        if self.checkpoint is None:
            return
        variables = self._variables()
        like = [(tuple(v.shape), str(v.numpy().dtype)) for v in variables]
        resumed = self.checkpoint.load(
            like, len(self.network.state), functools.partial(_parse_progress, self.config.how_many_training_steps)
        )
        if resumed is None:
            return
        for variable, value in zip(variables, resumed.state.arrays, strict=True):
            variable.assign(value)
        self.step, self.best, self.score = resumed.state.step, resumed.state.best, resumed.score
        self.best_step, self.validations_since_best = resumed.best_step, resumed.validations_since_best
        self.factor = resumed.factor
        for point in resumed.points:
            self.curves.add(point)
        if not self.quiet and self.step < self.config.how_many_training_steps:
            log.info(f"Training resumes from step {self.step}, where it was interrupted.")


class _Progress(NamedTuple):
    """State that a training resumes from, beside the variables."""

    state: State
    score: tuple[float, float] | None
    best_step: int
    validations_since_best: int
    factor: float
    points: list[CurvePoint]


def _parse_progress(steps: int, state: State) -> _Progress:
    stored = state.progress
    score: list[Any] | None = nullable_field(stored, "score", list)
    if (score is None) != (not state.best) or (score is not None and len(score) != 2):
        raise DamagedError("its score and its best weights do not belong together")
    if state.step > steps or (state.step == steps and score is None):
        raise DamagedError("its step is beyond the last")
    return _Progress(
        state,
        None if score is None else (checked_real(score[0], "score"), checked_real(score[1], "score")),
        whole(stored, "best_step", 0, state.step),
        whole(stored, "looks_since_best", 0, state.step + 1),
        real(stored, "factor", 0, 1),
        [_parse_point(point) for point in field(stored, "points", list)],
    )


def _parse_point(point: Any) -> CurvePoint:
    if not isinstance(point, list) or len(point) != 4 or point[0] not in SETS_LOGGED:
        raise DamagedError("a point of its curves is damaged")
    _, step, loss, accuracy = point
    # The loss of a validation may be NaN.
    if not isinstance(loss, float):
        raise DamagedError("a loss is no number")
    return CurvePoint(point[0], checked_whole(step, "step"), loss, checked_real(accuracy, "accuracy", 0, 1))
