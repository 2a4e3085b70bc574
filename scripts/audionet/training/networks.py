"""Networks that take images and are trained as such: small ones from scratch, and a backbone from some block on."""

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
from audionet.training.config import RetrainConfig
from audionet.training.head_training import head_layers, head_of, put_head
from audionet.training.train_step import Network
from audionet.utils.arrays import FloatArray, UInt8Array


@dataclass(frozen=True)
class ImageNetwork:
    """A network to train, and the parts it is made of.

    Attributes
    ----------
    network : Network
        Pixels, and perhaps the image's statistics, to logits.
    features : keras.Model
        Pixels of 0 to 255, (n, height, width, 3), to what the top is given.
    offset, scale : ndarray of float32
        How the top standardises what it is given.
    """

    network: Network
    features: Any
    offset: FloatArray
    scale: FloatArray

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that it takes, pixels."""
        _, height, width, _ = self.features.input_shape
        return height, width

    def head(self) -> Head:
        """The top as it is now."""
        return head_of(self.network.model, self.offset, self.scale)


INPUT_SIZES = {"simple_cnn": (32, 32), "deep_cnn": (64, 96)}
"""Height and width that the networks from scratch take."""


def from_scratch(samples: UInt8Array, labels: int, config: RetrainConfig, exact: bool = False) -> ImageNetwork:
    """One of the small networks, untrained.

    Parameters
    ----------
    samples : ndarray of uint8, shape (n, height, width, 3)
        Training images that the normalisation is adapted to.
    labels : int
    config : RetrainConfig
    exact : bool
        In full precision on one device, whatever the hardware: to be converted, not trained.
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
        layers = {"simple_cnn": _simple, "deep_cnn": _deep}[config.architecture]
        features = keras.Model(pixels, layers(keras.layers, normal), name="features")
        width = features.output.shape[-1]
        return add_head(features, np.zeros(width, np.float32), np.ones(width, np.float32), labels, None, config)


def _simple(layers: Any, values: Any) -> Any:
    """The network of TensorFlow's tutorial "Simple audio recognition", up to its last layer."""
    values = layers.Conv2D(32, 3, activation="relu")(values)
    values = layers.Conv2D(64, 3, activation="relu")(values)
    values = layers.Dropout(0.25)(layers.MaxPooling2D()(values))
    values = layers.Dense(128, activation="relu")(layers.Flatten()(values))
    return layers.Dropout(0.5)(values)


def _deep(layers: Any, values: Any) -> Any:
    """A small residual network (He et al., 2016) that averages over time and keeps the frequency rows apart."""
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


def from_backbone(backbone: Backbone, head: Head, config: RetrainConfig, exact: bool = False) -> ImageNetwork:
    """A backbone with its trained top, the last ``fine_tune`` blocks free to learn.

    Batch normalisation keeps the statistics it came with, and all that belongs to it: a batch of a few
    images would spoil them.

    Parameters
    ----------
    backbone : Backbone
    head : Head
    config : RetrainConfig
    exact : bool
        In full precision on one device, whatever the hardware: to be converted, not trained.

    Raises
    ------
    BackboneError
        If the backbone is not made of blocks.
    UsageError
        If it has fewer than that.
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
        if config.fine_tune > len(blocks):
            raise UsageError(f"--fine_tune is {config.fine_tune}: {backbone.name} has {len(blocks)} blocks")
        first = blocks[-config.fine_tune - 1] + 1 if config.fine_tune < len(blocks) else 0
        for i, layer in enumerate(features.layers):
            layer.trainable = i >= first and not isinstance(layer, keras.layers.BatchNormalization)
        built = add_head(features, head.offset, head.scale, len(head.last.biases), backbone.statistics, config)
        put_head(head, built.network.model)
    return built


def _hardware(exact: bool) -> contextlib.AbstractContextManager[Any]:
    if exact:
        return contextlib.nullcontext()
    context = contextlib.ExitStack()
    context.enter_context(training_strategy().scope())
    context.enter_context(mixed_precision())
    return context


def add_head(
    features: Any, offset: FloatArray, scale: FloatArray, labels: int, statistics: str | None, config: RetrainConfig
) -> ImageNetwork:
    """Features with an untrained top on them.

    Parameters
    ----------
    features : keras.Model
        Pixels of 0 to 255 to features.
    offset, scale : ndarray of float32
        How the top standardises what it is given.
    labels : int
    statistics : str or None
        Those of the image that the top is given too.
    config : RetrainConfig
        The kind of top and its regularisation.
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
    still = {id(weight) for layer in features.layers if not layer.trainable for weight in layer.weights}
    state = [variable for variable in model.variables if id(variable) not in still]
    pretrained = len(still) > 0
    return ImageNetwork(Network(model, state, True, pretrained, tf.distribute.get_strategy()), features, offset, scale)
