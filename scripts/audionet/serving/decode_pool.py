"""The processes that decode for a service: lent one by one, killed when they take too long, replaced when they die."""

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
from audionet.serving.decode_worker import Frame, Job

log = logging.getLogger("audionet.serve")

DIED = "ended the process that decoded it, by a crash or for want of memory"

_POSIX = os.name == "posix"
_LONGEST_LINE = 1 << 16  # bytes of a frame's header
_LARGEST_FRAME = 1 << 28  # bytes
_ERRORS: dict[str, type[RecordingError]] = {
    error.__name__: error for error in (RecordingError, LimitError, UnavailableError)
}
_START_SECONDS = 30.0
_RETRY_SECONDS = 1.0


class Decoder:
    """One process of `sandbox`."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.busy = False

    @property
    def is_gone(self) -> bool:
        """Whether the process has ended, whoever ended it."""
        return self._process.returncode is not None

    @classmethod
    async def start(cls, megabytes: int) -> Decoder:
        """Start a process that may map so much memory.

        Raises
        ------
        OSError
            If it does not come up.
        """
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "audionet.serving.decode_worker", str(megabytes)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LONGEST_LINE,
            cwd=Path(__file__).resolve().parents[2],  # from where -m imports, before anywhere else
            # One thread each: there is a process for every core.
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            start_new_session=_POSIX,  # so that ffmpeg dies with it
        )
        decoder = cls(process)
        try:
            await asyncio.wait_for(decoder._frame(), _START_SECONDS)
        except (TimeoutError, RecordingError):
            await decoder.kill()
            raise OSError("a process for decoding does not start") from None
        return decoder

    async def frames(self, job: Job) -> AsyncIterator[Frame]:
        """What comes of a job.

        Raises
        ------
        RecordingError
            As `sandbox.frames` does, or because the process ended.
        """
        assert self._process.stdin is not None
        self.busy = True
        try:
            self._process.stdin.write(job.line())
            await self._process.stdin.drain()
        except ConnectionError:
            raise RecordingError(DIED) from None
        while True:
            header, content = await self._frame()
            if "error" in header:
                self.busy = False
                if "cause" in header:
                    log.warning("a decoder was surprised: %s", header["cause"])
                raise _ERRORS.get(header["error"], RecordingError)(str(header["words"]))
            if "end" in header:
                self.busy = False
                return
            yield header, content

    async def _frame(self) -> Frame:
        assert self._process.stdout is not None
        try:
            header = json.loads(await self._process.stdout.readline())
            if not 0 <= header["size"] <= _LARGEST_FRAME:
                raise ValueError("no frame of ours is that large")
            return header, await self._process.stdout.readexactly(header["size"])
        except (ValueError, LookupError, TypeError, EOFError, ConnectionError):
            raise RecordingError(DIED) from None

    async def kill(self) -> None:
        """End the process, and what it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _POSIX:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        await self._process.wait()


class DecodePool:
    """Processes to decode with, lent in the order in which they are asked for.

    Parameters
    ----------
    number : int
    megabytes : int
        Memory that each may map.
    on_replaced : callable, optional
        Called for each that has to go.
    """

    def __init__(self, number: int, megabytes: int, on_replaced: Callable[[], object] = lambda: None) -> None:
        self._number = number
        self._megabytes = megabytes
        self._free: asyncio.Queue[Decoder] = asyncio.Queue()
        self._all: set[Decoder] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._on_replaced = on_replaced
        self._is_closing = False

    async def start(self) -> None:
        """Start them all; returns when they are ready."""
        await asyncio.gather(*(self._start() for _ in range(self._number)))

    async def close(self) -> None:
        """End them all."""
        self._is_closing = True
        for task in self._starting:
            task.cancel()
        while self._starting:
            await asyncio.gather(*self._starting, return_exceptions=True)
        await asyncio.gather(*(decoder.kill() for decoder in self._all))
        self._all.clear()

    @contextlib.asynccontextmanager
    async def acquire(self, patience: float) -> AsyncIterator[Decoder]:
        """A decoder for one job; where it was left in the middle of that, or died of it, another takes its place.

        Raises
        ------
        BusyError
            If none is free within `patience` seconds.
        """
        try:
            while (decoder := await asyncio.wait_for(self._free.get(), patience)).is_gone:
                self._dismiss(decoder)
        except TimeoutError:
            raise BusyError("its turn did not come in time: try again later") from None
        try:
            yield decoder
        finally:
            if decoder.busy:
                self._dismiss(decoder)
            else:
                self._free.put_nowait(decoder)

    def _dismiss(self, decoder: Decoder) -> None:
        self._all.discard(decoder)
        self._on_replaced()
        task = asyncio.get_running_loop().create_task(self._replace(decoder))
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)

    async def _replace(self, decoder: Decoder) -> None:
        await decoder.kill()
        while not self._is_closing:
            try:
                await self._start()
            except OSError as error:
                log.error("%s; trying again", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _start(self) -> None:
        decoder = await Decoder.start(self._megabytes)
        self._all.add(decoder)
        self._free.put_nowait(decoder)
