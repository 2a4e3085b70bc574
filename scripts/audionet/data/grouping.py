"""Groups of recordings that must not be separated: sessions, speakers, exact copies."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from typing import NamedTuple

from audionet.data.dataset import Assigned, ChunkImage
from audionet.data.naming import parse_channel_name, recording_path
from audionet.errors import UsageError
from audionet.utils.expressions import Expression
from audionet.utils.text import escape

PARENT = "parent"
"""Value of --group that groups the recordings of one folder inside their label's folder."""

_SPEECH_COMMANDS = re.compile(r"([0-9a-f]{8})_nohash_\d+\.\w+")
"""File names of Speech Commands (Warden, 2018), which begin with a hash of the speaker."""

Recording = tuple[str, str]
"""Label and name of a recording."""


class Grouping(NamedTuple):
    """Group of each recording.

    Attributes
    ----------
    groups : dict of (str, str) to str
        Name of each recording's group; a recording without one has a group of its own.
    speakers : int
        Number of recordings that were grouped by the speaker in their Speech Commands name.
    """

    groups: dict[Recording, str]
    speakers: int


def group_recordings(
    images: Sequence[ChunkImage], expression: str | None, assigned: Assigned | None = None
) -> Grouping:
    """Group the recordings of images.

    Parameters
    ----------
    images : sequence of ChunkImage
    expression : str or None
        `PARENT`, or a regular expression that is searched in each recording's path inside its label's folder; its
        first group, or all of its match, names the group, also across labels. None: the groups of the label table, or
        recordings with names as in Speech Commands are grouped by speaker.
    assigned : Assigned, optional
        From the label table, of which one recording may have several labels.

    Raises
    ------
    UsageError
        If the expression matches no recording, or takes for ever on one.
    """
    groups: dict[Recording, str] = {}
    matched = 0
    for label, name in dict.fromkeys((image.label, image.recording) for image in images):
        path, _ = parse_channel_name(recording_path(name))  # the channels of a call hear each other
        group = _group_of(path, expression)
        matched += group is not None
        whole = parse_channel_name(name)[0]
        if assigned is not None and expression is None:
            group = assigned.groups.get(whole, group)
        alone = f"recording {label}\0{whole}" if assigned is None else f"recording {whole}"
        groups[label, name] = alone if group is None else f"group {group}"
    if expression is not None and not matched:
        example = f", such as {escape(recording_path(images[0].recording))}" if images else ""
        raise UsageError(f"--group {escape(expression)}: matches none of {len(groups)} recordings{example}")
    return Grouping(groups, matched if expression is None else 0)


def _group_of(path: str, expression: str | None) -> str | None:
    if expression is None:
        match = _SPEECH_COMMANDS.fullmatch(path.rpartition("/")[2])
    elif expression == PARENT:
        return path.rpartition("/")[0] or None
    else:
        match = Expression(expression).search(path, "--group", UsageError)
    if match is None:
        return None
    return match[1] if match.re.groups and match[1] is not None else match[0]


def join_copies(
    groups: dict[Recording, str], images: Sequence[ChunkImage], keys: Sequence[bytes]
) -> dict[Recording, str]:
    """Join the groups of recordings that share the content of an image: one is a copy of the other.

    People copy recordings from folder to folder. Tested beside its copy in training, a recording would be recognised
    for certain.

    Parameters
    ----------
    groups : dict of (str, str) to str
    images : sequence of n ChunkImage
    keys : sequence of n bytes
        Hash of each image's content.

    Returns
    -------
    dict of (str, str) to str
        As `groups`; joined ones have the name of the first.
    """
    parent: dict[str, str] = {}

    def root(group: str) -> str:
        while parent.get(group, group) != group:
            group = parent[group] = parent.get(parent[group], parent[group])
        return group

    first: dict[bytes, str] = {}
    for image, key in zip(images, keys, strict=True):
        group = root(groups[image.label, image.recording])
        other = root(first.setdefault(key, group))
        if other != group:
            parent[group] = other
    return {recording: root(group) for recording, group in groups.items()}


def hash_order(*parts: str) -> bytes:
    """Compute a key that orders names independently of folders and of each other."""
    return hashlib.blake2b(os.fsencode("\0".join(parts)), digest_size=8).digest()
