"""Sets and folds that recordings come with: from their label table, or from the file names of known datasets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from audionet.data.dataset import Assigned, ChunkImage
from audionet.data.folds import Folds
from audionet.data.grouping import Recording
from audionet.data.naming import parse_channel_name, recording_path
from audionet.data.split import SETS, Split, keep_apart
from audionet.errors import DatasetError
from audionet.utils.text import escape

_SET_NAMES = {
    **dict.fromkeys(("train", "training"), "training"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "development"), "validation"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "testing"),
}
_SPEECH_COMMANDS = re.compile(r"(\w+)_nohash_\d+\.\w+")
_ESC = re.compile(r"([1-5])-\d+-[A-Z](?:-\d+)?\.\w+")
_MOST_RECORDINGS = 2**27 - 1  # a label, for the official split of Speech Commands


def given_sets(images: Sequence[ChunkImage], assigned: Assigned | None) -> dict[Recording, str]:
    """Find the set or fold of each recording: that of its label table, or that which its file name says.

    Names of Speech Commands give the official set (Warden, 2018), those of ESC-50 its fold (Piczak, 2015).

    Parameters
    ----------
    images : sequence of ChunkImage
    assigned : Assigned or None
        From the label table.

    Returns
    -------
    dict of (str, str) to str
        Sets are ``training``, ``validation`` and ``testing``; recordings without any are missing.

    Raises
    ------
    DatasetError
        If no recording has one, a set is missing, or sets and folds are mixed.
    """
    found: dict[Recording, str] = {}
    for label, name in dict.fromkeys((image.label, image.recording) for image in images):
        whole = parse_channel_name(name)[0]
        value = assigned.sets.get(whole) if assigned and assigned.sets else _official(recording_path(whole))
        if value is not None:
            found[label, name] = _SET_NAMES.get(value.lower(), value)
    _check(found)
    return found


def _check(found: Mapping[Recording, str]) -> None:
    """Raise DatasetError unless there are a training and a test set, or two folds."""
    sets = set(found.values())
    if not sets:
        raise DatasetError(
            "no recording comes with a set: give the label table a column 'split', or leave out --split given"
        )
    others = sorted(sets - set(SETS))
    if others and len(others) < len(sets):
        raise DatasetError(
            f"some recordings are in the set {min(sets & set(SETS))}, others in {', '.join(others[:3])}: sets are "
            f"{', '.join(_SET_NAMES)}; all other names are folds"
        )
    if others and len(others) < 2:
        raise DatasetError(f"all recordings are in the fold {others[0]}: a cross-validation needs two or more")
    for name in ("training", "testing"):
        if not others and name not in sets:
            raise DatasetError(f"no recording is in the {name} set: name one in the column 'split'")
    trained = {label for (label, _), name in found.items() if name == "training" or others}
    if untrained := sorted({label for label, _ in found} - trained):
        raise DatasetError(f"no recording of {escape(untrained[0])} is in the training set: put one there")


def _official(path: str) -> str | None:
    name = path.rpartition("/")[2]
    if match := _ESC.fullmatch(name):
        return match[1]
    if match := _SPEECH_COMMANDS.fullmatch(name):
        number = int(hashlib.sha1(match[1].encode(), usedforsecurity=False).hexdigest(), 16)
        percent = number % (_MOST_RECORDINGS + 1) * (100 / _MOST_RECORDINGS)
        return "validation" if percent < 10 else "testing" if percent < 20 else "training"
    return None


def are_folds(sets: Mapping[Recording, str]) -> bool:
    """Return whether these are folds, and not training, validation and test sets."""
    return not set(sets.values()) <= set(SETS)


def given_split(images: Sequence[ChunkImage], sets: Mapping[Recording, str], groups: Mapping[Recording, str]) -> Split:
    """Split images by the sets of their recordings.

    Recordings without a set are dropped, and so are those of training, then of validation, whose group is also in a
    set after it; and augmented copies outside training.
    """
    split: dict[str, list[ChunkImage]] = {name: [] for name in SETS}
    for image in images:
        name = sets.get((image.label, image.recording))
        if name is not None and (name == "training" or not image.copy):
            split[name].append(image)
    keep_apart(split, groups)
    trained = {image.label for image in split["training"]}
    if untrained := sorted({image.label for found in split.values() for image in found} - trained):
        raise DatasetError(
            f"no recording of {escape(untrained[0])} is left in the training set: others of their groups are tested"
        )
    return Split(split, [], len(images) - sum(map(len, split.values())))


def given_folds(
    images: Sequence[ChunkImage],
    sets: Mapping[Recording, str],
    groups: Mapping[Recording, str],
    multi_label: bool = False,
) -> Folds:
    """Test every fold by a model that was trained on the others, without recordings of a tested group.

    Recordings without a fold are trained on only. A label's images are tested where the model has others of it;
    with several labels at a time, all are.
    """
    names = sorted(set(sets.values()))
    number = {name: i for i, name in enumerate(names)}
    fold = np.array([number.get(sets.get((image.label, image.recording), ""), -1) for image in images], np.int64)
    group = np.unique([groups[image.label, image.recording] for image in images], return_inverse=True)[1]
    labels = np.unique([image.label for image in images], return_inverse=True)[1]
    original = np.array([not image.copy for image in images], bool)
    training = [np.flatnonzero(~np.isin(group, group[fold == k])) for k in range(len(names))]
    tests = [
        np.flatnonzero((fold == k) & original & (multi_label | np.isin(labels, labels[training[k]])))
        for k in range(len(names))
    ]
    tested = {images[row].label for rows in tests for row in rows.tolist()}
    return Folds(tests, training, [], sorted({image.label for image in images} - tested))
