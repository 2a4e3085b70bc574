"""Training manifest of a backbone: datasets, the labels in their file names, licences and held-out recordings."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.errors import DatasetError
from audionet.utils.expressions import Expression
from audionet.utils.files import read_json, walk
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

TASKS = ("speaker", "word", "sound")
"""Classification tasks; each has its own head of the network."""

UNLABELLED = "unlabelled"
"""Task of a dataset without labels, which the teacher alone labels."""

_HELD_OUT_SHARE = 0.05
_REMEDY = "see docs/pretraining.md for the format of a manifest"


@dataclass(frozen=True)
class ManifestDataset:
    """A dataset of the manifest.

    Attributes
    ----------
    name, licence, url : str
        For the model card.
    folder : str
        Its folder, relative to the data folder.
    task : str
        One of TASKS, or UNLABELLED.
    label : Expression or None
        Regular expression whose group ``label`` is the label in a recording's path, relative to the folder; None for
        UNLABELLED.
    leave_out_last : int
        Number of recordings, the last in order of their paths, that are reserved for probing.
    pitches : tuple of float
        Pitch factors (0.5 to 2) of pitch-shifted copies to train on as well.
    weight : float
        How often a recording is drawn from it, relative to the other datasets.
    """

    name: str
    folder: str
    task: str
    label: Expression | None
    licence: str
    url: str
    leave_out_last: int = 0
    pitches: tuple[float, ...] = ()
    weight: float = 1.0


@dataclass(frozen=True)
class Utterance:
    """A recording with its dataset and label.

    Attributes
    ----------
    path : Path
    dataset : int
        Index of its dataset in the corpus.
    label : int
        Index of its label among those of its task; 0 if it has none.
    """

    path: Path
    dataset: int
    label: int


@dataclass(frozen=True)
class Corpus:
    """All recordings of a manifest.

    Attributes
    ----------
    datasets : list of ManifestDataset
        Datasets whose recordings were found.
    labels : dict of str to list of str
        Each task's labels, sorted. A task with fewer than two labels is left out.
    training, held_out : list of Utterance
        Recordings to train on and to validate on.
    """

    datasets: list[ManifestDataset]
    labels: dict[str, list[str]]
    training: list[Utterance]
    held_out: list[Utterance]


def read_manifest(path: Path) -> list[ManifestDataset]:
    """Read the datasets that a manifest lists.

    Raises
    ------
    DatasetError
        If the file is missing or is not a valid manifest.
    """
    listed = read_json(path, DatasetError, _REMEDY).get("datasets")
    if not isinstance(listed, list) or not listed:
        raise DatasetError(f"{escape(path)} lists no datasets: {_REMEDY}")
    return [_parse_dataset(path, entry) for entry in listed]


def _parse_dataset(path: Path, entry: Any) -> ManifestDataset:
    where = f"{escape(path)}: {str(entry)[:80]}"
    if not isinstance(entry, dict):
        raise DatasetError(f"{where} is not a dataset: {_REMEDY}")
    has_labels = entry.get("task") != UNLABELLED
    for name in ("name", "folder", "task", *(("label",) if has_labels else ()), "licence", "url"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise DatasetError(f"{where}: '{name}' is missing: {_REMEDY}")
    if entry["task"] not in (*TASKS, UNLABELLED):
        raise DatasetError(f"{where}: task '{entry['task']}' must be one of {', '.join((*TASKS, UNLABELLED))}")
    label = _parse_label(where, entry["label"]) if has_labels else None
    reserved = entry.get("leave_out_last", 0)
    if not isinstance(reserved, int) or reserved < 0:
        raise DatasetError(f"{where}: leave_out_last is {reserved!r}: it must be 0 or more")
    pitches = entry.get("pitches", [])
    if not isinstance(pitches, list) or not all(_is_pitch(pitch) for pitch in pitches):
        raise DatasetError(f"{where}: pitches is {pitches!r}: it must be a list of numbers from 0.5 to 2, other than 1")
    weight = entry.get("weight", 1)
    if not isinstance(weight, int | float) or not 0 < weight <= 100:
        raise DatasetError(f"{where}: weight is {weight!r}: it must be above 0, to 100")
    texts = {name: entry[name] for name in ("name", "folder", "task", "licence", "url")}
    return ManifestDataset(
        **texts, label=label, leave_out_last=reserved, pitches=tuple(map(float, pitches)), weight=float(weight)
    )


def _parse_label(where: str, text: str) -> Expression:
    try:
        label = Expression(text)
    except ValueError as error:
        raise DatasetError(f"{where}: label '{text}' is not a regular expression ({error})") from None
    if "label" not in label.names:
        raise DatasetError(f"{where}: label '{text}' has no group (?P<label>...)")
    return label


def _is_pitch(pitch: Any) -> bool:
    return isinstance(pitch, int | float) and 0.5 <= pitch <= 2 and pitch != 1


def find_utterances(datasets: list[ManifestDataset], data_dir: Path) -> Corpus:
    """Find every dataset's recordings; log and leave out datasets without recordings and tasks with a single label.

    One recording in twenty is held out. A hash of its path decides, so that the choice does not depend on the other
    recordings.

    Raises
    ------
    DatasetError
        If no recordings are left, or an expression for labels takes for ever on one's name.
    """
    found: list[tuple[ManifestDataset, list[tuple[Path, str]]]] = []
    for dataset in datasets:
        recordings = _list_recordings(dataset, data_dir / dataset.folder)
        if not recordings:
            log.warning(f"{data_dir / dataset.folder} has no recordings of '{dataset.name}'; left out")
        else:
            found.append((dataset, recordings))
    labels: dict[str, list[str]] = {}
    for task in TASKS:
        task_recordings = [(dataset, recordings) for dataset, recordings in found if dataset.task == task]
        names = sorted(
            {_qualified_label(dataset, label) for dataset, recordings in task_recordings for _, label in recordings}
        )
        if len(names) > 1:
            labels[task] = names
        elif names:
            log.warning(f"the task '{task}' has only {pluralise(len(names), 'label')}; left out")
    found = [(dataset, recordings) for dataset, recordings in found if dataset.task in {*labels, UNLABELLED}]
    if not found:
        raise DatasetError(f"{escape(data_dir)} has no recordings that the manifest lists: set --data_dir")
    for dataset, recordings in found:
        if dataset.task == "speaker" and len({label for _, label in recordings}) == len(recordings):
            log.info(f"{dataset.name}: one recording of each speaker, so no pairs of one voice come from it")
    indices = {task: {name: index for index, name in enumerate(names)} for task, names in labels.items()}
    indices[UNLABELLED] = {"": 0}
    training: list[Utterance] = []
    held_out: list[Utterance] = []
    for number, (dataset, recordings) in enumerate(found):
        for path, label in recordings:
            utterance = Utterance(path, number, indices[dataset.task][_qualified_label(dataset, label)])
            share = _hash_share(f"{dataset.folder}/{path.relative_to(data_dir / dataset.folder).as_posix()}")
            (held_out if share < _HELD_OUT_SHARE else training).append(utterance)
    return Corpus([dataset for dataset, _ in found], labels, training, held_out)


def _qualified_label(dataset: ManifestDataset, label: str) -> str:
    """Return the label, qualified by its dataset if it is a speaker's: speaker numbers are not shared by datasets."""
    return f"{dataset.folder}/{label}" if dataset.task == "speaker" else label


def _list_recordings(dataset: ManifestDataset, folder: Path) -> list[tuple[Path, str]]:
    """List a dataset's recordings with their labels, in order of paths, without those reserved for probing."""
    if not folder.is_dir():
        return []
    paths = sorted((name, path) for name, path in walk(folder) if path.suffix.lower() in AUDIO_SUFFIXES)
    if dataset.leave_out_last:
        paths = paths[: -dataset.leave_out_last]
    if dataset.label is None:
        return [(path, "") for _, path in paths]
    setting = f"the manifest's dataset '{dataset.name}': label"
    matched = [(path, dataset.label.search(name, setting, DatasetError)) for name, path in paths]
    return [(path, match["label"]) for path, match in matched if match is not None]


def _hash_share(name: str) -> float:
    """Return a hash of a name as a number from 0 to 1."""
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
