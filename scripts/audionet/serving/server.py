"""uvicorn with signal handling, and a listening socket with clear errors."""

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
from types import FrameType

import uvicorn
from starlette.types import ASGIApp

from audionet.errors import AudioNetError
from audionet.serving.config import ServeConfig
from audionet.serving.protocol import MAX_HEADER_BYTES, Protocol
from audionet.serving.service import Service
from audionet.serving.socket_protocol import MAX_MESSAGE_BYTES, SocketProtocol

log = logging.getLogger("audionet.serve")

_DRAIN_EXTRA_SECONDS = 5


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


_ANY_IPV6 = "::"
_LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", _ANY_IPV6: "::1"}
"""Loopback addresses for those that stand for all of a machine's, which are no destination."""


def listen(config: ServeConfig) -> socket.socket:
    """Open the listening socket.

    Raises
    ------
    AudioNetError
        If the address does not exist or is in use.
    """
    try:
        family, *_, address = socket.getaddrinfo(config.host.strip("[]"), config.port, type=socket.SOCK_STREAM)[0]
        both = address[0] == _ANY_IPV6 and socket.has_dualstack_ipv6()
        return socket.create_server(address[:2], family=family, backlog=1024, dualstack_ipv6=both)
    except (OSError, UnicodeError) as error:
        where = f"{config.host}, port {config.port}"
        number = error.errno if isinstance(error, OSError) else None
        reason = os.strerror(number) if number is not None and number > 0 else "there is no such address"
        raise AudioNetError(f"cannot listen on {where}: {reason}; name another --port or --host") from None


def url_of(listener: socket.socket) -> str:
    """Return the URL at which this machine reaches a listening socket."""
    host, port = listener.getsockname()[:2]
    host = _LOOPBACK_OF.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def run_server(app: ASGIApp, service: Service, listener: socket.socket, on_ready: Callable[[], object]) -> None:
    """Serve until a signal to stop; requests in progress are answered first."""
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)  # invalid requests are not worth a log line
    config = uvicorn.Config(
        app,
        http=functools.partial(Protocol, service=service),  # type: ignore[arg-type]
        h11_max_incomplete_event_size=MAX_HEADER_BYTES,
        ws=SocketProtocol,
        ws_max_size=MAX_MESSAGE_BYTES,
        ws_per_message_deflate=False,  # compressed sound is no smaller, and a small message may inflate to a large one
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=round(3 * service.config.time_limit) + _DRAIN_EXTRA_SECONDS,
    )
    Server(config, service, on_ready).run([listener])
