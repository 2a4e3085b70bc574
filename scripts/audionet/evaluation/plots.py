"""Plots of an evaluation report: verification errors, calibration, accuracy by clip length, open set and costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.evaluation.costs import RulePoint, SelectedRule
from audionet.metrics.accuracy import Accuracy
from audionet.metrics.classification import Reliability
from audionet.metrics.detection import Detection
from audionet.utils.arrays import AnyFloatArray, BoolArray, FloatArray
from audionet.utils.plots import png
from audionet.utils.text import escape, pluralise

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


Curves = Sequence[tuple[str, Detection]]

MAX_CURVES = 10
"""Maximum number of labels in a plot with a curve for each."""

_MAX_NAME_LENGTH = 24
_MAX_HORIZONTAL_TICK_LABELS = 12
_LINES = ("-", "--", "-.", ":")
_TICKS = np.array([0.1, 0.5, 1, 2, 5, 10, 20, 40, 60, 80, 90, 95, 98, 99.5, 99.9]) / 100
_MIN_RATE, _MAX_RATE, _MAX_RATE_EXTENDED = 0.0005, 0.5, 0.9995
_RED, _GREY = "#c23b22", "#888888"


def roc_plot(curves: Curves, pooled: Detection | None = None) -> bytes:
    """Draw the receiver operating characteristic as a PNG: detection rate over false alarm rate.

    Parameters
    ----------
    curves : sequence of (str, Detection)
        Each label and its trials. The labels with the highest equal error rates are drawn.
    pooled : Detection, optional
        Trials of all labels together.
    """
    figure, axes = _square()
    axes.plot([0, 1], [0, 1], color="#bbbbbb", linestyle=":", linewidth=1)
    axes.plot([0, 1], [1, 0], color="#bbbbbb", linewidth=0.8)
    for found, style in _styled_curves(curves, pooled):
        axes.plot(found.false_alarms, 1 - found.misses, **style)
    if pooled is not None:
        axes.plot(pooled.equal_error_rate, 1 - pooled.equal_error_rate, "o", color="black", markersize=5)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.01)
    axes.set_xlabel("false alarm rate")
    axes.set_ylabel("detection rate (1 − miss rate)")
    axes.set_title("ROC" + _title_suffix(pooled, area=True), loc="left", fontsize=10)
    _add_legend(axes, len(curves), "Equal error rate (targets + nontargets)")
    return png(figure)


def det_plot(curves: Curves, pooled: Detection | None = None) -> bytes:
    """Draw the detection error trade-off as a PNG: miss over false alarm rate, normal deviates (Martin et al., 1997).

    A rate of zero, which is infinite on such an axis, is drawn as half a trial.

    Parameters
    ----------
    curves : sequence of (str, Detection)
        Each label and its trials. The labels with the highest equal error rates are drawn.
    pooled : Detection, optional
        Trials of all labels together.
    """
    from scipy.special import ndtri

    drawn = _styled_curves(curves, pooled)
    # Extend the axes for equal error rates above a third, or a curve may lie outside them.
    extended = any(found.equal_error_rate > 1 / 3 for found, _ in drawn)
    highest = _MAX_RATE_EXTENDED if extended else _MAX_RATE
    figure, axes = _square()
    ends = ndtri([_MIN_RATE, highest])
    axes.plot(ends, ends, color="#bbbbbb", linewidth=0.8)
    for found, style in drawn:
        axes.plot(
            ndtri(_clip_rates(found.false_alarms, found.nontargets)),
            ndtri(_clip_rates(found.misses, found.targets)),
            **style,
        )
    if pooled is not None:
        crossing = np.clip(pooled.equal_error_rate, _MIN_RATE, _MAX_RATE_EXTENDED)
        axes.plot(ndtri(crossing), ndtri(crossing), "o", color="black", markersize=5)
    ticks = _TICKS[highest > _TICKS]
    names = [f"{100 * tick:g}" for tick in ticks]
    axes.set_xticks(ndtri(ticks), names, fontsize=8)
    axes.set_yticks(ndtri(ticks), names, fontsize=8)
    margin = 0.02 * (ends[1] - ends[0])
    axes.set_xlim(ends[0] - margin, ends[1])
    axes.set_ylim(ends[0] - margin, ends[1])
    axes.grid(color="#eeeeee", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel("false alarm rate, %")
    axes.set_ylabel("miss rate, %")
    axes.set_title("DET" + _title_suffix(pooled, area=False), loc="left", fontsize=10)
    _add_legend(axes, len(curves), "Equal error rate (targets + nontargets)")
    return png(figure)


class LabelCurve(NamedTuple):
    """Label whose precision is drawn over its recall.

    Attributes
    ----------
    label : str
    average_precision : float
    probabilities : ndarray of float32, shape (recordings,)
    present : ndarray of bool, shape (recordings,)
    chosen : (float or None, float or None)
        Recall and precision at the model's threshold.
    """

    label: str
    average_precision: float
    probabilities: FloatArray
    present: BoolArray
    chosen: tuple[float | None, float | None]


def precision_recall_plot(curves: Sequence[LabelCurve]) -> bytes:
    """Draw precision over recall as a PNG, for the labels with the lowest average precision."""
    from matplotlib import colormaps
    from sklearn.metrics import precision_recall_curve

    figure, axes = _square()
    worst = sorted(curves, key=lambda curve: curve.average_precision)[:MAX_CURVES]
    colours = colormaps["tab10"].colors  # type: ignore[attr-defined]
    for place, curve in enumerate(worst):
        precision, recall, _ = precision_recall_curve(curve.present, curve.probabilities)
        label = f"{curve.average_precision:.3f}  {_short(curve.label)} ({int(curve.present.sum())})"
        line = _LINES[place % len(_LINES)]
        axes.step(recall, precision, where="post", color=colours[place], linestyle=line, linewidth=1.1, label=label)
        chosen_recall, chosen_precision = curve.chosen
        if chosen_recall is not None and chosen_precision is not None:
            axes.plot(chosen_recall, chosen_precision, "o", color=colours[place], markersize=4)
    axes.set_xlim(-0.01, 1.01)
    axes.set_ylim(-0.01, 1.03)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    axes.set_title("Precision over recall", loc="left", fontsize=10)
    _add_legend(axes, len(curves), "Average precision (recordings)")
    return png(figure)


def reliability_plot(before: Reliability, after: Reliability | None = None) -> bytes:
    """Draw accuracy over confidence before and after calibration as a PNG, above a histogram of the confidences."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.6, 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    above.plot([0, 1], [0, 1], color="#666666", linestyle=":", linewidth=1, label="perfect calibration")
    for found, name, marker, colour, line in ((before, "before", "s", _GREY, "--"), (after, "after", "o", _RED, "-")):
        if found is None:
            continue
        error = f"expected calibration error {found.error:.1%}, " if found.n else ""
        label = f"{name} calibration: {error}{pluralise(found.n, 'recording')}"
        filled = found.counts > 0
        above.plot(
            found.confidence[filled],
            found.accuracy[filled],
            marker=marker,
            markersize=4,
            color=colour,
            linestyle=line,
            label=label,
        )
        below.stairs(found.counts, found.edges, linewidth=1.4, color=colour, linestyle=line)
    above.set_ylim(-0.02, 1.02)
    above.set_xlim(-0.01, 1.01)
    above.set_ylabel("accuracy")
    below.set_ylabel("recordings")
    below.set_ylim(0, 1.05 * max(1, before.counts.max(), 0 if after is None else after.counts.max()))
    below.yaxis.get_major_locator().set_params(integer=True)
    below.set_xlabel("confidence: probability of the predicted label")
    for axes in (above, below):
        axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    return png(figure)


def duration_plot(points: Sequence[tuple[str, Accuracy]]) -> bytes:
    """Draw accuracy with its 95 % interval over clip length as a PNG.

    Parameters
    ----------
    points : sequence of (str, Accuracy)
        Clip length, such as ``2 chunks``, and accuracy, in the order to draw. A length without clips has no point.
    """
    from matplotlib.figure import Figure

    many = len(points) > _MAX_HORIZONTAL_TICK_LABELS
    figure = Figure(
        figsize=(float(np.clip(1.5 + (0.3 if many else 0.8) * len(points), 5, 60)), 3.8), layout="constrained"
    )
    axes = figure.subplots()
    measured = [(place, found) for place, (_, found) in enumerate(points) if found.total]
    bottom = np.floor(10 * min((found.low for _, found in measured), default=0.0)) / 10
    places = [place for place, _ in measured]
    shares = np.array([found.share for _, found in measured])
    ends = np.array([(found.low, found.high) for _, found in measured]).reshape(-1, 2).T
    bars = np.abs(ends - shares)
    axes.plot(places, shares, color=_GREY, linewidth=1)
    axes.errorbar(places, shares, bars, fmt="o", color=_RED, ecolor="#444444", elinewidth=1.2, capsize=3, markersize=5)
    for place, (_, found) in enumerate(points):
        axes.annotate(
            f"N = {found.total}",
            (place, found.high if found.total else bottom),
            xytext=(0, 5),
            textcoords="offset points",
            ha="center",
            fontsize=7,
            rotation=90 if many else 0,
        )
    axes.set_ylim(bottom - 0.02 * (1 - bottom), 1 + (0.25 if many else 0.08) * (1 - bottom))
    axes.set_xlim(-0.6, max(len(points), 1) - 0.4)
    names = [_short(name) for name, _ in points]
    axes.set_xticks(range(len(points)), names, fontsize=8, parse_math=False, rotation=90 if many else 0)
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%" if value <= 1 + 1e-9 else "")
    axes.set_ylabel("accuracy, 95 % interval")
    axes.set_title("Accuracy by clip length", loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def openset_plot(known: AnyFloatArray, unknown: AnyFloatArray, threshold: float | None = None) -> bytes:
    """Draw histograms of the open-set scores of known and unknown voices as a PNG.

    Parameters
    ----------
    known, unknown : ndarray of float, shape (n,)
    threshold : float, optional
        Recordings that score below it are rejected as unknown.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.6, 3.8), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([known, unknown]).astype(np.float64)
    edges = np.histogram_bin_edges(both, int(np.clip(np.sqrt(len(both)), 10, 40)))
    for scores, name, face, edge, hatch in (
        (known, "known", "#9fb8d8", "#40608a", None),
        (unknown, "unknown", "none", _RED, "////"),
    ):
        counts, _ = np.histogram(scores, edges)
        label = f"{name}: {pluralise(len(scores), 'recording')}"
        if threshold is not None:
            label += f", {int((scores < threshold).sum())} below the threshold"
        shares = counts / max(len(scores), 1)
        axes.stairs(shares, edges, fill=True, facecolor=face, edgecolor=edge, hatch=hatch, linewidth=1.2, label=label)
    if threshold is not None:
        axes.axvline(threshold, color="black", linestyle="--", linewidth=1.2, label=f"threshold {threshold:.3g}")
    axes.yaxis.set_major_formatter(lambda value, _: f"{100 * value:.3g}%")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("score")
    axes.set_ylabel("share of the recordings")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper left", frameon=False, fontsize=8)
    return png(figure)


def _square() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.2, 5), layout="constrained")
    axes = figure.subplots()
    axes.set_box_aspect(1)
    axes.set_anchor("W")
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _styled_curves(curves: Curves, pooled: Detection | None) -> list[tuple[Detection, dict[str, Any]]]:
    """Return the curves to draw with their line styles: all trials pooled, then the worst labels."""
    from matplotlib import colormaps

    worst = sorted(curves, key=lambda curve: -curve[1].equal_error_rate)[:MAX_CURVES]
    # Dark to light as well as dashed, to be distinguishable in grey.
    colours = colormaps["plasma"](np.linspace(0.05, 0.85, len(worst)))
    drawn: list[tuple[Detection, dict[str, Any]]] = []
    if pooled is not None:
        drawn.append(
            (pooled, {"color": "black", "linewidth": 2.6, "label": _legend_label("all labels, pooled", pooled)})
        )
    for place, (name, found) in enumerate(worst):
        style = {"color": colours[place], "linestyle": _LINES[place % len(_LINES)], "linewidth": 1.1}
        drawn.append((found, {**style, "label": _legend_label(name, found)}))
    return drawn


def _legend_label(name: str, found: Detection) -> str:
    # The number comes first, because matplotlib omits labels that begin with an underscore from the legend.
    return f"{found.equal_error_rate:.1%}  {_short(name)} ({found.targets} + {found.nontargets})"


def _add_legend(axes: Axes, labels: int, title: str) -> None:
    handles, names = axes.get_legend_handles_labels()
    if not handles:
        return
    some = f"\nthe {MAX_CURVES} worst of {labels} labels" if labels > MAX_CURVES else ""
    legend = axes.legend(
        title=title + some,
        loc="upper left",
        bbox_to_anchor=(1.02, 1),
        borderaxespad=0,
        alignment="left",
        frameon=False,
        fontsize=8,
        title_fontsize=8,
        handlelength=3,
    )
    # A label may hold dollar signs, which matplotlib would take for mathematics.
    for text, name in zip(legend.get_texts(), names, strict=True):
        text.set_parse_math(False)
        text.set_text(name)


def _title_suffix(pooled: Detection | None, area: bool) -> str:
    if pooled is None:
        return ""
    more = f"area {pooled.area:.4f}" if area else f"minDCF {pooled.min_dcf():.3f} (1 % targets)"
    counted = f"{pooled.targets} target and {pooled.nontargets} nontarget trials"
    return f": equal error rate {pooled.equal_error_rate:.2%}, {more}\n{counted}"


def _clip_rates(rates: NDArray[np.float64], trials: int) -> NDArray[np.float64]:
    """Clip rates to between half a trial, or the limit of the axes, and 1 minus that: finite as normal deviates."""
    low = max(0.5 / trials, _MIN_RATE)
    clipped: NDArray[np.float64] = np.clip(rates, low, 1 - low)
    return clipped


def _short(name: str) -> str:
    text = escape(name)
    return text if len(text) <= _MAX_NAME_LENGTH else text[: _MAX_NAME_LENGTH - 1] + "…"


def cost_plot(picked: SelectedRule, labels: Sequence[str]) -> bytes:
    """Draw the mean cost per validation recording over the cost exponent as a PNG; two labels have thresholds too.

    Over the exponent, the thresholds of two labels are evenly spaced in log-odds: those of costly mistakes do not crowd
    at 1.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 3.8), layout="constrained")
    axes = figure.subplots()
    if picked.curve:
        exponents = [point.exponent for point in picked.curve]
        axes.plot(exponents, [point.mean_cost for point in picked.curve], ".-", color="#888888", linewidth=1.4)
        # A line, because where a mistake costs nothing no exponent gives the most probable label.
        name = f"most probable label: {picked.most_probable:.3g}"
        axes.axhline(picked.most_probable, color="#444444", linestyle=":", linewidth=1, label=name)
        for name, exponent, cost, marker, colour, side in (
            ("Bayes' decision rule", 1.0, picked.bayes, "D", "#2b6ca3", 7),
            ("selected", picked.rule.exponent, picked.chosen, "o", "#c23b22", 12),
        ):
            style: dict[str, Any] = {"color": colour, "markersize": side, "fillstyle": "none", "clip_on": False}
            axes.plot(exponent, cost, marker, label=f"{name}: {cost:.3g}", **style)
        axes.set_xticks(exponents[::10], [_tick(point) for point in picked.curve[::10]])
        axes.legend(frameon=False, fontsize=8)
    axes.set_ylim(bottom=0)
    two = picked.rule.threshold is not None
    named = f"cost exponent, and probability threshold of {escape(labels[1])[:40]}" if two else "cost exponent"
    # A label may hold dollar signs, which matplotlib would take for mathematics.
    axes.set_xlabel(named, parse_math=False)
    axes.set_ylabel("mean cost per recording")
    axes.set_title(pluralise(picked.recordings, "validation recording"), loc="left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    return png(figure)


def _tick(point: RulePoint) -> str:
    """Format a point's exponent, and below it its threshold with enough decimals to differ from 0 and 1."""
    if point.threshold is None:
        return f"{point.exponent:g}"
    distance = min(point.threshold, 1 - point.threshold)
    decimals = -math.floor(math.log10(distance)) if distance else 0
    return f"{point.exponent:g}\n{point.threshold:.{decimals}f}"
