"""Resemblyzer, a published speaker encoder."""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.audio.samples import to_float
from audionet.utils.arrays import FloatArray, Int16Array
from audionet.utils.extras import is_installed, missing_extra


def has_resemblyzer() -> bool:
    """Return whether Resemblyzer is installed."""
    return is_installed("resemblyzer")


def embedding(clip: Int16Array) -> FloatArray:
    """Compute the speaker embedding of a 16 kHz clip, shape (256,) (Wan et al., Generalized end-to-end loss, 2018)."""
    encoder = voice_encoder()
    normalize = importlib.import_module("resemblyzer.audio").normalize_volume
    sound: NDArray[Any] = normalize(to_float(clip), -30, increase_only=True)  # as in its training
    embedded: FloatArray = encoder.embed_utterance(sound).astype(np.float32)
    return embedded


@functools.lru_cache(maxsize=1)
def voice_encoder() -> Any:
    """Load Resemblyzer's network, on one thread: there is a process for each core.

    Raises
    ------
    UsageError
        If Resemblyzer is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # deprecations in its own dependencies
            import torch
            from resemblyzer import VoiceEncoder
    except ImportError as error:
        raise missing_extra(error.name or "resemblyzer", "pretrain") from None
    torch.set_num_threads(1)
    return VoiceEncoder("cpu", verbose=False)
