"""What strangers may send: every bit of it is refused in one sentence, and the server is as well as before."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import io
import itertools
import os
import random
import re
import select
import shutil
import socket
import struct
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote_from_bytes

import numpy as np
import psutil
import pytest
import soundfile

from tests.support.encoding import encode
from tests.support.serving import (
    DEADLINE,
    Reply,
    Serving,
    copy_model,
    encoded,
    is_hung_up,
    multipart,
    read_reply,
    serving,
    sound,
    wait_until,
)
from tests.support.sounds import SAMPLE_AUDIO, tone

IN_HOUSE = "audionet_requests_in_flight"
FORM = "multipart/form-data; boundary=boundary"
CHUNKED = {"Transfer-Encoding": "chunked"}
WORK_PATHS = ("/v1/classify", "/v1/spectrogram", "/v1/explain", "/v1/enrolled?name=zoe", "/classify/")
MEGABYTE = 1 << 20

CLIP = encoded(sound(1200, 1.0))

pytestmark = pytest.mark.slow

needs_prlimit = pytest.mark.skipif(shutil.which("prlimit") is None, reason="takes prlimit")


@pytest.fixture(scope="module")
def strict(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that takes little: 2 MB, a minute."""
    flags = ("--max_megabytes", 2, "--max_seconds", 60, "--time_limit", 20)
    with serving(tone_model, *flags, temporary=tmp_path_factory.mktemp("strict")) as server:
        yield server
    assert "Traceback" not in "".join(server.complaints)


def failed(server: Serving) -> list[str]:
    """The lines of /metrics that tell of mistakes of the server's own."""
    return re.findall(r'.*status="50[^3]".*', server.get("/metrics").body.decode())


@pytest.fixture
def server(strict: Serving) -> Iterator[Serving]:
    """The same, and nothing that a test does leaves a trace."""
    failures = failed(strict)
    yield strict
    assert strict.process.poll() is None
    assert strict.classify(CLIP)["decision"] == "c1200"
    strict.wait_for_gauge(IN_HOUSE, 0)
    assert failed(strict) == failures
    wait_until(lambda: len(strict.files()) == 1, "all uploads to go")


@pytest.fixture(scope="module")
def flooded(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server for what may leave it out of breath."""
    with serving(tone_model, "--workers", 1, temporary=tmp_path_factory.mktemp("flooded")) as server:
        yield server


@pytest.fixture
def alone(flooded: Serving) -> Iterator[Serving]:
    yield flooded
    wait_until(lambda: is_well(flooded), "it to recover")
    flooded.wait_for_gauge(IN_HOUSE, 0)


@pytest.fixture(scope="module")
def hasty(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that waits a second for an upload."""
    with serving(tone_model, "--time_limit", 1, temporary=tmp_path_factory.mktemp("hasty")) as server:
        yield server


def refused(reply: Reply, *statuses: int) -> str:
    """What a refusal says; asserts that it is one."""
    assert reply.status in (statuses or range(400, 500)), reply.body[:300]
    return reply.detail


def refused_or_answered(reply: Reply) -> None:
    if reply.status != 200:
        refused(reply)


def wav(
    channels: int = 1, rate: int = 16_000, bits: int = 16, kind: int = 1, promised: int | None = None, data: bytes = b""
) -> bytes:
    """A WAV file whose header says what it likes."""
    size = len(data) if promised is None else promised
    align = channels * bits // 8
    form = struct.pack("<HHIIHH", kind, channels, rate, rate * align & 0xFFFFFFFF, align & 0xFFFF, bits)
    length = min(36 + size, 0xFFFFFFFF)
    return b"RIFF" + struct.pack("<I", length) + b"WAVEfmt \x10\0\0\0" + form + b"data" + struct.pack("<I", size) + data


def zipped(megabytes: int) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("clip.wav", bytes(megabytes * MEGABYTE))
    return buffer.getvalue()


def noise(size: int) -> bytes:
    return random.Random(0).randbytes(size)


NO_AUDIO: dict[str, Callable[[], bytes]] = {
    "nothing": lambda: b"",
    "one byte": lambda: b"R",
    "text": lambda: b"The quick brown fox jumps over the lazy dog.\n" * 100,
    "html": lambda: b"<!doctype html><title>x</title><script>alert(1)</script>" * 20,
    "picture": lambda: b"\xff\xd8\xff\xe0\0\x10JFIF\0" + noise(2000) + b"\xff\xd9",
    "zip bomb": lambda: zipped(200),
    "gzip": lambda: b"\x1f\x8b\x08\0" + noise(1000),
    "noise": lambda: noise(50_000),
    "zeros": lambda: bytes(50_000),
    "elf": lambda: b"\x7fELF\x02\x01\x01" + noise(1000),
    "pickle": lambda: b"cos\nsystem\n(S'touch /tmp/pwned'\ntR.",
    "wav of nothing": lambda: wav(),
    "wav head alone": lambda: wav()[:20],
    "wav of no channels": lambda: wav(channels=0, data=bytes(1000)),
    "wav of 255 channels": lambda: encoded(np.zeros((1000, 255))),
    "wav of 65535 channels": lambda: wav(channels=65_535, data=bytes(200_000)),
    "wav of no bits": lambda: wav(bits=0, data=bytes(1000)),
    "wav of 1 MHz": lambda: encoded(sound(600, 1.0), 1_000_000),
    "wav of 0 Hz": lambda: wav(rate=0, data=bytes(1000)),
    "wav of 1 Hz": lambda: wav(rate=1, data=bytes(1000)),
    "wav of 4 GHz": lambda: wav(rate=0xFFFFFFFF, data=bytes(1000)),
    "wav of silence": lambda: encoded(np.zeros(16_000)),
    "wav of a codec that is not": lambda: wav(kind=0x1234, data=noise(1000)),
    "wav of no numbers": lambda: encoded(np.full(16_000, np.nan), subtype="FLOAT"),
    "flac marker": lambda: b"fLaC",
    "ogg marker": lambda: b"OggS" + noise(500),
    "id3 without end": lambda: b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(1000),
    "mp4 with a giant atom": lambda: b"\0\0\0\x18ftypM4A \0\0\0\0M4A mp42" + b"\xff\xff\xff\xf0moov" + bytes(5000),
    "mp4 with a 64-bit atom": lambda: b"\0\0\0\x10ftypM4A \0\0\0\0\0\0\0\x01moov" + b"\x7f" + b"\xff" * 7 + bytes(500),
    "nested atoms": lambda: b"".join(
        struct.pack(">I", 8 * (2000 - depth)) + (b"moov" if depth else b"ftyp") for depth in range(2000)
    ),
    "webm head": lambda: b"\x1a\x45\xdf\xa3" + b"\x01" + b"\xff" * 7 + bytes(500),
}


@pytest.mark.parametrize("name", NO_AUDIO)
@pytest.mark.parametrize("filename", ["clip.wav", "clip.m4a"])
def test_what_is_no_recording_is_refused(server: Serving, name: str, filename: str) -> None:
    detail = refused(server.form("/v1/classify", NO_AUDIO[name](), filename), 413, 415, 422)
    assert detail.startswith(f"{filename}: ")
    assert str(server.temporary) not in detail


@pytest.mark.parametrize("path", WORK_PATHS)
def test_nothing_at_all_is_refused_everywhere(server: Serving, path: str) -> None:
    assert refused(server.post(path), 422) == "upload: the file is empty"


def damaged(content: bytes, seed: int) -> bytes:
    generator = random.Random(seed)
    changed = bytearray(content)
    for _ in range(20):
        changed[generator.randrange(len(changed))] ^= 1 << generator.randrange(8)
    return bytes(changed)


@pytest.mark.parametrize("kind", ["mp3", "wav", "flac", "ogg"])
def test_damaged_recordings_are_refused_or_judged_in_part(server: Serving, kind: str) -> None:
    sample = next(SAMPLE_AUDIO.glob("*/kitchen.mp3"))
    samples, rate = soundfile.read(sample)
    content = sample.read_bytes() if kind == "mp3" else encoded(samples[: 2 * rate], rate, kind.upper())
    for share in (0.001, 0.01, 0.1, 0.5, 0.99):
        refused_or_answered(server.form("/v1/classify", content[: int(share * len(content))], f"clip.{kind}"))
        refused_or_answered(server.form("/v1/classify", content[int(share * len(content)) :], f"clip.{kind}"))
    for seed in range(5):
        refused_or_answered(server.form("/v1/classify", damaged(content, seed), f"clip.{kind}"))


@pytest.mark.parametrize("promised", [0x7FFFFFFF, 0xFFFFFFF0, 0xFFFFFFFF])
def test_a_header_that_promises_4_gb_gets_no_room_for_them(server: Serving, promised: int) -> None:
    refused_or_answered(server.post("/v1/classify", wav(promised=promised, data=CLIP[44:])))
    for worker in server.workers():
        assert worker.memory_info().rss < 500 * MEGABYTE


@pytest.mark.parametrize(("channels", "rate"), [(32, 383_999), (32, 1001), (1, 384_000), (3, 44_101)])
def test_what_is_just_within_the_limits_is_answered(server: Serving, channels: int, rate: int) -> None:
    samples = np.random.default_rng(0).integers(-9999, 9999, (900_000 // channels, channels), np.int16)
    assert server.post("/v1/classify", encoded(samples, rate)).status == 200


@pytest.fixture(scope="module")
def ten_hours() -> bytes:
    """Ten hours of silence in next to no bytes."""
    buffer = io.BytesIO()
    silence = np.zeros(3_600_000, np.int16)
    with soundfile.SoundFile(buffer, "w", 1000, 1, "PCM_16", format="FLAC") as file:
        for _ in range(10):
            file.write(silence)
    assert buffer.tell() < 2e6
    return buffer.getvalue()


@pytest.mark.parametrize("says", ["the truth", "nothing", "a second"])
@pytest.mark.parametrize("path", ["/v1/classify", "/v1/spectrogram?view=clip", "/v1/spectrogram?chunk=100000"])
def test_ten_hours_are_too_long(server: Serving, ten_hours: bytes, says: str, path: str) -> None:
    content = bytearray(ten_hours)
    if says != "the truth":
        samples = 0 if says == "nothing" else 1000
        content[21] &= 0xF0
        content[22:26] = samples.to_bytes(4, "big")
    detail = refused(server.post(path, bytes(content)), 413, 422)
    assert says != "the truth" or "is longer than 60 s" in detail


def sent_until_answered(connection: socket.socket, block: bytes, most: int) -> int:
    """Send the same again and again; gives how many bytes went before the server answered or hung up."""
    sent = 0
    connection.settimeout(1.0)
    with contextlib.suppress(TimeoutError, ConnectionError):
        while sent < most and not select.select([connection], [], [], 0)[0]:
            connection.sendall(block)
            sent += len(block)
    connection.settimeout(DEADLINE)
    return sent


@pytest.mark.parametrize("path", WORK_PATHS)
@pytest.mark.parametrize("kind", ["audio/wav", FORM])
def test_an_upload_without_end_is_cut_off(server: Serving, path: str, kind: str) -> None:
    block = b"10000\r\n" + bytes(1 << 16) + b"\r\n"
    with server.raw() as connection:
        connection.sendall(server.head("POST", path, CHUNKED | {"Content-Type": kind}))
        if kind == FORM:
            connection.sendall(b"%x\r\n" % len(FORM_HEAD) + FORM_HEAD + b"\r\n")
        assert sent_until_answered(connection, block, 2000 * MEGABYTE) < 100 * MEGABYTE
        assert "larger than 2 MB" in refused(read_reply(connection), 413)


def test_an_upload_without_end_is_cut_off_by_default_too(tone_model: Path, tmp_path: Path) -> None:
    block = b"100000\r\n" + bytes(MEGABYTE) + b"\r\n"
    with serving(tone_model, temporary=tmp_path / "server") as server:
        before = psutil.Process(server.process.pid).memory_info().rss
        with server.raw() as connection:
            connection.sendall(server.head("POST", "/v1/classify", CHUNKED))
            assert 100 * MEGABYTE * 0.9 < sent_until_answered(connection, block, 2000 * MEGABYTE) < 300 * MEGABYTE
            assert "larger than 100 MB" in refused(read_reply(connection), 413)
        assert psutil.Process(server.process.pid).memory_info().rss < before + 32 * MEGABYTE
        wait_until(lambda: len(server.files()) == 1, "the upload to go")
        assert server.classify(CLIP)["decision"] == "c1200"


@pytest.mark.parametrize("length", ["2000001", "2000000000", str(2**63), str(2**64 - 1)])
def test_an_upload_that_says_it_is_too_large_is_refused_before_it_comes(server: Serving, length: str) -> None:
    with server.raw() as connection:
        connection.sendall(server.head("POST", "/v1/classify", {"Content-Length": length}))
        refused(read_reply(connection), 413)


@pytest.mark.parametrize(
    "length", ["-1", "+5", "5, 6", "5x", "0x5", "", str(2**64), "9" * 400, "５", "5\r\nContent-Length: 6"]
)
def test_a_length_that_makes_no_sense_is_refused(server: Serving, length: str) -> None:
    with server.raw() as connection:
        head = server.head("POST", "/v1/classify", {"Content-Length": "LENGTH"})
        connection.sendall(head.replace(b"LENGTH", length.encode()) + b"hello")
        reply = read_reply(connection)
        refused(reply, 400, 413)
        assert reply.status == 413 or is_hung_up(connection)


def test_what_comes_beyond_the_length_is_no_part_of_the_upload(server: Serving) -> None:
    with server.raw() as connection:
        fields = {"Content-Length": str(len(CLIP) - 1000)}
        connection.sendall(server.head("POST", "/v1/classify", fields) + CLIP)
        first = read_reply(connection)
        if first.status == 200:
            assert first.json["seconds"] < 1
            assert is_hung_up(connection) or connection.recv(1000).startswith(b"TTP/1.1 400 ")
        else:
            refused(first, 400)


@pytest.mark.parametrize(
    "fields",
    [
        {"Content-Length": "5", "Transfer-Encoding": "chunked"},
        {"Transfer-Encoding": "xchunked"},
        {"Transfer-Encoding": "chunked, identity"},
        {"Transfer-Encoding": "\x0bchunked"},
        {"Transfer-Encoding ": "chunked"},
        {"X": "a\0b"},
        {"": "empty"},
        {"X Y": "z"},
    ],
)
def test_nothing_can_be_smuggled_in_behind_a_request(server: Serving, fields: dict[str, str]) -> None:
    with server.raw() as connection:
        head = server.head("POST", "/v1/classify", fields)
        connection.sendall(head + b"0\r\n\r\n" + server.head("GET", "/v1/model"))
        reply = read_reply(connection)
        if reply.status != 501:  # which is for codings that nobody knows
            refused(reply)
        assert is_hung_up(connection)


@pytest.mark.parametrize("kind", ["h2c", "websocket", "TLS/1.0"])
def test_a_body_is_no_request_even_where_another_protocol_is_wished_for(server: Serving, kind: str) -> None:
    """A proxy that passes such wishes on would take the second answer for that of somebody else."""
    inner = server.head("GET", "/v1/model")
    with server.raw() as connection:
        fields = {"Connection": "Upgrade", "Upgrade": kind, "Content-Length": str(len(inner))}
        connection.sendall(server.head("POST", "/v1/classify", fields))
        connection.sendall(inner)
        reply = read_reply(connection)
        refused(reply)
        with contextlib.suppress(ConnectionError, http.client.RemoteDisconnected):  # hanging up will do
            connection.sendall(server.head("GET", "/healthz"))
            assert read_reply(connection).json == {"status": "ok"}


@pytest.mark.parametrize(
    "chunk", [b"zz\r\n", b"-5\r\nhello\r\n", b"f" * 21 + b"\r\n", b"5\r\nhelloworld\r\n0\r\n\r\n", b"\r\n"]
)
def test_chunks_that_make_no_sense_are_refused(server: Serving, chunk: bytes) -> None:
    with server.raw() as connection:
        connection.sendall(server.head("POST", "/v1/classify", CHUNKED) + chunk)
        refused(read_reply(connection), 400)


def memory(server: Serving) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def flood(server: Serving, connection: socket.socket, block: bytes) -> int:
    """Send the same again and again; gives by how many bytes the server grew."""
    before = memory(server)
    sent_until_answered(connection, block, 64 * MEGABYTE)
    return memory(server) - before


LINES = {"lines": b"X: " + b"a" * 8000 + b"\r\n", "one line": b"a" * 64_000, "short lines": b"X:\r\n" * 2000}


@pytest.mark.parametrize("lines", LINES)
def test_fields_after_a_chunked_body_take_no_more_room_than_those_before(alone: Serving, lines: str) -> None:
    alone.classify(CLIP)
    with alone.raw() as connection:
        connection.sendall(alone.head("POST", "/v1/classify", CHUNKED) + b"5\r\nhello\r\n0\r\nX: ")
        assert flood(alone, connection, LINES[lines]) < 16 * MEGABYTE


@pytest.mark.parametrize("lines", LINES)
def test_the_head_of_a_request_that_has_to_wait_takes_no_more_room_than_others(alone: Serving, lines: str) -> None:
    [worker] = alone.workers()
    alone.classify(CLIP)
    before = memory(alone)
    worker.suspend()  # so that the first of two requests is not answered while the other comes
    try:
        with alone.raw() as connection:
            connection.sendall(alone.head("POST", "/v1/classify", {"Content-Length": str(len(CLIP))}) + CLIP)
            alone.wait_for_gauge(IN_HOUSE, 1)
            connection.sendall(b"GET / HTTP/1.1\r\nX: ")
            sent_until_answered(connection, LINES[lines], 64 * MEGABYTE)
            assert memory(alone) - before < 16 * MEGABYTE
    finally:
        with contextlib.suppress(psutil.NoSuchProcess):
            worker.resume()


@pytest.mark.parametrize("lines", LINES)
def test_a_chunks_extension_takes_no_room(alone: Serving, lines: str) -> None:
    alone.classify(CLIP)
    with alone.raw() as connection:
        connection.sendall(alone.head("POST", "/v1/classify", CHUNKED) + b"5;")
        assert flood(alone, connection, LINES[lines]) < 16 * MEGABYTE


def test_a_body_in_the_smallest_of_pieces_keeps_nobody_else_waiting(alone: Serving) -> None:
    """Six bytes a byte: to take them apart must not be all that the server does."""
    with alone.raw() as connection:
        connection.sendall(alone.head("POST", "/v1/classify", CHUNKED))
        connection.settimeout(0.05)
        slowest = 0.0
        for _ in range(10):
            with contextlib.suppress(TimeoutError, ConnectionError):
                connection.sendall(b"1\r\nx\r\n" * 100_000)
            began = time.monotonic()
            assert alone.get("/healthz").status == 200
            slowest = max(slowest, time.monotonic() - began)
        assert slowest < 1.0


@pytest.mark.parametrize("size", [100_000, 300_000, 1_000_000])
@pytest.mark.parametrize("where", ["a field", "many fields", "the path", "the query", "the method"])
def test_a_head_of_more_than_64_kib_is_refused(server: Serving, size: int, where: str) -> None:
    heads = {
        "a field": server.head("GET", "/healthz", {"X": "a" * size}),
        "many fields": server.head("GET", "/healthz", {f"X{number}": "a" for number in range(size // 8)}),
        "the path": server.head("GET", "/" + "a" * size),
        "the query": server.head("POST", "/v1/classify?name=" + "a" * size),
        "the method": server.head("A" * size, "/"),
    }
    with server.raw() as connection:
        with contextlib.suppress(ConnectionError):
            connection.sendall(heads[where])
        refused(read_reply(connection), 400 if where == "the method" else 431, 431)


@pytest.mark.parametrize(
    "start",
    [
        b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(100),
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"EHLO localhost\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET  / HTTP/1.1\r\n\r\n",
        b"\0" * 100,
        b"GET http:// HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET localhost HTTP/1.1\r\nHost: localhost\r\n\r\n",
        "GET /ö HTTP/1.1\r\nHost: localhost\r\n\r\n".encode("latin-1"),
    ],
)
def test_what_is_no_http_is_told_so(server: Serving, start: bytes) -> None:
    with server.raw() as connection:
        connection.sendall(start)
        refused(read_reply(connection))


def test_requests_in_a_row_are_answered_in_that_order(server: Serving) -> None:
    head = server.head("POST", "/v1/classify", {"Content-Length": str(len(CLIP))})
    row = server.head("GET", "/healthz") + head + CLIP + server.head("GET", "/nothing") + head + CLIP
    with server.raw() as connection:
        connection.sendall(row)
        replies = [read_reply(connection, method) for method in ("GET", "POST", "GET", "POST")]
    assert [reply.status for reply in replies] == [200, 200, 404, 200]
    assert replies[1].body == replies[3].body
    with server.raw() as connection:
        connection.sendall(server.head("GET", "/healthz") * 300)
        assert {read_reply(connection, "GET").status for _ in range(300)} == {200}


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/model", "/v1/report"]
)
def test_what_is_to_be_read_cannot_be_written(server: Serving, path: str) -> None:
    for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"):
        reply = server.ask(method, path, b"x")
        assert "GET" in refused(reply, 405)
        assert "GET" in reply.headers["Allow"]
    refused(server.ask("CONNECT", path), 400, 405)


@pytest.mark.parametrize("path", [*WORK_PATHS, "/v1/reload"])
def test_what_is_to_be_posted_cannot_be_got(server: Serving, path: str) -> None:
    allowed = {"DELETE", "POST"} if "enrolled" in path else {"POST"}
    for method in {"GET", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"} - allowed:
        reply = server.ask(method, path, None if method == "GET" else CLIP)
        assert "POST" in refused(reply, 405)
        assert set(reply.headers["Allow"].split(", ")) == allowed


@pytest.mark.parametrize("path", ["/", "/healthz", "/v1/model", "/v1/classify", "/nothing", "/page/page.css"])
def test_an_answer_to_head_has_no_body(server: Serving, path: str) -> None:
    with server.raw() as connection:
        connection.sendall(server.head("HEAD", path) + server.head("GET", "/healthz"))
        assert read_reply(connection, "HEAD").body == b""
        assert read_reply(connection, "GET").json == {"status": "ok"}


@pytest.mark.parametrize(
    "query",
    [f"classify?top_k={value}" for value in ("-1", "x", "", "1.5", "1e3", "100001", "9" * 5000, "%00", "1&top_k=x")]
    + [f"spectrogram?chunk={value}" for value in ("-1", "x", "1000001", "NaN")]
    + [f"spectrogram?view={value}" for value in ("", "all", "CHUNK", "chunk%00", "%F0%9F%90%A6")]
    + ["classify?name=" + "x" * 5000, "enrolled?name=" + "x" * 201, "enrolled?name="],
)
def test_values_that_make_no_sense_are_refused_by_name(server: Serving, query: str) -> None:
    name = query.partition("?")[2].partition("=")[0]
    assert refused(server.post(f"/v1/{query}", CLIP), 422).startswith(f"{name}: ")


@pytest.mark.parametrize(
    "path",
    [
        *("/nothing", "/page/../../../etc/passwd", "/page/..%2f..%2fserve.py", "/page/%00", "/%0d%0aX-Evil:%20yes"),
        *("/page/" + "a" * 5000, "/" + "/" * 100, "//evil.example/", "/%ff%fe", "/v1/classify/../model", "/classify/x"),
    ],
)
def test_where_nothing_is_that_is_said(server: Serving, path: str) -> None:
    reply = server.get(path)
    detail = refused(reply, 404)
    assert len(detail) < 200
    assert "X-Evil" not in reply.headers


NAMES = {
    "path": b"../../../../etc/passwd",
    "absolute": b"/etc/cron.d/evil.wav",
    "windows": rb"C:\Windows\system32\evil.wav",
    "nul": b"a\0b.wav",
    "lines": b"a\r\nX-Evil: yes\r\n\r\n.wav",
    "escape": b"\x1b]0;evil\x07\x1b[31m.wav",
    "long": b"x" * 4000 + b".wav",
    "emoji": "🐦🏳️‍🌈.wav".encode(),
    "right to left": "\u202egnp.wav".encode(),
    "zalgo": ("a" + "\u0301" * 1000).encode(),
    "no utf-8": b"\xff\xfe.wav",
    "dots": b"..",
    "ending alone": b".wav",
    "many endings": b"a" + b".wav" * 50,
    "blank": b"   ",
    "template": b"{{7*7}}${7*7}%s%n.wav",
    "html": b"<img src=x onerror=alert(1)>.wav",
}


def assert_harmless(server: Serving, reply: Reply) -> None:
    assert "X-Evil" not in reply.headers
    if reply.status != 200:
        refused(reply, 400, 422)
        return
    name = reply.json["file"]
    assert name.isprintable()
    assert name
    assert len(name) <= 100
    assert not set(name) & {"/", "\r", "\n", "\0"} or "\\" in name
    for line in server.complaints:
        assert "X-Evil" not in line.partition("X-Evil")[0] or line.startswith("serve.py: ")


@pytest.mark.parametrize("name", NAMES)
def test_names_that_mean_no_good_do_none(server: Serving, name: str) -> None:
    assert_harmless(server, server.post(f"/v1/classify?name={quote_from_bytes(NAMES[name])}", CLIP))
    head = b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="'
    body = head + NAMES[name].replace(b'"', b"") + b'"\r\n\r\n' + CLIP + b"\r\n--boundary--\r\n"
    assert_harmless(server, server.post("/v1/classify", body, {"Content-Type": FORM}))
    refusal = server.post(f"/v1/classify?name={quote_from_bytes(NAMES[name])}", b"words")
    refused(refusal, 422)


def test_a_name_of_a_megabyte_is_refused(server: Serving) -> None:
    body, kind = multipart(CLIP, "x" * 1_000_000 + ".wav")
    refused(server.post("/v1/classify", body, {"Content-Type": kind}), 400)


@pytest.mark.parametrize("charset", ["undefined", "idna", "punycode", "utf-16", "hex", "zlib", "unicode_escape", "x"])
def test_a_form_in_a_strange_alphabet(server: Serving, charset: str) -> None:
    body, kind = multipart(CLIP, "xn--\udcff\\ud800.wav")
    assert_harmless(server, server.post("/v1/classify", body, {"Content-Type": f"{kind}; charset={charset}"}))


FORM_HEAD = b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="clip.wav"\r\n\r\n'
FIELD = b'--boundary\r\nContent-Disposition: form-data; name="a"\r\n\r\nx\r\n'
END = b"\r\n--boundary--\r\n"
BAD_FORMS = {
    "nothing": b"",
    "end alone": b"--boundary--\r\n",
    "no file": FIELD + END[2:],
    "no end": FORM_HEAD + CLIP,
    "another boundary": FORM_HEAD.replace(b"boundary", b"broken") + CLIP + END,
    "1,000 fields": FIELD * 1000 + END[2:],
    "1,000 files": (FORM_HEAD + b"x\r\n") * 1000 + END[2:],
    "a field of 1 MB": FIELD[:-3] + bytes(1_000_000) + END,
    "a head of 1 MB": FORM_HEAD[:-2] + b"X: " + b"a" * 1_000_000 + b"\r\n\r\n" + CLIP + END,
    "100,000 lines of head": FORM_HEAD[:-2] + b"X: a\r\n" * 100_000 + b"\r\n" + CLIP + END,
    "no name": FORM_HEAD.replace(b'name="file"; ', b"") + CLIP + END,
    "no disposition": b"--boundary\r\nContent-Type: audio/wav\r\n\r\n" + CLIP + END,
    "a form in a form": FORM_HEAD[:-2]
    + b"Content-Type: multipart/mixed; boundary=inner\r\n\r\n--inner\r\n\r\n"
    + CLIP
    + b"\r\n--inner--"
    + END,
    "base64": FORM_HEAD[:-2] + b"Content-Transfer-Encoding: base64\r\n\r\nUklGRiQ=" + END,
    "noise": noise(100_000),
    "boundaries alone": b"--boundary\r\n" * 10_000,
    "nearly boundaries": FORM_HEAD + b"\r\n--boundarx" * 20_000 + END,
    "carriage returns": FORM_HEAD + b"\r" * 1_000_000 + END,
}


@pytest.mark.parametrize("name", BAD_FORMS)
def test_forms_that_make_no_sense_are_refused(server: Serving, name: str) -> None:
    refused(server.post("/v1/classify", BAD_FORMS[name], {"Content-Type": FORM}), 400, 413, 422)


@pytest.mark.parametrize(
    "kind",
    [
        *("multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=" + "b" * 5000),
        *('multipart/form-data; boundary="a\\"b"', "multipart/form-data; boundary=\xff", "multipart/form-data;;;="),
        *("multipart/form-data; boundary*=utf-8''%00", "multipart/form-data; boundary=a; boundary=b"),
    ],
)
def test_forms_without_a_boundary_are_refused(server: Serving, kind: str) -> None:
    refused(server.post("/v1/classify", FORM_HEAD + CLIP + END, {"Content-Type": kind}), 400)


@pytest.mark.parametrize("kind", ["audio/wav", "text/plain", "application/json", "image/jpeg", "x", "", "a/b/c;d=e;;"])
def test_what_kind_a_body_is_said_to_be_does_not_matter(server: Serving, kind: str) -> None:
    assert server.post("/v1/classify", CLIP, {"Content-Type": kind}).json["decision"] == "c1200"


@pytest.mark.parametrize("path", WORK_PATHS)
def test_a_compressed_upload_is_refused_not_unpacked(server: Serving, path: str) -> None:
    bomb = gzip.compress(bytes(200 * MEGABYTE))
    assert len(bomb) < 2e6
    assert "Content-Encoding" in refused(server.post(path, bomb, {"Content-Encoding": "gzip"}), 415)


@pytest.fixture(scope="module")
def secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with recordings that are none of a client's business."""
    folder = tmp_path_factory.mktemp("secret")
    (folder / "secret.wav").write_bytes(encoded(sound(1200, 2.0)))
    for ending, codec, container in (("ts", "mp2", "mpegts"), ("mp3", "mp3", None), ("m4a", "aac", None)):
        encode(folder / f"secret.{ending}", tone(1200, 2.0), codec, container=container)
    return folder


def playlist(kind: str, file: str) -> bytes:
    """A text that has players open another file."""
    hls = "#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\n{}\n#EXT-X-ENDLIST\n"
    dash = (
        '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" minBufferTime="PT1S" '
        'mediaPresentationDuration="PT2S" profiles="urn:mpeg:dash:profile:isoff-main:2011"><Period>'
        '<AdaptationSet contentType="audio" mimeType="audio/mp4"><Representation id="1" bandwidth="1">'
        "<BaseURL>{}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    texts = {
        "hls": hls.format(file),
        "hls by protocol": hls.format(f"file:{file}"),
        "dash": dash.format(f"file:{file}"),
        "ffconcat": f"ffconcat version 1.0\nfile {file}\n",
        "ffconcat by protocol": f"ffconcat version 1.0\nfile 'file:{file}'\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    }
    return texts[kind].encode()


@pytest.mark.parametrize("kind", ["hls", "hls by protocol", "dash", "ffconcat", "ffconcat by protocol", "sdp"])
@pytest.mark.parametrize("name", ["clip.ts", "clip.mp3"])
def test_a_playlist_plays_nothing_and_tells_nothing(server: Serving, secret: Path, kind: str, name: str) -> None:
    there = {
        refused(server.form("/v1/classify", playlist(kind, str(secret / f"secret.{ending}")), name), 422)
        for ending in ("ts", "m4a")
    }
    assert there == {refused(server.form("/v1/classify", playlist(kind, str(secret / "nothing.ts")), name), 422)}


@pytest.mark.parametrize("kind", ["audio/wav", FORM])
def test_an_upload_that_takes_too_long_is_cut_off(hasty: Serving, kind: str) -> None:
    with hasty.raw() as connection:
        fields = {"Content-Length": "1000", "Content-Type": kind}
        connection.sendall(hasty.head("POST", "/v1/classify", fields) + FORM_HEAD)
        assert refused(read_reply(connection), 408) == "the upload took longer than 1 s"
    wait_until(lambda: len(hasty.files()) == 1, "the upload to go")
    hasty.wait_for_gauge(IN_HOUSE, 0)


def test_an_upload_that_comes_drop_by_drop_is_cut_off(hasty: Serving) -> None:
    with hasty.raw() as connection:
        connection.sendall(hasty.head("POST", "/v1/classify", CHUNKED))
        connection.settimeout(0.05)
        for _ in range(round(DEADLINE / 0.05)):
            connection.sendall(b"1\r\nx\r\n")
            with contextlib.suppress(TimeoutError):
                if connection.recv(1, socket.MSG_PEEK):
                    break
        connection.settimeout(DEADLINE)
        refused(read_reply(connection), 408)


@pytest.mark.slow
def test_a_head_that_does_not_come_to_an_end_is_cut_off(server: Serving) -> None:
    with server.raw() as silent, server.raw() as slow, server.raw() as idle:
        slow.sendall(b"GET / HTTP/1.1\r\nHost: local")
        idle.sendall(server.head("GET", "/healthz"))
        assert read_reply(idle, "GET").status == 200
        assert is_hung_up(idle)
        assert refused(read_reply(slow), 408) == "the request headers took longer than 10 s"
        assert is_hung_up(slow)
        assert is_hung_up(silent)


@pytest.mark.slow
def test_a_refused_upload_that_goes_on_for_ever_is_cut_off(server: Serving) -> None:
    with server.raw() as connection:
        connection.sendall(server.head("POST", "/v1/classify", CHUNKED | {"Origin": "http://evil.example"}))
        refused(read_reply(connection), 403)
        connection.settimeout(0.1)
        with contextlib.suppress(ConnectionError):
            for _ in range(round(DEADLINE / 0.1)):
                connection.sendall(b"1\r\nx\r\n")
                with contextlib.suppress(TimeoutError):
                    assert connection.recv(1) == b""  # no second answer to the one request
                    break
            else:
                pytest.fail("it goes on")


@pytest.mark.slow
def test_a_connection_left_alone_after_a_refused_upload_gets_no_second_answer(server: Serving) -> None:
    with server.raw() as connection:
        fields = {"Content-Length": "2000", "Origin": "http://evil.example"}
        connection.sendall(server.head("POST", "/v1/classify", fields) + bytes(1000))
        refused(read_reply(connection), 403)
        connection.sendall(bytes(1000))
        assert is_hung_up(connection)


def test_five_hundred_connections_that_say_nothing_keep_nobody_out(server: Serving) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(500):
            stack.enter_context(server.raw())
        assert server.classify(CLIP)["decision"] == "c1200"


def test_a_host_that_means_no_good_does_none_where_any_is_answered_to(tone_model: Path, tmp_path: Path) -> None:
    key = "0123456789abcdef"
    hosts = ("[", "evil.example", '"><script>alert(1)</script>', "a b", "x" * 60_000, "\xff", "")
    paths = ("/", "/docs", "/openapi.json", "/classify", "/page", "/nothing", "/v1/model")
    flags = ("--api_key", key, "--workers", 1)
    with serving(tone_model, *flags, temporary=tmp_path / "server", api_key=key) as server:
        for host, path in itertools.product(hosts, paths):
            with server.raw() as connection:
                connection.sendall(server.head("GET", path, {"Host": host}))
                reply = read_reply(connection, "GET")
            assert reply.status < 500, (host[:30], path, reply)
            assert b"<script>alert" not in reply.body
        assert "Traceback" not in "".join(server.complaints)


@needs_prlimit
def test_more_connections_than_files_are_turned_away_and_leave_no_harm(tone_model: Path, tmp_path: Path) -> None:
    with serving(
        tone_model, "--workers", 1, temporary=tmp_path / "server", prefix=("prlimit", "--nofile=64:64")
    ) as server:
        with contextlib.ExitStack() as stack:
            for _ in range(100):
                stack.enter_context(server.raw())
            with contextlib.suppress(ConnectionError):
                refused(server.post("/v1/classify", CLIP), 503)
        wait_until(lambda: is_well(server), "it to recover")
        assert "Traceback" not in "".join(server.complaints)


@needs_prlimit
def test_uploads_for_which_there_are_no_files_are_told_to_come_back(tone_model: Path, tmp_path: Path) -> None:
    with serving(
        tone_model, "--workers", 1, temporary=tmp_path / "server", prefix=("prlimit", "--nofile=64:64")
    ) as server:
        with contextlib.ExitStack() as stack:
            uploads = [stack.enter_context(server.raw()) for _ in range(28)]
            for upload in uploads:
                upload.sendall(server.head("POST", "/v1/classify", {"Content-Length": "1000"}) + b"x")
            time.sleep(1)
            answered = [upload for upload in uploads if select.select([upload], [], [], 0)[0]]
            assert answered
            for upload in answered:
                assert "too many connections" in refused(read_reply(upload), 503)
        wait_until(lambda: is_well(server), "it to recover")
        assert failed(server) == []
        assert "Traceback" not in "".join(server.complaints)


@pytest.mark.parametrize("sent", [b"", b"x"], ids=["nothing", "a byte"])
def test_uploads_that_are_announced_and_never_come_cost_nobody_an_answer(server: Serving, sent: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(400):
            connection = stack.enter_context(server.raw())
            connection.sendall(server.head("POST", "/v1/classify", {"Content-Length": "1000000"}) + sent)
        for _ in range(20):
            assert server.classify(CLIP)["decision"] == "c1200"


def is_well(server: Serving) -> bool:
    with contextlib.suppress(OSError, AssertionError):
        return server.classify(CLIP)["decision"] == "c1200"
    return False


@needs_prlimit
def test_a_full_disk_is_told_and_survived(tone_model: Path, tmp_path: Path) -> None:
    """As good as full: no file may grow beyond 100,000 bytes."""
    with serving(
        tone_model, "--workers", 1, temporary=tmp_path / "server", prefix=("prlimit", "--fsize=100000")
    ) as server:
        for reply in (
            server.post("/v1/classify", bytes(300_000)),
            server.form("/v1/classify", bytes(300_000)),
            server.form("/v1/classify", bytes(3_000_000)),
        ):
            refused(reply, 507)
        wait_until(lambda: len(server.files()) == 1, "uploads to go")
        assert server.classify(CLIP)["decision"] == "c1200"


def test_a_folder_that_was_tidied_away_comes_back(tone_model: Path, tmp_path: Path) -> None:
    """As systemd-tmpfiles does with what has lain in /tmp for ten days."""
    with serving(tone_model, "--workers", 1, temporary=tmp_path / "server") as server:
        for _ in range(2):
            for folder in server.temporary.iterdir():
                shutil.rmtree(folder)
            assert server.classify(CLIP)["decision"] == "c1200"
            assert server.form("/v1/classify", CLIP).status == 200


@pytest.mark.parametrize("way", ["in place", "by another"])
def test_a_model_that_is_overwritten_does_not_take_the_server_down(tone_model: Path, tmp_path: Path, way: str) -> None:
    """As cp and scp overwrite: the very file that is being served shrinks."""
    graph = copy_model(tone_model, tmp_path / "model")
    content = graph.read_bytes()
    with serving(graph, "--workers", 1, temporary=tmp_path / "server") as server:
        before = server.classify(CLIP)
        if way == "in place":
            os.truncate(graph, 0)
        else:
            (tmp_path / "new").write_bytes(b"")
            (tmp_path / "new").replace(graph)
        assert server.classify(CLIP) == before
        graph.write_bytes(bytes(len(content)))
        assert server.classify(CLIP) == before
        refused(server.post("/v1/reload"), 409)
        assert server.classify(CLIP) == before


def test_models_read_again_and_again_leave_nothing_behind(tone_model: Path, tmp_path: Path) -> None:
    with serving(tone_model, "--workers", 1, temporary=tmp_path / "server") as server:
        process = psutil.Process(server.process.pid)

        def reload(times: int) -> tuple[int, int]:
            for _ in range(times):
                assert server.post("/v1/reload").status == 200
            return memory(server), process.num_fds()

        first, files = reload(20)
        last, files_after = reload(150)
        assert last - first < 16 * MEGABYTE
        assert abs(files_after - files) < 5
        wait_until(lambda: process.num_threads() < 30, "old models' threads to end")


def test_clients_that_hang_up_at_every_point_leave_nothing_behind(server: Serving) -> None:
    head = server.head(
        "POST", "/v1/classify", {"Content-Type": FORM, "Content-Length": str(len(FORM_HEAD + CLIP + END))}
    )
    request = head + FORM_HEAD + CLIP + END
    cuts = sorted({*range(0, len(head), 40), *range(len(head), len(request), 1500), len(request) - 1, len(request)})
    for cut, abruptly in itertools.product(cuts, (False, True)):
        with server.raw() as connection:
            connection.sendall(request[:cut])
            if abruptly:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    server.wait_for_gauge(IN_HOUSE, 0)
