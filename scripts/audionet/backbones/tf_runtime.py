"""Lazy imports of TensorFlow, Keras and TensorFlow Hub, which take seconds, without their messages on stderr."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.utils.process import multiplies_bfloat16, native_stderr_muted

_GPU_DEVICES = ("/dev/nvidiactl", "/dev/nvidia0", "/dev/kfd", "/dev/dxg")  # NVIDIA, AMD, WSL


def import_tensorflow() -> Any:
    """Import TensorFlow without its messages on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr_muted():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        logging.getLogger("absl").setLevel("ERROR")
        tf.config.list_physical_devices()  # the first query of the hardware writes more messages
    return tf


def import_keras() -> Any:
    """Import Keras on the backend in ``KERAS_BACKEND``, by default TensorFlow, with the fastest precision policy.

    Weights stay in 32 bits. Layers compute in 16 bits on a GPU, and TensorFlow's convolutions on a CPU with AMX.
    """
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    if backend == "tensorflow":
        precision = _fast_precision()
        if not gpus() and precision == "mixed_bfloat16":
            # 1.5 times as fast as Keras's own policy, which inserts casts between the layers.
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
    """List the GPUs that TensorFlow finds; on a machine without a GPU's driver, TensorFlow is not asked."""
    if "tensorflow" not in sys.modules and not _may_have_gpu():
        return []
    found: list[Any] = import_tensorflow().config.list_physical_devices("GPU")
    return found


def _may_have_gpu() -> bool:
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0").strip() in ("", "-1"):
        return False
    return sys.platform != "linux" or any(Path(device).exists() for device in _GPU_DEVICES)


def training_strategy() -> Any:
    """Return the distribution strategy: each batch is divided among all GPUs, if there are several."""
    tf = import_tensorflow()
    return tf.distribute.MirroredStrategy() if len(gpus()) > 1 else tf.distribute.get_strategy()


def distribute(strategy: Any, array: NDArray[Any]) -> Any:
    """Divide an array's rows among a strategy's devices."""
    tf = import_tensorflow()
    parts = np.array_split(array, strategy.num_replicas_in_sync)
    return strategy.experimental_distribute_values_from_function(
        lambda context: tf.constant(parts[context.replica_id_in_sync_group])
    )


@contextlib.contextmanager
def mixed_precision() -> Iterator[None]:
    """Build layers in this block with 16-bit arithmetic, if the hardware is faster at it; weights stay in 32 bits."""
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
        capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in found]
        if all(version and version >= (8, 0) for version in capabilities):
            return "mixed_bfloat16"
        return "mixed_float16" if all(version and version >= (7, 0) for version in capabilities) else "float32"
    return "mixed_bfloat16" if multiplies_bfloat16() else "float32"


def import_tensorflow_hub(cache: Path) -> Any:
    """Import tensorflow_hub; it keeps its downloads in the folder `cache`."""
    import_tensorflow()
    os.environ["TFHUB_CACHE_DIR"] = str(cache)
    with native_stderr_muted(), warnings.catch_warnings():
        # Version 0.16 imports pkg_resources, which warns of its removal; pyproject.toml pins setuptools below 82.
        warnings.simplefilter("ignore")
        import tensorflow_hub
    return tensorflow_hub
