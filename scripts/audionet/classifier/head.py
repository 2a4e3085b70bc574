"""Classifier head as plain arrays: bottlenecks to label probabilities."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from audionet.utils.arrays import AnyFloatArray, FloatArray

EPSILON = 1e-12
"""Smallest norm to divide by; avoids division by zero."""


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
    """A trained classifier head: standardisation, optional hidden layer, optional normalisation, last layer.

    Attributes
    ----------
    offset, scale : ndarray of float32, shape (width,)
        Standardised features are ``(features - offset) * scale``.
    hidden : Layer or None
        Followed by a ReLU.
    unit_length : bool
        Whether the input of the last layer is divided by its Euclidean norm.
    last : Layer
        Gives the logits.
    independent : bool
        Whether labels do not exclude each other: the logistic function of each logit, not their softmax.
    """

    offset: FloatArray
    scale: FloatArray
    hidden: Layer | None
    unit_length: bool
    last: Layer
    independent: bool = False

    @property
    def kind(self) -> Literal["linear", "mlp", "cosine"]:
        """Kind of head, as the flag --head names it."""
        return "mlp" if self.hidden is not None else "cosine" if self.unit_length else "linear"

    def with_temperature(self, temperature: float) -> Head:
        """Return the same head with its logits divided by a temperature."""
        factor = np.float32(1 / temperature)
        return replace(self, last=Layer(self.last.weights * factor, self.last.biases * factor))

    def logits(self, features: FloatArray) -> FloatArray:
        """Compute logits, shape (n, labels), of features, shape (n, width)."""
        values: FloatArray = (features - self.offset) * self.scale
        if self.hidden is not None:
            values = np.maximum(values @ self.hidden.weights + self.hidden.biases, 0)
        if self.unit_length:
            values = values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), EPSILON)
        logits: FloatArray = values @ self.last.weights + self.last.biases
        return logits

    def answers(self, features: Iterable[FloatArray]) -> FloatArray:
        """Compute probabilities, shape (n, labels), of features that come in blocks of rows."""
        blocks = [self.probabilities(block) for block in features]
        return np.concatenate(blocks) if blocks else np.zeros((0, len(self.last.biases)), np.float32)

    def probabilities(self, features: FloatArray) -> FloatArray:
        """Compute probabilities, shape (n, labels), of features, shape (n, width)."""
        logits = self.logits(features)
        return logistic(logits) if self.independent else softmax(logits)


def softmax(logits: FloatArray) -> FloatArray:
    """Compute probabilities, shape (..., labels), of logits of the same shape."""
    exponents = np.exp(logits - logits.max(axis=-1, keepdims=True))
    result: FloatArray = exponents / exponents.sum(axis=-1, keepdims=True)
    return result


def logistic(logits: FloatArray) -> FloatArray:
    """Compute the probability of each label by itself from its logit."""
    result: FloatArray = 0.5 * (np.tanh(0.5 * logits) + 1)  # overflows nowhere
    return result


def log_odds(probabilities: AnyFloatArray, least: float = 1e-9) -> FloatArray:
    """Compute logits of probabilities, bounded to `least` and 1 - `least`: the inverse of `logistic`."""
    bounded = np.clip(np.asarray(probabilities, np.float64), least, 1 - least)
    return (np.log(bounded) - np.log1p(-bounded)).astype(np.float32)


def standardisation(blocks: Iterable[FloatArray], widths: Sequence[int]) -> tuple[FloatArray, FloatArray]:
    """Compute the offset and scale that give the features mean 0, and every part of them its weight.

    Each feature gets standard deviation 1 over the training set, and each part a sum of variances that grows as the
    square root of its width, 1 on average over the parts: between parts of the same weight, where a narrow one drowns
    a wide one if only the wide one knows the answer, and features of the same weight, where nobody hears a narrow part.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (some, sum(widths))
        The training set, in blocks of rows.
    widths : sequence of int
        Width of each part.

    Returns
    -------
    offset, scale : ndarray of float32, shape (sum(widths),)
        Standardised features are ``(features - offset) * scale``.
    """
    count, offset, squares = 0, np.zeros(sum(widths)), np.zeros(sum(widths))
    for block in blocks:
        # Chan, Golub & LeVeque's pairwise update (1979): plain sums of squares would lose precision by cancellation.
        centred = block - block[0]
        mean = np.full(len(block), 1 / len(block), np.float32) @ centred
        centred -= mean
        step, total = mean + block[0].astype(np.float64) - offset, count + len(block)
        squares += np.einsum("ij,ij->j", centred, centred) + step**2 * count * len(block) / total
        offset += step * len(block) / total
        count = total
    deviation = np.sqrt(squares / count)
    scale = np.empty_like(deviation)
    roots = np.sqrt(widths)
    start = 0
    for width, weight in zip(widths, roots / roots.mean(), strict=True):
        part = slice(start, start + width)
        # A feature that is nearly constant in training is uninformative, and must not become huge when it varies later.
        floor = max(0.05 * float(np.sqrt(np.mean(deviation[part] ** 2))), 1e-6)
        scale[part] = np.sqrt(weight / width) / np.maximum(deviation[part], floor)
        start += width
    return offset.astype(np.float32), scale.astype(np.float32)
