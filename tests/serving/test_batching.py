"""Images from many requests, shown to the network together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audionet.audio.network_input import image_features
from audionet.inference.answer import ChunkAnswer
from audionet.inference.clip import ClipChunk
from audionet.inference.predictor import Predictor
from audionet.serving.batching import Batcher


@pytest.fixture(scope="module")
def predictor(tone_model: Path) -> Predictor:
    return Predictor(tone_model, threads=1)


@pytest.fixture(scope="module")
def jpgs(tone_model: Path) -> list[bytes]:
    return [path.read_bytes() for path in sorted((tone_model.parent / "data_image").glob("*/*_0000.jpg"))[:20]]


def submit(batcher: Batcher, predictor: Predictor, jpg: bytes, start: float = 0.0) -> asyncio.Future[ChunkAnswer]:
    features = image_features(jpg, predictor.input_size)
    statistics = features.statistics(predictor.statistics) if predictor.statistics else np.empty(0, np.float32)
    return batcher.submit(start, features.activity, -20.0, features.pixels[0], statistics)


def test_in_company_every_image_is_answered_as_if_it_were_alone(predictor: Predictor, jpgs: list[bytes]) -> None:
    async def together() -> list[ChunkAnswer]:
        batcher = Batcher(predictor, 8)
        await batcher.warm_up()
        return await asyncio.gather(*(submit(batcher, predictor, jpg, i) for i, jpg in enumerate(jpgs)))

    for i, answer in enumerate(asyncio.run(together())):
        alone = predictor.answer_chunk(ClipChunk(float(i), jpgs[i], -20.0), jpgs[i])
        for one, other in zip(answer, alone, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_comes_while_the_network_is_busy_is_its_next_batch(predictor: Predictor, jpgs: list[bytes]) -> None:
    sizes: list[int] = []

    async def burst() -> None:
        batcher = Batcher(predictor, 8, sizes.append)
        await asyncio.gather(*(submit(batcher, predictor, jpg) for jpg in jpgs))

    asyncio.run(burst())
    assert sizes == [1, 8, 8, 3]


def test_nobody_looks_at_what_nobody_waits_for(predictor: Predictor, jpgs: list[bytes]) -> None:
    sizes: list[int] = []

    async def impatient() -> None:
        batcher = Batcher(predictor, 8, sizes.append)
        first, *others = [submit(batcher, predictor, jpg) for jpg in jpgs[:6]]
        for answer in others[:4]:
            answer.cancel()
        await asyncio.gather(first, others[4])

    asyncio.run(impatient())
    assert sizes == [1, 1]


def test_a_network_that_fails_fails_those_who_asked_and_nobody_else(
    predictor: Predictor, jpgs: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    predict_batch: Callable[..., object] = predictor.predict_batch
    calls = threading.Event()

    def fails_once(*arguments: object) -> object:
        if not calls.is_set():
            calls.set()
            raise RuntimeError("no network")
        return predict_batch(*arguments)

    monkeypatch.setattr(predictor, "predict_batch", fails_once)

    async def ask() -> tuple[object, ChunkAnswer]:
        batcher = Batcher(predictor, 8)
        first, second = submit(batcher, predictor, jpgs[0]), submit(batcher, predictor, jpgs[1], 1.0)
        failed, answer = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(answer, ChunkAnswer)
        return failed, answer

    failed, answer = asyncio.run(ask())
    assert isinstance(failed, RuntimeError)
    assert answer.start == 1.0
