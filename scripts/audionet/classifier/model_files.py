"""Files beside a model's network: its JSON, and its arrays in one .npz file without pickle."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet._paths import arrays_path, lite_path, model_json_path
from audionet.audio.config import SpectrogramConfig, spectrogram_config_from
from audionet.audio.network_input import MFCC_STATISTICS_WIDTH
from audionet.classifier.head import Head, Layer
from audionet.classifier.model_card import ModelCard, Written, parse_card, parse_written
from audionet.classifier.prototypes import SpeakerModels
from audionet.errors import DamagedError, ModelError
from audionet.utils.array_files import Expected, pack_npz, read_npz
from audionet.utils.arrays import FloatArray, evenly
from audionet.utils.files import content_hash, read_json
from audionet.utils.json_files import damage_as, nullable_field
from audionet.utils.text import composed, escape

log = logging.getLogger(__name__)

MODEL_FORMAT = 4

_MAX_SCORES = 2000
_PAUSES = (0.05, 0.1, 0.2, 0.4)  # seconds; a model's files are replaced within milliseconds

_SCHEMA = {
    "centroids": Expected(np.float32, ("labels", "dimensions")),
    "prototypes": Expected(np.float32, ("prototypes", "dimensions")),
    "counts": Expected(np.int64, ("labels",)),
    "reaches": Expected(np.float32, ("labels",)),
    "background": Expected(np.float32, ("background", "dimensions")),
    "cohort": Expected(np.float32, ("cohort", "voice dimensions")),
    "voice_share": Expected(np.float32),
    "low": Expected(np.float32, ("labels",)),
    "high": Expected(np.float32, ("labels",)),
    "unknown": Expected(np.float32, ("unknown",)),
    "impostors": Expected(np.float32, ("impostors",)),
    "known": Expected(np.float32, ("known",)),
    "seen": Expected(np.uint64, ("seen",)),
}
_BASELINE = {
    "baseline_offset": Expected(np.float32, (MFCC_STATISTICS_WIDTH,), optional=True),
    "baseline_scale": Expected(np.float32, (MFCC_STATISTICS_WIDTH,), optional=True),
    "baseline_weights": Expected(np.float32, (MFCC_STATISTICS_WIDTH, "labels"), optional=True),
    "baseline_biases": Expected(np.float32, ("labels",), optional=True),
}


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


def pack_arrays(arrays: ModelArrays) -> bytes:
    """Return the content of the .npz file."""
    voices = arrays.voices
    content: dict[str, NDArray[Any] | np.float32] = {
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
        last = arrays.baseline.last
        baseline = (arrays.baseline.offset, arrays.baseline.scale, last.weights, last.biases)
        content |= dict(zip(_BASELINE, baseline, strict=True))
    return pack_npz(content)


def parse_arrays(data: bytes) -> ModelArrays:
    """Parse the content of the .npz file.

    Raises
    ------
    DamagedError
        If it is damaged, or its arrays do not fit together.
    """
    found = read_npz(data, _SCHEMA | _BASELINE)
    counts, share = found["counts"], float(found["voice_share"])
    if (counts < 1).any() or int(counts.sum()) != len(found["prototypes"]):
        raise DamagedError("its prototypes are not those of its labels")
    if (found["reaches"] <= 0).any() or (found["low"] >= found["high"]).any() or not 0 <= share <= 1:
        raise DamagedError("its speaker models are out of range")
    if found["cohort"].shape[1] > found["centroids"].shape[1]:
        raise DamagedError("its cohort is of another voice space")
    if len(present := [found[name] for name in _BASELINE if name in found]) not in (0, len(_BASELINE)):
        raise DamagedError("a part of its baseline is missing")
    voices = SpeakerModels(
        centroids=found["centroids"],
        prototypes=found["prototypes"],
        counts=counts,
        norms=found["reaches"],
        background=found["background"],
        cohort=found["cohort"],
        voice_share=share,
        low=found["low"],
        high=found["high"],
    )
    unknown, impostors, known, seen = (np.sort(found[name]) for name in ("unknown", "impostors", "known", "seen"))
    return ModelArrays(voices, unknown, impostors, known, seen, _baseline(*present) if present else None)


def _baseline(offset: FloatArray, scale: FloatArray, weights: FloatArray, biases: FloatArray) -> Head:
    return Head(offset, scale, None, False, Layer(weights, biases))


@dataclass(frozen=True)
class ModelFiles:
    """Content of a model's files, checked to belong together.

    Attributes
    ----------
    card : dict
        The model's JSON. Every field that is read later has its type.
    parsed : ModelCard
        What labelling depends on in it.
    network : bytes
        The LiteRT file.
    arrays : ModelArrays
    spectrogram : SpectrogramConfig or None
        Settings of the training images; None if data_maker.py did not render them.
    """

    card: dict[str, Any]
    parsed: ModelCard
    network: bytes
    arrays: ModelArrays
    spectrogram: SpectrogramConfig | None


def load_model_files(graph: Path, labels_file: Path | None = None) -> ModelFiles:
    """Read and check the files of a model beside its graph, each once.

    While another process replaces them, they do not belong together: then they are read again.

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
    paths = [graph, lite_path(graph), model_json_path(graph), arrays_path(graph)]
    paths += [] if labels_file is None else [labels_file]
    for pause in _PAUSES:
        before = _states(paths)
        try:
            return _load(graph, labels_file)
        except ModelError:
            time.sleep(pause)
            if _states(paths) == before:
                raise
    return _load(graph, labels_file)


def _states(paths: Sequence[Path]) -> list[tuple[int, int, int] | None]:
    """Return what changes when a file is replaced."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append((state.st_ino, state.st_size, state.st_mtime_ns))
    return found


def _load(graph: Path, labels_file: Path | None) -> ModelFiles:
    remedy = "run retrain.py again, or name the right one with --graph"
    if not graph.exists():
        raise ModelError(f"{escape(graph)} is missing: run retrain.py first, or name a model with --graph")
    log.debug("reading the model %s", graph)
    card_path, arrays_file, lite = model_json_path(graph), arrays_path(graph), lite_path(graph)
    card = read_json(card_path, ModelError, f"it belongs beside {graph.name}; {remedy}")
    if card.get("format") != MODEL_FORMAT:
        raise ModelError(f"{escape(card_path)} was written by another version: {remedy}")
    with damage_as(ModelError, card_path, remedy):
        written = parse_written(card)
    network, packed = (_read(path, graph, remedy) for path in (lite, arrays_file))
    found = {graph.name: _hash(graph, remedy)} if graph != lite else {}
    found |= {path.name: hashlib.sha256(data).hexdigest() for path, data in ((lite, network), (arrays_file, packed))}
    wanted = {name: export["sha256"] for name, export in written.exports.items()}
    wanted |= {lite.name: written.graph, arrays_file.name: written.arrays}
    for name, digest in found.items():
        if digest != wanted.get(name):
            raise ModelError(f"{escape(card_path)} does not belong to {name}: {remedy}")
    with damage_as(ModelError, arrays_file, remedy):
        arrays = parse_arrays(packed)
    with damage_as(ModelError, card_path, remedy):
        parsed = parse_card(card)
        picture: dict[str, Any] | None = nullable_field(card, "picture", dict)
        if len(parsed.labels) != len(arrays.voices.counts):
            raise DamagedError("its labels are not those of its arrays")
    if labels_file is not None and list(map(composed, read_labels_file(labels_file))) != list(
        map(composed, parsed.labels)
    ):
        raise ModelError(f"{escape(labels_file)} lists other labels than {escape(card_path)}: {remedy}")
    spectrogram = None if picture is None else spectrogram_config_from(picture, card_path, remedy, ModelError)
    return ModelFiles(card, parsed, network, arrays, spectrogram)


def _read(path: Path, graph: Path, remedy: str) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(f"{escape(path)}, which belongs to {graph.name}, is missing: {remedy}") from None
    except OSError as why:
        raise ModelError(f"{escape(path)} cannot be read ({why.strerror}): {remedy}") from None


def _hash(path: Path, remedy: str) -> str:
    try:
        return content_hash(path)
    except OSError as why:
        raise ModelError(f"{escape(path)} cannot be read ({why.strerror}): {remedy}") from None


def read_written(graph: Path) -> tuple[Written | None, bool]:
    """Read which files a published model consists of, and whether decision costs are stored with it.

    None, and False, if its JSON is missing or damaged.
    """
    try:
        card = read_json(model_json_path(graph), ModelError, "")
        return parse_written(card), bool(card.get("decision"))
    except (ModelError, DamagedError):
        return None, False


def read_labels_file(path: Path) -> list[str]:
    """Read the labels from a labels file, one per line, as any editor may have saved it."""
    try:
        text = path.read_bytes().decode("utf-8", "surrogateescape")
    except OSError as error:
        raise ModelError(f"{escape(path)} cannot be read ({error.strerror}): run retrain.py again") from None
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n")
    return lines.split("\n") if lines else []
