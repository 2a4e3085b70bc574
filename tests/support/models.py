"""Small backbones, and the labels of the shared model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

TONES = ("a300", "b600", "c1200", "d2400", "e4800")


def save_backbone(
    folder: Path, function: Callable[[Any, Any], Any], shape: tuple[int | None, ...] = (None, 64, 48, 3)
) -> Path:
    """A SavedModel, callable as TF Hub's image modules are; `function` takes (tf, pixels)."""
    from audionet.backbones.tf_runtime import import_tensorflow

    tf = import_tensorflow()
    module = tf.Module()
    module.__call__ = tf.function(lambda x: function(tf, x), input_signature=[tf.TensorSpec(shape, tf.float32)])
    signature = module.__call__.get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
    return folder
