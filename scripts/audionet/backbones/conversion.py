"""Conversion of a TensorFlow network to LiteRT, verified against the original."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audionet.backbones.litert import Runner
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.errors import BackboneError, DamagedError, ModelError, UsageError
from audionet.utils.arrays import FloatArray, UInt8Array
from audionet.utils.files import write_bytes, write_json
from audionet.utils.json_files import field, parse_json, real
from audionet.utils.process import native_stderr_muted
from audionet.utils.text import first_line

FeatureFunction = Callable[[Any], Any]


@dataclass(frozen=True)
class SourceNetwork:
    """Backbone in its original form, run by TensorFlow.

    Attributes
    ----------
    function : callable
        Maps images, float32 (n, height, width, 3) of 0 to 255, to features, (n, width).
    input_size : (int, int)
        Height and width, pixels.
    owner : object
        Object that holds the weights; it must live as long as the function.
    model : keras.Model or None
        The same network as a Keras model, if it is one.
    voice_width : int
        Number of its last features that are a voice embedding.
    """

    function: FeatureFunction
    input_size: tuple[int, int]
    owner: Any
    model: Any = None
    voice_width: int = 0


class Converted(NamedTuple):
    """A converted network: content of the .tflite file, and what its card says of it."""

    network: bytes
    arithmetic: str
    cosine: float

    @property
    def sha256(self) -> str:
        """SHA-256 of the network."""
        return hashlib.sha256(self.network).hexdigest()


MINIMUM_COSINE = 0.99
"""Smallest mean cosine between a quantised backbone's features and the original's."""


def convert(original: SourceNetwork, samples: UInt8Array, name: str, quantise: bool = True) -> Converted:
    """Convert a network to LiteRT, with int8 weights if they preserve its features, otherwise float32.

    Parameters
    ----------
    original : SourceNetwork
    samples : ndarray of uint8, shape (n, height, width, 3)
        Images on which the converted network must agree with the original: its bottleneck, and its voice embedding.
    name : str
        For error messages.
    quantise : bool
        Whether to try int8.

    Returns
    -------
    Converted
        Takes uint8 RGB; its cosine is at least MINIMUM_COSINE.

    Raises
    ------
    BackboneError
        If the network does not accept such images, returns no feature vector, or cannot be converted.
    """
    tf = import_tensorflow()
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    height, width = original.input_size
    spec = tf.TensorSpec([1, height, width, 3], tf.uint8)
    traced = tf.function(lambda pixels: original.function(tf.cast(pixels, tf.float32)), autograph=False)
    try:
        with native_stderr_muted():
            concrete = traced.get_concrete_function(spec)
    except UsageError:
        raise
    except Exception as error:  # a network given an image of the wrong size may raise any error
        raise BackboneError(f"{name} does not accept an image of {height} x {width} ({first_line(error)})") from None
    shapes = [output.shape for output in tf.nest.flatten(concrete.structured_outputs)]
    if len(shapes) != 1 or shapes[0].rank != 2 or shapes[0][1] is None:
        returned = ", ".join(map(str, shapes))
        raise BackboneError(f"{name} is no feature-vector backbone: it returns {returned}, not one (images, width)")
    reference = np.concatenate([tf.nest.flatten(concrete(tf.constant(sample[None])))[0].numpy() for sample in samples])
    frozen = convert_variables_to_constants_v2(concrete)
    best: Converted | None = None
    for arithmetic in ("int8", "float32") if quantise else ("float32",):
        converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
        if arithmetic == "int8":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        try:
            with native_stderr_muted():
                model = converter.convert()
        except Exception as error:  # the converter's errors share no base class
            raise BackboneError(f"{name} cannot be converted to LiteRT ({first_line(error)})") from None
        try:
            best = Converted(model, arithmetic, _agreement(model, samples, reference, original.voice_width))
        except ModelError as error:
            raise BackboneError(f"{name} cannot be used once it is converted ({first_line(error)})") from None
        if best.cosine >= MINIMUM_COSINE:
            return best
    cosine = best.cosine if best else 0
    raise BackboneError(f"{name}: its LiteRT features differ too much from the original's (cosine {cosine:.3f})")


def _agreement(model: bytes, samples: UInt8Array, reference: FloatArray, voice_width: int) -> float:
    """Compute the mean cosine between a converted network's features and the original's; the lower of its parts'."""
    runner = Runner(model, name="the converted network", remedy="name another backbone")
    features = np.stack([runner(sample[None]) for sample in samples])
    edges = [reference.shape[1] - voice_width] if voice_width else []
    parts = zip(np.split(features, edges, axis=1), np.split(reference, edges, axis=1), strict=True)
    return min(mean_cosine(*part) for part in parts)


def mean_cosine(one: FloatArray, other: FloatArray) -> float:
    """Compute the mean cosine between matching rows; the cosine of two all-zero rows counts as 1."""
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    cosines = np.einsum("ij,ij->i", one, other) / np.maximum(norms, 1e-12)
    both_zero = ~one.any(axis=1) & ~other.any(axis=1)
    return float(np.mean(np.where(both_zero, 1, cosines)))


def read_converted(path: Path) -> Converted | None:
    """Read a converted network and its card; None unless both exist and belong together."""
    try:
        card = parse_json(path.with_suffix(".json").read_bytes())
        found = Converted(path.read_bytes(), field(card, "arithmetic", str), real(card, "cosine"))
    except (OSError, DamagedError):
        return None
    return found if found.sha256 == card.get("sha256") else None


def write_converted(path: Path, converted: Converted) -> None:
    """Write a converted network, and its card beside it."""
    write_bytes(path, converted.network)
    card = {"sha256": converted.sha256, "arithmetic": converted.arithmetic, "cosine": converted.cosine}
    write_json(path.with_suffix(".json"), card)
