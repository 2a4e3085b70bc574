"""Pictures of evidence: a grey spectrogram, coloured where the sound speaks for or against a label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.data.contact_sheet import Tick, ticks
from audionet.inference.evidence_region import EvidenceRegion
from audionet.utils.arrays import Float64Array, FloatArray
from audionet.utils.plots import png

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Orange and blue of Okabe and Ito's palette (2008), which the colour-blind can distinguish, and lighter.
_FOR, _AGAINST, _GREY = np.array([[255, 159, 28], [64, 160, 255], [190, 190, 190]], np.float32)
_SATURATED = 0.98  # share of the points; the others have the full colour
_LEAST = 1e-12  # relevance
_DARKEST = 0.08  # of the brightness, for silence
_TICK_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500)
_MOST_TICKS = 12
_LEAST_DISTANCE = 0.05  # between ticks, as a share of the height
_WIDTH, _HEIGHT = 9.0, 3.4  # inches


def evidence_image(level: FloatArray, relevance: FloatArray) -> Image.Image:
    """Draw a spectrogram with the evidence in it, RGB, one pixel a row and a frame.

    The level is the brightness, and the relevance the colour: grey without any, orange for a label, blue against it.

    Parameters
    ----------
    level : ndarray of float32, shape (rows, frames)
        0 to 1, the lowest frequency first.
    relevance : ndarray of float32, shape (rows, frames)
    """
    largest = max(float(np.quantile(np.abs(relevance), _SATURATED)), _LEAST)
    share = np.clip(relevance / largest, -1, 1)[..., None]
    colour = _GREY + np.maximum(share, 0) * (_FOR - _GREY) + np.maximum(-share, 0) * (_AGAINST - _GREY)
    # Evidence is brighter as well, so that it shows in grey.
    brightness = (_DARKEST + (1 - _DARKEST) * level[..., None]) * (0.65 + 0.35 * np.abs(share))
    return Image.fromarray((colour * brightness)[::-1].round().astype(np.uint8))


def evidence_plot(
    image: Image.Image,
    times: Float64Array,
    config: SpectrogramConfig | None,
    region: EvidenceRegion | None,
    title: str,
) -> bytes:
    """Draw an image of evidence with axes of seconds and Hz as a PNG.

    Parameters
    ----------
    image : Image
        From `evidence_image`.
    times : ndarray of float64, shape (frames,)
        Seconds of each frame; a line marks where frames are missing.
    config : SpectrogramConfig or None
        None: the axes count frames and rows.
    region : EvidenceRegion or None
        Framed, unless the evidence is spread.
    title : str
    """
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import LinearSegmentedColormap, Normalize
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.subplots()
    width, height = image.size
    axes.imshow(np.asarray(image), extent=(0, width, 0, height), aspect="auto", interpolation="nearest")
    step = float(times[1] - times[0]) if width > 1 else 1.0
    for gap in np.flatnonzero(np.diff(times) > 1.5 * step) + 1:
        axes.axvline(float(gap), color="white", linewidth=2)
    _mark_times(axes, times, step, "frames" if config is None else "seconds")
    if config is not None:
        marks = _apart(ticks(config))
        axes.set_yticks([mark.height * height for mark in marks], [mark.text for mark in marks], fontsize=8)
    if region is not None and not region.is_spread:
        (left, right), (bottom, top) = region.columns, region.rows
        frame = Rectangle((left, bottom), right - left, top - bottom, fill=False, edgecolor="white", linewidth=1.5)
        axes.add_patch(frame)
    colours = LinearSegmentedColormap.from_list("evidence", [_AGAINST / 255, _GREY / 255, _FOR / 255])
    bar = figure.colorbar(ScalarMappable(Normalize(-1, 1), colours), ax=axes, pad=0.01, aspect=30)
    bar.set_ticks([-1, 0, 1], labels=["against", "none", "for"], fontsize=8)
    axes.set_title(title, loc="left", fontsize=10, parse_math=False)
    return png(figure)


def _apart(marks: Sequence[Tick]) -> list[Tick]:
    """Leave out ticks whose texts would overlap."""
    kept: list[Tick] = []
    for mark in marks:
        if not kept or mark.height - kept[-1].height >= _LEAST_DISTANCE:
            kept.append(mark)
    return kept


def _mark_times(axes: Axes, times: Float64Array, step: float, text: str) -> None:
    """Put ticks at round times, at the frames where they are."""
    length = len(times) * step
    interval = next((tick for tick in _TICK_SECONDS if length / tick <= _MOST_TICKS), length)
    left = times - 0.5 * step
    number = np.ceil(left / interval - 1e-6) + 0.0  # of the next round time; 0 in place of -0
    holds = np.flatnonzero(number * interval < left + step * (1 - 1e-6))
    axes.set_xticks(holds, [f"{number[i] * interval:g}" for i in holds], fontsize=8)
    axes.set_xlabel(text, fontsize=8)
