"""The top layer as plain arrays: bottlenecks to label probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from audionet.utils.arrays import FloatArray

EPSILON = 1e-12
"""Least length that is divided by."""


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

    def with_temperature(self, temperature: float) -> Head:
        """The same top with its logits divided by a temperature."""
        cooler = np.float32(1 / temperature)
        return replace(self, last=Layer(self.last.weights * cooler, self.last.biases * cooler))

    def logits(self, features: FloatArray) -> FloatArray:
        """Logits, shape (n, labels), of features, shape (n, width)."""
        values: FloatArray = (features - self.offset) * self.scale
        if self.hidden is not None:
            values = np.maximum(values @ self.hidden.weights + self.hidden.biases, 0)
        if self.unit_length:
            values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), EPSILON)
        logits: FloatArray = values @ self.last.weights + self.last.biases
        return logits

    def answers(self, features: Iterable[FloatArray]) -> FloatArray:
        """Probabilities, shape (n, labels), of features that come a block of rows at a time."""
        blocks = [self.probabilities(block) for block in features]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.last.biases)), np.float32)

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Probabilities, shape (n, labels), of features, shape (n, width)."""
        return softmax(self.logits(features))


def softmax(logits: FloatArray) -> FloatArray:
    """Probabilities, shape (..., labels), of logits of the same shape."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = exponents / exponents.sum(axis=-1, keepdims=True)
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
