"""The new top layer: bottlenecks to label probabilities, as Keras trains it and as plain arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from .checkpoints import Checkpoint
from .config import RetrainConfig
from .errors import ModelError
from .examples import Examples, FeatureExamples
from .fitting import Fit, fit
from .spectrogram import FloatArray
from .stepping import Network
from .summaries import Curves
from .tensorflow_runtime import import_tensorflow

COSINE_SCALE = 16.0
"""Logits of the cosine head reach from minus this to this; more makes surer answers."""

_EPSILON = 1e-12


@dataclass(frozen=True)
class Layer:
    """A dense layer.

    Attributes
    ----------
    weights : ndarray of float32, shape (inputs, outputs)
    biases : ndarray of float32, shape (outputs,)
    """

    weights: FloatArray
    biases: FloatArray


@dataclass(frozen=True)
class Head:
    """A trained top: standardisation, perhaps a hidden layer, perhaps scaling to unit length, the last layer.

    Attributes
    ----------
    offset, scale : ndarray of float32, shape (width,)
        Standardised features are ``(features - offset) * scale``.
    hidden : Layer or None
        Followed by a rectifier.
    unit_length : bool
        Whether what comes to the last layer is divided by its Euclidean norm first.
    last : Layer
        Gives the logits.
    """

    offset: FloatArray
    scale: FloatArray
    hidden: Layer | None
    unit_length: bool
    last: Layer

    @property
    def kind(self) -> Literal["linear", "mlp", "cosine"]:
        """What --head calls it."""
        return "mlp" if self.hidden is not None else "cosine" if self.unit_length else "linear"

    def logits(self, features: FloatArray) -> FloatArray:
        """Logits, shape (n, labels), of features, shape (n, width)."""
        values: FloatArray = (features - self.offset) * self.scale
        if self.hidden is not None:
            values = np.maximum(values @ self.hidden.weights + self.hidden.biases, 0)
        if self.unit_length:
            values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), _EPSILON)
        logits: FloatArray = values @ self.last.weights + self.last.biases
        return logits

    def answers(self, examples: FeatureExamples) -> FloatArray:
        """Probabilities, shape (n, labels), of examples, whose features are read a few at a time."""
        blocks = [self.probabilities(block) for block in examples.blocks()]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.last.biases)), np.float32)

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Probabilities, shape (n, labels), of features, shape (n, width)."""
        logits = self.logits(features)
        exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
        result: FloatArray = exponents / exponents.sum(axis=1, keepdims=True)
        return result


def standardisation(blocks: Iterable[FloatArray], widths: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Offset and scale that give every part of the features the same weight.

    Each number is brought to mean 0 and deviation 1 over the training set, and each part divided by the square
    root of its width, so that a wide part does not drown a narrow one.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (some, sum(widths))
        The training set, a few rows at a time.
    widths : sequence of int
        Width of each part.

    Returns
    -------
    offset, scale : ndarray of float32, shape (sum(widths),)
        Standardised features are ``(features - offset) * scale``.
    """
    count, offset, squares = 0, np.zeros(sum(widths)), np.zeros(sum(widths))
    for block in blocks:
        # Chan, Golub & LeVeque's pairwise update (1979): sums of squares alone would cancel.
        centred = block - block[0]
        mean = np.full(len(block), 1 / len(block), np.float32) @ centred
        centred -= mean
        step, total = mean + block[0].astype(np.float64) - offset, count + len(block)
        squares += np.einsum("ij,ij->j", centred, centred) + step**2 * count * len(block) / total
        offset += step * len(block) / total
        count = total
    deviation = np.sqrt(squares / count)
    scale = np.empty_like(deviation)
    start = 0
    for width in widths:
        part = slice(start, start + width)
        # A number that hardly moved in training says nothing, and must not explode when it moves later.
        floor = max(0.05 * float(np.sqrt(np.mean(deviation[part] ** 2))), 1e-6)
        scale[part] = 1 / (np.maximum(deviation[part], floor) * np.sqrt(width))
        start += width
    return offset.astype(np.float32), scale.astype(np.float32)


def head_layers(labels: int, offset: FloatArray, scale: FloatArray, config: RetrainConfig) -> list[Any]:
    """The top as Keras layers, untrained; `head_of` reads them back."""
    import keras

    def dense(units: int, **options: Any) -> Any:
        return keras.layers.Dense(units, kernel_regularizer=keras.regularizers.L1L2(config.l1, config.l2), **options)

    layers = [keras.layers.Normalization(mean=offset, variance=1 / scale.astype(np.float64) ** 2, name="standardise")]
    if config.dropout:
        layers.append(keras.layers.Dropout(config.dropout))
    if config.head == "mlp":
        layers.append(dense(config.hidden_units, activation="relu", name="hidden"))
        if config.dropout:
            layers.append(keras.layers.Dropout(config.dropout))
    if config.head == "cosine":
        directions = {"use_bias": False, "kernel_constraint": keras.constraints.UnitNorm(axis=0)}
        layers += [
            keras.layers.UnitNormalization(name="unit_length"),
            dense(labels, name="last", **directions),
            keras.layers.Rescaling(COSINE_SCALE, name="logits"),
        ]
    else:
        # One layer alone is convex and needs no random start.
        start = "zeros" if config.head == "linear" else "glorot_uniform"
        layers.append(dense(labels, kernel_initializer=start, name="last"))
    return layers


def head_of(model: Any, offset: FloatArray, scale: FloatArray) -> Head:
    """The top that a Keras model ends in."""
    layers = {layer.name: layer for layer in model.layers}
    hidden = Layer(*map(np.asarray, layers["hidden"].get_weights())) if "hidden" in layers else None
    kernel, *bias = layers["last"].get_weights()
    if "unit_length" in layers:
        kernel = COSINE_SCALE * kernel / np.maximum(np.linalg.norm(kernel, axis=0), _EPSILON)
    return Head(
        offset,
        scale,
        hidden,
        "unit_length" in layers,
        Layer(kernel, bias[0] if bias else np.zeros(kernel.shape[1], np.float32)),
    )


def put_head(head: Head, model: Any) -> None:
    """Give a Keras model that ends in the same kind of top its weights."""
    layers = {layer.name: layer for layer in model.layers}
    if head.hidden is not None:
        layers["hidden"].set_weights([head.hidden.weights, head.hidden.biases])
    if head.unit_length:
        layers["last"].set_weights([head.last.weights / COSINE_SCALE])
    else:
        layers["last"].set_weights([head.last.weights, head.last.biases])


def train_head(
    training: FeatureExamples,
    validation: Examples,
    labels: int,
    widths: Sequence[int],
    config: RetrainConfig,
    curves: Curves | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Head, Fit]:
    """Train a top on features.

    Parameters
    ----------
    training, validation : FeatureExamples
    labels : int
        Number of labels.
    widths : sequence of int
        Widths of the parts that the features are joined of.
    config : RetrainConfig
    curves : Curves, optional
        Where points go; also switches the progress bar on.
    checkpoint : Checkpoint, optional

    Raises
    ------
    ModelError
        If the features are no numbers, or the loss is none before any weights could be judged.
    """
    tf = import_tensorflow()
    import keras

    keras.utils.set_random_seed(config.seed)
    offset, scale = standardisation(training.blocks(), widths)
    if not (np.isfinite(offset).all() and np.isfinite(scale).all()):
        raise ModelError("there are bottlenecks that hold no numbers: delete --bottleneck_dir and run again")
    outputs = inputs = keras.Input((sum(widths),))
    for layer in head_layers(labels, offset, scale, config):
        outputs = layer(outputs)
    model = keras.Model([inputs], outputs)
    network = Network(
        model, model.variables, takes_pictures=False, pretrained=False, strategy=tf.distribute.get_strategy()
    )
    fitted = fit(network, training, validation, config, curves, checkpoint)
    return head_of(model, offset, scale), fitted
