"""A backbone on the GPUs that TensorFlow finds, in place of LiteRT on the CPU's cores."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from audionet.audio.spectrogram import FloatArray, UInt8Array
from audionet.backbones.registry import Backbone
from audionet.backbones.tf_runtime import import_tensorflow, mixed_precision, shared, training_strategy


def accelerated(backbone: Backbone) -> Callable[[UInt8Array], FloatArray]:
    """The backbone's original network on all GPUs, in mixed precision where they are faster at it.

    Returns
    -------
    callable
        Pixels, uint8 (n, height, width, 3), to features, float32 (n, width). They agree with LiteRT's as well as
        the converted network agrees with the original: ``backbone.cosine``.
    """
    tf = import_tensorflow()
    strategy = training_strategy()
    with strategy.scope(), mixed_precision():
        original = backbone.load()

    def forward(pixels: UInt8Array) -> FloatArray:
        # Every device gets as many, and the same number whenever possible: another shape is traced anew.
        padded = np.concatenate([pixels, pixels[:1].repeat(-len(pixels) % strategy.num_replicas_in_sync, axis=0)])
        features = strategy.experimental_local_results(run(shared(strategy, padded)))
        return np.concatenate([part.numpy() for part in features])[: len(pixels)]

    def on_device(pixels: object) -> object:
        return tf.cast(original.function(tf.cast(pixels, tf.float32)), tf.float32)

    run = tf.function(lambda pixels: strategy.run(on_device, (pixels,)), autograph=False, reduce_retracing=True)
    return forward
