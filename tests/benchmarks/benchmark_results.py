"""Results of a benchmark: measured per training, summed up per contestant and number of recordings."""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from benchmark_protocol import Recording
from numpy.typing import NDArray

from audionet.metrics.accuracy import accuracy
from audionet.metrics.detection import detection


@dataclass(frozen=True)
class Answers:
    """Answers of one contestant to the test clips of one trial.

    Attributes
    ----------
    right : ndarray of bool, shape (n,)
        Clips without an answer are wrong.
    groups : list of n str
    scores : ndarray of float64, shape (trials,)
        Score of each answered clip with each label.
    target : ndarray of bool, shape (trials,)
    """

    right: NDArray[np.bool_]
    groups: list[str]
    scores: NDArray[np.float64]
    target: NDArray[np.bool_]


@dataclass(frozen=True)
class Cost:
    """What one training and its labelling took: seconds, and megabytes."""

    train_seconds: float
    cold_seconds: float
    warm_seconds: float
    model_size: float
    train_peak: float
    label_peak: float


@dataclass(frozen=True)
class Row:
    """Line of the table.

    Attributes
    ----------
    contestant : str
    number : int or None
        Recordings a label that were trained on.
    plan : str
        Hash of what was trained and tested on.
    failure : str
        Reason, if it has no result.
    right, total : int
    low, high : float
        95 % interval of the accuracy.
    eer : float or None
    cost : Cost or None
        Median over the trainings.
    """

    contestant: str
    number: int | None
    plan: str
    failure: str = ""
    right: int = 0
    total: int = 0
    low: float = 0.0
    high: float = 1.0
    eer: float | None = None
    cost: Cost | None = None


@dataclass(frozen=True)
class Report:
    """Run of a benchmark on one set of recordings.

    Attributes
    ----------
    name, title, command, date, machine : str
    labels, recordings, tested : int
    note : str
        What a reader must know to read it rightly; empty if nothing.
    grouped : bool
        Whether groups of recordings were kept together.
    versions : dict of str to str
    rows : list of Row
    """

    name: str
    title: str
    command: str
    date: str
    machine: str
    labels: int
    recordings: int
    tested: int
    grouped: bool
    note: str = ""
    versions: dict[str, str] = field(default_factory=dict)
    rows: list[Row] = field(default_factory=list)


def parse_answers(output: str, test: Sequence[Recording]) -> Answers:
    """Parse what a contestant printed for clips that are named by their place in the test.

    Raises
    ------
    ValueError
        If it is not an answer a line.
    """
    right = np.zeros(len(test), bool)
    scores: list[float] = []
    target: list[bool] = []
    for line in output.splitlines():
        if not line.startswith("{"):
            continue
        answer: dict[str, Any] = json.loads(line)
        if not answer.get("labels"):
            continue
        place = int(Path(answer["file"]).stem)
        of_label = {entry["label"]: float(entry["probability"]) for entry in answer["labels"]}
        right[place] = max(of_label, key=of_label.__getitem__) == test[place].label
        scores += of_label.values()
        target += [label == test[place].label for label in of_label]
    return Answers(
        right, [recording.group for recording in test], np.array(scores, np.float64), np.array(target, np.bool_)
    )


def summarise(row: Row, answers: Sequence[Answers], costs: Sequence[Cost], speakers: bool) -> Row:
    """Sum up the folds of one contestant in its row: accuracy with its interval, pooled EER, median costs."""
    right = np.concatenate([one.right for one in answers])
    groups = [group for one in answers for group in one.groups]
    found = accuracy(right, groups, len(answers) if len(answers) > 1 else None)
    detected = None
    if speakers:
        detected = detection(
            np.concatenate([one.scores for one in answers]), np.concatenate([one.target for one in answers])
        )
    eer = None if detected is None else detected.equal_error_rate
    return dataclasses.replace(
        row, right=found.right, total=found.total, low=found.low, high=found.high, eer=eer, cost=_median(costs)
    )


def _median(costs: Sequence[Cost]) -> Cost:
    columns = zip(*map(dataclasses.astuple, costs), strict=True)
    return Cost(*map(statistics.median, columns))


def write_report(report: Report, folder: Path) -> Path:
    """Write a report as JSON; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{report.name}.json"
    path.write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n", "utf-8")
    return path


def read_reports(folder: Path) -> list[Report]:
    """Read the reports of a folder, by name."""
    return list(map(_parse, sorted(folder.glob("*.json"))))


def _parse(path: Path) -> Report:
    content = json.loads(path.read_text("utf-8"))
    rows: Iterable[dict[str, Any]] = content.pop("rows")
    parsed = [Row(**{**row, "cost": None if row["cost"] is None else Cost(**row["cost"])}) for row in rows]
    return Report(**content, rows=parsed)
