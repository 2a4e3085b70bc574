"""What every request passes first: who may ask, how many at a time, and how much they may send."""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import time

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audionet.serving.config import ServeConfig
from audionet.serving.metrics import Metrics
from audionet.serving.problems import ProblemError

PAGE_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; "
    "connect-src 'self'; worker-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

_HEADERS = {
    "Content-Security-Policy": PAGE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-store",
}
_NOT_ANSWERED = 499  # as nginx calls it when a client did not wait
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")
_OPEN = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
_OPEN_FOLDER = "/page/"
_WORK = frozenset({"/v1/classify", "/v1/spectrogram", "/classify/", "/classify"})
_KNOWN = _OPEN | _WORK | {"/v1/model", "/v1/reload", "/metrics"}
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class GuardMiddleware:
    """ASGI middleware.

    Parameters
    ----------
    app : ASGI application
    config : ServeConfig
    instruments : Instruments
    """

    def __init__(self, app: ASGIApp, config: ServeConfig, instruments: Metrics) -> None:
        self._app = app
        self._config = config
        self._instruments = instruments
        self._most_bytes = round(config.max_megabytes * 1e6)
        self._in_house = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request in, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path: str = scope["path"]
        method: str = scope["method"]
        if method == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        began, status = time.perf_counter(), _NOT_ANSWERED
        sent_bytes = 0

        async def counted_receive() -> Message:
            nonlocal sent_bytes
            message = await receive()
            sent_bytes += len(message.get("body", b""))
            if sent_bytes > self._most_bytes:
                raise self._too_large()
            return message

        async def dressed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                leave()  # whoever does not read the answer keeps nobody else waiting
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        entered = False

        def leave() -> None:
            nonlocal entered
            if entered:
                entered = False
                self._in_house -= 1
                self._instruments.in_flight.set(self._in_house)

        try:
            self._check(path, method, Headers(scope=scope))
            if path in _WORK and method == "POST":
                self._enter()
                entered = True
            await self._app(scope, counted_receive, dressed_send)
        except ProblemError as problem:
            await problem.response()(scope, receive, dressed_send)
        except asyncio.CancelledError:
            # Nobody cancels a request but a server that was told twice to stop.
            if status == _NOT_ANSWERED:
                await ProblemError.busy("the service is stopping").response()(scope, receive, dressed_send)
        finally:
            leave()
            name = path if path in _KNOWN else "other"
            self._instruments.requests.labels(name, status).inc()
            self._instruments.seconds.labels(name).observe(time.perf_counter() - began)

    def _enter(self) -> None:
        if self._in_house >= self._config.queue:
            self._instruments.refused.inc()
            raise ProblemError.busy("too many requests are waiting: try again in a moment")
        self._in_house += 1
        self._instruments.in_flight.set(self._in_house)

    def _check(self, path: str, method: str, headers: Headers) -> None:
        """Refuse a request for what its first lines say."""
        if not path.isprintable():
            # A router may take a path for the same without its line's end, which this gate would not know.
            raise ProblemError(404, "there is nothing at an address that cannot be printed")
        if self._config.api_key is None:
            self._check_host(headers.get("host", ""))
        elif not (path in _OPEN or path.startswith(_OPEN_FOLDER)):
            self._check_key(headers.get("authorization", ""))
        if method not in _SAFE_METHODS:
            self._check_origin(headers.get("origin"), headers.get("host", ""))
        if path in _WORK and headers.get("content-encoding", "identity").lower() != "identity":
            raise ProblemError(415, "a compressed upload is not taken: send the recording without Content-Encoding")
        if "transfer-encoding" in headers and "content-length" in headers:
            # A proxy in front may go by the one and this server by the other (RFC 9112, section 11.2).
            raise ProblemError(400, "the request gives its length in two ways", {"Connection": "close"})
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._most_bytes:
            raise self._too_large()

    def _check_key(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        assert self._config.api_key is not None
        given, wanted = key.strip().encode("utf-8", "surrogateescape"), self._config.api_key.encode("ascii")
        if not hmac.compare_digest(given, wanted) or scheme.lower() != "bearer":
            wrong = "the API key is wrong" if key else "an API key is needed"
            raise ProblemError(
                401, f"{wrong}: send the header Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
            )

    def _check_host(self, host: str) -> None:
        """Without a key, only this machine's own names will do: another's name may point here (DNS rebinding)."""
        found = _HOST.fullmatch(host)
        name = found[1].lower().removesuffix(".") if found else ""
        if not (is_loopback(name) or name == self._config.host.lower()):
            raise ProblemError(421, "this service answers to localhost only, as long as it has no API key")

    def _check_origin(self, origin: str | None, host: str) -> None:
        """Keep other sites' pages from sending a visitor's browser here."""
        if origin is None or origin in self._config.cors_origin:
            return
        if origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise ProblemError(
                403,
                "pages of other sites may not ask: start serve.py with --cors_origin to let one; a proxy has to pass "
                "the header Host",
            )

    def _too_large(self) -> ProblemError:
        return ProblemError(413, f"the upload is larger than {self._config.max_megabytes:g} MB, the most that is taken")


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, which no other can reach."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
