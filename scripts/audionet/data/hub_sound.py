"""Sounds of the rows of a dataset, and the files that they are kept in."""

from __future__ import annotations

import contextlib
import filecmp
import functools
import hashlib
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.utils.files import WriteBatch, atomic_path, temporary_path
from audionet.utils.text import composed

_LONGEST_STEM = 100  # bytes
_DIGEST_DIGITS = 16
_IN_ARCHIVE = re.compile(r"zip://(.+)::(/.+|[A-Za-z]:.+)", re.DOTALL)
_SIGNATURES = {b"RIFF": ".wav", b"fLaC": ".flac", b"OggS": ".ogg", b"FORM": ".aiff", b"\x1aE\xdf\xa3": ".webm"}


class Sound(NamedTuple):
    """Sound of a row.

    Attributes
    ----------
    content : bytes or Path
        Encoded sound, or the file on disk that it is.
    name : str
        Name of a file for it: the same for the same sound, and for no other one.
    """

    content: bytes | Path
    name: str


def sound_of(value: Mapping[str, bytes | str | None] | str | None, root: Path | None) -> Sound | None:
    """Return the sound of a row; None if it has neither bytes nor a file on disk.

    Parameters
    ----------
    value : mapping, str or None
        ``bytes`` and ``path``, or the path alone.
    root : Path or None
        Folder of the dataset, which relative paths start from and do not leave.
    """
    found = {"path": value} if isinstance(value, str) else (value or {})
    content, path = found.get("bytes"), found.get("path")
    written = path if isinstance(path, str) else ""
    if not isinstance(content, bytes) and (match := _IN_ARCHIVE.fullmatch(written)):
        written, content = match[1], _read_member(match[2], match[1])
    if isinstance(content, bytes):
        return Sound(content, _name(written, content, _suffix(written) or _sniff(content))) if content else None
    file = _file_on_disk(written, root)
    if file is None:
        return None
    identity = os.path.relpath(file, root) if root is not None and root in file.parents else str(file)
    return Sound(file, _name(written, os.fsencode(identity), _suffix(written)))


def _file_on_disk(written: str, root: Path | None) -> Path | None:
    if not _suffix(written) or "://" in written:
        return None
    file = Path(os.path.normpath(written if root is None else root / written))
    if not file.is_absolute() or not (Path(written).is_absolute() or (root is not None and root in file.parents)):
        return None
    with contextlib.suppress(OSError, ValueError):  # of a name that no file can have
        return file if file.is_file() else None
    return None


@functools.lru_cache(maxsize=4)
def _archive(path: str) -> zipfile.ZipFile:
    return zipfile.ZipFile(path)


def _read_member(archive: str, member: str) -> bytes | None:
    """Read a file of a ZIP archive on disk; None if it cannot be read."""
    with contextlib.suppress(OSError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return _archive(archive).read(member)
    return None


def _suffix(written: str) -> str:
    """Return the ending of a recording's path, in lower case; empty if it is none of a recording."""
    suffix = PurePosixPath(written.replace("\\", "/")).suffix.lower()
    return suffix if suffix in AUDIO_SUFFIXES else ""


def _sniff(content: bytes) -> str:
    """Return an ending for encoded sound; readers go by the content, whatever it is."""
    if content[4:8] == b"ftyp":
        return ".m4a"
    if content[:3] == b"ID3" or (content[0] == 0xFF and content[1:2] >= b"\xe0"):
        return ".mp3"
    return _SIGNATURES.get(content[:4], ".wav")


def _name(written: str, content: bytes, suffix: str) -> str:
    digest = hashlib.sha256(content).hexdigest()[:_DIGEST_DIGITS]
    stem = safe_name(PurePosixPath(written.replace("\\", "/")).stem)
    return f"{stem}-{digest}{suffix}" if stem else f"{digest}{suffix}"


def safe_name(text: str) -> str:
    """Return a text as a part of a file's name: letters, digits, blanks, dots, dashes and underscores, not hidden."""
    plain = re.sub(r"[^\w .-]+", "_", composed(text)).strip(" .")
    return plain.encode("utf-8", "ignore")[:_LONGEST_STEM].decode("utf-8", "ignore").strip(" .")


def keep_sound(content: bytes | Path, path: Path, batch: WriteBatch) -> bool:
    """Write or link a sound, and return whether that was needed."""
    if isinstance(content, Path):
        return _link(content, path)
    with contextlib.suppress(OSError):
        if not path.is_symlink() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return False
    batch.write(path, content)
    return True


def _link(target: Path, path: Path) -> bool:
    """Make a link to a recording on disk, or a copy where links cannot be made."""
    with contextlib.suppress(OSError):
        if path.readlink() == target:
            return False
    temporary = temporary_path(path.parent)
    try:
        temporary.symlink_to(target)
    except OSError:
        with contextlib.suppress(OSError):
            if filecmp.cmp(target, path, shallow=False):
                return False
        with atomic_path(path) as whole:
            shutil.copyfile(target, whole)
    else:
        os.replace(temporary, path)
    return True
