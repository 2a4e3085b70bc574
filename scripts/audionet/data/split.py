"""Split of images into training, validation and test sets."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from audionet.data.dataset import ChunkImage
from audionet.data.grouping import Recording, hash_order

SETS = ("training", "validation", "testing")


@dataclass(frozen=True)
class Split:
    """Images of the training, validation and test sets.

    Attributes
    ----------
    sets : dict of str to list of ChunkImage
        Images of each set, by its name in SETS.
    seen_in_training : list of str
        Labels with fewer than three recordings: their test images come from recordings seen in training.
    dropped : int
        Number of unused images: in the gaps between the sets of such labels, and augmented copies of chunks outside
        the training set.
    """

    sets: dict[str, list[ChunkImage]]
    seen_in_training: list[str]
    dropped: int


def split_images(
    images: Sequence[ChunkImage],
    validation_percentage: float,
    testing_percentage: float,
    apart: int = 2,
    groups: Mapping[Recording, str] | None = None,
) -> Split:
    """Split images by recording, so that no recording is in two sets.

    Within a label, recordings are ordered by a hash of label and recording name (moving or copying the folder
    changes nothing) and fill the test set, then the validation set, to the requested shares of the label's recordings.
    Each requested set gets a recording if the label has three. A label with fewer is cut in time. Augmented copies do
    not count towards the shares; they join their chunk if it is in training, and are dropped otherwise.

    Parameters
    ----------
    images : sequence of ChunkImage
    validation_percentage, testing_percentage : float
        0 or more, together below 100.
    apart : int
        Distance in chunks from the last of one set to the first of the next where a label is cut in time.
    groups : mapping of (str, str) to str, optional
        Group of each recording. A group that is in the test set of one label is in no other set of any label, and so
        on: its recordings in lesser sets are dropped.
    """
    if groups is not None and len(set(groups.values())) == len(groups):
        groups = None  # every recording is alone: ordered as without groups
    copies = [image for image in images if image.copy]
    images = [image for image in images if not image.copy]
    shares = {"testing": testing_percentage / 100, "validation": validation_percentage / 100}
    sets: dict[str, list[ChunkImage]] = {name: [] for name in SETS}
    seen_in_training: list[str] = []
    dropped = 0
    for label, group in groupby(sorted(images, key=lambda p: p.label), key=lambda p: p.label):
        ordered = sorted(
            group, key=lambda p: (_order(p, groups), hash_order(p.label, p.recording), p.recording, p.index)
        )
        recordings = [list(chunks) for _, chunks in groupby(ordered, key=lambda p: p.recording)]
        if len(recordings) >= 3:
            parts = _by_recording(recordings, shares, groups)
        else:
            parts = _by_time(ordered, shares, apart - 1)
            if parts["testing"] or parts["validation"]:
                seen_in_training.append(label)
            dropped += len(ordered) - sum(map(len, parts.values()))
        for name in SETS:
            sets[name] += parts[name]
    if groups is not None:
        dropped += keep_apart(sets, groups)
    trained = {(image.label, image.recording, image.index) for image in sets["training"]}
    used_copies = [image for image in copies if (image.label, image.recording, image.index) in trained]
    sets["training"] += used_copies
    return Split(sets, seen_in_training, dropped + len(copies) - len(used_copies))


def _order(image: ChunkImage, groups: Mapping[Recording, str] | None) -> bytes:
    """Return the sort key of an image's group, which is the same in every label, or of its recording."""
    recording = image.label, image.recording
    return hash_order(*recording) if groups is None else hash_order(groups[recording])


def _by_recording(
    recordings: Sequence[Sequence[ChunkImage]], shares: dict[str, float], groups: Mapping[Recording, str] | None
) -> dict[str, list[ChunkImage]]:
    units = [list(unit) for _, unit in groupby(recordings, key=lambda of: _order(of[0], groups))]
    parts: dict[str, list[ChunkImage]] = {name: [] for name in SETS}
    # Training keeps one unit, and so does each set still to be filled.
    reserved = 1 + sum(share > 0 for share in shares.values())
    for name, share in shares.items():
        if share == 0:
            continue
        reserved -= 1
        taken = 0
        while len(units) > reserved and (not taken or taken + len(units[0]) / 2 <= share * len(recordings)):
            unit = units.pop(0)
            taken += len(unit)
            parts[name] += [image for recording in unit for image in recording]
    parts["training"] = [image for unit in units for recording in unit for image in recording]
    return parts


def keep_apart(sets: dict[str, list[ChunkImage]], groups: Mapping[Recording, str]) -> int:
    """Drop images from training, then from validation, whose group is in a set after it; return their number."""
    dropped, later = 0, set[str]()
    for name in reversed(SETS):
        mine = {groups[image.label, image.recording] for image in sets[name]}
        kept = [image for image in sets[name] if groups[image.label, image.recording] not in later]
        dropped += len(sets[name]) - len(kept)
        sets[name] = kept
        later |= mine
    return dropped


def _by_time(ordered: Sequence[ChunkImage], shares: dict[str, float], gap: int) -> dict[str, list[ChunkImage]]:
    """Cut images into contiguous blocks, training, validation and testing, with `gap` images dropped between them."""
    wanted = {name: max(1, round(share * len(ordered))) if share > 0 else 0 for name, share in shares.items()}
    gaps = gap * sum(count > 0 for count in wanted.values())
    training = len(ordered) - sum(wanted.values()) - gaps
    if training < 1:
        return {"training": list(ordered), "validation": [], "testing": []}
    parts = {"training": list(ordered[:training])}
    start = training
    for name in ("validation", "testing"):
        start += gap * (wanted[name] > 0)
        parts[name] = list(ordered[start : start + wanted[name]])
        start += wanted[name]
    return parts


def without_copies(split: Split, content: Mapping[ChunkImage, bytes]) -> tuple[Split, int]:
    """Remove exact duplicates from the split, so that no test image is also in training.

    People copy recordings from folder to folder, and a copy has another name.

    Parameters
    ----------
    split : Split
    content : mapping of ChunkImage to bytes
        Hash of each image's content.

    Returns
    -------
    split : Split
        Without test images that are in validation or training, and validation images that are in training.
    copies : int
        Number of images removed.
    """
    seen = {content[image] for image in split.sets["training"]}
    sets = {"training": split.sets["training"]}
    for name in ("validation", "testing"):
        sets[name] = [image for image in split.sets[name] if content[image] not in seen]
        seen |= {content[image] for image in sets[name]}
    copies = sum(len(split.sets[name]) - len(sets[name]) for name in SETS)
    return dataclasses.replace(split, sets=sets), copies
