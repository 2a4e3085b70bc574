"""Pool of worker processes; those that crash or exceed their time are killed and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from audionet.errors import BusyError, LimitError, RecordingError, UnavailableError
from audionet.serving.worker import Frame, Job

log = logging.getLogger("audionet.serve")

CRASHED = "crashed the worker process or exhausted its memory"

_POSIX = os.name == "posix"
_MAX_HEADER_BYTES = 1 << 16
_MAX_FRAME_BYTES = 1 << 28
_ERRORS: dict[str, type[RecordingError]] = {
    error.__name__: error for error in (RecordingError, LimitError, UnavailableError)
}
_START_SECONDS = 30.0
_RETRY_SECONDS = 1.0


class Worker:
    """One process of `worker`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.busy = False

    @property
    def has_exited(self) -> bool:
        """True if the process has exited or was killed."""
        return self._process.returncode is not None

    @classmethod
    async def start(cls, megabytes: int) -> Worker:
        """Start a process that may map `megabytes` of memory.

        Raises
        ------
        OSError
            If the process does not become ready.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "audionet.serving.worker", str(megabytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_MAX_HEADER_BYTES,
            cwd=Path(__file__).resolve().parents[2],  # the first folder that -m imports from
            # One thread each: there is a process for every core.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=_POSIX,  # so that ffmpeg dies with it
        )
        worker = cls(process)
        try:
            await asyncio.wait_for(worker._read_frame(), _START_SECONDS)
        except (TimeoutError, RecordingError):
            await worker.kill()
            raise OSError("a worker process does not start") from None
        return worker

    async def frames(self, job: Job) -> AsyncIterator[Frame]:
        """Run a job and yield its frames.

        Raises
        ------
        RecordingError
            As `worker.frames` does, or because the process crashed.
        """
        assert self._process.stdin is not None
        self.busy = True
        try:
            self._process.stdin.write(job.line())
            await self._process.stdin.drain()
        except ConnectionError:
            raise RecordingError(CRASHED) from None
        while True:
            header, content = await self._read_frame()
            if "error" in header:
                self.busy = False
                if "cause" in header:
                    log.warning("unexpected error in a worker: %s", header["cause"])
                raise _ERRORS.get(header["error"], RecordingError)(str(header["words"]))
            if "end" in header:
                self.busy = False
                return
            yield header, content

    async def _read_frame(self) -> Frame:
        assert self._process.stdout is not None
        try:
            header = json.loads(await self._process.stdout.readline())
            if not 0 <= header["size"] <= _MAX_FRAME_BYTES:
                raise ValueError("invalid frame size")
            return header, await self._process.stdout.readexactly(header["size"])
        except (ValueError, LookupError, TypeError, EOFError, ConnectionError):
            raise RecordingError(CRASHED) from None

    async def kill(self) -> None:
        """Kill the process and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _POSIX:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        await self._process.wait()


class WorkerPool:
    """Pool of worker processes, acquired first come, first served.

    Parameters
    ----------
    number : int
        Number of processes.
    megabytes : int
        Memory that each process may map, MB.
    on_replaced : callable, optional
        Called for each process that is replaced.
    """

    def __init__(self, number: int, megabytes: int, on_replaced: Callable[[], object] = lambda: None) -> None:
        self._number = number
        self._megabytes = megabytes
        self._free: asyncio.Queue[Worker] = asyncio.Queue()
        self._all: set[Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._on_replaced = on_replaced
        self._is_closing = False

    async def start(self) -> None:
        """Start all processes and wait until they are ready."""
        await asyncio.gather(*(self._start() for _ in range(self._number)))

    async def close(self) -> None:
        """Kill all processes."""
        self._is_closing = True
        for task in self._starting:
            task.cancel()
        while self._starting:
            await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(worker.kill() for worker in self._all))
        self._all.clear()

    @contextlib.asynccontextmanager
    async def acquire(self, timeout: float) -> AsyncIterator[Worker]:
        """Acquire a worker for one job; it is replaced if the job is abandoned or crashes the process.

        Raises
        ------
        BusyError
            If none is free within `timeout` seconds.
        """
        try:
            while (worker := await asyncio.wait_for(self._free.get(), timeout)).has_exited:
                self._discard(worker)
        except TimeoutError:
            raise BusyError("timed out waiting for a free worker; try again later") from None
        try:
            yield worker
        finally:
            if worker.busy:
                self._discard(worker)
            else:
                self._free.put_nowait(worker)

    def _discard(self, worker: Worker) -> None:
        self._all.discard(worker)
        self._on_replaced()
        task = asyncio.get_running_loop().create_task(self._replace(worker))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _replace(self, worker: Worker) -> None:
        await worker.kill()
        while not self._is_closing:
            try:
                await self._start()
            except OSError as error:
                log.error("%s; trying again", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _start(self) -> None:
        worker = await Worker.start(self._megabytes)
        self._all.add(worker)
        self._free.put_nowait(worker)
