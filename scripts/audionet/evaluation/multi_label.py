"""Evaluation of a model that answers with several labels at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from audionet.classifier.multi_label import fit_thresholds_out_of_fold
from audionet.data.naming import join_labels
from audionet.errors import UsageError
from audionet.evaluation.batch_inference import (
    HeldOutPredictions,
    RecordingPrediction,
    as_held_out,
    labels_of,
    predict_held_out,
)
from audionet.evaluation.comparison import answers_json
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.cross_validated import cross_validated_predictions, is_cross_validated
from audionet.evaluation.multi_label_verdict import multi_label_verdict
from audionet.evaluation.summary import describe_data, describe_model
from audionet.inference.predictor import Predictor
from audionet.metrics.multi_label import MultiLabelScores, multi_label_json, multi_label_scores
from audionet.utils.arrays import BoolArray, FloatArray


class MultiLabelMistake(NamedTuple):
    """Recording that is answered with other labels than its own.

    Attributes
    ----------
    recording : RecordingPrediction
    missed, wrong : list of str
        Labels that it has and is not answered with, and the other way round; the most certain first.
    """

    recording: RecordingPrediction
    missed: list[str]
    wrong: list[str]


@dataclass(frozen=True)
class MultiLabelEvaluation:
    """Answers of a model on held-out recordings, any number of labels for each.

    Attributes
    ----------
    labels : list of str
    predictions : HeldOutPredictions
        None of which is of an unknown voice: a recording without a label of the model's has none.
    present, answered : ndarray of bool, shape (recordings, labels)
        Labels of each recording, and those that it is answered with. In a cross-validation no recording is decided by
        a threshold that was fitted on it.
    probabilities : ndarray of float32, shape (recordings, labels)
    scores : MultiLabelScores
    """

    labels: list[str]
    predictions: HeldOutPredictions
    present: BoolArray
    answered: BoolArray
    probabilities: FloatArray
    scores: MultiLabelScores

    def mistakes(self, limit: int) -> list[MultiLabelMistake]:
        """Return the recordings with the most confident mistakes, at most `limit`."""
        differ = self.present != self.answered
        sure = np.where(differ, np.where(self.present, 1 - self.probabilities, self.probabilities), 0)
        order = np.argsort(-sure.max(axis=1), kind="stable")[: min(limit, int(differ.any(axis=1).sum()))]
        return [
            MultiLabelMistake(
                self.predictions.recordings[place],
                self._ranked(sure[place], differ[place] & self.present[place]),
                self._ranked(sure[place], differ[place] & self.answered[place]),
            )
            for place in order.tolist()
        ]

    def _ranked(self, sure: FloatArray, chosen: BoolArray) -> list[str]:
        return [self.labels[k] for k in np.argsort(-sure, kind="stable").tolist() if chosen[k]]


def evaluate_multi_label(predictor: Predictor, config: EvaluateConfig) -> MultiLabelEvaluation:
    """Score the held-out recordings, and decide which labels each has.

    Raises
    ------
    DatasetError
        If there are none, or none can be scored.
    UsageError
        If costs are given: they go with one label at a time.
    """
    assert predictor.thresholds is not None
    for flag, given in (("cost", config.cost), ("labels_dir", config.labels_dir)):
        if given:
            raise UsageError(f"--{flag} goes with one label at a time: this model answers with several")
    cross_validated = config.test_dir is None and is_cross_validated(predictor)
    predictions = (
        as_held_out(predictor, config, cross_validated_predictions(predictor, config))
        if cross_validated
        else predict_held_out(predictor, config)
    )
    number = {label: place for place, label in enumerate(predictor.labels)}
    present = np.zeros((len(predictions.recordings), len(number)), bool)
    for row, one in enumerate(predictions.recordings):
        known = [number[label] for label in labels_of(predictor, one.recorded.label) if label in number]
        present[row, known] = True
    probabilities = np.stack([one.probabilities for one in predictions.recordings])
    folds = np.array([-1 if one.fold is None else one.fold for one in predictions.recordings], np.int64)
    answered = (
        fit_thresholds_out_of_fold(probabilities, present, folds)
        if cross_validated
        else predictor.thresholds.decide(probabilities)
    )
    scores = multi_label_scores(probabilities, present, answered, len(np.unique(folds)) if cross_validated else None)
    return MultiLabelEvaluation(predictor.labels, predictions, present, answered, probabilities, scores)


def summarise_multi_label(found: MultiLabelEvaluation, predictor: Predictor, config: EvaluateConfig) -> dict[str, Any]:
    """Build the content of report.json."""
    assert predictor.thresholds is not None
    card = predictor.card
    scores = multi_label_json(found.scores, found.labels)
    for entry, threshold in zip(scores["labels"], predictor.thresholds.values.tolist(), strict=True):
        entry["threshold"] = threshold
    content = {
        "model": describe_model(predictor, len(found.labels)),
        "data": describe_data(found.predictions, predictor, config),
        "multi_label": scores,
        "mfcc_statistics": card["multi_label"].get("mfcc_statistics"),
        "mistakes": [
            {
                "file": str(one.recording.recorded.paths[0]),
                "labels": list(labels_of(predictor, one.recording.recorded.label)),
                "missed": one.missed,
                "wrong": one.wrong,
            }
            for one in found.mistakes(config.worst)
        ],
        "label_names": found.labels,
        "recordings": answers_json(
            [one.recorded for one in found.predictions.recordings],
            [join_labels(found.labels[k] for k in np.flatnonzero(row)) for row in found.answered],
            (found.answered == found.present).all(axis=1).tolist(),
        ),
    }
    return {"verdict": multi_label_verdict(content).as_json(), **content}
