"""What a probe found, as the part of a model card that says how good the features are."""

from __future__ import annotations

import dataclasses
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from audionet.augment.distortion import CLEAN
from audionet.backbones.registry import Backbone, describe
from audionet.metrics.accuracy import Accuracy
from audionet.metrics.bootstrap import grouped_accuracy, paired_difference
from audionet.probing.config import ProbeConfig
from audionet.probing.features import MFCC
from audionet.probing.tasks import ProbeMaterial
from audionet.utils.arrays import BoolArray
from audionet.utils.files import write_bytes
from audionet.utils.text import escape

HEADING = "## Probes"


def to_markdown(run: ProbeRun, results: Sequence[TaskResult], speeds: Sequence[float]) -> str:
    """Every row of every task, clean and away from clean, and what the networks cost; tables in Markdown."""
    features = [row.features for row in results[0].rows]
    titles = [f"{result.title} ({len(result.recordings[CLEAN])} {result.unit}s)" for result in results]
    shares = [
        [name, str(results[0].rows[place].width), *(format_shares(result, result.rows[place]) for result in results)]
        for place, name in enumerate(features)
    ]
    costs = [
        [
            backbone.name,
            *(backbone.endpoint or "-", backbone.pooling or "-", str(backbone.width), backbone.arithmetic),
            *(f"{backbone.path.stat().st_size / 1e6:.1f}", f"{speed:.0f}"),
        ]
        for backbone, speed in zip(run.backbones, speeds, strict=True)
    ]
    conditions = ", ".join(results[0].changed)
    described = f", then the mean of {len(results[0].changed)} other conditions ({conditions})" if conditions else ""
    parts = [
        HEADING,
        f"By `scripts/probe.py`: a linear layer on frozen features, share of right answers on clean sound{described}.",
        markdown_table(["features", "width", *titles], shares),
        markdown_table(["network", "endpoint", "pooling", "width", "arithmetic", "MB", "images/s, one thread"], costs),
    ]
    return "\n\n".join(parts) + "\n"


def format_shares(result: TaskResult, row: ProbeResult) -> str:
    """``0.983, 0.565``: the share right on clean sound, and the mean of the other conditions where there are any."""
    clean = f"{row.right[CLEAN].mean():.3f}"
    return f"{clean}, {result.mean_share(row):.3f}" if result.changed else clean


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(escape(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def insert_into_card(card: Path, section: str) -> None:
    """Put a section into a model card, in place of the one of before if there is one, else at its end.

    Raises
    ------
    OSError
        If the card cannot be read or written.
    """
    text = card.read_bytes().decode("utf-8", "surrogateescape")
    if found := re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        before, after = text[: found.start()], text[found.end() :]
    else:
        before, after = text.rstrip("\n") + "\n\n", ""
    text = before + section + (f"\n{after}" if after else "")
    write_bytes(card, text.encode("utf-8", "surrogateescape"))


@dataclass(frozen=True)
class FeatureSet:
    """What a row of the table is about: the kinds of features that are joined."""

    name: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class ProbeResult:
    """What a probe on one set of features answered.

    Attributes
    ----------
    features : str
    width : int
    right : dict of str to ndarray of bool, shape (answers,)
        Under each condition.
    cs : list of float
        The regularisation chosen in each fold; empty for mixtures.
    at_edge, unconverged : int
        In how many folds it was the first or the last that was tried, and fitting was stopped.
    seconds : float
    """

    features: str
    width: int
    right: dict[str, BoolArray]
    cs: list[float]
    at_edge: int
    unconverged: int
    seconds: float


@dataclass(frozen=True)
class TaskResult:
    """What came of a task.

    Attributes
    ----------
    title, split, unit : str
        See `ProbeMaterial` and `ProbeTask`.
    labels : list of str
    learned_clips : int
        Clips learned from; where recordings are held out in turn, all of them.
    recordings : dict of str to list of str
        Under each condition, clean first, the recording of each answer.
    feature_seconds : float
        Time spent on the material's features, which its tasks share.
    rows : list of Probed
    """

    title: str
    split: str
    unit: str
    labels: list[str]
    learned_clips: int
    recordings: dict[str, list[str]]
    feature_seconds: float
    rows: list[ProbeResult]

    def accuracy(self, row: ProbeResult, condition: str) -> Accuracy:
        """Share of right answers, with Wilson's interval or, where recordings have several, one that resamples them."""
        return grouped_accuracy(row.right[condition], self.recordings[condition])

    @property
    def changed(self) -> list[str]:
        """The conditions other than training's."""
        return [condition for condition in self.recordings if condition != CLEAN]

    def mean_share(self, row: ProbeResult) -> float:
        """Share right under changed conditions, the mean of them."""
        return sum(float(row.right[name].mean()) for name in self.changed) / len(self.changed)

    def difference(self, row: ProbeResult, seed: int) -> tuple[float, float, float]:
        """How much better than MFCC statistics under changed conditions on average, and its 95 % interval."""
        baseline = next(other for other in self.rows if other.features == MFCC)
        pairs = [(row.right[name], baseline.right[name], self.recordings[name]) for name in self.changed]
        return paired_difference(pairs, seed)


@dataclass(frozen=True)
class ProbeRun:
    """A whole run: what is known before the first task, and what each task takes."""

    config: ProbeConfig
    materials: list[ProbeMaterial]
    notes: list[str]
    backbones: list[Backbone]
    samples: list[bytes]


def probe_json(run: ProbeRun, results: Sequence[TaskResult], speeds: Sequence[float]) -> dict[str, Any]:
    """All of it, for a file."""
    packages = ("numpy", "scipy", "scikit-learn", "ai-edge-litert")
    settings = {
        name: str(value) if isinstance(value, Path) else value for name, value in dataclasses.asdict(run.config).items()
    }
    return {
        "format": 1,
        "settings": settings,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
        "notes": run.notes,
        "backbones": [
            describe(backbone) | {"bytes": backbone.path.stat().st_size, "pictures_a_second": speed}
            for backbone, speed in zip(run.backbones, speeds, strict=True)
        ],
        "tasks": [_task_as_json(result, run.config.seed) for result in results],
    }


def _task_as_json(result: TaskResult, seed: int) -> dict[str, Any]:
    rows = []
    for row in result.rows:
        conditions = {name: dataclasses.asdict(result.accuracy(row, name)) for name in result.recordings}
        difference = result.difference(row, seed) if result.changed else (None, None, None)
        rows.append(
            {
                "features": row.features,
                "width": row.width,
                "conditions": conditions,
                "less_mfcc_statistics": dict(zip(("difference", "low", "high"), difference, strict=True)),
                "c": row.cs,
                "c_at_edge": row.at_edge,
                "unconverged": row.unconverged,
                "seconds": row.seconds,
            }
        )
    return {
        "title": result.title,
        "split": result.split,
        "answers_are_for": result.unit,
        "labels": result.labels,
        "learned_clips": result.learned_clips,
        "feature_seconds": result.feature_seconds,
        "tested": {
            name: {"answers": len(found), "recordings": len(set(found))} for name, found in result.recordings.items()
        },
        "rows": rows,
    }
