"""Protocol of a benchmark's peer: a way to tell sounds apart that a user could take instead."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Sound = NDArray[np.float32]
Vectors = NDArray[np.float64]

RATE = 16_000


class Peer(Protocol):
    """Classifier of recordings. Once fitted it is pickled whole: what it holds is the size of its model."""

    def fit(self, recordings: Sequence[Path], labels: Sequence[str]) -> None:
        """Train on recordings with one label each."""

    def predict(self, recordings: Sequence[Path]) -> NDArray[Any]:
        """Compute scores, shape (recordings, labels): labels in code-point order, higher for more likely ones."""


def sounds(recordings: Iterable[Path]) -> Iterator[Sound]:
    """Yield the samples of recordings, 16 kHz mono, as librosa reads them."""
    import librosa

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for path in recordings:
            yield librosa.load(path, sr=RATE)[0]
