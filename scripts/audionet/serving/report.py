"""Report that evaluate.py wrote on the model in service."""

from __future__ import annotations

import functools
from pathlib import Path

from audionet.errors import ModelError
from audionet.utils.files import read_json

REPORT_HEADERS = {
    # The page holds its style, its plots and its scripts. Names in it come from folders: in a sandbox, without an
    # origin, nothing in it could use the service or the API key.
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "script-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "unsafe-none",  # the HTML standard refuses a sandboxed page with another value
}


def find_report(folder: Path, graph_sha256: str) -> Path | None:
    """Return the page of the report in a folder; None if there is none, or it is of another model.

    Parameters
    ----------
    folder : Path
    graph_sha256 : str
        Hash of the model's network.
    """
    page, numbers = folder / "report.html", folder / "report.json"
    if not (page.is_file() and numbers.is_file()):  # reading a pipe would never end
        return None
    try:
        state = numbers.stat()
        reported = _reported_model(numbers, state.st_mtime_ns, state.st_size)
    except (OSError, ModelError):
        return None
    return page if reported == graph_sha256 else None


@functools.lru_cache(maxsize=4)  # the answers for all recordings are in it as well
def _reported_model(path: Path, changed: int, size: int) -> str | None:
    """Return the hash of the model that a report.json, as it is since `changed`, is about."""
    model = read_json(path, ModelError, "run evaluate.py again").get("model")
    return model.get("graph_sha256") if isinstance(model, dict) else None
