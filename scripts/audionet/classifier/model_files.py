"""What a model knows beside its network: numbers in one .npz file, without pickle."""

from __future__ import annotations

import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet._paths import model_json_path
from audionet.audio.network_input import STATISTICS_WIDTHS
from audionet.classifier.head import Head, Layer
from audionet.classifier.prototypes import SpeakerModels
from audionet.errors import ModelError
from audionet.utils.arrays import FloatArray, evenly
from audionet.utils.files import read_json, write_bytes
from audionet.utils.text import escape

_MOST_SCORES = 2000


@dataclass(frozen=True)
class ModelArrays:
    """What labelling and evaluation need of the training.

    Attributes
    ----------
    voices : Voices
        The labels' voices, in the labels' order.
    unknown, impostors, known : ndarray of float32, shape (n,)
        Scores, ascending, of voices that were left out (the best, and for every voice that each might have been
        taken for), and the best scores of known voices in the validation set.
    seen : ndarray of uint64, shape (n,)
        What stands for the content of each image that took part in training or validation, ascending.
    baseline : Head or None
        The top on MFCC statistics.
    """

    voices: SpeakerModels
    unknown: FloatArray
    impostors: FloatArray
    known: FloatArray
    seen: NDArray[np.uint64]
    baseline: Head | None

    def has_seen(self, keys: NDArray[np.uint64]) -> bool:
        """Whether any of these images took part in training or validation."""
        places = np.searchsorted(self.seen, keys)
        inside = places < len(self.seen)
        return bool((self.seen[places[inside]] == keys[inside]).any())


def thin_scores(scores: FloatArray) -> FloatArray:
    """Scores in ascending order; of very many, evenly chosen ones."""
    ordered: FloatArray = np.sort(scores).astype(np.float32)
    return ordered[evenly(len(ordered), _MOST_SCORES)]


def short_keys(keys: NDArray[np.void]) -> NDArray[np.uint64]:
    """The first eight bytes of content keys, shape (n,)."""
    return np.frombuffer(keys.tobytes(), np.uint64).reshape(len(keys), -1)[:, 0]


def write_arrays(path: Path, arrays: ModelArrays) -> None:
    """Write the file, whole."""
    voices = arrays.voices
    content = {
        "centroids": voices.centroids,
        "prototypes": voices.prototypes,
        "counts": voices.counts,
        "reaches": voices.norms,
        "background": voices.background,
        "unknown": arrays.unknown,
        "impostors": arrays.impostors,
        "known": arrays.known,
        "seen": arrays.seen,
    }
    if arrays.baseline is not None:
        content |= {
            "baseline_offset": arrays.baseline.offset,
            "baseline_scale": arrays.baseline.scale,
            "baseline_weights": arrays.baseline.last.weights,
            "baseline_biases": arrays.baseline.last.biases,
        }
    buffer = io.BytesIO()
    np.savez(buffer, **content)  # type: ignore[arg-type]
    write_bytes(path, buffer.getvalue())


def read_arrays(path: Path, remedy: str) -> ModelArrays:
    """Read the file.

    Raises
    ------
    ModelError
        If it is missing or damaged; it says `remedy`.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
            baseline = None
            if "baseline_weights" in found:
                last = Layer(found["baseline_weights"], found["baseline_biases"])
                baseline = Head(found["baseline_offset"], found["baseline_scale"], None, False, last)
            voices = SpeakerModels(
                *(found[name] for name in ("centroids", "prototypes", "counts", "reaches", "background"))
            )
            return ModelArrays(voices, found["unknown"], found["impostors"], found["known"], found["seen"], baseline)
    except FileNotFoundError:
        raise ModelError(f"{escape(path)} is missing: {remedy}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise ModelError(f"{escape(path)} is damaged: {remedy}") from None


MODEL_FORMAT = 3


def has_all_fields(card: dict[str, Any], labels: int) -> bool:
    """Whether a model's JSON holds, of the right kind, all that is asked of it later."""
    try:
        threshold, temperature = card["open_set"]["threshold"], card["calibration"]["temperature"]
        kinds = [
            (card["labels"], list),
            (card["picture"], dict | None),
            (card["decision"], dict | None),
            (card["backbone"]["statistics"], str | None),
            (card["backbone"]["name"], str),
            (card["open_set"]["asked_rate"], float | int),
            (card["open_set"]["network_had_heard_those_left_out"], bool),
            (card["open_set"]["stretches_left_out"], int),
            (card["training"]["validation_percentage"], float | int),
            (card["training"]["testing_percentage"], float | int),
            (card["split"]["training"], dict),
            (card["split"]["heard_in_training"], list),
            (card["test"], dict | None),
            (threshold, float | int | None),
            (temperature, float | int),
        ]
    except (KeyError, TypeError):
        return False
    return (
        all(isinstance(value, kind) for value, kind in kinds)
        and all(isinstance(label, str) for label in card["labels"])
        and len(card["labels"]) == labels
        and card["backbone"]["statistics"] in (None, *STATISTICS_WIDTHS)
        and (threshold is None or math.isfinite(threshold))
        and 0 < temperature < math.inf
    )


def read_card(graph: Path) -> dict[str, Any]:
    """The JSON of a published model; nothing where there is none that can be read."""
    try:
        return read_json(model_json_path(graph), ModelError, "")
    except ModelError:
        return {}


def read_labels_file(path: Path) -> list[str]:
    """The labels in a labels file, one a line."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
    except OSError as error:
        raise ModelError(f"{escape(path)} cannot be read ({error.strerror}): run retrain.py again") from None
