"""Objectives of an exact fit: one label for each image, or any number of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from audionet.classifier.calibration import calibrated_losses
from audionet.classifier.multi_label import independent_losses
from audionet.data.dataset import ChunkImage
from audionet.data.folds import Folds, assign_folds, assign_multi_label_folds
from audionet.data.grouping import Recording
from audionet.metrics.accuracy import Groups
from audionet.training.exact_fit import (
    DEFAULT_INDEPENDENT_STRENGTH,
    DEFAULT_STRENGTH,
    Solution,
    fit_independent,
    fit_logistic,
    recording_weights,
)
from audionet.utils.arrays import AnyFloatArray, BoolArray, FloatArray, IntArray


class Objective(Protocol):
    """Objective of a head: the answers that images have, the fit to them, and the distance from them."""

    @property
    def labels(self) -> int:
        """Number of labels."""

    @property
    def default_strength(self) -> float:
        """L2 strength unless another is clearly better on held-out recordings."""

    @property
    def known(self) -> BoolArray:
        """Mask of the images that a head is fitted on, shape (n,)."""

    def fit(
        self,
        coordinates: FloatArray,
        rows: IntArray,
        recordings: IntArray,
        strength: float,
        start: Solution | None = None,
        rough: bool = False,
    ) -> Solution:
        """Fit images that have these coordinates, shape (len(rows), rank), and belong to these recordings."""

    def correct(self, probabilities: FloatArray, rows: IntArray) -> float:
        """Return the share of answers that are right, 0 to 1, for images with these probabilities."""

    def score(self, probabilities: FloatArray, rows: IntArray, recordings: Groups[Any]) -> tuple[AnyFloatArray, float]:
        """Return the calibrated loss of each recording, and the share of answers that are right by recording."""

    def assign_folds(
        self, images: Sequence[ChunkImage], groups: Mapping[Recording, str], folds: int, apart: int
    ) -> Folds:
        """Assign images to folds of a cross-validation."""


@dataclass(frozen=True)
class SingleLabel:
    """One label for each image.

    Attributes
    ----------
    targets : ndarray of int64, shape (n,)
        Label numbers; -1 for images of none.
    labels : int
    balanced : bool
        Whether every label counts the same, instead of every recording.
    """

    targets: IntArray
    labels: int
    balanced: bool = False

    @property
    def default_strength(self) -> float:
        """The one for one label at a time."""
        return DEFAULT_STRENGTH

    @property
    def known(self) -> BoolArray:
        """Mask of the images of the labels."""
        return self.targets >= 0

    def fit(
        self,
        coordinates: FloatArray,
        rows: IntArray,
        recordings: IntArray,
        strength: float,
        start: Solution | None = None,
        rough: bool = False,
    ) -> Solution:
        """Fit multinomial logistic regression."""
        targets = self.targets[rows]
        weights = recording_weights(recordings, targets if self.balanced else None)
        return fit_logistic(coordinates, targets, self.labels, weights, strength, start, rough)

    def correct(self, probabilities: FloatArray, rows: IntArray) -> float:
        """Return the share of images whose most probable label is theirs."""
        return float((probabilities.argmax(axis=1) == self.targets[rows]).mean())

    def score(self, probabilities: FloatArray, rows: IntArray, recordings: Groups[Any]) -> tuple[AnyFloatArray, float]:
        """Return the calibrated loss of each recording, and the accuracy by recording."""
        targets = self.targets[rows]
        right = recordings.mean(probabilities).argmax(axis=1) == recordings.value(targets)
        return calibrated_losses(probabilities, targets, recordings), float(right.mean())

    def assign_folds(
        self, images: Sequence[ChunkImage], groups: Mapping[Recording, str], folds: int, apart: int
    ) -> Folds:
        """Assign images to folds that hold each label's recordings evenly."""
        return assign_folds(images, groups, folds, apart)


@dataclass(frozen=True)
class MultiLabel:
    """Any number of labels for each image.

    Attributes
    ----------
    present : ndarray of bool, shape (n, labels)
    """

    present: BoolArray

    @property
    def default_strength(self) -> float:
        """The one for several labels at a time."""
        return DEFAULT_INDEPENDENT_STRENGTH

    @property
    def labels(self) -> int:
        """Number of labels."""
        return int(self.present.shape[1])

    @property
    def known(self) -> BoolArray:
        """Mask of all images: those without any label are examples of that."""
        return np.ones(len(self.present), bool)

    def fit(
        self,
        coordinates: FloatArray,
        rows: IntArray,
        recordings: IntArray,
        strength: float,
        start: Solution | None = None,
        rough: bool = False,
    ) -> Solution:
        """Fit a logistic regression for each label."""
        weights: NDArray[np.float64] = recording_weights(recordings)
        return fit_independent(coordinates, self.present[rows], weights, strength, start, rough)

    def correct(self, probabilities: FloatArray, rows: IntArray) -> float:
        """Return the share of labels, over all images, that are on the right side of a half."""
        return float(((probabilities > 0.5) == self.present[rows]).mean())

    def score(self, probabilities: FloatArray, rows: IntArray, recordings: Groups[Any]) -> tuple[AnyFloatArray, float]:
        """Return the loss of each recording, and the share of labels, over all recordings, that are right."""
        present = recordings.value(self.present[rows])
        means = recordings.mean(probabilities)
        return independent_losses(means, present), float(((means > 0.5) == present).mean())

    def assign_folds(
        self, images: Sequence[ChunkImage], groups: Mapping[Recording, str], folds: int, apart: int
    ) -> Folds:
        """Assign images to folds that hold the groups of each label evenly."""
        return assign_multi_label_folds(images, groups, folds)
