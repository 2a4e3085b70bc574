"""Report of a model that answers with several labels at a time: an HTML page, the numbers as JSON, and a plot."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

from audionet._paths import project_name
from audionet.evaluation.gallery import Mistake, most_probable_chunk, picture_mistake
from audionet.evaluation.multi_label import MultiLabelEvaluation
from audionet.evaluation.page import (
    FEW_LABELS,
    MAX_ROWS,
    PRECISION_RECALL_PNG,
    environment,
    plot_image,
    truncate,
    write_report_files,
)
from audionet.evaluation.plots import MAX_CURVES, LabelCurve, precision_recall_plot
from audionet.inference.predictor import Predictor

_MAX_NAMED = 10
_MAX_LISTED = 20


def write_multi_label_report(
    found: MultiLabelEvaluation, content: dict[str, Any], predictor: Predictor, folder: Path, explains: bool = False
) -> list[Path]:
    """Write report.html, report.json and the plot; plots of an earlier report are deleted.

    Parameters
    ----------
    found : MultiLabelEvaluation
    content : dict
        Its numbers, from `summarise_multi_label`.
    predictor : Predictor
    folder : Path
        Created if missing.
    explains : bool
        Whether to show the evidence for the wrong or missed label in each mistake.

    Returns
    -------
    list of Path
        Files written, the page first.
    """
    plots = draw(found, content)
    html = page(found, content, predictor, plots, explains)
    return write_report_files(folder, html, content, plots)


def draw(found: MultiLabelEvaluation, content: dict[str, Any]) -> dict[str, bytes]:
    """Draw precision over recall for the labels with the lowest average precision; empty where none has any."""
    curves = [
        LabelCurve(
            entry["label"],
            entry["average_precision"],
            found.probabilities[:, k],
            found.present[:, k],
            (entry["recall"], entry["precision"]),
        )
        for k, entry in enumerate(content["multi_label"]["labels"])
        if entry["average_precision"] is not None
    ]
    return {PRECISION_RECALL_PNG: precision_recall_plot(curves)} if curves else {}


def page(
    found: MultiLabelEvaluation,
    content: dict[str, Any],
    predictor: Predictor,
    plots: dict[str, bytes],
    explains: bool = False,
) -> str:
    """Render the report as HTML, with the plot embedded."""
    data = content["data"]
    rows = content["multi_label"]["labels"]
    if len(rows) > FEW_LABELS:
        rows = sorted(rows, key=lambda row: math.inf if row["average_precision"] is None else row["average_precision"])
    skipped, in_part = (
        truncate([(entry["file"], entry["reason"]) for entry in data[name]], _MAX_LISTED)
        for name in ("skipped", "judged_in_part")
    )
    return (
        environment()
        .get_template("multi_label.html")
        .render(
            content,
            date=datetime.datetime.now().astimezone().date().isoformat(),
            project=project_name(predictor.graph),
            graph=str(predictor.graph),
            image={name.removesuffix(".png"): plot_image(png) for name, png in plots.items()},
            sets={name: truncate(data[name], _MAX_NAMED) for name in ("missing_labels", "foreign_labels")},
            skipped=skipped,
            in_part=in_part,
            label_rows=truncate(rows, MAX_ROWS),
            few_labels=FEW_LABELS,
            max_curves=MAX_CURVES,
            mistakes_shown=_gallery(found, content, predictor, explains),
            explains=explains,
        )
    )


def _gallery(
    found: MultiLabelEvaluation, content: dict[str, Any], predictor: Predictor, explains: bool
) -> list[Mistake]:
    """Picture the most certain mistakes, each by the chunk in which the label that it is about is most probable."""
    entries = content["mistakes"]
    mistakes = []
    for entry, mistake in zip(entries, found.mistakes(len(entries)), strict=True):
        label = (*mistake.wrong, *mistake.missed)[0]
        picture = most_probable_chunk(predictor, mistake.recording.recorded, label)
        what = "wrongly answered" if mistake.wrong else "missed"
        said = entry | {"start": None if picture is None else picture.start}
        alt = f"spectrogram in which {label}, {what}, is most probable"
        mistakes.append(picture_mistake(predictor, said, label, alt, picture, explains))
    return mistakes
