"""What a test came to: the network and the baseline on the same pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audionet.audio.spectrogram import FloatArray
from audionet.backbones.cache import IntArray
from audionet.data.dataset import Picture
from audionet.metrics.accuracy import Accuracy, Groups, accuracy


@dataclass(frozen=True)
class Measured:
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
    misclassified : list of (Picture, str)
        The pictures with the label each was given.
    given : ndarray of int64, shape (n,)
        The label number each test picture was given, right or wrong.
    """

    network: Measured
    baseline: Measured | None
    leaky: Accuracy | None
    misclassified: list[tuple[Picture, str]]
    given: IntArray


def test_result(
    probabilities: FloatArray,
    baseline: FloatArray | None,
    leaky: Accuracy | None,
    pictures: Sequence[Picture],
    labels: Sequence[str],
) -> Test:
    """Hold probabilities, shape (n, labels), against the labels of the n pictures."""
    given = probabilities.argmax(axis=1)
    named = zip(pictures, (labels[place] for place in given), strict=True)
    return Test(
        _measure(probabilities, pictures, labels),
        None if baseline is None else _measure(baseline, pictures, labels),
        leaky,
        [(picture, label) for picture, label in named if picture.label != label],
        given,
    )


def _measure(probabilities: FloatArray, pictures: Sequence[Picture], labels: Sequence[str]) -> Measured:
    recordings = [(picture.label, picture.recording) for picture in pictures]
    given = probabilities.argmax(axis=1)
    right = np.array([labels[g] == picture.label for g, picture in zip(given, pictures, strict=True)])
    groups = Groups(recordings)
    answers = groups.mean(probabilities).argmax(axis=1)
    whole = np.array([labels[g] == label for g, (label, _) in zip(answers, groups.names, strict=True)])
    return Measured(accuracy(right, recordings), accuracy(whole))
