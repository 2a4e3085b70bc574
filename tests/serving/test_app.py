"""The service as its users have it: a process, asked over HTTP."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from urllib.parse import unquote

import httpx
import numpy as np
import psutil
import pytest
import soundfile
import soxr
from PIL import Image

from audionet._paths import enrolled_path, lite_path, model_json_path
from audionet.inference.clip import Clip
from audionet.inference.predictor import Predictor
from audionet.inference.verification import enrol_from_clips
from audionet.serving.config import API_KEY_VARIABLE
from audionet.serving.protocol import PROBE_SECONDS
from audionet.utils.files import write_json
from tests.support.encoding import encode, encode_tracks
from tests.support.models import TONES
from tests.support.scripts import run_script
from tests.support.serving import (
    DEADLINE,
    Serving,
    copy_model,
    encoded,
    fails_to_start,
    is_hung_up,
    read_reply,
    serving,
    sound,
    wait_until,
)

KEY = "0123456789abcdef-key"
SITE = "https://example.org"
PATHS = ("/", "/docs", "/openapi.json", "/healthz", "/readyz", "/metrics", "/v1/model", "/v1/report", "/page/page.css")
OPEN_PATHS = frozenset(PATHS) - {"/metrics", "/v1/model", "/v1/report"}
WORK_PATHS = ("/v1/classify", "/v1/spectrogram", "/v1/explain", "/classify/")
ENROLMENT = "/v1/enrolled?name=zoe"  # always to be refused here: the model is not this module's alone
IN_HOUSE = "audionet_requests_in_flight"


@pytest.fixture(scope="module")
def server(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(tone_model, temporary=tmp_path_factory.mktemp("server")) as server:
        yield server


@pytest.fixture(scope="module")
def narrow(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server with one process to decode and room for two requests."""
    with serving(tone_model, "--queue", 2, "--workers", 1, temporary=tmp_path_factory.mktemp("narrow")) as server:
        yield server


@pytest.fixture(scope="module")
def locked(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """A server that may be reached from elsewhere, with a key, and whose pages another site's may ask."""
    flags = ("--host", "0.0.0.0", "--cors_origin", SITE, "--workers", 1)
    environment = {API_KEY_VARIABLE: KEY}
    with serving(
        tone_model, *flags, temporary=tmp_path_factory.mktemp("locked"), environment=environment, api_key=KEY
    ) as server:
        server.url = server.url.replace("0.0.0.0", "127.0.0.1")
        yield server


@pytest.fixture
def graph(tone_model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may change."""
    return copy_model(tone_model, tmp_path / "model")


@pytest.fixture(scope="module")
def clip() -> bytes:
    return encoded(sound(1200, 2.0))


@pytest.fixture(scope="module")
def two_tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A FLAC of 6 s: one tone, silence, another."""
    path = tmp_path_factory.mktemp("clips") / "two tones.flac"
    path.write_bytes(encoded(np.concatenate([sound(600, 2.0), np.zeros(32_000), sound(4800, 2.0)]), kind="FLAC"))
    return path


@contextlib.contextmanager
def stopped(server: Serving) -> Iterator[list[psutil.Process]]:
    """Nothing that is asked meanwhile gets anywhere: the processes that decode stand still."""
    workers = server.workers()
    for worker in workers:
        worker.suspend()
    try:
        yield workers
    finally:
        for worker in workers:
            with contextlib.suppress(psutil.NoSuchProcess):
                worker.resume()


@contextlib.contextmanager
def full(server: Serving, clip: bytes, number: int = 2) -> Iterator[list[socket.socket]]:
    """As many recordings as the queue holds, none of which gets anywhere within the block."""
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(server.raw()) for _ in range(number)]
        stack.enter_context(stopped(server))
        for connection in connections:
            send(server, connection, clip)
        yield connections
    server.wait_for_gauge(IN_HOUSE, 0)


def send(server: Serving, connection: socket.socket, clip: bytes) -> None:
    """Upload a clip, and wait until the server is at work on it."""
    before = server.gauge(IN_HOUSE)
    connection.sendall(server.head("POST", "/v1/classify", {"Content-Length": str(len(clip))}) + clip)
    server.wait_for_gauge(IN_HOUSE, before + 1)


def test_a_known_sound_by_body_by_form_and_as_the_recipe_has_it(server: Serving, clip: bytes) -> None:
    by_body = server.classify(clip)
    assert by_body["decision"] == "c1200"
    assert by_body["unknown"] is False
    assert (by_body["file"], by_body["seconds"], by_body["chunks"]) == ("upload", 2.0, 4)
    assert [(turn["start"], turn["end"], turn["label"]) for turn in by_body["segments"]] == [(0.0, 2.0, "c1200")]
    by_form = server.form("/v1/classify", clip, "kitchen.wav").json
    assert by_form == by_body | {"file": "kitchen.wav"}
    assert server.post("/v1/classify?name=x/kitchen.wav", clip).json == by_form
    assert server.form("/classify/", clip).json == server.post("/classify/", clip).json == {"predicted_class": "c1200"}


@pytest.mark.parametrize("field_name", ["file", "audio", "", "ö"])
def test_the_file_of_a_form_may_have_any_name(server: Serving, clip: bytes, field_name: str) -> None:
    assert server.form("/v1/classify", clip, field_name=field_name).json["decision"] == "c1200"


def test_a_client_in_common_use_sends_in_chunks_and_forms(server: Serving, clip: bytes) -> None:
    with httpx.Client(base_url=server.url, timeout=DEADLINE) as client:
        halves = iter([clip[:1000], clip[1000:]])
        assert client.post("/v1/classify", content=halves).json()["decision"] == "c1200"
        files = {"file": ("Ö ünseen.wav", clip)}
        other = {"comment": "said in a field beside it"}
        assert client.post("/v1/classify", files=files, data=other).json()["file"] == "Ö ünseen.wav"


def test_a_client_that_asks_first_is_told_to_go_on(server: Serving, clip: bytes) -> None:
    with server.raw() as connection:
        fields = {"Content-Length": str(len(clip)), "Expect": "100-continue"}
        connection.sendall(server.head("POST", "/v1/classify", fields))
        assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(clip)
        assert read_reply(connection).json["decision"] == "c1200"


def test_a_client_that_would_rather_have_http_2_is_answered_in_http_1(server: Serving, clip: bytes) -> None:
    """Java's own client asks that way with every request, curl with --http2."""
    wish = {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMAAABkAAQAoAAAAAIAAAAA"}
    with server.raw() as connection:
        connection.sendall(server.head("GET", "/healthz", wish))
        assert read_reply(connection).status == 200
        connection.sendall(server.head("POST", "/v1/classify", wish | {"Content-Length": str(len(clip))}))
        connection.sendall(clip)
        assert read_reply(connection).json["decision"] == "c1200"


def test_the_numbers_are_those_of_the_command_line(server: Serving, tone_model: Path, two_tones: Path) -> None:
    arguments = ("--graph", tone_model, "--json", "--per_chunk", "--top_k", 3, two_tones)
    done = run_script("label_image.py", *arguments)
    expected = json.loads(done.stdout) | {"file": two_tones.name}
    answer = server.post("/v1/classify?top_k=3&name=two+tones.flac", two_tones.read_bytes()).json
    segments, model = answer.pop("segments"), answer.pop("model")
    assert answer == expected
    assert len(expected["per_chunk"]) == 8
    assert model == json.loads(model_json_path(tone_model).read_text())["graph_sha256"]
    assert [turn["label"] for turn in segments] == ["b600", "e4800"]


@pytest.mark.parametrize(("top_k", "labels"), [(0, 5), (1, 1), (2, 2), (100_000, 5)])
def test_as_many_labels_as_asked_for(server: Serving, clip: bytes, top_k: int, labels: int) -> None:
    assert len(server.post(f"/v1/classify?top_k={top_k}", clip).json["labels"]) == labels


def test_an_unknown_sound_is_unknown(server: Serving) -> None:
    noise = encoded(0.1 * np.random.default_rng(0).standard_normal(32_000))
    answer = server.classify(noise)
    assert answer["unknown"] is True
    assert answer["decision"] is None
    assert answer["score"] < answer["threshold"]
    assert server.post("/classify/", noise).json == {"predicted_class": "unknown"}


def test_a_damaged_recording_is_judged_by_what_can_be_heard(server: Serving) -> None:
    whole = encoded(sound(600, 8.0), kind="FLAC")
    answer = server.classify(whole[: len(whole) // 2])
    assert answer["decision"] == "b600"
    assert "remark" in answer
    assert 1 < answer["seconds"] < 7


def test_a_stream_whose_header_knows_no_length_is_answered(server: Serving) -> None:
    """As encoders write it that cannot go back to the header: MediaRecorder, or ffmpeg to a pipe."""
    flac = bytearray(encoded(sound(2400, 2.0), kind="FLAC"))
    flac[21] &= 0xF0
    flac[22:26] = bytes(4)  # STREAMINFO's number of samples
    assert server.classify(bytes(flac))["decision"] == "d2400"
    wav = bytearray(encoded(sound(2400, 2.0)))
    wav[4:8] = wav[40:44] = b"\xff\xff\xff\xff"
    assert server.classify(bytes(wav))["decision"] == "d2400"


@pytest.mark.parametrize("name", ["clip.m4a", "clip.webm", "clip.mp4", "clip"])
def test_containers_of_phones_and_browsers(server: Serving, tmp_path: Path, name: str) -> None:
    codec, rate = ("libopus", 48_000) if name.endswith("webm") else ("aac", 16_000)
    path = encode(
        tmp_path / f"made.{name.partition('.')[2] or 'm4a'}", soxr.resample(sound(1200, 2.0), 16_000, rate), codec, rate
    )
    answer = server.form("/v1/classify", path.read_bytes(), name).json
    assert answer["decision"] == "c1200", answer


def test_a_film_is_answered_on_its_own_clock(server: Serving, tmp_path: Path) -> None:
    path = encode_tracks(tmp_path / "film.mka", [("flac", [(5.0, sound(1200, 2.0)), (10.0, sound(1200, 2.0))])])
    answer = server.form("/v1/classify", path.read_bytes(), "film.mka").json
    assert answer["seconds"] == pytest.approx(12, abs=0.1)
    assert answer["per_chunk"][0]["start"] == pytest.approx(5, abs=0.05)
    assert max(chunk["start"] for chunk in answer["per_chunk"]) > 10


def test_the_image_of_a_chunk_is_to_the_byte_the_models(server: Serving, tone_model: Path, two_tones: Path) -> None:
    images = [chunk.jpg for chunk in Clip(two_tones, Predictor(tone_model).spectrogram)]
    for number in (0, 3, 11):
        reply = server.post(f"/v1/spectrogram?chunk={number}", two_tones.read_bytes())
        assert reply.headers["Content-Type"] == "image/jpeg"
        assert float(reply.headers["AudioNet-Seconds"]) == 0.5
        assert reply.body == images[number]
    silent = server.post("/v1/spectrogram?chunk=5", two_tones.read_bytes())
    assert (silent.status, silent.detail) == (422, "upload: is silent in chunk 5")
    beyond = server.form("/v1/spectrogram?chunk=12", two_tones.read_bytes(), "x.flac")
    assert (beyond.status, beyond.detail) == (422, "x.flac: has no chunk 12")


def test_the_image_of_a_clip_spans_it(server: Serving, tmp_path: Path, two_tones: Path) -> None:
    reply = server.post("/v1/spectrogram?view=clip", two_tones.read_bytes())
    assert float(reply.headers["AudioNet-Seconds"]) == 6.0
    (tmp_path / "clip.jpg").write_bytes(reply.body)
    with Image.open(tmp_path / "clip.jpg", formats=["JPEG"]) as image:
        assert image.width == pytest.approx(6.0 * 100, rel=0.1)  # a column every 10 ms
        columns = np.asarray(image.convert("L"), dtype=float).mean(axis=0)
    first, second, third = (part.mean() for part in np.array_split(columns, 3))
    assert min(first, third) > second + 1  # which is silent


def test_the_evidence_in_a_clip_is_drawn(server: Serving, two_tones: Path, tmp_path: Path) -> None:
    reply = server.form("/v1/explain", two_tones.read_bytes(), "two.flac")
    assert (reply.status, reply.headers["Content-Type"]) == (200, "image/png")
    assert float(reply.headers["AudioNet-Seconds"]) == 6.0
    summary = unquote(reply.headers["AudioNet-Evidence"])
    decision = server.classify(two_tones.read_bytes())["decision"]
    assert decision in summary
    other = next(name for name in TONES if name != decision)
    named = server.post(f"/v1/explain?label={other}", two_tones.read_bytes())
    assert other in unquote(named.headers["AudioNet-Evidence"])
    assert named.body != reply.body
    with Image.open(io.BytesIO(reply.body), formats=["PNG"]) as image:
        pixels = np.asarray(image).astype(int)
    spectrogram = server.post("/v1/spectrogram?view=clip", two_tones.read_bytes())
    with Image.open(io.BytesIO(spectrogram.body), formats=["JPEG"]) as image:
        assert pixels.shape == (image.height, image.width, 3)
    coloured = (pixels[..., 0] != pixels[..., 2]).any(axis=0)
    first, second, third = (part.mean() for part in np.array_split(coloured, 3))
    assert first + third > 0
    assert second < 0.05  # which is silent


def test_what_cannot_be_explained_is_a_problem(server: Serving, two_tones: Path) -> None:
    unknown = server.form("/v1/explain?label=zo%0Ae", two_tones.read_bytes(), "two.flac")
    assert unknown.status == 422
    assert unknown.detail.startswith(r"two.flac: label zo\ne: the model has no such label, it has a300, b600")
    silent = io.BytesIO()
    soundfile.write(silent, np.zeros(16_000), 16_000, format="WAV")
    refused = server.form("/v1/explain", silent.getvalue(), "x.wav")
    assert (refused.status, refused.detail) == (422, "x.wav: is silent from beginning to end")


def test_the_model_describes_itself(server: Serving, tone_model: Path) -> None:
    card = json.loads(model_json_path(tone_model).read_text())
    content = server.get("/v1/model").json
    assert tuple(content["labels"]) == TONES
    assert content["id"] == card["graph_sha256"]
    assert (content["chunk_seconds"], content["step_seconds"], content["enrolled"]) == (0.5, 0.5, [])
    assert content["can_enrol"] is True
    assert content["threshold"] == card["open_set"]["rejection"]["several"]
    assert content["limits"] == {"megabytes": 100.0, "seconds": 3600.0, "channels": 32, "rate": 384_000}
    assert str(tone_model.parent) not in json.dumps(content)


def test_whether_it_lives_and_is_ready(server: Serving) -> None:
    assert server.get("/healthz").json == {"status": "ok"}
    assert server.get("/readyz").json == {"status": "ready"}


def test_metrics_count_what_was_asked(server: Serving, clip: bytes) -> None:
    names = (
        'audionet_requests_total{path="/v1/classify",status="200"}',
        'audionet_requests_total{path="other",status="404"}',
        'audionet_answers_total{decision="known"}',
        "audionet_images_total",
        'audionet_request_seconds_count{path="/v1/classify"}',
    )
    before = [server.gauge(name) for name in names]
    server.classify(clip)
    server.get("/nothing")
    server.get("/neither")
    assert [server.gauge(name) - then for name, then in zip(names, before, strict=True)] == [1, 2, 1, 4, 1]
    assert server.gauge(IN_HOUSE) == 0
    assert server.get("/metrics").headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert server.gauge("process_resident_memory_bytes") > 1e6


def test_paths_that_a_client_makes_up_do_not_grow_the_metrics(server: Serving) -> None:
    before = len(server.get("/metrics").body.splitlines())
    for number in range(20):
        server.get(f"/made/up/{number}")
    assert len(server.get("/metrics").body.splitlines()) <= before + 20


def test_the_reference_has_every_path_and_needs_nobody(server: Serving) -> None:
    page = server.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    text = page.body.decode()
    for path in server.get("/openapi.json").json["paths"]:
        assert path in text
    assert "<script" not in text
    assert re.findall(r"(?:src|href)=[\"']?(?:https?:)?//[^\s\"'>]+", text) == []


def test_the_page_is_there(server: Serving) -> None:
    reply = server.get("/")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("text/html")


def assert_guarded(headers: object) -> None:
    """Headers that keep a browser from doing more than the page needs."""
    assert isinstance(headers, httpx.Headers)
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["X-Frame-Options"] == "DENY"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] in ("no-store", "no-cache")
    assert "server" not in headers


@pytest.mark.parametrize("path", [*PATHS, "/nothing", "/page/nothing", "/page/../serve.py"])
def test_every_answer_is_guarded(server: Serving, path: str) -> None:
    assert_guarded(httpx.get(server.url + path).headers)


@pytest.mark.parametrize("path", WORK_PATHS)
def test_answers_to_uploads_are_guarded(server: Serving, path: str, clip: bytes) -> None:
    assert_guarded(httpx.post(server.url + path, content=clip).headers)
    refused = httpx.post(server.url + path, content=b"words")
    assert refused.status_code == 422
    assert_guarded(refused.headers)
    assert_guarded(httpx.post(server.url + path, content=clip, headers={"Origin": "http://elsewhere"}).headers)


def test_reaching_it_from_elsewhere_takes_a_key(tone_model: Path) -> None:
    code, complaint = fails_to_start(tone_model, "--host", "0.0.0.0")
    assert code == 2
    assert re.fullmatch(r"serve\.py: --host 0\.0\.0\.0 may be reachable from other machines: .*API_KEY=.*\n", complaint)
    for key in ("brief", "with a blank in it", "not in ascii: ööö"):
        code, complaint = fails_to_start(tone_model, environment={API_KEY_VARIABLE: key})
        assert (code, complaint.count("\n")) == (2, 1)
        assert key not in complaint


@pytest.mark.parametrize("path", [*sorted(set(PATHS) - OPEN_PATHS), *WORK_PATHS, ENROLMENT, "/v1/reload", "/nothing"])
@pytest.mark.parametrize(
    ("authorization", "message"),
    [
        ("", "an API key is needed"),
        ("Bearer", "an API key is needed"),
        ("Bearer wrong", "the API key is wrong"),
        (f"Bearer {KEY}x", "the API key is wrong"),
        (f"Basic {KEY}", "the API key is wrong"),
        ("Bearer \xe4\xff", "the API key is wrong"),
    ],
)
def test_without_the_key_nothing_is_told(locked: Serving, path: str, authorization: str, message: str) -> None:
    method = "GET" if path in PATHS else "POST"
    reply = locked.ask(method, path, headers={"Authorization": authorization})
    assert reply.status == 401
    assert reply.headers["WWW-Authenticate"] == "Bearer"
    assert message in reply.detail
    assert KEY not in reply.detail


@pytest.mark.parametrize("path", sorted(OPEN_PATHS))
def test_the_page_and_its_health_take_no_key(locked: Serving, path: str) -> None:
    assert locked.ask("GET", path, headers={"Authorization": ""}).status == 200


@pytest.mark.parametrize("path", ["/v1/model%0A", "/page/../v1/model", "//v1/model", "/healthz/../v1/model"])
def test_no_way_of_writing_a_path_gets_round_the_key(locked: Serving, path: str) -> None:
    reply = locked.ask("GET", path, headers={"Authorization": ""})
    assert reply.status in (401, 404)
    assert b"labels" not in reply.body


def test_with_the_key_it_answers_under_any_name(locked: Serving, clip: bytes) -> None:
    assert locked.classify(clip)["decision"] == "c1200"
    assert locked.get("/v1/model", Host="audionet.example").status == 200
    assert locked.get("/v1/model", Authorization=f"bearer {KEY}").status == 200


def test_the_key_is_not_told_to_the_worker_processes(locked: Serving) -> None:
    for worker in locked.workers():
        assert KEY not in worker.environ().values()


@pytest.mark.parametrize("origin", ["http://elsewhere", "null", "https://example.org.evil", "http://[", "", "http://"])
@pytest.mark.parametrize("path", [*WORK_PATHS, ENROLMENT, "/v1/reload"])
def test_pages_of_other_sites_may_not_ask(server: Serving, origin: str, path: str, clip: bytes) -> None:
    reply = server.post(path, clip, {"Origin": origin})
    assert reply.status == 403
    assert "--cors_origin" in reply.detail
    assert "Access-Control-Allow-Origin" not in reply.headers


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site", "anything"])
def test_a_browser_that_names_no_page_but_another_site_may_not_ask(server: Serving, clip: bytes, site: str) -> None:
    assert server.post("/v1/classify", clip, {"Sec-Fetch-Site": site}).status == 403
    assert server.get("/v1/model", **{"Sec-Fetch-Site": site}).status == 200


def test_its_own_page_may_ask(server: Serving, clip: bytes) -> None:
    assert server.post("/v1/classify", clip, {"Origin": server.url}).status == 200
    assert server.post("/v1/classify", clip, {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}).status == 200
    assert server.post("/v1/classify", clip, {"Sec-Fetch-Site": "none"}).status == 200


def test_a_site_that_was_named_may_ask(locked: Serving, clip: bytes) -> None:
    wish = {
        "Origin": SITE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        "Authorization": "",
    }
    preflight = locked.ask("OPTIONS", "/v1/classify", headers=wish)
    assert preflight.status == 200
    assert preflight.headers["Access-Control-Allow-Origin"] == SITE
    assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
    assert "authorization" in preflight.headers["Access-Control-Allow-Headers"].lower()
    reply = locked.post("/v1/spectrogram", clip, {"Origin": SITE})
    assert reply.status == 200
    assert reply.headers["Access-Control-Allow-Origin"] == SITE
    assert "AudioNet-Seconds" in reply.headers["Access-Control-Expose-Headers"]
    refused = locked.post("/v1/classify", clip, {"Origin": SITE, "Authorization": "Bearer wrong"})
    assert (refused.status, refused.headers["Access-Control-Allow-Origin"]) == (401, SITE)  # so that the page can say


def test_a_site_that_was_not_named_may_not(locked: Serving, clip: bytes) -> None:
    wish = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    preflight = locked.ask("OPTIONS", "/v1/classify", headers=wish)
    assert preflight.status >= 400
    assert "Access-Control-Allow-Origin" not in preflight.headers
    assert locked.post("/v1/classify", clip, {"Origin": "https://evil.example"}).status == 403


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "localhost.evil.example", "127.0.0.1.evil.example", "[", "", "10.0.0.1"]
)
def test_anothers_name_that_points_here_is_not_answered_to(server: Serving, host: str) -> None:
    for path in ("/", "/v1/model", "/healthz"):
        reply = server.get(path, Host=host)
        assert reply.status == 421
        assert "localhost only" in reply.detail


@pytest.mark.parametrize("host", ["localhost", "localhost:1", "LOCALHOST", "127.0.0.1", "127.0.0.2:80", "[::1]:80"])
def test_its_own_names_are_answered_to(server: Serving, host: str) -> None:
    assert server.get("/v1/model", Host=host).status == 200


def test_when_the_house_is_full_others_are_told_to_come_back(narrow: Serving, clip: bytes) -> None:
    refused = narrow.gauge("audionet_requests_refused_total")
    counted = narrow.gauge('audionet_requests_total{path="/v1/spectrogram",status="503"}')
    with full(narrow, clip):
        for path in (*WORK_PATHS, ENROLMENT):
            for headers in ({}, {"Origin": narrow.url}):  # the short way, and the other
                reply = narrow.post(path, clip, headers)
                assert reply.status == 503
                assert int(reply.headers["Retry-After"]) >= 1
                assert "too many requests" in reply.detail
        assert narrow.get("/readyz").status == narrow.get("/v1/model").status == 200
        assert narrow.gauge("audionet_requests_refused_total") == refused + 2 * len((*WORK_PATHS, ENROLMENT))
        assert narrow.gauge('audionet_requests_total{path="/v1/spectrogram",status="503"}') == counted + 2
    narrow.wait_for_gauge(IN_HOUSE, 0)
    assert narrow.classify(clip)["decision"] == "c1200"


@pytest.mark.parametrize("path", ["/v1/classify%0A", "/v1/spectrogram%0A", "/classify/%0A", "/v1/classify%0D%0A"])
def test_no_way_of_writing_a_path_gets_round_the_queue(narrow: Serving, clip: bytes, path: str) -> None:
    with full(narrow, clip):
        assert narrow.post(path, clip).status in (404, 503)
    narrow.wait_for_gauge(IN_HOUSE, 0)


def test_refused_uploads_in_a_row_are_answered_in_that_order(narrow: Serving, clip: bytes) -> None:
    with full(narrow, clip), narrow.raw() as connection:
        one = narrow.head("POST", "/v1/classify", {"Content-Length": "3", "Connection": "keep-alive"}) + b"abc"
        connection.sendall(one * 20 + narrow.head("GET", "/healthz") + one)
        for _ in range(20):
            assert read_reply(connection).status == 503
        assert read_reply(connection).json == {"status": "ok"}
        assert read_reply(connection).status == 503


@pytest.mark.parametrize("second", ["0, 0", "+5", "5", "1234567890123456"])
def test_no_length_is_smuggled_in_where_uploads_are_refused(narrow: Serving, clip: bytes, second: str) -> None:
    with full(narrow, clip), narrow.raw() as connection:
        head = narrow.head("POST", "/v1/classify", {"Content-Length": "5", "content-length": second})
        connection.sendall(head + b"hello")
        assert read_reply(connection).status in ((503,) if second == "5" else (400, 413))


def test_uploads_that_are_only_announced_hold_no_place(narrow: Serving, clip: bytes) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(8):
            stack.enter_context(narrow.held_back())
        assert narrow.classify(clip)["decision"] == "c1200"
        assert narrow.form("/v1/classify", clip).status == 200
    narrow.wait_for_gauge(IN_HOUSE, 0)


def test_the_slowest_of_too_many_uploads_makes_room(tone_model: Path, tmp_path: Path, clip: bytes) -> None:
    with serving(tone_model, "--uploads", 2, temporary=tmp_path / "server") as server, contextlib.ExitStack() as stack:
        slow, quick = (
            stack.enter_context(server.held_back()),
            stack.enter_context(server.held_back(100_000, bytes(9999))),
        )
        assert server.classify(clip)["decision"] == "c1200"
        reply = read_reply(slow)
        assert reply.status == 503
        assert "one of the slowest" in reply.detail
        assert not select.select([quick], [], [], 0)[0]


def test_the_largest_upload_makes_room_where_all_are_too_large(tone_model: Path, tmp_path: Path, clip: bytes) -> None:
    flags = ("--max_megabytes", 1, "--spool_megabytes", 1)
    with serving(tone_model, *flags, temporary=tmp_path / "server") as server, contextlib.ExitStack() as stack:
        small = stack.enter_context(server.held_back(900_000, bytes(400_000)))
        large = stack.enter_context(server.held_back(900_000, bytes(580_000)))
        assert server.classify(clip)["decision"] == "c1200"
        assert read_reply(large).status == 503
        assert not select.select([small], [], [], 0)[0]


def test_a_client_that_closes_its_side_gets_its_answer(narrow: Serving, clip: bytes) -> None:
    head = narrow.head("POST", "/v1/classify", {"Content-Length": str(len(clip))})
    for content in (head + clip, narrow.head("GET", "/healthz") + head + clip):
        with narrow.raw() as connection, stopped(narrow):
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            narrow.wait_for_gauge(IN_HOUSE, 1)
            time.sleep(1.5 * PROBE_SECONDS)
            for worker in narrow.workers():
                worker.resume()
            if content != head + clip:
                assert read_reply(connection).json == {"status": "ok"}
            assert read_reply(connection).json["decision"] == "c1200"
            assert is_hung_up(connection)
    with narrow.raw() as connection:
        connection.sendall(head + clip[:-1])
        connection.shutdown(socket.SHUT_WR)
        assert is_hung_up(connection)
    narrow.wait_for_gauge(IN_HOUSE, 0)


def test_a_target_may_be_a_whole_url(server: Serving, clip: bytes) -> None:
    for scheme in ("http", "HTTPS"):
        assert server.get(f"{scheme}://{server.host}/healthz").json == {"status": "ok"}
        assert server.get(f"{scheme}://{server.host}").status == 200
        reply = server.post(f"{scheme}://{server.host}/v1/classify?top_k=1", clip, {"Host": "evil.example"})
        assert len(reply.json["labels"]) == 1
    assert server.get("http://evil.example/v1/model", Host=server.host).status == 421
    assert server.get(f"http://user@{server.host}/v1/model").status == 421
    assert server.get(f"http://{server.host}/nothing").status == 404


def test_uploads_of_a_server_that_was_killed_are_removed_at_the_next_start(
    tone_model: Path, tmp_path: Path, clip: bytes
) -> None:
    folder = tmp_path / "server"
    folder.mkdir()
    (folder / "audionet-uploads-file").touch()
    (folder / "elsewhere").mkdir()
    (folder / "audionet-uploads-link").symlink_to(folder / "elsewhere")
    with serving(tone_model, temporary=folder, exit_code=None) as killed, killed.held_back(9999):
        assert len(list(folder.glob("*/*"))) == 1
        killed.process.kill()
        killed.process.wait()
    assert len(list(folder.glob("*/*"))) == 1
    with serving(tone_model, temporary=folder, exit_code=None) as server, server.held_back(9999):
        assert len(list(folder.glob("*/*"))) == 1
        with serving(tone_model, temporary=folder, exit_code=None):  # takes nothing from one that is at work
            assert len(list(folder.glob("*/*"))) == 1
    assert sorted(path.name for path in folder.iterdir()) == [
        "audionet-uploads-file",
        "audionet-uploads-link",
        "elsewhere",
    ]


@pytest.mark.parametrize("headers", [{}, {"Expect": "nothing"}], ids=["the short way", "the other"])
def test_who_is_refused_before_all_is_sent_may_ask_again_on_the_same_connection(
    narrow: Serving, clip: bytes, headers: dict[str, str]
) -> None:
    """What a refused upload still brings is passed over, and is not taken for the next request's head."""
    with narrow.raw() as connection:
        with full(narrow, clip):
            connection.sendall(narrow.head("POST", "/v1/classify", {"Content-Length": "300000"} | headers) + b"x")
            assert read_reply(connection).status == 503
            connection.sendall(bytes(200_000))
            connection.sendall(
                bytes(99_999) + narrow.head("POST", "/classify/", {"Content-Length": "2"} | headers) + b"x"
            )
            assert read_reply(connection).status == 503
            connection.sendall(b"x" + narrow.head("GET", "/healthz"))
            assert read_reply(connection).json == {"status": "ok"}
        narrow.wait_for_gauge(IN_HOUSE, 0)
        connection.sendall(narrow.head("POST", "/v1/classify", {"Content-Length": str(len(clip))}) + clip)
        assert read_reply(connection).json["decision"] == "c1200"


@pytest.mark.parametrize("kind", ["application/octet-stream", "multipart/form-data; boundary=boundary"])
def test_who_leaves_while_uploading_makes_room(narrow: Serving, kind: str) -> None:
    with narrow.raw() as connection:
        fields = {"Content-Length": "2000000", "Content-Type": kind}
        part = b'--boundary\r\nContent-Disposition: form-data; name="file"; filename="x.wav"\r\n\r\n'
        connection.sendall(narrow.head("POST", "/v1/classify", fields) + part + bytes(1_500_000))
        narrow.wait_for_gauge(IN_HOUSE, 1)
    narrow.wait_for_gauge(IN_HOUSE, 0)
    wait_until(lambda: len(narrow.files()) == 1, "the file to go")


def test_who_leaves_while_waiting_makes_room(narrow: Serving, clip: bytes) -> None:
    before = narrow.gauge("audionet_decoders_replaced_total")
    with narrow.raw() as at_work, narrow.raw() as waiting, stopped(narrow):
        send(narrow, at_work, clip)
        send(narrow, waiting, clip)
        waiting.close()
        narrow.wait_for_gauge(IN_HOUSE, 1)
        at_work.close()
        narrow.wait_for_gauge(IN_HOUSE, 0)
    assert narrow.classify(clip)["decision"] == "c1200"
    assert narrow.gauge("audionet_decoders_replaced_total") == before + 1  # the one that was in the middle of it
    assert len(narrow.workers()) == 1
    assert len(narrow.files()) == 1


def test_a_decoder_that_is_killed_is_replaced(narrow: Serving, clip: bytes) -> None:
    [idle] = narrow.workers()
    idle.kill()
    psutil.wait_procs([idle], DEADLINE)  # until the server has taken note: a job sent before that dies with it
    assert narrow.classify(clip)["decision"] == "c1200"
    with narrow.raw() as connection, stopped(narrow) as [busy]:
        assert busy.pid != idle.pid
        send(narrow, connection, clip)
        time.sleep(0.5)  # until the stopped worker holds the job: killed before that, it is only replaced
        busy.kill()
        assert read_reply(connection).status == 200  # it may not have been the recording's fault
    assert narrow.classify(clip)["decision"] == "c1200"
    assert len(narrow.workers()) == 1
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in psutil.Process(narrow.process.pid).children())


def test_who_waits_for_a_worker_that_stands_still_may_ask_again(tone_model: Path, tmp_path: Path, clip: bytes) -> None:
    with serving(tone_model, "--workers", 1, "--time_limit", 1, temporary=tmp_path / "server") as server:
        with stopped(server):
            reply = server.post("/v1/classify", clip)
        assert reply.status == 503
        assert reply.detail == "upload: the worker process was held up; try again later"
        assert reply.headers["Retry-After"] == "1"
        assert server.classify(clip)["decision"] == "c1200"


def test_answers_do_not_get_mixed_up(server: Serving) -> None:
    clips = {name: encoded(sound(300 * 2**number, 1.5, number)) for number, name in enumerate(TONES)}
    asked = [TONES[number % len(TONES)] for number in range(60)]
    with ThreadPoolExecutor(12) as threads:
        answered = list(threads.map(lambda name: server.classify(clips[name])["decision"], asked))
    assert answered == asked


def test_nothing_of_a_clients_file_name_reaches_the_disk(server: Serving) -> None:
    name = "../../sécret$(id)%n.wav"
    with server.held_back(path="/v1/classify?name=..%2Fs%C3%A9cret%24%28id%29.wav"):
        [folder] = server.temporary.iterdir()
        [file] = folder.iterdir()
        assert re.fullmatch(r"[a-z0-9_]{8}\.wav", file.name)
        assert (folder.stat().st_mode & 0o077, file.stat().st_mode & 0o077) == (0, 0)
    wait_until(lambda: server.files() == [folder.name], "the file to go")
    with stopped(server), server.raw() as connection:
        body = (
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="'
            + name.encode()
            + b'"\r\n\r\n'
            + encoded(sound(600, 1.0))
            + b"\r\n--b--\r\n"
        )
        fields = {"Content-Length": str(len(body)), "Content-Type": "multipart/form-data; boundary=b"}
        connection.sendall(server.head("POST", "/v1/classify", fields) + body)
        wait_until(lambda: len(server.files()) == 2, "the file to come")
        [file] = folder.iterdir()
        assert re.fullmatch(r"[a-z0-9_]{8}\.wav", file.name)
    server.wait_for_gauge(IN_HOUSE, 0)
    wait_until(lambda: server.files() == [folder.name], "the file to go")


@pytest.mark.slow
def test_what_is_asked_when_it_is_told_to_end_is_answered(tone_model: Path, tmp_path: Path, clip: bytes) -> None:
    with serving(tone_model, temporary=tmp_path / "server") as server, contextlib.ExitStack() as stack:
        at_work, uploading, idle = (stack.enter_context(server.raw()) for _ in range(3))
        with stopped(server):
            send(server, at_work, clip)
            uploading.sendall(server.head("POST", "/v1/classify", {"Content-Length": str(len(clip))}) + clip[:100])
            server.wait_for_gauge(IN_HOUSE, 2)
            server.process.send_signal(signal.SIGTERM)
            assert is_hung_up(idle)
            with pytest.raises(ConnectionRefusedError):
                server.get("/healthz")
        assert read_reply(at_work).json["decision"] == "c1200"
        uploading.sendall(clip[100:])
        assert read_reply(uploading).json["decision"] == "c1200"
        assert server.process.wait(DEADLINE) == 0
        assert server.complaints == []


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_told_to_end_twice_it_ends_at_once_without_complaint(
    tone_model: Path, tmp_path: Path, number: signal.Signals
) -> None:
    with serving(tone_model, temporary=tmp_path / "server") as server:
        with server.held_back(), server.raw() as idle, stopped(server) as workers:
            server.process.send_signal(number)
            assert is_hung_up(idle)
            server.process.send_signal(number)
            assert server.process.wait(DEADLINE) == 0
        psutil.wait_procs(workers, DEADLINE)
        assert not any(worker.is_running() for worker in workers)
    assert server.complaints == []


def enrol(graph: Path, name: str, folder: Path) -> None:
    path = folder / "voice.wav"
    path.write_bytes(encoded(sound(3400, 12.0)))
    enrol_from_clips(Predictor(graph), name, [path])


@pytest.mark.slow
def test_a_new_model_is_taken_up_when_asked_to(graph: Path, tmp_path: Path) -> None:
    voice = encoded(sound(3400, 3.0, 1))
    with serving(graph, temporary=tmp_path / "server") as server:
        assert server.classify(voice)["decision"] is None
        enrol(graph, "zoe", tmp_path)
        assert server.get("/v1/model").json["enrolled"] == []
        reply = server.post("/v1/reload")
        assert reply.status == 200
        assert reply.json == server.get("/v1/model").json
        assert reply.json["enrolled"] == ["zoe"]
        answer = server.classify(voice)
        assert (answer["decision"], [entry["name"] for entry in answer["enrolled"]]) == ("zoe", ["zoe"])
        enrolled_path(graph).unlink()
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.get("/v1/model").json["enrolled"] == [], "the model to be taken up")
        assert server.gauge('audionet_reloads_total{result="taken"}') == 2
        assert [line for line in server.complaints if "serving model" not in line] == []


@pytest.mark.slow
def test_a_broken_model_leaves_the_old_one_serving(graph: Path, tmp_path: Path, clip: bytes) -> None:
    whole = lite_path(graph).read_bytes()
    with serving(graph, temporary=tmp_path / "server") as server:
        before = server.get("/v1/model").json
        lite_path(graph).write_bytes(whole[: len(whole) // 2])
        reply = server.post("/v1/reload")
        assert reply.status == 409
        assert lite_path(graph).name in reply.detail
        lite_path(graph).unlink()
        assert server.post("/v1/reload").status == 409
        model_json_path(graph).write_text("{}")
        assert server.post("/v1/reload").status == 409
        refused = server.gauge('audionet_reloads_total{result="refused"}')
        server.process.send_signal(signal.SIGHUP)
        server.wait_for_gauge('audionet_reloads_total{result="refused"}', refused + 1)
        assert server.get("/v1/model").json == before
        assert server.classify(clip)["decision"] == "c1200"
        assert server.get("/readyz").status == 200
        assert {line.partition(": reload failed")[0] for line in server.complaints} == {"serve.py"}


@pytest.mark.slow
def test_requests_while_models_change_are_all_answered(graph: Path, tmp_path: Path, clip: bytes) -> None:
    enough = threading.Event()
    answers: list[tuple[int, int]] = []
    enrol(graph, "zoe", tmp_path)
    enrolled = enrolled_path(graph).read_bytes()

    def hammer() -> None:
        while not enough.is_set():
            answer = server.classify(clip)
            assert answer["decision"] == "c1200"
            answers.append((len(answer["per_chunk"]), len(answer.get("enrolled", []))))

    with serving(graph, temporary=tmp_path / "server") as server, ThreadPoolExecutor(6) as threads:
        threads_before = psutil.Process(server.process.pid).num_threads()
        hammering = [threads.submit(hammer) for _ in range(6)]
        try:
            for number in range(16):
                if number % 2:
                    enrolled_path(graph).write_bytes(enrolled)
                else:
                    enrolled_path(graph).unlink()
                assert server.post("/v1/reload").json["enrolled"] == ["zoe"] * (number % 2)
                answered = len(answers)
                wait_until(lambda: len(answers) > answered or any(map(Future.done, hammering)), "answers")  # noqa: B023
        finally:
            enough.set()
        for future in hammering:
            future.result()
        assert set(answers) == {(4, 0), (4, 1)}
        wait_until(
            lambda: psutil.Process(server.process.pid).num_threads() <= threads_before + 6, "old models' threads to end"
        )


@pytest.mark.slow
def test_a_label_that_is_no_utf_8_is_told_as_the_command_line_tells_it(
    graph: Path, tmp_path: Path, clip: bytes
) -> None:
    """Labels are names of folders, which may be anything."""
    path = model_json_path(graph)
    card = json.loads(path.read_text())
    write_json(path, card | {"labels": [os.fsdecode(b"a\xff"), *card["labels"][1:]]})
    labels = graph.with_name("retrained_labels.txt")
    labels.write_bytes(b"a\xff" + labels.read_bytes().removeprefix(b"a300"))
    sample = tmp_path / "clip.wav"
    sample.write_bytes(clip)
    expected = json.loads(run_script("label_image.py", "--graph", graph, "--json", sample).stdout)
    with serving(graph, temporary=tmp_path / "server") as server:
        assert server.get("/v1/model").json["labels"][0] == os.fsdecode(b"a\xff")
        assert server.classify(clip)["labels"] == expected["labels"]


def test_a_port_in_use_is_one_line(server: Serving, tone_model: Path) -> None:
    port = server.address[1]
    code, complaint = fails_to_start(tone_model, "--port", port)
    assert code == 1
    assert complaint.startswith(f"serve.py: cannot listen on 127.0.0.1, port {port}: Address already in use")
    assert complaint.endswith("name another --port or --host\n")
    assert complaint.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("host", ["nowhere.invalid", "a" * 300, "two..dots", "192.0.2.1"])
def test_an_address_that_is_not_there_is_one_line(tone_model: Path, host: str) -> None:
    code, complaint = fails_to_start(tone_model, "--host", host, "--api_key", KEY)
    assert code == 1
    assert complaint.startswith(f"serve.py: cannot listen on {host}, port 0: ")
    assert complaint.count("\n") == 1


def test_a_missing_model_is_one_line(tmp_path: Path) -> None:
    code, complaint = fails_to_start(tmp_path / "retrained_graph.tflite")
    assert code == 1
    assert complaint.count("\n") == 1
    assert "retrain.py" in complaint


def test_a_broken_model_is_one_line(graph: Path) -> None:
    lite_path(graph).write_bytes(b"")
    code, complaint = fails_to_start(graph)
    assert (code, complaint.count("\n")) == (1, 1)


@pytest.mark.slow
def test_an_answer_takes_no_longer_than_allowed(tone_model: Path, tmp_path: Path, clip: bytes) -> None:
    flags = ("--time_limit", 1, "--workers", 1)
    with serving(tone_model, *flags, temporary=tmp_path / "server") as server:
        with server.raw() as connection, stopped(server):
            send(server, connection, clip)
            waiting = server.post("/v1/classify", clip)
            assert {waiting.status, read_reply(connection).status} <= {413, 503}
        assert server.classify(clip)["decision"] == "c1200"
