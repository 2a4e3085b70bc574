"""Files of embeddings: NumPy arrays, CSV, Parquet, and a map in two dimensions."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from audionet.discovery.embeddings import Embeddings
from audionet.utils.array_files import pack_npz
from audionet.utils.arrays import FloatArray
from audionet.utils.extras import is_installed
from audionet.utils.files import atomic_path, write_bytes
from audionet.utils.plots import png
from audionet.utils.text import escape

_MOST_LABELS = 20  # in the legend
_MAP_INCHES = 8


def write_embeddings(path: Path, found: Embeddings) -> None:
    """Write embeddings with recording, start, end and label of each, in the form of the file's ending, atomically.

    A ``.npz`` has the arrays ``recording``, ``start``, ``end``, ``label`` and ``embedding``, a ``.csv`` one column for
    each dimension, a ``.parquet`` one column of lists.
    """
    kind = path.suffix.lower()
    if kind == ".npz":
        names = {"recording": found.files, "label": found.labels}
        texts = {name: np.array([escape(text) for text in values]) for name, values in names.items()}
        write_bytes(path, pack_npz(texts | {"start": found.start, "end": found.end, "embedding": found.vectors}))
    elif kind == ".csv":
        write_bytes(path, _csv(found))
    else:
        _write_parquet(path, found)


def _csv(found: Embeddings) -> bytes:
    table = csv.writer(buffer := io.StringIO(), lineterminator="\r\n")
    table.writerow(["recording", "start", "end", "label", *(f"e{i}" for i in range(found.vectors.shape[1]))])
    for file, start, end, label, vector in zip(
        found.files, found.start, found.end, found.labels, found.vectors, strict=True
    ):
        table.writerow([file, f"{start:.3f}", f"{end:.3f}", label, *(f"{value:.6g}" for value in vector.tolist())])
    return buffer.getvalue().encode("utf-8", "surrogateescape")


def _write_parquet(path: Path, found: Embeddings) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    vectors = pa.FixedSizeListArray.from_arrays(pa.array(found.vectors.ravel()), found.vectors.shape[1])
    columns = {
        "recording": pa.array(list(map(escape, found.files))),
        "start": pa.array(found.start),
        "end": pa.array(found.end),
        "label": pa.array(list(map(escape, found.labels))),
        "embedding": vectors,
    }
    with atomic_path(path) as temporary:
        pq.write_table(pa.table(columns), temporary)


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
    if len(vectors) > 10 and is_installed("umap"):
        import umap

        points = umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors)
        return np.asarray(points, np.float32), "UMAP"
    from sklearn.decomposition import PCA

    components = min(2, *vectors.shape)
    flat = PCA(components, random_state=0).fit_transform(vectors)
    return np.pad(flat, ((0, 0), (0, 2 - components))).astype(np.float32), "principal components"


def map_plot(found: Embeddings) -> bytes:
    """Draw embeddings in two dimensions as a PNG, coloured by label or, without labels, by recording."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    points, method = project(found.vectors)
    names = found.labels if any(found.labels) else found.files
    shown = sorted(set(names), key=lambda name: (-names.count(name), name))[:_MOST_LABELS]
    figure = Figure(figsize=(_MAP_INCHES, _MAP_INCHES), layout="constrained")
    axes = figure.subplots()
    of_name = np.array(names)
    others = ~np.isin(of_name, shown)
    if others.any():
        axes.scatter(
            points[others, 0], points[others, 1], s=8, color="#c8c8c8", label=f"{len(set(names)) - len(shown)} others"
        )
    for number, name in enumerate(shown):
        colour = colormaps["tab20"](number % _MOST_LABELS)
        own = points[of_name == name]
        axes.scatter(own[:, 0], own[:, 1], s=12, color=colour, label=escape(name)[:30] or "no label")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(f"{len(points)} embeddings, {method}", loc="left", fontsize=10)
    for text in axes.legend(fontsize=7, loc="upper left", bbox_to_anchor=(1, 1)).get_texts():
        text.set_parse_math(False)
    return png(figure)
