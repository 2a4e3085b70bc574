"""Decoding for strangers: what a job gives, what is refused, and processes that come back."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
import sys
import time
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.backbones.litert import Runner
from audionet.errors import BusyError, LimitError, RecordingError
from audionet.inference.clip import Clip
from audionet.inference.occlusion import OCCLUSIONS
from audionet.inference.predictor import Predictor
from audionet.serving.worker import Frame, Job, Limits, frames
from audionet.serving.worker_pool import Network, Worker, WorkerPool
from audionet.utils.arrays import FloatArray, UInt8Array
from tests.support.sounds import tone, write_tone

SPECTROGRAM = SpectrogramConfig(chunk_seconds=0.5)
LIMITS = Limits(10.0, 4, 96_000)


def job(path: Path, **changes: object) -> Job:
    return dataclasses.replace(Job(str(path), SPECTROGRAM, LIMITS), **changes)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_tone(tmp_path / "clip.wav", seconds=1.5)


@pytest.fixture(scope="module")
def network(tone_model: Path) -> Runner:
    return Runner(tone_model)


async def first_frames(worker: Worker, wanted: Job) -> list[Frame]:
    return [frame async for frame in worker.frames(wanted)]


def test_a_job_survives_being_sent(clip: Path) -> None:
    sent = job(clip, want="occlusions", chunk=2, chunks=(0, 2))
    assert Job.from_line(sent.line()) == sent


@pytest.mark.parametrize("batch", [1, 2, 8])
def test_outputs_of_every_chunk_then_the_length(tone_model: Path, clip: Path, batch: int) -> None:
    predictor = Predictor(tone_model)
    wanted = job(clip, statistics=predictor.statistics, batch=batch)
    *chunks, (end, nothing) = frames(wanted, Runner(predictor.network))
    assert [header["start"] for header, _ in chunks] == [0.0, 0.5, 1.0]
    assert (end, nothing) == ({"begin": 0.0, "seconds": 1.5, "remark": None}, b"")
    for (header, content), chunk in zip(chunks, Clip(clip, SPECTROGRAM), strict=True):
        assert chunk.jpg is not None
        output = predictor.predict_image(chunk.jpg)
        outputs = np.frombuffer(content, np.float32)[None]
        found = predictor.read_outputs(*np.split(outputs, [len(predictor.labels)], axis=1))
        np.testing.assert_array_equal(found.probabilities[0], output.probabilities)
        np.testing.assert_array_equal(found.embeddings[0], output.embedding)
        assert (header["level"], header["activity"]) == (chunk.level, output.features.activity)


def test_a_job_that_is_abandoned_leaves_the_network_to_the_next(clip: Path) -> None:
    at_work: list[int] = []
    together: list[int] = []

    class Slow:
        input_shapes = ((1, 64, 48, 3),)

        def run_all(self, pixels: UInt8Array) -> list[FloatArray]:
            at_work.append(1)
            time.sleep(0.1)
            together.append(len(at_work))
            at_work.pop()
            return [np.zeros((len(pixels), 2), np.float32)] * 2

    network = cast("Runner", Slow())
    found = frames(job(clip), network)
    next(found)
    found.close()
    short = write_tone(clip.with_name("short.wav"), seconds=0.5)
    assert len(list(frames(job(short), network))) == 2
    assert set(together) == {1}


def test_one_chunk_is_the_very_image(clip: Path) -> None:
    [(header, jpg)] = frames(job(clip, want="chunk", chunk=1))
    assert header == {"start": 0.5}
    assert jpg == list(Clip(clip, SPECTROGRAM))[1][1]


def test_occlusions_of_the_chunks_asked_for_then_the_clip(tone_model: Path, clip: Path) -> None:
    predictor = Predictor(tone_model)
    *chunks, (whole, levels), (end, _) = frames(job(clip, want="occlusions", chunks=(0, 2)), Runner(predictor.network))
    assert [header for header, _ in chunks] == [{"start": 0.0}, {"start": 1.0}]
    for (_, content), chunk in zip(chunks, list(Clip(clip, SPECTROGRAM))[::2], strict=True):
        assert chunk.jpg is not None
        level, output = predictor.predict_occluded(chunk.jpg)
        assert content.startswith(level.tobytes())
        outputs = np.frombuffer(content[level.nbytes :], np.float32).reshape(OCCLUSIONS, -1)
        found = predictor.read_outputs(*np.split(outputs, [len(predictor.labels)], axis=1))
        np.testing.assert_array_equal(found.embeddings, output.embeddings)
        np.testing.assert_array_equal(found.probabilities, output.probabilities)
    assert whole == {"start": 0.0, "spans": 1.5}
    level = np.frombuffer(levels, np.float32).reshape(SPECTROGRAM.rows, -1)
    assert level.shape[1] == 3 * SPECTROGRAM.frames
    assert 0 <= level.min() < level.max() <= 1
    assert end == {"begin": 0.0, "seconds": 1.5, "remark": None}


def test_a_silent_chunk_has_no_image(tmp_path: Path, network: Runner) -> None:
    path = tmp_path / "half.wav"
    soundfile.write(path, np.concatenate([np.zeros(8000), tone(440, 0.5)]), 16_000)
    found = list(frames(job(path), network))
    assert [bool(content) for _, content in found] == [False, True, False]
    with pytest.raises(RecordingError, match="is silent in chunk 0"):
        list(frames(job(path, want="chunk", chunk=0)))


def test_samples_are_those_of_the_recording(tmp_path: Path) -> None:
    path = tmp_path / "clip.wav"
    stereo = np.random.default_rng(0).integers(-3000, 3000, (80_000, 1), np.int16).repeat(2, axis=1)
    soundfile.write(path, stereo, 44_100)
    found = list(frames(job(path, want="samples")))
    assert {header["rate"] for header, _ in found} == {44_100}
    assert np.concatenate([np.frombuffer(block, np.int16) for _, block in found]) == pytest.approx(stereo[:, 0], abs=1)


@pytest.mark.parametrize("want", ["outputs", "clip", "chunk"])
def test_silence_is_refused(tmp_path: Path, network: Runner, want: str) -> None:
    path = tmp_path / "silence.wav"
    soundfile.write(path, np.zeros(16_000), 16_000)
    with pytest.raises(RecordingError, match="is silent"):
        list(frames(job(path, want=want), network))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"seconds": 1.0}, "is longer than 1 s"),
        ({"channels": 1}, "has 2 channels"),
        ({"rate": 8000}, "a sample rate of 16000 Hz"),
    ],
)
def test_what_is_too_much_is_refused(tmp_path: Path, limits: dict[str, float], words: str) -> None:
    path = tmp_path / "stereo.wav"
    soundfile.write(path, np.stack([tone(440, 1.5)] * 2, axis=1), 16_000)
    with pytest.raises(LimitError, match=words):
        list(frames(job(path, want="clip", limits=dataclasses.replace(LIMITS, **limits))))


def test_a_header_that_says_nothing_does_not_help(tmp_path: Path) -> None:
    path = tmp_path / "clip.flac"
    soundfile.write(path, tone(440, 3.0), 16_000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)  # the number of samples in STREAMINFO: unknown
    path.write_bytes(data)
    with pytest.raises(LimitError, match="is longer than 1 s"):
        list(frames(job(path, want="clip", limits=dataclasses.replace(LIMITS, seconds=1.0))))


def test_a_process_does_what_the_function_does(clip: Path, tone_model: Path, network: Runner) -> None:
    async def ask() -> list[Frame]:
        worker = await Worker.start(1024, Network("tones", tone_model.read_bytes()))
        try:
            return await first_frames(worker, job(clip))
        finally:
            await worker.kill()

    found = asyncio.run(ask())
    wanted = [(header | {"size": len(content)}, content) for header, content in frames(job(clip), network)]
    assert found == wanted


def test_an_error_comes_back_as_what_it_was_and_the_process_goes_on(clip: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()

    async def ask() -> None:
        worker = await Worker.start(1024)
        try:
            with pytest.raises(RecordingError, match="the file is empty"):
                await first_frames(worker, job(tmp_path / "empty.wav", want="clip"))
            with pytest.raises(LimitError, match="is longer than 1 s"):
                await first_frames(worker, job(clip, want="clip", limits=Limits(1.0, 4, 96_000)))
            assert not worker.busy
            assert len(await first_frames(worker, job(clip, want="clip"))) == 2
        finally:
            await worker.kill()

    asyncio.run(ask())


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="limits of memory are Linux's")
def test_a_recording_that_takes_too_much_memory_is_refused(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "clip.wav", seconds=590, rate=8000)
    # One chunk of ten minutes at this rate takes more than a process may map.
    spectrogram = SpectrogramConfig(chunk_seconds=600, sample_rate=96_000, max_frequency=40_000)
    wanted = Job(str(path), spectrogram, Limits(3600, 4, 96_000), "clip")

    async def ask() -> None:
        worker = await Worker.start(512)
        try:
            with pytest.raises(RecordingError, match="memory"):
                await first_frames(worker, wanted)
        finally:
            await worker.kill()

    asyncio.run(ask())


def test_a_process_that_dies_is_replaced_and_says_so(clip: Path) -> None:
    async def ask() -> None:
        gone: list[None] = []
        workers = WorkerPool(1, 1024, 64, None, lambda: gone.append(None))
        await workers.start()
        try:
            with pytest.raises(RecordingError, match="crashed the worker process"):
                async with workers.acquire(10) as worker:
                    os.kill(worker._process.pid, signal.SIGKILL)
                    await worker._process.wait()
                    await first_frames(worker, job(clip, want="clip"))
            async with workers.acquire(30) as worker:
                assert len(await first_frames(worker, job(clip, want="clip"))) == 2
            assert gone == [None]
        finally:
            await workers.close()

    asyncio.run(ask())


def test_a_process_that_died_while_nobody_looked_costs_nobody_an_answer(clip: Path) -> None:
    async def ask() -> None:
        workers = WorkerPool(1, 1024, 64)
        await workers.start()
        try:
            async with workers.acquire(10) as worker:
                pass
            os.kill(worker._process.pid, signal.SIGKILL)
            await worker._process.wait()
            async with workers.acquire(30) as worker:
                assert len(await first_frames(worker, job(clip, want="clip"))) == 2
        finally:
            await workers.close()

    asyncio.run(ask())


def test_a_process_that_says_too_much_is_killed_all_the_same() -> None:
    async def ask() -> float:
        code = "import sys, time; sys.stdout.write('x' * (1 << 20)); sys.stdout.flush(); time.sleep(60)"
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", code, stdin=pipe, stdout=pipe, limit=1 << 10, start_new_session=True
        )
        await asyncio.sleep(0.5)  # until its pipe is full
        began = time.monotonic()
        await Worker(process).kill()
        assert process.returncode is not None
        return time.monotonic() - began

    assert asyncio.run(ask()) < 4


def test_who_leaves_in_the_middle_leaves_no_process_behind(clip: Path) -> None:
    async def ask() -> int:
        workers = WorkerPool(1, 1024, 64)
        await workers.start()
        try:
            async with workers.acquire(10) as worker:
                async for _ in worker.frames(job(clip, want="clip")):
                    break
            async with workers.acquire(30) as other:
                assert other is not worker
            return worker._process.pid
        finally:
            await workers.close()

    pid = asyncio.run(ask())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_patience_ends() -> None:
    async def ask() -> None:
        workers = WorkerPool(1, 1024, 64)
        await workers.start()
        try:
            async with workers.acquire(10):
                with pytest.raises(BusyError, match="try again later"):
                    async with workers.acquire(0.01):
                        pass
        finally:
            await workers.close()

    asyncio.run(ask())
