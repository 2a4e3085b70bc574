"""Probing tasks: recordings, the labels to predict, and the split into training and test."""

from __future__ import annotations

import dataclasses
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
from audionet.data.naming import joined_folders
from audionet.errors import DatasetError, UsageError
from audionet.probing.config import ProbeConfig
from audionet.utils.arrays import FloatArray, Int16Array
from audionet.utils.files import walk
from audionet.utils.text import escape, pluralise

FOLDS = 5
READERS = 51
ACCENTED = 25
"""Number of speakers of speechocean, the last ones, that no training of the bundled backbone heard."""

_DIGIT_NAME = re.compile(r"(?P<digit>\d)_(?P<speaker>[^_]+)_(?P<index>\d+)")
_SOUND_NAME = re.compile(r"(?P<fold>[1-5])-")
_DIGIT_TEST = range(5)  # the dataset's own split
_READER_TRAINING_END, _READER_TEST_START = 0.6, 0.7  # shares of a file; the gap keeps the parts apart


class Excerpt(NamedTuple):
    """Recording or segment of one.

    Attributes
    ----------
    path : Path
    recording : str
        Unique name of the recording.
    use : str
        ``training``, ``testing``, or ``either``: held out in its fold, used for training in the others.
    start, stop : float
        Start and end as shares of the recording, 0 to 1.
    """

    path: Path
    recording: str
    use: Literal["training", "testing", "either"]
    start: float = 0.0
    stop: float = 1.0

    @property
    def whole(self) -> bool:
        """Return whether this is an entire recording."""
        return (self.start, self.stop) == (0.0, 1.0)


@dataclass(frozen=True)
class ProbeTask:
    """Classification task: a label for each excerpt of a material.

    Attributes
    ----------
    title : str
    labels : tuple of str
        True label of each excerpt.
    folds : tuple of int
        Fold in which each excerpt is tested; any number for excerpts that are only used for training.
    """

    title: str
    labels: tuple[str, ...]
    folds: tuple[int, ...]


@dataclass(frozen=True)
class ProbeMaterial:
    """Recordings that are cut into clips in the same way, and their tasks.

    Attributes
    ----------
    excerpts : list of Excerpt
    tasks : list of ProbeTask
    split : str
        Description of the split into training and test.
    clip_seconds : float
        Clip length; shorter clips are zero-padded.
    training_step : float
        Step between training clips, as a share of the clip length; test clips never overlap.
    unit : str
        Unit of a prediction, clip or recording; a recording's is the mean over its clips.
    """

    excerpts: list[Excerpt]
    tasks: list[ProbeTask]
    split: str
    clip_seconds: float = 3.0
    training_step: float = 1.0
    unit: Literal["recording", "clip"] = "recording"


@dataclass(frozen=True)
class VerificationMaterial:
    """Recordings to verify speakers on.

    Attributes
    ----------
    title, split : str
    excerpts : list of Excerpt
    speakers : tuple of str
        Speaker of each excerpt; of listed pairs, as far as the list tells who is whom.
    pairs : list of (int, int, bool) or None
        Numbers of two excerpts, and whether they are of one speaker; None: all pairs.
    clip_seconds : float
    """

    title: str
    split: str
    excerpts: list[Excerpt]
    speakers: tuple[str, ...]
    pairs: list[tuple[int, int, bool]] | None = None
    clip_seconds: float = 3.0


def find_materials(config: ProbeConfig) -> tuple[list[ProbeMaterial], list[str]]:
    """Find the recordings to probe with in a folder; also returns notes on omitted data.

    These are the Free Spoken Digit Dataset (``fsdd/recordings``), utterances of LibriSpeech (``libri251``), wake words
    (``wakewords``), accented speakers (``speechocean``) and environmental sounds (``esc10``), those that exist; if none
    does, the sub-folders are the labels.

    Raises
    ------
    DatasetError
        If there are no recordings to probe with.
    """
    folder = config.data_dir
    parts = {
        "fsdd/recordings": _digits,
        "libri251": _readers,
        "wakewords": _folder_of_labels,
        "speechocean": _accented_speakers,
        "esc10": _sounds,
    }
    present = [name for name in parts if (folder / name).is_dir()]
    found: list[ProbeMaterial] = []
    notes = [f"left out: {escape(folder)} holds no {name}" for name in parts if present and name not in present]
    for find, place in [(parts[name], folder / name) for name in present] or [(_folder_of_labels, folder)]:
        try:
            found.append(find(place, config))
        except DatasetError as error:
            if len(present) < 2:
                raise
            notes.append(f"left out: {error}")
    if not found:
        raise DatasetError(notes[-1].removeprefix("left out: "))
    if single := [label for material in found for label in single_recordings(material)]:
        notes.append(f"used for training only, because they have one recording: {', '.join(single)}")
    return found, notes


def single_recordings(material: ProbeMaterial) -> list[str]:
    """Find the labels of a folder of labels with one recording, which can be used for training only."""
    trained = {label for task in material.tasks for label in task.labels}
    tested = {
        label
        for task in material.tasks
        for label, excerpt in zip(task.labels, material.excerpts, strict=True)
        if excerpt.use != "training"
    }
    return sorted(map(escape, trained - tested))


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
    return ProbeMaterial(excerpts, tasks, "official split: index 0 to 4 is the test set")


def _readers(folder: Path, config: ProbeConfig) -> ProbeMaterial:
    paths = sorted(folder.glob("*.flac"))[-READERS:]
    speakers = [path.stem.partition("-")[0] for path in paths]
    if len(set(speakers)) < 2:
        raise DatasetError(f"{escape(folder)} holds no {{speaker}}-{{chapter}}-{{utterance}}.flac of two speakers")
    excerpts = [Excerpt(path, path.stem, "training", 0, _READER_TRAINING_END) for path in paths]
    excerpts += [Excerpt(path, path.stem, "testing", _READER_TEST_START, 1) for path in paths]
    task = ProbeTask(f"LibriSpeech, the last {len(paths)} readers", tuple(speakers * 2), (0,) * len(excerpts))
    split = (
        f"one recording each: its first {_READER_TRAINING_END:.0%} for training, its last {1 - _READER_TEST_START:.0%} "
        "for the test"
    )
    return ProbeMaterial([*excerpts], [task], split, clip_seconds=2.56, training_step=0.5, unit="clip")


def _folder_of_labels(folder: Path, config: ProbeConfig) -> ProbeMaterial:
    drawn: dict[str, list[Excerpt]] = {}
    for label, spellings in joined_folders(folder).items():
        found = [
            (inside, path)
            for spelling in spellings
            for inside, path in walk(folder / spelling)
            if path.suffix.lower() in AUDIO_SUFFIXES
        ]
        found.sort(key=lambda item: _order(config.seed, label, item[0]))
        use: Literal["training", "either"] = "either" if len(found) > 1 else "training"
        if found:
            drawn[label] = [Excerpt(path, f"{label}/{inside}", use) for inside, path in found[: config.max_recordings]]
    if len(drawn) < 2 or all(len(of_label) < 2 for of_label in drawn.values()):
        raise DatasetError(
            f"{escape(folder)} holds {pluralise(len(drawn), 'label')} with recordings: probing needs two folders of "
            "recordings, at least one of them with two recordings"
        )
    labels = tuple(label for label, of_label in drawn.items() for _ in of_label)
    # Each label starts at another fold, which balances the folds if labels have few recordings.
    folds = tuple((place + i) % FOLDS for i, of_label in enumerate(drawn.values()) for place in range(len(of_label)))
    split = (
        f"each recording held out once, in {FOLDS} folds; at most {config.max_recordings} recordings a label, by a "
        f"hash of their names, and {config.max_seconds:g} s of each"
    )
    task = ProbeTask(escape(folder.name), labels, folds)
    return ProbeMaterial([excerpt for of_label in drawn.values() for excerpt in of_label], [task], split)


def _accented_speakers(folder: Path, config: ProbeConfig) -> ProbeMaterial:
    every = _folder_of_labels(folder, config)
    (task,) = every.tasks
    kept = set(sorted(set(task.labels))[-ACCENTED:])
    places = [place for place, label in enumerate(task.labels) if label in kept]
    return dataclasses.replace(
        every,
        excerpts=[every.excerpts[place] for place in places],
        tasks=[
            ProbeTask(
                f"speechocean, the last {len(kept)} speakers",
                tuple(task.labels[place] for place in places),
                tuple(task.folds[place] for place in places),
            )
        ],
    )


def _sounds(folder: Path, config: ProbeConfig) -> ProbeMaterial:
    """Environmental sounds, held out by the folds that their names begin with."""
    found = _folder_of_labels(folder, config)
    named = [_SOUND_NAME.match(excerpt.path.name) for excerpt in found.excerpts]
    if not all(named):
        return found
    folds = tuple(int(match["fold"]) for match in named if match)
    split = f"the dataset's own folds: {', '.join(map(str, sorted(set(folds))))}"
    return dataclasses.replace(found, tasks=[dataclasses.replace(found.tasks[0], folds=folds)], split=split)


def find_verification(config: ProbeConfig) -> list[VerificationMaterial]:
    """Find the recordings to verify speakers on: listed pairs, or the last readers and speakers, those that exist.

    Raises
    ------
    UsageError
        If the list of pairs cannot be read; the message names the line.
    """
    if config.pairs is not None:
        return [_listed_pairs(config.pairs, config.data_dir)]
    found = []
    if readers := sorted((config.data_dir / "libri251").glob("*.flac"))[-READERS:]:
        excerpts = [
            Excerpt(path, f"{path.stem} {half}", "testing", start, stop)
            for path in readers
            for half, start, stop in (("first", 0, 0.5), ("second", 0.5, 1))
        ]
        speakers = tuple(path.stem.partition("-")[0] for path in readers for _ in range(2))
        title = f"LibriSpeech, the last {len(readers)} readers' halves"
        found.append(VerificationMaterial(title, "all pairs of halves", excerpts, speakers, clip_seconds=2.56))
    if (folder := config.data_dir / "speechocean").is_dir():
        named = [
            (name, path)
            for name in sorted(path.name for path in folder.iterdir() if path.is_dir())[-ACCENTED:]
            for path in sorted(path for _, path in walk(folder / name) if path.suffix.lower() in AUDIO_SUFFIXES)
        ]
        excerpts = [Excerpt(path, f"{name}/{path.name}", "testing") for name, path in named]
        title = f"speechocean, the last {len({name for name, _ in named})} speakers"
        found.append(VerificationMaterial(title, "all pairs of recordings", excerpts, tuple(name for name, _ in named)))
    return [material for material in found if len(set(material.speakers)) > 1]


def _listed_pairs(path: Path, folder: Path) -> VerificationMaterial:
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise UsageError(f"--pairs: {escape(path)} cannot be read ({error})") from None
    numbers: dict[str, int] = {}
    pairs = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        same, *names = line.split()
        if same not in ("0", "1") or len(names) != 2:
            raise UsageError(f"--pairs: {escape(path)}, line {number}: expected 0 or 1 and two paths")
        for name in names:
            if not (folder / name).is_file():
                raise UsageError(f"--pairs: {escape(path)}, line {number}: {escape(folder / name)} does not exist")
        one, other = (numbers.setdefault(name, len(numbers)) for name in names)
        pairs.append((one, other, same == "1"))
    if len({is_same for *_, is_same in pairs}) < 2:
        raise UsageError(f"--pairs: {escape(path)} must list pairs of one speaker and pairs of two")
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    first, second = np.array([(one, other) for one, other, is_same in pairs if is_same], np.int64).T
    joined = coo_array((np.ones(len(first)), (first, second)), shape=(len(numbers), len(numbers)))
    _, speaker = connected_components(joined, directed=False)
    excerpts = [Excerpt(folder / name, name, "testing") for name in numbers]
    return VerificationMaterial(path.name, "listed pairs", excerpts, tuple(map(str, speaker.tolist())), pairs)


def _order(seed: int, label: str, inside: str) -> bytes:
    name = f"{seed}\0{label}\0{inside}".encode("utf-8", "surrogateescape")
    return hashlib.blake2b(name, digest_size=8).digest()


class ExcerptAudio(NamedTuple):
    """Mono samples of an excerpt, shape (n,), and their sample rate in Hz."""

    samples: Int16Array
    rate: int


def read_excerpt(excerpt: Excerpt, highest_rate: int, max_seconds: float) -> ExcerptAudio:
    """Decode an excerpt at its own sample rate or a lower one; of a whole recording at most so many seconds.

    Raises
    ------
    RecordingError
        If it cannot be decoded to its end.
    """
    blocks: list[FloatArray] = []
    with open_sound(excerpt.path) as sound:
        rate = min(sound.rate, highest_rate)
        left = math.ceil(max_seconds * rate) if excerpt.whole else None
        for block in resampled(sound, rate):
            blocks.append(block[:left])
            left = None if left is None else left - len(blocks[-1])
            if left == 0:
                break
    samples = to_int16(np.concatenate(blocks) if blocks else np.zeros(0, np.float32))
    return ExcerptAudio(samples[round(excerpt.start * len(samples)) : round(excerpt.stop * len(samples))], rate)


def cut_clips(samples: Int16Array, length: int, step: int, keep_short: bool) -> list[tuple[int, Int16Array]]:
    """Cut samples into clips; each comes with the index of its first sample.

    Parameters
    ----------
    samples : ndarray of int16, shape (n,)
    length, step : int
        Samples per clip, and from one clip to the next.
    keep_short : bool
        Keep samples that are shorter than half a clip as one clip.

    Returns
    -------
    list of (int, ndarray of int16)
        The last clip may be shorter than the others, but not shorter than half a clip, as for images.
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
    """Return the conditions of an excerpt's clips: clean only, if it is used for training only."""
    return (clean,) if excerpt.use == "training" else (clean, *conditions)
