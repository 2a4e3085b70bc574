"""Logistic regression on vectors of recordings, as users fit it on the output of a pretrained network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from peers.peer import Vectors


def fit_logistic(vectors: Vectors, labels: Sequence[str]) -> Any:
    """Fit scikit-learn's logistic regression on standardised vectors, shape (n, width)."""
    return make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000)).fit(vectors, labels)


def log_probabilities(model: Any, vectors: Vectors) -> Vectors:
    """Compute log-probabilities, shape (n, labels)."""
    scores: Vectors = np.log(np.maximum(model.predict_proba(vectors), 1e-30))
    return scores
