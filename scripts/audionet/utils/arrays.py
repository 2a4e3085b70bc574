"""Array types, and evenly spaced indices."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BoolArray = NDArray[np.bool_]
UInt8Array = NDArray[np.uint8]
Int16Array = NDArray[np.int16]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]
Float64Array = NDArray[np.float64]
AnyFloatArray = NDArray[np.floating[Any]]


def evenly(total: int, most: int) -> IntArray:
    """Return at most `most` indices below `total`, evenly spaced from the first to the last."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).astype(np.int64))
