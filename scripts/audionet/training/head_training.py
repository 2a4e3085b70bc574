"""Training of a classifier head with Keras, and its Keras layers for networks trained end to end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from audionet.backbones.tf_runtime import import_tensorflow
from audionet.classifier.head import EPSILON, Head, Layer, standardisation
from audionet.errors import ModelError
from audionet.training.checkpoint import Checkpoint
from audionet.training.config import StepConfig
from audionet.training.datasets import Examples, FeatureExamples
from audionet.training.tensorboard_log import Curves
from audionet.training.train_loop import Fit, fit
from audionet.training.train_step import Network
from audionet.utils.arrays import FloatArray

COSINE_SCALE = 16.0
"""Largest absolute logit of the cosine head; a higher scale allows more confident probabilities."""


def head_layers(labels: int, offset: FloatArray, scale: FloatArray, config: StepConfig) -> list[Any]:
    """Build the untrained head as Keras layers; `extract_head` reads them back."""
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
        # The loss of a single layer is convex, so that it needs no random initial weights.
        initial = "zeros" if config.head == "linear" else "glorot_uniform"
        layers.append(dense(labels, kernel_initializer=initial, name="last"))
    return layers


def extract_head(model: Any, offset: FloatArray, scale: FloatArray) -> Head:
    """Return the head at the end of a Keras model."""
    layers = {layer.name: layer for layer in model.layers}
    hidden = Layer(*map(np.asarray, layers["hidden"].get_weights())) if "hidden" in layers else None
    kernel, *bias = layers["last"].get_weights()
    if "unit_length" in layers:
        kernel = COSINE_SCALE * kernel / np.maximum(np.linalg.norm(kernel, axis=0), EPSILON)
    return Head(
        offset,
        scale,
        hidden,
        "unit_length" in layers,
        Layer(kernel, bias[0] if bias else np.zeros(kernel.shape[1], np.float32)),
    )


def set_head_weights(head: Head, model: Any) -> None:
    """Copy a head's weights into a Keras model that ends in a head of the same kind."""
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
    config: StepConfig,
    curves: Curves | None = None,
    checkpoint: Checkpoint | None = None,
) -> tuple[Head, Fit]:
    """Train a head on bottlenecks.

    Parameters
    ----------
    training, validation : FeatureExamples, Examples
    labels : int
        Number of labels.
    widths : sequence of int
        Widths of the joined parts of the features.
    config : StepConfig
    curves : Curves, optional
        Receives the loss and accuracy; also switches the progress bar on.
    checkpoint : Checkpoint, optional

    Raises
    ------
    ModelError
        If a feature is NaN or infinite, or the loss becomes so before the first validation.
    """
    tf = import_tensorflow()
    import keras

    keras.utils.set_random_seed(config.seed)
    offset, scale = standardisation(training.blocks(), widths)
    if not (np.isfinite(offset).all() and np.isfinite(scale).all()):
        raise ModelError("the bottleneck cache contains NaN or infinite values: delete --bottleneck_dir and run again")
    outputs = inputs = keras.Input((sum(widths),))
    for layer in head_layers(labels, offset, scale, config):
        outputs = layer(outputs)
    model = keras.Model([inputs], outputs)
    network = Network(
        model, model.variables, takes_images=False, pretrained=False, strategy=tf.distribute.get_strategy()
    )
    fitted = fit(network, training, validation, config, curves, checkpoint)
    return extract_head(model, offset, scale), fitted
