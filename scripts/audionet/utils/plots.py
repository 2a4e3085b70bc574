"""Plots of a training run: learning curves and the confusion matrix."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.utils.text import escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 130
MAX_LABELS_IN_ORDER = 25
"""Labels that a confusion matrix has in their order; of more, it shows those with mistakes."""

_MAX_LABELS = 40
_MAX_CELL, _MAX_MATRIX = 0.32, 5.8  # inches
_COLOURS = {"training": "#888888", "validation": "#c23b22"}


class CurvePoint(NamedTuple):
    """Point of the learning curves."""

    set: str
    step: int
    loss: float
    accuracy: float


def curves_plot(points: Sequence[CurvePoint], best_step: int, strengths: Sequence[float] = ()) -> bytes:
    """Plot cross entropy and accuracy over the steps, as a PNG; a line marks the step whose weights were kept.

    Parameters
    ----------
    points : sequence of CurvePoint
    best_step : int
    strengths : sequence of float
        L2 strengths, if the steps number them from 1 and do not follow each other in time.
    """
    from matplotlib.figure import Figure

    kept = f"{strengths[best_step - 1]:g}" if strengths else f"step {best_step}"
    what = "share right: training by chunk, held out by recording" if strengths else "share of chunks right"
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for panel, name in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for of_set, colour in _COLOURS.items():
            chosen = [point for point in points if point.set == of_set]
            if chosen:
                values = [getattr(point, name) for point in chosen]
                panel.plot([point.step for point in chosen], values, color=colour, label=of_set, linewidth=1.4)
        panel.axvline(best_step, color="#bbbbbb", linestyle=":", linewidth=1, label=f"kept: {kept}")
        panel.set_xlabel("L2 strength" if strengths else "step")
        if strengths:
            panel.set_xticks(range(1, len(strengths) + 1), [f"{strength:g}" for strength in strengths])
        panel.set_title({"loss": "cross entropy", "accuracy": what}[name], loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(frameon=False, fontsize=8)
    return png(figure)


def learning_curve_plot(recordings: Sequence[float], accuracies: Sequence[tuple[float, float, float]]) -> bytes:
    """Plot accuracy over the number of recordings a label, as a PNG.

    Parameters
    ----------
    recordings : sequence of n float
        Mean number of recordings a label.
    accuracies : sequence of n (float, float, float)
        Accuracy, and the bounds of its 95 % interval, 0 to 1.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.4, 3.6), layout="constrained")
    axes = figure.subplots()
    shares, low, high = np.array(accuracies).T
    axes.fill_between(recordings, low, high, color=_COLOURS["training"], alpha=0.25, linewidth=0, label="95 % interval")
    axes.plot(recordings, shares, color=_COLOURS["validation"], marker="o", linewidth=1.4, label="accuracy")
    axes.set_xlabel("recordings a label")
    axes.set_title("share of recordings right, cross-validated", loc="left", fontsize=10)
    axes.set_ylim(min(0.95 * float(low.min()), 0.9), 1.005)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8, loc="lower right")
    return png(figure)


def confusion_matrix(true: NDArray[np.int64], given: NDArray[np.int64], labels: int) -> NDArray[np.int64]:
    """Count the confusions of true labels (rows) with predicted ones (columns), shape (labels, labels)."""
    counts = np.zeros((labels, labels), np.int64)
    np.add.at(counts, (true, given), 1)
    return counts


def confusion_plot(
    true: NDArray[np.int64],
    given: NDArray[np.int64],
    labels: Sequence[str],
    what: str = "test chunks",
    others: Sequence[str] = (),
) -> bytes:
    """Plot the confusion matrix as a PNG: a row for each true label, coloured by share, with counts where they fit.

    Of more than `MAX_LABELS_IN_ORDER` labels, those with mistakes are shown, or the ones with most; labels that are
    taken for each other stand side by side.

    Parameters
    ----------
    true, given : ndarray of int64, shape (n,)
    labels : sequence of str
    what : str
        Noun of the n answers, in the plural.
    others : sequence of str
        Further answers, such as unknown, with the numbers that follow the labels'; they come last.
    """
    from matplotlib.figure import Figure

    wrong = true != given
    drawn = _drawn_labels(true[wrong], given[wrong], len(labels), len(others))
    chosen = np.append(drawn, len(labels) + np.arange(len(others)))
    names = [*labels, *others]
    place = np.full(len(names), -1)
    place[chosen] = np.arange(len(chosen))
    shown = (place[true] >= 0) & (place[given] >= 0)
    counts = confusion_matrix(place[true[shown]], place[given[shown]], len(chosen))
    totals = np.bincount(true, minlength=len(names))[chosen]
    shares = counts / np.maximum(totals, 1)[:, None]
    cell = min(_MAX_CELL, _MAX_MATRIX / len(chosen))
    side = 2.2 + cell * max(4, len(chosen))
    figure = Figure(figsize=(side + 0.6, side), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    size = 7 * min(1.0, cell / 0.2)
    for row, column in zip(*np.nonzero(counts), strict=True):
        colour = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", fontsize=size, color=colour)
    ticks_named = [escape(names[i])[:24] for i in chosen]
    ticks = np.arange(len(chosen))
    # A label may hold dollar signs, which matplotlib would take for mathematics.
    axes.set_xticks(ticks, ticks_named, rotation=90, fontsize=7, parse_math=False)
    axes.set_yticks(ticks, ticks_named, fontsize=7, parse_math=False)
    axes.set_xlabel("taken for")
    axes.set_ylabel("true label")
    some = f", {len(drawn)} of {len(labels)} labels" if len(drawn) < len(labels) else ""
    axes.set_title(f"{int(wrong.sum())} of {len(true)} {what} wrong{some}", loc="left", fontsize=10)
    return png(figure)


def _drawn_labels(true: NDArray[np.int64], given: NDArray[np.int64], labels: int, others: int) -> NDArray[np.int64]:
    """Return the labels that a confusion matrix shows, in order, from the mistakes: true and predicted labels."""
    if labels <= MAX_LABELS_IN_ORDER:
        return np.arange(labels)
    confused = confusion_matrix(true, given, labels + others)
    confused += confused.T
    mistakes = confused.sum(axis=0)[:labels]
    if not mistakes.any():
        return np.arange(_MAX_LABELS)[:labels]
    from scipy.sparse import csr_array
    from scipy.sparse.csgraph import reverse_cuthill_mckee

    chosen = np.sort(np.argsort(-mistakes, kind="stable")[:_MAX_LABELS])
    chosen = chosen[mistakes[chosen] > 0]
    # The order that brings mistakes near the diagonal (Cuthill & McKee, Reducing the bandwidth, 1969).
    order: NDArray[np.int64] = chosen[reverse_cuthill_mckee(csr_array(confused[np.ix_(chosen, chosen)]), True)]
    return order


def png(figure: Figure) -> bytes:
    """Encode a figure as a PNG."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about glyphs missing from the font, drawn as boxes
        figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()
