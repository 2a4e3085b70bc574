"""Atomic and durable writes, JSON files, folder locks, hashes and directory walks.

`atomic_path`, and `WriteBatch` for many small files, guarantee: under its name a file is the old one or the whole
new one, even after a kill or a loss of power. They write under a temporary name, wait until the content is on the
disk, rename, and wait until the folder is. What is written afterwards may therefore name the file, as a label's
journal names its chunks. See `audionet.utils.disk` for where nothing waits.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import itertools
import json
import logging
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audionet.errors import AudioNetError, DamagedError
from audionet.utils.disk import sync, sync_files, sync_tree
from audionet.utils.json_files import parse_json
from audionet.utils.text import escape, first_line

log = logging.getLogger(__name__)

PathLike = str | os.PathLike[str]

TEMPORARY_PREFIX = ".audionet-tmp-"
LOCK_NAME = ".audionet-lock"
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
"""Errors of writing to a disk that is mounted read-only, or to another user's folder."""

_HOST = re.sub(r"[^A-Za-z0-9.]", "_", platform.node())[:60]
with contextlib.suppress(OSError):  # containers of one host's name have process numbers of their own
    _HOST += f".{Path('/proc/self/ns/pid').stat().st_ino}"
_LONGEST_WRITE_SECONDS = 3600
_BATCH_FILES = 256
_serial = itertools.count()


def temporary_path(folder: Path) -> Path:
    """Return a path in a folder that no other process writes to, on this or another machine that shares the folder."""
    return folder / f"{TEMPORARY_PREFIX}{owner_name()}"


def owner_name() -> str:
    """Return a name that no other process gives, on this or another machine, and that it gives once."""
    return f"{_HOST}-{os.getpid()}-{next(_serial)}"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it to the target when the block succeeds.

    A file or a folder may be written there. At the end both it and its name are on the disk.

    Raises
    ------
    OSError
        If writing fails; it carries the target's name, and the temporary file is removed.
    """
    temporary = temporary_path(path.parent)
    try:
        with _naming(path, temporary):
            yield temporary
            sync_tree(temporary)
            if temporary.is_dir() and path.is_dir():  # only an empty folder can be replaced
                os.replace(path, old := temporary_path(path.parent))
                os.replace(temporary, path)
                _remove(old)
            else:
                os.replace(temporary, path)
            sync(path.parent)
        log.debug("wrote %s", path)
    except BaseException:
        with contextlib.suppress(OSError):
            _remove(temporary)
        raise


@contextlib.contextmanager
def _naming(path: Path, temporary: Path) -> Iterator[None]:
    """Have errors carry a file's name: a full disk reports none at all, a missing folder the temporary one."""
    try:
        yield
    except OSError as error:
        if error.filename is None or str(error.filename).startswith(str(temporary)):
            error.filename = str(path)
        raise


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


class WriteBatch:
    """Many small files, written atomically like those of `write_bytes`, with one wait for the disk for all.

    A context manager: at the end of its block the files are under their names and on the disk. An error removes those
    that were still waiting. A file that is written has its name when `_BATCH_FILES` are waiting, or at the end.
    """

    def __init__(self) -> None:
        self._waiting: dict[Path, Path] = {}  # temporary paths, by target

    def write(self, path: Path, data: bytes) -> None:
        """Write a whole file.

        Raises
        ------
        OSError
            If writing fails; it carries the target's name.
        """
        temporary = temporary_path(path.parent)
        try:
            with _naming(path, temporary):
                temporary.write_bytes(data)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        if path in self._waiting:
            self._waiting.pop(path).unlink(missing_ok=True)
        self._waiting[path] = temporary
        if len(self._waiting) >= _BATCH_FILES:
            self._flush()

    def sync(self) -> None:
        """Wait until all files are on the disk, so that the end of the block need not."""
        sync_files(self._waiting.values())

    def remove(self, path: Path) -> None:
        """Remove a file that this or an earlier batch wrote."""
        for written in (self._waiting.pop(path, path), path):
            written.unlink(missing_ok=True)

    def __enter__(self) -> WriteBatch:
        return self

    def __exit__(self, error: type[BaseException] | None, *_: object) -> None:
        try:
            if error is None:
                self._flush()
        finally:
            for temporary in self._waiting.values():
                with contextlib.suppress(OSError):
                    temporary.unlink(missing_ok=True)

    def _flush(self) -> None:
        sync_files(self._waiting.values())
        for path, temporary in self._waiting.items():
            with _naming(path, temporary):
                os.replace(temporary, path)
        for folder in {path.parent for path in self._waiting}:
            sync(folder)
        self._waiting.clear()


def write_json(path: Path, content: Any) -> None:
    """Write readable JSON atomically. ASCII only: file names may hold bytes that are not UTF-8."""
    write_bytes(path, pack_json(content))


def pack_json(content: Any) -> bytes:
    """Return the content of a readable JSON file, in ASCII."""
    return (json.dumps(content, indent=2) + "\n").encode("ascii")


def read_json(path: Path, error: type[AudioNetError], remedy: str) -> dict[str, Any]:
    """Read a JSON object; raise `error`, saying `remedy`, if it is missing or damaged."""
    try:
        return parse_json(path.read_bytes())
    except FileNotFoundError:
        raise error(f"{escape(path)} is missing: {remedy}") from None
    except (DamagedError, OSError) as why:
        raise error(f"{escape(path)} cannot be read ({first_line(why)}): {remedy}") from None


def make_folder(path: Path, alone: bool = False) -> None:
    """Create a folder and its parents, and remove temporary files that a killed run left in it.

    With `alone`, under `exclusive_lock`, no other run is active and all temporary files are removed.
    """
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, and a folder is wanted", str(path))
    path.mkdir(parents=True, exist_ok=True)
    with os.scandir(path) as entries:
        left = [entry for entry in entries if entry.name.startswith(TEMPORARY_PREFIX)]
    for entry in left:
        with contextlib.suppress(OSError):  # gone meanwhile, or in a folder that is only read
            if alone or not _is_being_written(entry):
                _remove(Path(entry.path))


def make_writable_folder(path: Path) -> None:
    """Create a folder and check that it is writable, so that long work fails before it starts, not at its end."""
    make_folder(path)
    trial = temporary_path(path)
    try:
        trial.touch()
        trial.unlink()
    except OSError as error:
        error.filename = str(path)
        raise


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def _is_being_written(entry: os.DirEntry[str]) -> bool:
    """Return whether the process named in a temporary file still runs: it may be another run."""
    running = owner_runs(entry.name.removeprefix(TEMPORARY_PREFIX))
    return time.time() - entry.stat().st_mtime < _LONGEST_WRITE_SECONDS if running is None else running


def owner_runs(name: str) -> bool | None:
    """Return whether the process that gave an `owner_name` runs, and is not this one; None if on another machine."""
    host, _, number = name.rpartition("-")[0].rpartition("-")
    if (host and host != _HOST) or os.name != "posix":  # Windows interrupts a process that is sent signal 0
        return None
    try:
        os.kill(int(number), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except OSError:  # a process of another user
        return True
    return int(number) != os.getpid()


@contextlib.contextmanager
def exclusive_lock(folder: Path, wait: bool = False) -> Iterator[None]:
    """Lock a folder against other runs within the block; the lock of a killed run is released.

    With `wait`, wait for another run to release the lock. A folder that cannot be written needs none, and has none.

    Raises
    ------
    AudioNetError
        If another run holds the lock and `wait` is false.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where a folder cannot be locked
        yield
        return
    descriptor = _open_lock(folder)
    if descriptor is None:
        yield
        return
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise AudioNetError(f"{escape(folder)}: another run is at work there; wait until it has ended") from None
        except OSError as error:
            if error.errno != errno.EBADF:  # NFS locks no file that is open for reading alone
                raise
        yield
    finally:
        os.close(descriptor)


def _open_lock(folder: Path) -> int | None:
    """Open a folder's lock file; return None where none can be made because the folder is read-only."""
    path = folder / LOCK_NAME  # a file in the folder, not the folder itself, which NFS does not lock
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        if error.errno not in READ_ONLY:
            raise
    with contextlib.suppress(FileNotFoundError):
        return os.open(path, os.O_RDONLY)  # another user's, in a folder that both may write
    return None


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def content_hash(path: Path) -> str:
    """Return the SHA-256 of a file or, for a folder, of the names and hashes of all its files."""
    if not path.is_dir():
        return sha256(path)
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")):
        if file.is_file():
            digest.update(f"{file.relative_to(path).as_posix()} {sha256(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def file_sizes(folder: Path, suffix: str) -> dict[str, int]:
    """Return the names and sizes in bytes of a folder's files of one ending; none if there is no such folder."""
    sizes: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.endswith(suffix):
                with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                    sizes[entry.name] = entry.stat(follow_symlinks=False).st_size
    return sizes


def walk(folder: Path, inside: str = "", above: frozenset[str] = frozenset()) -> Iterator[tuple[str, Path]]:
    """Yield the relative path and the path of every file in a folder and below, except hidden ones.

    Links are followed, but cycles are cut. A folder that cannot be opened is yielded like a file, so that the
    caller, who opens it, reports the reason.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    try:
        with os.scandir(folder) as entries:
            found = sorted((entry.name, _is_folder(entry)) for entry in entries if not entry.name.startswith("."))
    except OSError:
        yield inside.removesuffix("/"), folder
        return
    for name, is_folder in found:
        if is_folder:
            yield from walk(folder / name, f"{inside}{name}/", above | {real})
        else:
            yield inside + name, folder / name


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False
