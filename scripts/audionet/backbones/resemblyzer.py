"""Resemblyzer, a published speaker encoder."""

from __future__ import annotations

import functools
import importlib
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.audio.samples import to_float
from audionet.errors import UsageError
from audionet.utils.arrays import FloatArray, Int16Array
from audionet.utils.extras import is_installed, missing_extra


def has_resemblyzer() -> bool:
    """Whether Resemblyzer is installed."""
    return is_installed("resemblyzer")


def embedding(piece: Int16Array) -> FloatArray:
    """Resemblyzer's embedding of a clip at 16 kHz, shape (256,) (Wan et al., Generalized end-to-end loss, 2018)."""
    encoder = voice_encoder()
    normalised = importlib.import_module("resemblyzer.audio").normalize_volume
    sound: NDArray[Any] = normalised(to_float(piece), -30, increase_only=True)  # as it was trained
    embedded: FloatArray = encoder.embed_utterance(sound).astype(np.float32)
    return embedded


@functools.lru_cache(maxsize=1)
def voice_encoder() -> Any:
    """Resemblyzer's network, on one thread: there is a process for each core.

    Raises
    ------
    UsageError
        If it is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what its own dependencies are about to change
            import torch
            from resemblyzer import VoiceEncoder
    except ImportError as error:
        missing = missing_extra(error.name or "resemblyzer", "pretrain")
        raise UsageError(f"{missing}, or train without that teacher (--teacher none)") from None
    torch.set_num_threads(1)
    return VoiceEncoder("cpu", verbose=False)
