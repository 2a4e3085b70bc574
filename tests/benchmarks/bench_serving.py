"""How much does HTTP cost, and what happens when more is asked than can be answered?

Bars: throughput of 3 s WAV uploads at least 80 % of the bare Predictor's in a loop on the same cores; the 99th
percentile at 70 % of that throughput at most four times a lone request; at ten times as much as can be answered nothing
but answers and 503, at least 70 % of the undisturbed answers a second, and no growing memory over 10,000 requests;
among 64 connections that only announce an upload, good requests all answered, in at most twice their time; from start
to ready under two seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from measuring import ROOT, arguments, demo_model, machine, ratio

from audionet.utils.process import available_cores

CONNECTIONS = 16
SECONDS = 6.0
OVERLOAD = 10_000
ANNOUNCED = 64
PATIENCE = 30.0


class Reply(NamedTuple):
    status: int
    seconds: float


class Connection(asyncio.Protocol):
    """One kept-alive connection, one request at a time; as light as a load generator has to be."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport
        self._received = bytearray()
        self._reply: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, mark, body = bytes(self._received).partition(b"\r\n\r\n")
        if mark and len(body) >= int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]):
            self._received.clear()
            assert self._reply is not None
            self._reply.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(ConnectionError("the server hung up"))

    async def ask(self, request: bytes, began: float) -> Reply:
        self._reply = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        status = await asyncio.wait_for(self._reply, PATIENCE)
        return Reply(status, time.perf_counter() - began)


async def connect(port: int, number: int) -> list[Connection]:
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(Connection, "127.0.0.1", port))[1] for _ in range(number)]


async def closed_loop(port: int, request: bytes, connections: int, seconds: float) -> list[Reply]:
    """Each connection asks again as soon as it is answered."""
    end = time.perf_counter() + seconds

    async def one(connection: Connection) -> list[Reply]:
        replies = []
        while (now := time.perf_counter()) < end:
            replies.append(await connection.ask(request, now))
        return replies

    found = await asyncio.gather(*(one(connection) for connection in await connect(port, connections)))
    return [reply for replies in found for reply in replies]


async def open_loop(
    port: int, request: bytes, rate: float, number: int, connections: int, even: bool = False
) -> list[Reply]:
    """Requests at random times or evenly, so many a second on average, whether or not the others have been answered.

    A request's time begins when it was due, also where no connection was free then.
    """
    free: asyncio.Queue[Connection] = asyncio.Queue()
    for connection in await connect(port, connections):
        free.put_nowait(connection)
    generator = random.Random(0)
    replies: list[Reply] = []

    async def one(due: float) -> None:
        connection = await free.get()
        try:
            replies.append(await connection.ask(request, due))
        finally:
            free.put_nowait(connection)

    due = time.perf_counter()
    tasks = []
    for _ in range(number):
        due += 1 / rate if even else generator.expovariate(rate)
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        tasks.append(asyncio.create_task(one(due)))
    await asyncio.gather(*tasks)
    return replies


@contextlib.contextmanager
def server(graph: Path, *flags: str) -> Iterator[tuple[int, int, float]]:
    """A service of its own: its port, its process and the seconds that it took to get ready."""
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "scripts" / "serve.py"), f"--graph={graph}", "--port=0", *flags]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz") as answer:
        assert json.load(answer) == {"status": "ready"}
    try:
        yield port, process.pid, time.perf_counter() - began
    finally:
        process.terminate()
        assert process.wait(60) == 0


def memory(pid: int) -> float:
    """Megabytes of a process and its children: what is theirs alone, and their share of the rest."""
    total = 0
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    for one in [str(pid), *children]:
        lines = Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()
        total += next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def bare(graph: Path, clip: Path, seconds: float, threads: int) -> float:
    """Clips a second that a Predictor answers in a loop."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from audionet.inference.predictor import Predictor

    predictor = Predictor(graph, threads=threads)
    predictor.answer(clip)
    number, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        predictor.answer(clip)
        number += 1
    return number / (time.perf_counter() - began)


def request_of(clip: Path, path: str = "/v1/classify") -> bytes:
    body = clip.read_bytes()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: audio/wav\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def percentile(replies: list[Reply], share: float) -> float:
    """Milliseconds."""
    times = sorted(reply.seconds for reply in replies)
    return 1000 * times[min(len(times) - 1, int(share * len(times)))]


def main() -> None:
    options = arguments(__doc__)
    cores = available_cores()
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        graph = demo_model(Path(name))
        clip = sorted((Path(name) / "wav").glob("*/*.wav"))[0]
        request = request_of(clip)

        ready = []
        for _ in range(options.rounds):
            with server(graph) as (_, _, seconds):
                ready.append(seconds)
        print(f"start to ready    {statistics.median(ready):.2f} s ({min(ready):.2f} to {max(ready):.2f})   bar 2")

        loops, apart, served = [], [], []
        with server(graph) as (port, _, _), multiprocessing.get_context("spawn").Pool(cores) as pool:
            asyncio.run(closed_loop(port, request, CONNECTIONS, 1))
            for _ in range(options.rounds):
                loops.append(pool.apply(bare, (graph, clip, SECONDS / 2, cores)))
                apart.append(sum(pool.starmap(bare, [(graph, clip, SECONDS / 2, 1)] * cores)))
                replies = asyncio.run(closed_loop(port, request, CONNECTIONS, SECONDS))
                assert {reply.status for reply in replies} == {200}
                served.append(len(replies) / SECONDS)
            print(f"bare Predictor    {statistics.median(loops):.0f} clips/s in a loop, all cores in the network")
            print(f"                  {statistics.median(apart):.0f} clips/s, a loop on each core")
            print(f"over HTTP         {statistics.median(served):.0f} clips/s, load generator on the same cores")
            print(
                f"ratios            {ratio(served, loops)} of the loop   bar 0.8;  {ratio(served, apart)} of the loops"
            )

            lone = asyncio.run(closed_loop(port, request, 1, SECONDS))
            rate = 0.7 * statistics.median(served)
            print(f"a lone request    {percentile(lone, 0.5):.1f} ms median, {percentile(lone, 0.99):.1f} ms p99")
            for how, even in (("at random", False), ("evenly", True)):
                number = round(rate * 2 * SECONDS)
                loaded = asyncio.run(open_loop(port, request, rate, number, 4 * CONNECTIONS, even))
                assert {reply.status for reply in loaded} == {200}
                p99 = percentile(loaded, 0.99)
                times = p99 / percentile(lone, 0.5)
                print(
                    f"at {rate:.0f} a second   {percentile(loaded, 0.5):.1f} ms median, {p99:.1f} ms p99, coming {how}"
                )
                print(f"                  {times:.1f} times the lone request's median   bar 4")

        with server(graph) as (port, pid, _):
            asyncio.run(closed_loop(port, request, CONNECTIONS, 2))
            before = memory(pid)
            rate = 10 * statistics.median(served)
            replies, peak, seconds = asyncio.run(overload(port, pid, request, rate))
            counted = Counter(reply.status for reply in replies)
            answered = [reply for reply in replies if reply.status == 200]
            print(f"{OVERLOAD} requests, {rate:.0f} a second asked, {len(replies) / seconds:.0f} sent: {dict(counted)}")
            p99 = percentile(answered, 0.99)
            print(f"                  {len(answered) / seconds:.0f} answered a second, p99 {p99:.0f} ms")
            share = len(answered) / seconds / statistics.median(served)
            print(f"                  {share:.2f} of the undisturbed answers a second   bar 0.7")
            print(f"memory            {before:.0f} MB before, {peak:.0f} MB at most, {memory(pid):.0f} MB after")

        with server(graph) as (port, _, _):
            asyncio.run(closed_loop(port, request, 4, 1))
            alone, attacked = [], []
            for _ in range(options.rounds):
                alone += asyncio.run(closed_loop(port, request, 4, SECONDS / 2))
                attacked += asyncio.run(among_announced(port, request, SECONDS / 2))
            counted = Counter(reply.status for reply in attacked)
            times = percentile(attacked, 0.5) / percentile(alone, 0.5)
            print(f"among {ANNOUNCED} announced uploads: {dict(counted)}")
            print(f"                  {times:.2f} times the time without them   bar 2")


async def among_announced(port: int, request: bytes, seconds: float) -> list[Reply]:
    """Good requests while other connections announce an upload and never send it, again and again."""
    head, _, _ = request.partition(b"\r\n\r\n")

    async def announce() -> None:
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            try:
                writer.write(head + b"\r\n\r\n")
                await reader.read()
            finally:
                writer.close()

    attackers = [asyncio.create_task(announce()) for _ in range(ANNOUNCED)]
    await asyncio.sleep(0.5)
    try:
        return await closed_loop(port, request, 4, seconds)
    finally:
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)


async def overload(port: int, pid: int, request: bytes, rate: float) -> tuple[list[Reply], float, float]:
    """Far too many requests, watching the memory."""
    peak = 0.0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, await asyncio.to_thread(memory, pid))
            await asyncio.sleep(0.5)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    replies = await open_loop(port, request, rate, OVERLOAD, 256)
    seconds = time.perf_counter() - began
    watching.cancel()
    return replies, peak, seconds


if __name__ == "__main__":
    main()
