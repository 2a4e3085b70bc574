"""The service without HTTP and without processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from audionet.errors import RecordingError
from audionet.serving.config import ServeConfig
from audionet.serving.metrics import Metrics
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
