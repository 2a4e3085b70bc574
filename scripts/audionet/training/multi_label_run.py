"""Training of a model that answers with several labels at a time: cross-validated, and published from a fit on all."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from audionet.backbones.registry import Backbone
from audionet.classifier.calibration import Calibration
from audionet.classifier.embedding import EmbeddingExamples, fit_embedding_spaces
from audionet.classifier.multi_label import (
    apply_independent_temperature,
    fit_independent_temperature,
    fit_thresholds,
    fit_thresholds_out_of_fold,
    pool_recordings,
)
from audionet.classifier.open_set import OpenSet
from audionet.classifier.similarities import LOWEST_SCORE, segments_of
from audionet.classifier.threshold import KnownScores
from audionet.metrics.accuracy import Groups
from audionet.metrics.multi_label import MultiLabelScores, multi_label_scores
from audionet.training.config import RetrainConfig
from audionet.training.cross_validation import OutOfFold, cross_validate
from audionet.training.data_module import Data
from audionet.training.exact_head import FeatureSet
from audionet.training.exact_run import choose_embedded, course, exact_trainer, feature_choices, make_trainer
from audionet.training.features import MFCC
from audionet.training.results import CrossValidation, MultiLabelTraining, Trained
from audionet.utils.arrays import BoolArray, FloatArray, IntArray

log = logging.getLogger(__name__)


def train_multi_label(
    data: Data, backbones: Sequence[Backbone], config: RetrainConfig, points: IntArray, summaries: Path
) -> Trained:
    """Fit a head with one logistic output per label on all recordings, and cross-validate it.

    Parameters
    ----------
    data, backbones, config, points, summaries
        As for `train_cross_validated`.
    """
    assert data.folds is not None
    assert data.present is not None
    choices, sets = feature_choices(data, backbones, config)
    trainer = make_trainer(data, sets, config)
    found = cross_validate(trainer, data.folds)
    fitted = trainer.fit(np.arange(len(data.bottlenecks.images)))
    chosen = trainer.feature_sets[fitted.features]
    recordings, weights = _recordings(data, found.rows), data.activity[found.rows]
    present = recordings.value(data.present[found.rows])
    temperature = fit_independent_temperature(found.probabilities, weights, present, recordings)
    pooled = pool_recordings(apply_independent_temperature(found.probabilities, temperature), weights, recordings)
    answered = fit_thresholds_out_of_fold(pooled, present, recordings.value(found.fold))
    tested = multi_label_scores(pooled, present, answered, len(data.folds)) if len(found.rows) else None
    validated = CrossValidation(
        found, np.full(found.probabilities.shape, LOWEST_SCORE, np.float32), None, [], [], fitted
    )
    return Trained(
        data=data,
        backbone=choices[fitted.features],
        head=fitted.head.with_temperature(temperature),
        calibration=Calibration(temperature),
        open_set=_labels_compared(data, chosen),
        baseline=None,
        fitted=course(fitted),
        config=config,
        validation_accuracy=None,
        test=None,
        points=[data.bottlenecks.images[row] for row in points.tolist()],
        features=chosen.values[points],
        summaries=summaries,
        temporary_files=[],
        cross_validation=validated if tested is not None else None,
        multi_label=MultiLabelTraining(
            fit_thresholds(pooled, present),
            tested,
            None if tested is None else _baseline(data, config, found, recordings, weights, present),
        ),
    )


def _recordings(data: Data, rows: IntArray) -> Groups[tuple[str, str]]:
    images = [data.bottlenecks.images[row] for row in rows.tolist()]
    return Groups((image.label, image.recording) for image in images)


def _labels_compared(data: Data, features: FeatureSet) -> OpenSet:
    """Fit the embedding space and a model of each label; an image counts for every label that it has."""
    assert data.present is not None
    rows = choose_embedded(data, np.arange(len(data.bottlenecks.images)))
    of_row, labels = np.nonzero(data.present[rows])
    without = np.flatnonzero(~data.present[rows].any(axis=1))
    places = rows[np.concatenate([of_row, without])]
    sample = EmbeddingExamples(
        features.values[places],
        np.concatenate([labels, np.full(len(without), -1)]),
        segments_of([data.bottlenecks.images[row] for row in places.tolist()]),
    )
    (space,) = fit_embedding_spaces(sample, features.widths, [None])
    nothing, none = np.zeros(0, np.float32), np.zeros(0, np.int64)
    return OpenSet(space, None, KnownScores(nothing, nothing, none, none, none), 0.0, None)


def _baseline(
    data: Data,
    config: RetrainConfig,
    found: OutOfFold,
    recordings: Groups[tuple[str, str]],
    weights: FloatArray,
    present: BoolArray,
) -> MultiLabelScores | None:
    """Score a head on MFCC statistics in the same folds, if the images are mel spectrograms."""
    if not data.has_mfcc:
        return None
    assert data.folds is not None
    answers = cross_validate(exact_trainer(data, *MFCC, config), data.folds, title="Baseline")
    assert (answers.rows == found.rows).all()
    pooled = pool_recordings(answers.probabilities, weights, recordings)
    return multi_label_scores(pooled, present, pooled > 0.5, len(data.folds))
