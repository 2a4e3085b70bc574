"""Search for recordings that sound like a clip."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from audionet.classifier.prototypes import unit_length
from audionet.inference.embeddings import Embeddings
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import FloatArray


class Match(NamedTuple):
    """Recording that was searched.

    Attributes
    ----------
    file, label : str
    likeness : float
        Cosine between the clip and the recording as a whole, -1 to 1.
    start, end : float
        Its chunk that is most like the clip, seconds.
    best : float
        Cosine of that chunk.
    """

    file: str
    label: str
    likeness: float
    start: float
    end: float
    best: float


def rank(clip: FloatArray, found: Embeddings) -> list[Match]:
    """Rank recordings by their likeness to a clip, the most similar first.

    Parameters
    ----------
    clip : ndarray of float32, shape (dimensions,)
    found : Embeddings
        Of the recordings' chunks.
    """
    directions, wanted = unit_length(found.vectors), unit_length(clip)
    cosines = directions @ wanted
    groups = Groups(found.files)
    whole = unit_length(groups.mean(directions)) @ wanted
    order = np.lexsort((-cosines, groups.member))
    best = order[np.unique(groups.member[order], return_index=True)[1]]
    matches = [
        Match(name, found.labels[row], likeness, float(found.start[row]), float(found.end[row]), float(cosines[row]))
        for name, likeness, row in zip(groups.names, whole.tolist(), best.tolist(), strict=True)
    ]
    return sorted(matches, key=lambda match: -match.likeness)
