"""Evaluation of a model on held-out recordings: predictions, decisions and scores."""

from __future__ import annotations

import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audionet.classifier.decision import Costs, Rule
from audionet.classifier.similarities import LOWEST_SCORE
from audionet.evaluation.batch_inference import (
    DURATIONS_IN_CHUNKS,
    HeldOutPredictions,
    RecordingPrediction,
    as_held_out,
    predict_and_report,
    predict_held_out,
)
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.costs import (
    RuleCheck,
    SelectedRule,
    check_rule,
    decide_out_of_fold,
    parse_costs,
    select_rule,
)
from audionet.evaluation.cross_validated import cross_validated_predictions, is_cross_validated
from audionet.evaluation.recordings import recordings_of_set
from audionet.inference.predictor import Predictor
from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.metrics.classification import Reliability, reliability
from audionet.metrics.detection import Detection, detection, trials
from audionet.utils.arrays import BoolArray, FloatArray, IntArray
from audionet.utils.files import write_json
from audionet.utils.text import escape

log = logging.getLogger(__name__)

_CHECK_FOLDS = 5


@dataclass(frozen=True)
class Evaluation:
    """Predictions and scores of a model on held-out recordings, one prediction per recording.

    Attributes
    ----------
    labels : list of str
    predictions : HeldOutPredictions
    true, given : ndarray of int64, shape (n,)
        True label of each recording of a known label, and the label that the decision rule predicts.
    most_probable : ndarray of int64, shape (n,)
        Most probable label, which is predicted if all mistakes cost the same.
    decided : ndarray of int64, shape (n,)
        As `given`, but -1 where the recording is rejected as unknown.
    unknown_decided : ndarray of int64, shape (m,)
        The same for recordings of none of the labels.
    probabilities, uncalibrated : ndarray of float32, shape (n, labels)
        Label probabilities after and before calibration.
    scores, unknown_scores : ndarray of float32, shapes (n, labels) and (m, labels)
        Similarity of recordings to each label's speaker model.
    rule : Rule
        Decision rule of `given`, and of the model from now on.
    picked : SelectedRule or None
        Selection of a rule, if costs were given.
    check : RuleCheck or None
        Whether the selected rule is worth using; if it is not, `rule` predicts the most probable label.
    by_rule : ndarray of int64, shape (n,)
        Label that the selected rule predicts, whether or not it is used.
    """

    labels: list[str]
    predictions: HeldOutPredictions
    true: IntArray
    given: IntArray
    most_probable: IntArray
    decided: IntArray
    unknown_decided: IntArray
    probabilities: FloatArray
    uncalibrated: FloatArray
    scores: FloatArray
    unknown_scores: FloatArray
    rule: Rule
    picked: SelectedRule | None
    check: RuleCheck | None
    by_rule: IntArray

    @property
    def folds(self) -> int | None:
        """Number of folds, where the predictions are those of a cross-validation."""
        folds = {one.fold for one in self.predictions.recordings}
        return len(folds) if self.predictions.cross_validated else None

    def detection(self, label: int | None = None) -> Detection | None:
        """Compute verification errors (ROC, EER) of one label's trials, or pooled over all recordings and labels."""
        found = trials(*self._every, label)
        return detection(found.scores, found.target)

    @functools.cached_property
    def _every(self) -> tuple[FloatArray, IntArray]:
        """Scores and labels of all recordings, known and unknown; the label of unknown ones is -1."""
        true = np.concatenate([self.true, np.full(len(self.unknown_scores), -1)])
        return np.concatenate([self.scores, self.unknown_scores]), true

    def detection_by_probability(self) -> Detection | None:
        """Compute pooled verification errors with log-probabilities as scores, over recordings of known labels."""
        found = trials(np.log(np.maximum(self.probabilities, 1e-30)), self.true)
        return detection(found.scores, found.target)

    def reliability(self, calibrated: bool) -> Reliability:
        """Compute the reliability diagram of the most probable label's probability."""
        probabilities = self.probabilities if calibrated else self.uncalibrated
        return reliability(probabilities.max(axis=1, initial=0), probabilities.argmax(axis=1) == self.true)

    def lengths(self) -> list[tuple[str, Accuracy]]:
        """Compute the accuracy on clips of each length in `DURATIONS_IN_CHUNKS`, and on whole recordings."""
        points = []
        for length in DURATIONS_IN_CHUNKS:
            clips = [one.by_length[length] for one in self.predictions.recordings]
            right = [predicted == true for predicted, true in zip(clips, self.true, strict=True)]
            groups = [place for place, clip in enumerate(clips) for _ in clip]
            if groups:
                name = f"{length} chunk{'s' if length > 1 else ''}"
                points.append((name, accuracy(np.concatenate(right), groups, self.folds)))
        return [*points, ("whole", accuracy(self.most_probable == self.true, folds=self.folds))]

    def mistakes(self, limit: int) -> list[tuple[int, int]]:
        """Return the most confident mistakes, as numbers of the recording and of its most confident chunk."""
        wrong = np.flatnonzero(self.given != self.true)
        most_confident = wrong[np.argsort(-self.probabilities[wrong, self.given[wrong]], kind="stable")][:limit]
        places = []
        for place in most_confident.tolist():
            one = self.predictions.recordings[place]
            chunks = np.where(one.given == self.given[place], one.sure, -1)
            places.append((place, int(chunks.argmax())))
        return places


def evaluate(predictor: Predictor, config: EvaluateConfig) -> Evaluation:
    """Score the held-out recordings, and decide each one's label.

    Raises
    ------
    DatasetError
        If there are none, or none can be scored.
    UsageError
        If a cost names a label that the model lacks.
    """
    labels = predictor.labels
    number = {label: place for place, label in enumerate(labels)}
    picked, check, rule = None, None, predictor.rule
    if config.drops_rule:
        rule = Rule(Costs(len(labels)))
    selecting = config.cost and not config.drops_rule
    cross_validated = config.test_dir is None and is_cross_validated(predictor)
    stored: list[RecordingPrediction] = []
    if cross_validated or (selecting and is_cross_validated(predictor)):
        stored = cross_validated_predictions(predictor, config)
    if selecting:
        picked, check = _select_rule(predictor, config, stored, parse_costs(config.cost, labels), number)
        rule = picked.rule if check.problem is None else Rule(Costs(len(labels)))
    predictions = as_held_out(predictor, config, stored) if cross_validated else predict_held_out(predictor, config)
    true = np.array([number[one.recorded.label] for one in predictions.recordings], np.int64)
    probabilities, uncalibrated, scores = (
        _stacked([getattr(one, name) for one in predictions.recordings], len(labels))
        for name in ("probabilities", "uncalibrated", "scores")
    )
    unknown_scores = _stacked([one.scores for one in predictions.unknown], len(labels))
    given = rule.decide(probabilities)
    by_rule = given if picked is None else picked.rule.decide(probabilities)
    if cross_validated and picked is not None:
        folds = np.array([one.fold for one in predictions.recordings], np.int64)
        by_rule = decide_out_of_fold(probabilities, true, folds, picked.rule.costs)
        given = by_rule if rule.costs.exceptions else given
    unknown_given = rule.decide(_stacked([one.probabilities for one in predictions.unknown], len(labels)))
    decided, unknown_decided = (
        np.where(_refused(predictor, of_set, of_scores), -1, of_given)
        for of_set, of_scores, of_given in (
            (predictions.recordings, scores, given),
            (predictions.unknown, unknown_scores, unknown_given),
        )
    )
    return Evaluation(
        labels=labels,
        predictions=predictions,
        true=true,
        given=given,
        most_probable=probabilities.argmax(axis=1).astype(np.int64),
        decided=decided,
        unknown_decided=unknown_decided,
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        scores=scores,
        unknown_scores=unknown_scores,
        rule=rule,
        picked=picked,
        check=check,
        by_rule=by_rule,
    )


def _refused(predictor: Predictor, recordings: Sequence[RecordingPrediction], scores: FloatArray) -> BoolArray:
    """Return which recordings are answered unknown: their best score is below the threshold for their length."""
    if predictor.rejection is None:
        return np.zeros(len(recordings), bool)
    thresholds = np.array([predictor.rejection.threshold(len(one.starts)) for one in recordings])
    refused: BoolArray = scores.max(axis=1, initial=LOWEST_SCORE) < thresholds
    return refused


def _select_rule(
    predictor: Predictor,
    config: EvaluateConfig,
    cross_validated: Sequence[RecordingPrediction],
    costs: Costs,
    number: dict[str, int],
) -> tuple[SelectedRule, RuleCheck]:
    """Select the decision rule with the lowest mean cost on the cross-validated or the validation recordings.

    It is checked in the folds of the cross-validation, or leaving out a few of the validation recordings in turn.
    """
    scored = cross_validated
    if not scored:
        scored, _ = predict_and_report(predictor, config, recordings_of_set(predictor, config, "validation"))
    known = [one for one in scored if one.recorded.label in number]
    present = {number[one.recorded.label] for one in known}
    with_costs = dict.fromkeys(place for cost in costs.exceptions for place in (cost.true, cost.predicted))
    if missing := [predictor.labels[place] for place in with_costs if place not in present]:
        log.warning(
            f"no validation recording has the label {', '.join(map(escape, missing))}: their costs remain untested"
        )
    true = np.array([number[one.recorded.label] for one in known], np.int64)
    probabilities = _stacked([one.probabilities for one in known], len(number))
    folds = np.array([i % _CHECK_FOLDS if one.fold is None else one.fold for i, one in enumerate(known)], np.int64)
    return select_rule(probabilities, true, costs), check_rule(probabilities, true, folds, costs)


def store_rule(predictor: Predictor, rule: Rule) -> None:
    """Store a decision rule in the model, which then decides by it.

    Raises
    ------
    ModelError
        If the model has been trained again since it was loaded.
    """
    card = predictor.unchanged_card("run evaluate.py again")
    stored = rule.as_json(predictor.labels) if rule.costs.exceptions else None
    write_json(predictor.card_path, card | {"decision": stored})


def _stacked(rows: Sequence[FloatArray], width: int) -> FloatArray:
    return np.stack(rows) if rows else np.zeros((0, width), np.float32)
