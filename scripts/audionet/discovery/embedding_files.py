"""Files of embeddings: NumPy arrays, CSV, Parquet, and a map in two dimensions."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np

from audionet.inference.embeddings import Embeddings
from audionet.utils.array_files import pack_npz
from audionet.utils.files import atomic_path, write_bytes
from audionet.utils.map_plot import map_plot, most_frequent
from audionet.utils.text import escape


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


def embedding_map(found: Embeddings) -> bytes:
    """Draw embeddings in two dimensions as a PNG, coloured by label or, without labels, by recording."""
    names = found.labels if any(found.labels) else found.files
    return map_plot(found.vectors, names, "embeddings", most_frequent(names))
