from __future__ import annotations

import io
from collections.abc import Callable

import matplotlib.text
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from audionet.classifier.decision import Cost, Costs
from audionet.evaluation import plots as report_plots
from audionet.evaluation.costs import SelectedRule, select_rule
from audionet.evaluation.plots import cost_plot, det_plot, duration_plot, openset_plot, reliability_plot, roc_plot
from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.metrics.classification import reliability
from audionet.metrics.detection import Detection, detection
from tests.support.costs import VOICES, calibrated

ODD = ["$x^", "анна", "日本 🎻", "a" * 300, "\\frac{1}{", "_hidden", "$a$ $b$", "%s\n"]


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def gaussians(distance: float, targets: int = 40, nontargets: int = 200, seed: int = 0) -> Detection:
    scores = np.random.default_rng(seed).standard_normal(targets + nontargets)
    target = np.arange(targets + nontargets) < targets
    found = detection(scores + distance * target, target)
    assert found is not None
    return found


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], Figure]:
    """The figure behind the last PNG."""
    figures: list[Figure] = []
    plain = report_plots.png

    def keep(figure: Figure) -> bytes:
        figures.append(figure)
        return plain(figure)

    monkeypatch.setattr(report_plots, "png", keep)

    def last(png: bytes) -> Figure:
        assert min(size(png)) > 300
        assert max(size(png)) < 9000
        return figures[-1]

    return last


def key(figure: Figure) -> list[matplotlib.text.Text]:
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes)]
    return [text for legend in legends if legend is not None for text in legend.get_texts()]


@pytest.mark.parametrize("plot", [roc_plot, det_plot])
def test_the_worst_labels_are_drawn_worst_first(plot: Callable[..., bytes], drawn: Callable[[bytes], Figure]) -> None:
    curves = [(f"label {place}", gaussians(0.5 + place % 50 / 10, seed=place)) for place in range(200)]
    pooled = gaussians(2)
    names = [text.get_text() for text in key(drawn(plot(curves, pooled)))]
    assert len(names) == 11
    assert names[0] == f"{pooled.equal_error_rate:.1%}  all labels, pooled (40 + 200)"
    worst = sorted((found.equal_error_rate for _, found in curves), reverse=True)[:10]
    assert [name.split()[0] for name in names[1:]] == [f"{rate:.1%}" for rate in worst]


@pytest.mark.parametrize("plot", [roc_plot, det_plot])
def test_any_label_stands_in_the_key(plot: Callable[..., bytes], drawn: Callable[[bytes], Figure]) -> None:
    curves = [(label, gaussians(4 - place / 4, seed=1)) for place, label in enumerate(ODD)]
    texts = key(drawn(plot(curves)))
    assert len(texts) == len(ODD)
    assert not any(text.get_parse_math() for text in texts)
    shown = "\n".join(text.get_text() for text in texts)
    assert all(label in shown for label in ["$x^", "_hidden", "$a$ $b$", "%s\\n", "a" * 23 + "… ("])
    assert "a" * 24 not in shown


@pytest.mark.parametrize("plot", [roc_plot, det_plot])
def test_thousands_of_labels_one_and_none(plot: Callable[..., bytes], drawn: Callable[[bytes], Figure]) -> None:
    one = gaussians(2)
    figure = drawn(plot([(str(number), one) for number in range(5000)], one))
    assert "10 worst of 5000 labels" in figure.axes[0].get_legend().get_title().get_text()
    assert len(key(drawn(plot([("anna", one)])))) == 1
    assert not key(drawn(plot([])))


@pytest.mark.parametrize("trials", [1, 2, 50, 100_000])
@pytest.mark.parametrize("wrong", [False, True])
def test_every_error_trade_off_lies_inside_its_axes(trials: int, wrong: bool, drawn: Callable[[bytes], Figure]) -> None:
    target = np.arange(2 * trials) < trials
    separated = detection(np.where(target != wrong, 1.0, 0.0), target)
    assert separated is not None
    axes = drawn(det_plot([("anna", separated)], separated)).axes[0]
    curves = [line for line in axes.lines if line.get_label() and not line.get_label().startswith("_")]
    assert len(curves) == 2
    for line in curves:
        corner = np.asarray(line.get_xydata(), float)[1]
        assert np.isfinite(np.asarray(line.get_xydata(), float)).all()
        assert axes.get_xlim()[0] <= corner[0] <= axes.get_xlim()[1]
        assert axes.get_ylim()[0] <= corner[1] <= axes.get_ylim()[1]


def test_normal_deviates_make_gaussians_a_straight_line(drawn: Callable[[bytes], Figure]) -> None:
    pooled = gaussians(2, 20_000, 20_000)
    axes = drawn(det_plot([], pooled)).axes[0]
    line = np.asarray(next(line for line in axes.lines if "pooled" in str(line.get_label())).get_xydata(), float)
    middle = line[(np.abs(line[:, 0] + 1) < 1)]
    np.testing.assert_allclose(middle.sum(axis=1), -2, atol=0.1)
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0.1", "0.5", "1", "2", "5", "10", "20", "40"]


def test_reliability_before_and_after(drawn: Callable[[bytes], Figure]) -> None:
    probabilities = np.linspace(0.2, 1, 90)
    right = np.arange(90) % 3 > 0
    before, after = reliability(probabilities, right), reliability(probabilities**2, right, 10)
    names = [text.get_text() for text in key(drawn(reliability_plot(before, after)))]
    assert names[1:] == [
        f"before calibration: expected calibration error {before.error:.1%}, 90 recordings",
        f"after calibration: expected calibration error {after.error:.1%}, 90 recordings",
    ]
    figure = drawn(reliability_plot(before))
    line = figure.axes[0].lines[1]
    filled = before.counts > 0
    np.testing.assert_allclose(np.asarray(line.get_xydata()), np.stack([before.confidence, before.accuracy], 1)[filled])
    assert "nan" not in " ".join(
        text.get_text() for text in key(drawn(reliability_plot(reliability(np.zeros(0), np.zeros(0, bool)))))
    )


@pytest.mark.parametrize("points", [0, 1, 5, 12, 13, 300])
def test_every_length_says_its_number(points: int, drawn: Callable[[bytes], Figure]) -> None:
    measured = [(f"{place} $chunks$", accuracy(np.arange(place) % 3 > 0)) for place in range(points)]
    axes = drawn(duration_plot(measured)).axes[0]
    assert [text.get_text() for text in axes.texts] == [f"N = {place}" for place in range(points)]
    assert not any(tick.label1.get_parse_math() for tick in axes.xaxis.get_major_ticks()[:points])


def test_the_bars_are_the_intervals(drawn: Callable[[bytes], Figure]) -> None:
    axes = drawn(duration_plot([("1 chunk", Accuracy(8, 10, 0.5, 0.9)), ("2 chunks", Accuracy(0, 0, 0, 1))])).axes[0]
    (bars,) = axes.collections
    np.testing.assert_allclose(bars.get_segments(), [[[0, 0.5], [0, 0.9]]])


def test_known_and_unknown(drawn: Callable[[bytes], Figure]) -> None:
    known, unknown = np.array([0.5, 0.8, 0.9, 1.0]), np.array([0.1, 0.2, 0.8])
    names = [text.get_text() for text in key(drawn(openset_plot(known, unknown, 0.8)))]
    assert names == [
        "known: 4 recordings, 1 below the threshold",
        "unknown: 3 recordings, 2 below the threshold",
        "threshold 0.8",
    ]
    figure = drawn(openset_plot(known, unknown[:1]))
    assert [text.get_text() for text in key(figure)] == ["known: 4 recordings", "unknown: 1 recording"]
    for shares in figure.axes[0].patches:
        assert shares.get_data().values.sum() == pytest.approx(1)


@pytest.mark.parametrize("scores", [[], [0.5], [1.0, 1.0]])
def test_scores_of_hardly_any_recordings(scores: list[float], drawn: Callable[[bytes], Figure]) -> None:
    assert len(key(drawn(openset_plot(np.array(scores), np.zeros(0), 2.0)))) == 3


@pytest.mark.parametrize(
    "labels", [["$x^", "\\frac{1}{"], ["b", "$x^$"], ["a" * 300, "日本 🎻" * 50], ["x\ny", "%s", "z"]]
)
@pytest.mark.parametrize("cost", [0.0, 1.0, 30.0])
def test_any_rule_can_be_plotted(labels: list[str], cost: float) -> None:
    probabilities, true = calibrated(200, len(labels), 0)
    picked = select_rule(probabilities, true, Costs(len(labels), (Cost(0, 1, cost),)))
    assert size(cost_plot(picked, labels)) == (832, 494)


def test_rules_that_cost_nothing_can_be_plotted() -> None:
    true = np.arange(40) % 2
    picked = select_rule(np.eye(2)[true], true, Costs(2, (Cost(0, 1, 1e9),)))
    assert size(cost_plot(picked, VOICES)) == (832, 494)


def test_no_recordings_are_plotted_as_none() -> None:
    picked: SelectedRule = select_rule(np.zeros((0, 2)), np.zeros(0, int), Costs(2))
    assert size(cost_plot(picked, VOICES)) == (832, 494)
