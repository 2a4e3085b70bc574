"""Out-of-fold answers of a cross-validated model, in one .npz file beside it, for evaluation without new inference."""

from __future__ import annotations

import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audionet.errors import ModelError
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.files import content_hash, write_bytes
from audionet.utils.text import escape


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


def write_out_of_fold(path: Path, answers: OutOfFoldAnswers) -> None:
    """Write the .npz file atomically."""
    content: dict[str, NDArray[np.generic]] = {
        "keys": answers.keys,
        "activity": answers.activity,
        "fold": answers.fold,
        "probabilities": answers.probabilities,
        "scores": answers.scores,
    }
    if answers.baseline is not None:
        content["baseline"] = answers.baseline
    buffer = io.BytesIO()
    np.savez(buffer, **content)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_out_of_fold(path: Path, sha256: str, labels: int) -> OutOfFoldAnswers:
    """Read the .npz file of a model.

    Raises
    ------
    ModelError
        If it is missing, damaged, or of another training.
    """
    remedy = "run retrain.py again, or evaluate with --test_dir"
    try:
        if content_hash(path) != sha256:
            raise ModelError(f"{escape(path)} is of another training: {remedy}")
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
            kept = ("keys", "activity", "fold", "probabilities", "scores")
            answers = OutOfFoldAnswers(**{name: found[name] for name in kept}, baseline=found.get("baseline"))
    except FileNotFoundError:
        raise ModelError(f"{escape(path)} is missing: {remedy}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise ModelError(f"{escape(path)} is damaged: {remedy}") from None
    shapes = {part.shape for part in (answers.probabilities, answers.scores, answers.baseline) if part is not None}
    if shapes != {(len(answers.keys), labels)} or {answers.fold.shape, answers.activity.shape} != {answers.keys.shape}:
        raise ModelError(f"{escape(path)} is damaged: {remedy}")
    return answers
