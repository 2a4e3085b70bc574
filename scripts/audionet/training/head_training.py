"""Training a top layer with Keras, and its layers for whoever trains more than the top."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from audionet.backbones.tf_runtime import import_tensorflow
from audionet.classifier.head import EPSILON, Head, Layer, standardisation
from audionet.errors import ModelError
from audionet.training.checkpoint import Checkpoint
from audionet.training.config import RetrainConfig
from audionet.training.datasets import Examples, FeatureExamples
from audionet.training.tensorboard_log import Curves
from audionet.training.train_loop import Fit, fit
from audionet.training.train_step import Network
from audionet.utils.arrays import FloatArray

COSINE_SCALE = 16.0
"""Logits of the cosine head reach from minus this to this; more makes surer answers."""


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
        kernel = COSINE_SCALE * kernel / np.maximum(np.linalg.norm(kernel, axis=0), EPSILON)
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
        model, model.variables, takes_images=False, pretrained=False, strategy=tf.distribute.get_strategy()
    )
    fitted = fit(network, training, validation, config, curves, checkpoint)
    return head_of(model, offset, scale), fitted
