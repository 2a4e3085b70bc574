"""Comparison of models by their reports: the same recordings, paired."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np

from audionet.errors import DamagedError, ModelError
from audionet.evaluation.recordings import HeldOutRecording
from audionet.metrics.paired import PairedComparison, compare_paired
from audionet.utils.files import read_json
from audionet.utils.json_files import damage_as, field, texts
from audionet.utils.text import escape, pluralise

_REMEDY = "name a report.json that evaluate.py has written, or run it again"


class Answered(NamedTuple):
    """Answer of a model for a recording.

    Attributes
    ----------
    label : str
        Folder of the recording: its label, or its labels joined by semicolons.
    answer : str
        What the model answers, likewise.
    right : bool
    """

    label: str
    answer: str
    right: bool


@dataclass(frozen=True)
class Report:
    """Answers in the report of an evaluation.

    Attributes
    ----------
    name : str
        For messages and tables: the path of the report, or of the model.
    labels : list of str
        Of the model.
    source : str
        Where the recordings come from.
    answers : dict of (str, str) to Answered
        By label and name of the recording.
    """

    name: str
    labels: list[str]
    source: str
    answers: dict[tuple[str, str], Answered]


@dataclass(frozen=True)
class Comparison:
    """Two models on the recordings that both were tested on.

    Attributes
    ----------
    first, second : Report
    recordings : list of (str, str)
        Label and name of each.
    scores : PairedComparison
    left_out : int
        Number of recordings that only one of the models was tested on.
    """

    first: Report
    second: Report
    recordings: list[tuple[str, str]]
    scores: PairedComparison
    left_out: int

    def only(self, winner: Report, loser: Report) -> list[tuple[str, str]]:
        """Return the recordings that one model answers rightly and the other does not."""
        return [one for one in self.recordings if winner.answers[one].right and not loser.answers[one].right]


def read_report(path: Path) -> Report:
    """Read the answers in a report.

    Parameters
    ----------
    path : Path
        ``report.json``, or the folder of the report.

    Raises
    ------
    ModelError
        If it is missing, damaged, or without the answers for each recording.
    """
    file = path / "report.json" if path.is_dir() else path
    content = read_json(file, ModelError, _REMEDY)
    if "recordings" not in content:
        raise ModelError(f"{escape(file)} holds no answer for each recording: {_REMEDY}")
    with damage_as(ModelError, file, _REMEDY):
        return parse_report(str(path), content)


def parse_report(name: str, content: dict[str, Any]) -> Report:
    """Parse the content of report.json.

    Raises
    ------
    DamagedError
        If a field is missing or of another type.
    """
    answers = {}
    for entry in field(content, "recordings", list):
        label, recording = field(entry, "label", str), field(entry, "recording", str)
        answers[label, recording] = Answered(label, field(entry, "answer", str), field(entry, "right", bool))
    if not answers:
        raise DamagedError("it holds no recordings")
    return Report(name, texts(content, "label_names"), field(field(content, "data", dict), "source", str), answers)


def compare(first: Report, second: Report) -> Comparison:
    """Compare two models on the recordings that both were tested on.

    Raises
    ------
    ModelError
        If the models have different labels, or no recording in common.
    """
    if differing := sorted(set(first.labels) ^ set(second.labels)):
        some = ", ".join(map(escape, differing[:5])) + (", ..." if len(differing) > 5 else "")
        raise ModelError(
            f"{escape(first.name)} and {escape(second.name)} are of models with different labels, {some}: their "
            "accuracies are not comparable"
        )
    common = [one for one in first.answers if one in second.answers]
    if not common:
        raise ModelError(
            f"{escape(first.name)} and {escape(second.name)} have no recording in common, {escape(first.source)} and "
            f"{escape(second.source)}: evaluate both on the same recordings"
        )
    right = [np.array([report.answers[one].right for one in common], bool) for report in (first, second)]
    left_out = len(first.answers) + len(second.answers) - 2 * len(common)
    return Comparison(first, second, common, compare_paired(*right), left_out)


def comparison_text(found: Comparison, limit: int) -> str:
    """Format a comparison as text, with the first recordings that one model gets and the other does not."""
    scores = found.scores
    n = scores.recordings
    counted = pluralise(n, "recording") + (f", {found.left_out} of one model alone left out" if found.left_out else "")
    lines = [
        f"A: {escape(found.first.name)}",
        f"B: {escape(found.second.name)}",
        f"  {counted}",
        f"  right   A {(scores.both + scores.first_only) / n:.1%}, B {(scores.both + scores.second_only) / n:.1%}",
    ]
    if not scores.first_only + scores.second_only:
        return "\n".join([*lines, "  no recording is right with one of them alone"])
    lines += [
        f"  B - A   {100 * scores.difference:+.1f} points (95 % interval {100 * scores.low:+.1f} to "
        f"{100 * scores.high:+.1f}, paired bootstrap over recordings)",
        f"  only A  {scores.first_only}, only B {scores.second_only}: McNemar's exact test p = {scores.p_value:.3g}, "
        f"{_verdict(scores)}",
    ]
    for title, winner, loser in (("A", found.first, found.second), ("B", found.second, found.first)):
        chosen = found.only(winner, loser)
        if chosen and limit:
            lines.append(f"Right with {title} alone:")
            lines += [
                f"  {escape(label)}/{escape(name)}: {escape(loser.answers[label, name].answer) or 'none'}"
                for label, name in chosen[:limit]
            ]
            lines += [f"  and {len(chosen) - limit} more"] if len(chosen) > limit else []
    return "\n".join(lines)


def _verdict(scores: PairedComparison) -> str:
    if scores.p_value >= 0.05:
        return "no difference is shown"
    return "B is better" if scores.difference > 0 else "A is better"


def write_answers(stream: TextIO, reports: Sequence[Report]) -> None:
    """Write the answers of several models for every recording as CSV, a column for each model."""
    lines = csv.writer(stream)
    lines.writerow(["label", "recording", *(report.name for report in reports)])
    for one in dict.fromkeys(one for report in reports for one in report.answers):
        given = [report.answers.get(one) for report in reports]
        lines.writerow([*one, *("" if answer is None else answer.answer for answer in given)])


def answers_json(
    recordings: Sequence[HeldOutRecording], answers: Sequence[str], right: Sequence[bool]
) -> list[dict[str, Any]]:
    """Format the answer for each recording for report.json."""
    return [
        {"label": one.label, "recording": one.name, "answer": answer, "right": is_right}
        for one, answer, is_right in zip(recordings, answers, right, strict=True)
    ]
