"""The service under thousands of damaged recordings, and asked all that its own description allows."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.support.encoding import encode
from tests.support.serving import Reply, Serving, copy_model, encoded, multipart, serving, sound
from tests.support.sounds import tone

pytestmark = pytest.mark.slow

UPLOADS = 5000
CONNECTIONS = 6
SNDFILE_KINDS: dict[str, dict[str, Any]] = {
    "wav": {"kind": "WAV"},
    "float.wav": {"kind": "WAV", "subtype": "FLOAT"},
    "adpcm.wav": {"kind": "WAV", "subtype": "IMA_ADPCM"},
    "mp3": {"kind": "MP3"},
    "flac": {"kind": "FLAC"},
    "ogg": {"kind": "OGG"},
    "opus": {"kind": "OGG", "subtype": "OPUS"},
    "aiff": {"kind": "AIFF"},
    "au": {"kind": "AU"},
    "w64": {"kind": "W64"},
    "caf": {"kind": "CAF"},
}
CONTAINER_KINDS = {
    "m4a": ("aac", 16_000, None),
    "webm": ("libopus", 48_000, None),
    "mka": ("flac", 16_000, None),
    "wma": ("wmav2", 44_100, "asf"),
}
MEGABYTE = 1 << 20
HEAD_BYTES = 128
CLIP = encoded(sound(1200, 1.0))


@pytest.fixture(scope="module")
def server(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    flags = ("--max_megabytes", 2, "--max_seconds", 60, "--time_limit", 20)
    graph = copy_model(tone_model, tmp_path_factory.mktemp("model"))  # in which speakers may be enrolled
    with serving(graph, *flags, temporary=tmp_path_factory.mktemp("server")) as server:
        yield server
    assert "Traceback" not in "".join(server.complaints)


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Half a second of a tone in every kind of file, by the ending of its name."""
    samples = sound(1200, 0.5)
    found = {ending: encoded(samples, **options) for ending, options in SNDFILE_KINDS.items()}
    folder = tmp_path_factory.mktemp("made")
    for ending, (codec, rate, container) in CONTAINER_KINDS.items():
        path = encode(folder / f"made.{ending}", tone(1200, 0.5, rate), codec, rate, container, {"b": "64k"})
        found[ending] = path.read_bytes()
    return found


def flip(generator: random.Random, content: bytearray, _: bytes) -> None:
    for _ in range(generator.randint(1, 20)):
        content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)


def flip_in_head(generator: random.Random, content: bytearray, _: bytes) -> None:
    for _ in range(generator.randint(1, 4)):
        content[generator.randrange(min(64, len(content)))] = generator.choice((0, 1, 0x7F, 0x80, 0xFF))


def cut(generator: random.Random, content: bytearray, _: bytes) -> None:
    del content[generator.randrange(len(content)) :]


def cut_out(generator: random.Random, content: bytearray, _: bytes) -> None:
    start = generator.randrange(len(content))
    del content[start : start + generator.randint(1, 500)]


def insert(generator: random.Random, content: bytearray, _: bytes) -> None:
    start = generator.randrange(len(content))
    block = generator.choice((bytes(200), b"\xff" * 200, generator.randbytes(200), bytes(content[:200])))
    content[start:start] = block * generator.randint(1, 20)


def splice(generator: random.Random, content: bytearray, other: bytes) -> None:
    start = generator.randrange(len(content))
    content[start:] = other[generator.randrange(len(other)) :]


def overwrite_number(generator: random.Random, content: bytearray, _: bytes) -> None:
    """Most damage is done by sizes and counts."""
    start = generator.randrange(min(400, len(content)))
    number = generator.choice((0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, generator.getrandbits(32)))
    content[start : start + 4] = number.to_bytes(4, generator.choice(("big", "little")))


MUTATIONS: tuple[Callable[[random.Random, bytearray, bytes], None], ...] = (
    *(flip, flip_in_head, cut, cut_out, insert, splice, overwrite_number),
)


def damaged(recordings: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """Upload number so-and-so: what its name ends in, and what it is.

    Mostly what comes after the head is damaged: it gets further.
    """
    generator = random.Random(number)
    endings = sorted(recordings)
    ending = generator.choice(endings)
    kept = 0 if number % 16 == 1 else HEAD_BYTES
    head, content = recordings[ending][:kept], bytearray(recordings[ending][kept:])
    for _ in range(generator.choice((1, 1, 1, 2, 5))):
        if content:
            other = recordings[generator.choice(endings)]
            generator.choice(MUTATIONS)(generator, content, other)
    return "" if number % 3 == 0 else ending, head + bytes(content)


class Clients(threading.local):
    """A kept-alive connection for each thread, as good clients have it."""

    def __init__(self, server: Serving, all_of_them: contextlib.ExitStack) -> None:
        self._connection = all_of_them.enter_context(contextlib.closing(server.connection()))

    def post(self, path: str, body: bytes, kind: str) -> Reply:
        self._connection.request("POST", path, body, {"Content-Type": kind})
        response = self._connection.getresponse()
        return Reply(response.status, response.headers, response.read())


@pytest.fixture
def clients(server: Serving) -> Iterator[Clients]:
    with contextlib.ExitStack() as stack:
        yield Clients(server, stack)


def memory(server: Serving) -> float:
    """Megabytes of the server and all that it started; what they share is counted once."""
    process = psutil.Process(server.process.pid)
    return sum(one.memory_full_info().pss for one in (process, *process.children(recursive=True))) / MEGABYTE


def test_thousands_of_damaged_recordings(server: Serving, recordings: dict[str, bytes], clients: Clients) -> None:
    for ending, content in recordings.items():
        reply = server.form("/v1/classify", content, f"whole.{ending}")
        assert reply.status == 200, (ending, reply.body)
    before = server.classify(CLIP)

    def upload(number: int) -> tuple[int, str]:
        ending, content = damaged(recordings, number)
        path = ("/v1/classify", "/v1/classify", "/v1/spectrogram?view=clip", "/classify/")[number % 4]
        body, kind = multipart(content, f"{number}.{ending}") if number % 2 else (content, "application/octet-stream")
        reply = clients.post(path, body, kind)
        if reply.status == 200:
            return 200, ""
        assert 400 <= reply.status < 500, (number, ending, reply.status, reply.body[:300])
        return reply.status, reply.detail.partition(": ")[2]

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        warm = list(threads.map(upload, range(UPLOADS // 5)))
        grown = memory(server)
        answers = warm + list(threads.map(upload, range(UPLOADS // 5, UPLOADS)))
        last = memory(server)
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) <= {200, 400, 413, 415, 422}, statuses
    assert statuses[200] > UPLOADS // 20, statuses  # else it is the damage that is fuzzed, not the workers
    assert statuses[422] > UPLOADS // 20, statuses
    assert last - grown < 64, (grown, last)
    assert server.process.poll() is None
    assert server.classify(CLIP) == before
    assert server.gauge("audionet_requests_in_flight") == 0
    assert len(server.files()) == 1


def test_damaged_forms(clients: Clients) -> None:
    """The same with what is around the recording."""
    whole, kind = multipart(CLIP[:2000])

    def upload(number: int) -> int:
        generator = random.Random(number)
        content = bytearray(whole)
        generator.choice(MUTATIONS)(generator, content, whole)
        flip_in_head(generator, content, whole)
        reply = clients.post("/v1/classify", bytes(content), kind)
        if reply.status != 200:
            assert 400 <= reply.status < 500, (number, reply.status, reply.body[:300])
            assert reply.detail
        return reply.status

    with ThreadPoolExecutor(CONNECTIONS) as threads:
        assert set(threads.map(upload, range(500))) <= {200, 400, 413, 422}


def test_damaged_heads(server: Serving) -> None:
    """The same with the lines of HTTP before it."""
    head = server.head("POST", "/v1/classify?top_k=3", {"Content-Length": "2000", "Accept": "*/*"})
    for number in range(300):
        generator = random.Random(number)
        content = bytearray(head)
        for _ in range(generator.randint(1, 3)):
            flip(generator, content, head)
        with server.raw() as connection:
            connection.sendall(bytes(content) + CLIP[:2000] + b"\r\n" * 100)
            connection.shutdown(1)
            received = bytearray()
            try:
                while part := connection.recv(1 << 16):
                    received += part
            except ConnectionResetError:
                continue
        assert received[:12] in (b"", *(b"HTTP/1.1 %d" % status for status in (200, *range(400, 499), 307))), received
    assert server.classify(CLIP)["decision"] == "c1200"


def test_all_that_the_description_allows(server: Serving, tmp_path: Path) -> None:
    """Schemathesis: the limits of every parameter, each wrong method, bodies and queries by the schema and against it.

    All of its checks are made but one: `positive_data_acceptance` has it that what the schema allows is not refused,
    and there any bytes are a recording. (`ignored_auth`, and what is about things that are created, do nothing here.)
    Its one warning is of the same, that most of what it sends is refused.
    """
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{server.url}/openapi.json", "--no-color"]
    options = ["--exclude-checks=positive_data_acceptance", "--warnings=off", "--max-examples=15", "--seed=1"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "12 selected / 12 total" in done.stdout, done.stdout  # the page's own two are for people
    assert server.classify(CLIP)["decision"] == "c1200"
