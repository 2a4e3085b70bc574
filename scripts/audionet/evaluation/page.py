"""Pages of an evaluation: templates, filters and embedded images."""

from __future__ import annotations

import base64
import hashlib
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from audionet.metrics.accuracy import accuracy
from audionet.utils.files import make_folder, write_bytes, write_json
from audionet.utils.plots import DPI
from audionet.utils.text import escape

if TYPE_CHECKING:
    from jinja2 import Environment

_TEMPLATES = Path(__file__).parent / "templates"
PNGS = (
    "confusion.png",
    "map.png",
    "roc.png",
    "det.png",
    "reliability.png",
    "length.png",
    "openset.png",
    "cost.png",
    "confusion_before.png",
)
"""File names of all plots that a report may have."""

PRECISION_RECALL_PNG = "precision_recall.png"
"""File name of the plot in the report of a model that answers with several labels at a time."""

FEW_LABELS = 20
"""Labels of which a page shows every row; of more, the worst, and all of them folded."""

MAX_ROWS = 1000
"""Rows of a folded table; more are in report.json alone."""

_NO_VALUE = "–"
_CSS_DPI = 96


class PlotImage(NamedTuple):
    """Plot for the page: its data URI, and its size in CSS pixels."""

    source: str
    width: int
    height: int


class Truncated(NamedTuple):
    """First items of a list, and the number of omitted ones."""

    shown: list[Any]
    left_out: int


def environment() -> Environment:
    """Create the environment of the pages' templates, with their filters."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_make_printable,
    )
    environment.filters |= {
        "clock": clock,
        "counted": _counted,
        "decimal": _decimal,
        "number": _number,
        "percent": _percent,
    }
    script = (_TEMPLATES / "report.js").read_text("utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    environment.globals |= {
        "interval": _interval,
        "share": _share,
        "wilson": _wilson,
        "script": script,
        "script_hash": f"sha256-{digest}",
    }
    return environment


def _make_printable(value: Any) -> Any:
    """Replace characters of an inserted string that cannot be printed; Jinja escapes it for HTML afterwards."""
    if isinstance(value, str) and not hasattr(value, "__html__") and not value.isprintable():
        return escape(value)
    return value


def clock(seconds: float) -> str:
    """Format a time in a recording as minutes and seconds, such as ``01:07.5``."""
    minutes, tenths = divmod(round(10 * seconds), 600)
    return f"{minutes:02d}:{tenths / 10:04.1f}"


def _number(value: int) -> str:
    return f"{value:,}"


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _percent(value: float | None, digits: int = 1) -> str:
    return _NO_VALUE if value is None else f"{value:.{digits}%}"


def _decimal(value: float | None, digits: int = 3) -> str:
    return _NO_VALUE if value is None else f"{value:.{digits}f}"


def _share(part: int, total: int) -> str:
    return _percent(part / total if total else None)


def _interval(low: float | None, high: float | None) -> str:
    return _NO_VALUE if low is None or high is None else f"{low:.1%} to {high:.1%}"


def _wilson(part: int, total: int) -> str:
    found = accuracy(np.arange(total) < part)
    return _interval(found.low, found.high) if total else _NO_VALUE


def plot_image(png: bytes) -> PlotImage:
    """Embed a plot, at its size on the page."""
    width, height = struct.unpack(">II", png[16:24])
    return PlotImage(data_uri(png, "png"), round(width * _CSS_DPI / DPI), round(height * _CSS_DPI / DPI))


def data_uri(image: bytes, kind: str) -> str:
    """Encode an image as a data URI."""
    return f"data:image/{kind};base64,{base64.b64encode(image).decode('ascii')}"


def truncate(values: Sequence[Any], limit: int) -> Truncated:
    """Return the first items of a list, and the number of the others."""
    return Truncated(list(values[:limit]), max(0, len(values) - limit))


def write_report_files(folder: Path, html: str, content: dict[str, Any], files: Mapping[str, bytes]) -> list[Path]:
    """Write report.html, report.json and other files of a report; plots of an earlier report are deleted.

    Parameters
    ----------
    folder : Path
        Created if missing.
    html : str
    content : dict
        Of report.json.
    files : mapping of str to bytes
        Plots and others, by file name.

    Returns
    -------
    list of Path
        Files written, the page first.
    """
    make_folder(folder)
    for name in {*PNGS, PRECISION_RECALL_PNG} - set(files):
        (folder / name).unlink(missing_ok=True)
    for name, data in files.items():
        write_bytes(folder / name, data)
    write_json(folder / "report.json", content)
    write_bytes(folder / "report.html", html.encode("utf-8"))
    return [folder / "report.html", folder / "report.json", *(folder / name for name in files)]
