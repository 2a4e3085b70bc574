"""Report of verification trials: an HTML page, the numbers as JSON, a DET plot, and the scores for other tools."""

from __future__ import annotations

import csv
import datetime
import io
from pathlib import Path
from typing import Any

from audionet._paths import project_name
from audionet.evaluation.page import environment, plot_image, write_report_files
from audionet.evaluation.plots import det_plot
from audionet.evaluation.trial_scores import TrialEvaluation

DET_PNG, SCORES_CSV, SCORES_TXT = "det.png", "scores.csv", "scores.txt"


def write_trial_report(found: TrialEvaluation, content: dict[str, Any], folder: Path) -> list[Path]:
    """Write report.html, report.json, the scores and the DET plot; plots of an earlier report are deleted.

    Parameters
    ----------
    found : TrialEvaluation
    content : dict
        Its numbers, from `summarise_trials`.
    folder : Path
        Created if missing.

    Returns
    -------
    list of Path
        Files written, the page first.
    """
    curves = [(variant.name, variant.detection) for variant in found.variants if variant.detection is not None]
    plots = {DET_PNG: det_plot(curves)} if curves else {}
    files = {**plots, SCORES_CSV: scores_csv(found), SCORES_TXT: scores_txt(found)}
    return write_report_files(folder, page(content, plots), content, files)


def scores_csv(found: TrialEvaluation) -> bytes:
    """Return the trials as CSV: ``enrol``, ``test``, ``label`` and a column of scores for each variant."""
    trials = found.trials
    writer = csv.writer(buffer := io.StringIO(), lineterminator="\r\n")
    writer.writerow(["enrol", "test", "label", *(variant.name for variant in found.variants)])
    columns = [[f"{score:.6g}" for score in variant.scores.tolist()] for variant in found.variants]
    names = _names(found)
    writer.writerows(zip(*names, trials.pairs.target.astype(int).tolist(), *columns, strict=True))
    return _encode(buffer.getvalue())


def scores_txt(found: TrialEvaluation) -> bytes:
    """Return the last variant's scores as rows ``score enrol test``."""
    scores = found.variants[-1].scores.tolist()
    return _encode("".join(f"{score:.6g} {a} {b}\n" for score, a, b in zip(scores, *_names(found), strict=True)))


def _names(found: TrialEvaluation) -> tuple[list[str], list[str]]:
    trials = found.trials
    return (
        [trials.models[model] for model in trials.pairs.first.tolist()],
        [trials.tests[recording] for recording in trials.pairs.second.tolist()],
    )


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def page(content: dict[str, Any], plots: dict[str, bytes]) -> str:
    """Render the report as HTML, with the plot embedded."""
    return (
        environment()
        .get_template("trials.html")
        .render(
            content,
            project=project_name(Path(content["trials"]["list"])),
            date=datetime.datetime.now().astimezone().date().isoformat(),
            image={name.removesuffix(".png"): plot_image(png) for name, png in plots.items()},
        )
    )
