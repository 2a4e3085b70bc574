"""Folders of spectrogram images, and their dataset.json."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from audionet.audio.config import SpectrogramConfig, spectrogram_config_from
from audionet.augment.config import AUGMENT_KINDS
from audionet.data.naming import (
    DATASET_JSON,
    UNKNOWN,
    joined_folders,
    label_problem,
    parse_chunk_name,
)
from audionet.errors import DamagedError, DatasetError
from audionet.utils.files import read_json
from audionet.utils.json_files import damage_as, field, optional_field, texts, whole
from audionet.utils.text import escape

_REMEDY = "run data_maker.py again"


@dataclass(frozen=True, slots=True)
class ChunkImage:
    """Image of one chunk. A dataset may contain millions, so it stores the folder and the name, not a whole path."""

    label: str
    recording: str
    index: int
    folder: Path
    name: str
    copy: int = 0

    @property
    def path(self) -> Path:
        """Path of the image file."""
        return self.folder / self.name


def find_images(image_dir: Path, least_labels: int = 2) -> list[ChunkImage]:
    """List all JPG images under the label folders, in order of label, recording and index.

    Raises
    ------
    DatasetError
        If the folder does not exist, a label contains a line break, or fewer labels than `least_labels` have images.
    """
    remedy = "render images with data_maker.py first"
    if not image_dir.is_dir():
        raise DatasetError(f"{escape(image_dir)} is not a folder: {remedy}")
    images = []
    empty = []
    folders = joined_folders(image_dir)
    for label, spelling in ((label, spelling) for label, spellings in folders.items() for spelling in spellings):
        folder = image_dir / spelling
        with os.scandir(folder) as entries:
            names = [e.name for e in entries if e.name.lower().endswith((".jpg", ".jpeg")) and e.name[0] != "."]
        if not names:
            empty.append(spelling)
        elif problem := label_problem(spelling):
            raise DatasetError(f"{escape(folder)}: {problem}")
        for name in names:
            recording, index, copy = parse_chunk_name(os.path.splitext(name)[0])
            recording = recording if spelling == label else f"{spelling}%2F{recording}"
            images.append(ChunkImage(label, sys.intern(recording), index, folder, name, copy))
    labels = {image.label for image in images} - {UNKNOWN}
    if len(labels) < least_labels:
        found = f"only '{escape(*labels)}' has images" if labels else "it holds no images in label folders"
        found += f" beside {UNKNOWN}, which is no label" if (image_dir / UNKNOWN).is_dir() else ""
        empty_folders = f" (nothing in {', '.join(map(escape, empty))})" if empty else ""
        few = f"{found}{empty_folders}; training needs two or more labels, each a folder of recordings"
        raise DatasetError(f"{escape(image_dir)}: {few}: {remedy}")
    return sorted(images, key=lambda p: (p.label, p.recording, p.index, p.copy, p.name))


class Assigned(NamedTuple):
    """Groups and sets of recordings, by their names, from the label table that their images were made by."""

    groups: dict[str, str]
    sets: dict[str, str]


def dataset_json(
    spectrogram: SpectrogramConfig,
    labels: dict[str, Any],
    augmentation: dict[str, Any] | None,
    complete: bool,
    assigned: Assigned | None = None,
) -> dict[str, Any]:
    """Build the content of dataset.json: rendering settings, augmentation recipe, label summaries, groups and sets."""
    settings = dataclasses.asdict(spectrogram)
    table = {} if assigned is None else {"table": assigned._asdict()}
    return {
        "format": 2,
        "complete": complete,
        "picture": settings,
        "augmentation": augmentation,
        "labels": labels,
        **table,
    }


def read_spectrogram_config(image_dir: Path) -> SpectrogramConfig | None:
    """Read the spectrogram settings of a folder's images; None if data_maker.py did not render them.

    Raises
    ------
    DatasetError
        If dataset.json is damaged, of another version, or marked incomplete because data_maker.py did not finish.
    """
    path = image_dir / DATASET_JSON
    if not path.exists():
        return None
    content = read_json(path, DatasetError, _REMEDY)
    if not content.get("complete"):
        raise DatasetError(f"{escape(path)}: data_maker.py was stopped before it had finished: {_REMEDY}")
    return spectrogram_config_from(content.get("picture"), path, _REMEDY)


def read_augmentation(image_dir: Path) -> dict[str, Any] | None:
    """Read the recipe of a folder's augmented copies; None without copies, or if data_maker.py did not render it.

    Raises
    ------
    DatasetError
        If dataset.json is damaged.
    """
    path = image_dir / DATASET_JSON
    with damage_as(DatasetError, path, _REMEDY):
        recipe = _optional_part(path, "augmentation")
        if recipe:
            whole(recipe, "seed", -(2**63))
            if not set(texts(recipe, "kinds")) <= set(AUGMENT_KINDS):
                raise DamagedError("'kinds' are unknown")
    return recipe


def read_assigned(image_dir: Path) -> Assigned | None:
    """Read the groups and sets of a folder's recordings; None if its images were not made by a label table.

    Raises
    ------
    DatasetError
        If dataset.json is damaged.
    """
    path = image_dir / DATASET_JSON
    with damage_as(DatasetError, path, _REMEDY):
        table = _optional_part(path, "table")
        if table is None:
            return None
        values = [field(table, name, dict) for name in Assigned._fields]
        if not all(isinstance(value, str) for found in values for value in found.values()):
            raise DamagedError("its groups or sets are no text")
    return Assigned(*values)


def _optional_part(path: Path, name: str) -> dict[str, Any] | None:
    """Read an object in dataset.json; return None if it, or the file, is not there."""
    return optional_field(read_json(path, DatasetError, _REMEDY), name, dict) if path.exists() else None


def recordings_in(images: Iterable[ChunkImage]) -> int:
    """Count the recordings that the images come from."""
    return len({(image.label, image.recording) for image in images})
