"""uvicorn's HTTP protocol with limits for slow, oversized and half-closed requests, and quick refusals."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from collections.abc import Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from audionet.serving.middleware import UPLOAD_PATHS
from audionet.serving.problems import PROBLEM_JSON, ProblemError
from audionet.serving.service import Service
from audionet.serving.uploads import client_of
from audionet.serving.worker_pool import FULL

HEADER_SECONDS = 10.0
"""Time limit for the headers of a request, and for the rest of a body after an early response."""

MAX_HEADER_BYTES = 1 << 16

_REFUSED_AT_A_TIME = 8  # pipelined ones beyond take the long way, so that they do not block other requests
_OWN_FILES = 64  # of the process, besides those of connections
_FEWEST_CONNECTIONS = 8
_PART_BYTES = 1 << 15  # parsed at a time
_MIN_CHUNK_BYTES = 32  # on average, including the chunk's framing
_TINY_PART_BYTES = 1 << 10

WRITE_SECONDS = 30.0
"""Time limit for a client that does not read its response."""


PROBE_SECONDS = 1.0
"""Time between probes for whether a client that has closed its side still waits for its answer."""

_UPLOAD = re.compile(
    rb"POST (%s)(?:\?[!-~]*)? HTTP/1\.1\r\n((?:[!#-'*+.^-z|~0-9A-Za-z-]+:[\t -~]*\r\n)*)\r\n"
    % b"|".join(map(re.escape, map(str.encode, sorted(UPLOAD_PATHS))))
)
_LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]{1,15})[ \t]*\r$", re.MULTILINE)
_SPECIAL_FIELD = re.compile(
    rb"\n(?:transfer-encoding:|expect:|origin:|x-forwarded-for:|connection:(?![ \t]*keep-alive[ \t]*\r))"
)


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol with time limits for clients, and a short way to refuse uploads when the service is full.

    Based on h11, not on the faster httptools, which drops the body of a request that offers to upgrade to HTTP/2, as
    those of Java and curl may, and has no limit on the size of the headers.
    """

    def __init__(self, *args: Any, service: Service, **options: Any) -> None:
        super().__init__(*args, **options)
        self._service = service
        self._unread = 0  # bytes of a refused upload that are still to come
        self._probe_timer: asyncio.TimerHandle | None = None
        self._is_half_closed = False
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._has_begun = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._start_timer()
        if len(self.connections) > _max_connections():
            self._refuse(ProblemError.busy("too many connections; try again in a moment"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        if self._probe_timer is not None:
            self._probe_timer.cancel()
        self.resume_writing()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection if a whole request is unanswered: the client may have closed its own side only."""
        self._is_half_closed = self._has_request() and not self.cycle.more_body
        if self._is_half_closed and self._probe_timer is None:  # at a pause in reading, the end is read again
            self._probe_timer = self.loop.call_later(PROBE_SECONDS, self._probe)
        return self._is_half_closed

    def _probe(self) -> None:
        """Send an interim response, which every client has to ignore: one that has left resets the connection."""
        if self.transport.is_closing():
            return
        if self._has_request() and not self.cycle.response_started and self.scope["http_version"] != "1.0":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._probe_timer = self.loop.call_later(PROBE_SECONDS, self._probe)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_half_closed and (not self._has_request() or self.cycle.more_body):
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        if self._timer is None and not self._has_request():
            self._start_timer()
        if data := self._without_refused(data):
            self._parse(data)

    def _without_refused(self, data: bytes) -> bytes:
        """Refuse a few uploads for which there is no place, without parsing them; return what follows them."""
        for _ in range(_REFUSED_AT_A_TIME):
            data = self._skip(data)
            if not (upload := self._refusable(data)):
                return data
            length, path, head = upload
            self._unset_keepalive_if_required()
            self._stop_timer()
            self._start_timer()
            self.transport.write(_answer(ProblemError.busy(FULL)))
            self._service.metrics.requests.labels(path, 503).inc()
            self._service.metrics.refused.inc()
            data, self._unread = data[head:], length
        return self._skip(data)

    def _skip(self, data: bytes) -> bytes:
        """Pass over the body of a refused upload; return what follows it."""
        part = min(self._unread, len(data))
        self._unread -= part
        return data[part:]

    def _refusable(self, data: bytes) -> tuple[int, str, int] | None:
        """Return an upload's length, path and length of head, if it is to be refused and in the plainest form."""
        is_start = self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0] and not self._has_request()
        if not (is_start and data.startswith(b"POST ") and self._service.workers.is_full(client_of(self.client))):
            return None
        if self.flow.write_paused:  # a client that does not read its answers gets them one at a time
            return None
        found = _UPLOAD.match(data)
        if found is None:
            return None
        fields = b"\n" + found[2].lower()
        lengths = _LENGTH.findall(fields)
        if len(lengths) != 1 or fields.count(b"\ncontent-length:") != 1 or _SPECIAL_FIELD.search(fields):
            return None
        return int(lengths[0]), found[1].decode(), found.end()

    def _parse(self, data: bytes) -> None:
        self._has_begun = True
        for start in range(0, len(data), _PART_BYTES):
            part = data[start : start + _PART_BYTES]
            if self.transport.is_closing():
                return
            if self._has_request() and self._has_tiny_chunks(part):
                self._refuse(ProblemError(400, "the body is sent in chunks of a few bytes; send larger ones"))
                return
            super().data_received(part)
            if self.transport.get_protocol() is not self:
                if self.conn.trailing_data[0] or start + _PART_BYTES < len(data):
                    # A client sends nothing more before the answer to its upgrade (RFC 6455, section 4.1).
                    self.transport.abort()
                return
        if self._has_request():
            self._stop_timer()
        elif self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._has_begun = False  # it was the rest of a refused body, not the start of a request

    def _has_tiny_chunks(self, part: bytes) -> bool:
        """Return whether a part consists of tiny chunks, which parse so slowly that they would block other requests."""
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return chunked and part.count(b"\r\n") * _MIN_CHUNK_BYTES > 2 * len(part) > 2 * _TINY_PART_BYTES

    def _should_upgrade_to_ws(self) -> bool:
        """Return whether a request that offers a WebSocket is one: other methods and bodies are plain HTTP."""
        has_body = any(name in (b"content-length", b"transfer-encoding") for name, _ in self.headers)
        return self.scope["method"] == "GET" and not has_body and super()._should_upgrade_to_ws()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        self._stop_timer()
        super().handle_websocket_upgrade(event)

    def send_400_response(self, msg: str) -> None:
        error = sys.exc_info()[1]
        status = error.error_status_hint if isinstance(error, h11.RemoteProtocolError) else 400
        details = {431: f"the request headers are longer than {MAX_HEADER_BYTES >> 10} KiB"}
        self._refuse(ProblemError(status, details.get(status, "this is not a valid HTTP request")))

    def pause_writing(self) -> None:
        super().pause_writing()
        self._write_timer = self.loop.call_later(WRITE_SECONDS, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None

    def _has_request(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self) -> None:
        self._has_begun = False
        self._timer = self.loop.call_later(HEADER_SECONDS, self._too_slow)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _too_slow(self) -> None:
        if self._has_begun and self.conn.their_state is h11.IDLE:
            self._refuse(ProblemError(408, f"the request headers took longer than {HEADER_SECONDS:g} s"))
        else:
            self.transport.close()

    def _refuse(self, problem: ProblemError) -> None:
        """Answer an incomplete or invalid request and close the connection."""
        if not self.transport.is_closing():
            self.transport.write(_answer(problem, {"Connection": "close"}))
            self.transport.close()


def _answer(problem: ProblemError, headers: Mapping[str, str] = MappingProxyType({})) -> bytes:
    """Return a problem as an HTTP response."""
    fields = {
        "Content-Type": PROBLEM_JSON,
        "Content-Length": str(len(problem.content)),
        **headers,
        **problem.headers,
    }
    head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
    return head.encode("ascii") + problem.content


@functools.cache
def _max_connections() -> int:
    """Return the connection limit: each needs two of the files that this process may open, one for its upload."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 4096
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard_limit == resource.RLIM_INFINITY else min(hard_limit, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard_limit))
    return max(_FEWEST_CONNECTIONS, (wanted - _OWN_FILES) // 2)
