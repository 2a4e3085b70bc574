"""Training step and validation step, compiled by TensorFlow."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.backbones.tf_runtime import distribute, import_tensorflow
from audionet.training.config import StepConfig
from audionet.training.datasets import Examples
from audionet.training.spec_augment import mask, mixup
from audionet.utils.arrays import IntArray

_VALIDATION_BYTES = 1 << 27
_BLOCK = 4096


@dataclass(frozen=True)
class Network:
    """Keras model from inputs to logits, and the properties that the training loop depends on.

    Attributes
    ----------
    model : keras.Model
    state : list of keras.Variable
        Variables that training changes: weights, moving statistics, the random state of dropout.
    takes_images : bool
        If true, inputs are augmented in the training step (SpecAugment, mixup), and each call runs one batch.
    pretrained : bool
        If true, the initial weights are validated too, and kept if no later ones are better.
    strategy : tf.distribute.Strategy
        Devices that run the network; the model was created in its scope.
    """

    model: Any
    state: list[Any]
    takes_images: bool
    pretrained: bool
    strategy: Any


class TrainingSteps:
    """Optimizer and compiled functions that run one or many training steps per call."""

    def __init__(self, network: Network, config: StepConfig, class_weights: NDArray[np.float32]) -> None:
        tf = self._tf = import_tensorflow()
        import keras

        self._network, self._config = network, config
        self._weights = tf.constant(class_weights)
        with network.strategy.scope():
            # Keras clips each device's part of the gradient on its own.
            clip = config.clip_norm and config.clip_norm / network.strategy.num_replicas_in_sync
            self._inner = keras.optimizers.AdamW(weight_decay=config.weight_decay, global_clipnorm=clip)
            half = network.model.dtype_policy.name == "mixed_float16"
            self.optimizer = keras.optimizers.LossScaleOptimizer(self._inner) if half else self._inner
            self.optimizer.build(network.model.trainable_variables)
        # Without autograph, which fails under Python 3.13.
        self._single = tf.function(self._distributed, autograph=False, reduce_retracing=True)
        self._multiple = tf.function(self._loop, autograph=False, reduce_retracing=True)

    def __call__(
        self, inputs: tuple[NDArray[Any], ...], labels: IntArray, rates: NDArray[np.float32], steps: IntArray
    ) -> tuple[float, float, int]:
        """Run some steps; return mean loss, accuracy, and the first step whose loss was NaN or infinite, or -1.

        Parameters
        ----------
        inputs : tuple of ndarray, each of shape (steps, batch, ...)
        labels : ndarray of int64, shape (steps, batch)
        rates : ndarray of float32, shape (steps,)
            Learning rates.
        steps : ndarray of int64, shape (steps,)
            Step numbers.
        """
        if len(labels) > 1:
            loss, accuracy, failed = self._multiple(inputs, labels, rates, steps.astype(np.int32))
            return float(loss), float(accuracy), int(failed)
        batch = (distribute(self._network.strategy, part[0]) for part in (*inputs, labels))
        loss, accuracy = self._single(*batch, rates[0], np.int32(steps[0]))
        failed = int(steps[0]) if not math.isfinite(float(loss)) else -1
        return float(loss), float(accuracy), failed

    def _distributed(self, *arguments: Any) -> tuple[Any, Any]:
        strategy, tf = self._network.strategy, self._tf
        *inputs, labels, rate, step = arguments
        examples = sum(tf.shape(part)[0] for part in strategy.experimental_local_results(labels))
        loss, accuracy = strategy.run(self._step, (tuple(inputs), labels, rate, step, tf.cast(examples, tf.float32)))
        return tuple(strategy.reduce(tf.distribute.ReduceOp.SUM, value, axis=None) for value in (loss, accuracy))

    def _loop(self, inputs: tuple[Any, ...], labels: Any, rates: Any, steps: Any) -> tuple[Any, Any, Any]:
        tf = self._tf
        count, examples = tf.shape(labels)[0], tf.cast(tf.shape(labels)[1], tf.float32)

        def body(i: Any, losses: Any, accuracies: Any, failed: Any) -> tuple[Any, ...]:
            loss, accuracy = self._step(tuple(part[i] for part in inputs), labels[i], rates[i], steps[i], examples)
            first = tf.logical_and(failed < 0, tf.logical_not(tf.math.is_finite(loss)))
            return i + 1, losses + loss, accuracies + accuracy, tf.where(first, steps[i], failed)

        start = (tf.constant(0), tf.constant(0.0), tf.constant(0.0), tf.constant(-1))
        _, loss, accuracy, failed = tf.while_loop(lambda i, *_: i < count, body, start)
        return loss / tf.cast(count, tf.float32), accuracy / tf.cast(count, tf.float32), failed

    def _step(self, inputs: tuple[Any, ...], labels: Any, rate: Any, step: Any, examples: Any) -> tuple[Any, Any]:
        """Run a step on this device's part of the batch; return its contribution to mean loss and accuracy."""
        tf, model, config = self._tf, self._network.model, self._config
        inputs = tuple(tf.cast(part, tf.float32) for part in inputs)
        classes = self._weights.shape[0]
        targets = tf.one_hot(labels, classes) * (1 - config.label_smoothing) + config.label_smoothing / classes
        device, devices = tf.distribute.get_replica_context(), self._network.strategy.num_replicas_in_sync
        if self._network.takes_images:
            seed = tf.stack([config.seed % 2**31 + tf.cast(device.replica_id_in_sync_group, tf.int32), step])
            if config.spec_augment:
                inputs = (mask(inputs[0], config.spec_augment, seed), *inputs[1:])
            if config.mixup:
                inputs, targets = mixup(inputs, targets, config.mixup, seed)
        with tf.GradientTape() as tape:
            logits = tf.cast(model(list(inputs), training=True), tf.float32)
            losses = tf.nn.softmax_cross_entropy_with_logits(targets, logits)
            loss = tf.reduce_sum(losses * tf.linalg.matvec(targets, self._weights)) / examples
            penalty = tf.add_n(model.losses) if model.losses else 0.0
            total = self.optimizer.scale_loss(loss + penalty / devices)
        gradients = tape.gradient(total, model.trainable_variables)
        if devices > 1:
            summed = device.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            gradients = [gradient / devices for gradient in summed]  # Keras sums over the devices once more
        self._inner.learning_rate.assign(rate)
        self.optimizer.apply(gradients, model.trainable_variables)
        accuracy = tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == labels, tf.float32)) / examples
        return loss, accuracy


class ValidationStep:
    """Validation step: mean cross entropy and accuracy on the validation set."""

    def __init__(self, network: Network, validation: Examples, config: StepConfig) -> None:
        tf = self._tf = import_tensorflow()
        self._model, self._validation = network.model, validation
        self._chosen = np.arange(len(validation.labels))
        if 0 < config.validation_batch_size < len(self._chosen):
            generator = np.random.default_rng(config.seed)
            self._chosen = np.sort(generator.choice(self._chosen, config.validation_batch_size, replace=False))
        self._block = 64 if network.takes_images else _BLOCK
        self._cache: list[Any] = []
        self._sums = tf.function(self._block_sums, autograph=False, reduce_retracing=True)

    def __call__(self) -> tuple[float, float]:
        sums = [self._sums(inputs, labels) for inputs, labels in self._blocks()]
        loss, correct = (sum(map(float, parts)) for parts in zip(*sums, strict=True))
        return float(loss / len(self._chosen)), float(correct / len(self._chosen))

    def _blocks(self) -> Iterator[Any]:
        """Yield the set in blocks, cached between validations if they take at most 128 MiB."""
        if self._cache:
            yield from self._cache
            return
        blocks: list[Any] = []
        size = 0
        for start in range(0, len(self._chosen), self._block):
            rows = self._chosen[start : start + self._block]
            block = tuple(map(self._tf.constant, self._validation.inputs(rows))), self._validation.labels[rows]
            size += sum(part.dtype.size * int(self._tf.size(part)) for part in block[0])
            if size <= _VALIDATION_BYTES:
                blocks.append(block)
            yield block
        if size <= _VALIDATION_BYTES:
            self._cache = blocks

    def _block_sums(self, inputs: Any, labels: Any) -> tuple[Any, Any]:
        tf = self._tf
        inputs = tuple(tf.cast(part, tf.float32) for part in inputs)
        logits = tf.cast(self._model(list(inputs), training=False), tf.float32)
        loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        return loss, tf.reduce_sum(tf.cast(tf.argmax(logits, 1) == labels, tf.float32))


def class_weights(labels: IntArray, count: int, config: StepConfig) -> NDArray[np.float32]:
    """Compute each label's weight in the loss: all 1, or balanced by the number of examples, mean 1."""
    if config.class_weights == "equal":
        return np.ones(count, np.float32)
    examples = np.bincount(labels, minlength=count)
    weights: NDArray[np.float64] = len(labels) / (max(1, (examples > 0).sum()) * np.maximum(examples, 1))
    return weights.astype(np.float32)
