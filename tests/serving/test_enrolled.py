"""Enrolment over HTTP: speakers are added to a model that others ask meanwhile, and removed."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest

from audionet._paths import enrolled_path, model_json_path
from audionet.errors import ModelError, RecordingError, UsageError
from audionet.inference.predictor import Predictor
from audionet.inference.verification import enrol_from_clips, enrol_from_embeddings, forget_voice
from audionet.serving.config import API_KEY_VARIABLE, ServeConfig
from audionet.serving.enrolling import can_enrol, check_enrolment, enrol_frames, forget_name
from audionet.serving.metrics import Metrics
from audionet.serving.service import Service
from audionet.serving.worker import Frame
from audionet.utils.files import write_json
from tests.support.encoding import encode_tracks
from tests.support.scripts import run_script
from tests.support.serving import Reply, Serving, copy_model, encoded, serving, sound

KEY = "0123456789abcdef-key"
NEW = encoded(sound(3400, 12.0))
AGAIN = encoded(sound(3400, 3.0, 1))


@pytest.fixture(scope="module")
def shared_graph(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_model(tone_model, tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def running(shared_graph: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with serving(shared_graph, temporary=tmp_path_factory.mktemp("server")) as server:
        yield server
    assert {line.partition("serving ")[0] for line in server.complaints} == {"serve.py: "}


@pytest.fixture
def server(running: Serving, shared_graph: Path) -> Iterator[Serving]:
    """A server without enrolled speakers, before and after a test."""
    yield running
    for name in running.get("/v1/model").json["enrolled"]:
        assert forget(running, name).status == 200
    assert stored(shared_graph) == {}


@pytest.fixture
def graph(tone_model: Path, tmp_path: Path) -> Path:
    """A copy of the model that a test may change."""
    return copy_model(tone_model, tmp_path / "model")


def enrol(server: Serving, name: str, content: bytes = NEW) -> Reply:
    return server.post(f"/v1/enrolled?name={quote(name, safe='')}", content)


def forget(server: Serving, name: str) -> Reply:
    return server.ask("DELETE", f"/v1/enrolled?name={quote(name, safe='')}")


def stored(graph: Path) -> dict[str, Any]:
    path = enrolled_path(graph)
    voices: dict[str, Any] = json.loads(path.read_text())["voices"] if path.exists() else {}
    return voices


def commanded(graph: Path, clip: bytes, folder: Path) -> str | None:
    """What label_image.py says of a clip."""
    path = folder / "clip.wav"
    path.write_bytes(clip)
    answer: str | None = json.loads(run_script("label_image.py", "--graph", graph, "--json", path).stdout)["decision"]
    return answer


def test_a_speaker_is_recognised_from_now_on_until_forgotten(
    server: Serving, shared_graph: Path, tmp_path: Path
) -> None:
    images = server.gauge("audionet_images_total")
    assert server.classify(AGAIN)["decision"] is None
    reply = enrol(server, "zoë / 'x'")
    assert reply.status == 200
    content = reply.json
    assert content["advice"] == [
        "this speaker is unlike all training data: others recorded in the same way may be accepted as this one"
    ]
    assert 0 < content.pop("norm") < 0.5
    assert content | {"advice": []} == {
        "name": "zoë / 'x'",
        "enrolled": ["zoë / 'x'"],
        "seconds": 12.0,
        "resembles": None,
        "accepted": True,
        "several": False,
        "replaced": False,
        "advice": [],
        "remark": None,
    }
    assert server.gauge("audionet_images_total") == images + 6 + 24
    assert server.classify(AGAIN)["decision"] == "zoë / 'x'"
    assert server.get("/v1/model").json["enrolled"] == ["zoë / 'x'"]
    assert commanded(shared_graph, AGAIN, tmp_path) == "zoë / 'x'"
    gone = forget(server, "zoë / 'x'")
    assert (gone.status, gone.json) == (200, {"enrolled": []})
    assert server.classify(AGAIN)["decision"] is None
    assert server.get("/v1/model").json["enrolled"] == []
    assert commanded(shared_graph, AGAIN, tmp_path) is None
    again = forget(server, "zoë / 'x'")
    assert again.status == 404
    assert again.detail == "name zoë / 'x': no speaker of that name is enrolled (enrolled: none)"
    counted = 'audionet_requests_total{path="/v1/enrolled",status="404"}'
    assert server.gauge(counted) >= 1


@pytest.mark.parametrize(("parts", "seconds"), [([(5.0, 6.0), (20.0, 6.2)], 12.0), ([(5.0, 6.4)], 6.4)])
def test_the_speaker_is_the_one_that_the_command_stores(
    server: Serving,
    shared_graph: Path,
    graph: Path,
    tmp_path: Path,
    parts: list[tuple[float, float]],
    seconds: float,
) -> None:
    """Of films, whose sound begins late: with a pause, whole chunks count; without one, no more than the sound."""
    sounds = [(start, sound(3400, length)) for start, length in parts]
    film = encode_tracks(tmp_path / "film.mka", [("flac", sounds)])
    expected = enrol_from_clips(Predictor(graph), "zoe", [film])
    reply = server.form("/v1/enrolled?name=zoe", film.read_bytes(), "film.mka").json
    assert reply["seconds"] == round(expected.seconds, 3) == pytest.approx(seconds, abs=0.05)
    assert reply["norm"] == pytest.approx(expected.norm, abs=1e-5)
    theirs, ours = stored(graph)["zoe"], stored(shared_graph)["zoe"]
    assert ours["seconds"] == theirs["seconds"]
    np.testing.assert_allclose(ours["prototypes"], theirs["prototypes"], atol=1e-5)


def test_an_enrolment_replaces_one_of_the_same_name(server: Serving, shared_graph: Path) -> None:
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    assert enrol(server, decomposed).json["replaced"] is False
    short = enrol(server, composed, encoded(sound(5600, 4.0))).json
    assert stored(shared_graph)[decomposed]["seconds"] == 4.0
    assert server.classify(AGAIN)["decision"] is None
    assert (short["replaced"], short["name"], short["enrolled"]) == (True, decomposed, [decomposed])
    assert forget(server, composed).json == {"enrolled": []}
    assert short["advice"][0] == "4.0 s of sound are few: enrol again with 10 to 30 s of this speaker"


def test_speakers_whom_the_command_enrolled_meanwhile_count(
    server: Serving, shared_graph: Path, tmp_path: Path
) -> None:
    composed, decomposed = "Jos\u00e9", "Jose\u0301"
    clip = tmp_path / "new.wav"
    clip.write_bytes(NEW)
    enrol_from_clips(Predictor(shared_graph), decomposed, [clip])
    assert server.get("/v1/model").json["enrolled"] == []
    assert enrol(server, composed).json["replaced"] is True
    assert list(stored(shared_graph)) == [decomposed]
    enrol_from_clips(Predictor(shared_graph), "zoe", [clip])
    assert forget(server, "zoe").json == {"enrolled": [decomposed]}


def test_a_likeness_to_another_is_told(server: Serving) -> None:
    known = enrol(server, "ann", encoded(sound(600, 12.0))).json
    assert known["resembles"] == "b600"
    assert any("similar to the label b600" in sentence for sentence in known["advice"])
    enrol(server, "zoe")
    twice = enrol(server, "zoë", encoded(sound(3400, 12.0, 5))).json
    assert twice["resembles"] == "zoe"
    assert "this speaker sounds like zoe, who is enrolled: one speaker under two names?" in twice["advice"]


def test_of_concurrent_enrolments_none_is_lost(server: Serving, shared_graph: Path, tmp_path: Path) -> None:
    """Four over HTTP, one by the command, and reloads between them."""
    pitches = {"v1700": 1700, "v3400": 3400, "v6000": 6000, "v200": 200}
    clips = {name: encoded(sound(pitch, 10.0)) for name, pitch in pitches.items()}
    own = tmp_path / "own.wav"
    own.write_bytes(encoded(sound(3000, 10.0)))
    with ThreadPoolExecutor(7) as threads:
        posted = {name: threads.submit(enrol, server, name, clip) for name, clip in clips.items()}
        command = threads.submit(enrol_from_clips, Predictor(shared_graph), "command", [own])
        reloads = [threads.submit(server.post, "/v1/reload") for _ in range(2)]
        for name, reply in posted.items():
            assert (reply.result().status, reply.result().json["name"]) == (200, name)
        command.result()
        assert {reload.result().status for reload in reloads} == {200}
    assert set(stored(shared_graph)) == {*pitches, "command"}
    assert set(server.get("/v1/model").json["enrolled"]) >= set(pitches)
    assert set(forget(server, "v200").json["enrolled"]) == {"v1700", "v3400", "v6000", "command"}
    assert server.classify(AGAIN)["decision"] == "v3400"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("c1200", "name c1200: the model was trained on a label of that name: choose another name"),
        ("unknown", "name unknown: that is not a valid name for a speaker: choose another"),
        ("_unknown_", "name _unknown_: that is not a valid name for a speaker: choose another"),
        (" ", "name  : that is not a valid name for a speaker: choose another"),
        ("a\nb", r"name a\nb: that is not a valid name for a speaker: choose another"),
        ("a\0", r"name a\x00: that is not a valid name for a speaker: choose another"),
        ("\u200b \u202e", r"name \u200b \u202e: that is not a valid name for a speaker: choose another"),
        (" a", "name ' a': the name begins or ends with a blank, which nobody sees: leave it out"),
        ("", "name: string should have at least 1 character"),
        ("x" * 201, "name: string should have at most 200 characters"),
    ],
)
def test_invalid_names_are_refused(server: Serving, shared_graph: Path, name: str, message: str) -> None:
    reply = enrol(server, name)
    assert reply.status == 422
    assert message in (reply.json["detail"], reply.detail)
    assert stored(shared_graph) == {}


def test_a_name_is_needed(server: Serving) -> None:
    for reply in (server.post("/v1/enrolled", NEW), server.ask("DELETE", "/v1/enrolled")):
        assert (reply.status, reply.detail) == (422, "name: field required")


def test_what_cannot_be_heard_is_not_enrolled(server: Serving, shared_graph: Path) -> None:
    silent = enrol(server, "zoe", encoded(np.zeros(32_000)))
    assert (silent.status, silent.detail) == (422, "upload: is silent from beginning to end")
    words = server.form("/v1/enrolled?name=zoe", b"words", "words.wav")
    assert words.status == 422
    assert words.detail.startswith("words.wav: ")
    assert enrol(server, "zoe", b"").status == 422
    assert stored(shared_graph) == {}


def test_a_damaged_recording_is_enrolled_in_part(server: Serving) -> None:
    whole = encoded(sound(3400, 12.0), kind="FLAC")
    content = enrol(server, "zoe", whole[: len(whole) // 2]).json
    assert 1 < content["seconds"] < 11
    assert content["remark"]


def test_pages_of_other_sites_change_nothing(server: Serving, shared_graph: Path) -> None:
    for headers in ({"Origin": "http://elsewhere"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        for method in ("POST", "DELETE"):
            reply = server.ask(method, "/v1/enrolled?name=zoe", NEW if method == "POST" else None, headers)
            assert reply.status == 403
            assert "--cors_origin" in reply.detail
    assert stored(shared_graph) == {}
    assert server.ask("POST", "/v1/enrolled?name=zoe", NEW, {"Origin": server.url}).status == 200


def test_it_takes_the_key_and_lasts(graph: Path, tmp_path: Path) -> None:
    site = "https://example.org"
    options: dict[str, Any] = {"environment": {API_KEY_VARIABLE: KEY}, "api_key": KEY}
    with serving(graph, "--cors_origin", site, temporary=tmp_path / "server", **options) as server:
        for authorization in ("", "Bearer wrong"):
            for method in ("POST", "DELETE"):
                headers = {"Authorization": authorization}
                assert server.ask(method, "/v1/enrolled?name=zoe", NEW, headers).status == 401
        assert not enrolled_path(graph).exists()
        assert enrol(server, "zoe").status == 200
        wish = {"Origin": site, "Access-Control-Request-Method": "DELETE", "Authorization": ""}
        assert server.ask("OPTIONS", "/v1/enrolled", headers=wish).status == 200
    with serving(graph, temporary=tmp_path / "server") as server:
        assert server.classify(AGAIN)["decision"] == "zoe"


def test_a_model_that_was_trained_again_gets_no_speakers_of_the_old_one(graph: Path, tmp_path: Path) -> None:
    card = model_json_path(graph)
    with serving(graph, temporary=tmp_path / "server") as server:
        write_json(card, json.loads(card.read_text()) | {"graph_sha256": "0" * 64})
        for reply in (enrol(server, "zoe"), forget(server, "zoe")):
            assert reply.status == 409
            assert reply.detail.endswith("was trained again meanwhile: load the new model first")
        assert server.classify(AGAIN)["decision"] is None
    assert not enrolled_path(graph).exists()


def test_several_labels_at_a_time_are_not_compared(graph: Path) -> None:
    predictor = Predictor(graph)
    assert can_enrol(predictor)
    check_enrolment(predictor, "zoe")
    predictor.thresholds = object()  # type: ignore[assignment]
    assert not can_enrol(predictor)
    with pytest.raises(ModelError, match="several labels at a time"):
        check_enrolment(predictor, "zoe")


def test_a_folder_that_cannot_be_written_is_a_problem_of_the_model(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = tmp_path / "new.wav"
    clip.write_bytes(NEW)
    enrol_from_clips(Predictor(graph), "zoe", [clip])

    def fail(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("audionet.classifier.enrolment.write_json", fail)
    with pytest.raises(ModelError, match="the enrolled speakers cannot be stored: Read-only file system"):
        forget_name(Predictor(graph), "zoe")
    monkeypatch.setattr("audionet.serving.enrolling.os.access", lambda *_: False)
    assert not can_enrol(Predictor(graph))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0])
def test_a_worker_that_was_taken_over_cannot_spoil_the_stored_speakers(graph: Path, value: float) -> None:
    predictor = Predictor(graph)
    outputs = np.full(len(predictor.labels) + predictor.dimensions, value, np.float32).tobytes()
    header = {"level": -6.0, "activity": 1.0}
    frames: list[Frame] = [({"start": start, **header}, outputs) for start in (0.0, 0.5)]
    with pytest.raises(RecordingError, match="no directions of finite numbers"), np.errstate(all="ignore"):
        enrol_frames(predictor, "zoe", [*frames, ({"begin": 0.0, "seconds": 1.0, "remark": None}, b"")])
    assert not enrolled_path(graph).exists()


def test_a_client_that_leaves_while_its_speaker_is_stored_leaves_it_in_service(graph: Path, tmp_path: Path) -> None:
    service = Service(ServeConfig(graph=graph), Metrics())
    clip = tmp_path / "new.wav"
    clip.write_bytes(NEW)
    has_begun, may_go_on = threading.Event(), threading.Event()

    def change(predictor: Predictor) -> tuple[Predictor, dict[str, Any]]:
        has_begun.set()
        assert may_go_on.wait(30)
        enrol_from_clips(predictor, "zoe", [clip])
        return predictor.with_enrolled_as_stored(), {}

    async def leave() -> None:
        task = asyncio.ensure_future(service._change_enrolled(service.model.id, change))
        await asyncio.to_thread(has_begun.wait, 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        may_go_on.set()
        # Changes are made one after the other.
        assert await service._change_enrolled(service.model.id, lambda same: (same, {"seen": list(same.enrolled)})) == {
            "seen": ["zoe"]
        }

    asyncio.run(leave())
    assert list(service.model.predictor.enrolled) == ["zoe"]


def test_changes_and_reloads_wait_for_each_other(graph: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    service = Service(ServeConfig(graph=graph), Metrics())
    clip = tmp_path / "new.wav"
    clip.write_bytes(NEW)
    service.ready = True
    may_go_on = threading.Event()

    async def change_network(_: object) -> None: ...

    monkeypatch.setattr(service.workers, "change_network", change_network)

    def change(predictor: Predictor, name: str) -> tuple[Predictor, dict[str, Any]]:
        before = predictor.with_enrolled_as_stored()
        assert may_go_on.wait(30)
        enrol_from_clips(before, name, [clip])
        return before.with_enrolled_as_stored(), {"before": list(before.enrolled)}

    async def all_at_once() -> None:
        one, other = (
            asyncio.ensure_future(service._change_enrolled(service.model.id, partial(change, name=name)))
            for name in ("ann", "zoe")
        )
        reloaded = asyncio.ensure_future(service.reload())
        await asyncio.wait({one, other, reloaded}, timeout=0.5)
        may_go_on.set()
        assert (await one, await other) == ({"before": []}, {"before": ["ann"]})
        assert list((await reloaded).predictor.enrolled) == ["ann", "zoe"]

    asyncio.run(all_at_once())
    assert list(service.model.predictor.enrolled) == ["ann", "zoe"]


def test_to_forget_a_speaker_who_is_not_there_writes_nothing(graph: Path) -> None:
    with pytest.raises(UsageError, match="no speaker of that name"):
        forget_name(Predictor(graph), "zoe")
    assert not enrolled_path(graph).exists()


def test_a_speaker_among_many_is_missed_in_one_line(graph: Path) -> None:
    embedding = np.eye(1, Predictor(graph).dimensions, dtype=np.float32)
    for number in range(12):
        enrol_from_embeddings(Predictor(graph), f"v{number:02}", embedding, 1.0)
    with pytest.raises(UsageError, match=r"\(enrolled: v00, .*, v09, 2 more\)"):
        forget_name(Predictor(graph), "zoe")


def test_requests_in_progress_keep_the_speakers_that_they_began_with(graph: Path, tmp_path: Path) -> None:
    clip = tmp_path / "new.wav"
    clip.write_bytes(NEW)
    before = Predictor(graph)
    enrol_from_clips(before, "zoe", [clip])
    after = before.with_enrolled_as_stored()
    assert (before.names, after.names) == (before.labels, [*before.labels, "zoe"])
    assert after.answer(clip).decision.label == "zoe"
    assert before.answer(clip).decision.label is None
    forget_voice(after, "zoe")
