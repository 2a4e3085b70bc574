"""Map of the evaluated recordings by their scores."""

from __future__ import annotations

import numpy as np

from audionet.evaluation.evaluate import Evaluation
from audionet.utils.map_plot import map_plot

LEAST_RECORDINGS = 3
"""Recordings that a map needs: two are always a line."""


def score_map(found: Evaluation) -> bytes | None:
    """Draw the evaluated recordings as points of a PNG, near each other where they resemble the same labels' speakers.

    Each is placed by its scores, the similarities to all speaker models, and coloured and marked by its true label; of
    many, the labels with most wrong answers have a colour. Wrong answers have a ring.

    Returns
    -------
    bytes or None
        None if there are too few recordings.
    """
    scores = np.concatenate([found.scores, found.unknown_scores])
    if len(scores) < LEAST_RECORDINGS:
        return None
    true = np.concatenate([found.true, np.full(len(found.unknown_scores), -1)])
    decided = np.concatenate([found.decided, found.unknown_decided])
    wrong = true != decided
    count = len(found.labels)
    tested = np.bincount(true[true >= 0], minlength=count)
    mistakes = np.concatenate([some[wrong & (some >= 0)] for some in (true, decided)])
    involved = np.bincount(mistakes, minlength=count)
    order = [place for place in np.lexsort((-tested, -involved)).tolist() if tested[place]]
    names = [None if place < 0 else found.labels[place] for place in true.tolist()]
    return map_plot(scores, names, "recordings", [found.labels[place] for place in order], wrong)
