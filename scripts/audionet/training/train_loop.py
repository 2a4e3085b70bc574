"""The one training loop: of a top layer on bottlenecks, of a network from scratch, of a backbone's last blocks."""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.tf_runtime import import_tensorflow
from audionet.errors import ModelError
from audionet.training.checkpoint import Checkpoint, State
from audionet.training.config import RetrainConfig
from audionet.training.datasets import Examples, batches, prefetch
from audionet.training.tensorboard_log import Curves
from audionet.training.train_step import Network, TrainingSteps, ValidationStep, class_weights
from audionet.utils.arrays import IntArray
from audionet.utils.plots import CurvePoint
from audionet.utils.progress import progress

log = logging.getLogger(__name__)


_FIRST_CALL = 10
_CALL_BYTES = 1 << 24
_PLATEAU_LOOKS = 5
_PLATEAU_FACTOR = 1 / 3


@dataclass(frozen=True)
class Fit:
    """How a training went; the network holds the weights of the best look.

    Attributes
    ----------
    best_step : int
    validation_accuracy : float or None
        Share of validation chunks right at that step; None without a validation set.
    last_step : int
    points : list of Point
        The curves.
    """

    best_step: int
    validation_accuracy: float | None
    last_step: int
    points: list[CurvePoint]


def fit(
    network: Network,
    training: Examples,
    validation: Examples,
    config: RetrainConfig,
    curves: Curves | None = None,
    checkpoint: Checkpoint | None = None,
) -> Fit:
    """Train a network and leave it with the weights that were best on the validation set.

    AdamW on the cross entropy. Every ``eval_step_interval`` steps the validation set is looked at: more right
    answers win, then the lower loss. Without a validation set the last weights are kept. The same seed gives the
    same weights, whether or not training was interrupted.

    Parameters
    ----------
    network : Network
    training, validation : Examples
    config : RetrainConfig
        Steps, rates, batch size and regularisation.
    curves : Curves, optional
        Where points go; also switches the progress bar on.
    checkpoint : Checkpoint, optional
        Where the state is kept; training goes on from what is there.

    Raises
    ------
    ModelError
        If the loss is no number before any weights could be judged.
    """
    return _Loop(network, training, validation, config, curves, checkpoint).run()


class _Loop:
    def __init__(
        self,
        network: Network,
        training: Examples,
        validation: Examples,
        config: RetrainConfig,
        curves: Curves | None,
        checkpoint: Checkpoint | None,
    ) -> None:
        tf = import_tensorflow()
        tf.config.experimental.enable_op_determinism()
        self.network, self.training, self.validation = network, training, validation
        self.config, self.checkpoint = config, checkpoint
        self.curves, self.quiet = curves or Curves(), curves is None
        labels = network.model.outputs[0].shape[-1]
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
            self._judge()
        bar = contextlib.nullcontext(lambda done: None) if self.quiet else progress("Training", "steps", steps)
        with bar as advance, contextlib.closing(prefetch(self._calls())) as calls:
            advance(self.step)
            for inputs, labels in calls if not self._waited_long_enough() else ():
                before, self.step = self.step, self.step + len(labels)
                if not self._train(before, inputs, labels):
                    break
                advance(len(labels))
                if self.step % self.config.eval_step_interval == 0 or self.step == steps:
                    self._judge()
                if self.checkpoint is not None and self.checkpoint.due(before, self.step):
                    self._save()
                if self._waited_long_enough():
                    break
            else:
                if self.checkpoint is not None:
                    self._save()
        for variable, value in zip(self.network.state, self.best, strict=True):
            variable.assign(value)
        accuracy = self.score[0] if self.score and len(self.validation.labels) else None
        return Fit(self.best_step, accuracy, self.step, self.curves.points)

    def _calls(self) -> Iterator[tuple[tuple[NDArray[Any], ...], IntArray]]:
        """Batches for one call after another: a call ends where validation is looked at, at the latest."""
        config = self.config
        order = batches(len(self.training.labels), config.train_batch_size, config.seed, self.step)
        step, most = self.step, 1 if self.network.takes_images else _FIRST_CALL
        while step < config.how_many_training_steps:
            until_look = config.eval_step_interval - step % config.eval_step_interval
            count = min(most, until_look, config.how_many_training_steps - step)
            rows = np.stack([next(order) for _ in range(count)])
            inputs = self.training.inputs(rows.reshape(-1))
            yield tuple(part.reshape(*rows.shape, *part.shape[1:]) for part in inputs), self.training.labels[rows]
            step += count
            if not self.network.takes_images:  # a call a step would spend more time in Python than in arithmetic
                most = max(1, _CALL_BYTES * count // sum(part.nbytes for part in inputs))

    def _train(self, before: int, inputs: tuple[NDArray[Any], ...], labels: IntArray) -> bool:
        """Some steps; False where the loss stopped being a number."""
        steps = np.arange(before, before + len(labels))
        rates = np.array([self._rate(int(step)) for step in steps], np.float32)
        loss, right, failed = self.steps(inputs, labels, rates, steps)
        if failed >= 0:
            if self.score is None:
                raise ModelError(
                    f"the loss was not a number at step {failed}, before any weights could be judged: lower "
                    "--learning_rate, or limit --clip_norm"
                )
            log.warning(
                f"the loss was not a number at step {failed}: training ends there, with the weights of step "
                f"{self.best_step}, its best; a lower --learning_rate or a --clip_norm may help"
            )
            self.step = failed
            return False
        self.curves.add(CurvePoint("training", self.step, loss, right))
        return True

    def _rate(self, step: int) -> float:
        config = self.config
        if config.schedule == "cosine":
            return config.rate * 0.5 * (1 + math.cos(math.pi * step / config.how_many_training_steps))
        return config.rate * self.factor

    def _judge(self) -> None:
        """Look at the validation set, and keep the weights if they are the best so far."""
        score = (0.0, float(self.step))
        if len(self.validation.labels):
            loss, right = self.validate()
            self.curves.add(CurvePoint("validation", self.step, loss, right))
            score = (right, -loss if math.isfinite(loss) else -math.inf)
        self.validations_since_best += 1
        if self.score is None or score > self.score:
            self.score, self.best_step, self.validations_since_best = score, self.step, 0
            self.best = [variable.numpy() for variable in self.network.state]
        elif self.config.schedule == "plateau" and self.validations_since_best % _PLATEAU_LOOKS == 0:
            self.factor *= _PLATEAU_FACTOR

    def _waited_long_enough(self) -> bool:
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
        state = self.checkpoint.load([(tuple(v.shape), str(v.numpy().dtype)) for v in variables])
        if state is None:
            return
        for variable, value in zip(variables, state.arrays, strict=True):
            variable.assign(value)
        self.step, self.best, kept = state.step, state.best, state.progress
        self.score = None if kept["score"] is None else (kept["score"][0], kept["score"][1])
        self.best_step, self.validations_since_best = kept["best_step"], kept["looks_since_best"]
        self.factor = kept["factor"]
        for point in kept["points"]:
            self.curves.add(CurvePoint(*point))
        if not self.quiet and self.step < self.config.how_many_training_steps:
            log.info(f"Training goes on from step {self.step}, where it was interrupted.")
