"""Live sound over a WebSocket: answers come while it is sent, and whoever floods, stalls or lies is refused."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import struct
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soxr
import websocket

from audionet.audio.live import LiveSound, play_file
from audionet.audio.opus import ogg_file
from audionet.audio.samples import to_int16
from audionet.inference.live import listen
from audionet.inference.predictor import Predictor
from tests.support.opus import opus_packets
from tests.support.serving import DEADLINE, Serving, copy_model, encoded, is_hung_up, serving, sound, wait_until

RATE = 16_000
KEY = "a key of characters/that no+subprotocol=holds".replace(" ", "-")
TALK = np.concatenate([sound(300, 3), np.zeros(2 * RATE), sound(4800, 3, seed=1)])


@pytest.fixture(scope="module")
def server(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    flags = ("--listeners", 2, "--time_limit", 2, "--max_seconds", 30)
    with serving(tone_model, *flags, temporary=tmp_path_factory.mktemp("live")) as server:
        yield server


@pytest.fixture(autouse=True)
def _all_have_left(server: Serving) -> Iterator[None]:
    yield
    wait_until(lambda: server.gauge("audionet_listeners") == 0, "the listeners have left")


@contextlib.contextmanager
def session(server: Serving, query: str = "", **options: Any) -> Iterator[websocket.WebSocket]:
    address = f"{server.url.replace('http', 'ws', 1)}/v1/listen?{query}"
    client = websocket.create_connection(address, timeout=DEADLINE, **options)
    try:
        yield client
    finally:
        client.shutdown()


def refusal(server: Serving, query: str = "", **options: Any) -> tuple[int, str]:
    with pytest.raises(websocket.WebSocketBadStatusException) as error, session(server, query, **options):
        pass
    problem = json.loads(error.value.resp_body)
    assert problem["status"] == error.value.status_code
    return problem["status"], problem["detail"]


def messages(client: websocket.WebSocket) -> Iterator[dict[str, Any]]:
    """Yield the server's messages until it closes the connection."""
    while True:
        code, content = client.recv_data()
        if code == websocket.ABNF.OPCODE_CLOSE:
            client.close_code = struct.unpack("!H", content[:2])[0]
            return
        yield json.loads(content)


def converse(client: websocket.WebSocket, parts: Iterable[bytes], speed: float = 0.0) -> list[dict[str, Any]]:
    """Send sound of 0.1 s a part, its end, and return what the server says."""

    def send() -> None:
        begin = time.monotonic()
        with contextlib.suppress(OSError, websocket.WebSocketException):  # the server may close before it is all sent
            for number, part in enumerate(parts):
                if speed:
                    time.sleep(max(0.0, begin + number / 10 / speed - time.monotonic()))
                client.send_binary(part)
            client.send("end")

    sender = threading.Thread(target=send)
    sender.start()
    found = list(messages(client))
    sender.join()
    return found


def pcm(samples: np.ndarray, block: int = RATE // 10) -> list[bytes]:
    whole = to_int16(samples.astype(np.float32)).astype("<i2").tobytes()
    return [whole[place : place + 2 * block] for place in range(0, len(whole), 2 * block)]


def of_type(found: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [message for message in found if message["type"] == kind]


def test_answers_are_those_of_the_command(server: Serving, tone_model: Path) -> None:
    with session(server, f"rate={RATE}") as client:
        found = converse(client, pcm(TALK))
        assert client.close_code == 1000
    ready, *_, end = found
    assert (ready["type"], ready["window_seconds"], ready["step_seconds"]) == ("ready", 0.5, pytest.approx(1 / 6))
    assert (end["type"], end["seconds"]) == ("end", 8)
    blocks = np.split(to_int16(TALK.astype(np.float32)), range(1600, len(TALK), 1600))
    nows = []
    wanted = list(listen(Predictor(tone_model), LiveSound(RATE, iter(blocks)), nows.append))
    said = of_type(found, "segment")
    assert [segment["label"] for segment in said] == ["a300", "e4800"]
    for one, other in zip(said, wanted, strict=True):
        assert (one["start"], one["end"]) == pytest.approx((other.start, other.end), abs=0.01)
        assert (one["probability"], one["score"]) == pytest.approx((other.probability, other.score), abs=0.01)
    assert len(of_type(found, "now")) == len(nows)
    assert [now["label"] for now in of_type(found, "now")] == [now.decision and now.decision.label for now in nows]


def test_each_window_is_answered_before_more_sound_comes(server: Serving) -> None:
    """No measure of speed: each block is sent after the answers to those before it."""
    with session(server, f"rate={RATE}") as client:
        assert json.loads(client.recv())["type"] == "ready"
        answered, ends = 0, (8000 + round(RATE / 6) * np.arange(9)) / RATE
        for number, part in enumerate(pcm(sound(1200, 2)), start=1):
            client.send_binary(part)
            while answered < np.sum(ends <= number / 10):
                message = json.loads(client.recv())
                if message["type"] == "now":
                    assert message["seconds"] == pytest.approx(ends[answered], abs=1e-3)
                    answered += 1
    assert answered == 9


@pytest.mark.parametrize("form", ["opus", "ogg"])
def test_opus_is_heard_as_it_is_when_decoded_as_a_whole(
    server: Serving, tone_model: Path, tmp_path: Path, form: str
) -> None:
    packets = opus_packets(soxr.resample(TALK, RATE, 48_000))
    whole = ogg_file(packets)
    parts = packets if form == "opus" else [whole[place : place + 700] for place in range(0, len(whole), 700)]
    with session(server, f"format={form}") as client:
        found = converse(client, parts)
    (tmp_path / "whole.opus").write_bytes(whole)
    with play_file(tmp_path / "whole.opus", speed=0) as live:
        wanted = list(listen(Predictor(tone_model), live, lambda now: None))
    segments = of_type(found, "segment")
    assert [segment["label"] for segment in segments] == [segment.label for segment in wanted]
    assert {"a300", "e4800"} <= {segment.label for segment in wanted}
    for one, other in zip(segments, wanted, strict=True):
        assert (one["start"], one["end"]) == pytest.approx((other.start, other.end), abs=0.05)
        assert one["label"] is None or one["probability"] == pytest.approx(other.probability, abs=0.05)
    assert of_type(found, "end")[0]["seconds"] == pytest.approx(8, abs=0.01)


@pytest.mark.parametrize(
    ("query", "parts", "status", "detail"),
    [
        ("", [b"odd"], 400, "a message ends within a sample"),
        ("", [b""], 400, "a message is neither sound"),
        ("", pcm(sound(300, 0.1), 10) + pcm(np.zeros(RATE), 8), 400, "the messages are too short"),
        ("format=opus", [b"\x03\x00"], 400, "the sound is no packet of Opus"),
        ("format=ogg", [encoded(sound(300, 1))], 400, "the sound is no Ogg stream"),
        ("rate=1000", pcm(np.zeros(31_000), 8000), 413, "the sound is longer than 30 s"),
    ],
)
def test_sound_that_cannot_be_used_ends_the_session(
    server: Serving, query: str, parts: list[bytes], status: int, detail: str
) -> None:
    with session(server, query) as client:
        *_, problem = converse(client, parts)
        assert client.close_code == 1008
    assert (problem["type"], problem["status"]) == ("problem", status)
    assert problem["detail"].startswith(detail)


def test_chained_ogg_streams_are_one(server: Serving) -> None:
    part = ogg_file(opus_packets(soxr.resample(sound(300, 1), RATE, 48_000)))
    with session(server, "format=ogg") as client:
        *_, end = converse(client, [part, part])
    assert (end["type"], end["seconds"]) == ("end", pytest.approx(2, abs=0.05))


def test_a_packet_that_only_begins_as_one_is_no_sound(server: Serving) -> None:
    packets = [bytes([31 << 3]) + bytes(np.random.default_rng(seed).bytes(60)) for seed in range(100)]
    with session(server, "format=opus") as client:
        found = converse(client, packets)
    assert found[-1]["type"] in ("end", "problem")


@pytest.mark.parametrize("other", ["hello", "END"])
def test_other_texts_are_refused(server: Serving, other: str) -> None:
    with session(server) as client:
        client.send(other)
        *_, problem = messages(client)
        assert "neither sound" in problem["detail"]


def test_whoever_stalls_is_hung_up_on(server: Serving) -> None:
    with session(server) as client:
        client.send_binary(bytes(3200))
        *_, problem = messages(client)
        assert (problem["status"], problem["detail"]) == (408, "no sound came for 2 s")


def test_a_rate_that_is_not_true_is_noticed(server: Serving) -> None:
    with session(server, "rate=8000") as client:
        found = converse(client, pcm(sound(300, 6)), speed=1)
    warnings = of_type(found, "warning")
    assert [warning["detail"] for warning in warnings] == [
        "the sound comes 2.0 times as fast as real time: is its rate 8000 Hz?"
    ]
    assert of_type(found, "end")


@pytest.mark.parametrize(
    ("query", "status", "detail"),
    [
        ("rate=999", 422, "rate: input should be greater than or equal to 1000"),
        ("rate=x", 422, "rate: "),
        ("rate=500000", 413, "the sample rate is 500000 Hz, and the limit is 384000 Hz"),
        ("format=mp3", 422, "format: "),
    ],
)
def test_what_cannot_be_heard_is_refused_at_once(server: Serving, query: str, status: int, detail: str) -> None:
    given, said = refusal(server, query)
    assert given == status
    assert said.startswith(detail)


def test_more_listeners_than_allowed_come_back_later(server: Serving) -> None:
    with session(server) as first, session(server) as second:
        assert json.loads(first.recv())["type"] == json.loads(second.recv())["type"] == "ready"
        assert server.gauge("audionet_listeners") == 2
        assert refusal(server) == (503, "too many clients send live sound; try again in a moment")
        first.close()
        wait_until(lambda: server.gauge("audionet_listeners") == 1, "a listener has left")
    with session(server, "") as third:
        assert json.loads(third.recv())["type"] == "ready"


def test_a_client_that_leaves_is_forgotten(server: Serving) -> None:
    with session(server) as client:
        for part in pcm(TALK):
            client.send_binary(part)
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    wait_until(lambda: server.gauge("audionet_listeners") == 0, "the listener has left")
    assert server.classify(encoded(sound(300, 1)))["decision"] == "a300"


@pytest.mark.parametrize("flood", ["pings", "parts"])
def test_a_flood_of_tiny_frames_is_cut_off(server: Serving, flood: str) -> None:
    opcode = websocket.ABNF.OPCODE_PING if flood == "pings" else websocket.ABNF.OPCODE_CONT
    with session(server) as client:
        frame = websocket.ABNF(fin=int(flood == "pings"), opcode=opcode, mask_value=1, data=b"")
        first = websocket.ABNF(fin=0, opcode=websocket.ABNF.OPCODE_BINARY, mask_value=1, data=b"")
        with contextlib.suppress(OSError):
            client.sock.sendall(first.format() + frame.format() * 100_000)
        with pytest.raises((OSError, websocket.WebSocketException)):
            while True:
                client.recv_frame()
    assert server.get("/healthz").status == 200


@pytest.mark.parametrize("size", [1, 100_000])
def test_frames_before_the_answer_to_the_upgrade_are_cut_off(server: Serving, size: int) -> None:
    upgrade = {
        "Upgrade": "websocket",
        "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(bytes(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    frame = websocket.ABNF(fin=1, opcode=websocket.ABNF.OPCODE_BINARY, mask_value=1, data=bytes(2 * size))
    with server.raw() as connection:
        connection.sendall(server.head("GET", "/v1/listen", upgrade) + frame.format())
        assert is_hung_up(connection)
    assert not "".join(server.complaints)


def test_a_message_that_is_too_large_is_refused(server: Serving) -> None:
    with session(server) as client:
        with contextlib.suppress(OSError):
            client.send_binary(bytes(1 << 20))
        with contextlib.suppress(OSError, websocket.WebSocketException):
            list(messages(client))


@pytest.mark.skipif(shutil.which("prlimit") is None, reason="takes prlimit")
def test_a_full_disk_ends_the_session_with_the_reason(tone_model: Path, tmp_path: Path) -> None:
    with (
        serving(tone_model, "--workers", 1, temporary=tmp_path, prefix=("prlimit", "--fsize=3000")) as server,
        session(server) as client,
    ):
        *_, problem = converse(client, pcm(TALK))
        assert (problem["status"], problem["detail"]) == (507, "the sound cannot be stored (File too large)")
        assert client.close_code == 1013
        assert server.complaints == []


def test_other_sites_may_not_listen(server: Serving) -> None:
    status, detail = refusal(server, origin="https://evil.example")
    assert status == 403
    assert detail.startswith("pages of other sites may not send requests")
    assert refusal(server, host="evil.example")[0] == 421


@pytest.mark.parametrize("path", ["/v1/classify", "/", "/nowhere"])
def test_other_paths_are_no_websockets(server: Serving, path: str) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as error:
        websocket.create_connection(server.url.replace("http", "ws", 1) + path, timeout=DEADLINE)
    assert error.value.status_code == 404
    assert json.loads(error.value.resp_body)["detail"].startswith(f"there is no WebSocket {path}; live sound")


def test_the_key_comes_as_a_header_or_as_a_subprotocol(tone_model: Path, tmp_path: Path) -> None:
    def offered(key: str) -> list[str]:
        return ["audionet", "bearer." + base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")]

    with serving(tone_model, "--api_key", KEY, temporary=tmp_path, api_key=KEY) as server:
        assert refusal(server) == (401, "an API key is needed; send the header Authorization: Bearer KEY")
        for subprotocols in (offered("another key"), ["bearer.%%%"], ["bearer."]):
            assert refusal(server, subprotocols=subprotocols)[0] == 401
        with session(server, header=[f"Authorization: Bearer {KEY}"]) as client:
            assert json.loads(client.recv())["type"] == "ready"
        with session(server, subprotocols=offered(KEY)) as client:
            assert client.getsubprotocol() == "audionet"
            assert json.loads(client.recv())["type"] == "ready"


def test_another_model_ends_sessions_and_the_same_does_not(tone_model: Path, chord_model: Path, tmp_path: Path) -> None:
    graph = copy_model(tone_model, tmp_path / "model")
    with serving(graph, temporary=tmp_path / "temporary") as server, session(server) as client:
        assert json.loads(client.recv())["type"] == "ready"
        assert server.post("/v1/reload").status == 200
        client.send_binary(pcm(sound(300, 0.6), 9600)[0])
        assert json.loads(client.recv())["type"] == "now"
        for path in chord_model.parent.glob("chords*"):
            shutil.copy(
                path, graph.with_name(path.name.replace(chord_model.stem, graph.stem).replace("chords", "retrained"))
            )
        assert server.post("/v1/reload").status == 200
        *_, problem = converse(client, pcm(sound(300, 2)))
        assert (problem["status"], problem["detail"]) == (503, "the model was replaced; connect again")
        assert client.close_code == 1013


def test_a_server_that_stops_says_so(tone_model: Path, tmp_path: Path) -> None:
    with serving(tone_model, temporary=tmp_path) as server, session(server) as client:
        assert json.loads(client.recv())["type"] == "ready"
        client.send_binary(bytes(32_000))
        server.process.terminate()
        list(messages(client))
        assert client.close_code == 1012
