"""Recordings of each label: those in its folder, or the parts that a label table gives it."""

from __future__ import annotations

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

from audionet.audio.decoding import AUDIO_SUFFIXES, choose_channels
from audionet.data.naming import joined_folders, label_problem, parse_channel_name, recording_names
from audionet.errors import RecordingError, UnavailableError
from audionet.utils.files import walk
from audionet.utils.text import composed, pluralise

log = logging.getLogger(__name__)


class RecordingFile(NamedTuple):
    """Recording on disk, or the parts of it that have one label.

    Attributes
    ----------
    file : str
        Path inside the label's folder; of one channel, with its number (see `channel_name`).
    size : int
        Bytes.
    mtime_ns : int
        Modification time, nanoseconds.
    parts : tuple of (float, float)
        Start and end of each part, seconds; none: the whole recording.
    """

    file: str
    size: int
    mtime_ns: int
    parts: tuple[tuple[float, float], ...] = ()

    @property
    def path(self) -> str:
        """Path inside the label's folder."""
        return parse_channel_name(self.file)[0]

    @property
    def channel(self) -> int | None:
        """Number of the channel; None if the file is not split into channels."""
        return parse_channel_name(self.file)[1]


def path_of(folder: Path, source: RecordingFile) -> Path:
    """Return where a recording lies: in its label's folder, or in one whose name only encodes accents differently."""
    path = folder / source.path
    first = source.path.partition("/")[0]
    if first != folder.name and composed(first) == composed(folder.name) and not path.exists():
        return folder.parent / source.path
    return path


class Found(NamedTuple):
    """Recordings of a label, and skipped files with their reasons."""

    sources: list[RecordingFile]
    skipped: list[tuple[str, str]]


class RecordingSource(Protocol):
    """Source of the recordings of each label."""

    labels: list[str]

    def folder(self, label: str) -> Path:
        """Return the folder that the names of a label's recordings are paths in."""

    def sizes(self, label: str) -> Iterator[int]:
        """Yield the size of each of a label's recordings, bytes, without opening any."""

    def find(self, label: str) -> Found:
        """List a label's recordings."""


class LabelFolders:
    """Recordings in one folder per label.

    Parameters
    ----------
    audio_dir : Path
    split : bool
        Whether each channel is a recording of its own.

    Raises
    ------
    DatasetError
        If the folder does not exist.
    """

    def __init__(self, audio_dir: Path, split: bool = False) -> None:
        self._audio_dir, self._split = audio_dir, split
        for path in sorted(audio_dir.iterdir()) if audio_dir.is_dir() else []:
            if path.is_file() and path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
                log.warning(f"{path}: is in no label's folder; skipped: move it into one")
        self._folders = joined_folders(audio_dir)
        self.labels = list(self._folders)

    def folder(self, label: str) -> Path:
        """Return the label's folder."""
        return self._audio_dir / label

    def sizes(self, label: str) -> Iterator[int]:
        """Yield the size of each of a label's recordings, bytes; 0 of one that cannot be read."""
        for folder in self._folders.get(label, []):
            for _, path in walk(self._audio_dir / folder):
                if path.suffix.lower() in AUDIO_SUFFIXES:
                    size = 0
                    with contextlib.suppress(OSError):
                        size = path.stat().st_size
                    yield size

    def find(self, label: str) -> Found:
        """List a label's recordings.

        Recordings in a folder of another spelling than the label's are named with that folder.
        """
        if problem := label_problem(label):
            return Found([], [("", problem)])
        sources: list[RecordingFile] = []
        skipped: list[tuple[str, str]] = []
        others: Counter[str] = Counter()
        found = (
            (inside if folder == label or not inside else f"{folder}/{inside}", path)
            for folder in self._folders.get(label, [])
            for inside, path in walk(self._audio_dir / folder)
        )
        for file, path in found:
            try:
                state = path.stat()
                if path.is_dir():
                    os.scandir(path).close()  # raises the reason why a folder cannot be listed
            except OSError as error:
                if file or path.exists():  # unless the label's whole folder was deleted and only its images remain
                    skipped.append((file, f"cannot be read: {error.strerror}"))
                continue
            if path.suffix.lower() in AUDIO_SUFFIXES:
                try:
                    names = _names(file, path, self._split)
                except UnavailableError as error:
                    skipped.append((file, str(error)))
                    continue
                sources += [RecordingFile(name, state.st_size, state.st_mtime_ns) for name in names]
            else:
                others[path.suffix or "no ending"] += 1
        if others:
            kinds = ", ".join(f"{count} {kind}" for kind, count in others.most_common())
            number = pluralise(others.total(), "file")
            skipped.append(
                ("", f"{number} of other kinds than recordings ({kinds}): convert any that hold sound to WAV")
            )
        return Found(sources, skipped)


def _names(file: str, path: Path, split: bool) -> list[str]:
    """Return the names of the recordings in a file: one, or one for each channel."""
    try:
        count = len(choose_channels(path, "split")) if split else 1
    except UnavailableError:
        raise
    except RecordingError:
        return [file]  # rendering it will report why
    return recording_names(file, count)
