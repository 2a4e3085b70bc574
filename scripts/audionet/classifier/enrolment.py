"""Speakers enrolled in a trained model without training: a JSON file beside the model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audionet.classifier.prototypes import SpeakerModel, fit_speaker_model
from audionet.errors import DamagedError, ModelError, RecordingError
from audionet.utils.arrays import Float64Array, FloatArray
from audionet.utils.files import exclusive_lock, pack_json, read_json, write_json
from audionet.utils.json_files import damage_as, field, objects, parse_json, real, whole
from audionet.utils.text import escape

_FORMAT = 1
_LEAST_NORM = 1e-12  # of `fit_speaker_model`
_ROUNDING = 0.01  # of the stored numbers, and of sums of them
_REMEDY = "delete it, and enrol again with label_image.py --enrol NAME clip"


@dataclass(frozen=True)
class Enrolled:
    """An enrolled speaker.

    Attributes
    ----------
    seconds : float
        Duration of the sound that was used.
    speaker : SpeakerModel
    """

    seconds: float
    speaker: SpeakerModel


def read_enrolled(path: Path, graph_sha256: str, dimensions: int) -> dict[str, Enrolled]:
    """Read the enrolled speakers, by name; none if there is no file.

    Parameters
    ----------
    path : Path
    graph_sha256 : str
        Hash of the model that they must have been enrolled in: embeddings of different models cannot be compared.
    dimensions : int
        Dimensions of an embedding.

    Raises
    ------
    ModelError
        If the file is damaged or belongs to another model.
    """
    if not path.exists():
        return {}
    content = read_json(path, ModelError, _REMEDY)
    if content.get("graph_sha256") != graph_sha256:
        raise ModelError(
            f"{escape(path)} contains speakers that were enrolled in another model, or before this one was trained "
            f"again, and their embeddings cannot be compared: {_REMEDY}"
        )
    with damage_as(ModelError, path, _REMEDY):
        if whole(content, "format") != _FORMAT:
            raise DamagedError("it is of another version")
        return {name: _from_json(entry, dimensions) for name, entry in objects(content, "voices").items()}


def enrol(path: Path, graph_sha256: str, name: str, embeddings: FloatArray, seconds: float) -> bool:
    """Add a speaker to the file, or replace the one of this name; return whether one was replaced.

    Parameters
    ----------
    embeddings : ndarray of float32, shape (chunks, dimensions)
    seconds : float
        Duration of the sound that the embeddings come from.

    Raises
    ------
    ModelError
        If the file is damaged or belongs to another model.
    RecordingError
        If the embeddings are no directions of finite numbers.
    """
    speaker = fit_speaker_model(embeddings)
    return _change(path, graph_sha256, embeddings.shape[1], name, Enrolled(seconds, speaker))


def forget(path: Path, graph_sha256: str, dimensions: int, name: str) -> bool:
    """Remove a speaker from the file; return whether there was one of this name."""
    return _change(path, graph_sha256, dimensions, name, None)


def _change(path: Path, graph_sha256: str, dimensions: int, name: str, enrolled: Enrolled | None) -> bool:
    with exclusive_lock(path.parent, wait=True):
        speakers = read_enrolled(path, graph_sha256, dimensions)
        present = speakers.pop(name, None) is not None
        if enrolled is not None:
            _check_readable(enrolled, dimensions)
            speakers[name] = enrolled
        if present or enrolled is not None:
            entries = {name: _as_json(entry) for name, entry in sorted(speakers.items())}
            write_json(path, {"format": _FORMAT, "graph_sha256": graph_sha256, "voices": entries})
    return present


def _check_readable(enrolled: Enrolled, dimensions: int) -> None:
    """Raise RecordingError if a speaker, once stored, could not be read again, nor the others beside it."""
    try:
        _from_json(parse_json(pack_json(_as_json(enrolled))), dimensions)
    except DamagedError:
        raise RecordingError("cannot be used: its embeddings are no directions of finite numbers") from None


def _as_json(enrolled: Enrolled) -> dict[str, Any]:
    return {
        "seconds": round(enrolled.seconds, 3),
        "centroid": _rounded(enrolled.speaker.centroid),
        "prototypes": [_rounded(prototype) for prototype in enrolled.speaker.prototypes],
        "reach": enrolled.speaker.norm,
    }


def _rounded(vector: FloatArray) -> list[float]:
    return [round(float(value), 6) for value in vector]


def _from_json(entry: dict[str, Any], dimensions: int) -> Enrolled:
    vectors = [_vector(row) for row in [field(entry, "centroid", list), *field(entry, "prototypes", list)]]
    if len(vectors) < 2 or any(vector.shape != (dimensions,) for vector in vectors):
        raise DamagedError("a voice is of another model")
    with np.errstate(over="ignore"):
        lengths = [float(np.linalg.norm(vector)) for vector in vectors]
    if any(abs(length - 1) > _ROUNDING for length in lengths):
        raise DamagedError("a voice is not of unit length")
    centroid, *prototypes = (vector.astype(np.float32) for vector in vectors)
    norm = real(entry, "reach", _LEAST_NORM, 1 + _ROUNDING)
    return Enrolled(real(entry, "seconds", 0), SpeakerModel(centroid, np.stack(prototypes), norm))


def _vector(values: Any) -> Float64Array:
    try:
        vector = np.array(values)
    except ValueError:  # lists of several lengths
        vector = np.empty(0, object)
    if vector.dtype.kind not in "if" or vector.ndim != 1:
        raise DamagedError("a voice is no list of numbers")
    return vector.astype(np.float64)
