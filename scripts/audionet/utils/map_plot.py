"""Maps: vectors in two dimensions, coloured by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from audionet.utils.arrays import BoolArray, FloatArray
from audionet.utils.extras import is_installed
from audionet.utils.plots import png
from audionet.utils.text import escape

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_NAMES = 20
"""Names that have a colour of their own; more could not be distinguished."""

_SIZE = (8.2, 6.0)  # inches
# Of Matplotlib's tab20, the dark ones first; its greys are those of the other names.
_COLOURS = (*range(0, 14, 2), 16, 18, *range(1, 14, 2), 17, 19)
_MARKERS = "os^Dv"  # as many as share no divisor with the colours: no two names have the same mark
_OTHERS, _DARK = "#c8c8c8", "#1c1c1a"
_LEAST_FOR_UMAP = 11
_LONGEST_NAME = 24


def project(vectors: FloatArray) -> tuple[FloatArray, str]:
    """Project vectors onto a plane: by UMAP (McInnes et al., 2018) where it is installed, or by principal components.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dimensions)

    Returns
    -------
    points : ndarray of float32, shape (n, 2)
    method : str
    """
    if len(vectors) >= _LEAST_FOR_UMAP and is_installed("umap"):
        import umap

        points = umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors)
        return np.asarray(points, np.float32), "UMAP"
    from sklearn.decomposition import PCA

    components = min(2, *vectors.shape)
    with np.errstate(invalid="ignore"):  # of equal vectors, each component explains 0 of 0
        flat = PCA(components, random_state=0).fit_transform(vectors)
    return np.pad(flat, ((0, 0), (0, 2 - components))).astype(np.float32), "principal components"


def most_frequent(names: Iterable[str | None]) -> list[str]:
    """Return the names in the order of their number, the most frequent first."""
    counts: dict[str, int] = {}
    for name in names:
        if name is not None:
            counts[name] = counts.get(name, 0) + 1
    return sorted(counts, key=lambda name: (-counts[name], name))


def map_plot(
    vectors: FloatArray, names: Sequence[str | None], what: str, order: Sequence[str], wrong: BoolArray | None = None
) -> bytes:
    """Draw vectors in two dimensions as a PNG, coloured and marked by name.

    Parameters
    ----------
    vectors : ndarray of float32, shape (n, dimensions)
    names : sequence of n (str or None)
        Name of each vector; those with None are crosses, for unknown voices.
    what : str
        What a vector is of, in the plural, for the title.
    order : sequence of str
        The names, without None. The first `MOST_NAMES` have a colour and a place in the legend, all others are grey.
    wrong : ndarray of bool, shape (n,), optional
        Vectors that get a ring, for a wrong answer.
    """
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    points, method = project(vectors)
    of_name = np.array(["" if name is None else name for name in names], object)
    is_unknown = np.array([name is None for name in names], bool)
    shown = list(order[:MOST_NAMES])
    is_other = ~is_unknown & ~np.isin(of_name, shown)
    size = float(np.clip(3000 / max(1, len(points)), 8, 40))
    figure = Figure(figsize=_SIZE, layout="constrained")
    axes = figure.subplots()
    texts: list[str] = []

    def scatter(chosen: BoolArray, text: str, **style: Any) -> None:
        if chosen.any():
            axes.scatter(points[chosen, 0], points[chosen, 1], **{"s": size, **style}, label=str(len(texts)))
            texts.append(text)

    for number, name in enumerate(shown):
        colour = colormaps["tab20"](_COLOURS[number % len(_COLOURS)])
        mark = {"marker": _MARKERS[number % len(_MARKERS)], "edgecolors": _DARK, "linewidths": 0.3}
        scatter(~is_unknown & (of_name == name), _short(name) or "no label", color=colour, **mark)
    scatter(is_other, f"{len(order) - len(shown)} others", color=_OTHERS, zorder=0)
    scatter(is_unknown, "unknown voice", color=_DARK, marker="x", linewidths=1.2)
    if wrong is not None:
        scatter(wrong, "wrong answer", s=4 * size, facecolors="none", edgecolors=_DARK, linewidths=1.1)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_color(_OTHERS)
    axes.set_aspect("equal", "datalim")
    axes.margins(0.06)
    axes.set_title(f"{len(points)} {what}, {method}", loc="left", fontsize=10)
    _add_legend(axes, texts)
    return png(figure)


def _add_legend(axes: Axes, texts: Sequence[str]) -> None:
    legend = axes.legend(
        fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, alignment="left", frameon=False
    )
    # Set afterwards: a label may begin with an underscore, which hides it, or hold dollar signs, which are mathematics.
    for entry, text in zip(legend.get_texts(), texts, strict=True):
        entry.set_parse_math(False)
        entry.set_text(text)


def _short(name: str) -> str:
    text = escape(name)
    return text if len(text) <= _LONGEST_NAME else text[: _LONGEST_NAME - 1] + "…"
