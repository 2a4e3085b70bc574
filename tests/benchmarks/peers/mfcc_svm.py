"""MFCC statistics and a support vector machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from peers.features import mfcc_statistics
from peers.peer import Vectors, sounds

PACKAGES = ("librosa", "scikit-learn")


class Peer:
    """Support vector machine with a Gaussian kernel on the mean and deviation of MFCCs and their deltas."""

    def fit(self, recordings: Sequence[Path], labels: Sequence[str]) -> None:
        self._model = make_pipeline(StandardScaler(), SVC(C=10))
        self._model.fit(np.stack([mfcc_statistics(sound) for sound in sounds(recordings)]), labels)

    def predict(self, recordings: Sequence[Path]) -> Vectors:
        vectors = np.stack([mfcc_statistics(sound) for sound in sounds(recordings)])
        margins: Vectors = self._model.decision_function(vectors)
        return np.stack([-margins, margins], axis=1) if margins.ndim == 1 else margins
