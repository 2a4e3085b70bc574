"""MFCCs and a Gaussian mixture for each label (Reynolds and Rose, 1995), as in many tutorials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.special import log_softmax
from sklearn.mixture import GaussianMixture
from sklearn.preprocessing import StandardScaler

from peers.features import mfcc
from peers.peer import Vectors, sounds

PACKAGES = ("librosa", "scikit-learn")
_COMPONENTS = 16


class Peer:
    """Mixtures of 16 Gaussians of MFCC frames; the score is the mean log-likelihood over all labels' together."""

    def fit(self, recordings: Sequence[Path], labels: Sequence[str]) -> None:
        frames = [mfcc(sound) for sound in sounds(recordings)]
        self._scaler = StandardScaler().fit(np.concatenate(frames))
        of_label = {
            label: np.concatenate([f for f, own in zip(frames, labels, strict=True) if own == label])
            for label in sorted(set(labels))
        }
        self._mixtures = [
            GaussianMixture(
                min(_COMPONENTS, len(own)), covariance_type="diag", reg_covar=1e-2, max_iter=200, random_state=0
            ).fit(self._scaler.transform(own))
            for own in of_label.values()
        ]

    def predict(self, recordings: Sequence[Path]) -> Vectors:
        frames = [self._scaler.transform(mfcc(sound)) for sound in sounds(recordings)]
        means = [[mixture.score(own) for mixture in self._mixtures] for own in frames]
        scores: Vectors = log_softmax(np.array(means), axis=1)
        return scores
