"""A model's JSON, parsed: every field that is read later has its type and range, or the JSON is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from audionet.audio.network_input import STATISTICS_WIDTHS
from audionet.classifier.calibration import Calibration
from audionet.classifier.decision import Costs, Rule
from audionet.classifier.multi_label import LabelThresholds
from audionet.classifier.rejection import RejectionRule
from audionet.errors import DamagedError
from audionet.utils.json_files import (
    checked_real,
    field,
    nullable_field,
    objects,
    optional_field,
    real,
    texts,
    whole,
)

_LEAST_TEMPERATURE, _MOST_CALIBRATION = 1e-3, 1e3  # fitted ones are 0.007 to 148


class Written(NamedTuple):
    """Files of a model that its JSON names by their hashes.

    Attributes
    ----------
    graph, arrays : str
        SHA-256 of the LiteRT file and of the arrays.
    exports : mapping of str to dict
        The model in other formats, by file name, each with its ``sha256``.
    """

    graph: str
    arrays: str
    exports: Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class ModelCard:
    """Content of a model's JSON that labelling depends on.

    Attributes
    ----------
    labels : list of str
    statistics : str or None
        Image statistics that the network takes as its second input.
    calibration : Calibration
    rule : Rule
    rejection : RejectionRule or None
        None if the model never answers unknown.
    spoken : bool
        Whether chunks without speech do not count.
    asked_rate : float
        False acceptance rate that was asked for at training, 0 to 1; 0: none.
    thresholds : LabelThresholds or None
        Where several labels may be present at a time.
    """

    labels: list[str]
    statistics: str | None
    calibration: Calibration
    rule: Rule
    rejection: RejectionRule | None
    spoken: bool
    asked_rate: float
    thresholds: LabelThresholds | None = None


def parse_written(card: dict[str, Any]) -> Written:
    """Parse the hashes of a model's files.

    Raises
    ------
    DamagedError
        If one is missing or of another type.
    """
    exports = objects(card, "exports")
    for name, export in exports.items():
        if name in ("", ".", "..") or "/" in name or "\\" in name or "\0" in name:
            raise DamagedError("'exports' names a file outside of its folder")
        field(export, "sha256", str)
    return Written(field(card, "graph_sha256", str), field(card, "arrays_sha256", str), exports)


def parse_card(card: dict[str, Any]) -> ModelCard:
    """Parse a model's JSON, and check the fields that reports and the service show.

    Raises
    ------
    DamagedError
        If a field is missing, of another type, or out of its range.
    ModelError
        If the decision rule is not one for these labels.
    """
    _check_shown(card)
    labels = texts(card, "labels")
    if not labels or len(set(labels)) < len(labels):
        raise DamagedError("'labels' are none, or not all different")
    backbone, open_set = field(card, "backbone", dict), field(card, "open_set", dict)
    statistics, decision = nullable_field(backbone, "statistics", str), nullable_field(card, "decision", dict)
    if statistics is not None and statistics not in STATISTICS_WIDTHS:
        raise DamagedError("'statistics' are unknown")
    stored = field(card, "calibration", dict)
    return ModelCard(
        labels,
        statistics,
        Calibration(
            real(stored, "temperature", _LEAST_TEMPERATURE, _MOST_CALIBRATION),
            *(real(stored, name, 0, _MOST_CALIBRATION) for name in ("head_weight", "score_weight")),
        ),
        Rule(Costs(len(labels))) if decision is None else Rule.from_json(decision, labels),
        RejectionRule.from_json(nullable_field(open_set, "rejection", dict)),
        field(card, "speech", bool),
        real(open_set, "asked_rate", 0, 1),
        _thresholds(optional_field(card, "multi_label", dict), len(labels)),
    )


def _thresholds(stored: dict[str, Any] | None, labels: int) -> LabelThresholds | None:
    if stored is None:
        return None
    values = [checked_real(value, "thresholds", 0, 1) for value in field(stored, "thresholds", list)]
    if len(values) != labels:
        raise DamagedError("its thresholds are not those of its labels")
    return LabelThresholds(np.array(values, np.float64))


def _check_shown(card: dict[str, Any]) -> None:
    """Raise DamagedError unless the fields that are only shown have their types."""
    field(field(card, "backbone", dict), "name", str)
    open_set, training = field(card, "open_set", dict), field(card, "training", dict)
    field(open_set, "network_had_heard_those_left_out", bool)
    whole(open_set, "stretches_left_out")
    if "stretches_accepted" in open_set:  # earlier versions did not count them
        whole(open_set, "stretches_accepted")
    optional_field(open_set, "spares_known", bool)
    if optional_field(open_set, "stretches_needed", int) is not None:
        whole(open_set, "stretches_needed")
    if real(training, "validation_percentage", 0, 100) + real(training, "testing_percentage", 0, 100) > 100:
        raise DamagedError("its sets take more than 100 percent")
    for name in ("head", "group"):
        optional_field(training, name, str)
    split = field(card, "split", dict)
    for name in ("chunks", "recordings"):
        whole(field(split, "training", dict), name)
    texts(split, "heard_in_training")
    whole(field(card, "calibration", dict), "recordings")
    validated, test = optional_field(card, "cross_validation", dict), nullable_field(card, "test", dict)
    if validated is not None:
        field(validated, "sha256", str)
    if (leaky := optional_field(test or {}, "leaky_split", dict)) is not None:
        for name in ("right", "total"):
            whole(leaky, name)
        for name in ("low", "high"):
            real(leaky, name, 0, 1)
