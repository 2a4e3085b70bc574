"""What a test came to: the network and the baseline on the same images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from audionet.backbones.registry import Backbone
from audionet.classifier.calibration import apply_temperature
from audionet.classifier.head import Head
from audionet.classifier.open_set import OpenSet
from audionet.data.dataset import ChunkImage
from audionet.metrics.accuracy import Accuracy, Groups, accuracy
from audionet.training.config import RetrainConfig
from audionet.training.data_module import Data
from audionet.training.train_loop import Fit
from audionet.utils.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class Accuracies:
    """Accuracy on the test set, by chunk and by recording (chunks' probabilities averaged)."""

    chunks: Accuracy
    recordings: Accuracy


@dataclass(frozen=True)
class Test:
    """The network's and the baseline's results on the same test set, and the network's mistakes.

    Attributes
    ----------
    network : Measured
    baseline : Measured or None
    leaky : Accuracy or None
        What chunks drawn at random would have claimed, others of the same recordings being in training.
    misclassified : list of (Image, str)
        The images with the label each was given.
    given : ndarray of int64, shape (n,)
        The label number each test image was given, right or wrong.
    """

    network: Accuracies
    baseline: Accuracies | None
    leaky: Accuracy | None
    misclassified: list[tuple[ChunkImage, str]]
    given: IntArray


def test_result(
    probabilities: FloatArray,
    baseline: FloatArray | None,
    leaky: Accuracy | None,
    images: Sequence[ChunkImage],
    labels: Sequence[str],
) -> Test:
    """Hold probabilities, shape (n, labels), against the labels of the n images."""
    given = probabilities.argmax(axis=1)
    named = zip(images, (labels[place] for place in given), strict=True)
    return Test(
        _measure(probabilities, images, labels),
        None if baseline is None else _measure(baseline, images, labels),
        leaky,
        [(image, label) for image, label in named if image.label != label],
        given,
    )


def _measure(probabilities: FloatArray, images: Sequence[ChunkImage], labels: Sequence[str]) -> Accuracies:
    recordings = [(image.label, image.recording) for image in images]
    given = probabilities.argmax(axis=1)
    right = np.array([labels[g] == image.label for g, image in zip(given, images, strict=True)])
    groups = Groups(recordings)
    answers = groups.mean(probabilities).argmax(axis=1)
    whole = np.array([labels[g] == label for g, (label, _) in zip(answers, groups.names, strict=True)])
    return Accuracies(accuracy(right, recordings), accuracy(whole))


TUNED = "_tuned"


@dataclass(frozen=True)
class Candidate:
    """A trained network, and what its LiteRT version says: the arithmetic that will label.

    Attributes
    ----------
    backbone : Backbone
        The network up to the top, as LiteRT.
    head : Head
    fitted : Fit
        How the training went.
    features : ndarray of float32, shape (points, width)
        What the top is given of some images.
    compared : ndarray of float32, shape (n, width)
        The same of the images that voices are compared by.
    validation, testing : ndarray of float32, shape (n, labels)
        Probabilities for these sets.
    """

    backbone: Backbone
    head: Head
    fitted: Fit
    features: FloatArray
    compared: FloatArray
    validation: FloatArray
    testing: FloatArray

    def score(self, labels: IntArray) -> tuple[float, float]:
        """Share right on the validation set, and how likely its labels were (mean log-likelihood)."""
        right = self.validation.argmax(axis=1) == labels
        likely = self.validation[np.arange(len(labels)), labels]
        return float(right.mean()), float(np.log(np.maximum(likely, 1e-12)).mean())

    def with_temperature(self, temperature: float) -> Candidate:
        """The same network, less or more sure of itself."""
        return dataclasses.replace(
            self,
            head=self.head.with_temperature(temperature),
            validation=apply_temperature(self.validation, temperature),
            testing=apply_temperature(self.testing, temperature),
        )


@dataclass(frozen=True)
class Trained:
    """All that a training came to.

    Attributes
    ----------
    data : Data
    backbone : Backbone
        The network up to the top, as LiteRT.
    head : Head
        Calibrated.
    temperature : float
        What its logits were divided by to calibrate it.
    open_set : OpenSet
    baseline : Head or None
        The top on MFCC statistics, where the images have them.
    fitted : Fit
        How the training of the network that was kept went.
    config : RetrainConfig
        As asked, or as --hyper_search found better.
    validation_accuracy : float or None
        Share of validation chunks right; None without a validation set.
    test : Test or None
    points : list of Image
        Some of the images, evenly from the first to the last.
    features : ndarray of float32, shape (len(points), width)
        What the top is given of them.
    summaries : Path
        Where this training's curves went.
    leftovers : list of Path
        What is needed until the model is published, and to go on if that does not happen.
    """

    data: Data
    backbone: Backbone
    head: Head
    temperature: float
    open_set: OpenSet
    baseline: Head | None
    fitted: Fit
    config: RetrainConfig
    validation_accuracy: float | None
    test: Test | None
    points: list[ChunkImage]
    features: FloatArray
    summaries: Path
    leftovers: list[Path]

    @property
    def trained_on_left_out(self) -> bool:
        """Whether the network itself was trained on the labels that were then played to it as unknown voices."""
        return self.config.from_scratch or self.backbone.name.endswith(TUNED)
