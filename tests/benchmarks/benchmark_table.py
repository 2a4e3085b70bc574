"""Tables and the picture of a benchmark's results."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmark_results import Report, Row
from contestants import CONTESTANTS
from PIL import Image

from audionet.data.named_datasets import DATASETS
from audionet.utils.plots import png
from audionet.utils.text import pluralise

_COSTS = ("train, s", "label cold, s", "each further, ms", "model, MB", "memory, MB")
_COLOURS = 64
_PANELS = 2  # beside each other, in the picture


def title_of(contestant: str) -> str:
    """Return the title of a contestant, also of one that is no more."""
    return CONTESTANTS[contestant].title if contestant in CONTESTANTS else contestant


def numbers_of(report: Report) -> list[int | None]:
    """Return the numbers of recordings a label, ascending, all recordings last."""
    return sorted({row.number for row in report.rows}, key=lambda number: (number is None, number or 0))


def accuracy_cell(row: Row | None) -> str:
    """Format an accuracy with its interval, percent."""
    if row is None or row.failure:
        return "" if row is None else "not run"
    return f"{100 * row.right / row.total:.1f} ({100 * row.low:.0f}–{100 * row.high:.0f})"


def table(report: Report) -> str:
    """Format a report as a Markdown table: accuracies by number of recordings, EER and costs at the largest one.

    Below stands why contestants have not been run.
    """
    numbers = numbers_of(report)
    by_place = {(row.contestant, row.number): row for row in report.rows}
    has_eer = any(row.eer is not None for row in report.rows)
    amounts = ["all" if number is None else str(number) for number in numbers]
    header = ["% right, by recordings a label", *amounts, *(["EER, %"] if has_eer else []), *_COSTS]
    lines = [header, ["---"] * len(header)]
    failures: dict[str, str] = {}
    for name in _in_order(report):
        rows = [by_place.get((name, number)) for number in numbers]
        done = [row for row in rows if row is not None and not row.failure]
        largest = done[-1] if done else None
        failures |= {title_of(name): row.failure for row in rows if row is not None and row.failure}
        eer = [] if not has_eer else [f"{100 * largest.eer:.1f}" if largest and largest.eer is not None else ""]
        lines.append([title_of(name), *map(accuracy_cell, rows), *eer, *_cost_cells(largest)])
    reasons = [f"Not run: {name}: {reason}." for name, reason in failures.items()]
    return "\n\n".join(["\n".join(f"| {' | '.join(line)} |" for line in lines), *reasons])


def _in_order(report: Report) -> list[str]:
    """Return the contestants of a report in the order of CONTESTANTS, those that are no more last."""
    names = {row.contestant: None for row in report.rows}
    return [name for name in CONTESTANTS if name in names] + [name for name in names if name not in CONTESTANTS]


def _cost_cells(row: Row | None) -> list[str]:
    if row is None or row.cost is None:
        return [""] * len(_COSTS)
    cost = row.cost
    return [
        f"{cost.train_seconds:.0f}",
        f"{cost.cold_seconds:.1f}",
        f"{1000 * cost.warm_seconds:.0f}",
        f"{cost.model_size:.2g}" if cost.model_size < 10 else f"{cost.model_size:.0f}",
        f"{cost.train_peak:.0f}, {cost.label_peak:.0f}",
    ]


def section(report: Report) -> str:
    """Format a report as a section of BENCHMARKS.md."""
    kept = ", groups kept apart" if report.grouped else ""
    about = (
        f"{pluralise(report.labels, 'label')}, {pluralise(report.recordings, 'recording')}{kept}; "
        f"{report.tested} tested. {report.date}; {report.machine}."
    )
    parts = (f"## {report.title}", about, report.note, f"    {report.command}", table(report))
    return "\n\n".join(filter(None, parts)) + "\n"


def write_document(reports: Sequence[Report], path: Path, introduction: str) -> None:
    """Write BENCHMARKS.md: what stands before its first section stays, the sections are written anew."""
    before = path.read_text("utf-8").partition("\n## ")[0].rstrip() if path.exists() else introduction.rstrip()
    versions: Mapping[str, str] = {name: version for report in reports for name, version in report.versions.items()}
    listed = ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))
    sections = "\n".join(map(section, reports))
    missing = ", ".join(not_run(reports))
    ends = f"## Not run\n\nThe recordings were not at hand: {missing}.\n\n## Versions\n\n{listed}.\n"
    path.write_text(f"{before}\n\n{sections}\n{ends}", "utf-8")


def not_run(reports: Sequence[Report]) -> list[str]:
    """Return the public datasets, with their labels, of which there is no report."""
    done = {report.name for report in reports}
    return [
        f"{name} by {by}" for name, dataset in DATASETS.items() for by in dataset.tables if f"{name}_{by}" not in done
    ]


def learning_curves(reports: Sequence[Report]) -> bytes | None:
    """Plot the accuracy of all contestants over recordings a label, a panel for each report, as a PNG.

    Returns
    -------
    bytes or None
        None if no report has two numbers of recordings.
    """
    from matplotlib.figure import Figure

    drawn = [report for report in reports if len(set(numbers_of(report)) - {None}) > 1]
    if not drawn:
        return None
    names = [name for name in CONTESTANTS if any(row.contestant == name and row.total for r in drawn for row in r.rows)]
    lines = -(-len(drawn) // _PANELS)
    figure = Figure(figsize=(3.9 * min(_PANELS, len(drawn)), 3.1 * lines + 1.3), layout="constrained")
    panels = figure.subplots(lines, min(_PANELS, len(drawn)), squeeze=False).ravel()
    handles: dict[str, Any] = {}
    for panel, report in zip(panels, drawn, strict=False):
        for place, name in enumerate(names):
            points = sorted((row.number, row.right / row.total) for row in _curve(report, name) if row.number)
            (handles[title_of(name).replace("`", "")],) = panel.plot(
                [number for number, _ in points],
                [share for _, share in points],
                "-" if "AudioNet" in title_of(name) else "--",
                color=f"C{place}" if place < 10 else "#222222",
                marker="o",
                markersize=3.5,
                linewidth=2.2 if name == "default" else 1.2,
            )
        ticks = sorted({row.number for row in report.rows if row.number})
        panel.set_xscale("log")
        panel.set_xticks(ticks, list(map(str, ticks)))
        panel.minorticks_off()
        panel.set_ylim(0, 1.03)
        panel.set_xlabel("recordings a label", fontsize=8)
        panel.set_title(f"share right: {report.title}", loc="left", fontsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(drawn) :]:
        panel.set_axis_off()
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=2, frameon=False, fontsize=8)
    return _with_few_colours(png(figure))


def _curve(report: Report, contestant: str) -> list[Row]:
    return [row for row in report.rows if row.contestant == contestant and row.total]


def _with_few_colours(picture: bytes) -> bytes:
    """Encode a PNG anew with a palette, of rare colours too: a fraction of the size."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(picture)).convert("RGB").quantize(_COLOURS, Image.Quantize.MAXCOVERAGE).save(
        buffer, "PNG", optimize=True
    )
    return buffer.getvalue()
