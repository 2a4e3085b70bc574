"""Images varied on the fly: SpecAugment's masks and mixup, inside the training step."""

from __future__ import annotations

from typing import Any

from audionet.audio.image import VIRIDIS
from audionet.backbones.tf_runtime import import_tensorflow

_WIDEST = 0.15
"""Widest mask, as a share of the image; SpecAugment's LibriSpeech policies mask up to a fifth of the rows."""


def mask(pixels: Any, masks: int, seed: Any) -> Any:
    """Silence some bands and some stretches of each image (SpecAugment: Park et al., 2019, without its warping).

    Parameters
    ----------
    pixels : tensor of float32, shape (n, height, width, 3)
    masks : int
        How many of each kind.
    seed : tensor of int32, shape (2,)

    Returns
    -------
    tensor of float32
        The same, masked pixels in the colour of silence.
    """
    tf = import_tensorflow()
    examples, height, width = tf.shape(pixels)[0], pixels.shape[1], pixels.shape[2]
    rows = _masks(tf, examples, height, masks, tf.stack([seed[0], seed[1] * 2]))
    columns = _masks(tf, examples, width, masks, tf.stack([seed[0], seed[1] * 2 + 1]))
    hidden = rows[:, :, None, None] | columns[:, None, :, None]
    return tf.where(hidden, tf.constant(VIRIDIS[0], pixels.dtype), pixels)


def _masks(tf: Any, examples: Any, length: int, masks: int, seed: Any) -> Any:
    """True where any of some random stretches lies, shape (examples, length)."""
    draws = tf.random.stateless_uniform([2, examples, masks, 1], seed)
    widths = draws[0] * _WIDEST * length
    starts = draws[1] * (length - widths)
    places = tf.range(length, dtype=tf.float32)
    return tf.reduce_any((places >= starts) & (places < starts + widths), axis=1)


def mixup(inputs: tuple[Any, ...], targets: Any, alpha: float, seed: Any) -> tuple[tuple[Any, ...], Any]:
    """Blend each example, and its target, with its neighbour in the batch (mixup: Zhang et al., 2018).

    Parameters
    ----------
    inputs : tuple of tensor, each of shape (n, ...)
    targets : tensor of float32, shape (n, labels)
    alpha : float
        The share is drawn from Beta(alpha, alpha), folded to a half and more.
    seed : tensor of int32, shape (2,)
    """
    tf = import_tensorflow()
    examples = tf.shape(targets)[0]
    one, other = tf.unstack(tf.random.stateless_gamma([2, examples], seed, alpha) + 1e-6)
    share = tf.maximum(one, other) / (one + other)

    def blend(values: Any) -> Any:
        weight = tf.reshape(share, [-1, *[1] * (len(values.shape) - 1)])
        return weight * values + (1 - weight) * tf.roll(values, 1, axis=0)

    return tuple(map(blend, inputs)), blend(targets)
