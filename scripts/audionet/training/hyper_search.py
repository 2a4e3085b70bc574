"""Looking for a better top: settings tried by cross-validation on cached features, recordings kept together."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from audionet.errors import DatasetError
from audionet.training.config import LEARNING_RATES, RetrainConfig
from audionet.training.datasets import FeatureExamples
from audionet.training.head_training import train_head
from audionet.utils.progress import tracked
from audionet.utils.text import escape, format_table

log = logging.getLogger(__name__)


_FOLDS = 4
_SHOWN = 5


class Tried(NamedTuple):
    """A setting, and how it did on the folds it was not trained on."""

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
    """The config with the best of ``hyper_search`` settings; the first one tried is the config's own.

    Each is trained once for each of four folds (fewer where a label has fewer recordings), on the others, for all its
    steps, and judged by the fold's right answers: by the loss where those are equal. A recording is in one fold only.
    The test set takes no part.

    Parameters
    ----------
    examples : FeatureExamples
        Training and validation set.
    recordings : sequence of hashable
        What each example belongs to.
    labels : int
    widths : sequence of int
        Widths of the parts that the features are joined of.
    config : RetrainConfig
    """
    folds = _folds(examples.labels, recordings)
    generator = np.random.default_rng(config.seed)
    settings = [{}, *(_draw(generator) for _ in range(config.hyper_search - 1))]
    tried = [
        _judge(examples, folds, labels, widths, config, change)
        for change in tracked(settings, "Searching", "settings", len(settings))
    ]
    # By the folds' accuracy to a tenth of a percent: less is chance, and the loss says more.
    ranked = sorted(tried, key=lambda one: (-round(one.accuracy, 3), one.loss))
    rows = [
        [
            ", ".join(f"{name} {value}" for name, value in one.settings.items()) or "as asked",
            f"{one.accuracy:.1%}",
            f"{one.loss:.3f}",
        ]
        for one in ranked[:_SHOWN]
    ]
    log.info(format_table([f"best of {len(tried)} settings", "accuracy", "loss"], rows))
    return dataclasses.replace(config, **ranked[0].settings)


def _draw(generator: np.random.Generator) -> dict[str, Any]:
    """A setting of the top and its regularisation."""
    head = str(generator.choice(["linear", "mlp", "cosine"]))
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


def _words(settings: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in settings.items()) or "as asked"


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")


def _folds(labels: Any, recordings: Sequence[tuple[str, str]]) -> list[tuple[Any, Any]]:
    """Rows to train on and to judge by, for each fold: labels spread evenly, recordings whole."""
    from sklearn.model_selection import StratifiedGroupKFold

    groups = np.unique([f"{label}/{recording}" for label, recording in recordings], return_inverse=True)[1]
    of_label = np.bincount(np.unique(np.stack([labels, groups]), axis=1)[0])
    if of_label.min() < 2:
        label = next(recordings[i][0] for i in range(len(labels)) if of_label[labels[i]] < 2)
        raise DatasetError(
            f"--hyper_search judges settings on recordings they were not trained on, and '{escape(label)}' has "
            "one to train on: record more of it, or leave --hyper_search out"
        )
    folds = min(_FOLDS, int(of_label.min()))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    return list(splitter.split(np.zeros(len(labels)), labels, groups))


def _judge(
    examples: FeatureExamples,
    folds: Sequence[tuple[Any, Any]],
    labels: int,
    widths: Sequence[int],
    config: RetrainConfig,
    settings: dict[str, Any],
) -> Tried:
    config = dataclasses.replace(config, **settings)
    right, losses = 0.0, 0.0
    for training, judged in folds:
        # No validation set: choosing the best step by the fold would flatter whatever wavers most.
        head, _ = train_head(examples.some(training), examples.some(judged[:0]), labels, widths, config)
        held = examples.some(judged)
        probabilities = head.answers(held.blocks())
        right += float((probabilities.argmax(axis=1) == held.labels).sum())
        losses += float(-np.log(np.maximum(probabilities[np.arange(len(judged)), held.labels], 1e-12)).sum())
    return Tried(right / len(examples.labels), losses / len(examples.labels), settings)
