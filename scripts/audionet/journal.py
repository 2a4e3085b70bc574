"""What became of each recording, one JSON object a line, so that the next run does only what is missing."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from .config import PictureConfig
from .files import write_bytes


class Source(NamedTuple):
    """A recording as it lies on disk."""

    label: str
    file: str  # path inside the label's folder
    path: Path
    size: int
    mtime_ns: int


class Outcome(NamedTuple):
    """What became of a recording: chunks made, those among them silent and left out, and a remark if any."""

    seconds: float
    chunks: int
    silent: list[int]
    note: str | None

    @property
    def heard(self) -> int:
        """Chunks that are not silent, and so have a WAV and a picture."""
        return self.chunks - len(self.silent)


def fingerprint(config: PictureConfig) -> str:
    """Sixteen digits that stand for all the settings."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def journal_line(source: Source, settings: str, outcome: Outcome | None) -> str:
    """The line that keeps an outcome or, without one, says that the recording's chunks are about to be written."""
    identity = {"label": source.label, "file": source.file, "size": source.size, "mtime_ns": source.mtime_ns}
    return json.dumps({**identity, "settings": settings, **(outcome._asdict() if outcome else {})}) + "\n"


def read_journal(path: Path) -> tuple[dict[tuple[str, str, int, int, str], Outcome], set[tuple[str, str]]]:
    """What earlier runs did.

    Returns
    -------
    outcomes : dict
        By label, file, size, time of change and settings. Damaged lines are passed over: their recordings are
        rendered again.
    begun : set of (str, str)
        Label and file of all recordings whose chunks may have been written, finished or not.
    """
    outcomes = {}
    begun = set()
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in lines:
        try:
            entry = json.loads(line)
            begun.add((str(entry["label"]), str(entry["file"])))
            key = (entry["label"], entry["file"], entry["size"], entry["mtime_ns"], entry["settings"])
            outcomes[key] = Outcome(
                float(entry["seconds"]), int(entry["chunks"]), list(map(int, entry["silent"])), entry["note"]
            )
        except (ValueError, KeyError, TypeError):
            continue
    return outcomes, begun


def write_journal(
    path: Path,
    sources: Iterable[Source],
    finished: dict[tuple[str, str], Outcome],
    settings: str,
    gone: Iterable[tuple[str, str]] = (),
) -> None:
    """Write the journal anew: what is finished, what is about to begin, and what is gone but not yet removed."""
    lines = [journal_line(source, settings, finished.get((source.label, source.file))) for source in sources]
    lines += [json.dumps({"label": label, "file": file}) + "\n" for label, file in gone]
    write_bytes(path, "".join(lines).encode("ascii"))
