"""The new top layer: standardised bottlenecks to label probabilities."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .config import RetrainConfig
from .console import tracked
from .spectrogram import FloatArray
from .tensorflow_runtime import import_tensorflow

IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class Examples:
    """Features of one set with their labels.

    Attributes
    ----------
    features : ndarray of float32, shape (n, width)
    labels : ndarray of int64, shape (n,)
    """

    features: FloatArray
    labels: IntArray


@dataclass(frozen=True)
class Head:
    """A trained linear layer with the standardisation in front of it folded in.

    Attributes
    ----------
    weights : ndarray of float32, shape (width, labels)
    biases : ndarray of float32, shape (labels,)
    best_step : int
        The training step these weights are from.
    validation_accuracy : float or None
        Share of validation chunks right at that step.
    """

    weights: FloatArray
    biases: FloatArray
    best_step: int
    validation_accuracy: float | None

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Probabilities, shape (n, labels), of features, shape (n, width)."""
        logits = features @ self.weights + self.biases
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: FloatArray = exponents / exponents.sum(axis=1, keepdims=True)
        return result


def standardisation(features: FloatArray, widths: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Offset and scale that give every part of the features the same weight.

    Each number is brought to mean 0 and deviation 1 over the training set, and each part divided by the square
    root of its width, so that a wide part does not drown a narrow one.

    Parameters
    ----------
    features : ndarray of float32, shape (n, sum(widths))
    widths : sequence of int
        Width of each part.

    Returns
    -------
    offset, scale : ndarray of float32, shape (sum(widths),)
        Standardised features are ``(features - offset) * scale``.
    """
    offset, deviation = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64)
    scale = np.empty_like(deviation)
    start = 0
    for width in widths:
        part = slice(start, start + width)
        # A number that hardly moved in training says nothing, and must not explode when it moves later.
        floor = max(0.05 * float(np.sqrt(np.mean(deviation[part] ** 2))), 1e-6)
        scale[part] = 1 / (np.maximum(deviation[part], floor) * np.sqrt(width))
        start += width
    return offset.astype(np.float32), scale.astype(np.float32)


def train_head(
    training: Examples,
    validation: Examples,
    labels: int,
    widths: Sequence[int],
    config: RetrainConfig,
    summaries: Path | None = None,
) -> Head:
    """Train a linear softmax layer and keep the weights of the best validation.

    AdamW on the cross entropy, its rate falling along a cosine. Every ``eval_step_interval`` steps the
    validation set is looked at: more right answers win, then the lower loss. Without a validation set the last
    weights are kept.

    Parameters
    ----------
    training, validation : Examples
    labels : int
        Number of labels.
    widths : sequence of int
        Widths of the parts that the features are joined of.
    config : RetrainConfig
    summaries : Path, optional
        Folder for TensorBoard's event files; also switches the progress bar on.
    """
    tf = import_tensorflow()
    import keras

    keras.utils.set_random_seed(config.seed)
    offset, scale = standardisation(training.features, widths)
    x = tf.constant((training.features - offset) * scale)
    y = tf.constant(training.labels)
    valid_x, valid_y = tf.constant((validation.features - offset) * scale), tf.constant(validation.labels)
    layer = keras.layers.Dense(labels, kernel_initializer="zeros")
    layer.build((None, x.shape[1]))
    steps = config.how_many_training_steps
    optimizer = keras.optimizers.AdamW(
        keras.optimizers.schedules.CosineDecay(config.learning_rate, steps), weight_decay=1e-4
    )
    optimizer.build(layer.trainable_variables)

    def measured(features: Any, wanted: Any) -> tuple[Any, Any]:
        logits = layer(features)
        loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits))
        right = tf.reduce_mean(tf.cast(tf.argmax(logits, 1) == wanted, tf.float32))
        return loss, right

    def train_step(batch: Any) -> tuple[Any, Any]:
        with tf.GradientTape() as tape:
            loss, right = measured(tf.gather(x, batch), tf.gather(y, batch))
        gradients = tape.gradient(loss, layer.trainable_variables)
        optimizer.apply_gradients(zip(gradients, layer.trainable_variables, strict=True))
        return loss, right

    # A whole interval in one call: a call a step would spend more time in Python than in arithmetic.
    def train_steps(batches: Any) -> tuple[Any, Any]:
        _, loss, right = tf.while_loop(
            lambda step, *_: step < tf.shape(batches)[0],
            lambda step, *_: (step + 1, *train_step(batches[step])),
            (tf.constant(0), tf.constant(0.0), tf.constant(0.0)),
        )
        return loss, right

    # Without autograph, which fails under Python 3.13.
    train = tf.function(train_steps, autograph=False, reduce_retracing=True)
    evaluate = tf.function(measured, autograph=False)
    writers = _writers(tf, summaries)
    order = _batches(len(training.labels), config.train_batch_size, config.seed)
    best: tuple[tuple[float, float], int, list[Any]] | None = None
    starts = range(0, steps, config.eval_step_interval)
    for start in tracked(starts, "Training", "evaluations", len(starts)) if summaries else starts:
        batches = np.stack(list(itertools.islice(order, min(config.eval_step_interval, steps - start))))
        step = start + len(batches)
        loss, right = train(tf.constant(batches))
        _summarise(tf, writers, "training", step, loss, right)
        score = (0.0, float(step))
        if len(validation.labels):
            loss, right = evaluate(valid_x, valid_y)
            _summarise(tf, writers, "validation", step, loss, right)
            score = (float(right), -float(loss))
        if best is None or score > best[0]:
            best = score, step, [variable.numpy() for variable in layer.trainable_variables]
    for writer in writers.values():
        writer.close()
    assert best is not None
    (accuracy, _), step, (kernel, bias) = best
    weights = scale[:, None] * kernel
    return Head(weights, bias - offset @ weights, step, accuracy if len(validation.labels) else None)


def _batches(examples: int, size: int, seed: int) -> Iterator[IntArray]:
    """Example indices for one step after another, without end, every example once before any comes again."""
    generator = np.random.default_rng(seed)
    size = min(size, examples)
    waiting = np.zeros(0, np.int64)
    while True:
        if len(waiting) < size:
            waiting = np.concatenate([waiting, generator.permutation(examples)])
        yield waiting[:size]
        waiting = waiting[size:]


def _writers(tf: Any, summaries: Path | None) -> dict[str, Any]:
    if summaries is None:
        return {}
    return {name: tf.summary.create_file_writer(str(summaries / name)) for name in ("training", "validation")}


def _summarise(tf: Any, writers: dict[str, Any], name: str, step: int, loss: Any, right: Any) -> None:
    if name in writers:
        with writers[name].as_default():
            tf.summary.scalar("cross_entropy", loss, step=step)
            tf.summary.scalar("accuracy", right, step=step)
