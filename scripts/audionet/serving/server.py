"""uvicorn with limits on slow and oversized requests, signal handling, and a listening socket with clear errors."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from http import HTTPStatus
from types import FrameType
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from audionet.errors import AudioNetError
from audionet.serving.config import ServeConfig
from audionet.serving.problems import PROBLEM_JSON, ProblemError
from audionet.serving.service import Service

log = logging.getLogger("audionet.serve")

HEADER_SECONDS = 10.0
"""Time limit for the headers of a request, and for the rest of a body after an early response."""

MAX_HEADER_BYTES = 1 << 16

_PART_BYTES = 1 << 15  # parsed at a time
_MIN_CHUNK_BYTES = 32  # on average, including the chunk's framing
_TINY_PART_BYTES = 1 << 10

WRITE_SECONDS = 30.0
"""Time limit for a client that does not read its response."""

_DRAIN_EXTRA_SECONDS = 5


class Protocol(H11Protocol):
    """uvicorn's HTTP protocol with time limits for clients.

    Based on h11, not on the faster httptools, which drops the body of a request that offers to upgrade to HTTP/2, as
    those of Java and curl may, and has no limit on the size of the headers.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
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
        self.resume_writing()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._timer is None and not self._has_request():
            self._start_timer()
        self._has_begun = True
        for start in range(0, len(data), _PART_BYTES):
            part = data[start : start + _PART_BYTES]
            if self.transport.is_closing():
                return
            if self._has_request() and self._has_tiny_chunks(part):
                self._refuse(ProblemError(400, "the body is sent in chunks of a few bytes; send larger ones"))
                return
            super().data_received(part)
        if self._has_request():
            self._stop_timer()
        elif self.conn.their_state is h11.IDLE and not self.conn.trailing_data[0]:
            self._has_begun = False  # it was the rest of a refused body, not the start of a request

    def _has_tiny_chunks(self, part: bytes) -> bool:
        """Return whether a part consists of tiny chunks, which parse so slowly that they would block other requests."""
        chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        return chunked and part.count(b"\r\n") * _MIN_CHUNK_BYTES > 2 * len(part) > 2 * _TINY_PART_BYTES

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
        fields = {
            "Content-Type": PROBLEM_JSON,
            "Content-Length": str(len(problem.content)),
            "Connection": "close",
            **problem.headers,
        }
        head = f"HTTP/1.1 {problem.status} {HTTPStatus(problem.status).phrase}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n"
        if not self.transport.is_closing():
            self.transport.write(head.encode("ascii") + problem.content)
            self.transport.close()


class Server(uvicorn.Server):
    """uvicorn's server: exits with 0 on SIGINT and SIGTERM, and reloads the model on SIGHUP."""

    def __init__(self, config: uvicorn.Config, service: Service, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._service = service
        self._on_ready = on_ready
        self._reloads: set[asyncio.Task[None]] = set()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until a signal to stop."""
        async with self._service.running():
            await super().serve(sockets)
            # Requests left after a second signal.
            left = list(self.server_state.tasks)
            for task in left:
                task.cancel()
            await asyncio.gather(*left, return_exceptions=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start up and call `on_ready`."""
        await super().startup(sockets)
        if not self.should_exit:
            self._on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Stop accepting requests and exit when those in progress are answered; at a second signal, exit at once."""
        self._service.ready = False
        self.force_exit = self.should_exit
        self.should_exit = True

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while the server runs."""
        if sys.platform == "win32":  # whose event loop does not support signal handlers
            with super().capture_signals():
                yield
            return
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                loop.remove_signal_handler(number)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def _reload(self) -> None:
        task = asyncio.ensure_future(self._service_reload())
        self._reloads.add(task)
        task.add_done_callback(self._reloads.discard)

    async def _service_reload(self) -> None:
        with contextlib.suppress(AudioNetError):  # already logged by the service
            await self._service.reload()


@functools.cache
def _max_connections() -> int:
    """Return the connection limit: half of the open files that this process may have; the rest is for uploads."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return 4096
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard_limit == resource.RLIM_INFINITY else min(hard_limit, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard_limit))
    return wanted // 2


def listen(config: ServeConfig) -> socket.socket:
    """Open the listening socket.

    Raises
    ------
    AudioNetError
        If the address does not exist or is in use.
    """
    try:
        family, *_, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=1024)
    except (OSError, UnicodeError) as error:
        where = f"{config.host}, port {config.port}"
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number is not None and number > 0 else "there is no such address"
        raise AudioNetError(f"cannot listen on {where}: {reason}; name another --port or --host") from None


def url_of(listener: socket.socket) -> str:
    """Return the URL of a listening socket."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(app: ASGIApp, service: Service, listener: socket.socket, on_ready: Callable[[], object]) -> None:
    """Serve until a signal to stop; requests in progress are answered first."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # invalid requests are not worth a log line
    config = uvicorn.Config(
        app,
        http=Protocol,
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=round(3 * service.config.time_limit) + _DRAIN_EXTRA_SECONDS,
    )
    Server(config, service, on_ready).run([listener])
