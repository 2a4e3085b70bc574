"""Folds of a cross-validation: by group of recordings, spread evenly over each label."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from audionet.data.dataset import ChunkImage
from audionet.data.grouping import Recording, hash_order
from audionet.data.naming import separate_labels
from audionet.utils.arrays import IntArray


@dataclass(frozen=True)
class Folds:
    """Folds: every testable image is tested once, by a model that was trained on no image of its group.

    Attributes
    ----------
    tests, training : list of ndarray of int64
        Rows of each fold's test images, and of the images that its model is trained on.
    cut_in_time : list of str
        Labels with one recording: their test chunks come from other segments of the recording that is trained on.
    untested : list of str
        Labels without a test image: one short recording, or all recordings in one group.
    """

    tests: list[IntArray]
    training: list[IntArray]
    cut_in_time: list[str]
    untested: list[str]

    @property
    def tested(self) -> IntArray:
        """Rows of all test images, ascending."""
        return np.sort(np.concatenate(self.tests))

    def __len__(self) -> int:
        return len(self.tests)


def assign_folds(
    images: Sequence[ChunkImage], groups: Mapping[Recording, str], folds: int, apart: int = 2, repeat: int = 0
) -> Folds:
    """Assign images to folds.

    Groups go, largest first, to the fold that has the fewest recordings of their labels; groups of equal size are
    ordered by a hash of their names, so that moving or copying the folder changes nothing. There are `folds` folds, or
    as many as the label with the most groups has. A label whose only recording is in no other label's group is cut in
    time instead. Augmented copies are trained on with their chunk, and never tested.

    Parameters
    ----------
    images : sequence of ChunkImage
    groups : mapping of (str, str) to str
        Group of each recording.
    folds : int
        2 or more.
    apart : int
        Distance in chunks between training and test chunks where a label is cut in time.
    repeat : int
        Another number gives other folds.
    """
    recordings = list(dict.fromkeys((image.label, image.recording) for image in images))
    members: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        members[groups[recording]].append(recording)
    in_label = Counter(label for label, _ in recordings)
    cut = {label for label, _ in recordings if in_label[label] == 1}
    cut -= {label for group in members.values() if len({name for _, name in group}) > 1 for label, _ in group}
    kept = {name: [recording for recording in group if recording[0] not in cut] for name, group in members.items()}
    whole = {name: group for name, group in kept.items() if group}
    groups_in_label = Counter(label for group in whole.values() for label in {label for label, _ in group})
    number = min(folds, max(groups_in_label.values(), default=1))
    number = folds if number < 2 else number
    fold_of_group = _spread(whole, number, repeat)
    fold = np.array(
        [-1 if image.label in cut else fold_of_group[groups[image.label, image.recording]] for image in images],
        np.int64,
    )
    excluded = fold == np.arange(number)[:, None]
    for label in cut:
        _cut_in_time(np.flatnonzero([image.label == label for image in images]), images, apart, fold, excluded)
    original = np.array([not image.copy for image in images], bool)
    numbers = {label: i for i, label in enumerate(in_label)}
    label_of = np.array([numbers[image.label] for image in images], np.int64)
    training = [np.flatnonzero(~row) for row in excluded]
    tests = [np.flatnonzero((fold == k) & original & np.isin(label_of, label_of[training[k]])) for k in range(number)]
    tested = {images[row].label for rows in tests for row in rows.tolist()}
    return Folds(tests, training, sorted(cut & tested), sorted(set(in_label) - tested))


def assign_multi_label_folds(images: Sequence[ChunkImage], groups: Mapping[Recording, str], folds: int) -> Folds:
    """Assign images to folds where a folder's name may join several labels, each of which is spread evenly.

    No recording is cut in time: a label of one recording is tested by models without it.

    Parameters
    ----------
    images, groups, folds
        As for `assign_folds`.
    """
    members: dict[str, list[Recording]] = defaultdict(list)
    for recording in dict.fromkeys((image.label, image.recording) for image in images):
        members[groups[recording]].append(recording)
    number = min(folds, len(members))
    fold_of_group = _spread(members, number, 0, lambda folder: separate_labels(folder) or (folder,))
    fold = np.array([fold_of_group[groups[image.label, image.recording]] for image in images], np.int64)
    original = np.array([not image.copy for image in images], bool)
    training = [np.flatnonzero(fold != k) for k in range(number)] if number > 1 else []
    tests = [np.flatnonzero((fold == k) & original) for k in range(len(training))]
    return Folds(tests, training, [], [])


def _spread(
    groups: Mapping[str, list[Recording]],
    number: int,
    repeat: int,
    labels_of: Callable[[str], Sequence[str]] = lambda folder: (folder,),
) -> dict[str, int]:
    """Assign groups to folds so that every label's recordings, and all recordings, are spread evenly."""
    order = sorted(groups, key=lambda name: (-len(groups[name]), hash_order(str(repeat), *min(groups[name]))))
    of_label: dict[str, NDArray[np.int64]] = defaultdict(lambda: np.zeros(number, np.int64))
    total = np.zeros(number, np.int64)
    found = {}
    for name in order:
        counts = Counter(label for folder, _ in groups[name] for label in labels_of(folder))
        load = np.sum([count * of_label[label] for label, count in counts.items()], axis=0)
        chosen = int(np.lexsort((np.arange(number), total, load))[0])
        for label, count in counts.items():
            of_label[label][chosen] += count
        total[chosen] += len(groups[name])
        found[name] = chosen
    return found


def _cut_in_time(
    rows: IntArray, images: Sequence[ChunkImage], apart: int, fold: IntArray, excluded: NDArray[np.bool_]
) -> None:
    """Test each segment of one recording in another fold, and exclude the chunks beside it from that fold's training.

    Writes into `fold`, shape (n,), and `excluded`, shape (folds, n). A recording too short for two segments stays in
    training.
    """
    index = np.array([images[row].index for row in rows.tolist()], np.int64)
    places = np.unique(index)
    segments = min(len(excluded), len(places) // apart)
    if segments < 2:
        return
    for number, segment in enumerate(np.array_split(places, segments)):
        inside = (index >= segment[0]) & (index <= segment[-1])
        near = (index > segment[0] - apart) & (index < segment[-1] + apart)
        if near.all():
            continue
        fold[rows[inside]] = number
        excluded[number, rows[near]] = True
