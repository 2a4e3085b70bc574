"""Inference with a retrained model: clips and images to ranked labels and a decision, without TensorFlow."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audionet._paths import enrolled_path, lite_path, model_json_path
from audionet.audio.array_sound import ArraySound
from audionet.audio.network_input import ImageFeatures, image_features, model_inputs
from audionet.backbones.litert import Runner
from audionet.classifier.decision import Costs, Rule
from audionet.classifier.enrolment import Enrolled, read_enrolled
from audionet.classifier.model_files import load_model_files
from audionet.classifier.prototypes import normalise_embeddings
from audionet.inference.clip import Clip, process_images
from audionet.utils.arrays import FloatArray, UInt8Array
from audionet.utils.process import available_cores


class ImageOutput(NamedTuple):
    """Output of the network for one image.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (labels,)
        Calibrated.
    embedding : ndarray of float32, shape (dimensions,)
        Whitened speaker embedding, norm at most 1.
    features : ImageFeatures
    """

    probabilities: FloatArray
    embedding: FloatArray
    features: ImageFeatures


class ChunkAnswer(NamedTuple):
    """Answer for the chunk that starts `start` seconds into the clip: probabilities, and a score for each speaker."""

    start: float
    probabilities: FloatArray
    scores: FloatArray


class Decision(NamedTuple):
    """Decision for a clip.

    Attributes
    ----------
    label : str or None
        A label or an enrolled speaker; None if unknown.
    score : float
        Score of the most similar speaker.
    enrolled : bool
        Whether the most similar speaker is an enrolled one.
    """

    label: str | None
    score: float
    enrolled: bool


@dataclasses.dataclass
class Answer:
    """Answer of a model for a clip.

    Attributes
    ----------
    seconds : float or None
        Length of the clip; None for an image.
    probabilities : ndarray of float32, shape (labels,)
        Mean over the clip's chunks.
    scores : ndarray of float32, shape (labels and enrolled speakers,)
        Similarity to each speaker: the mean over the chunks.
    decision : Decision
    chunks : list of ChunkAnswer
        Chunks that are not silent.
    remark : str or None
        Damage to the clip, if part of it could be used.
    """

    seconds: float | None
    probabilities: FloatArray
    scores: FloatArray
    decision: Decision
    chunks: list[ChunkAnswer]
    remark: str | None = None


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
    held : bool
        Whether to load the whole network into memory, so that later changes to the files have no effect.

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
        held: bool = False,
    ) -> None:
        files = load_model_files(graph, labels_file)
        card = files.card
        self.graph = graph
        self.card_path = model_json_path(graph)
        self.card, self.arrays, self.spectrogram = card, files.arrays, files.spectrogram
        self.labels: list[str] = card["labels"]
        self.dimensions = self.arrays.voices.centroids.shape[1]
        self.threshold: float | None = card["open_set"]["threshold"]
        stored = card["decision"]
        self.rule = Rule(Costs(len(self.labels))) if stored is None else Rule.from_json(stored, self.labels)
        self.enrolled: dict[str, Enrolled] = {}
        self.voices = self.arrays.voices
        if with_enrolled:
            self.read_enrolled()
        self.statistics: str | None = card["backbone"]["statistics"]
        self._runner = Runner(lite_path(graph), threads or available_cores(), held)
        _, height, width, _ = self._runner.input_shapes[0]
        self.input_size = (height, width)

    @property
    def names(self) -> list[str]:
        """Names of the labels, followed by those of the enrolled speakers."""
        return [*self.labels, *self.enrolled]

    def read_enrolled(self) -> None:
        """Read the enrolled speakers from disk again, after one was added or removed.

        Raises
        ------
        ModelError
            If their file is damaged or belongs to another model.
        """
        self.enrolled = read_enrolled(enrolled_path(self.graph), self.card["graph_sha256"], self.dimensions)
        self.voices = self.arrays.voices.joined([enrolled.speaker for enrolled in self.enrolled.values()])

    def answer(self, source: Path | ArraySound) -> Answer:
        """Answer for a clip, or for a spectrogram image if the name ends in .jpg.

        A clip's chunks are rendered as in training, and their outputs averaged.

        Raises
        ------
        RecordingError, DatasetError
            If nothing in the file can be used.
        """
        clip = Clip(source, self.spectrogram)
        outputs, remark = process_images(clip, lambda start, jpg: (start, self.predict_image(jpg)))
        chunks = [self.chunk_answer(start, output.probabilities, output.embedding) for start, output in outputs]
        return self.combine_chunks(chunks, clip.seconds, remark)

    def chunk_answer(self, start: float, probabilities: FloatArray, embedding: FloatArray) -> ChunkAnswer:
        """Make the answer for a chunk from the network's output: score its embedding against each speaker."""
        return ChunkAnswer(start, probabilities, self.voices.scores(embedding[None])[0])

    def combine_chunks(self, chunks: list[ChunkAnswer], seconds: float | None, remark: str | None) -> Answer:
        """Combine the answers for the chunks of a clip, at least one, by their mean."""
        probabilities: FloatArray = np.mean([chunk.probabilities for chunk in chunks], axis=0)
        scores: FloatArray = np.mean([chunk.scores for chunk in chunks], axis=0)
        return Answer(seconds, probabilities, scores, self.decide(probabilities, scores), chunks, remark)

    def predict_image(self, jpg: bytes) -> ImageOutput:
        """Run the network on one image."""
        features = image_features(jpg, self.input_size)
        probabilities, embeddings = self.predict_batch(*model_inputs(features, self.statistics))
        return ImageOutput(probabilities[0], embeddings[0], features)

    def predict_batch(self, pixels: UInt8Array, statistics: FloatArray | None = None) -> tuple[FloatArray, FloatArray]:
        """Run the network on a batch of images; each output is the same as for the image alone.

        Parameters
        ----------
        pixels : ndarray of uint8, shape (n, height, width, 3)
            At `input_size`.
        statistics : ndarray of float32, shape (n, width), optional
            MFCC statistics of the kind `self.statistics`; ignored if the model takes none.

        Returns
        -------
        (ndarray, ndarray) of float32, shapes (n, labels) and (n, dimensions)
            Calibrated probabilities, and whitened speaker embeddings of norm at most 1.
        """
        extra = () if self.statistics is None or statistics is None else (statistics,)
        probabilities, whitened = self._runner.run_all(pixels, *extra)
        return probabilities, normalise_embeddings(whitened)

    def decide(self, probabilities: FloatArray, scores: FloatArray) -> Decision:
        """Decide between unknown, an enrolled speaker and a label.

        The clip is unknown if its highest score is below the threshold, and the enrolled speaker with that score if it
        is one. Otherwise the decision rule chooses the label from the probabilities.

        Parameters
        ----------
        probabilities : ndarray of float32, shape (labels,)
        scores : ndarray of float32, shape (labels and enrolled speakers,)
        """
        nearest = int(scores.argmax())
        score, enrolled = float(scores[nearest]), nearest >= len(self.labels)
        if self.threshold is not None and score < self.threshold:
            return Decision(None, score, enrolled)
        if enrolled:
            return Decision(self.names[nearest], score, True)
        return Decision(self.labels[int(self.rule.decide(probabilities[None])[0])], score, False)

    def ranked(self, probabilities: FloatArray, top_k: int) -> list[dict[str, Any]]:
        """Return the `top_k` most probable labels with their probabilities, best first; all of them if it is 0."""
        order = np.argsort(-probabilities, kind="stable")[: top_k or None]
        return [{"label": self.labels[i], "probability": round(float(probabilities[i]), 6)} for i in order]
