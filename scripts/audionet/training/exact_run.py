"""Training by exact fits: cross-validated on every recording, and published from a fit on all of them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from audionet.augment.waveform import kinds_of_copy
from audionet.backbones.bottlenecks import compute_bottlenecks
from audionet.backbones.registry import Backbone
from audionet.classifier.calibration import Calibration, apply_temperature, fit_calibration
from audionet.classifier.embedding import EmbeddingSpace
from audionet.classifier.open_set import fit_open_set
from audionet.classifier.similarities import are_voices, choose_segments
from audionet.data.augmented_copies import copy_identity
from audionet.data.dataset import read_augmentation
from audionet.data.folds import assign_folds
from audionet.errors import DatasetError
from audionet.metrics.accuracy import Accuracy, Groups, accuracy
from audionet.training.config import RetrainConfig
from audionet.training.cross_validation import (
    OutOfFold,
    compare_speakers,
    cross_validate,
    embedding_examples,
    leaky_accuracy_rows,
)
from audionet.training.data_module import Data
from audionet.training.datasets import FeatureExamples
from audionet.training.exact_fit import STRENGTHS
from audionet.training.exact_head import ALL_COPIES, NO_COPIES, ExactHead, ExactTrainer, FeatureSet
from audionet.training.features import MFCC, head_fields, head_widths, with_statistics
from audionet.training.objective import MultiLabel, SingleLabel
from audionet.training.results import CrossValidation, CurveShare, Trained, test_result
from audionet.training.train_loop import Fit
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.plots import CurvePoint
from audionet.utils.process import available_cores

log = logging.getLogger(__name__)

_SHARES = (0.25, 0.5)
_PLOTTED_SHARES = (0.125, 0.25, 0.5, 0.75)


def train_cross_validated(
    data: Data, backbones: Sequence[Backbone], config: RetrainConfig, points: IntArray, summaries: Path
) -> Trained:
    """Fit a head on all recordings, and test its kind on every recording by models that were not trained on it.

    Parameters
    ----------
    data : Data
        With folds, and the bottlenecks of the first backbone.
    backbones : sequence of Backbone
        To choose from; the first is the default.
    config : RetrainConfig
    points : ndarray of int64
        Sample of images, for the projector and the check of the exported file.
    summaries : Path
        Folder of this training's TensorBoard logs.
    """
    assert data.folds is not None
    choices, sets = feature_choices(data, backbones, config)
    trainer = make_trainer(data, sets, config)
    embedded = choose_embedded(data, np.arange(len(data.bottlenecks.images)))
    shares = _PLOTTED_SHARES if config.learning_curve else _SHARES
    found = cross_validate(trainer, data.folds, shares)
    fitted = trainer.fit(np.flatnonzero(data.targets >= 0))
    chosen = trainer.feature_sets[fitted.features]
    compared = compare_speakers(trainer, data.targets, data.folds, found, embedded, data.speech)
    voices = data.speech and chosen.voice_space is not None and are_voices(*compared)
    held_out = compared[1 if voices else 0]
    open_set = fit_open_set(
        embedding_examples(trainer, chosen, data.targets, embedded),
        held_out,
        chosen.widths,
        chosen.voice_space if voices else None,
        config.unknown_rate,
        None if chosen.voice_space is None else voices,
    )
    scores = held_out.scaled(open_set.comparison).values[: len(found.rows)]
    recordings = _recordings(data, found.rows)
    calibration = fit_calibration(found.probabilities, scores, data.targets[found.rows], recordings)
    probabilities = calibration.apply(found.probabilities, scores)
    baseline, baseline_answers = _baseline(data, config, found.rows)
    rows, leaky = leaky_accuracy_rows(trainer, fitted, len(data.folds), config.seed)
    test = test_result(
        probabilities,
        scores,
        open_set.rejection,
        baseline_answers,
        accuracy(leaky.argmax(axis=1) == data.targets[rows]) if len(rows) else None,
        [data.bottlenecks.images[row] for row in found.rows.tolist()],
        data.activity[found.rows],
        data.labels,
        len(data.folds),
    )
    again = _repeated(data, trainer, config, calibration, open_set.comparison, embedded)
    repeats = [_right_by_recording(data, found.rows, probabilities), *again]
    curve = _learning_curve(data, found, calibration.temperature, shares)
    validated = CrossValidation(found, scores, baseline_answers, curve, repeats, fitted)
    return Trained(
        data=data,
        backbone=choices[fitted.features],
        head=fitted.head.with_temperature(calibration.temperature),
        calibration=calibration,
        open_set=open_set,
        baseline=None if baseline is None else baseline.head,
        fitted=course(fitted),
        config=config,
        validation_accuracy=None,
        test=test if len(found.rows) else None,
        points=[data.bottlenecks.images[row] for row in points.tolist()],
        features=chosen.values[points],
        summaries=summaries,
        temporary_files=[],
        cross_validation=validated if len(found.rows) else None,
    )


def exact_trainer(data: Data, fields: list[str], widths: list[int], config: RetrainConfig) -> ExactTrainer:
    """Create a trainer on all images with these fields of the bottleneck cache, and their widths."""
    every = np.arange(len(data.bottlenecks.images))
    return make_trainer(data, [FeatureSet(fields, widths, data.some_features(every, fields))], config)


def make_trainer(data: Data, sets: Sequence[FeatureSet], config: RetrainConfig) -> ExactTrainer:
    """Create a trainer on all images, which chooses among these feature sets."""
    return ExactTrainer(
        data.bottlenecks.images,
        SingleLabel(data.targets, len(data.labels), config.class_weights == "balanced")
        if data.present is None
        else MultiLabel(data.present),
        sets,
        data.groups,
        data.apart,
        _kinds(data, config) if config.augmented == "auto" else {},
        {"auto": None, "all": ALL_COPIES, "none": NO_COPIES}[config.augmented],
    )


def choose_embedded(data: Data, rows: IntArray) -> IntArray:
    """Choose the images that speaker models are fitted on: no augmented copies, of labels and of the background."""
    original = rows[[not data.bottlenecks.images[row].copy for row in rows.tolist()]]
    images = [data.bottlenecks.images[row] for row in original.tolist()]
    chosen: IntArray = original[choose_segments(images, data.targets[original])]
    return chosen


def feature_choices(
    data: Data, backbones: Sequence[Backbone], config: RetrainConfig
) -> tuple[list[Backbone], list[FeatureSet]]:
    """Return the feature sets to choose from, with their backbones: each network's, alone and with MFCC statistics."""
    choices, sets = [], []
    for number, backbone in enumerate(backbones):
        records = data.bottlenecks.records
        if number:
            images = data.bottlenecks.images
            found = compute_bottlenecks(images, backbone, config.bottleneck_dir, available_cores(), config.scheduler)
            if len(found.images) < len(images):
                raise DatasetError("images have changed since training started: run it again")
            records = found.records
        alone = backbone.statistics is not None or config.statistics == "none" or not data.has_mfcc
        joined = backbone if alone else with_statistics(backbone, "mfcc")
        # The network's features are the first columns of the joined ones: one array holds both.
        values = FeatureExamples(records, data.targets, head_fields(joined)).all()
        variants = [joined] if alone or config.statistics == "mfcc" else [backbone, joined]
        choices += variants
        for one in variants:
            widths = head_widths(one)
            sets.append(FeatureSet(head_fields(one), widths, values[:, : sum(widths)], one.voice_space))
    return choices, sets


def _kinds(data: Data, config: RetrainConfig) -> Mapping[int, frozenset[str]]:
    """Return the augmentations of each augmented copy, by row; they follow from the recipe and the copy's name."""
    images = data.bottlenecks.images
    recipe = read_augmentation(config.image_dir) if any(image.copy for image in images) else None
    if not recipe or not {"kinds", "seed"} <= set(recipe):
        return {}
    return {
        row: kinds_of_copy(
            tuple(recipe["kinds"]),
            int(recipe["seed"]),
            copy_identity(image.label, image.recording, image.index, image.copy),
        )
        for row, image in enumerate(images)
        if image.copy
    }


def _recordings(data: Data, rows: IntArray) -> list[tuple[str, str]]:
    images = [data.bottlenecks.images[row] for row in rows.tolist()]
    return [(image.label, image.recording) for image in images]


def _right_by_recording(data: Data, rows: IntArray, probabilities: FloatArray) -> Accuracy:
    groups = Groups(_recordings(data, rows))
    assert data.folds is not None
    means = groups.mean(probabilities, data.activity[rows])
    return accuracy(means.argmax(axis=1) == groups.value(data.targets[rows]), folds=len(data.folds))


def _repeated(
    data: Data,
    trainer: ExactTrainer,
    config: RetrainConfig,
    calibration: Calibration,
    comparison: EmbeddingSpace,
    embedded: IntArray,
) -> list[Accuracy]:
    """Cross-validate again with other folds, for ``--repeats``."""
    results = []
    for repeat in range(1, config.repeats):
        folds = assign_folds(data.bottlenecks.images, data.groups, config.folds, data.apart, repeat)
        found = cross_validate(trainer, folds, title=f"Repeat {repeat + 1}")
        compared = compare_speakers(trainer, data.targets, folds, found, embedded, comparison.voice_space is not None)
        scores = compared[-1].scaled(comparison).values[: len(found.rows)]
        results.append(_right_by_recording(data, found.rows, calibration.apply(found.probabilities, scores)))
    return results


def _learning_curve(data: Data, found: OutOfFold, temperature: float, shares: Sequence[float]) -> list[CurveShare]:
    """Compute the accuracy of heads on shares of the recordings that a fold trains on, and on all of them."""
    if not len(found.rows):
        return []
    parts = zip((*shares, 1.0), (*found.with_fewer, found.probabilities), strict=True)
    return [
        CurveShare(share, _right_by_recording(data, found.rows, apply_temperature(part, temperature)))
        for share, part in parts
    ]


def _baseline(data: Data, config: RetrainConfig, rows: IntArray) -> tuple[ExactHead, FloatArray] | tuple[None, None]:
    """Cross-validate and fit a head on MFCC statistics in the same folds, if the images are mel spectrograms."""
    if not data.has_mfcc or not len(rows):
        return None, None
    assert data.folds is not None
    trainer = exact_trainer(data, *MFCC, config)
    found = cross_validate(trainer, data.folds, title="Baseline")
    return trainer.fit(np.flatnonzero(data.targets >= 0)), found.probabilities


def course(fitted: ExactHead) -> Fit:
    """Describe the choice of the strength as the course of a training, for curves.png and TensorBoard."""
    points = [
        point
        for number, trial in enumerate(fitted.trials, 1)
        for point in (
            CurvePoint("training", number, trial.training_loss, trial.training_accuracy),
            CurvePoint("validation", number, trial.loss, trial.accuracy),
        )
    ]
    kept = STRENGTHS.index(fitted.strength) + 1
    return Fit(kept, None, fitted.solution.iterations, points, STRENGTHS)
