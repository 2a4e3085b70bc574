"""Report of a model that answers with several labels at a time: an HTML page, the numbers as JSON, and a plot."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

from audionet.evaluation.multi_label import MultiLabelEvaluation
from audionet.evaluation.page import PRECISION_RECALL_PNG, environment, plot_image, truncate, write_report_files
from audionet.evaluation.plots import MAX_CURVES, LabelCurve, precision_recall_plot
from audionet.inference.predictor import Predictor

_MAX_LABELS = 100
_MAX_NAMED = 10
_MAX_LISTED = 20


def write_multi_label_report(
    found: MultiLabelEvaluation, content: dict[str, Any], predictor: Predictor, folder: Path
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

    Returns
    -------
    list of Path
        Files written, the page first.
    """
    plots = draw(found, content)
    return write_report_files(folder, page(content, predictor, plots), content, plots)


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


def page(content: dict[str, Any], predictor: Predictor, plots: dict[str, bytes]) -> str:
    """Render the report as HTML, with the plot embedded."""
    data = content["data"]
    rows = content["multi_label"]["labels"]
    if len(rows) > _MAX_LABELS:
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
            graph=str(predictor.graph),
            image={name.removesuffix(".png"): plot_image(png) for name, png in plots.items()},
            sets={name: truncate(data[name], _MAX_NAMED) for name in ("missing_labels", "foreign_labels")},
            skipped=skipped,
            in_part=in_part,
            label_rows=truncate(rows, _MAX_LABELS),
            max_curves=MAX_CURVES,
        )
    )
