"""Inception-v3 for spectrogram images: feature layer, and pooling of its maps over time to one vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from audionet.errors import UsageError
from audionet.utils.array_files import Expected, read_npz
from audionet.utils.arrays import FloatArray
from audionet.utils.json_files import checked_whole, field, optional_field, whole

ATTENTIVE = "attentive"
"""Pooling with its own weights, which must be trained with the network."""

_MIN_VARIANCE = 1e-5
_ATTENTION_UNITS = 128
_WIDEST_VOICE = 10_000
_VOICE = "voice_embedding"


@dataclass(frozen=True)
class FeatureLayer:
    """Layer of a network that features are taken from, and their pooling.

    Attributes
    ----------
    endpoint : str
        Name of the layer, such as ``mixed7``.
    pooling : str
        One of POOLINGS or, if an embedding follows, ATTENTIVE.
    embedding : int
        Width of the linear layer after the pooling, trained with the network; 0: none.
    """

    endpoint: str = "mixed10"
    pooling: str = "average"
    embedding: int = 0


@dataclass(frozen=True)
class VoiceLayer:
    """Second output of a network: an embedding of unit length in which voices are compared.

    Attributes
    ----------
    endpoint : str
        Name of the layer whose maps it is computed from, by attentive statistics pooling and a linear layer.
    width : int
        Dimensions.
    """

    endpoint: str
    width: int


def endpoints(model: Any) -> list[str]:
    """List a Keras model's possible feature layers: its ``mixed`` blocks, or without such, every layer with maps."""
    maps = [layer.name for layer in model.layers if len(layer.output.shape) == 4]
    return [name for name in maps if name.startswith("mixed")] or maps


def pool_maps(maps: Any, pooling: str) -> Any:
    """Pool a layer's maps to one vector.

    Parameters
    ----------
    maps : tensor of float, shape (n, rows, frames, channels)
        Rows are frequencies, the highest first; frames are time.
    pooling : str
        ``average``: mean over rows and frames, (n, channels). ``time``: mean over frames alone, which keeps the
        frequency axis, (n, rows * channels). ``statistics``: mean and standard deviation over frames,
        (n, 2 * rows * channels), as in x-vectors (Snyder et al., 2018).

    Returns
    -------
    tensor of float32
    """
    import keras

    ops = keras.ops
    maps = ops.cast(maps, "float32")
    _, rows, _, channels = maps.shape
    if pooling == "average":
        return ops.mean(maps, axis=(1, 2))
    mean = ops.mean(maps, axis=2)
    if pooling == "time":
        return ops.reshape(mean, (-1, rows * channels))
    variance = ops.mean(ops.square(maps - ops.expand_dims(mean, 2)), axis=2)
    both = ops.concatenate([mean, ops.sqrt(variance + _MIN_VARIANCE)], axis=-1)
    return ops.reshape(both, (-1, 2 * rows * channels))


def attentive_statistics(maps: Any) -> Any:
    """Compute the mean and standard deviation over time, with the frames of each feature weighted by attention.

    Two layers compute the attention weights (Okabe et al., Attentive statistics pooling, 2018), separately for each
    feature, as in ECAPA-TDNN (2020).

    Parameters
    ----------
    maps : tensor of float, shape (n, rows, frames, channels)

    Returns
    -------
    tensor of float32, shape (n, 2 * rows * channels)
    """
    import keras

    ops = keras.ops
    _, rows, frames, channels = maps.shape
    features = ops.reshape(ops.transpose(ops.cast(maps, "float32"), (0, 2, 1, 3)), (-1, frames, rows * channels))
    hidden = keras.layers.Dense(_ATTENTION_UNITS, activation="tanh", name="attention_hidden", dtype="float32")(features)
    scores = keras.layers.Dense(rows * channels, name="attention", dtype="float32")(hidden)
    weights = ops.softmax(scores, axis=1)
    mean = ops.sum(weights * features, axis=1)
    variance = ops.sum(weights * ops.square(features - ops.expand_dims(mean, 1)), axis=1)
    return ops.concatenate([mean, ops.sqrt(variance + _MIN_VARIANCE)], axis=-1)


def inception_v3(input_size: tuple[int, int], layer: FeatureLayer, voice: VoiceLayer | None = None) -> Any:
    """Build Keras's Inception-v3 with random weights, from pixels of 0 to 255 to a feature layer's vector.

    Parameters
    ----------
    input_size : (int, int)
        Height and width, pixels; at least 75 each.
    layer : FeatureLayer
    voice : VoiceLayer, optional
        Second output.

    Raises
    ------
    UsageError
        If there is no such endpoint; the message lists the endpoints.
    """
    import keras

    pixels = keras.Input((*input_size, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, -1, name="scale")(pixels)
    whole = keras.applications.InceptionV3(weights=None, include_top=False, input_tensor=scaled)
    return with_feature_layer(whole, layer, voice)


def with_feature_layer(model: Any, layer: FeatureLayer, voice: VoiceLayer | None = None) -> Any:
    """Build a Keras model from another model's input to a feature layer's vector and, if asked for, a voice embedding.

    A voice layer that the other model has already is used again, with its weights.

    Raises
    ------
    UsageError
        If there is no such endpoint, or no such pooling.
    """
    import keras

    known = (*POOLINGS, ATTENTIVE) if layer.embedding else POOLINGS
    if layer.pooling not in known:
        raise UsageError(f"--pooling is {layer.pooling}: it must be one of {', '.join(known)}")
    for endpoint in (layer.endpoint, *((voice.endpoint,) if voice else ())):
        if endpoint not in endpoints(model):
            raise UsageError(f"there is no endpoint '{endpoint}': there are {', '.join(endpoints(model))}")
    maps = model.get_layer(layer.endpoint).output
    vector = attentive_statistics(maps) if layer.pooling == ATTENTIVE else pool_maps(maps, layer.pooling)
    if layer.embedding:
        # The statistics differ in size by orders of magnitude: normalise them before the layer and after it.
        vector = keras.layers.BatchNormalization(name="statistics", dtype="float32")(vector)
        vector = keras.layers.Dense(layer.embedding, use_bias=False, name="embedding", dtype="float32")(vector)
        vector = keras.layers.BatchNormalization(name="bottleneck", center=False, scale=False, dtype="float32")(vector)
    if voice is None:
        return keras.Model(model.inputs[0], vector)
    if any(item.name == _VOICE for item in model.layers):
        return keras.Model(model.inputs[0], [vector, model.get_layer(_VOICE).output])
    return keras.Model(model.inputs[0], [vector, _voice_embedding(model.get_layer(voice.endpoint).output, voice.width)])


def as_one_vector(model: Any) -> Any:
    """Join a Keras model's two outputs, bottleneck and voice embedding, to one vector."""
    import keras

    joined = keras.layers.Concatenate(name="bottleneck_and_voice", dtype="float32")(model.outputs)
    return keras.Model(model.inputs[0], joined)


def _voice_embedding(maps: Any, width: int) -> Any:
    """Compute a speaker embedding of unit length, shape (n, width), as in ECAPA-TDNN (Desplanques et al., 2020)."""
    import keras

    vector = attentive_statistics(maps)
    vector = keras.layers.BatchNormalization(name="voice_statistics", dtype="float32")(vector)
    vector = keras.layers.Dense(width, use_bias=False, name="voice_direction", dtype="float32")(vector)
    return keras.layers.UnitNormalization(name=_VOICE, dtype="float32")(vector)


def set_weights(model: Any, content: bytes) -> None:
    """Set a model's weights to those of an .npz file's content (``w000``, ``w001``, ... in the model's order).

    Raises
    ------
    DamagedError
        If the content is damaged, or the weights are those of another model.
    """
    schema = {f"w{i:03d}": Expected(np.float32, tuple(weight.shape)) for i, weight in enumerate(model.weights)}
    model.set_weights(list(read_npz(content, schema).values()))


def packed_weights(model: Any) -> dict[str, FloatArray]:
    """Pack a model's weights for `set_weights`: matrices and kernels as float16, vectors as float32."""
    return {
        f"w{i:03d}": weight.astype(np.float16 if weight.ndim > 1 else np.float32)
        for i, weight in enumerate(model.get_weights())
    }


def voice_layer_from_card(card: dict[str, Any]) -> VoiceLayer | None:
    """Read the voice layer from a backbone's card; None if it has none.

    Raises
    ------
    DamagedError
        If its parts are missing or of another type.
    """
    voice = optional_field(card, "voice", dict)
    if voice is None:
        return None
    return VoiceLayer(field(voice, "endpoint", str), checked_whole(voice.get("width"), "width", 1, _WIDEST_VOICE))


def feature_layer_from_card(card: dict[str, Any]) -> FeatureLayer:
    """Read the feature layer from a backbone's card; the first backbone's card named none.

    Raises
    ------
    DamagedError
        If its parts are of another type.
    """
    default = FeatureLayer()
    pooling = optional_field(card, "pooling", str) or default.pooling
    return FeatureLayer(
        optional_field(card, "endpoint", str) or default.endpoint,
        default.pooling if pooling == "global average" else pooling,
        whole(card, "embedding") if "embedding" in card else default.embedding,
    )


POOLINGS = ("average", "time", "statistics")
"""Poolings without weights, from maps over frequency and time to one vector."""
