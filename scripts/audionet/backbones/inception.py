"""Inception-v3 for images of sound: which layer is tapped, and how what it says over time becomes one vector."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audionet.errors import UsageError
from audionet.utils.arrays import FloatArray

ATTENTIVE = "attentive"
"""The pooling that has weights of its own, and so has to be trained with the network."""

_LEAST_VARIANCE = 1e-5
_ATTENTION_UNITS = 128


@dataclass(frozen=True)
class FeatureLayer:
    """Where features are taken from a network, and how they are pooled.

    Attributes
    ----------
    endpoint : str
        Name of the layer, such as ``mixed7``.
    pooling : str
        One of POOLINGS or, where an embedding follows, TRAINED_POOLING.
    embedding : int
        Width of the linear layer that follows, trained with the network; 0: there is none.
    """

    endpoint: str = "mixed10"
    pooling: str = "average"
    embedding: int = 0


def endpoints(model: Any) -> list[str]:
    """Layers of a Keras model that can be tapped: its blocks, or every layer that gives maps where none is named."""
    maps = [layer.name for layer in model.layers if len(layer.output.shape) == 4]
    return [name for name in maps if name.startswith("mixed")] or maps


def pool_maps(maps: Any, pooling: str) -> Any:
    """What a layer's maps say, as one vector.

    Parameters
    ----------
    maps : tensor of float, shape (n, rows, frames, channels)
        Rows are frequencies, the highest first; frames are time.
    pooling : str
        ``average``: over rows and frames, (n, channels). ``time``: over frames alone, so that it stays known at which
        frequency something was, (n, rows * channels). ``statistics``: that, and the standard deviation over frames,
        (n, 2 * rows * channels), as x-vectors have it (Snyder et al., 2018).

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
    both = ops.concatenate([mean, ops.sqrt(variance + _LEAST_VARIANCE)], axis=-1)
    return ops.reshape(both, (-1, 2 * rows * channels))


def attentive_statistics(maps: Any) -> Any:
    """Mean and standard deviation over time, each number's moments weighed by what the network attends to.

    Which moments count is found by two layers for every number of a moment by itself, after Okabe et al., Attentive
    statistics pooling, 2018, and, with weights of its own for each number, ECAPA-TDNN, 2020.

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
    moments = ops.reshape(ops.transpose(ops.cast(maps, "float32"), (0, 2, 1, 3)), (-1, frames, rows * channels))
    hidden = keras.layers.Dense(_ATTENTION_UNITS, activation="tanh", name="attention_hidden", dtype="float32")(moments)
    scores = keras.layers.Dense(rows * channels, name="attention", dtype="float32")(hidden)
    weights = ops.softmax(scores, axis=1)
    mean = ops.sum(weights * moments, axis=1)
    variance = ops.sum(weights * ops.square(moments - ops.expand_dims(mean, 1)), axis=1)
    return ops.concatenate([mean, ops.sqrt(variance + _LEAST_VARIANCE)], axis=-1)


def inception_v3(input_size: tuple[int, int], tap: FeatureLayer) -> Any:
    """Keras's Inception-v3 with random weights, from pixels of 0 to 255 to the vector that a tap gives.

    Parameters
    ----------
    input_size : (int, int)
        Height and width, pixels; at least 75 each.
    tap : Tap

    Raises
    ------
    UsageError
        If there is no such endpoint; the message lists those there are.
    """
    import keras

    pixels = keras.Input((*input_size, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, -1, name="scale")(pixels)
    whole = keras.applications.InceptionV3(weights=None, include_top=False, input_tensor=scaled)
    return with_feature_layer(whole, tap)


def with_feature_layer(model: Any, tap: FeatureLayer) -> Any:
    """A Keras model from another one's input to the vector that a tap gives.

    Raises
    ------
    UsageError
        If there is no such endpoint, or no such pooling.
    """
    import keras

    known = (*POOLINGS, ATTENTIVE) if tap.embedding else POOLINGS
    if tap.pooling not in known:
        raise UsageError(f"--pooling is {tap.pooling}: it must be one of {', '.join(known)}")
    if tap.endpoint not in endpoints(model):
        raise UsageError(f"there is no endpoint '{tap.endpoint}': there are {', '.join(endpoints(model))}")
    maps = model.get_layer(tap.endpoint).output
    vector = attentive_statistics(maps) if tap.pooling == ATTENTIVE else pool_maps(maps, tap.pooling)
    if tap.embedding:
        # Wide statistics differ in size by orders of magnitude: brought to one scale before the layer and after it.
        vector = keras.layers.BatchNormalization(name="statistics", dtype="float32")(vector)
        vector = keras.layers.Dense(tap.embedding, use_bias=False, name="embedding", dtype="float32")(vector)
        vector = keras.layers.BatchNormalization(name="bottleneck", center=False, scale=False, dtype="float32")(vector)
    return keras.Model(model.inputs[0], vector)


def read_weights(model: Any, path: Path) -> None:
    """Give a model the weights of an .npz (``w000``, ``w001``, ... in the model's own order)."""
    with np.load(path, allow_pickle=False) as arrays:
        model.set_weights([arrays[f"w{i:03d}"].astype(np.float32) for i in range(len(model.weights))])


def packed_weights(model: Any) -> dict[str, FloatArray]:
    """A model's weights as `read_weights` takes them: those of layers that multiply in 16 bits, the rest in 32."""
    return {
        f"w{place:03d}": weight.astype(np.float16 if weight.ndim > 1 else np.float32)
        for place, weight in enumerate(model.get_weights())
    }


def feature_layer_from_card(card: dict[str, Any]) -> FeatureLayer:
    """The tap that a backbone's card names; the first card named none."""
    return FeatureLayer(
        **{name: card[name] for name in asdict(FeatureLayer()) if name in card and card[name] != "global average"}
    )


POOLINGS = ("average", "time", "statistics")
"""How maps over frequency and time become one vector."""
