"""Augmentation of images inside the training step: SpecAugment masks and mixup."""

from __future__ import annotations

from typing import Any

from audionet.audio.image import VIRIDIS
from audionet.backbones.tf_runtime import import_tensorflow

_MAX_MASK_SHARE = 0.15
"""Widest mask, as a share of the image; SpecAugment's LibriSpeech policies mask up to a fifth of the rows."""


def mask(pixels: Any, masks: int, seed: Any) -> Any:
    """Mask random frequency bands and time segments of each image (SpecAugment: Park et al., 2019; no warping).

    Parameters
    ----------
    pixels : tensor of float32, shape (n, height, width, 3)
    masks : int
        Number of frequency masks, and of time masks.
    seed : tensor of int32, shape (2,)

    Returns
    -------
    tensor of float32
        The same pixels, the masked ones in the colour of silence.
    """
    tf = import_tensorflow()
    examples, height, width = tf.shape(pixels)[0], pixels.shape[1], pixels.shape[2]
    rows = _masks(tf, examples, height, masks, tf.stack([seed[0], seed[1] * 2]))
    columns = _masks(tf, examples, width, masks, tf.stack([seed[0], seed[1] * 2 + 1]))
    masked = rows[:, :, None, None] | columns[:, None, :, None]
    return tf.where(masked, tf.constant(VIRIDIS[0], pixels.dtype), pixels)


def _masks(tf: Any, examples: Any, length: int, masks: int, seed: Any) -> Any:
    """Draw random masks along one axis: True where masked, shape (examples, length)."""
    draws = tf.random.stateless_uniform([2, examples, masks, 1], seed)
    widths = draws[0] * _MAX_MASK_SHARE * length
    starts = draws[1] * (length - widths)
    positions = tf.range(length, dtype=tf.float32)
    return tf.reduce_any((positions >= starts) & (positions < starts + widths), axis=1)


def mixup(inputs: tuple[Any, ...], targets: Any, alpha: float, seed: Any) -> tuple[tuple[Any, ...], Any]:
    """Mix each example, and its target, with its neighbour in the batch (mixup: Zhang et al., 2018).

    Parameters
    ----------
    inputs : tuple of tensor, each of shape (n, ...)
    targets : tensor of float32, shape (n, labels)
    alpha : float
        An example's weight is w or 1 - w, whichever is larger, with w drawn from Beta(alpha, alpha).
    seed : tensor of int32, shape (2,)
    """
    tf = import_tensorflow()
    examples = tf.shape(targets)[0]
    first, second = tf.unstack(tf.random.stateless_gamma([2, examples], seed, alpha) + 1e-6)
    share = tf.maximum(first, second) / (first + second)

    def blend(values: Any) -> Any:
        weight = tf.reshape(share, [-1, *[1] * (len(values.shape) - 1)])
        return weight * values + (1 - weight) * tf.roll(values, 1, axis=0)

    return tuple(map(blend, inputs)), blend(targets)
