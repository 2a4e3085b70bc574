"""Chunk files and their names, folders of pictures, and the split into training, validation and test."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from audionet.config import PictureConfig
from audionet.errors import DatasetError, UsageError
from audionet.utils.files import printable, read_json
from audionet.utils.settings import from_json

DATASET_JSON = "dataset.json"
SETS = ("training", "validation", "testing")
UNKNOWN = "_unknown_"
"""The folder of examples of what is none of the labels."""

_CHUNK_NAME = re.compile(r"(?P<recording>.+)_nohash_(?P<index>\d+)(?:_aug(?P<variant>\d+))?", re.DOTALL)
_LONGEST_NAME = 200  # bytes; file systems allow 255, and the chunk's number and ending come on top


def recording_name(relative: str) -> str:
    """The name a recording's chunks begin with, one to one with its path inside the label's folder.

    The ending stays (``a.mp3`` and ``a.wav`` are two recordings), slashes and control characters are
    percent-encoded (``day 1/a.mp3`` becomes ``day 1%2Fa.mp3``), and a name too long for a file system ends
    in a hash instead.
    """
    name = re.sub(r"[%/\\\x00-\x1f\x7f]", lambda char: f"%{ord(char[0]):02X}", relative)
    encoded = os.fsencode(name)
    if len(encoded) <= _LONGEST_NAME:
        return name
    digest = hashlib.blake2b(encoded, digest_size=16).hexdigest()
    return encoded[: _LONGEST_NAME - 40].decode("utf-8", "ignore") + "~" + digest


class ChunkName(NamedTuple):
    """What a chunk file's name says; `variant` is 0 for the chunk itself, and counts its augmentations from 1."""

    recording: str
    number: int
    variant: int = 0


def chunk_name(recording: str, index: int, suffix: str, variant: int = 0) -> str:
    """File name of a chunk, ``<recording>_nohash_<index><suffix>``, or of a variant, ``..._aug<variant><suffix>``."""
    return f"{recording}_nohash_{index:04d}{f'_aug{variant}' if variant else ''}{suffix}"


def is_chunk_name(stem: str) -> bool:
    """Whether a file's name without its ending is one that `chunk_name` gives."""
    return _CHUNK_NAME.fullmatch(stem) is not None


def parse_chunk_name(stem: str) -> ChunkName:
    """What a chunk file's name without its ending says; a foreign name is a recording of its own."""
    match = _CHUNK_NAME.fullmatch(stem)
    return (
        ChunkName(match["recording"], int(match["index"]), int(match["variant"] or 0)) if match else ChunkName(stem, 0)
    )


def label_folders(folder: Path, error: type[DatasetError] = DatasetError) -> list[str]:
    """Names of the label folders, exactly as on disk, sorted by code point; hidden ones are passed over.

    Raises
    ------
    DatasetError
        If the folder does not exist.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        raise error(f"{printable(folder)} is not a folder: make it, with one folder of recordings per label") from None


def label_problem(label: str) -> str | None:
    """Why a folder's name cannot be a label, or None: it has to fit on one line of retrained_labels.txt."""
    if label.splitlines() != [label]:
        return "a label cannot hold a line break: rename the folder"
    if label == DATASET_JSON:
        return "a label cannot have the name of a file that is written beside it: rename the folder"
    return None


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture of one chunk. A set may hold millions, so that it keeps no path of its own."""

    label: str
    recording: str
    index: int
    folder: Path
    name: str
    variant: int = 0

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.name


def find_pictures(image_dir: Path, least_labels: int = 2) -> list[Picture]:
    """All JPG pictures under the label folders, in order of label, recording and index.

    Raises
    ------
    DatasetError
        If the folder does not exist, a label cannot be written on one line, or fewer labels than `least_labels` have
        pictures.
    """
    remedy = "make pictures with data_maker.py first"
    if not image_dir.is_dir():
        raise DatasetError(f"{printable(image_dir)} is not a folder: {remedy}")
    pictures = []
    empty = []
    for label in label_folders(image_dir):
        with os.scandir(image_dir / label) as entries:
            names = [e.name for e in entries if e.name.lower().endswith((".jpg", ".jpeg")) and e.name[0] != "."]
        if not names:
            empty.append(label)
        elif problem := label_problem(label):
            raise DatasetError(f"{printable(image_dir / label)}: {problem}")
        folder = image_dir / label
        for name in names:
            recording, index, variant = parse_chunk_name(os.path.splitext(name)[0])
            pictures.append(Picture(label, sys.intern(recording), index, folder, name, variant))
    labels = {picture.label for picture in pictures} - {UNKNOWN}
    if len(labels) < least_labels:
        found = f"only '{printable(*labels)}' has pictures" if labels else "it holds no pictures in label folders"
        found += f" beside {UNKNOWN}, which is no label" if (image_dir / UNKNOWN).is_dir() else ""
        also = f" (nothing in {', '.join(map(printable, empty))})" if empty else ""
        raise DatasetError(f"{printable(image_dir)}: {found}{also}; telling labels apart takes two or more: {remedy}")
    return sorted(pictures, key=lambda p: (p.label, p.recording, p.index, p.variant, p.name))


@dataclass(frozen=True)
class Split:
    """Which set each picture is in.

    Attributes
    ----------
    sets : dict of str to list of Picture
        Under each name in SETS, its pictures.
    heard_in_training : list of str
        Labels with fewer than three recordings: their test pictures come from recordings that training heard too.
    dropped : int
        Pictures in the gaps between the sets of such labels, and variants of what is not in training: used nowhere.
    """

    sets: dict[str, list[Picture]]
    heard_in_training: list[str]
    dropped: int


def split_pictures(
    pictures: Sequence[Picture], validation_percentage: float, testing_percentage: float, apart: int = 2
) -> Split:
    """Split by recording, so that no recording is in two sets.

    Within a label, recordings are ordered by a hash of label and recording name (moving or copying the folder
    changes nothing) and fill the test set, then the validation set, to the asked shares of the label's pictures.
    Each set that was asked for gets a recording where the label has three. A label with fewer is cut in time.
    Variants made by augmentation count for nothing in this, and join their chunk if it is in training.

    Parameters
    ----------
    pictures : sequence of Picture
    validation_percentage, testing_percentage : float
        0 or more, together below 100.
    apart : int
        How many chunks from the last of one set to the first of the next where a label is cut in time.
    """
    variants = [picture for picture in pictures if picture.variant]
    pictures = [picture for picture in pictures if not picture.variant]
    shares = {"testing": testing_percentage / 100, "validation": validation_percentage / 100}
    sets: dict[str, list[Picture]] = {name: [] for name in SETS}
    heard: list[str] = []
    dropped = 0
    for label, group in groupby(sorted(pictures, key=lambda p: p.label), key=lambda p: p.label):
        ordered = sorted(group, key=lambda p: (_order(p.label, p.recording), p.recording, p.index))
        recordings = [list(chunks) for _, chunks in groupby(ordered, key=lambda p: p.recording)]
        if len(recordings) >= 3:
            parts = _by_recording(recordings, shares)
        else:
            parts = _by_time(ordered, shares, apart - 1)
            if parts["testing"] or parts["validation"]:
                heard.append(label)
            dropped += len(ordered) - sum(map(len, parts.values()))
        for name in SETS:
            sets[name] += parts[name]
    learned = {(picture.label, picture.recording, picture.index) for picture in sets["training"]}
    joining = [picture for picture in variants if (picture.label, picture.recording, picture.index) in learned]
    sets["training"] += joining
    return Split(sets, heard, dropped + len(variants) - len(joining))


def _order(label: str, recording: str) -> bytes:
    return hashlib.blake2b(os.fsencode(f"{label}\0{recording}"), digest_size=8).digest()


def _by_recording(recordings: Sequence[Sequence[Picture]], shares: dict[str, float]) -> dict[str, list[Picture]]:
    total = sum(map(len, recordings))
    waiting = list(recordings)
    parts: dict[str, list[Picture]] = {name: [] for name in SETS}
    # Training keeps one recording, and so does each set still to be filled.
    reserved = 1 + sum(share > 0 for share in shares.values())
    for name, share in shares.items():
        if share == 0:
            continue
        reserved -= 1
        while len(waiting) > reserved and (not parts[name] or len(parts[name]) + len(waiting[0]) / 2 <= share * total):
            parts[name] += waiting.pop(0)
    parts["training"] = [picture for recording in waiting for picture in recording]
    return parts


def _by_time(ordered: Sequence[Picture], shares: dict[str, float], gap: int) -> dict[str, list[Picture]]:
    """Contiguous blocks with `gap` pictures left out between them: training, validation, testing."""
    wanted = {name: max(1, round(share * len(ordered))) if share > 0 else 0 for name, share in shares.items()}
    gaps = gap * sum(count > 0 for count in wanted.values())
    training = len(ordered) - sum(wanted.values()) - gaps
    if training < 1:
        return {"training": list(ordered), "validation": [], "testing": []}
    parts = {"training": list(ordered[:training])}
    place = training
    for name in ("validation", "testing"):
        place += gap * (wanted[name] > 0)
        parts[name] = list(ordered[place : place + wanted[name]])
        place += wanted[name]
    return parts


def without_copies(split: Split, content: Mapping[Picture, bytes]) -> tuple[Split, int]:
    """Take exact copies out of the split, so that no test picture is also learned from.

    People copy recordings from folder to folder, and a copy has another name.

    Parameters
    ----------
    split : Split
    content : mapping of Picture to bytes
        What stands for each picture's content.

    Returns
    -------
    split : Split
        Without test pictures that are in validation or training, and validation pictures that are in training.
    copies : int
        How many were taken out.
    """
    seen = {content[picture] for picture in split.sets["training"]}
    sets = {"training": split.sets["training"]}
    for name in ("validation", "testing"):
        sets[name] = [picture for picture in split.sets[name] if content[picture] not in seen]
        seen |= {content[picture] for picture in sets[name]}
    copies = sum(len(split.sets[name]) - len(sets[name]) for name in SETS)
    return dataclasses.replace(split, sets=sets), copies


def dataset_json(
    picture: PictureConfig, labels: dict[str, Any], augmentation: dict[str, Any] | None, complete: bool
) -> dict[str, Any]:
    """What dataset.json says: how the pictures were made, and of what."""
    settings = dataclasses.asdict(picture)
    return {
        "format": 2,
        "complete": complete,
        "picture": settings,
        "augmentation": augmentation,
        "labels": labels,
    }


def read_picture_config(image_dir: Path) -> PictureConfig | None:
    """How a folder's pictures were made, or None where data_maker.py did not make them.

    Raises
    ------
    DatasetError
        If dataset.json is damaged, of another version, or says that data_maker.py did not finish.
    """
    path = image_dir / DATASET_JSON
    if not path.exists():
        return None
    remedy = "run data_maker.py again"
    content = read_json(path, DatasetError, remedy)
    if not content.get("complete"):
        raise DatasetError(f"{printable(path)}: data_maker.py was stopped before it had finished: {remedy}")
    return picture_config_from(content.get("picture"), path, remedy)


def read_augmentation(image_dir: Path) -> dict[str, Any] | None:
    """How a folder's variants were made, or None where there are none or data_maker.py did not make them."""
    path = image_dir / DATASET_JSON
    return read_json(path, DatasetError, "run data_maker.py again").get("augmentation") if path.exists() else None


def picture_config_from(settings: Any, path: Path, remedy: str, error: type[Exception] = DatasetError) -> PictureConfig:
    """Picture settings out of a JSON file; raise `error`, naming the file, if they are not this version's."""
    try:
        return from_json(PictureConfig, settings)
    except UsageError as why:
        raise error(f"{printable(path)}: its picture settings are not usable ({why}): {remedy}") from None


def evenly(total: int, most: int) -> NDArray[np.int64]:
    """At most `most` places among `total`, evenly from the first to the last."""
    return np.unique(np.linspace(0, total - 1, min(most, total)).astype(np.int64))


def recordings_in(pictures: Iterable[Picture]) -> int:
    """How many recordings the pictures come from."""
    return len({(picture.label, picture.recording) for picture in pictures})
