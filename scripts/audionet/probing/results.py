"""Results of probing, as JSON and as a section of a model card."""

from __future__ import annotations

import dataclasses
import math
import platform
import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from audionet.augment.distortion import CLEAN
from audionet.backbones.registry import Backbone, describe
from audionet.metrics.accuracy import Accuracy
from audionet.metrics.bootstrap import grouped_accuracy, paired_difference
from audionet.probing.config import ProbeConfig
from audionet.probing.features import MFCC
from audionet.probing.tasks import ProbeMaterial, VerificationMaterial
from audionet.probing.verification import VerificationResult, VerificationRow
from audionet.utils.arrays import BoolArray
from audionet.utils.files import write_bytes
from audionet.utils.text import escape

HEADING = "## Probes"


def to_markdown(
    run: ProbeRun, results: Sequence[TaskResult], verified: Sequence[VerificationResult], speeds: Sequence[float]
) -> str:
    """Format accuracies, clean and distorted, error rates of verification, and networks' speeds as Markdown tables."""
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
        *_few_shot_tables(results),
        *_verification_tables(verified),
        markdown_table(["network", "endpoint", "pooling", "width", "arithmetic", "MB", "images/s, one thread"], costs),
    ]
    return "\n\n".join(parts) + "\n"


def _few_shot_tables(results: Sequence[TaskResult]) -> list[str]:
    shown = [result for result in results if result.few_shot]
    if not shown:
        return []
    header = ["features", *(f"{result.title}, 8 recordings a label, ten draws" for result in shown)]
    rows = [
        [row.features, *(format_few_shot(result.few_shot[place]) for result in shown)]
        for place, row in enumerate(shown[0].few_shot)
    ]
    return [markdown_table(header, rows)]


def format_few_shot(row: FewShotRow) -> str:
    """Format a row's accuracy on clean sound, its deviation over draws, and the mean of the other conditions."""
    clean = f"{row.clean:.3f} ± {row.deviation:.3f}"
    return clean if math.isnan(row.changed) else f"{clean}, {row.changed:.3f}"


def _verification_tables(verified: Sequence[VerificationResult]) -> list[str]:
    tables = []
    for result in verified:
        rows = [[row.features, row.comparison, format_error_rate(row), f"{row.min_dcf:.3f}"] for row in result.rows]
        header = ["features", "compared by", f"EER, {result.title} ({result.targets:,} of one speaker)", "minDCF"]
        tables.append(markdown_table(header, rows))
    return tables


def format_error_rate(row: VerificationRow) -> str:
    """Format an equal error rate and its interval, such as ``5.0 % (3.1-7.2)``."""
    return f"{row.equal_error_rate:.1%} ({row.low:.1%}-{row.high:.1%})"


def format_shares(result: TaskResult, row: ProbeResult) -> str:
    """Format the accuracy on clean sound and, if any, the mean of the other conditions, such as ``0.983, 0.565``."""
    clean = f"{row.right[CLEAN].mean():.3f}"
    return f"{clean}, {result.mean_share(row):.3f}" if result.changed else clean


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Format a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(escape(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def insert_into_card(card: Path, section: str) -> None:
    """Insert a section into a model card: it replaces an earlier one, or is appended.

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
    """Features of one row of the table: the kinds that are concatenated."""

    name: str
    parts: tuple[str, ...]


@dataclass(frozen=True)
class ProbeResult:
    """Result of probing one set of features.

    Attributes
    ----------
    features : str
    width : int
    right : dict of str to ndarray of bool, shape (answers,)
        Correctness of each prediction under each condition.
    cs : list of float
        C selected in each fold; empty for mixtures.
    at_edge, unconverged : int
        Number of folds in which C was the first or the last of the grid, and in which the solver did not converge.
    seconds : float
    """

    features: str
    width: int
    right: dict[str, BoolArray]
    cs: list[float]
    at_edge: int
    unconverged: int
    seconds: float


class FewShotRow(NamedTuple):
    """Accuracy of one set of features: mean over the draws, and their standard deviation; 0 to 1."""

    features: str
    clean: float
    deviation: float
    changed: float
    """Mean over the conditions other than clean; NaN without any."""


@dataclass(frozen=True)
class TaskResult:
    """Results of a task.

    Attributes
    ----------
    title, split, unit : str
        See `ProbeMaterial` and `ProbeTask`.
    labels : list of str
    learned_clips : int
        Number of training clips; in cross-validation, all clips that are used for training in any fold.
    recordings : dict of str to list of str
        Recording of each prediction under each condition, clean first.
    feature_seconds : float
        Duration of the feature extraction, which the material's tasks share.
    rows : list of ProbeResult
    few_shot : list of FewShotRow
        With eight recordings a label, if there are enough.
    """

    title: str
    split: str
    unit: str
    labels: list[str]
    learned_clips: int
    recordings: dict[str, list[str]]
    feature_seconds: float
    rows: list[ProbeResult]
    few_shot: list[FewShotRow]

    def accuracy(self, row: ProbeResult, condition: str) -> Accuracy:
        """Compute the accuracy, with Wilson's interval, or one that resamples recordings with several predictions."""
        return grouped_accuracy(row.right[condition], self.recordings[condition])

    @property
    def changed(self) -> list[str]:
        """Conditions other than clean, the condition of training."""
        return [condition for condition in self.recordings if condition != CLEAN]

    def mean_share(self, row: ProbeResult) -> float:
        """Compute the mean accuracy over the conditions other than clean."""
        return sum(float(row.right[name].mean()) for name in self.changed) / len(self.changed)

    def difference(self, row: ProbeResult, seed: int) -> tuple[float, float, float]:
        """Compute the mean gain over MFCC statistics in the conditions other than clean, and its 95 % interval."""
        baseline = next(other for other in self.rows if other.features == MFCC)
        pairs = [(row.right[name], baseline.right[name], self.recordings[name]) for name in self.changed]
        return paired_difference(pairs, seed)


@dataclass(frozen=True)
class ProbeRun:
    """Inputs of a probing run.

    Attributes
    ----------
    config : ProbeConfig
    materials : list of ProbeMaterial
    notes : list of str
        On omitted data.
    backbones : list of Backbone
    samples : list of bytes
        Sample images.
    verification : list of VerificationMaterial
    """

    config: ProbeConfig
    materials: list[ProbeMaterial]
    notes: list[str]
    backbones: list[Backbone]
    samples: list[bytes]
    verification: list[VerificationMaterial]


def probe_json(
    run: ProbeRun, results: Sequence[TaskResult], verified: Sequence[VerificationResult], speeds: Sequence[float]
) -> dict[str, Any]:
    """Convert a run and its results to JSON."""
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
        "verification": [dataclasses.asdict(result) for result in verified],
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
        "few_shot": [row._asdict() for row in result.few_shot],
    }
