"""The service without HTTP and without processes."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from audionet.errors import LimitError, RecordingError
from audionet.serving.app import make_api
from audionet.serving.config import ServeConfig
from audionet.serving.metrics import Metrics
from audionet.serving.problems import ProblemError
from audionet.serving.service import Service
from audionet.serving.uploads import Upload
from audionet.serving.worker import Frame, Job
from audionet.serving.worker_pool import CrashError, Network, Worker


class Mortal(Worker):
    """A worker that dies of every recording but those that it survives."""

    def __init__(self, survives: bool) -> None:
        self.busy = False
        self._survives = survives

    async def load(self, network: Network) -> None: ...

    def processor_seconds(self) -> float | None:
        return None

    async def frames(self, job: Job) -> AsyncIterator[Frame]:
        if not self._survives:
            raise CrashError("died")
        yield {"start": 0.0, "spans": 1.0}, b"jpg"


@pytest.mark.parametrize(("deaths", "answered"), [(0, True), (1, True), (2, False)])
def test_a_recording_is_tried_once_more_after_a_crash_and_not_again(
    tone_model: Path, monkeypatch: pytest.MonkeyPatch, deaths: int, answered: bool
) -> None:
    service = Service(ServeConfig(graph=tone_model), Metrics())
    left = [True, *[False] * deaths]

    @contextlib.asynccontextmanager
    async def acquire(timeout: float, client: str) -> AsyncIterator[Worker]:
        yield Mortal(left.pop())

    monkeypatch.setattr(service.workers, "acquire", acquire)
    answer = service.image(Upload(Path("clip.wav"), "clip.wav", "a"), None)
    if answered:
        assert asyncio.run(answer) == (b"jpg", 1.0)
    else:
        with pytest.raises(RecordingError, match="died"):
            asyncio.run(answer)
    assert len(left) == (0 if answered else 1)


def ask(service: Service, method: str, path: str, **content: Any) -> httpx.Response:
    """One request of a service without its server."""

    async def request() -> httpx.Response:
        transport = httpx.ASGITransport(make_api(service), raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, **content)

    return asyncio.run(request())


@pytest.mark.parametrize(
    ("number", "status", "detail"),
    [
        (errno.EMFILE, 503, "the service has too many open files; try again in a moment"),
        (errno.ENFILE, 503, "the service has too many open files; try again in a moment"),
        (errno.ENOSPC, 507, "the upload cannot be stored (No space left on device)"),
    ],
)
@pytest.mark.parametrize("form", [False, True])
def test_an_upload_that_cannot_be_stored_is_no_error_of_the_program(
    tone_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int, detail: str, form: bool
) -> None:
    def mkstemp(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("audionet.serving.uploads.tempfile.mkstemp", mkstemp)
    service = Service(ServeConfig(graph=tone_model), Metrics())
    service.folder = tmp_path
    sent = {"files": {"file": b"x"}} if form else {"content": b"x"}
    reply = ask(service, "POST", "/v1/classify", **sent)
    assert (reply.status_code, reply.json()["detail"]) == (status, detail)


@pytest.mark.parametrize(("number", "status"), [(errno.EMFILE, 503), (errno.ENOSPC, 507)])
def test_live_sound_that_cannot_be_stored_is_no_error_of_the_program(
    tone_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    def mkstemp(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("audionet.serving.uploads.tempfile.mkstemp", mkstemp)
    service = Service(ServeConfig(graph=tone_model), Metrics())
    service.folder = tmp_path
    for work in (
        service.hear(service.model, np.zeros(8000, np.int16), 16_000, "a"),
        service.decode(b"x", ".opus", "a"),
    ):
        with pytest.raises(ProblemError) as error:
            asyncio.run(work)
        assert error.value.status == status


def test_a_window_that_exceeds_a_limit_is_no_pause(
    tone_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(ServeConfig(graph=tone_model), Metrics())
    service.folder = tmp_path

    async def run(*_: object) -> None:
        raise LimitError("takes longer than 60 s")

    monkeypatch.setattr(service, "_run", run)
    with pytest.raises(LimitError, match="takes longer"):
        asyncio.run(service.hear(service.model, np.zeros(8000, np.int16), 16_000, "a"))


def test_out_of_files_anywhere_is_no_error_of_the_program(tone_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = Service(ServeConfig(graph=tone_model), Metrics())

    def describe() -> None:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(service, "describe", describe)
    assert ask(service, "GET", "/v1/model").status_code == 503
