"""Inference with a retrained model: clips and images to ranked labels and a decision, without TensorFlow."""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from audionet._paths import enrolled_path, lite_path, model_json_path
from audionet.audio.decoding import Source
from audionet.audio.network_input import STATISTICS_WIDTHS, ImageFeatures, image_features, model_inputs
from audionet.backbones.litert import Runner
from audionet.classifier.calibration import join_scores
from audionet.classifier.enrolment import Enrolled, read_enrolled
from audionet.classifier.model_files import load_model_files
from audionet.classifier.multi_label import apply_independent_temperature
from audionet.classifier.prototypes import acceptance_threshold, read_outputs
from audionet.errors import ModelError, UsageError
from audionet.inference.answer import Answer, ChunkAnswer, Decider, combine_chunks
from audionet.inference.clip import Clip, ClipChunk, process_images
from audionet.inference.occlusion import occluded_outputs
from audionet.utils.arrays import BoolArray, FloatArray, UInt8Array
from audionet.utils.files import read_json
from audionet.utils.process import available_cores
from audionet.utils.text import escape, find_name

_MAX_NAMES = 10
_DEFAULT_RATE = 0.05  # false acceptance rate of verification where none was asked for


class ImageOutput(NamedTuple):
    """Output of the network for one image.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (labels,)
        Of the classifier head alone.
    embedding : ndarray of float32, shape (dimensions,)
        Speaker embedding, norm at most 1.
    speech : bool
        False if the model looks for speech and the image shows none.
    features : ImageFeatures
    """

    probabilities: FloatArray
    embedding: FloatArray
    speech: bool
    features: ImageFeatures


class BatchOutput(NamedTuple):
    """Output of the network for a batch of images.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (n, labels)
        Of the classifier head alone.
    embeddings : ndarray of float32, shape (n, dimensions)
        Speaker embeddings, norm at most 1.
    speech : ndarray of bool, shape (n,)
        False if the model looks for speech and the image shows none.
    """

    probabilities: FloatArray
    embeddings: FloatArray
    speech: BoolArray


def _check_network(runner: Runner, graph: Path, labels: int, statistics: str | None, dimensions: int) -> None:
    """Check that a network takes and returns what the files beside it say.

    Raises
    ------
    ModelError
        If it does not.
    """
    taken = [] if statistics is None else [(1, STATISTICS_WIDTHS[statistics])]
    # The last may have one value more, the logit of speech.
    if runner.input_shapes[1:] != taken or runner.output_widths not in (
        [labels, dimensions],
        [labels, dimensions + 1],
    ):
        raise ModelError(
            f"{escape(graph)} takes or returns something else than {model_json_path(graph).name} says: "
            "run retrain.py again, or name the right one with --graph"
        )


class Predictor:
    """A retrained model: its network, its labels and the spectrogram settings of its images.

    Parameters
    ----------
    graph : Path
        The .tflite file, or the model in another format: its JSON, its arrays and the .tflite file lie beside it.
    labels_file : Path, optional
        Must list the same labels as the JSON.
    threads : int, optional
        Threads of the network; default: one per core.
    with_enrolled : bool
        Whether enrolled speakers are candidates as well.

    Attributes
    ----------
    network : bytes
        Content of the .tflite file.
    calibration : Calibration
    rejection : RejectionRule or None
        None if the model never answers unknown.
    rule : Rule
    thresholds : LabelThresholds or None
        Where several labels may be present at a time.
    spoken : bool
        True if the labels are spoken, so that chunks without speech do not count.
    statistics : str or None
        Image statistics that the network takes as its second input.
    verification_rate : float
        Highest false acceptance rate at which verification accepts, 0 to 1.

    Raises
    ------
    ModelError
        If a file is missing or damaged, or they do not belong together.
    """

    def __init__(
        self,
        graph: Path,
        labels_file: Path | None = None,
        threads: int | None = None,
        with_enrolled: bool = True,
    ) -> None:
        files = load_model_files(graph, labels_file)
        parsed = files.parsed
        self.graph = graph
        self.card_path = model_json_path(graph)
        self.card, self.arrays, self.spectrogram = files.card, files.arrays, files.spectrogram
        self.labels = parsed.labels
        self.dimensions = self.arrays.voices.centroids.shape[1]
        self.calibration, self.rejection, self.rule = parsed.calibration, parsed.rejection, parsed.rule
        self.spoken, self.statistics = parsed.spoken, parsed.statistics
        self.thresholds = parsed.thresholds
        self.verification_rate = parsed.asked_rate or _DEFAULT_RATE
        self.enrolled: dict[str, Enrolled] = {}
        self.voices = self.arrays.voices
        if with_enrolled:
            self.read_enrolled()
        self.network = files.network
        self._runner = Runner(self.network, threads or available_cores(), escape(lite_path(graph)))
        _check_network(self._runner, graph, len(self.labels), self.statistics, self.dimensions)
        _, height, width, _ = self._runner.input_shapes[0]
        self.input_size = (height, width)

    @property
    def names(self) -> list[str]:
        """Names of the labels, followed by those of the enrolled speakers."""
        return [*self.labels, *self.enrolled]

    def index_of(self, name: str, setting: str, kind: str = "label") -> int:
        """Return the place of a label or an enrolled speaker in `names`.

        Raises
        ------
        UsageError
            If there is no such name; the message names the flag or parameter, and the kind of name that it wants.
        """
        found = find_name(name, self.names)
        if found is None:
            some = ", ".join(map(escape, self.names[:_MAX_NAMES]))
            more = ", ..." if len(self.names) > _MAX_NAMES else ""
            raise UsageError(f"{setting} {escape(name)}: the model has no such {kind}, it has {some}{more}")
        return self.names.index(found)

    def read_enrolled(self) -> None:
        """Read the enrolled speakers from disk again, after one was added or removed.

        Raises
        ------
        ModelError
            If their file is damaged or belongs to another model.
        """
        self.enrolled = read_enrolled(enrolled_path(self.graph), self.card["graph_sha256"], self.dimensions)
        self.voices = self.arrays.voices.joined([enrolled.speaker for enrolled in self.enrolled.values()])

    def with_enrolled_as_stored(self) -> Self:
        """Return this model with the enrolled speakers that are on disk now; this object keeps its own.

        Raises
        ------
        ModelError
            As `read_enrolled`.
        """
        changed = copy.copy(self)
        changed.read_enrolled()
        return changed

    def unchanged_card(self, remedy: str) -> dict[str, Any]:
        """Read the model's JSON from disk again, before a file of the model is changed.

        Raises
        ------
        ModelError
            If the model has been trained again since it was loaded; the message says `remedy`.
        """
        card = read_json(self.card_path, ModelError, "run retrain.py again")
        if any(card.get(name) != self.card[name] for name in ("graph_sha256", "arrays_sha256")):
            raise ModelError(f"{escape(self.card_path)}: was trained again meanwhile: {remedy}")
        return card

    @property
    def several_threshold(self) -> float | None:
        """Threshold for clips of several chunks; None if the model never answers unknown."""
        return None if self.rejection is None else self.rejection.several

    @property
    def labels_are_voices(self) -> bool:
        """True if labels are compared in the backbone's voice space as well."""
        return len(self.voices.cohort) > 0

    @property
    def decider(self) -> Decider:
        """All that decisions depend on, with the enrolled speakers as they are now."""
        least = self.verification_threshold
        return Decider(self.labels, list(self.enrolled), self.rule, self.rejection, least, self.thresholds)

    @functools.cached_property
    def verification_threshold(self) -> float:
        """Lowest score that verification accepts; infinite if training had too few impostor trials for one."""
        return acceptance_threshold(self.arrays.impostors, self.verification_rate)

    def answer(self, source: Source) -> Answer:
        """Answer for a clip, or for a spectrogram image if the name ends in .jpg.

        A clip's chunks are rendered as in training, and their outputs averaged.

        Raises
        ------
        RecordingError, DatasetError
            If nothing in the file can be used.
        """
        clip = Clip(source, self.spectrogram)
        chunks, silent, damage = process_images(clip, self.answer_chunk)
        return self.combine_chunks(chunks, silent, clip.seconds, clip.remark(damage))

    def answer_chunk(self, chunk: ClipChunk, jpg: bytes) -> ChunkAnswer:
        """Run the network on a chunk's image, and score its embedding against each speaker."""
        return self.chunk_answer(chunk, self.predict_image(jpg))

    def chunk_answer(self, chunk: ClipChunk, output: ImageOutput) -> ChunkAnswer:
        """Make the answer for a chunk from the network's output: score its embedding against each speaker."""
        return self.score_chunk(chunk.start, chunk.level, output.features.activity, output[:3])

    def score_chunk(
        self, start: float, level: float | None, activity: float, output: tuple[FloatArray, FloatArray, bool]
    ) -> ChunkAnswer:
        """Make the answer for a chunk from the network's probabilities, embedding and detection of speech."""
        probabilities, embedding, speech = output
        joined, scores = self.score_batch(probabilities[None], embedding[None])
        return ChunkAnswer(start, joined[0], scores[0], activity, level, speech)

    def score_batch(self, probabilities: FloatArray, embeddings: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Score n embeddings against each speaker, and join the head's probabilities with the labels' scores.

        Returns
        -------
        probabilities : ndarray of float32, shape (n, labels)
            Calibrated.
        scores : ndarray of float32, shape (n, labels and enrolled speakers)
        """
        scores = self.voices.scores(embeddings)
        if self.thresholds is None:
            probabilities = join_scores(probabilities, scores[:, : len(self.labels)], *self.calibration[1:])
        return probabilities, scores

    def combine_chunks(
        self, chunks: Sequence[ChunkAnswer], silent: Sequence[float], seconds: float | None, remark: str | None
    ) -> Answer:
        """Combine the answers for the chunks of a clip, at least one; `silent` are the starts of its silent chunks."""
        config = self.spectrogram
        length, step = (
            (None, None) if config is None else (config.chunk_seconds, config.step_length / config.sample_rate)
        )
        return combine_chunks(self.decider, chunks, silent, length, step, seconds, remark)

    def predict_image(self, jpg: bytes) -> ImageOutput:
        """Run the network on one image."""
        features = image_features(jpg, self.input_size)
        output = self.predict_batch(*model_inputs(features, self.statistics))
        return ImageOutput(output.probabilities[0], output.embeddings[0], bool(output.speech[0]), features)

    def predict_batch(self, pixels: UInt8Array, statistics: FloatArray | None = None) -> BatchOutput:
        """Run the network on a batch of images; each output is the same as for the image alone.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n, height, width, 3)
            At `input_size`.
        statistics : ndarray of float32, shape (n, width), optional
            MFCC statistics of the kind `self.statistics`; ignored if the model takes none.
        """
        extra = () if self.statistics is None or statistics is None else (statistics,)
        return self.read_outputs(*self._runner.run_all(pixels, *extra))

    def predict_occluded(self, jpg: bytes) -> tuple[FloatArray, BatchOutput]:
        """Run the network on an image and its occlusions.

        Returns
        -------
        level : ndarray of float32, shape (rows, frames)
            The image, 0 to 1, the lowest frequency first.
        output : BatchOutput
            Of the image, then of each occlusion, in the order of `occlusion.occluded`.
        """
        level, outputs = occluded_outputs(self._runner, jpg, self.statistics)
        return level, self.read_outputs(*outputs)

    def read_outputs(self, probabilities: FloatArray, outputs: FloatArray) -> BatchOutput:
        """Read the network's two outputs, shapes (n, labels) and (n, width)."""
        embeddings, logits = read_outputs(outputs, self.voices)
        speech = np.ones(len(outputs), bool) if logits is None else logits > 0
        return BatchOutput(probabilities, embeddings, speech)

    def calibrate(self, probabilities: FloatArray, scores: FloatArray) -> FloatArray:
        """Calibrate stored probabilities of the head alone, shape (n, labels), as labelling does."""
        if self.thresholds is not None:
            return apply_independent_temperature(probabilities, self.calibration.temperature)
        return self.calibration.apply(probabilities, scores)

    def ranked(self, probabilities: FloatArray, top_k: int) -> list[dict[str, Any]]:
        """Return the `top_k` most probable labels with their probabilities, best first; all of them if it is 0."""
        order = np.argsort(-probabilities, kind="stable")[: top_k or None]
        return [{"label": self.labels[i], "probability": round(float(probabilities[i]), 6)} for i in order]
