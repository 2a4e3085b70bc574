"""Report of an evaluation: an HTML page to read and print, the numbers as JSON, and the plots as PNGs."""

from __future__ import annotations

import datetime
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audionet._paths import project_name
from audionet.classifier.rejection import SEGMENT_CHUNKS
from audionet.evaluation.evaluate import Evaluation
from audionet.evaluation.gallery import Mistake, chunk_at, picture_mistake
from audionet.evaluation.page import (
    FEW_LABELS,
    MAX_ROWS,
    Truncated,
    environment,
    plot_image,
    truncate,
    write_report_files,
)
from audionet.evaluation.plots import cost_plot, det_plot, duration_plot, openset_plot, reliability_plot, roc_plot
from audionet.evaluation.score_map import score_map
from audionet.evaluation.summary import open_set_scores
from audionet.metrics.detection import Detection
from audionet.utils.arrays import IntArray
from audionet.utils.plots import MAX_LABELS_IN_ORDER, confusion_plot

if TYPE_CHECKING:
    from audionet.inference.predictor import Predictor

_MAX_CURVES = 10
_MAX_MATRIX_LABELS = 20
_MAX_LIST_ITEMS = 20
_MAX_LABELS_NAMED = 10


class Matrix(NamedTuple):
    """Confusion matrix: counts of answers, a row for each true label; None is unknown."""

    answers: list[str | None]
    rows: list[tuple[str | None, list[int]]]


class LabelRow(NamedTuple):
    """Scores of one label; None where a denominator is 0."""

    label: str
    recordings: int
    recall: float | None
    refused: int
    answered: int
    precision: float | None
    f1: float | None


class Confusion(NamedTuple):
    """Recordings of a true label that are given one wrong answer, of all its recordings; None is unknown."""

    true: str | None
    answer: str | None
    number: int
    recordings: int


def write_report(
    found: Evaluation, content: dict[str, Any], predictor: Predictor, folder: Path, explains: bool = False
) -> list[Path]:
    """Write report.html, report.json and the plots; plots of an earlier report are deleted.

    Parameters
    ----------
    found : Evaluation
    content : dict
        Its numbers, from `summarise`.
    predictor : Predictor
    folder : Path
        Created if missing.
    explains : bool
        Whether to show the evidence for the wrong label in each mistake.

    Returns
    -------
    list of Path
        Files written, the page first.
    """
    plots = draw(found, content, predictor)
    html = page(found, content, predictor, plots, explains)
    return write_report_files(folder, html, content, plots)


def draw(found: Evaluation, content: dict[str, Any], predictor: Predictor) -> dict[str, bytes]:
    """Draw the plots that there are data for; returns the PNGs by file name."""
    plots = {}
    mistaken = (found.decided != found.true).any() or (found.unknown_decided >= 0).any()
    if mistaken or content["costs"] or len(found.labels) <= MAX_LABELS_IN_ORDER:  # of many without, it shows nothing
        plots["confusion.png"] = _confusion(found, found.decided, found.unknown_decided)
    if (drawn := score_map(found)) is not None:
        plots["map.png"] = drawn
    pooled = found.detection()
    if pooled is not None:
        curves = _worst_curves(found, content)
        plots |= {"roc.png": roc_plot(curves, pooled), "det.png": det_plot(curves, pooled)}
    if len(found.true):
        plots["reliability.png"] = reliability_plot(found.reliability(calibrated=False), found.reliability(True))
        plots["length.png"] = duration_plot(found.lengths())
    known, unknown, _ = open_set_scores(found, predictor)
    if len(known) or len(unknown):
        plots["openset.png"] = openset_plot(known, unknown, predictor.several_threshold)
    if content["costs"]:
        if found.picked is not None and found.picked.curve:
            plots["cost.png"] = cost_plot(found.picked, found.labels)
        plots["confusion_before.png"] = _confusion(found, *_decide_without_costs(found))
    return plots


def page(
    found: Evaluation, content: dict[str, Any], predictor: Predictor, plots: dict[str, bytes], explains: bool = False
) -> str:
    """Render the report as HTML, with the plots embedded.

    Names come from folders and files, and may contain any characters: whatever the template inserts is made printable,
    and then escaped.
    """
    data = content["data"]
    skipped, in_part = (
        truncate([(entry["file"], entry["reason"]) for entry in data[name]], _MAX_LIST_ITEMS)
        for name in ("skipped", "judged_in_part")
    )
    return (
        environment()
        .get_template("report.html")
        .render(
            content,
            date=datetime.datetime.now().astimezone().date().isoformat(),
            project=project_name(predictor.graph),
            graph=str(predictor.graph),
            image={name.removesuffix(".png"): plot_image(png) for name, png in plots.items()},
            sets={name: truncate(data[name], _MAX_LABELS_NAMED) for name in ("missing_labels", "foreign_labels")}
            | {"cut_in_time": truncate(data["recordings_also_heard_in_training"], _MAX_LABELS_NAMED)},
            skipped=skipped,
            in_part=in_part,
            trained_on_whole=content["model"]["trained_on"]["chunks"] == content["model"]["trained_on"]["recordings"],
            matrix=_matrix(content, found.labels),
            confusions=_confusions(content),
            label_rows=_label_rows(content),
            detected=_rank_by_eer(content),
            trials=(len(found.true) + len(found.unknown_scores)) * len(found.labels),
            max_curves=_MAX_CURVES,
            segment_chunks=SEGMENT_CHUNKS,
            open_set_card=predictor.card["open_set"],
            rule_costs=truncate(content["costs"]["rule"]["costs"], _MAX_LIST_ITEMS) if content["costs"] else None,
            label_names=found.labels,
            mistakes_shown=_gallery(found, content, predictor, explains),
            max_drawn=MAX_LABELS_IN_ORDER,
            few_labels=FEW_LABELS,
            explains=explains,
            wrong=int((found.given != found.true).sum()),
        )
    )


def _confusion(found: Evaluation, decided: IntArray, unknown_decided: IntArray) -> bytes:
    """Draw the confusion matrix as a PNG, with a row and a column for unknown voices where there are any."""
    unknown = len(found.labels)
    true = np.concatenate([found.true, np.full(len(unknown_decided), unknown)])
    given = np.concatenate([decided, unknown_decided])
    refused = ((given < 0) & (true < unknown)).any()
    what = "recordings refused or" if refused else "test recordings"
    others = ["(unknown)"] if len(unknown_decided) or refused else []
    return confusion_plot(true, np.where(given < 0, unknown, given), found.labels, what, others)


def _decide_without_costs(found: Evaluation) -> tuple[IntArray, IntArray]:
    """Return the decisions on known and on unknown voices if all mistakes cost the same."""
    unknown = np.array([one.probabilities.argmax() for one in found.predictions.unknown], np.int64)
    return (
        np.where(found.decided < 0, -1, found.most_probable),
        np.where(found.unknown_decided < 0, -1, unknown),
    )


def _worst_curves(found: Evaluation, content: dict[str, Any]) -> list[tuple[str, Detection]]:
    rates = [entry.get("equal_error_rate", -1.0) for entry in content["verification"]["labels"]]
    worst = np.argsort(-np.array(rates), kind="stable")[:_MAX_CURVES].tolist()
    curves = [(found.labels[place], found.detection(place)) for place in sorted(worst)]
    return [(label, curve) for label, curve in curves if curve is not None]


def _matrix(content: dict[str, Any], labels: Sequence[str]) -> Matrix | None:
    """Build the confusion matrix; None if the labels do not fit on a page. Labels without a recording have no row."""
    if len(labels) > _MAX_MATRIX_LABELS:
        return None
    counts = {(pair["true"], pair["answer"]): pair["count"] for pair in content["confusion"]["pairs"]}
    tested, unknown = {true for true, _ in counts}, any(answer is None for _, answer in counts)
    answers: list[str | None] = [*labels, None] if unknown else [*labels]
    rows = [(true, [counts.get((true, answer), 0) for answer in answers]) for true in (*labels, None) if true in tested]
    return Matrix(answers, rows)


def _label_rows(content: dict[str, Any]) -> Truncated:
    """Return the rows of the table of labels; of many, the ones with the lowest F1 first, the untested last."""
    rows = [
        LabelRow(
            entry["label"],
            entry["recordings"],
            entry["recall"],
            entry["refused"],
            entry["answered"],
            entry["precision"],
            entry["f1"],
        )
        for entry in content["labels"]["labels"]
    ]
    if len(rows) > FEW_LABELS:
        rows.sort(key=lambda row: math.inf if row.f1 is None else row.f1)
    return truncate(rows, MAX_ROWS)


def _confusions(content: dict[str, Any]) -> Truncated:
    """Return the wrong answers, the most frequent first; of equally many, the largest share first."""
    pairs = content["confusion"]["pairs"]
    totals: Counter[str | None] = Counter()
    for pair in pairs:
        totals[pair["true"]] += pair["count"]
    wrong = [
        Confusion(pair["true"], pair["answer"], pair["count"], totals[pair["true"]])
        for pair in pairs
        if pair["true"] != pair["answer"]
    ]
    return truncate(sorted(wrong, key=lambda one: (-one.number, one.recordings)), MAX_ROWS)


def _rank_by_eer(content: dict[str, Any]) -> Truncated:
    """Return the labels with target and nontarget trials, the highest equal error rates first."""
    rows = [entry for entry in content["verification"]["labels"] if "equal_error_rate" in entry]
    return truncate(sorted(rows, key=lambda entry: -entry["equal_error_rate"]), MAX_ROWS)


def _gallery(found: Evaluation, content: dict[str, Any], predictor: Predictor, explains: bool) -> list[Mistake]:
    """Picture the most confident mistakes, each by the chunk most confident of the wrong label."""
    entries = content["mistakes"]
    mistakes = []
    for entry, (place, chunk) in zip(entries, found.mistakes(len(entries)), strict=True):
        one = found.predictions.recordings[place]
        picture = chunk_at(predictor, one.recorded, float(one.starts[chunk]))
        alt = f"spectrogram of {entry['true']}, predicted as {entry['given']}"
        said = entry | {"refused": bool(found.decided[place] < 0)}
        mistakes.append(picture_mistake(predictor, said, entry["given"], alt, picture, explains))
    return mistakes
