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

JOURNAL = "recordings.jsonl"


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


def fingerprint(config: PictureConfig) -> str:
    """Sixteen digits that stand for all the settings."""
    text = json.dumps(dataclasses.asdict(config), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def journal_line(source: Source, outcome: Outcome, settings: str) -> str:
    """The line that keeps an outcome."""
    identity = {"label": source.label, "file": source.file, "size": source.size, "mtime_ns": source.mtime_ns}
    return json.dumps({**identity, "settings": settings, **outcome._asdict()}) + "\n"


def read_journal(path: Path) -> dict[tuple[str, str, int, int, str], Outcome]:
    """Outcomes by label, file, size, time of change and settings; damaged lines are passed over."""
    outcomes = {}
    try:
        lines = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return {}
    for line in lines:
        try:
            entry = json.loads(line)
            key = (entry["label"], entry["file"], entry["size"], entry["mtime_ns"], entry["settings"])
            outcomes[key] = Outcome(entry["seconds"], entry["chunks"], entry["silent"], entry["note"])
        except (ValueError, KeyError, TypeError):
            continue  # a line cut off when the program was killed: its recording is rendered again
    return outcomes


def write_journal(
    path: Path, sources: Iterable[Source], finished: dict[tuple[str, str], Outcome], settings: str
) -> None:
    """Write the journal anew, with the outcomes of these recordings alone."""
    lines = [
        journal_line(source, finished[source.label, source.file], settings)
        for source in sources
        if (source.label, source.file) in finished
    ]
    write_bytes(path, "".join(lines).encode("ascii"))
