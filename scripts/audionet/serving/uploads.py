"""Uploads: write the recording of a request to a temporary file, under a random name, while the request lasts."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import mimetypes
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from starlette.datastructures import UploadFile
from starlette.requests import Request

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.serving.problems import ProblemError
from audionet.serving.spool import Spool
from audionet.utils.text import escape

_FOLDER_PREFIX = "audionet-uploads-"
_MULTIPART = "multipart/form-data"
_MAX_FIELDS = 16
_MAX_NAME_LENGTH = 100
_INLINE_BYTES = 1 << 20  # larger files are copied in a thread

_OUT_OF_FILES = (errno.EMFILE, errno.ENFILE)


class Upload(NamedTuple):
    """An uploaded recording: its temporary file, the name that the client gave it, and the client."""

    path: Path
    name: str
    client: str


@contextlib.asynccontextmanager
async def receive_upload(request: Request, spool: Spool, folder: Path, name: str) -> AsyncIterator[Upload]:
    """Receive a request's recording, the body or the file of its form, and delete it when the block ends.

    Parameters
    ----------
    request : Request
    spool : Spool
    folder : Path
        Folder for the temporary file.
    name : str
        File name of a recording that is sent as the body.

    Raises
    ------
    ProblemError
        If there is no recording, or it does not arrive in time or cannot be stored.
    """
    async with spool.body(client_of(request.client)) as body:
        try:
            async with body.arriving():
                upload = await _receive(Request(request.scope, body.counted(request.receive)), folder, name)
        except (UnicodeError, LookupError):  # a form may name any of Python's codecs
            raise ProblemError(400, "the form cannot be read: unknown character set") from None
        except OSError as error:
            raise storage_problem(error, "upload") from None
        try:
            yield upload
        finally:
            upload.path.unlink(missing_ok=True)


async def _receive(request: Request, folder: Path, name: str) -> Upload:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _MULTIPART:
        name = display_name(name)
        with _temporary_file(folder, _suffix(name, kind)) as (path, file):
            async for block in request.stream():
                file.write(block)
        return Upload(path, name, client_of(request.client))
    kept: Path | None = None
    try:
        async with request.form(max_files=1, max_fields=_MAX_FIELDS, max_part_size=1024) as form:
            sent = next((value for value in form.values() if isinstance(value, UploadFile)), None)
            if sent is None:
                raise ProblemError(400, "the form has no file; send one, as curl -F file=@clip.wav does")
            name = display_name(sent.filename or "")
            with _temporary_file(folder, _suffix(name, (sent.content_type or "").lower())) as (kept, file):
                if (sent.size or 0) > _INLINE_BYTES:
                    await asyncio.to_thread(shutil.copyfileobj, sent.file, file, _INLINE_BYTES)
                else:
                    shutil.copyfileobj(sent.file, file, _INLINE_BYTES)
    except BaseException:  # also while the form is closed
        if kept is not None:
            kept.unlink(missing_ok=True)
        raise
    return Upload(kept, name, client_of(request.client))


def storage_problem(error: OSError, what: str) -> ProblemError:
    """Return the problem for what cannot be stored: the disk is full, or no more files can be opened at the moment."""
    return out_of_files(error) or ProblemError(507, f"the {what} cannot be stored ({error.strerror or 'no space'})")


def out_of_files(error: OSError) -> ProblemError | None:
    """Return the problem of a process, or a machine, that may open no more files; None for another error."""
    if error.errno not in _OUT_OF_FILES:
        return None
    return ProblemError.busy("the service has too many open files; try again in a moment")


def client_of(peer: tuple[str, int] | None) -> str:
    """Return the client of a connection: its address or, as one host may have 2^64 of them, its IPv6 network."""
    host = peer[0] if peer else ""
    if ":" not in host:
        return host
    try:
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:  # a proxy may say anything
        return host
    return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))


@contextlib.contextmanager
def upload_folder() -> Iterator[Path]:
    """Create a folder for uploads for the duration of the block, and remove those of services that were killed."""
    for left in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError), _folder_lock(left):
            shutil.rmtree(left, ignore_errors=True)
    # Locked before it has the name by which others look for it.
    folder = Path(tempfile.mkdtemp(prefix="audionet-starting-"))
    try:
        with _folder_lock(folder):
            folder = folder.rename(folder.with_name(_FOLDER_PREFIX + folder.name.rpartition("-")[2]))
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _folder_lock(folder: Path) -> Iterator[None]:
    """Lock a folder of this user within the block; the lock of a killed process is released.

    Raises
    ------
    OSError
        If it is another user's, no folder, or locked; or if this platform cannot tell.
    """
    try:
        import fcntl
    except ImportError:  # Windows
        if folder.name.startswith(_FOLDER_PREFIX):
            raise OSError(errno.ENOTSUP, "folders cannot be locked here") from None
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "belongs to another user", str(folder))
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def stored(content: bytes, suffix: str, folder: Path, client: str) -> Iterator[Upload]:
    """Store a few seconds of sound in a temporary file for the duration of the block.

    Raises
    ------
    ProblemError
        If it cannot be stored.
    """
    try:
        with _temporary_file(folder, suffix) as (path, file):
            file.write(content)
    except OSError as error:
        raise storage_problem(error, "sound") from None
    try:
        yield Upload(path, "sound", client)
    finally:
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _temporary_file(folder: Path, suffix: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Create a file that only this user can read; delete it if writing fails."""
    folder.mkdir(mode=0o700, exist_ok=True)  # a cleaner of temporary files may have removed it
    descriptor, path = tempfile.mkstemp(suffix, "", folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Path(path), file
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        raise


def _suffix(name: str, kind: str) -> str:
    """Return the known audio suffix for a name and content type, which selects the decoder; empty if there is none."""
    suffixes = (os.path.splitext(name)[1].lower(), mimetypes.guess_extension(kind) or "")
    return next((known for suffix in suffixes for known in AUDIO_SUFFIXES if known == suffix), "")


def display_name(name: str) -> str:
    """Return a client's file name, safe to display: without folders, printable, at most 100 characters."""
    last = escape(name.replace("\\", "/").rpartition("/")[2]).strip() or "upload"
    return last if len(last) <= _MAX_NAME_LENGTH else f"{last[: _MAX_NAME_LENGTH - 20]}…{last[-19:]}"
