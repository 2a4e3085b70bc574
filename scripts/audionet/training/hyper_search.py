"""Hyperparameter search for the classifier head: cross-validation on cached bottlenecks, grouped by recording."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from audionet.classifier.head import Head
from audionet.errors import DatasetError
from audionet.metrics.accuracy import Groups
from audionet.training.config import LEARNING_RATES, RetrainConfig, StepConfig
from audionet.training.datasets import FeatureExamples
from audionet.training.exact_fit import DEFAULT_STRENGTH, design, fit_logistic, recording_weights
from audionet.training.head_training import train_head
from audionet.utils.arrays import IntArray
from audionet.utils.progress import tracked
from audionet.utils.text import escape, format_table

log = logging.getLogger(__name__)

_MAX_FOLDS = 4
_SETTINGS_SHOWN = 5


class Trial(NamedTuple):
    """Settings with their cross-validation accuracy and mean cross entropy."""

    accuracy: float
    loss: float
    settings: dict[str, Any]


def search(
    examples: FeatureExamples,
    recordings: Sequence[tuple[str, str]],
    labels: int,
    widths: Sequence[int],
    config: RetrainConfig,
) -> RetrainConfig:
    """Return the config with the best of ``hyper_search`` settings, of which the first is the config's own.

    The others are heads that are trained in steps and are not linear: the exact fit leaves nothing to search for.

    For each of four folds (fewer where a label has fewer recordings), a head is trained on the other folds for all its
    steps and scored on that fold: by accuracy, then by loss. A recording is in one fold only. The test set takes no
    part.

    Parameters
    ----------
    examples : FeatureExamples
        Examples of the training and the validation set.
    recordings : sequence of (str, str)
        Label and name of each example's recording.
    labels : int
    widths : sequence of int
        Widths of the joined parts of the features.
    config : RetrainConfig
    """
    folds, groups = _folds(examples.labels, recordings), Groups(recordings).member
    generator = np.random.default_rng(config.seed)
    settings = [{}, *(_draw(generator) for _ in range(config.hyper_search - 1))]
    trials = [
        _evaluate(examples, folds, groups, labels, widths, config, changes)
        for changes in tracked(settings, "Searching", "settings", len(settings))
    ]
    # Accuracy is rounded to 0.1 %: smaller differences are chance, and the loss is more informative.
    ranked = sorted(trials, key=lambda trial: (-round(trial.accuracy, 3), trial.loss))
    rows = [
        [_format_settings(trial.settings), f"{trial.accuracy:.1%}", f"{trial.loss:.3f}"]
        for trial in ranked[:_SETTINGS_SHOWN]
    ]
    log.info(format_table([f"best of {len(trials)} settings", "accuracy", "loss"], rows))
    return with_settings(config, ranked[0].settings)


def with_settings(config: RetrainConfig, settings: dict[str, Any]) -> RetrainConfig:
    """Return the config with other settings of training in steps."""
    if not settings:
        return config
    others = {name: value for name, value in settings.items() if name != "head"}
    return dataclasses.replace(
        config, head=settings["head"], steps=dataclasses.replace(config.steps or StepConfig(), **others)
    )


def _draw(generator: np.random.Generator) -> dict[str, Any]:
    """Draw random settings of the head and its regularisation."""
    head = str(generator.choice(["mlp", "cosine"]))
    settings: dict[str, Any] = {
        "head": head,
        "learning_rate": _rounded(LEARNING_RATES[head] * 10 ** generator.uniform(-1, 0.5)),
        "weight_decay": _rounded(10 ** generator.uniform(-5, -1)),
        "l2": 0.0 if generator.random() < 0.5 else _rounded(10 ** generator.uniform(-6, -3)),
        "dropout": float(generator.choice([0.0, 0.2, 0.4])),
        "label_smoothing": float(generator.choice([0.0, 0.05, 0.1])),
    }
    if head == "mlp":
        settings["hidden_units"] = int(generator.choice([64, 128, 256, 512]))
    return settings


def _format_settings(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "as given"


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _folds(labels: Any, recordings: Sequence[tuple[str, str]]) -> list[tuple[Any, Any]]:
    """Split rows into training and held-out rows for each fold, stratified by label and grouped by recording."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.unique([f"{label}/{recording}" for label, recording in recordings], return_inverse=True)[1]
    recordings_per_label = np.bincount(np.unique(np.stack([labels, groups]), axis=1)[0])
    if recordings_per_label.min() < 2:
        label = next(recordings[i][0] for i in range(len(labels)) if recordings_per_label[labels[i]] < 2)
        raise DatasetError(
            f"--hyper_search cross-validates between recordings, and '{escape(label)}' has only one outside the test "
            "set: record more of it, or leave out --hyper_search"
        )
    folds = min(_MAX_FOLDS, int(recordings_per_label.min()))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(labels)), labels, groups))


def _evaluate(
    examples: FeatureExamples,
    folds: Sequence[tuple[Any, Any]],
    recordings: IntArray,
    labels: int,
    widths: Sequence[int],
    config: RetrainConfig,
    settings: dict[str, Any],
) -> Trial:
    config = with_settings(config, settings)
    correct, losses = 0.0, 0.0
    for training, held_out in folds:
        # No validation set: choosing the best step on the held-out fold would favour settings that fluctuate.
        if config.exact:
            head = _fit_exactly(examples.some(training), training, recordings, labels, widths)
        else:
            head, _ = train_head(examples.some(training), examples.some(held_out[:0]), labels, widths, config.stepping)
        held = examples.some(held_out)
        probabilities = head.answers(held.blocks())
        correct += float((probabilities.argmax(axis=1) == held.labels).sum())
        losses += float(-np.log(np.maximum(probabilities[np.arange(len(held_out)), held.labels], 1e-12)).sum())
    return Trial(correct / len(examples.labels), losses / len(examples.labels), settings)


def _fit_exactly(
    training: FeatureExamples, rows: IntArray, recordings: IntArray, labels: int, widths: Sequence[int]
) -> Head:
    designed = design(training.all(), widths)
    weights = recording_weights(recordings[rows])
    return designed.head(fit_logistic(designed.rows, training.labels, labels, weights, DEFAULT_STRENGTH))
