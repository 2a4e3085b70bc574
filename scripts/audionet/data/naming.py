"""Names of recordings, chunk files and label folders."""

from __future__ import annotations

import hashlib
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from audionet.errors import DatasetError
from audionet.utils.text import composed, escape

log = logging.getLogger(__name__)

DATASET_JSON = "dataset.json"
UNKNOWN = "_unknown_"
"""Folder of recordings that belong to none of the labels: examples of unknown sounds."""

BACKGROUND = "_background_"
"""Label of what no row of a label table labels, where it is wanted."""
SEPARATOR = ";"
"""Separates the labels of a recording that has several: in tables, and in the name of its folder, ``dog;rain``."""

_CHUNK_NAME = re.compile(r"(?P<recording>.+)_nohash_(?P<index>\d+)(?:_aug(?P<copy>\d+))?", re.DOTALL)
_CHANNEL_NAME = re.compile(r"(?P<file>.+\.\w+)#(?P<channel>\d+)", re.DOTALL)
_LONGEST_NAME = 200  # bytes; file systems allow 255, and the chunk's number and suffix are added to it


def recording_name(relative: str) -> str:
    """Encode a recording's path inside the label's folder, one to one, as the first part of its chunks' names.

    The suffix stays (``a.mp3`` and ``a.wav`` are two recordings), slashes and control characters are
    percent-encoded (``day 1/a.mp3`` becomes ``day 1%2Fa.mp3``), and a name too long for a file system ends
    in a hash instead.
    """
    name = re.sub(r"[%/\\\x00-\x1f\x7f]", lambda char: f"%{ord(char[0]):02X}", relative)
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(encoded, digest_size=16).hexdigest()
    return encoded[: _LONGEST_NAME - 40].decode("utf-8", "ignore") + "~" + digest


def recording_path(name: str) -> str:
    """Decode a recording's name into its path inside the label's folder; a shortened name stays shortened."""
    return re.sub(r"%([0-9A-F]{2})", lambda code: chr(int(code[1], 16)), name)


def channel_name(file: str, channel: int) -> str:
    """Name one channel of a recording that is split, ``call.wav#2``; no recording's file name ends so."""
    return f"{file}#{channel}"


def recording_names(file: str, channels: int) -> list[str]:
    """Name the recordings in a file: the file itself, or each of its channels where there are several."""
    return [file] if channels == 1 else [channel_name(file, number + 1) for number in range(channels)]


def parse_channel_name(name: str) -> tuple[str, int | None]:
    """Split a name into that of the file and the channel's number, None if it is not of a single channel."""
    match = _CHANNEL_NAME.fullmatch(name)
    return (match["file"], int(match["channel"])) if match else (name, None)


def join_labels(labels: Iterable[str]) -> str:
    """Name the folder of recordings that have all of these labels, ``dog;rain``."""
    return SEPARATOR.join(sorted(set(labels)))


def separate_labels(folder: str) -> tuple[str, ...]:
    """Return the labels that a folder's name joins, in code-point order; none for unknown sounds and background.

    Accents are in NFC: names that differ only in their encoding are one label.
    """
    return tuple(sorted({composed(part.strip()) for part in folder.split(SEPARATOR)} - {"", UNKNOWN, BACKGROUND}))


class ChunkName(NamedTuple):
    """Parts of a chunk file's name; `copy` is 0 for the chunk itself, and numbers its augmented copies from 1."""

    recording: str
    number: int
    copy: int = 0


def chunk_name(recording: str, index: int, suffix: str, copy: int = 0) -> str:
    """Format a chunk's file name, ``<recording>_nohash_<index><suffix>``, or a copy's, ``..._aug<copy><suffix>``."""
    return f"{recording}_nohash_{index:04d}{f'_aug{copy}' if copy else ''}{suffix}"


def is_chunk_name(stem: str) -> bool:
    """Return whether a file name without its suffix has the format of `chunk_name`."""
    return _CHUNK_NAME.fullmatch(stem) is not None


def parse_chunk_name(stem: str) -> ChunkName:
    """Parse a chunk file's name without its suffix; a name in any other format is a recording of its own."""
    match = _CHUNK_NAME.fullmatch(stem)
    return ChunkName(match["recording"], int(match["index"]), int(match["copy"] or 0)) if match else ChunkName(stem, 0)


def label_folders(folder: Path, error: type[DatasetError] = DatasetError) -> list[str]:
    """List the label folders' names, exactly as on disk, sorted by code point; hidden folders are ignored.

    Raises
    ------
    DatasetError
        If the folder does not exist.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{escape(folder)} is not a folder: create it, with one folder of recordings per label") from None


def joined_folders(folder: Path) -> dict[str, list[str]]:
    """List the label folders; those whose names differ only in the encoding of their accents are one label.

    Returns
    -------
    dict of str to list of str
        Folders of each label; the label is spelled as the first of them. More than one are logged.

    Raises
    ------
    DatasetError
        If the folder does not exist.
    """
    joined: dict[str, list[str]] = {}
    for name in label_folders(folder):
        joined.setdefault(composed(name), []).append(name)
    labels = {same[0]: same for same in joined.values()}
    for label, folders in labels.items():
        if len(folders) > 1:
            log.warning(
                f"{folder}: {len(folders)} folders are named {label}, with their accents encoded differently; "
                "joined as one label"
            )
    return labels


def label_problem(label: str) -> str | None:
    """Return why a folder's name cannot be a label, or None; it must fit on one line of retrained_labels.txt."""
    if label.splitlines() != [label]:
        return "a label cannot hold a line break: rename the folder"
    if label == DATASET_JSON:
        return "a label cannot have the name of a file that is written beside it: rename the folder"
    return None


def label_cell_problem(label: str) -> str | None:
    """Return why a label in a table cannot be used, as the end of a sentence about its row; None if it can."""
    if not label.strip(f"{SEPARATOR} "):
        return "has no label"
    if not label.isprintable() or label.startswith(".") or set(label) & set("/\\") or len(os.fsencode(label)) > 255:
        return f"has the label '{escape(label)[:60]}', which cannot be a folder's name"
    if label_problem(label):
        return f"has the label '{escape(label)}', which is the name of a file that is written"
    return None
