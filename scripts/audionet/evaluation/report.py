"""Report of an evaluation: an HTML page to read and print, the numbers as JSON, and the plots as PNGs."""

from __future__ import annotations

import datetime
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audionet.classifier.rejection import SEGMENT_CHUNKS
from audionet.evaluation.batch_inference import image_at
from audionet.evaluation.evaluate import Evaluation
from audionet.evaluation.page import Truncated, data_uri, environment, plot_image, truncate, write_report_files
from audionet.evaluation.plots import cost_plot, det_plot, duration_plot, openset_plot, reliability_plot, roc_plot
from audionet.evaluation.score_map import score_map
from audionet.evaluation.summary import open_set_scores
from audionet.inference.explanation import explain_image, join_chunks
from audionet.metrics.detection import Detection
from audionet.utils.arrays import IntArray
from audionet.utils.plots import confusion_plot

if TYPE_CHECKING:
    from audionet.inference.predictor import Predictor

_MAX_CURVES = 10
_MAX_MATRIX_LABELS = 20
_MAX_ROWS = 50
_MAX_LABELS = 100
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


class Mistake(NamedTuple):
    """Misclassified recording with the chunk most confident of the wrong label.

    Attributes
    ----------
    entry : dict
    image : str or None
        Its image as a data URI; None if it cannot be rendered.
    refused : bool
    evidence : (str, str) or None
        Image of the evidence for the wrong label in it, as a data URI, and in a sentence, if asked for.
    """

    entry: dict[str, Any]
    image: str | None
    refused: bool
    evidence: tuple[str, str] | None


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
    plots = {"confusion.png": _confusion(found, found.decided, found.unknown_decided)}
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
    wrong = [pair for pair in content["confusion"]["pairs"] if pair["true"] != pair["answer"]]
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
            graph=str(predictor.graph),
            image={name.removesuffix(".png"): plot_image(png) for name, png in plots.items()},
            sets={name: truncate(data[name], _MAX_LABELS_NAMED) for name in ("missing_labels", "foreign_labels")}
            | {"cut_in_time": truncate(data["recordings_also_heard_in_training"], _MAX_LABELS_NAMED)},
            skipped=skipped,
            in_part=in_part,
            trained_on_whole=content["model"]["trained_on"]["chunks"] == content["model"]["trained_on"]["recordings"],
            matrix=_matrix(content, found.labels),
            confusions=truncate(sorted(wrong, key=lambda pair: -pair["count"]), _MAX_ROWS),
            label_rows=_label_rows(content),
            detected=_rank_by_eer(content),
            trials=(len(found.true) + len(found.unknown_scores)) * len(found.labels),
            max_curves=_MAX_CURVES,
            segment_chunks=SEGMENT_CHUNKS,
            open_set_card=predictor.card["open_set"],
            rule_costs=truncate(content["costs"]["rule"]["costs"], _MAX_LIST_ITEMS) if content["costs"] else None,
            label_names=found.labels,
            gallery=_gallery(found, content, predictor, explains),
            explains=explains,
            wrong=int((found.given != found.true).sum()),
        )
    )


def _confusion(found: Evaluation, decided: IntArray, unknown_decided: IntArray) -> bytes:
    """Draw the confusion matrix as a PNG, with a row and a column for unknown voices where there are any."""
    true = np.concatenate([found.true, np.full(len(unknown_decided), -1)])
    given = np.concatenate([decided, unknown_decided])
    labels = [*found.labels, "(unknown)"] if min(true.min(), given.min()) < 0 else found.labels
    refused = ((given < 0) & (true >= 0)).any()
    what = "recordings refused or" if refused else "test recordings"
    return confusion_plot(np.where(true < 0, len(found.labels), true), given % len(labels), labels, what)


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
    """Return the rows of the table of labels; of more than `_MAX_LABELS`, the tested ones with the lowest F1."""
    rows = []
    for entry in content["labels"]["labels"]:
        rows.append(
            LabelRow(
                entry["label"],
                entry["recordings"],
                entry["recall"],
                entry["refused"],
                entry["answered"],
                entry["precision"],
                entry["f1"],
            )
        )
    if len(rows) > _MAX_LABELS:
        rows.sort(key=lambda row: math.inf if row.f1 is None else row.f1)
        return truncate(rows, _MAX_ROWS)
    return Truncated(rows, 0)


def _rank_by_eer(content: dict[str, Any]) -> Truncated:
    """Return the labels with target and nontarget trials, the highest equal error rates first."""
    rows = [entry for entry in content["verification"]["labels"] if "equal_error_rate" in entry]
    return truncate(sorted(rows, key=lambda entry: -entry["equal_error_rate"]), _MAX_ROWS)


def _gallery(found: Evaluation, content: dict[str, Any], predictor: Predictor, explains: bool) -> list[Mistake]:
    entries = content["mistakes"]
    mistakes = []
    for entry, (place, chunk) in zip(entries, found.mistakes(len(entries)), strict=True):
        one = found.predictions.recordings[place]
        jpg = image_at(predictor, one.recorded, float(one.starts[chunk]))
        image = None if jpg is None else data_uri(jpg, "jpeg")
        evidence = _evidence(predictor, jpg, float(one.starts[chunk]), entry["given"]) if jpg and explains else None
        mistakes.append(Mistake(entry, image, bool(found.decided[place] < 0), evidence))
    return mistakes


def _evidence(predictor: Predictor, jpg: bytes, start: float, label: str) -> tuple[str, str]:
    """Draw the evidence for a label in the chunk that starts at `start` seconds, and say where it is."""
    index = predictor.labels.index(label)
    explanation = join_chunks(predictor, [explain_image(predictor, start, jpg, index)], index)
    explanation.image().save(buffer := io.BytesIO(), "PNG")
    return data_uri(buffer.getvalue(), "png"), explanation.summary()
