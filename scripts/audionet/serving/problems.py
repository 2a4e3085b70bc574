"""Errors of requests as problem details for HTTP APIs (RFC 9457)."""

from __future__ import annotations

import json
from http import HTTPStatus

from starlette.responses import Response

from audionet.errors import (
    AudioNetError,
    BusyError,
    DatasetError,
    LimitError,
    ModelError,
    RecordingError,
    UnavailableError,
    UsageError,
)

PROBLEM_JSON = "application/problem+json"

_RETRY_SOON = {"Retry-After": "1"}
_STATUS: tuple[tuple[type[AudioNetError], int], ...] = (
    (LimitError, 413),
    (UnavailableError, 415),
    (RecordingError, 422),
    (DatasetError, 422),
    (UsageError, 422),
    (BusyError, 503),
    (ModelError, 409),
)


class ProblemError(Exception):
    """A request that is refused or has failed, with the reason.

    Parameters
    ----------
    status : int
        HTTP status code.
    detail : str
        One sentence, in the user's terms.
    headers : dict of str to str, optional
    """

    def __init__(self, status: int, detail: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = headers or {}

    @classmethod
    def busy(cls, detail: str) -> ProblemError:
        """Return a 503 problem that asks the client to retry soon."""
        return cls(503, detail, _RETRY_SOON)

    @classmethod
    def of(cls, error: AudioNetError, name: str | None = None) -> ProblemError:
        """Return the problem for an error, with the command line's message after the name of the file, if any."""
        status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
        return cls(status, f"{name}: {error}" if name else str(error), _RETRY_SOON if status == 503 else None)

    @property
    def content(self) -> bytes:
        """The problem as JSON."""
        title = HTTPStatus(self.status).phrase
        fields = {"type": "about:blank", "title": title, "status": self.status, "detail": self.detail}
        return json.dumps(fields).encode("ascii")

    def response(self) -> Response:
        """Return the problem as a response."""
        return Response(self.content, self.status, self.headers, PROBLEM_JSON)
