"""Metrics of a model for its card on the hub, each with the counts that it is based on: none is computed here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from audionet.errors import DamagedError
from audionet.utils.json_files import real, whole

CROSS_VALIDATION = "cross-validation"
TEST_SET = "test set"
HELD_OUT = "held-out recordings"


@dataclass(frozen=True)
class Metric:
    """A metric of a model.

    Attributes
    ----------
    kind : str
        Identifier on the hub, such as ``accuracy``.
    name : str
        For readers.
    value : float
    tested_on : str
        `CROSS_VALIDATION`, `TEST_SET` or `HELD_OUT`.
    counts : dict of str to int
        Numbers of recordings, chunks or trials that it is based on.
    interval : tuple of (float, float) or None
        95 % confidence interval.
    """

    kind: str
    name: str
    value: float
    tested_on: str
    counts: dict[str, int] = field(default_factory=dict)
    interval: tuple[float, float] | None = None

    def __str__(self) -> str:
        right = f"{self.counts['right']:,} of " if "right" in self.counts else ""
        counts = " and ".join(f"{count:,} {name}" for name, count in self.counts.items() if name != "right")
        form = ".1%" if self.kind in _SHARES else ".3f"
        between = ""
        if self.interval is not None:
            between = f", 95 % interval {self.interval[0]:{form}} to {self.interval[1]:{form}}"
        return f"{self.name}: {self.value:{form}} ({right}{counts}{between})"


_SHARES = ("accuracy", "f1", "eer")


def card_metrics(card: Mapping[str, Any], part: str = "network") -> list[Metric]:
    """Return the accuracies in a model's JSON.

    Parameters
    ----------
    card : mapping
    part : str
        ``network``, or ``mfcc_statistics`` for the baseline's.
    """
    found = part_of(part_of(card, "test"), part)
    tested_on = CROSS_VALIDATION if card.get("cross_validation") else TEST_SET
    if (several := card.get("multi_label")) is not None:
        return _multi_label(part_of(several, "test"), tested_on) if part == "network" else []
    return [
        metric
        for unit in ("recordings", "chunks")
        if (metric := _accuracy(found.get(unit), unit, tested_on)) is not None
    ]


def report_metrics(report: Mapping[str, Any]) -> list[Metric]:
    """Return the metrics in the report.json of an evaluation; those that it lacks are left out."""
    data = part_of(report, "data")
    # The path of the folder is the user's own affair.
    is_part = str(data.get("source")).startswith("the test part of")
    tested_on = CROSS_VALIDATION if data.get("cross_validated") else TEST_SET if is_part else HELD_OUT
    recordings = {"recordings": data.get("recordings")}
    if report.get("multi_label") is not None:
        return _multi_label(part_of(report, "multi_label"), tested_on)
    shares, labels = part_of(report, "accuracy"), part_of(report, "labels")
    pooled = part_of(report, "verification").get("pooled")
    after = part_of(report, "calibration").get("after")
    found = [_accuracy(shares.get(unit), unit, tested_on) for unit in ("recordings", "chunks")]
    found += [
        _metric("f1", "Macro F1 by recording", labels.get("macro"), "f1", recordings, tested_on),
        _metric("eer", "Equal error rate of verification", pooled, "equal_error_rate", pooled, tested_on),
        _metric("roc_auc", "Area under the ROC curve of verification", pooled, "area", pooled, tested_on),
        _metric("brier_score", "Brier score", after, "brier", after, tested_on),
        _metric("ece", "Calibration error", after, "calibration_error", after, tested_on),
    ]
    return [metric for metric in found if metric is not None]


def _multi_label(scores: Mapping[str, Any], tested_on: str) -> list[Metric]:
    """Return the metrics of a model that answers with several labels at a time."""
    kind = "mean_average_precision"
    precision = _metric(kind, "Mean average precision", scores, kind, scores, tested_on)
    if precision is not None:
        precision = dataclasses.replace(precision, interval=_interval(scores))
    found = [precision, _metric("f1", "Macro F1 by recording", scores, "macro_f1", scores, tested_on)]
    exact = _accuracy(scores.get("all_right"), "recordings", tested_on)
    if exact is not None:
        found.append(dataclasses.replace(exact, name="Recordings answered with exactly their labels"))
    return [metric for metric in found if metric is not None]


def part_of(content: Any, name: str) -> Mapping[str, Any]:
    """Return an object inside a JSON object; an empty one if there is none, or the value is of another type."""
    value = content.get(name) if isinstance(content, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def _accuracy(share: Any, unit: str, tested_on: str) -> Metric | None:
    try:
        right, total = whole(share, "right"), whole(share, "total", 1)
    except DamagedError:
        return None
    counts = {unit: total, "right": right}
    name = f"Accuracy by {unit.removesuffix('s')}"
    return Metric("accuracy", name, right / total, tested_on, counts, _interval(share))


def _interval(section: Any) -> tuple[float, float] | None:
    try:
        return real(section, "low", 0, 1), real(section, "high", 0, 1)
    except DamagedError:
        return None


_COUNTS = ("recordings", "targets", "nontargets")


def _metric(kind: str, name: str, section: Any, key: str, counted: Any, tested_on: str) -> Metric | None:
    """Return a metric of a section of a report; None if it, or its count, is not there."""
    try:
        counts = {count: whole(counted, count) for count in _COUNTS if isinstance(counted, dict) and counted.get(count)}
        return Metric(kind, name, real(section, key), tested_on, counts) if counts else None
    except DamagedError:
        return None
