"""A retrained model answering: clips and pictures to ranked labels, without TensorFlow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from .audio import Recording, is_silent
from .config import PictureConfig, available_cores, lite_path, model_json_path
from .dataset import picture_config_from
from .errors import DatasetError, ModelError, RecordingError
from .features import model_inputs, picture_features
from .files import content_hash, printable, read_json
from .litert import Runner
from .spectrogram import FloatArray, decode, render

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg"})
MODEL_FORMAT = 1


class ChunkAnswer(NamedTuple):
    """Probabilities for one chunk, which begins `start` seconds into the clip."""

    start: float
    probabilities: FloatArray


@dataclasses.dataclass
class Answer:
    """What a model says of a clip.

    Attributes
    ----------
    seconds : float or None
        Length of the clip; None for a picture.
    probabilities : ndarray of float32, shape (labels,)
        Mean over the clip's chunks.
    chunks : list of ChunkAnswer
        Those that are not silent.
    remark : str or None
        What was wrong with the clip, where part of it could be judged.
    """

    seconds: float | None
    probabilities: FloatArray
    chunks: list[ChunkAnswer]
    remark: str | None = None


class Predictor:
    """A retrained model: its graph, its labels and the way its pictures were made.

    Parameters
    ----------
    graph : Path
        The .tflite file, or the model in another form: its JSON and the .tflite file lie beside it.
    labels_file : Path, optional
        Must say the same labels as the JSON.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or they do not belong together.
    """

    def __init__(self, graph: Path, labels_file: Path | None = None) -> None:
        remedy = "run retrain.py again, or name the right one with --graph"
        if not graph.exists():
            raise ModelError(f"{printable(graph)} is missing: run retrain.py first, or name a model with --graph")
        card_path = model_json_path(graph)
        card = read_json(card_path, ModelError, f"it belongs beside {graph.name}; {remedy}")
        if card.get("format") != MODEL_FORMAT:
            raise ModelError(f"{printable(card_path)} is not of this version: {remedy}")
        wanted = {lite_path(graph).name: card.get("graph_sha256")}
        wanted |= {name: export.get("sha256") for name, export in card.get("exports", {}).items()}
        for path in dict.fromkeys((graph, lite_path(graph))):
            if not path.exists():
                raise ModelError(f"{printable(path)}, which answers for {graph.name}, is missing: {remedy}")
            if content_hash(path) != wanted.get(path.name):
                raise ModelError(f"{printable(card_path)} describes another model than {path.name}: {remedy}")
        self.card = card
        self.labels: list[str] = card["labels"]
        if labels_file is not None and read_labels(labels_file) != self.labels:
            raise ModelError(f"{printable(labels_file)} lists other labels than {printable(card_path)}: {remedy}")
        self.picture: PictureConfig | None = None
        if card["picture"] is not None:
            self.picture = picture_config_from(card["picture"], card_path, remedy, ModelError)
        self._band_statistics: bool = card["backbone"]["band_statistics"]
        self._runner = Runner(lite_path(graph), available_cores())
        _, height, width, _ = self._runner.input_shapes[0]
        self._input_size = (height, width)

    def answer(self, path: Path) -> Answer:
        """Judge a clip, or a picture where the name ends in .jpg.

        Raises
        ------
        RecordingError, DatasetError
            If nothing in the file can be judged.
        """
        return self.answer_picture(path) if path.suffix.lower() in PICTURE_SUFFIXES else self.answer_clip(path)

    def answer_clip(self, path: Path) -> Answer:
        """Judge a recording: its chunks are rendered as in training, and their probabilities averaged."""
        if self.picture is None:
            raise RecordingError(
                "is a recording, but this model was trained on pictures of unknown making: give it a JPG"
            )
        recording = Recording(path, self.picture)
        chunks: list[ChunkAnswer] = []
        remark = None
        try:
            for chunk in recording:
                if not is_silent(chunk.samples):
                    jpg = render(chunk.samples, self.picture)
                    chunks.append(ChunkAnswer(chunk.start, self.probabilities(jpg)))
        except RecordingError as error:
            if not chunks:
                raise
            remark = str(error)
        if not chunks:
            raise RecordingError("is silent from beginning to end")
        return Answer(recording.seconds, _mean(chunks), chunks, remark)

    def answer_picture(self, path: Path) -> Answer:
        """Judge a spectrogram JPG made by data_maker.py with the model's settings."""
        try:
            jpg = path.read_bytes()
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}") from None
        if self.picture is not None:
            size, wanted = decode(jpg).size, (self.picture.frames, self.picture.rows)
            if size != wanted:
                raise DatasetError(
                    f"is a picture of {size[0]} x {size[1]}, this model's are {wanted[0]} x {wanted[1]}: "
                    "give the recording itself"
                )
        chunk = ChunkAnswer(0.0, self.probabilities(jpg))
        return Answer(None, chunk.probabilities, [chunk])

    def probabilities(self, jpg: bytes) -> FloatArray:
        """Probabilities of the labels, shape (labels,), for one picture."""
        features = picture_features(jpg, self._input_size)
        return self._runner(*model_inputs(features, self._band_statistics))

    def ranked(self, probabilities: FloatArray, top_k: int) -> list[dict[str, Any]]:
        """The labels with their probabilities, best first; all of them where `top_k` is 0."""
        order = np.argsort(-probabilities, kind="stable")[: top_k or None]
        return [{"label": self.labels[i], "probability": round(float(probabilities[i]), 6)} for i in order]


def card_beside(graph: Path) -> dict[str, Any]:
    """The JSON of a published model; nothing where there is none that can be read."""
    try:
        return read_json(model_json_path(graph), ModelError, "")
    except ModelError:
        return {}


def read_labels(path: Path) -> list[str]:
    """The labels in a labels file, one a line."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape").split("\n")[:-1]
    except OSError as error:
        raise ModelError(f"{printable(path)} cannot be read ({error.strerror}): run retrain.py again") from None


def _mean(chunks: list[ChunkAnswer]) -> FloatArray:
    mean: FloatArray = np.mean([chunk.probabilities for chunk in chunks], axis=0)
    return mean
