"""`serve.py` as a process of its own, and ways to talk to it that no well-behaved client knows."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import psutil
import soundfile
from numpy.typing import NDArray

from audionet.serving.config import API_KEY_VARIABLE
from tests.support.sounds import ROOT, tone

PROBLEM = "application/problem+json"
DEADLINE = 30.0
"""Seconds after which what has not happened never will."""

_LISTENS = re.compile(r"AudioNet listens on (http://\S+)\n")
_MODEL_FILES = (
    "retrained_graph.tflite",
    "retrained_model.json",
    "retrained_model.npz",
    "retrained_labels.txt",
)


class Reply(NamedTuple):
    """An answer: status, header fields and body."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def detail(self) -> str:
        """What a problem says; asserts that it is one as we promise them, in one sentence on one line."""
        assert self.headers["Content-Type"] == PROBLEM, (self.status, self.headers.items(), self.body[:300])
        content = json.loads(self.body)
        assert set(content) == {"type", "title", "status", "detail"}
        assert content["status"] == self.status
        detail: str = content["detail"]
        assert detail.strip() == detail
        assert detail
        assert detail.isprintable(), detail
        assert len(detail) < 400, detail
        return detail


@dataclass
class Serving:
    """A running server."""

    url: str
    process: subprocess.Popen[str]
    temporary: Path
    api_key: str | None = None
    complaints: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.url.removeprefix("http://").rpartition(":")
        return host.strip("[]"), int(port)

    @property
    def host(self) -> str:
        """As it stands in the request's Host."""
        return self.url.removeprefix("http://")

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=DEADLINE)

    def ask(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Reply:
        """One request on a connection of its own."""
        given = dict(headers or {})
        if self.api_key is not None:
            given.setdefault("Authorization", f"Bearer {self.api_key}")
        connection = self.connection()
        try:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before it was all sent
                connection.request(method, path, body, given, **options)
            response = connection.getresponse()
            return Reply(response.status, response.headers, response.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Reply:
        return self.ask("GET", path, headers=headers)

    def post(self, path: str, body: Any = b"", headers: Mapping[str, str] | None = None, **options: Any) -> Reply:
        return self.ask("POST", path, body, headers, **options)

    def form(self, path: str, content: bytes, filename: str = "clip.wav", **options: Any) -> Reply:
        """A recording sent as forms of browsers and of `curl -F` are."""
        body, kind = multipart(content, filename, **options)
        return self.post(path, body, {"Content-Type": kind})

    def classify(self, content: bytes) -> Any:
        reply = self.post("/v1/classify", content)
        assert reply.status == 200, reply.body
        return reply.json

    @contextlib.contextmanager
    def raw(self) -> Iterator[socket.socket]:
        with socket.create_connection(self.address, timeout=DEADLINE) as connection:
            yield connection

    @contextlib.contextmanager
    def held_back(
        self, promised: int = 1000, sent: bytes = b"x", path: str = "/v1/classify"
    ) -> Iterator[socket.socket]:
        """An upload of which only the beginning comes; the server has let it in when the block is entered."""
        before = self.gauge("audionet_requests_in_flight")
        with self.raw() as connection:
            connection.sendall(self.head("POST", path, {"Content-Length": str(promised)}) + sent)
            self.wait_for_gauge("audionet_requests_in_flight", before + 1)
            yield connection

    def head(self, method: str, path: str, headers: Mapping[str, str] | None = None, version: str = "1.1") -> bytes:
        """A request's head, to the byte."""
        fields = {"Host": self.host} | dict(headers or {})
        if self.api_key is not None:
            fields.setdefault("Authorization", f"Bearer {self.api_key}")
        lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def gauge(self, name: str) -> float:
        """A number out of /metrics; 0 where it is not there."""
        found = re.search(rf"^{re.escape(name)} (\S+)$", self.get("/metrics").body.decode(), re.MULTILINE)
        return float(found[1]) if found else 0.0

    def wait_for_gauge(self, name: str, value: float) -> None:
        wait_until(lambda: self.gauge(name) == value, f"{name} to become {value}")

    def workers(self) -> list[psutil.Process]:
        """The processes that decode."""
        return [
            child
            for child in psutil.Process(self.process.pid).children()
            if child.is_running() and child.status() != psutil.STATUS_ZOMBIE
        ]

    def files(self) -> list[str]:
        """What lies in its temporary folder, however deep; names only."""
        return [path.name for path in self.temporary.rglob("*")]


@contextlib.contextmanager
def serving(
    graph: Path,
    *flags: object,
    temporary: Path,
    environment: Mapping[str, str] | None = None,
    api_key: str | None = None,
    exit_code: int | None = 0,
    prefix: tuple[str, ...] = (),
) -> Iterator[Serving]:
    """A server for as long as the block lasts; then SIGTERM, unless it has ended, and the exit code is asserted.

    Parameters
    ----------
    graph : Path
    flags : object
        More flags.
    temporary : Path
        An empty folder of the server's own for what it writes; asserted to be empty again in the end.
    environment : dict of str to str, optional
        What to add to the environment.
    api_key : str, optional
        Sent with every request; the server gets it by a flag or the environment.
    exit_code : int or None
        None: any will do, and what is left in the folder too.
    prefix : tuple of str
        A command to start it with, such as prlimit.
    """
    temporary.mkdir(parents=True, exist_ok=True)
    process = subprocess.Popen(
        [*prefix, *command(graph, *flags)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="backslashreplace",
        env=clean_environment() | {"TMPDIR": str(temporary)} | dict(environment or {}),
    )
    server = Serving("", process, temporary, api_key)
    lines: queue.Queue[str] = queue.Queue()
    readers = [
        threading.Thread(target=_drain, args=(process.stdout, lines.put), daemon=True),
        threading.Thread(target=_drain, args=(process.stderr, server.complaints.append), daemon=True),
    ]
    for reader in readers:
        reader.start()
    try:
        found = _LISTENS.fullmatch(_first(lines, process))
        assert found is not None, server.complaints
        server.url = found[1]
        yield server
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(DEADLINE)
        assert exit_code in (None, code), (code, server.complaints)
    finally:
        process.kill()
        process.wait()
        for reader in readers:
            reader.join()
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()
    if exit_code is not None:
        assert server.files() == []


def command(graph: Path, *flags: object) -> list[str]:
    """How a user starts it."""
    script = str(ROOT / "scripts" / "serve.py")
    given = [str(flag) for flag in flags]
    defaults = {"--port": 0, "--workers": 2}
    settings = [f"{name}={value}" for name, value in defaults.items() if name not in given]
    return [sys.executable, script, f"--graph={graph}", *settings, *given]


def clean_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != API_KEY_VARIABLE}


def fails_to_start(graph: Path, *flags: object, environment: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Exit code and stderr of a server that cannot start."""
    done = subprocess.run(
        command(graph, *flags),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env=clean_environment() | dict(environment or {}),
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def _drain(stream: Any, take: Callable[[str], object]) -> None:
    for line in stream:
        take(line)


def _first(lines: queue.Queue[str], process: subprocess.Popen[str]) -> str:
    deadline = time.monotonic() + DEADLINE
    while time.monotonic() < deadline:
        with contextlib.suppress(queue.Empty):
            return lines.get(timeout=0.1)
        if process.poll() is not None:
            return ""
    return ""


def wait_until(holds: Callable[[], bool], what: str, seconds: float = DEADLINE) -> None:
    """Poll until something holds, and fail where it does not come to that."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.01)


class _Unbuffered(io.RawIOBase):
    """What comes on a connection, no byte more than is asked for, so that what follows an answer can be looked at."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._connection.recv_into(buffer)

    def read(self, size: int = -1) -> bytes:
        found = bytearray()
        while len(found) != size and (part := self._connection.recv(1 << 16 if size < 0 else size - len(found))):
            found += part
        return bytes(found)

    def makefile(self, *_: object) -> _Unbuffered:
        return self


def read_reply(connection: socket.socket, method: str = "POST") -> Reply:
    """The next answer on a connection."""
    response = http.client.HTTPResponse(_Unbuffered(connection), method=method)  # type: ignore[arg-type]
    try:
        response.begin()
        return Reply(response.status, response.headers, response.read())
    finally:
        response.close()


def is_hung_up(connection: socket.socket) -> bool:
    """Wait for the server to close a connection; whether nothing more came before."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def multipart(
    content: bytes, filename: str = "clip.wav", field_name: str = "file", kind: str = "application/octet-stream"
) -> tuple[bytes, str]:
    """A form with a file: its body and its Content-Type. The file's name goes in as it is, as UTF-8."""
    head = f'Content-Disposition: form-data; name="{field_name}"; filename="{filename}"\r\nContent-Type: {kind}\r\n'
    body = b"--boundary\r\n" + head.encode("utf-8", "surrogateescape") + b"\r\n" + content + b"\r\n--boundary--\r\n"
    return body, "multipart/form-data; boundary=boundary"


def sound(frequency: float, seconds: float, seed: int = 0) -> NDArray[np.float64]:
    """A tone as the model has learned them, in a little noise."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * 16_000))
    return 0.49 * (tone(frequency, seconds) + 0.05 * noise)


def encoded(samples: NDArray[Any], rate: int = 16_000, kind: str = "WAV", **options: Any) -> bytes:
    """Samples as the bytes of a file."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, **options)
    return buffer.getvalue()


def copy_model(graph: Path, folder: Path) -> Path:
    """A copy of a model that a test may change."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in _MODEL_FILES:
        shutil.copy(graph.with_name(name), folder / name)
    return folder / graph.name
