"""The report of an evaluation: one page to read and print, the numbers as JSON, and the plots as PNGs."""

from __future__ import annotations

import base64
import datetime
import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audionet.classifier.open_set import SEGMENT_CHUNKS
from audionet.evaluation.batch_inference import image_at
from audionet.evaluation.evaluate import Evaluation
from audionet.evaluation.plots import cost_plot, det_plot, duration_plot, openset_plot, reliability_plot, roc_plot
from audionet.evaluation.summary import open_set_scores
from audionet.metrics.accuracy import accuracy
from audionet.metrics.detection import Detection
from audionet.utils.arrays import IntArray
from audionet.utils.files import make_folder, write_bytes, write_json
from audionet.utils.plots import DPI, confusion_plot
from audionet.utils.text import escape

if TYPE_CHECKING:
    from jinja2 import Environment

    from audionet.inference.predictor import Predictor

PNGS = (
    "confusion.png",
    "roc.png",
    "det.png",
    "reliability.png",
    "length.png",
    "openset.png",
    "cost.png",
    "confusion_before.png",
)
"""Every plot there may be beside a report."""

_TEMPLATES = Path(__file__).parent / "templates"
_NOTHING = "–"
_MOST_CURVES = 10
_MOST_IN_MATRIX = 20
_MOST_ROWS = 50
_MOST_LABELS = 100
_MOST_FILES = 20
_MOST_NAMED = 10
_CSS_DPI = 96


class PlotImage(NamedTuple):
    """A plot for the page: its data URI, and its size in CSS pixels."""

    source: str
    width: int
    height: int


class Matrix(NamedTuple):
    """Counts of answers, a row for each true label; None is unknown."""

    answers: list[str | None]
    rows: list[tuple[str | None, list[int]]]


class Some(NamedTuple):
    """The first of many, and how many are left out."""

    shown: list[Any]
    left_out: int


class LabelRow(NamedTuple):
    """How one label fared; None where there is nothing to divide by."""

    label: str
    recordings: int
    recall: float | None
    answered: int
    precision: float | None
    f1: float | None


class Mistake(NamedTuple):
    """A wrong answer, and the image of the chunk that was surest of it, if it can still be made."""

    said: dict[str, Any]
    image: str | None
    refused: bool


def write_report(found: Evaluation, content: dict[str, Any], predictor: Predictor, folder: Path) -> list[Path]:
    """Write report.html, report.json and the plots; plots of an earlier report do not stay.

    Parameters
    ----------
    found : Evaluation
    content : dict
        What `evaluation.as_json` says of it.
    predictor : Predictor
    folder : Path
        Is made if missing.

    Returns
    -------
    list of Path
        What was written, the page first.
    """
    plots = draw(found, content, predictor)
    html = page(found, content, predictor, plots)
    make_folder(folder)
    for name in PNGS:
        if name in plots:
            write_bytes(folder / name, plots[name])
        else:
            (folder / name).unlink(missing_ok=True)
    write_json(folder / "report.json", content)
    write_bytes(folder / "report.html", html.encode("utf-8"))
    return [folder / "report.html", folder / "report.json", *(folder / name for name in plots)]


def draw(found: Evaluation, content: dict[str, Any], predictor: Predictor) -> dict[str, bytes]:
    """The plots that there is something to draw for, by file name."""
    plots = {"confusion.png": _confusion(found, found.decided, found.unknown_decided)}
    pooled = found.detection()
    if pooled is not None:
        curves = _worst_curves(found, content)
        plots |= {"roc.png": roc_plot(curves, pooled), "det.png": det_plot(curves, pooled)}
    if len(found.true):
        plots["reliability.png"] = reliability_plot(found.reliability(calibrated=False), found.reliability(True))
        plots["length.png"] = duration_plot(found.lengths())
    known, unknown, _ = open_set_scores(found, predictor)
    if len(known) or len(unknown):
        plots["openset.png"] = openset_plot(known, unknown, predictor.threshold)
    if content["costs"]:
        if found.picked is not None and found.picked.curve:
            plots["cost.png"] = cost_plot(found.picked, found.labels)
        plots["confusion_before.png"] = _confusion(found, *_without_costs(found))
    return plots


def page(found: Evaluation, content: dict[str, Any], predictor: Predictor, plots: dict[str, bytes]) -> str:
    """The report as HTML, the plots inside.

    Names come from folders and files, and may hold anything: whatever the template inserts is made printable, and
    then escaped.
    """
    wrong = [pair for pair in content["confusion"]["pairs"] if pair["true"] != pair["answer"]]
    data = content["data"]
    skipped, in_part = (
        _some([(entry["file"], entry["reason"]) for entry in data[name]], _MOST_FILES)
        for name in ("skipped", "judged_in_part")
    )
    return (
        _environment()
        .get_template("report.html")
        .render(
            content,
            date=datetime.datetime.now().astimezone().date().isoformat(),
            graph=str(predictor.graph),
            image={name.removesuffix(".png"): _image(png) for name, png in plots.items()},
            sets={name: _some(data[name], _MOST_NAMED) for name in ("missing_labels", "foreign_labels")}
            | {"cut_in_time": _some(data["recordings_also_heard_in_training"], _MOST_NAMED)},
            skipped=skipped,
            in_part=in_part,
            trained_on_whole=content["model"]["trained_on"]["chunks"] == content["model"]["trained_on"]["recordings"],
            matrix=_matrix(content, found.labels),
            confusions=_some(sorted(wrong, key=lambda pair: -pair["count"]), _MOST_ROWS),
            label_rows=_label_rows(content),
            detected=_detected(content),
            trials=(len(found.true) + len(found.unknown_scores)) * len(found.labels),
            most_curves=_MOST_CURVES,
            stretch_chunks=SEGMENT_CHUNKS,
            open_set_card=predictor.card["open_set"],
            rule_costs=_some(content["costs"]["rule"]["costs"], _MOST_FILES) if content["costs"] else None,
            label_names=found.labels,
            gallery=_gallery(found, content, predictor),
            wrong=int((found.given != found.true).sum()),
        )
    )


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_inserted,
    )
    environment.filters |= {
        "clock": clock,
        "counted": _counted,
        "decimal": _decimal,
        "number": _number,
        "percent": _percent,
    }
    environment.globals |= {"interval": _interval, "share": _share, "wilson": _wilson}
    return environment


def _inserted(value: Any) -> Any:
    """A value as it goes onto the page, where it is then escaped."""
    if isinstance(value, str) and not hasattr(value, "__html__") and not value.isprintable():
        return escape(value)
    return value


def clock(seconds: float) -> str:
    """``01:07.5``, minutes and seconds into a recording."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes:02d}:{tenths / 10:04.1f}"


def _number(value: int) -> str:
    return f"{value:,}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _percent(value: float | None, digits: int = 1) -> str:
    return _NOTHING if value is None else f"{value:.{digits}%}"


def _decimal(value: float | None, digits: int = 3) -> str:
    return _NOTHING if value is None else f"{value:.{digits}f}"


def _share(part: int, total: int) -> str:
    return _percent(part / total if total else None)


def _interval(low: float | None, high: float | None) -> str:
    return _NOTHING if low is None or high is None else f"{low:.1%} to {high:.1%}"


def _wilson(part: int, total: int) -> str:
    found = accuracy(np.arange(total) < part)
    return _interval(found.low, found.high) if total else _NOTHING


def _image(png: bytes) -> PlotImage:
    width, height = struct.unpack(">II", png[16:24])
    return PlotImage(_data_uri(png, "png"), round(width * _CSS_DPI / DPI), round(height * _CSS_DPI / DPI))


def _data_uri(image: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def _some(values: Sequence[Any], most: int) -> Some:
    return Some(list(values[:most]), max(0, len(values) - most))


def _confusion(found: Evaluation, decided: IntArray, unknown_decided: IntArray) -> bytes:
    """The confusion matrix as a PNG, with a row and a column of unknown voices where there are any."""
    true = np.concatenate([found.true, np.full(len(unknown_decided), -1)])
    given = np.concatenate([decided, unknown_decided])
    labels = [*found.labels, "(unknown)"] if min(true.min(), given.min()) < 0 else found.labels
    refused = ((given < 0) & (true >= 0)).any()
    what = "recordings refused or" if refused else "test recordings"
    return confusion_plot(np.where(true < 0, len(found.labels), true), given % len(labels), labels, what)


def _without_costs(found: Evaluation) -> tuple[IntArray, IntArray]:
    """What would be decided if all mistakes cost the same, of known voices and of others."""
    unknown = np.array([one.probabilities.argmax() for one in found.heard.unknown], np.int64)
    return (
        np.where(found.decided < 0, -1, found.most_probable),
        np.where(found.unknown_decided < 0, -1, unknown),
    )


def _worst_curves(found: Evaluation, content: dict[str, Any]) -> list[tuple[str, Detection]]:
    rates = [entry.get("equal_error_rate", -1.0) for entry in content["verification"]["labels"]]
    worst = np.argsort(-np.array(rates), kind="stable")[:_MOST_CURVES].tolist()
    curves = [(found.labels[place], found.detection(place)) for place in sorted(worst)]
    return [(label, curve) for label, curve in curves if curve is not None]


def _matrix(content: dict[str, Any], labels: Sequence[str]) -> Matrix | None:
    """The confusion matrix; None of more labels than fit on a page. Labels without a recording have no row."""
    if len(labels) > _MOST_IN_MATRIX:
        return None
    counts = {(pair["true"], pair["answer"]): pair["count"] for pair in content["confusion"]["pairs"]}
    tested, unknown = {true for true, _ in counts}, any(answer is None for _, answer in counts)
    answers: list[str | None] = [*labels, None] if unknown else [*labels]
    rows = [(true, [counts.get((true, answer), 0) for answer in answers]) for true in (*labels, None) if true in tested]
    return Matrix(answers, rows)


def _label_rows(content: dict[str, Any]) -> Some:
    """Every label; of very many, the tested ones with the lowest F1."""
    rows = []
    for entry in content["labels"]["labels"]:
        rows.append(
            LabelRow(
                entry["label"],
                entry["recordings"],
                entry["recall"],
                entry["answered"],
                entry["precision"],
                entry["f1"],
            )
        )
    if len(rows) > _MOST_LABELS:
        rows.sort(key=lambda row: math.inf if row.f1 is None else row.f1)
        return _some(rows, _MOST_ROWS)
    return Some(rows, 0)


def _detected(content: dict[str, Any]) -> Some:
    """Labels with target and nontarget trials, those with the highest equal error rates first."""
    rows = [entry for entry in content["verification"]["labels"] if "equal_error_rate" in entry]
    return _some(sorted(rows, key=lambda entry: -entry["equal_error_rate"]), _MOST_ROWS)


def _gallery(found: Evaluation, content: dict[str, Any], predictor: Predictor) -> list[Mistake]:
    said = content["mistakes"]
    mistakes = []
    for entry, (place, chunk) in zip(said, found.mistakes(len(said)), strict=True):
        one = found.heard.recordings[place]
        jpg = image_at(predictor, one.recorded, float(one.starts[chunk]))
        mistakes.append(Mistake(entry, None if jpg is None else _data_uri(jpg, "jpeg"), bool(found.decided[place] < 0)))
    return mistakes
