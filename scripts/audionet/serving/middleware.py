"""Middleware in front of all routes: authentication, host and origin checks, and limits on load and size."""

from __future__ import annotations

import asyncio
import base64
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Sequence
from urllib.parse import unquote

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from audionet.serving.config import ServeConfig
from audionet.serving.metrics import Metrics
from audionet.serving.problems import ProblemError
from audionet.serving.uploads import client_of
from audionet.serving.worker_pool import FULL

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
_NO_RESPONSE = 499  # nginx's status for a client that disconnected
_HOST = re.compile(r"([A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+\])(?::\d+)?")
_PUBLIC_PATHS = frozenset({"/", "/docs", "/openapi.json", "/healthz", "/readyz"})
_PUBLIC_FOLDER = "/page/"
_SOCKET_PATH = "/v1/listen"
UPLOAD_PATHS = frozenset({"/v1/classify", "/v1/spectrogram", "/v1/explain", "/v1/enrolled", "/classify/", "/classify"})
_KNOWN_PATHS = _PUBLIC_PATHS | UPLOAD_PATHS | {_SOCKET_PATH, "/v1/model", "/v1/report", "/v1/reload", "/metrics"}
_OWN_SITES = frozenset({"none", "same-origin"})
"""Values of Sec-Fetch-Site for requests by a user and by this service's page."""

KEY_SUBPROTOCOL = "bearer."
"""Beginning of the WebSocket subprotocol that holds the API key."""

_ABSOLUTE_FORM = re.compile(rb"https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


class GuardMiddleware:
    """ASGI middleware that guards the service and counts its requests.

    Parameters
    ----------
    app : ASGI application
    config : ServeConfig
    metrics : Metrics
    is_full : callable
        Returns whether an upload of a client would find no place.
    """

    def __init__(
        self, app: ASGIApp, config: ServeConfig, metrics: Metrics, is_full: Callable[[str], bool] = lambda client: False
    ) -> None:
        self._app = app
        self._config = config
        self._metrics = metrics
        self._is_full = is_full
        self._max_bytes = round(config.max_megabytes * 1e6)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        scope = _with_origin_form(scope)
        if scope["type"] == "websocket":
            await self._open_socket(scope, receive, send)
            return
        path: str = scope["path"]
        method: str = scope["method"]
        if method == "HEAD":  # the server leaves the body out
            scope = {**scope, "method": "GET"}
        began, status = time.perf_counter(), _NO_RESPONSE
        sent_bytes = 0

        async def limited_receive() -> Message:
            nonlocal sent_bytes
            message = await receive()
            sent_bytes += len(message.get("body", b""))
            if sent_bytes > self._max_bytes:
                raise self._too_large()
            return message

        async def guarded_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(path, method, Headers(scope=scope))
            if path in UPLOAD_PATHS and method == "POST" and self._is_full(client_of(scope["client"])):
                raise ProblemError.busy(FULL)
            await self._app(scope, limited_receive, guarded_send)
        except ProblemError as problem:
            await problem.response()(scope, receive, guarded_send)
        except asyncio.CancelledError:
            # Only a server that has received a second signal to stop cancels a request.
            if status == _NO_RESPONSE:
                await ProblemError.busy("the service is stopping").response()(scope, receive, guarded_send)
        finally:
            name = path if path in _KNOWN_PATHS else "other"
            self._metrics.requests.labels(name, status).inc()
            if status == 503 and path in UPLOAD_PATHS:
                self._metrics.refused.inc()
            self._metrics.seconds.labels(name).observe(time.perf_counter() - began)

    async def _open_socket(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a WebSocket on, or refuse it with an HTTP response."""
        path, status = scope["path"], _NO_RESPONSE

        async def noted_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "websocket.accept":
                status = 101
            elif message["type"] == "websocket.http.response.start":
                status = message["status"]
            await send(message)

        try:
            # Any page may open a WebSocket to any host, so its origin counts as that of a request that changes things.
            self._check(path, "WEBSOCKET", Headers(scope=scope), _key_offered(scope["subprotocols"]))
            if path != _SOCKET_PATH:
                raise ProblemError(404, f"there is no WebSocket {path[:100]}; live sound goes to {_SOCKET_PATH}")
            await self._app(scope, receive, noted_send)
        except ProblemError as problem:
            await problem.response()(scope, receive, noted_send)
        finally:
            self._metrics.requests.labels(path if path in _KNOWN_PATHS else "other", status).inc()

    def _check(self, path: str, method: str, headers: Headers, key_offered: str = "") -> None:
        """Refuse a request on the basis of its path, method and headers."""
        if not path.isprintable():
            # A router may ignore a trailing line break of a path, which the comparisons below would not.
            raise ProblemError(404, "there is no route whose path contains unprintable characters")
        if self._config.api_key is None:
            self._check_host(headers.get("host", ""))
        elif not (path in _PUBLIC_PATHS or path.startswith(_PUBLIC_FOLDER)):
            self._check_key(headers.get("authorization", key_offered))
        if method not in _SAFE_METHODS:
            self._check_origin(headers.get("origin"), headers.get("host", ""), headers.get("sec-fetch-site", "none"))
        if path in UPLOAD_PATHS and headers.get("content-encoding", "identity").lower() != "identity":
            raise ProblemError(415, "compressed uploads are not accepted; send the recording without Content-Encoding")
        if "transfer-encoding" in headers and "content-length" in headers:
            # Request smuggling: a proxy may use one length and this server the other (RFC 9112, section 11.2).
            raise ProblemError(
                400, "the request has both Transfer-Encoding and Content-Length", {"Connection": "close"}
            )
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._max_bytes:
            raise self._too_large()

    def _check_key(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        assert self._config.api_key is not None
        given, wanted = key.strip().encode("utf-8", "surrogateescape"), self._config.api_key.encode("ascii")
        if not hmac.compare_digest(given, wanted) or scheme.lower() != "bearer":
            reason = "the API key is wrong" if key else "an API key is needed"
            raise ProblemError(
                401, f"{reason}; send the header Authorization: Bearer KEY", {"WWW-Authenticate": "Bearer"}
            )

    def _check_host(self, host: str) -> None:
        """Refuse foreign host names if there is no API key: such a name may resolve to this machine (DNS rebinding)."""
        found = _HOST.fullmatch(host)
        name = found[1].lower().removesuffix(".") if found else ""
        if not (is_loopback(name) or name == self._config.host.lower()):
            raise ProblemError(421, "without an API key, this service answers to localhost only")

    def _check_origin(self, origin: str | None, host: str, fetched_from: str) -> None:
        """Refuse requests that a page of another site makes in a visitor's browser."""
        if origin in self._config.cors_origin or (origin is None and fetched_from in _OWN_SITES):
            return
        if origin is None or origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
            raise ProblemError(
                403,
                "pages of other sites may not send requests; allow one with serve.py --cors_origin; a proxy must pass "
                "on the header Host",
            )

    def _too_large(self) -> ProblemError:
        return ProblemError(
            413, f"the upload is larger than {self._config.max_megabytes:g} MB, the limit of this service"
        )


def _key_offered(subprotocols: Sequence[str]) -> str:
    """Return the API key as an Authorization header from a WebSocket's subprotocols: pages can set no headers for it.

    A subprotocol may not contain all characters that a key may, so it comes as base64url, without padding.
    """
    offered = next((name for name in subprotocols if name.startswith(KEY_SUBPROTOCOL)), None)
    if offered is None:
        return ""
    encoded = offered.removeprefix(KEY_SUBPROTOCOL)
    try:
        key = base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4))
    except ValueError:
        return "Bearer"
    return f"Bearer {key.decode(errors='replace')}"


def _with_origin_form(scope: Scope) -> Scope:
    """Return the scope of a request whose target may be a whole URL, as for a proxy, with its path alone.

    The URL's host counts, not the header's (RFC 9112, section 3.2.2).
    """
    found = _ABSOLUTE_FORM.fullmatch(scope["raw_path"])
    if found is None or not found[1]:
        return scope
    raw_path = found[2] or b"/"
    headers = [(name, value) for name, value in scope["headers"] if name != b"host"]
    return {
        **scope,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "headers": [(b"host", found[1]), *headers],
    }


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is loopback, which no other machine can reach."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
