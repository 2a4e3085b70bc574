"""Out-of-fold answers of a cross-validated model, in one .npz file beside it, for evaluation without new inference."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audionet.errors import DamagedError, ModelError
from audionet.utils.array_files import Expected, pack_npz, read_npz
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.text import escape

_SCHEMA = {
    "keys": Expected(np.uint64, ("images",)),
    "activity": Expected(np.float32, ("images",)),
    "fold": Expected(np.int64, ("images",)),
    "probabilities": Expected(np.float32, ("images", "labels")),
    "scores": Expected(np.float32, ("images", "labels")),
    "baseline": Expected(np.float32, ("images", "labels"), optional=True),
}


@dataclass(frozen=True)
class OutOfFoldAnswers:
    """Answers for every tested image, by models that were not trained on its recording.

    Attributes
    ----------
    keys : ndarray of uint64, shape (n,)
        Short content key of each image, ascending.
    activity : ndarray of float32, shape (n,)
        Its weight within its recording.
    fold : ndarray of int64, shape (n,)
        Fold that tested it.
    probabilities : ndarray of float32, shape (n, labels)
        Uncalibrated, by the classifier head alone.
    scores : ndarray of float32, shape (n, labels)
        By the speaker models.
    baseline : ndarray of float32, shape (n, labels), or None
        Probabilities by MFCC statistics.
    """

    keys: NDArray[np.uint64]
    activity: FloatArray
    fold: IntArray
    probabilities: FloatArray
    scores: FloatArray
    baseline: FloatArray | None

    def rows_of(self, keys: NDArray[np.uint64]) -> IntArray:
        """Return the row of each key, -1 where it was not tested, shape (len(keys),)."""
        places = np.searchsorted(self.keys, keys)
        found = places < len(self.keys)
        found[found] = self.keys[places[found]] == keys[found]
        rows: IntArray = np.where(found, places, -1)
        return rows


def pack_out_of_fold(answers: OutOfFoldAnswers) -> bytes:
    """Return the content of the .npz file."""
    arrays = {name: getattr(answers, name) for name in _SCHEMA}
    return pack_npz({name: array for name, array in arrays.items() if array is not None})


def read_out_of_fold(path: Path, sha256: str, labels: int) -> OutOfFoldAnswers:
    """Read the .npz file of a model.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of another training.
    """
    remedy = "run retrain.py again, or evaluate with --test_dir"
    try:
        data = path.read_bytes()
        if hashlib.sha256(data).hexdigest() != sha256:
            raise ModelError(f"{escape(path)} is of another training: {remedy}")
        found = read_npz(data, _SCHEMA, labels=labels)
    except FileNotFoundError:
        raise ModelError(f"{escape(path)} is missing: {remedy}") from None
    except (OSError, DamagedError):
        raise ModelError(f"{escape(path)} is damaged: {remedy}") from None
    return OutOfFoldAnswers(**{name: found.get(name) for name in _SCHEMA})  # type: ignore[arg-type]
