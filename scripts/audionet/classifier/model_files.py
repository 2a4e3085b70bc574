"""Files beside a model's network: its JSON, and its arrays in one .npz file without pickle."""

from __future__ import annotations

import dataclasses
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet._paths import arrays_path, lite_path, model_json_path
from audionet.audio.config import SpectrogramConfig, spectrogram_config_from
from audionet.audio.network_input import STATISTICS_WIDTHS
from audionet.classifier.head import Head, Layer
from audionet.classifier.prototypes import SpeakerModels
from audionet.errors import ModelError
from audionet.utils.arrays import FloatArray, evenly
from audionet.utils.files import content_hash, read_json, write_bytes
from audionet.utils.text import composed, escape

_MAX_SCORES = 2000


@dataclass(frozen=True)
class ModelArrays:
    """Arrays from training that labelling and evaluation need.

    Attributes
    ----------
    voices : SpeakerModels
        Speaker models of the labels, in the order of the labels, with the scale of their scores.
    unknown, impostors, known : ndarray of float32, shape (n,)
        Scores, ascending: the best score of each segment of a held-out label; its scores for every label; and the best
        scores of the validation set's known speakers.
    seen : ndarray of uint64, shape (n,)
        Short content keys of the images in the training and validation sets, ascending.
    baseline : Head or None
        Classifier head on MFCC statistics.
    """

    voices: SpeakerModels
    unknown: FloatArray
    impostors: FloatArray
    known: FloatArray
    seen: NDArray[np.uint64]
    baseline: Head | None

    def has_seen(self, keys: NDArray[np.uint64]) -> bool:
        """Return whether any of these images was in the training or validation set."""
        places = np.searchsorted(self.seen, keys)
        inside = places < len(self.seen)
        return bool((self.seen[places[inside]] == keys[inside]).any())


def thin_scores(scores: FloatArray) -> FloatArray:
    """Sort scores in ascending order, and thin them evenly to 2,000 at most."""
    ordered: FloatArray = np.sort(scores).astype(np.float32)
    return ordered[evenly(len(ordered), _MAX_SCORES)]


def short_keys(keys: NDArray[np.void]) -> NDArray[np.uint64]:
    """Return the first eight bytes of content keys, shape (n,)."""
    return np.frombuffer(keys.tobytes(), np.uint64).reshape(len(keys), -1)[:, 0]


def write_arrays(path: Path, arrays: ModelArrays) -> None:
    """Write the .npz file atomically."""
    voices = arrays.voices
    content = {
        "centroids": voices.centroids,
        "prototypes": voices.prototypes,
        "counts": voices.counts,
        "reaches": voices.norms,
        "background": voices.background,
        "cohort": voices.cohort.astype(np.float16),
        "voice_share": np.float32(voices.voice_share),
        "low": voices.low,
        "high": voices.high,
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
    """Read the .npz file.

    Raises
    ------
    ModelError
        If it is missing or damaged; the message ends with `remedy`.
    """
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
            baseline = None
            if "baseline_weights" in found:
                last = Layer(found["baseline_weights"], found["baseline_biases"])
                baseline = Head(found["baseline_offset"], found["baseline_scale"], None, False, last)
            kept = (
                "centroids",
                "prototypes",
                "counts",
                "reaches",
                "background",
                "cohort",
                "voice_share",
                "low",
                "high",
            )
            voices = SpeakerModels(*(found[name] for name in kept))
            voices = dataclasses.replace(
                voices, cohort=voices.cohort.astype(np.float32), voice_share=float(voices.voice_share)
            )
            return ModelArrays(voices, found["unknown"], found["impostors"], found["known"], found["seen"], baseline)
    except FileNotFoundError:
        raise ModelError(f"{escape(path)} is missing: {remedy}") from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        raise ModelError(f"{escape(path)} is damaged: {remedy}") from None


MODEL_FORMAT = 4


@dataclass(frozen=True)
class ModelFiles:
    """Content of a model's files, checked to belong together.

    Attributes
    ----------
    card : dict
        The model's JSON.
    arrays : ModelArrays
    spectrogram : SpectrogramConfig or None
        Settings of the training images; None if data_maker.py did not render them.
    """

    card: dict[str, Any]
    arrays: ModelArrays
    spectrogram: SpectrogramConfig | None


def load_model_files(graph: Path, labels_file: Path | None = None) -> ModelFiles:
    """Read and check the files of a model beside its graph.

    Parameters
    ----------
    graph : Path
        The .tflite file, or the model in another form.
    labels_file : Path, optional
        Must list the same labels as the JSON.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or they do not belong together.
    """
    remedy = "run retrain.py again, or name the right one with --graph"
    if not graph.exists():
        raise ModelError(f"{escape(graph)} is missing: run retrain.py first, or name a model with --graph")
    card_path, arrays_file = model_json_path(graph), arrays_path(graph)
    card = read_json(card_path, ModelError, f"it belongs beside {graph.name}; {remedy}")
    if card.get("format") != MODEL_FORMAT:
        raise ModelError(f"{escape(card_path)} was written by another version: {remedy}")
    wanted = {lite_path(graph).name: card.get("graph_sha256"), arrays_file.name: card.get("arrays_sha256")}
    wanted |= {name: export.get("sha256") for name, export in card.get("exports", {}).items()}
    for path in dict.fromkeys((graph, lite_path(graph), arrays_file)):
        if not path.exists():
            raise ModelError(f"{escape(path)}, which belongs to {graph.name}, is missing: {remedy}")
        if content_hash(path) != wanted.get(path.name):
            raise ModelError(f"{escape(card_path)} does not belong to {path.name}: {remedy}")
    arrays = read_arrays(arrays_file, remedy)
    if not has_all_fields(card, len(arrays.voices.counts)):
        raise ModelError(f"{escape(card_path)} is damaged: {remedy}")
    if labels_file is not None and list(map(composed, read_labels_file(labels_file))) != list(
        map(composed, card["labels"])
    ):
        raise ModelError(f"{escape(labels_file)} lists other labels than {escape(card_path)}: {remedy}")
    spectrogram = None
    if card["picture"] is not None:
        spectrogram = spectrogram_config_from(card["picture"], card_path, remedy, ModelError)
    return ModelFiles(card, arrays, spectrogram)


def has_all_fields(card: dict[str, Any], labels: int) -> bool:
    """Return whether a model's JSON has every field that is read later, with the right type."""
    try:
        temperature, *weights = (card["calibration"][name] for name in ("temperature", "head_weight", "score_weight"))
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
            (card["open_set"]["rejection"], dict | None),
            (card["speech"], bool),
            (temperature, float | int),
            *((weight, float | int) for weight in weights),
        ]
    except (KeyError, TypeError):
        return False
    return (
        all(isinstance(value, kind) for value, kind in kinds)
        and all(isinstance(label, str) for label in card["labels"])
        and len(card["labels"]) == labels
        and card["backbone"]["statistics"] in (None, *STATISTICS_WIDTHS)
        and 0 < temperature < math.inf
        and all(0 <= weight < math.inf for weight in weights)
    )


def read_card(graph: Path) -> dict[str, Any]:
    """Read the JSON of a published model; empty if it is missing or damaged."""
    try:
        return read_json(model_json_path(graph), ModelError, "")
    except ModelError:
        return {}


def read_labels_file(path: Path) -> list[str]:
    """Read the labels from a labels file, one per line, as any editor may have saved it."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise ModelError(f"{escape(path)} cannot be read ({error.strerror}): run retrain.py again") from None
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n")
    return lines.split("\n") if lines else []
