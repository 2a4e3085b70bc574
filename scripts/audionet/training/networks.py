"""Networks trained on images: small ones from scratch, and a backbone whose last blocks are fine-tuned."""

from __future__ import annotations

import contextlib
import re
from dataclasses import dataclass
from typing import Any

import numpy as np

from audionet.audio.network_input import STATISTICS_WIDTHS
from audionet.backbones.registry import Backbone
from audionet.backbones.tf_runtime import import_tensorflow, mixed_precision, training_strategy
from audionet.classifier.head import Head
from audionet.errors import BackboneError, UsageError
from audionet.training.config import StepConfig
from audionet.training.head_training import extract_head, head_layers, set_head_weights
from audionet.training.train_step import Network
from audionet.utils.arrays import FloatArray, UInt8Array


@dataclass(frozen=True)
class ImageNetwork:
    """Network to train, and its parts.

    Attributes
    ----------
    network : Network
        Maps pixels, and the image's statistics where the backbone has them, to logits.
    features : keras.Model
        Maps pixels of 0 to 255, (n, height, width, 3), to features, (n, width).
    offset, scale : ndarray of float32
        Standardisation of the head's inputs.
    """

    network: Network
    features: Any
    offset: FloatArray
    scale: FloatArray

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input, pixels."""
        _, height, width, _ = self.features.input_shape
        return height, width

    def head(self) -> Head:
        """Return the head with its current weights."""
        return extract_head(self.network.model, self.offset, self.scale)


INPUT_SIZES = {"simple_cnn": (32, 32), "deep_cnn": (64, 96)}
"""Height and width of the inputs of networks trained from scratch, pixels."""


def from_scratch(
    architecture: str, samples: UInt8Array, labels: int, config: StepConfig, exact: bool = False
) -> ImageNetwork:
    """Build one of the small networks, untrained.

    Parameters
    ----------
    architecture : str
        One of `INPUT_SIZES`.
    samples : ndarray of uint8, shape (n, height, width, 3)
        Training images whose mean and variance the normalisation takes.
    labels : int
    config : StepConfig
    exact : bool
        Use float32 on one device, whatever the hardware: for conversion, not for training.
    """
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(config.seed)
    with _hardware(exact):
        pixels = keras.Input(samples.shape[1:], name="pixels")
        values = samples.astype(np.float64)
        normal = keras.layers.Normalization(
            mean=values.mean(axis=(0, 1, 2)), variance=values.var(axis=(0, 1, 2)) + 1, name="normalise"
        )(pixels)
        layers = {"simple_cnn": _simple, "deep_cnn": _deep}[architecture]
        features = keras.Model(pixels, layers(keras.layers, normal), name="features")
        width = features.output.shape[-1]
        return add_head(features, np.zeros(width, np.float32), np.ones(width, np.float32), labels, None, config)


def _simple(layers: Any, values: Any) -> Any:
    """Build the network of TensorFlow's tutorial "Simple audio recognition", up to its last layer."""
    values = layers.Conv2D(32, 3, activation="relu")(values)
    values = layers.Conv2D(64, 3, activation="relu")(values)
    values = layers.Dropout(0.25)(layers.MaxPooling2D()(values))
    values = layers.Dense(128, activation="relu")(layers.Flatten()(values))
    return layers.Dropout(0.5)(values)


def _deep(layers: Any, values: Any) -> Any:
    """Build a small residual network (He et al., 2016) that averages over time but keeps the frequency rows."""
    values = _convolution(layers, values, 32, 2)
    values = layers.Activation("relu")(values)
    for channels, stride in ((32, 1), (32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        inner = layers.Activation("relu")(_convolution(layers, values, channels, stride))
        inner = _convolution(layers, inner, channels, 1)
        if stride != 1 or values.shape[-1] != channels:
            values = _convolution(layers, values, channels, stride, size=1)
        values = layers.Activation("relu")(layers.Add()([values, inner]))
    values = layers.AveragePooling2D((1, values.shape[2]))(values)
    return layers.Dropout(0.3)(layers.Flatten()(values))


def _convolution(layers: Any, values: Any, channels: int, stride: int, size: int = 3) -> Any:
    values = layers.Conv2D(channels, size, strides=stride, padding="same", use_bias=False)(values)
    return layers.BatchNormalization(momentum=0.95)(values)


def from_backbone(
    backbone: Backbone, head: Head, trainable: int, config: StepConfig, exact: bool = False
) -> ImageNetwork:
    """Build a backbone with its trained head, the last blocks trainable.

    Batch normalisation layers stay frozen, statistics and weights: small batches would give poor statistics.

    Parameters
    ----------
    backbone : Backbone
    head : Head
    trainable : int
        Number of the last blocks to train.
    config : StepConfig
    exact : bool
        Use float32 on one device, whatever the hardware: for conversion, not for training.

    Raises
    ------
    BackboneError
        If the backbone has no Keras layers in blocks.
    UsageError
        If it has fewer blocks.
    """
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(config.seed)
    with _hardware(exact):
        features = backbone.load().model
        names = [layer.name for layer in features.layers] if features is not None else []
        blocks = [i for i, name in enumerate(names) if re.fullmatch(r"mixed\d+", name)]
        if not blocks:
            raise BackboneError(
                f"{backbone.name} cannot be fine-tuned: it is not made of Keras layers in blocks, as "
                "inception_v3_speech is; leave out --fine_tune"
            )
        if trainable > len(blocks):
            raise UsageError(f"--fine_tune is {trainable}: {backbone.name} has {len(blocks)} blocks")
        first_trainable = blocks[-trainable - 1] + 1 if trainable < len(blocks) else 0
        for i, layer in enumerate(features.layers):
            layer.trainable = i >= first_trainable and not isinstance(layer, keras.layers.BatchNormalization)
        built = add_head(features, head.offset, head.scale, len(head.last.biases), backbone.statistics, config)
        set_head_weights(head, built.network.model)
    return built


def _hardware(exact: bool) -> contextlib.AbstractContextManager[Any]:
    if exact:
        return contextlib.nullcontext()
    context = contextlib.ExitStack()
    context.enter_context(training_strategy().scope())
    context.enter_context(mixed_precision())
    return context


def add_head(
    features: Any, offset: FloatArray, scale: FloatArray, labels: int, statistics: str | None, config: StepConfig
) -> ImageNetwork:
    """Add an untrained head to a feature model.

    Parameters
    ----------
    features : keras.Model
        Maps pixels of 0 to 255 to features.
    offset, scale : ndarray of float32
        Standardisation of the head's inputs.
    labels : int
    statistics : str or None
        Kind of image statistics to append to the features; None: none.
    config : StepConfig
        Kind of head and its regularisation.
    """
    tf = import_tensorflow()
    import keras

    pixels = keras.Input(features.input_shape[1:], name="pixels")
    inputs, values = [pixels], features(pixels)
    if statistics is not None:
        inputs.append(keras.Input((STATISTICS_WIDTHS[statistics],), name="statistics"))
        values = keras.layers.Concatenate()([values, inputs[1]])
    for layer in head_layers(labels, offset, scale, config):
        values = layer(values)
    model = keras.Model(inputs, values)
    frozen = {id(weight) for layer in features.layers if not layer.trainable for weight in layer.weights}
    state = [variable for variable in model.variables if id(variable) not in frozen]
    pretrained = len(frozen) > 0
    return ImageNetwork(Network(model, state, True, pretrained, tf.distribute.get_strategy()), features, offset, scale)
