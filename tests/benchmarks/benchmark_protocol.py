"""One protocol for all contestants of a benchmark: the same recordings to train and to test on."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import host  # noqa: F401 - puts the code on the path

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.data.dataset import ChunkImage
from audionet.data.fetch import fetch_dataset, find_table
from audionet.data.folds import assign_folds
from audionet.data.grouping import group_recordings, hash_order
from audionet.data.naming import recording_name
from audionet.errors import DatasetError
from audionet.utils.files import walk


class Recording(NamedTuple):
    """Recording of a benchmark; those of one group are never on both sides of a test.

    Folds and draws go by its name, the path inside the folder of its label or dataset, wherever that lies.
    """

    label: str
    name: str
    path: Path
    group: str


@dataclass(frozen=True)
class Trial:
    """One training and one test.

    Attributes
    ----------
    number : int or None
        Recordings a label to train on; None for all.
    fold : int
    training, test : list of Recording
    """

    number: int | None
    fold: int
    training: list[Recording]
    test: list[Recording]


def recordings_by_folder(folder: Path, group: str | None = None) -> list[Recording]:
    """List the recordings of a folder with a folder for each label, grouped as by ``audionet train --group``.

    Raises
    ------
    DatasetError
        If fewer than two labels have recordings.
    """
    found = [
        (label, inside, path)
        for name, path in walk(folder)
        for label, slash, inside in [name.partition("/")]
        if slash and path.suffix.lower() in AUDIO_SUFFIXES
    ]
    if len({label for label, *_ in found}) < 2:
        raise DatasetError(f"{folder}: has no two folders with recordings; for a public dataset name DATASET too")
    images = [_stand_in(label, inside) for label, inside, _ in found]
    groups = group_recordings(images, group).groups
    return [
        Recording(label, inside, path, groups[label, image.recording])
        for (label, inside, path), image in zip(found, images, strict=True)
    ]


def recordings_of_dataset(name: str, by: str | None, source: Path, folder: Path) -> list[Recording]:
    """List the recordings of a public dataset that lies in a folder, with the labels and groups of ``--by``."""
    found = fetch_dataset(name, by=by, source=source, partial=True, datasets_dir=folder)
    with found.labels.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    return [
        Recording(row["label"], row["file"], found.folder / row["file"], row["group"] or f"alone {row['file']}")
        for row in rows
    ]


def labels_are_speakers(dataset: str | None, by: str | None) -> bool:
    """Return whether the labels of a public dataset are speakers."""
    return dataset is not None and find_table(dataset, by)[0] == "speaker"


def plan(
    recordings: Sequence[Recording], numbers: Sequence[int | None], folds: int, run_folds: int, test: int | None
) -> list[Trial]:
    """Plan the trainings and tests: AudioNet's own folds, by recording and group.

    Parameters
    ----------
    recordings : sequence of Recording
    numbers : sequence of int or None
        Recordings a label to train on, drawn from the fold's training part; larger draws hold the smaller ones.
    folds : int
        Folds that the recordings are spread over.
    run_folds : int
        The first of these are tested.
    test : int or None
        Most recordings a label to test on in a fold.
    """
    images = [_stand_in(recording.label, recording.name) for recording in recordings]
    groups = {(i.label, i.recording): r.group for i, r in zip(images, recordings, strict=True)}
    found = assign_folds(images, groups, folds)
    return [
        Trial(
            number,
            fold,
            draw([recordings[row] for row in found.training[fold]], number),
            draw([recordings[row] for row in found.tests[fold]], test),
        )
        for number in numbers
        for fold in range(min(run_folds, len(found)))
    ]


def draw(recordings: Sequence[Recording], number: int | None) -> list[Recording]:
    """Draw up to `number` recordings of each label, in an order of hashes of their names."""
    of_label: dict[str, list[Recording]] = defaultdict(list)
    for recording in sorted(recordings, key=lambda r: hash_order(r.label, r.name)):
        of_label[recording.label].append(recording)
    return [recording for label in sorted(of_label) for recording in of_label[label][:number]]


def _stand_in(label: str, path: str) -> ChunkImage:
    """Return an image that stands for a whole recording, which is what groups and folds are made of."""
    return ChunkImage(label, recording_name(path), 0, Path(), "")
