"""Output of diarization: segments as text, CSV, RTTM, Audacity labels, a Raven selection table, and a plot."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from urllib.parse import quote

from audionet.inference.segmentation import Segment
from audionet.utils.plots import DPI, png
from audionet.utils.text import escape

CSV_HEADER = "start,end,label,probability,unknown"
RAVEN_HEADER = "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation"
_MAX_ROWS = 20
_WIDTH = 10  # inches
_KNOWN, _OTHERS, _UNKNOWN = "#2f6f9f", "#8fb3cc", "#d9d9d9"
_TICK_SECONDS = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


def format_time(seconds: float, decimals: int = 0) -> str:
    """Format seconds as ``1:02:03``, or ``1:02:03.5`` with one decimal."""
    units = round(seconds * 10**decimals)
    whole, part = divmod(units, 10**decimals)
    fraction = f".{part:0{decimals}d}" if decimals else ""
    return f"{whole // 3600}:{whole // 60 % 60:02d}:{whole % 60:02d}{fraction}"


def format_segment(segment: Segment) -> str:
    """Format a segment as a line of text."""
    name = "unknown" if segment.label is None else escape(segment.label)
    probability = "" if segment.label is None else f"{segment.probability:.2%}"
    return f"  {format_time(segment.start, 1)} – {format_time(segment.end, 1)}  {probability:>7}  {name}"


def segment_to_csv(segment: Segment) -> str:
    """Format a segment as a line of CSV without the line ending, in the columns of `CSV_HEADER`; times in seconds.

    An unknown speaker has neither label nor probability, and ``true`` in the last column, so that any label name is
    allowed.
    """
    # Only with this line ending do all versions of Python quote a label that contains a carriage return.
    csv.writer(buffer := io.StringIO(), lineterminator="\r\n").writerow(
        [
            f"{segment.start:.3f}",
            f"{segment.end:.3f}",
            segment.label or "",
            "" if segment.label is None else f"{segment.probability:.6f}",
            "true" if segment.label is None else "false",
        ]
    )
    return buffer.getvalue().removesuffix("\r\n")


def segment_to_rttm(segment: Segment, recording: str, channel: int = 1) -> str:
    """Format a segment as a SPEAKER line of NIST's Rich Transcription Time Marked format (RT-09 plan, 2009).

    Fields are separated by spaces, and ``<NA>`` and the like are reserved: in the names of the recording and the label,
    white space, control characters, ``%`` and ``<`` are percent-encoded (RFC 3986). An unknown speaker is
    ``<unknown>``.
    """
    start, end = round(segment.start, 3), round(segment.end, 3)
    name = "<unknown>" if segment.label is None else _field(segment.label)
    return f"SPEAKER {_field(recording)} {channel} {start:.3f} {end - start:.3f} <NA> <NA> {name} <NA> <NA>"


def segment_to_audacity(segment: Segment) -> str:
    """Format a segment as a line of an Audacity label track; an unknown speaker is ``<unknown>``."""
    return f"{segment.start:.6f}\t{segment.end:.6f}\t{_cell(segment.label)}"


def segment_to_raven(segment: Segment, number: int, channel: int = 1) -> str:
    """Format a segment as a line of a Raven selection table, in the columns of `RAVEN_HEADER`."""
    times = f"{segment.start:.3f}\t{segment.end:.3f}"
    return f"{number}\tWaveform {channel}\t{channel}\t{times}\t{_cell(segment.label)}"


def label_tracks(segments: Sequence[Segment], channel: int = 1) -> dict[str, str]:
    """Return the segments of a recording as a label track of Audacity and a selection table of Raven.

    Returns
    -------
    dict of str to str
        Content of each file by the ending of its name, which follows that of the recording.
    """
    rows = [segment_to_raven(segment, number, channel) for number, segment in enumerate(segments, 1)]
    lines = {".txt": list(map(segment_to_audacity, segments)), ".selections.txt": [RAVEN_HEADER, *rows]}
    return {ending: "".join(f"{line}\n" for line in some) for ending, some in lines.items()}


def _cell(label: str | None) -> str:
    """Return a label as a cell between tabs."""
    return "<unknown>" if label is None else re.sub(r"[\t\r\n]+", " ", label)


def _field(name: str) -> str:
    return re.sub(
        r"[\s\x00-\x1f\x7f%<\udc80-\udcff]", lambda found: quote(found[0], safe="", errors="surrogateescape"), name
    )


def diarization_plot(segments: Sequence[Segment], seconds: float, title: str) -> bytes:
    """Plot segments as a PNG: one row per speaker with its total time, the longest first.

    Speakers beyond the first 20 share a row; unknown speakers have the last row, hatched.

    Parameters
    ----------
    segments : sequence of Segment
    seconds : float
        The recording's length.
    title : str
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MultipleLocator

    rows = _rows(segments)
    figure = Figure(figsize=(_WIDTH, 1.1 + 0.27 * max(1, len(rows))), layout="constrained")
    axes = figure.subplots()
    length = max(seconds, 1.0)
    for index, row in enumerate(rows):
        spans = _visible(row.spans, length / (_WIDTH * DPI))
        colour = {"known": _KNOWN, "others": _OTHERS, "unknown": _UNKNOWN}[row.kind]
        hatch = "//////" if row.kind == "unknown" else None
        bars = [(start, end - start) for start, end in spans]
        axes.broken_barh(bars, (index - 0.38, 0.76), facecolor=colour, edgecolor="#8c8c8c", linewidth=0, hatch=hatch)
    axes.set_xlim(0, length)
    axes.set_ylim(max(1, len(rows)) - 0.5, -0.5)
    # A label may contain dollar signs, which matplotlib would parse as mathematics.
    axes.set_yticks(range(len(rows)), [escape(row.name)[:24] for row in rows], fontsize=8, parse_math=False)
    times = axes.secondary_yaxis("right")
    times.set_yticks(range(len(rows)), [format_time(row.seconds) for row in rows], fontsize=7, color="#666666")
    interval = next((tick for tick in _TICK_SECONDS if length / tick <= 9), math.ceil(length / 9 / 86400) * 86400)
    axes.xaxis.set_major_locator(MultipleLocator(interval))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: format_time(value)))
    axes.tick_params("x", labelsize=8)
    axes.tick_params("y", length=0)
    times.tick_params("y", length=0)
    axes.set_axisbelow(True)
    axes.grid(axis="x", color="#e6e6e6", linewidth=0.8)
    for spine in ("top", "left", "right"):
        axes.spines[spine].set_visible(False)
    times.spines["right"].set_visible(False)
    axes.set_xlabel("time, h:mm:ss", fontsize=8)
    axes.set_title(escape(title)[:100], loc="left", fontsize=10, parse_math=False)
    if not rows:
        axes.text(0.5, 0.5, "silent", transform=axes.transAxes, ha="center", va="center", color="#666666")
    return png(figure)


class _Row(NamedTuple):
    name: str
    kind: str
    seconds: float
    spans: list[tuple[float, float]]


def _rows(segments: Sequence[Segment]) -> list[_Row]:
    by_label: dict[str | None, list[tuple[float, float]]] = {}
    for segment in segments:
        by_label.setdefault(segment.label, []).append((segment.start, segment.end))
    unknown = by_label.pop(None, [])
    known = sorted(
        (_Row(label, "known", _total(spans), spans) for label, spans in by_label.items() if label is not None),
        key=lambda row: -row.seconds,
    )
    # A shared row for a single label would save no space.
    shown = known if len(known) <= _MAX_ROWS + 1 else known[:_MAX_ROWS]
    rest = known[len(shown) :]
    rows = list(shown)
    if rest:
        spans = [span for row in rest for span in row.spans]
        rows.append(_Row(f"{len(rest)} others", "others", _total(spans), spans))
    if unknown:
        rows.append(_Row("unknown", "unknown", _total(unknown), unknown))
    return rows


def _total(spans: Sequence[tuple[float, float]]) -> float:
    return sum(end - start for start, end in spans)


def _visible(spans: Iterable[tuple[float, float]], pixel: float) -> list[tuple[float, float]]:
    """Widen spans to at least one pixel, and join those with a gap of less than a pixel."""
    joined: list[tuple[float, float]] = []
    for start, end in sorted(spans):
        end = max(end, start + pixel)
        if joined and start < joined[-1][1] + pixel:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((start, end))
    return joined
