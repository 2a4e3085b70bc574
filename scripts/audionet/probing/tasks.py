"""What frozen features are probed with: recordings, what is asked of them, and which answers are kept for the test."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from audionet.audio.decoding import AUDIO_SUFFIXES, open_sound
from audionet.audio.resampling import resampled
from audionet.audio.samples import to_int16
from audionet.data.naming import label_folders
from audionet.errors import DatasetError
from audionet.probing.config import ProbeConfig
from audionet.utils.arrays import FloatArray, Int16Array
from audionet.utils.files import walk
from audionet.utils.text import escape, pluralise

FOLDS = 5
READERS = 51

_DIGIT_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)")
_DIGIT_TEST = range(5)  # the dataset's own split
_READER_TRAINING, _READER_TEST = 0.6, 0.7  # shares of a file: where the one part ends and the other begins


class Excerpt(NamedTuple):
    """A recording or a stretch of one.

    Attributes
    ----------
    path : Path
    recording : str
        Its name, one to one with the path.
    use : str
        What it may be used for; ``either`` where it is held out in its fold and learned from in the others.
    start, stop : float
        Shares of the recording, 0 to 1.
    """

    path: Path
    recording: str
    use: Literal["training", "testing", "either"]
    start: float = 0.0
    stop: float = 1.0

    @property
    def whole(self) -> bool:
        """Whether it is all of a recording."""
        return (self.start, self.stop) == (0.0, 1.0)


@dataclass(frozen=True)
class ProbeTask:
    """A question about each of a material's excerpts.

    Attributes
    ----------
    title : str
    labels : tuple of str
        The right answer to each excerpt.
    folds : tuple of int
        When each excerpt is tested. What is only learned from may have any number.
    """

    title: str
    labels: tuple[str, ...]
    folds: tuple[int, ...]


@dataclass(frozen=True)
class ProbeMaterial:
    """Recordings that are cut into clips alike.

    Attributes
    ----------
    excerpts : list of Excerpt
    tasks : list of ProbeTask
    split : str
        How the test is kept apart, in words.
    clip_seconds : float
        Shorter ones are padded with zeros.
    training_step : float
        From one clip to the next, as a share of its length; clips for the test never overlap.
    unit : str
        What an answer is given for; a recording's is the mean over its clips.
    """

    excerpts: list[Excerpt]
    tasks: list[ProbeTask]
    split: str
    clip_seconds: float = 3.0
    training_step: float = 1.0
    unit: Literal["recording", "clip"] = "recording"


def find_materials(config: ProbeConfig) -> tuple[list[ProbeMaterial], list[str]]:
    """What there is to probe with in a folder, and lines about what was left out.

    That is the Free Spoken Digit Dataset (``fsdd/recordings``), utterances of LibriSpeech (``libri251``) and wake
    words (``wakewords``), as far as they are there; else the folder's own sub-folders are the labels.

    Raises
    ------
    DatasetError
        If there is nothing to probe with.
    """
    folder = config.data_dir
    parts = {"fsdd/recordings": _digits, "libri251": _readers, "wakewords": _folder_of_labels}
    there = [name for name in parts if (folder / name).is_dir()]
    found: list[ProbeMaterial] = []
    notes = [f"left out: {escape(folder)} holds no {name}" for name in parts if there and name not in there]
    for make, place in [(parts[name], folder / name) for name in there] or [(_folder_of_labels, folder)]:
        try:
            found.append(make(place, config))
        except DatasetError as error:
            if len(there) < 2:
                raise
            notes.append(f"left out: {error}")
    if not found:
        raise DatasetError(notes[-1].removeprefix("left out: "))
    if single := [label for material in found for label in single_recordings(material)]:
        notes.append(f"only learned from, having one recording: {', '.join(single)}")
    return found, notes


def single_recordings(material: ProbeMaterial) -> list[str]:
    """Labels that a folder of labels has one recording of, so that it can only be learned from."""
    learned = {label for task in material.tasks for label in task.labels}
    tested = {
        label
        for task in material.tasks
        for label, excerpt in zip(task.labels, material.excerpts, strict=True)
        if excerpt.use != "training"
    }
    return sorted(map(escape, learned - tested))


def _digits(folder: Path, config: ProbeConfig) -> ProbeMaterial:
    named = [(path, _DIGIT_NAME.fullmatch(path.stem)) for path in sorted(folder.glob("*.wav"))]
    parsed = [(path, match) for path, match in named if match]
    excerpts = [
        Excerpt(path, path.stem, "testing" if int(match["index"]) in _DIGIT_TEST else "training")
        for path, match in parsed
    ]
    if len({excerpt.use for excerpt in excerpts}) < 2:
        raise DatasetError(f"{escape(folder)} holds no {{digit}}_{{speaker}}_{{index}}.wav on both sides of index 5")
    tasks = [
        ProbeTask(f"FSDD, {kind}s", tuple(match[kind] for _, match in parsed), (0,) * len(parsed))
        for kind in ("speaker", "digit")
    ]
    return ProbeMaterial(excerpts, tasks, "its official split: index 0 to 4 is the test")


def _readers(folder: Path, config: ProbeConfig) -> ProbeMaterial:
    paths = sorted(folder.glob("*.flac"))[-READERS:]
    speakers = [path.stem.partition("-")[0] for path in paths]
    if len(set(speakers)) < 2:
        raise DatasetError(f"{escape(folder)} holds no {{speaker}}-{{chapter}}-{{utterance}}.flac of two speakers")
    excerpts = [Excerpt(path, path.stem, "training", 0, _READER_TRAINING) for path in paths]
    excerpts += [Excerpt(path, path.stem, "testing", _READER_TEST, 1) for path in paths]
    task = ProbeTask(f"LibriSpeech, the last {len(paths)} readers", tuple(speakers * 2), (0,) * len(excerpts))
    split = (
        f"one recording each: its first {_READER_TRAINING:.0%} to learn from, its last {1 - _READER_TEST:.0%} the test"
    )
    return ProbeMaterial([*excerpts], [task], split, clip_seconds=2.56, training_step=0.5, unit="clip")


def _folder_of_labels(folder: Path, config: ProbeConfig) -> ProbeMaterial:
    drawn: dict[str, list[Excerpt]] = {}
    for label in label_folders(folder):
        found = [(inside, path) for inside, path in walk(folder / label) if path.suffix.lower() in AUDIO_SUFFIXES]
        found.sort(key=lambda item: _order(config.seed, label, item[0]))
        use: Literal["training", "either"] = "either" if len(found) > 1 else "training"
        if found:
            drawn[label] = [Excerpt(path, f"{label}/{inside}", use) for inside, path in found[: config.most_recordings]]
    if len(drawn) < 2 or all(len(of_label) < 2 for of_label in drawn.values()):
        raise DatasetError(
            f"{escape(folder)} holds {pluralise(len(drawn), 'label')} with recordings: probing takes two folders of "
            "recordings, at least one of them with two"
        )
    labels = tuple(label for label, of_label in drawn.items() for _ in of_label)
    # Beginning elsewhere for each label keeps the folds alike where labels have few recordings.
    folds = tuple((place + i) % FOLDS for i, of_label in enumerate(drawn.values()) for place in range(len(of_label)))
    split = (
        f"each recording held out once, in {FOLDS} folds; at most {config.most_recordings} recordings a label, by a "
        f"hash of their names, and {config.most_seconds:g} s of each"
    )
    task = ProbeTask(escape(folder.name), labels, folds)
    return ProbeMaterial([excerpt for of_label in drawn.values() for excerpt in of_label], [task], split)


def _order(seed: int, label: str, inside: str) -> bytes:
    name = f"{seed}\0{label}\0{inside}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(name, digest_size=8).digest()


class ExcerptAudio(NamedTuple):
    """An excerpt's samples, shape (n,), mono, and their rate, Hz."""

    samples: Int16Array
    rate: int


def read_excerpt(excerpt: Excerpt, highest_rate: int, most_seconds: float) -> ExcerptAudio:
    """An excerpt at its own sample rate or a lower one; of a whole recording, no more than so many seconds.

    Raises
    ------
    RecordingError
        If it cannot be decoded to its end.
    """
    blocks: list[FloatArray] = []
    with open_sound(excerpt.path) as sound:
        rate = min(sound.rate, highest_rate)
        left = math.ceil(most_seconds * rate) if excerpt.whole else None
        for block in resampled(sound, rate):
            blocks.append(block[:left])
            left = None if left is None else left - len(blocks[-1])
            if left == 0:
                break
    samples = to_int16(np.concatenate(blocks) if blocks else np.zeros(0, np.float32))
    return ExcerptAudio(samples[round(excerpt.start * len(samples)) : round(excerpt.stop * len(samples))], rate)


def cut_clips(samples: Int16Array, length: int, step: int, keep_short: bool) -> list[tuple[int, Int16Array]]:
    """Clips of samples, each with its first sample's place.

    Parameters
    ----------
    samples : ndarray of int16, shape (n,)
    length, step : int
        Samples in a clip, and from one clip to the next.
    keep_short : bool
        Whether samples shorter than half a clip make one all the same.

    Returns
    -------
    list of (int, ndarray of int16)
        The last clip may be shorter than the others, but not than half a clip, as for images.
    """
    clips: list[tuple[int, Int16Array]] = []
    for start in range(0, len(samples), step):
        piece = samples[start : start + length]
        if 2 * len(piece) >= length or (keep_short and start == 0):
            clips.append((start, piece))
        if start + length >= len(samples):
            break
    return clips


def conditions_of(excerpt: Excerpt, conditions: Sequence[str], clean: str) -> tuple[str, ...]:
    """The conditions under which an excerpt is heard: what is only learned from is heard clean."""
    return (clean,) if excerpt.use == "training" else (clean, *conditions)
