"""Uploads: write the recording of a request to a temporary file, under a random name, while the request lasts."""

from __future__ import annotations

import asyncio
import contextlib
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
from starlette.types import Scope

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.serving.problems import ProblemError
from audionet.utils.text import escape

_MULTIPART = "multipart/form-data"
_MAX_FIELDS = 16
_MAX_NAME_LENGTH = 100
_INLINE_BYTES = 1 << 20  # larger files are copied in a thread


class Upload(NamedTuple):
    """An uploaded recording: its temporary file, the name that the client gave it, and the client."""

    path: Path
    name: str
    client: str


@contextlib.asynccontextmanager
async def receive_upload(request: Request, folder: Path, name: str, seconds: float) -> AsyncIterator[Upload]:
    """Receive a request's recording, the body or the file of its form, and delete it when the block ends.

    Parameters
    ----------
    request : Request
    folder : Path
        Folder for the temporary file.
    name : str
        File name of a recording that is sent as the body.
    seconds : float
        Time limit of the upload.

    Raises
    ------
    ProblemError
        If there is no recording, or it does not arrive in time.
    """
    try:
        upload = await asyncio.wait_for(_receive(request, folder, name), seconds)
    except TimeoutError:
        raise ProblemError(408, f"the upload took longer than {seconds:g} s") from None
    except (UnicodeError, LookupError):  # a form may name any of Python's codecs
        raise ProblemError(400, "the form cannot be read: unknown character set") from None
    except OSError as error:
        raise ProblemError(507, f"the upload cannot be stored ({error.strerror or 'no space'})") from None
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
        return Upload(path, name, client_of(request.scope))
    async with request.form(max_files=1, max_fields=_MAX_FIELDS, max_part_size=1024) as form:
        sent = next((value for value in form.values() if isinstance(value, UploadFile)), None)
        if sent is None:
            raise ProblemError(400, "the form has no file; send one, as curl -F file=@clip.wav does")
        name = display_name(sent.filename or "")
        with _temporary_file(folder, _suffix(name, (sent.content_type or "").lower())) as (path, file):
            if (sent.size or 0) > _INLINE_BYTES:
                await asyncio.to_thread(shutil.copyfileobj, sent.file, file, _INLINE_BYTES)
            else:
                shutil.copyfileobj(sent.file, file, _INLINE_BYTES)
    return Upload(path, name, client_of(request.scope))


def client_of(scope: Scope) -> str:
    """Return the client of a request: its address or, as one host may have 2^64 of them, its IPv6 network."""
    host: str = (scope.get("client") or ("", 0))[0]
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    return host if address.version == 4 else str(ipaddress.ip_network((address, 64), strict=False))


@contextlib.contextmanager
def _temporary_file(folder: Path, suffix: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """Create a file that only this user can read; delete it if writing fails."""
    folder.mkdir(mode=0o700, exist_ok=True)  # a cleaner of temporary files may have removed it
    descriptor, path = tempfile.mkstemp(suffix, "", folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Path(path), file
    except BaseException:
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
