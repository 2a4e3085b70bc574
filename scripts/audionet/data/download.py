"""Downloads of large files over HTTP, which go on where they stopped.

Python's own client is enough: it knows proxies, redirects and certificates, and no library that is small, kept up and
free resumes (pooch and huggingface_hub's cache start a file of another server again).
"""

from __future__ import annotations

import contextlib
import http.client
import logging
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from audionet.errors import DamagedError, DatasetError
from audionet.utils.files import write_json
from audionet.utils.json_files import parse_json
from audionet.utils.progress import progress
from audionet.utils.text import escape, first_line, format_size, os_error_reason

log = logging.getLogger(__name__)

WAIT_SECONDS = 1.0
"""Seconds before the first new try of a broken download; each further one in vain waits twice as long."""

_TRIES = 5  # in vain, one after the other
_TIMEOUT_SECONDS = 60.0
_BLOCK = 1 << 18
_BUSY = (408, 425, 429)
_WAY_OUT = "check the connection, or name a copy with --url, or a file that you have with --source"


@dataclass(frozen=True)
class Remote:
    """File on a server.

    Attributes
    ----------
    url : str
        ``http`` or ``https``.
    size : int
        Bytes.
    exact : bool
        Whether the size is known to the byte; if not, twice as much is the limit.
    """

    url: str
    size: int
    exact: bool


class _BrokenError(Exception):
    """Connection broke, or the server is busy: worth another try."""


def download(remote: Remote, part: Path) -> None:
    """Download a file, or the rest of one whose download was interrupted.

    Parameters
    ----------
    remote : Remote
    part : Path
        File to write; beside it, ``.json`` keeps what the server has said of its version. A part is only continued
        if the server confirms that its file has not changed since (RFC 9110, ``Range`` with ``If-Range``).

    Raises
    ------
    DatasetError
        If the server refuses, the file has another length than expected, the disk has no room, or the connection
        breaks again and again; what has arrived is kept, and the next call goes on there.
    OSError
        If the part cannot be written.
    """
    _check_address(remote.url)
    failures, farthest = 0, _size(part)
    while True:
        try:
            _fetch(remote, part)
            return
        except _BrokenError as error:
            failures = 1 if _size(part) > farthest else failures + 1
            farthest = max(farthest, _size(part))
            if failures >= _TRIES:
                kept = (
                    f" after {format_size(size)}, which are kept: run it again to go on"
                    if (size := _size(part))
                    else ""
                )
                raise DatasetError(f"{escape(remote.url)}: {error}{kept}; {_WAY_OUT}") from None
            wait = WAIT_SECONDS * 2 ** (failures - 1)
            log.info(f"{error}: trying again in {wait:g} s")
            time.sleep(wait)


def discard(part: Path) -> None:
    """Remove a part, and what is known of it."""
    for path in (part, _state_path(part)):
        path.unlink(missing_ok=True)


def _check_address(url: str) -> None:
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _no_address(url, error) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise DatasetError(f"{escape(url)}: no address of a file that begins with https:// or http://")


def _no_address(url: str, error: Exception) -> DatasetError:
    return DatasetError(
        f"{escape(url)}: no valid address ({first_line(error)}): is it typed right, and percent-encoded?"
    )


def _fetch(remote: Remote, part: Path) -> None:
    """Send one request, and write what arrives."""
    state = _read_state(part, remote.url)
    start = _size(part) if state.get("version") else 0
    if start and start == state.get("total"):
        return
    headers = {"User-Agent": "audionet", "Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": state["version"]}
    with _opened(remote, part, headers) as response:
        if response.status == 206:
            total = _continued_total(response.headers, start, state)
            if total is None:
                discard(part)
                raise _BrokenError("the server sent another part than it was asked for")
        else:
            start, total = 0, _length(response.headers)
        _check_length(remote, total)
        expected = remote.size if total is None else total
        _check_room(part.parent, expected - start)
        if start == 0:
            discard(part)
            write_json(_state_path(part), {"url": remote.url, "version": _version(response.headers), "total": total})
        limit = total if total is not None else remote.size * (1 if remote.exact else 2)
        with part.open("ab") as stream, progress("Downloading", "B", expected) as advance:
            advance(start)
            for block in _blocks(response):
                start += len(block)
                if start > limit:
                    raise DatasetError(f"{escape(remote.url)}: sends more than {format_size(limit)}; {_WAY_OUT}")
                stream.write(block)
                advance(len(block))
    if total is not None and start < total:
        raise _BrokenError("the connection broke")


@contextlib.contextmanager
def _opened(remote: Remote, part: Path, headers: dict[str, str]) -> Iterator[http.client.HTTPResponse]:
    try:
        response = urllib.request.urlopen(urllib.request.Request(remote.url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416:  # the part is longer than the file
                discard(part)
                raise _BrokenError("the server's file is shorter than before") from None
            if error.code >= 500 or error.code in _BUSY:
                raise _BrokenError(f"the server is busy (HTTP {error.code})") from None
            raise DatasetError(f"{escape(remote.url)}: the server refuses it (HTTP {error.code}); {_WAY_OUT}") from None
    except (ValueError, http.client.InvalidURL) as error:
        raise _no_address(remote.url, error) from None
    except (OSError, http.client.HTTPException) as error:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = os_error_reason(cause) if isinstance(cause, OSError) else str(cause)
        raise _BrokenError(f"no answer ({escape(reason)[:200]})") from None
    with response:
        yield response


def _blocks(response: http.client.HTTPResponse) -> Iterator[bytes]:
    while True:
        try:
            block = response.read(_BLOCK)
        except (OSError, http.client.HTTPException):
            raise _BrokenError("the connection broke") from None
        if not block:
            return
        yield block


def _continued_total(headers: Message, start: int, state: dict[str, Any]) -> int | None:
    """Return the length of the whole file, of which the answer is the rest; None if it is another file's, or part."""
    unit, _, span = headers.get("Content-Range", "").partition(" ")
    span, _, total = span.partition("/")
    version = _version(headers)
    if unit != "bytes" or not total.isdigit() or span != f"{start}-{int(total) - 1}" or not start:
        return None
    return int(total) if version in (None, state["version"]) and state.get("total") in (None, int(total)) else None


def _version(headers: Message) -> str | None:
    """Return what names the version of the server's file to the byte: a strong ETag, else the time of its change."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified")


def _length(headers: Message) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdigit() else None


def _check_length(remote: Remote, total: int | None) -> None:
    wanted = format_size(remote.size)
    if total is not None and remote.exact and total != remote.size:
        raise DatasetError(
            f"{escape(remote.url)}: is {total} bytes long, not {remote.size}: it is another file, or a page that asks "
            f"something; {_WAY_OUT}"
        )
    if total is not None and total > 2 * remote.size:
        raise DatasetError(f"{escape(remote.url)}: is {format_size(total)} long, not about {wanted}; {_WAY_OUT}")


def _check_room(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DatasetError(
            f"{escape(folder)}: {format_size(needed)} more are to be downloaded, and {format_size(free)} are free: "
            "make room, or name another folder with --downloads_dir"
        )


def _read_state(part: Path, url: str) -> dict[str, Any]:
    """Read what the server has said of the version of a part; empty if it is unknown, or of another address."""
    with contextlib.suppress(OSError, DamagedError):
        state = parse_json(_state_path(part).read_bytes())
        version = state.get("version")
        if state.get("url") == url and isinstance(version, str) and version.isascii() and version.isprintable():
            return state
    return {}


def _state_path(part: Path) -> Path:
    return part.with_name(f"{part.name}.json")


def _size(part: Path) -> int:
    try:
        return part.stat().st_size
    except FileNotFoundError:
        return 0
