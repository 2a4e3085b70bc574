"""TensorFlow and TensorFlow Hub, imported late (it takes seconds) and quietly."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import Any

from .console import native_stderr_muted


def import_tensorflow() -> Any:
    """TensorFlow, without its notes on stderr."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with native_stderr_muted():
        import tensorflow as tf

        tf.get_logger().setLevel("ERROR")
        logging.getLogger("absl").setLevel("ERROR")
        tf.config.list_physical_devices()  # its first look at the hardware writes more of them
    return tf


def import_tensorflow_hub(cache: Path) -> Any:
    """tensorflow_hub, keeping what it fetches in the folder `cache`."""
    import_tensorflow()
    os.environ["TFHUB_CACHE_DIR"] = str(cache)
    with native_stderr_muted(), warnings.catch_warnings():
        # Version 0.16 imports pkg_resources, which warns that it will go away; requirements.txt holds it.
        warnings.simplefilter("ignore")
        import tensorflow_hub
    return tensorflow_hub
