"""TensorFlow and TensorFlow Hub, imported late (it takes seconds) and quietly."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.utils.process import native_stderr_muted


def import_tensorflow() -> Any:
    """TensorFlow, without its notes on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr_muted():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        logging.getLogger("absl").setLevel("ERROR")
        tf.config.list_physical_devices()  # its first look at the hardware writes more of them
    return tf


def import_keras() -> Any:
    """Keras on whatever ``KERAS_BACKEND`` names, TensorFlow by default, in the arithmetic that is fastest there.

    Weights stay in 32 bits. On a GPU layers multiply in 16; on a CPU that has AMX, TensorFlow's convolutions do.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend == "tensorflow":
        precision = _fast_precision()
        if not gpus() and precision == "mixed_bfloat16":
            # Half as fast again as the same by Keras's policy, whose casts stand between the layers.
            import_tensorflow().config.optimizer.set_experimental_options(
                {"auto_mixed_precision_onednn_bfloat16": True}
            )
            precision = "float32"
    elif backend == "torch":
        import torch

        precision = "mixed_bfloat16" if torch.cuda.is_available() else "float32"
    else:
        import jax

        precision = "mixed_bfloat16" if jax.default_backend() == "gpu" else "float32"
    import keras

    keras.config.set_dtype_policy(precision)
    return keras


def gpus() -> list[Any]:
    """The GPUs that TensorFlow found."""
    found: list[Any] = import_tensorflow().config.list_physical_devices("GPU")
    return found


def training_strategy() -> Any:
    """Where to train: on all GPUs where there are several, a part of each batch on each."""
    tf = import_tensorflow()
    return tf.distribute.MirroredStrategy() if len(gpus()) > 1 else tf.distribute.get_strategy()


def distribute(strategy: Any, array: NDArray[Any]) -> Any:
    """An array as a strategy's devices get it, a part of its rows each."""
    tf = import_tensorflow()
    parts = np.array_split(array, strategy.num_replicas_in_sync)
    return strategy.experimental_distribute_values_from_function(
        lambda place: tf.constant(parts[place.replica_id_in_sync_group])
    )


@contextlib.contextmanager
def mixed_precision() -> Iterator[None]:
    """Layers made in this block multiply in 16 bits, if the hardware is faster at that; weights stay in 32."""
    import_tensorflow()
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_fast_precision())
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _fast_precision() -> str:
    tf = import_tensorflow()
    if found := gpus():
        abilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in found]
        if all(ability and ability >= (8, 0) for ability in abilities):
            return "mixed_bfloat16"
        return "mixed_float16" if all(ability and ability >= (7, 0) for ability in abilities) else "float32"
    with contextlib.suppress(OSError):
        if re.search(r"\bamx_bf16\b", Path("/proc/cpuinfo").read_text()):
            return "mixed_bfloat16"
    return "float32"


def import_tensorflow_hub(cache: Path) -> Any:
    """tensorflow_hub, keeping what it fetches in the folder `cache`."""
    import_tensorflow()
    os.environ["TFHUB_CACHE_DIR"] = str(cache)
    with native_stderr_muted(), warnings.catch_warnings():
        # Version 0.16 imports pkg_resources, which warns that it will go away; pyproject.toml holds it.
        warnings.simplefilter("ignore")
        import tensorflow_hub
    return tensorflow_hub
