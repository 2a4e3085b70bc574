"""Unpacking of archives from the network, which are not trusted.

Wanted files alone are read, as streams of bytes, and written where the caller says: names, links, owners and modes in
the archive never reach the file system, so there is nothing that `tarfile`'s extraction filters would have to stop.
"""

from __future__ import annotations

import bz2
import contextlib
import errno
import gzip
import io
import lzma
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO, Any, NamedTuple, cast

from audionet.errors import DamagedError
from audionet.utils.progress import progress
from audionet.utils.text import escape, first_line, format_size

_MOST_MEMBERS = 300_000
_MOST_TIMES = 10  # the archive's own size: recordings compress little
_SLACK = 1 << 24
_BLOCK = 1 << 20
_LARGEST_READ = 1 << 22
_COMPRESSIONS: dict[bytes, Callable[[IO[bytes], str], Any]] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_DRIVE = re.compile(r"[A-Za-z]:")
_FAULTS = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
)


class _Member(NamedTuple):
    """File in an archive.

    Attributes
    ----------
    name : str
    size : int
        Bytes, as the archive says.
    is_file : bool
        Whether it is a plain file: no link, device or pipe.
    open : callable
        Opens its content.
    """

    name: str
    size: int
    is_file: bool
    open: Callable[[], IO[bytes]]


def unpack(archive: Path, folder: Path, place: Callable[[str], str | None]) -> int:
    """Unpack the wanted files of a ZIP or tar archive.

    Parameters
    ----------
    archive : Path
    folder : Path
        Empty folder for the files.
    place : callable
        Takes a file's path in the archive; returns its path inside the folder, None if it is not wanted.

    Returns
    -------
    int
        Number of files that are unpacked.

    Raises
    ------
    DamagedError
        If it is no archive, truncated or damaged; a path in it leads out of its folder, or two files to one place; a
        wanted file is a link or a device; or it holds far more than an archive of recordings of its size can.
    OSError
        If a file cannot be written, or the disk has no room for all.
    """
    size = archive.stat().st_size
    most = size * _MOST_TIMES + _SLACK
    room = shutil.disk_usage(folder).free
    unpacked = seen = files = done = 0
    with archive.open("rb") as raw, _members(raw) as members, progress("Unpacking", "B", size) as advance:
        for number, member in enumerate(members, 1):
            seen += member.size
            if number > _MOST_MEMBERS or seen > most:
                raise DamagedError(
                    f"it holds more than {_MOST_MEMBERS} files, or {format_size(most)}, far more than recordings can "
                    f"take in {format_size(size)}"
                )
            target = place(safe_path(member.name))
            if target is None:
                continue
            if not member.is_file:
                raise DamagedError(f"{escape(member.name)[:200]} in it is a link or a device, not a recording")
            unpacked += member.size
            if unpacked > room:
                raise OSError(errno.ENOSPC, f"{format_size(room)} are free, and the archive holds more", str(folder))
            _write(member, folder / safe_path(target))
            files += 1
            if (position := raw.tell()) > done:
                advance(position - done)
                done = position
        advance(size - done)
    return files


def safe_path(name: str) -> str:
    """Return a path in an archive, normalised.

    Raises
    ------
    DamagedError
        If it is absolute, goes upwards, or holds a drive or a backslash, which mean so on some system.
    """
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\\" in name or _DRIVE.match(name):
        raise DamagedError(f"the path {escape(name)[:200]} in it leads out of its folder")
    return str(PurePosixPath(name))


def _write(member: _Member, target: Path) -> None:
    """Write a file's content, of which there may be less than the archive says, but not more."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        with _damaged(), target.open("xb") as written, member.open() as stream:
            left = member.size
            while left > 0 and (block := stream.read(min(left, _BLOCK))):
                written.write(block)
                left -= len(block)
            if left or stream.read(1):
                raise DamagedError(f"{escape(member.name)[:200]} in it is shorter or longer than it says")
    except FileExistsError:
        raise DamagedError(f"it holds {escape(member.name)[:200]} twice") from None


@contextlib.contextmanager
def _members(raw: IO[bytes]) -> Iterator[Iterator[_Member]]:
    """Open an archive, and yield an iterator over its files."""
    with _damaged():
        if zipfile.is_zipfile(raw):
            with zipfile.ZipFile(raw) as zipped:
                yield (_zip_member(zipped, info) for info in zipped.infolist() if not info.is_dir())
        else:
            with _decompressed(raw) as stream, tarfile.open(fileobj=_Bounded(stream), mode="r:") as tar:
                yield _tar_members(tar, stream)


def _decompressed(raw: IO[bytes]) -> IO[bytes]:
    raw.seek(0)
    start = raw.read(6)
    raw.seek(0)
    for signature, opener in _COMPRESSIONS.items():
        if start.startswith(signature):
            return cast("IO[bytes]", opener(raw, "rb"))
    return raw


class _Bounded(io.RawIOBase):
    """Stream for `tarfile`, which would read a header of any length into memory."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= _LARGEST_READ:
            raise tarfile.ReadError("it has a header that is far too long")
        return self._stream.read(size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._stream.seek(offset, whence)

    def tell(self) -> int:
        return self._stream.tell()


def _zip_member(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> _Member:
    kind = stat.S_IFMT(info.external_attr >> 16)
    return _Member(info.filename, info.file_size, kind in (0, stat.S_IFREG), partial(zipped.open, info))


def _tar_members(tar: tarfile.TarFile, stream: IO[bytes]) -> Iterator[_Member]:
    with _damaged():
        for info in tar:
            if not info.isdir():
                yield _Member(info.name, info.size, info.isreg(), partial(_extract, tar, info))
        if len(stream.read(_SLACK)) == _SLACK:  # to the end, where the checksum is
            raise tarfile.ReadError("it goes on behind its end")


def _extract(tar: tarfile.TarFile, info: tarfile.TarInfo) -> IO[bytes]:
    stream = tar.extractfile(info)
    if stream is None:  # of a member without content
        raise tarfile.ReadError(f"{info.name} is no file")
    return stream


@contextlib.contextmanager
def _damaged() -> Iterator[None]:
    """Turn the errors of Python's archive readers into one."""
    try:
        yield
    except _FAULTS as error:
        raise DamagedError(f"it is damaged or cut off ({first_line(error)})") from None
    except OSError as error:
        if error.errno is None:  # gzip's and bz2's, of content
            raise DamagedError(f"it is damaged or cut off ({first_line(error)})") from None
        raise
