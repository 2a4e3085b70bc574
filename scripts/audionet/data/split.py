"""Split of images into training, validation and test sets."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from audionet.data.dataset import ChunkImage

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
    images: Sequence[ChunkImage], validation_percentage: float, testing_percentage: float, apart: int = 2
) -> Split:
    """Split images by recording, so that no recording is in two sets.

    Within a label, recordings are ordered by a hash of label and recording name (moving or copying the folder
    changes nothing) and fill the test set, then the validation set, to the requested shares of the label's images.
    Each requested set gets a recording if the label has three. A label with fewer is cut in time. Augmented copies do
    not count towards the shares; they join their chunk if it is in training, and are dropped otherwise.

    Parameters
    ----------
    images : sequence of ChunkImage
    validation_percentage, testing_percentage : float
        0 or more, together below 100.
    apart : int
        Distance in chunks from the last of one set to the first of the next where a label is cut in time.
    """
    copies = [image for image in images if image.copy]
    images = [image for image in images if not image.copy]
    shares = {"testing": testing_percentage / 100, "validation": validation_percentage / 100}
    sets: dict[str, list[ChunkImage]] = {name: [] for name in SETS}
    seen_in_training: list[str] = []
    dropped = 0
    for label, group in groupby(sorted(images, key=lambda p: p.label), key=lambda p: p.label):
        ordered = sorted(group, key=lambda p: (_order(p.label, p.recording), p.recording, p.index))
        recordings = [list(chunks) for _, chunks in groupby(ordered, key=lambda p: p.recording)]
        if len(recordings) >= 3:
            parts = _by_recording(recordings, shares)
        else:
            parts = _by_time(ordered, shares, apart - 1)
            if parts["testing"] or parts["validation"]:
                seen_in_training.append(label)
            dropped += len(ordered) - sum(map(len, parts.values()))
        for name in SETS:
            sets[name] += parts[name]
    trained = {(image.label, image.recording, image.index) for image in sets["training"]}
    used_copies = [image for image in copies if (image.label, image.recording, image.index) in trained]
    sets["training"] += used_copies
    return Split(sets, seen_in_training, dropped + len(copies) - len(used_copies))


def _order(label: str, recording: str) -> bytes:
    return hashlib.blake2b(os.fsencode(f"{label}\0{recording}"), digest_size=8).digest()


def _by_recording(recordings: Sequence[Sequence[ChunkImage]], shares: dict[str, float]) -> dict[str, list[ChunkImage]]:
    total = sum(map(len, recordings))
    remaining = list(recordings)
    parts: dict[str, list[ChunkImage]] = {name: [] for name in SETS}
    # Training keeps one recording, and so does each set still to be filled.
    reserved = 1 + sum(share > 0 for share in shares.values())
    for name, share in shares.items():
        if share == 0:
            continue
        reserved -= 1
        while len(remaining) > reserved and (
            not parts[name] or len(parts[name]) + len(remaining[0]) / 2 <= share * total
        ):
            parts[name] += remaining.pop(0)
    parts["training"] = [image for recording in remaining for image in recording]
    return parts


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
