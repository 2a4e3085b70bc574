"""The recordings that a backbone is made from: folders, how labels are read from names, under which licence."""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.errors import DatasetError
from audionet.utils.files import read_json, walk
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)


TASKS = ("speaker", "word", "sound")
"""What can be learned of a recording, with one head of the network each."""

_HELD_OUT_SHARE = 0.05
_REMEDY = "README.md says how a manifest is written"


@dataclass(frozen=True)
class ManifestDataset:
    """A dataset of the manifest.

    Attributes
    ----------
    name, licence, url : str
        For the model card.
    folder : str
        Where it lies, below the folder of all data.
    task : str
        One of TASKS.
    label : re.Pattern
        Finds the group ``label`` in a recording's path inside the folder.
    leave_out_last : int
        How many recordings, the last in order of their paths, are kept for probing.
    pitches : tuple of float
        To learn from its recordings at these times their pitch as well.
    """

    name: str
    folder: str
    task: str
    label: re.Pattern[str]
    licence: str
    url: str
    leave_out_last: int = 0
    pitches: tuple[float, ...] = ()


@dataclass(frozen=True)
class Utterance:
    """A recording to learn from, and what is known of it.

    Attributes
    ----------
    path : Path
    source : int
        Which dataset of the corpus it belongs to.
    label : int
        Place of its label among those of its task.
    """

    path: Path
    source: int
    label: int


@dataclass(frozen=True)
class Corpus:
    """All recordings of a manifest.

    Attributes
    ----------
    sources : list of Source
        Those that are there.
    labels : dict of str to list of str
        Each task's labels, in order. A task that cannot be learned, having fewer than two, is missing.
    training, held_out : list of Lesson
        To learn from, and to watch the learning with.
    """

    sources: list[ManifestDataset]
    labels: dict[str, list[str]]
    training: list[Utterance]
    held_out: list[Utterance]


def read_manifest(path: Path) -> list[ManifestDataset]:
    """The datasets that a manifest names.

    Raises
    ------
    DatasetError
        If it is missing or says something else than a manifest does.
    """
    listed = read_json(path, DatasetError, _REMEDY).get("datasets")
    if not isinstance(listed, list) or not listed:
        raise DatasetError(f"{escape(path)} lists no datasets: {_REMEDY}")
    return [_source(path, entry) for entry in listed]


def _source(path: Path, entry: Any) -> ManifestDataset:
    where = f"{escape(path)}: {str(entry)[:80]}"
    if not isinstance(entry, dict):
        raise DatasetError(f"{where} is no dataset: {_REMEDY}")
    for name in ("name", "folder", "task", "label", "licence", "url"):
        if not isinstance(entry.get(name), str) or not entry[name]:
            raise DatasetError(f"{where}: '{name}' is missing: {_REMEDY}")
    if entry["task"] not in TASKS:
        raise DatasetError(f"{where}: task '{entry['task']}' is none of {', '.join(TASKS)}")
    try:
        label = re.compile(entry["label"])
    except re.error as error:
        raise DatasetError(f"{where}: label '{entry['label']}' is no regular expression ({error})") from None
    if "label" not in label.groupindex:
        raise DatasetError(f"{where}: label '{entry['label']}' has no group (?P<label>...)")
    kept_back = entry.get("leave_out_last", 0)
    if not isinstance(kept_back, int) or kept_back < 0:
        raise DatasetError(f"{where}: leave_out_last is {kept_back!r}: it must be 0 or more")
    pitches = entry.get("pitches", [])
    if not isinstance(pitches, list) or not all(_is_pitch(pitch) for pitch in pitches):
        raise DatasetError(f"{where}: pitches is {pitches!r}: it must list numbers of 0.5 to 2, 1 left out")
    texts = {name: entry[name] for name in ("name", "folder", "task", "licence", "url")}
    return ManifestDataset(**texts, label=label, leave_out_last=kept_back, pitches=tuple(map(float, pitches)))


def _is_pitch(pitch: Any) -> bool:
    return isinstance(pitch, int | float) and 0.5 <= pitch <= 2 and pitch != 1


def find_utterances(sources: list[ManifestDataset], data_dir: Path) -> Corpus:
    """Find every dataset's recordings. A folder that is missing, or of one label, is said and left out.

    One recording in twenty is held out, by a hash of its path, so that which one does not change with the others.

    Raises
    ------
    DatasetError
        If nothing is left to learn from.
    """
    found: list[tuple[ManifestDataset, list[tuple[Path, str]]]] = []
    for source in sources:
        recordings = _recordings(source, data_dir / source.folder)
        if not recordings:
            log.warning(f"{data_dir / source.folder} holds no recordings of '{source.name}': left out")
        else:
            found.append((source, recordings))
    labels: dict[str, list[str]] = {}
    for task in TASKS:
        of_task = [(source, recordings) for source, recordings in found if source.task == task]
        known = sorted({_qualified(source, label) for source, recordings in of_task for _, label in recordings})
        if len(known) > 1:
            labels[task] = known
        elif known:
            log.warning(f"the task '{task}' has {pluralise(len(known), 'label')}: left out")
    found = [(source, recordings) for source, recordings in found if source.task in labels]
    if not found:
        raise DatasetError(f"{escape(data_dir)} holds nothing that the manifest names: give --data_dir")
    places = {task: {name: place for place, name in enumerate(names)} for task, names in labels.items()}
    training: list[Utterance] = []
    held_out: list[Utterance] = []
    for number, (source, recordings) in enumerate(found):
        for path, label in recordings:
            lesson = Utterance(path, number, places[source.task][_qualified(source, label)])
            kept = _share_of(f"{source.folder}/{path.relative_to(data_dir / source.folder).as_posix()}")
            (held_out if kept < _HELD_OUT_SHARE else training).append(lesson)
    return Corpus([source for source, _ in found], labels, training, held_out)


def _qualified(source: ManifestDataset, label: str) -> str:
    """A speaker's number means somebody else in another dataset; a word or a sound is the same everywhere."""
    return f"{source.folder}/{label}" if source.task == "speaker" else label


def _recordings(source: ManifestDataset, folder: Path) -> list[tuple[Path, str]]:
    """A dataset's recordings with their labels, in order, without those that are kept for probing."""
    if not folder.is_dir():
        return []
    paths = sorted((name, path) for name, path in walk(folder) if path.suffix.lower() in AUDIO_SUFFIXES)
    if source.leave_out_last:
        paths = paths[: -source.leave_out_last]
    matched = [(path, source.label.search(name)) for name, path in paths]
    return [(path, match["label"]) for path, match in matched if match is not None]


def _share_of(name: str) -> float:
    digest = hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64
