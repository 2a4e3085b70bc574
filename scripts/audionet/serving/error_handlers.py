"""Handlers that answer every error of a request with problem details (RFC 9457)."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, ValidationException, WebSocketRequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import BaseRoute, Match, Route
from starlette.websockets import WebSocket

from audionet.serving.problems import ProblemError
from audionet.serving.uploads import out_of_files

_CLIENT_CLOSED = Response(status_code=499)  # the client has closed the connection and does not receive it


def register_error_handlers(app: FastAPI, routes: Sequence[BaseRoute]) -> None:
    """Answer every error with problem details (RFC 9457); `routes` are the application's."""

    @app.exception_handler(ProblemError)
    async def problem(_: Request, error: ProblemError) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def http_exception(request: Request, error: HTTPException) -> Response:
        headers = dict(error.headers or {})
        if error.status_code == 405 and (allowed := _allowed_methods(request, routes)):
            headers["Allow"] = ", ".join(allowed)
        details = {
            404: f"there is no route {request.url.path[:100]}; see /docs for the routes",
            405: f"{request.method} is not allowed here; use {headers.get('Allow', 'another method')}",
        }
        detail = details.get(error.status_code, str(error.detail))
        return ProblemError(error.status_code, detail, headers).response()

    @app.exception_handler(RequestValidationError)
    async def validation(_: Request, error: RequestValidationError) -> Response:
        return _invalid(error).response()

    @app.exception_handler(WebSocketRequestValidationError)
    async def socket_validation(socket: WebSocket, error: WebSocketRequestValidationError) -> None:
        await socket.send_denial_response(_invalid(error).response())

    @app.exception_handler(ClientDisconnect)
    async def client_disconnected(_: Request, __: ClientDisconnect) -> Response:
        return _CLIENT_CLOSED

    @app.exception_handler(OSError)
    async def operating_system(_: Request, error: OSError) -> Response:
        if (problem := out_of_files(error)) is None:
            raise error
        return problem.response()

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return ProblemError(500, "internal error; see the log of the service").response()


def _allowed_methods(request: Request, routes: Sequence[BaseRoute]) -> list[str]:
    """Return the methods of all routes of a path: the exception names those of one of them."""
    here = [route for route in routes if route.matches(request.scope)[0] is not Match.NONE]
    return sorted({method for route in here if isinstance(route, Route) for method in route.methods or ()})


def _invalid(error: ValidationException) -> ProblemError:
    first = error.errors()[0]
    return ProblemError(422, f"{first['loc'][-1]}: {first['msg'][0].lower()}{first['msg'][1:]}")
