"""Recordings that come in a request, to files; under names of our own, and for as long as the request lasts."""

from __future__ import annotations

import asyncio
import contextlib
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
from audionet.utils.text import escape

_MULTIPART = "multipart/form-data"
_MOST_FIELDS = 16
_LONGEST_NAME = 100
_AT_ONCE = 1 << 20  # bytes that are written without leaving it to a thread


class Upload(NamedTuple):
    """A recording that was sent: where it lies, and what its sender calls it."""

    path: Path
    name: str


@contextlib.asynccontextmanager
async def received(request: Request, folder: Path, name: str, seconds: float) -> AsyncIterator[Upload]:
    """A request's recording: its body, or the file in its form.

    Parameters
    ----------
    request : Request
    folder : Path
        Where the file lies for as long as the block lasts.
    name : str
        What the sender calls a recording that comes as the body.
    seconds : float
        How long sending may take.

    Raises
    ------
    ProblemError
        If there is none, or it does not come in time.
    """
    try:
        upload = await asyncio.wait_for(_receive(request, folder, name), seconds)
    except TimeoutError:
        raise ProblemError(408, f"the upload took longer than {seconds:g} s") from None
    except (UnicodeError, LookupError):  # a form may name any codec of Python's
        raise ProblemError(400, "the form cannot be read: it names a character set that is none") from None
    except OSError as error:
        raise ProblemError(507, f"the upload cannot be kept here ({error.strerror or 'no room'})") from None
    try:
        yield upload
    finally:
        upload.path.unlink(missing_ok=True)


async def _receive(request: Request, folder: Path, name: str) -> Upload:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _MULTIPART:
        name = shown_name(name)
        with _file(folder, _ending(name, kind)) as (path, file):
            async for block in request.stream():
                file.write(block)
        return Upload(path, name)
    async with request.form(max_files=1, max_fields=_MOST_FIELDS, max_part_size=1024) as form:
        sent = next((value for value in form.values() if isinstance(value, UploadFile)), None)
        if sent is None:
            raise ProblemError(400, "there is no file in the form: send one, as curl -F file=@clip.wav does")
        name = shown_name(sent.filename or "")
        with _file(folder, _ending(name, (sent.content_type or "").lower())) as (path, file):
            if (sent.size or 0) > _AT_ONCE:
                await asyncio.to_thread(shutil.copyfileobj, sent.file, file, _AT_ONCE)
            else:
                shutil.copyfileobj(sent.file, file, _AT_ONCE)
    return Upload(path, name)


@contextlib.contextmanager
def _file(folder: Path, ending: str) -> Iterator[tuple[Path, IO[bytes]]]:
    """A new file that only this user can read; gone again where writing it fails."""
    folder.mkdir(mode=0o700, exist_ok=True)  # who tidies up may have taken it away
    descriptor, path = tempfile.mkstemp(ending, "", folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield Path(path), file
    except BaseException:
        os.unlink(path)
        raise


def _ending(name: str, kind: str) -> str:
    """How a file of that name and content type should end, so that it gets the decoder it needs: one of our endings."""
    endings = (os.path.splitext(name)[1].lower(), mimetypes.guess_extension(kind) or "")
    return next((known for ending in endings for known in AUDIO_SUFFIXES if known == ending), "")


def shown_name(name: str) -> str:
    """What a sender calls a recording, fit to be said again: no folders, nothing that does not print, not too long."""
    last = escape(name.replace("\\", "/").rpartition("/")[2]).strip() or "upload"
    return last if len(last) <= _LONGEST_NAME else f"{last[: _LONGEST_NAME - 20]}…{last[-19:]}"
