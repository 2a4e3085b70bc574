"""Pool of worker processes; those that crash or exceed their time are killed and replaced."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import NamedTuple

from audionet.errors import AudioNetError, BusyError, LimitError, ModelError, RecordingError, UnavailableError
from audionet.serving.worker import NETWORK, Frame, Job
from audionet.utils.text import escape

log = logging.getLogger("audionet.serve")

_POSIX = os.name == "posix"
_MAX_HEADER_BYTES = 1 << 16
_MAX_FRAME_BYTES = 1 << 28
_MAX_JOB_BYTES = 1 << 28
_ERRORS: dict[str, type[AudioNetError]] = {
    error.__name__: error for error in (RecordingError, LimitError, UnavailableError, ModelError)
}
FULL = "too many requests are waiting; try again in a moment"

_MOST_OVERBOOKED = 2
_START_SECONDS = 30.0
_KILL_SECONDS = 5.0
_RETRY_SECONDS = 1.0


class Network(NamedTuple):
    """A network that workers run: the SHA-256 of its .tflite file, and the file's content."""

    id: str
    content: bytes


class CrashError(RecordingError):
    """The worker process died while it was at work on a recording."""


class Worker:
    """A worker process, seen from the server."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._network_id: str | None = None
        self._processor_seconds = 0.0  # until the end of the last job
        self.busy = False

    @property
    def has_exited(self) -> bool:
        """True if the process has exited or was killed."""
        return self._process.returncode is not None

    @classmethod
    async def start(cls, megabytes: int, network: Network | None = None) -> Worker:
        """Start a process that may map `megabytes` of memory, and load a network.

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
            async with asyncio.timeout(_START_SECONDS):
                await worker._read_frame()
                if network is not None:
                    await worker.load(network)
        except BaseException as error:
            await worker.kill()
            if isinstance(error, TimeoutError | CrashError):
                raise OSError("a worker process does not start") from None
            if isinstance(error, AudioNetError):
                raise OSError(f"a worker process cannot load the network ({error})") from None
            raise
        return worker

    async def load(self, network: Network) -> None:
        """Load a network, unless it is the one that was loaded last.

        Raises
        ------
        ModelError, LimitError
            If the process cannot load it; the process is of no use then.
        CrashError
            If the process died.
        """
        if network.id == self._network_id:
            return
        self._network_id = None
        try:
            async for _ in self._frames(NETWORK + b"%d\n" % len(network.content) + network.content):
                pass
        except AudioNetError:
            self.busy = True  # so that the pool replaces it
            raise
        self._network_id = network.id

    async def frames(self, job: Job) -> AsyncIterator[Frame]:
        """Run a job and yield its frames.

        Raises
        ------
        RecordingError
            As `worker.frames` does.
        CrashError
            If the process died.
        """
        async for frame in self._frames(job.line()):
            yield frame

    async def _frames(self, request: bytes) -> AsyncIterator[Frame]:
        assert self._process.stdin is not None
        self.busy = True
        try:
            self._process.stdin.write(request)
            await self._process.stdin.drain()
        except ConnectionError:
            raise _crash() from None
        size = 0
        while True:
            header, content = await self._read_frame()
            if "error" in header:
                if "cause" in header:
                    log.warning("unexpected error in a worker: %s", escape(str(header["cause"])))
                self.busy = False
                raise _ERRORS.get(str(header["error"]), RecordingError)(escape(str(header.get("words"))))
            if "end" in header:
                try:
                    self._processor_seconds = float(header["processor_seconds"])
                except (KeyError, TypeError, ValueError):
                    raise _crash() from None
                self.busy = False
                return
            size += len(content)
            if size > _MAX_JOB_BYTES:
                raise _crash()
            yield header, content

    async def _read_frame(self) -> Frame:
        assert self._process.stdout is not None
        try:
            header = json.loads(await self._process.stdout.readline())
            if not 0 <= header["size"] <= _MAX_FRAME_BYTES:
                raise ValueError("invalid frame size")
            return header, await self._process.stdout.readexactly(header["size"])
        except (ValueError, LookupError, TypeError, EOFError, ConnectionError, RecursionError):
            raise _crash() from None

    def processor_seconds(self) -> float | None:
        """Return the processor time that the process has used for the job, seconds; None where the platform is silent.

        After an error, the job before counts as well.
        """
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") - self._processor_seconds

    async def kill(self) -> None:
        """Kill the process and its children."""
        assert self._process.stdout is not None
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if _POSIX:
                os.killpg(self._process.pid, signal.SIGKILL)
            else:
                self._process.kill()
        with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError):
            async with asyncio.timeout(_KILL_SECONDS):  # a process that has left the group may keep the pipe open
                while await self._process.stdout.read(1 << 20):  # wait() waits for the pipe's end, behind what it holds
                    pass
                await self._process.wait()


def _crash() -> CrashError:
    return CrashError("crashed the worker process or exhausted its memory")


class WorkerPool:
    """Pool of worker processes with a queue of bounded length, in which clients take turns.

    Each client's requests are served in order; of several clients, each gets a worker in turn, so that one with many
    requests does not delay the others. If the queue is full, a client with fewer places takes the place of the last
    waiting request of the client with most. Requests whose uploads began before it was full may overbook it, up to
    twice its length: refused then, they would have come in vain.

    Parameters
    ----------
    number : int
        Number of processes.
    megabytes : int
        Memory that each process may map, MB.
    places : int
        Number of requests that wait or are at work from which on the queue is full.
    network : Network or None
        Loaded by every process when it starts.
    on_replaced : callable, optional
        Called for each process that is replaced.
    """

    def __init__(
        self,
        number: int,
        megabytes: int,
        places: int,
        network: Network | None = None,
        on_replaced: Callable[[], object] = lambda: None,
    ) -> None:
        self._network = network
        self._number = number
        self._megabytes = megabytes
        self._places = places
        self._free: deque[Worker] = deque()
        self._waiting: OrderedDict[str, deque[asyncio.Future[Worker]]] = OrderedDict()
        self._taken: Counter[str] = Counter()
        self._all: set[Worker] = set()
        self._starting: set[asyncio.Task[None]] = set()
        self._on_replaced = on_replaced
        self._is_closing = False

    def __len__(self) -> int:
        """Return the number of requests that wait or are at work."""
        return self._taken.total()

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

    async def change_network(self, network: Network) -> None:
        """Change the network of processes that start from now on; those that run load it with their next job.

        Raises
        ------
        OSError
            If a process, started for a trial, cannot load it.
        """
        trial = await Worker.start(self._megabytes, network)
        self._network = network
        await trial.kill()

    def is_full(self, client: str) -> bool:
        """Return whether a further request of a client would be refused now."""
        return len(self) >= self._places and self._greediest(client) is None

    def _greediest(self, client: str) -> str | None:
        """Return the waiting client that has most places, if it would still have as many as `client` with one less."""
        greediest = max(self._waiting, key=self._taken.__getitem__, default=None)
        return greediest if greediest is not None and self._taken[greediest] > self._taken[client] + 1 else None

    @contextlib.asynccontextmanager
    async def acquire(self, timeout: float, client: str = "") -> AsyncIterator[Worker]:
        """Acquire a worker for one job of a client; it is replaced if the job is abandoned or crashes the process.

        Raises
        ------
        BusyError
            If the queue is overbooked, or no worker is free within `timeout` seconds.
        """
        if len(self) >= self._places:
            self._make_room(client)
        self._taken[client] += 1
        try:
            worker = await self._next_free(timeout, client)
            try:
                yield worker
            finally:
                if worker.busy or worker.has_exited:
                    self._discard(worker)
                else:
                    self._put(worker)
                    await asyncio.sleep(0)  # the next job goes to the worker before the answer is made of this one
        finally:
            self._taken[client] -= 1
            if not self._taken[client]:
                del self._taken[client]

    def _make_room(self, client: str) -> None:
        """Displace a request of the client with most places, or overbook the queue."""
        greediest = self._greediest(client)
        if greediest is None:
            if len(self) >= _MOST_OVERBOOKED * self._places:
                raise _full()
            return
        turns = self._waiting[greediest]
        turn = turns.pop()
        if not turns:
            del self._waiting[greediest]
        if not turn.done():  # else its client has disconnected in this moment, and makes room so
            turn.set_exception(_full())

    async def _next_free(self, timeout: float, client: str) -> Worker:
        try:
            async with asyncio.timeout(timeout):
                while (worker := await self._turn(client)).has_exited:
                    self._discard(worker)
                return worker
        except TimeoutError:
            raise BusyError("timed out waiting for a free worker; try again later") from None

    async def _turn(self, client: str) -> Worker:
        if self._free:
            return self._free.popleft()
        turn: asyncio.Future[Worker] = asyncio.get_running_loop().create_future()
        turns = self._waiting.setdefault(client, deque())
        turns.append(turn)
        try:
            return await turn
        except BaseException:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._put(turn.result())  # the client disconnected just as it was handed over
            elif turn in turns:
                turns.remove(turn)
                if not turns:
                    del self._waiting[client]
            raise

    def _put(self, worker: Worker) -> None:
        """Give a worker to the next client that waits, or keep it for the next request."""
        while self._waiting:
            client, turns = self._waiting.popitem(last=False)
            turn = turns.popleft()
            if turns:
                self._waiting[client] = turns  # behind the other clients
            if not turn.done():
                turn.set_result(worker)
                return
        self._free.append(worker)

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
            except Exception as error:  # as many as there are ways in which a process does not start
                log.error("%s; trying again", error)
                await asyncio.sleep(_RETRY_SECONDS)
            else:
                return

    async def _start(self) -> None:
        worker = await Worker.start(self._megabytes, self._network)
        self._all.add(worker)
        self._put(worker)


def _full() -> BusyError:
    return BusyError(FULL)
