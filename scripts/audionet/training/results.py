"""Results of training: the trained model, and the test of network and baseline on the same images."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.backbones.registry import Backbone
from audionet.classifier.calibration import Calibration
from audionet.classifier.embedding import EmbeddingSpace
from audionet.classifier.head import Head
from audionet.classifier.multi_label import LabelThresholds
from audionet.classifier.open_set import OpenSet
from audionet.classifier.rejection import RejectionRule
from audionet.data.dataset import ChunkImage
from audionet.metrics.accuracy import Accuracy, Groups, accuracy
from audionet.metrics.multi_label import MultiLabelScores
from audionet.training.config import RetrainConfig
from audionet.training.cross_validation import OutOfFold
from audionet.training.data_module import Data
from audionet.training.exact_head import ExactHead
from audionet.training.train_loop import Fit
from audionet.utils.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Accuracies:
    """Accuracy on the test set, by chunk and by recording (mean probabilities of its chunks)."""

    chunks: Accuracy
    recordings: Accuracy


@dataclass(frozen=True)
class Answers:
    """Answers that label_image.py would give for the recordings of a test.

    Attributes
    ----------
    right, wrong, unknown : int
    refused : dict of str to int
        Number of recordings of each label that are answered unknown, where there are any.
    """

    right: int
    wrong: int
    unknown: int
    refused: dict[str, int]

    @property
    def total(self) -> int:
        """Number of recordings."""
        return self.right + self.wrong + self.unknown


@dataclass(frozen=True)
class Test:
    """Results of the network and the baseline on the same test set, and the network's errors.

    Attributes
    ----------
    network : Accuracies
    answers : Answers
    baseline : Accuracies or None
    leaky : Accuracy or None
        Accuracy by chunk of a random split by chunk, in which recordings are in both training and test set.
    misclassified : list of (ChunkImage, str)
        Misclassified images with their predicted labels.
    predicted : ndarray of int64, shape (n,)
        Predicted label number of each test image.
    true : ndarray of int64, shape (n,)
        Label number of each test image.
    """

    network: Accuracies
    answers: Answers
    baseline: Accuracies | None
    leaky: Accuracy | None
    misclassified: list[tuple[ChunkImage, str]]
    predicted: IntArray
    true: IntArray


def test_result(
    probabilities: FloatArray,
    scores: FloatArray,
    rejection: RejectionRule | None,
    baseline: FloatArray | None,
    leaky: Accuracy | None,
    images: Sequence[ChunkImage],
    activity: FloatArray,
    labels: Sequence[str],
    folds: int | None,
) -> Test:
    """Compare probabilities, shape (n, labels), with the labels of the n images.

    Parameters
    ----------
    probabilities, scores : ndarray of float32, shape (n, labels)
    rejection : RejectionRule or None
    baseline : ndarray of float32, shape (n, labels), or None
    leaky : Accuracy or None
    images : sequence of n ChunkImage
    activity : ndarray of float32, shape (n,)
        Weights of the images within their recordings.
    labels : sequence of str
    folds : int or None
        Number of folds, where the probabilities are those of a cross-validation.
    """
    predicted = probabilities.argmax(axis=1)
    number = {label: place for place, label in enumerate(labels)}
    named = zip(images, (labels[number] for number in predicted), strict=True)
    return Test(
        _measure(probabilities, images, activity, labels, folds),
        count_answers(probabilities, scores, rejection, images, activity, labels),
        None if baseline is None else _measure(baseline, images, activity, labels, folds),
        leaky,
        [(image, label) for image, label in named if image.label != label],
        predicted,
        np.array([number[image.label] for image in images], np.int64),
    )


def _measure(
    probabilities: FloatArray,
    images: Sequence[ChunkImage],
    activity: FloatArray,
    labels: Sequence[str],
    folds: int | None,
) -> Accuracies:
    recordings = [(image.label, image.recording) for image in images]
    predicted = probabilities.argmax(axis=1)
    correct = np.array([labels[p] == image.label for p, image in zip(predicted, images, strict=True)])
    groups = Groups(recordings)
    by_recording = groups.mean(probabilities, activity).argmax(axis=1)
    correct_recordings = np.array(
        [labels[p] == label for p, (label, _) in zip(by_recording, groups.names, strict=True)]
    )
    return Accuracies(accuracy(correct, recordings, folds), accuracy(correct_recordings, folds=folds))


def count_answers(
    probabilities: FloatArray,
    scores: FloatArray,
    rejection: RejectionRule | None,
    images: Sequence[ChunkImage],
    activity: FloatArray,
    labels: Sequence[str],
) -> Answers:
    """Decide each recording as label_image.py does, and count the answers; parameters as for `test_result`."""
    groups = Groups((image.label, image.recording) for image in images)
    predicted = groups.mean(probabilities, activity).argmax(axis=1)
    best = groups.mean(scores, activity).max(axis=1, initial=-np.inf)
    thresholds = [-np.inf if rejection is None else rejection.threshold(size) for size in groups.sizes.tolist()]
    refused = Counter(label for (label, _), unknown in zip(groups.names, best < thresholds, strict=True) if unknown)
    right = sum(
        labels[number] == label and score >= threshold
        for number, (label, _), score, threshold in zip(
            predicted.tolist(), groups.names, best.tolist(), thresholds, strict=True
        )
    )
    return Answers(right, len(groups.names) - right - refused.total(), refused.total(), dict(refused))


class CurveShare(NamedTuple):
    """Point of the learning curve: accuracy by recording with a share of the recordings that a fold may train on."""

    share: float
    accuracy: Accuracy


@dataclass(frozen=True)
class CrossValidation:
    """Results of a cross-validation.

    Attributes
    ----------
    found : OutOfFold
        Predictions for every recording by models that were not trained on it.
    scores : ndarray of float32, shape (m, labels)
        Scores of the same images by speaker models, not trained on them either.
    baseline : ndarray of float32, shape (m, labels), or None
        Probabilities by heads on MFCC statistics, of the same images.
    learning_curve : list of CurveShare
        With all recordings last.
    repeats : list of Accuracy
        Accuracy by recording of each repetition; the first is that of `found`.
    fitted : ExactHead
        The fit on everything, and its choices.
    """

    found: OutOfFold
    scores: FloatArray
    baseline: FloatArray | None
    learning_curve: list[CurveShare]
    repeats: list[Accuracy]
    fitted: ExactHead

    def expected_accuracy(self, folds: int) -> float:
        """Extrapolate the accuracy to a model that was trained on all recordings, not on all folds but one.

        The error falls as a power of the number of recordings (Hestness et al., Deep learning scaling is predictable,
        empirically, 2017), here from half of a fold's recordings to all of them, at most inversely.
        """
        points = {point.share: 1 - point.accuracy.share for point in self.learning_curve}
        half, whole = points[0.5], points[1.0]
        power = math.log2(half / whole) if min(half, whole) > 0 else 0.0
        return float(1 - (1 - self.repeats[0].share) * (1 - 1 / folds) ** min(max(power, 0.0), 1.0))


TUNED = "_tuned"


@dataclass(frozen=True)
class Candidate:
    """Trained network with the outputs of its LiteRT version, whose arithmetic labelling uses.

    Attributes
    ----------
    backbone : Backbone
        The network up to the head, as LiteRT.
    head : Head
    fitted : Fit
        Course of the training.
    features : ndarray of float32, shape (points, width)
        Bottlenecks of some images.
    open_set_features : ndarray of float32, shape (n, width)
        Bottlenecks of the images that the open set is fitted on.
    validation, testing : ndarray of float32, shape (n, labels)
        Probabilities of the images of these sets, by the head alone.
    blocks : callable
        Returns the bottlenecks of one of these sets, by its name, in blocks of rows.
    """

    backbone: Backbone
    head: Head
    fitted: Fit
    features: FloatArray
    open_set_features: FloatArray
    validation: FloatArray
    testing: FloatArray
    blocks: Callable[[str], Iterable[FloatArray]] = dataclasses.field(repr=False)

    def scores(self, name: str, space: EmbeddingSpace) -> FloatArray:
        """Compute the scores of the images of a set by speaker models, shape (n, labels)."""
        found = [space.voices.scores(space.embed(block)) for block in self.blocks(name)]
        return np.concatenate([np.zeros((0, len(self.head.last.biases)), np.float32), *found])

    def score(self, labels: IntArray) -> tuple[float, float]:
        """Return accuracy and mean log-likelihood of the labels on the validation set."""
        correct = self.validation.argmax(axis=1) == labels
        likelihoods = self.validation[np.arange(len(labels)), labels]
        return float(correct.mean()), float(np.log(np.maximum(likelihoods, 1e-12)).mean())


@dataclass(frozen=True)
class MultiLabelTraining:
    """Results of training for several labels at a time.

    Attributes
    ----------
    thresholds : LabelThresholds
        Fitted on all out-of-fold answers.
    test : MultiLabelScores or None
        Of the cross-validation; each recording is decided by thresholds that do not know it.
    baseline : MultiLabelScores or None
        Of heads on MFCC statistics, in the same folds, at a threshold of a half.
    """

    thresholds: LabelThresholds
    test: MultiLabelScores | None
    baseline: MultiLabelScores | None


@dataclass(frozen=True)
class Trained:
    """Result of a training.

    Attributes
    ----------
    data : Data
    backbone : Backbone
        The network up to the head, as LiteRT.
    head : Head
        Calibrated head.
    calibration : Calibration
        Its temperature has divided the head's logits.
    open_set : OpenSet
    baseline : Head or None
        Head on MFCC statistics; None where the images have none.
    fitted : Fit
        Training of the network that was kept.
    config : RetrainConfig
        Settings as given, or with the best ones of --hyper_search.
    validation_accuracy : float or None
        Accuracy by chunk on the validation set; None without one.
    test : Test or None
    points : list of ChunkImage
        Evenly spaced sample of the images.
    features : ndarray of float32, shape (len(points), width)
        Bottlenecks of these images.
    summaries : Path
        Folder of this training's TensorBoard logs.
    temporary_files : list of Path
        Checkpoints and converted backbones, to delete once the model is published; until then, training can resume.
    cross_validation : CrossValidation or None
        None for a classic split.
    multi_label : MultiLabelTraining or None
        None if labels exclude each other.
    """

    data: Data
    backbone: Backbone
    head: Head
    calibration: Calibration
    open_set: OpenSet
    baseline: Head | None
    fitted: Fit
    config: RetrainConfig
    validation_accuracy: float | None
    test: Test | None
    points: list[ChunkImage]
    features: FloatArray
    summaries: Path
    temporary_files: list[Path]
    cross_validation: CrossValidation | None = None
    multi_label: MultiLabelTraining | None = None

    @property
    def trained_on_left_out(self) -> bool:
        """True if the network itself was trained on the labels held out as unknown speakers for the threshold."""
        return self.config.from_scratch or self.backbone.name.endswith(TUNED)
