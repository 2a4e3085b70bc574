"""Choice and fit of an exact head: features, L2 strength and augmented copies by cross-validation within the data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.head import Head
from audionet.data.dataset import ChunkImage
from audionet.data.grouping import Recording
from audionet.metrics.accuracy import Groups
from audionet.training.exact_fit import (
    STRENGTHS,
    Design,
    Solution,
    design,
    fit_path,
)
from audionet.training.objective import Objective
from audionet.utils.arrays import AnyFloatArray, BoolArray, FloatArray, IntArray

MAX_COST = 1e9
"""Largest cost of an exact fit, in examples times coordinates times labels; larger sets are trained in steps."""

MAX_NUMBERS = 2.5e8
"""Most features of all images together that an exact fit holds in memory: 1 GB."""

_INNER_FOLDS = 4
_LEAST_GAIN = 0.01  # of the loss, for which more features or augmented copies are taken
_COST_OF_ALL_INNER_FOLDS = 2e7  # dearer fits choose on one of the inner folds

NO_COPIES = "none"
ALL_COPIES = "all"


class FeatureSet(NamedTuple):
    """Features of all images that a head may be fitted on.

    Attributes
    ----------
    fields : list of str
        Fields of the bottleneck cache that they are joined of.
    widths : list of int
    values : ndarray of float32, shape (n, sum(widths))
    voice_space : VoiceSpace or None
        The backbone's.
    """

    fields: list[str]
    widths: list[int]
    values: FloatArray
    voice_space: VoiceSpace | None = None


class Trial(NamedTuple):
    """One strength in the choice: loss and accuracy on its training chunks and on the held-out recordings.

    Attributes
    ----------
    strength, training_loss, training_accuracy : float
    losses : ndarray of float64, shape (recordings,)
        Calibrated losses of the held-out recordings.
    accuracy : float
    """

    strength: float
    training_loss: float
    training_accuracy: float
    losses: AnyFloatArray
    accuracy: float

    @property
    def loss(self) -> float:
        """Mean loss of the held-out recordings."""
        return float(self.losses.mean())


@dataclass(frozen=True)
class ExactHead:
    """A fitted head, and the choices that led to it.

    Attributes
    ----------
    features : int
        Number of the feature set.
    copies : str
        Augmented copies trained on: ``none``, ``all``, or the name of an augmentation.
    gain : float
        Accuracy on the held-out recordings that these copies brought.
    strength : float
        L2 strength.
    rows : ndarray of int64
        Images trained on.
    trials : list of Trial
        Of the strengths, with the chosen features; empty if nothing could be held out.
    design : Design
    solution : Solution
    """

    features: int
    copies: str
    gain: float
    strength: float
    rows: IntArray
    trials: list[Trial]
    design: Design
    solution: Solution

    @property
    def head(self) -> Head:
        """The head on the original features."""
        return self.design.head(self.solution)


def fit_cost(examples: int, width: int, labels: int) -> float:
    """Estimate the cost of an exact fit: the numbers that one iteration passes over."""
    return float(examples) * min(examples, width) * labels


def _choose_strength(trials: Sequence[Trial], default_strength: float) -> float:
    """Choose the strength with the lowest loss, if that is clearly lower than the default strength's.

    Clearly: by more than the standard error of the difference. On few recordings the strengths differ by chance, and
    each makes the head another confidence, so that calibration would suffer from a choice among equals.
    """
    if not trials:
        return default_strength
    default = trials[STRENGTHS.index(default_strength)]
    best = min(trials, key=lambda trial: trial.loss)
    gains = default.losses - best.losses
    error = float(gains.std(ddof=1)) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
    return best.strength if float(gains.mean()) > error else default_strength


def _choose_features(trials: Sequence[Sequence[Trial]]) -> int:
    """Choose the feature set with the lowest loss; the first if it makes no mistake or others gain next to nothing."""
    if not trials[0]:
        return 0
    losses = [min(trial.loss for trial in of_set) for of_set in trials]
    best = int(np.argmin(losses))
    without_mistake = any(trial.accuracy == 1 for trial in trials[0])
    return 0 if without_mistake or losses[best] > (1 - _LEAST_GAIN) * losses[0] else best


class ExactTrainer:
    """Fits heads on subsets of images; each fit makes its choices within its subset.

    Parameters
    ----------
    images : sequence of n ChunkImage
    objective : Objective
        Of these images.
    feature_sets : sequence of FeatureSet
        To choose from; the first is the default.
    groups : mapping of (str, str) to str
        Group of each recording.
    apart : int
        Distance in chunks between training and held-out chunks of one recording.
    kinds : mapping of int to frozenset of str
        Augmentations of each copy among the images, by row.
    copies : str or None
        ``none`` or ``all``; None to choose.
    """

    def __init__(
        self,
        images: Sequence[ChunkImage],
        objective: Objective,
        feature_sets: Sequence[FeatureSet],
        groups: Mapping[Recording, str],
        apart: int,
        kinds: Mapping[int, frozenset[str]],
        copies: str | None,
    ) -> None:
        self.images, self.objective, self.labels = images, objective, objective.labels
        self.feature_sets, self.groups, self.apart = feature_sets, groups, apart
        self.kinds, self.copies = kinds, copies
        self.recordings = Groups((image.label, image.recording) for image in images).member
        self._is_copy = np.array([image.copy > 0 for image in images], bool)

    def fit(self, rows: IntArray) -> ExactHead:
        """Choose features, strength and copies on these images, and fit the head on them."""
        kept = rows if self.copies == ALL_COPIES else rows[~self._is_copy[rows]]
        inner = self._inner_folds(kept)
        found = [self._try_features(number, kept, inner) for number in range(len(self.feature_sets))]
        features = _choose_features([trials for _, trials, _ in found])
        designed, trials, path = found[features]
        strength = _choose_strength(trials, self.objective.default_strength)
        copies, gain = self.copies or NO_COPIES, 0.0
        if self.copies is None and self._is_copy[rows].any():
            copies, gain = self._choose_copies(features, strength, rows, inner)
            if copies != NO_COPIES:
                kept = rows[self._with_copies(rows, copies)]
                designed = self._design(features, kept)
        start = path[STRENGTHS.index(strength)] if path and copies == (self.copies or NO_COPIES) else None
        solution = self.solve(designed.rows, kept, strength, start)
        return ExactHead(features, copies, gain, strength, kept, trials, designed, solution)

    def solve(
        self, coordinates: FloatArray, rows: IntArray, strength: float, start: Solution | None = None
    ) -> Solution:
        """Fit images that have these coordinates."""
        return self.objective.fit(coordinates, rows, self.recordings[rows], strength, start)

    def probabilities(self, fitted: ExactHead, rows: IntArray) -> FloatArray:
        """Compute the probabilities of images, shape (len(rows), labels)."""
        features = self.feature_sets[fitted.features].values[rows]
        return fitted.solution.probabilities(fitted.design.project(features))

    def _design(self, features: int, rows: IntArray) -> Design:
        chosen = self.feature_sets[features]
        return design(chosen.values[rows], chosen.widths)

    def _inner_folds(self, rows: IntArray) -> list[tuple[IntArray, IntArray]]:
        """Return the training and the held-out images of each inner fold, as places in `rows`."""
        folds = self.objective.assign_folds([self.images[row] for row in rows], self.groups, _INNER_FOLDS, self.apart)
        pairs = [(train, test) for train, test in zip(folds.training, folds.tests, strict=True) if len(test)]
        width = self.feature_sets[0].values.shape[1]
        dear = fit_cost(len(rows), width, self.labels) > _COST_OF_ALL_INNER_FOLDS
        return pairs[:1] if dear else pairs

    def _try_features(
        self, number: int, rows: IntArray, inner: Sequence[tuple[IntArray, IntArray]]
    ) -> tuple[Design, list[Trial], list[Solution]]:
        """Hold out each inner fold in turn, at all strengths; also returns the last fold's solutions."""
        designed = self._design(number, rows)
        if not inner:
            return designed, [], []
        path: list[Solution] = []
        answers: list[list[FloatArray]] = [[] for _ in STRENGTHS]
        fits = np.zeros((len(STRENGTHS), 2))
        for train, test in inner:
            path = self._fit_path(designed.rows[train], rows[train])
            for place, solution in enumerate(path):
                answers[place].append(solution.probabilities(designed.rows[test]))
                right = self.objective.correct(solution.probabilities(designed.rows[train]), rows[train])
                fits[place] += np.array([solution.loss, right]) / len(inner)
        held_out = rows[np.concatenate([test for _, test in inner])]
        trials = []
        for strength, fit, blocks in zip(STRENGTHS, fits.tolist(), answers, strict=True):
            losses, accuracy = self._score(np.concatenate(blocks), held_out)
            trials.append(Trial(strength, fit[0], fit[1], losses, accuracy))
        return designed, trials, path

    def _score(self, probabilities: FloatArray, rows: IntArray) -> tuple[AnyFloatArray, float]:
        """Return the calibrated loss of each recording, and the accuracy by recording."""
        return self.objective.score(probabilities, rows, Groups(self.recordings[rows].tolist()))

    def _fit_path(self, coordinates: FloatArray, rows: IntArray) -> list[Solution]:
        """Fit one rough solution for each of `STRENGTHS`."""
        recordings = self.recordings[rows]
        return fit_path(
            lambda strength, start: self.objective.fit(coordinates, rows, recordings, strength, start, rough=True)
        )

    def _with_copies(self, rows: IntArray, copies: str) -> BoolArray:
        """Return a mask of the images to train on: no copy, or a copy of the chosen kind."""
        if copies == ALL_COPIES:
            return np.ones(len(rows), bool)
        return np.array([not self._is_copy[row] or copies in self.kinds.get(row, ()) for row in rows.tolist()], bool)

    def _choose_copies(
        self, features: int, strength: float, rows: IntArray, inner: Sequence[tuple[IntArray, IntArray]]
    ) -> tuple[str, float]:
        """Choose the kind of augmented copies that helps most on held-out recordings, if any does, and its gain."""
        if not inner:
            return NO_COPIES, 0.0
        original = rows[~self._is_copy[rows]]
        place = {int(row): number for number, row in enumerate(rows.tolist())}
        designed = self._design(features, rows)
        chunk = Groups((image.label, image.recording, image.index) for image in (self.images[row] for row in rows))
        options = [NO_COPIES, ALL_COPIES, *sorted(set().union(*self.kinds.values()))]
        scores = []
        for option in options:
            allowed, answers = self._with_copies(rows, option), []
            for train, test in inner:
                chunks = np.unique(chunk.member[[place[int(row)] for row in original[train]]])
                chosen = np.flatnonzero(allowed & np.isin(chunk.member, chunks))
                solution = self.solve(designed.rows[chosen], rows[chosen], strength)
                answers.append(solution.probabilities(designed.rows[[place[int(row)] for row in original[test]]]))
            held_out = original[np.concatenate([test for _, test in inner])]
            losses, accuracy = self._score(np.concatenate(answers), held_out)
            scores.append((float(losses.mean()), accuracy))
        best = min(range(len(options)), key=lambda number: scores[number][0])
        if scores[best][0] > (1 - _LEAST_GAIN) * scores[0][0]:
            return NO_COPIES, 0.0
        return options[best], scores[best][1] - scores[0][1]
