from __future__ import annotations

import http.client
import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audionet.cli import discover as discover_command
from audionet.discovery.review import Naming, NamingError, Review, ReviewServer, first_naming, load_review
from audionet.discovery.turns import Turn, turn_path
from audionet.errors import DatasetError, UsageError

TURNS = [
    Turn("a.wav", 0.0, 2.0, 0, 0.9),
    Turn("a.wav", 2.0, 4.0, 1, 0.4),
    Turn("sub/<b> #1.wav", 0.0, 3.0, 0, 0.8),
]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Output folder with three turns of two voices."""
    folder = tmp_path / "out"
    for turn in TURNS:
        (folder / turn_path(turn)).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / turn_path(turn), np.zeros(1600), 16_000)
    Review(folder, TURNS).save(first_naming(["voice_01", "voice_02"], TURNS))
    return folder


@pytest.fixture
def server(out: Path) -> Iterator[ReviewServer]:
    with ReviewServer(out, 0) as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def ask(server: ReviewServer, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    content = body if isinstance(body, (bytes, type(None))) else json.dumps(body).encode()
    given = {"Content-Type": "application/json"} if body is not None else {}
    connection.request(
        method, path, content, given | {name.replace("_", "-"): value for name, value in headers.items()}
    )
    answer = connection.getresponse()
    found = answer.status, answer.read().decode("utf-8", "replace")
    connection.close()
    return found


def test_what_the_page_saves_is_what_the_table_says(server: ReviewServer, out: Path) -> None:
    naming = {"version": 0, "names": ["Ann", "Bob", "Čarlie"], "voices": [2, 1, -1]}
    status, said = ask(server, "POST", "/labels", naming)
    assert status == 200
    assert json.loads(said) == {"message": "Saved: 2 labels in labels.csv.", "version": 1}
    assert (out / "labels.csv").read_text("utf-8").splitlines()[1:] == [
        "a.wav,0.000,2.000,Čarlie,0.900",
        "a.wav,2.000,4.000,Bob,0.400",
    ]
    assert len((out / "labels.rttm").read_text("utf-8").splitlines()) == 2
    _, again = load_review(out)
    assert again == Naming(1, ["Ann", "Bob", "Čarlie"], [2, 1, -1])
    status, page = ask(server, "GET", "/")
    assert status == 200
    assert "\\u010carlie" in page


def test_a_table_edited_by_hand_is_kept(server: ReviewServer, out: Path) -> None:
    edited = (out / "labels.csv").read_bytes() + b"a.wav,5,6,Zoe,0.1\r\n"
    (out / "labels.csv").write_bytes(edited)
    naming = {"version": 0, "names": ["Ann", "Bob"], "voices": [0, 1, 0]}
    assert "labels_edited.csv" in ask(server, "POST", "/labels", naming)[1]
    assert (out / "labels_edited.csv").read_bytes() == edited
    assert "labels_edited.csv" not in ask(server, "POST", "/labels", {**naming, "version": 1})[1]


def test_who_saves_second_is_refused_and_nothing_is_lost(server: ReviewServer, out: Path) -> None:
    assert ask(server, "POST", "/labels", {"version": 0, "names": ["Ann", "Bob"], "voices": [0, 1, 0]})[0] == 200
    before = (out / "labels.csv").read_bytes()
    status, said = ask(server, "POST", "/labels", {"version": 0, "names": ["X", "Y"], "voices": [0, 1, 0]})
    assert (status, "saved elsewhere" in said) == (409, True)
    assert (out / "labels.csv").read_bytes() == before


@pytest.mark.parametrize(
    "content",
    [
        [],
        None,
        {"version": 0},
        {"version": 0, "names": ["a", "b"], "voices": [0, 1]},
        {"version": 0, "names": ["a", "b"], "voices": [0, 1, 2]},
        {"version": 0, "names": ["a", "b"], "voices": [0, 1, -2]},
        {"version": 0, "names": ["a", "b"], "voices": [0, 1, True]},
        {"version": 0, "names": ["a", 3], "voices": [0, 1, 0]},
        {"version": 0, "names": ["a/b", "c"], "voices": [0, 1, 0]},
        {"version": 0, "names": ["..", "c"], "voices": [0, 1, 0]},
        {"version": 0, "names": ["  ", "c"], "voices": [0, 1, 0]},
        {"version": "0", "names": ["a", "b"], "voices": [0, 1, 0]},
    ],
)
def test_what_is_no_naming_of_these_turns_is_refused(out: Path, content: Any) -> None:
    review, naming = load_review(out)
    with pytest.raises(NamingError) as error:
        review.parse(content, naming)
    assert len(str(error.value).splitlines()) == 1


def test_a_name_of_no_turn_may_be_anything(out: Path) -> None:
    review, naming = load_review(out)
    assert review.parse({"version": 0, "names": ["a", "/"], "voices": [0, 0, 0]}, naming).names[0] == "a"


def test_other_sites_and_other_files_get_nothing(server: ReviewServer, out: Path) -> None:
    (out / "secret.txt").write_text("secret")
    (out.parent / "outside.wav").write_text("secret")
    sound = "/" + turn_path(TURNS[0])
    assert ask(server, "GET", sound)[0] == 200
    for path in (
        "/secret.txt",
        "/voices/%00.wav",
        "/voices/../secret.txt",
        "/voices/../../outside.wav",
        "/voices/%2e%2e/%2e%2e/outside.wav",
        "/voices/",
        "/labels.csv",
    ):
        status, content = ask(server, "GET", path)
        assert status == 404
        assert "secret" not in content
    assert ask(server, "GET", "/", Host="evil.example")[0] == 403
    naming = {"version": 0, "names": ["a", "b"], "voices": [0, 1, 0]}
    assert ask(server, "POST", "/labels", naming, Origin="https://evil.example")[0] == 403
    assert ask(server, "POST", "/labels", b"{}", Content_Type="text/plain")[0] == 404
    assert ask(server, "POST", "/labels", b"{")[0] == 400
    assert ask(server, "POST", "/labels", b"[" * 100_000)[0] == 400
    assert ask(server, "POST", "/labels", b"", Content_Length="99999999999")[0] == 413
    assert ask(server, "HEAD", sound)[0] == 405


def test_names_cannot_break_out_of_the_page(out: Path) -> None:
    review, naming = load_review(out)
    page = review.page(naming._replace(names=["</script><script>alert(1)</script>", "b"]))
    assert page.count("</script>") == 2
    assert "sub/\\u003cb> #1.wav" in page
    assert "voices/voice_01/sub%252F%3Cb%3E%20%231.wav_00000.000.wav" in page


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"turns": [[1]], "version": 0, "names": [], "voices": []}'])
def test_a_damaged_review_is_one_line(out: Path, content: str) -> None:
    (out / "review.json").write_text(content)
    with pytest.raises(DatasetError, match="damaged") as error:
        load_review(out)
    assert len(str(error.value).splitlines()) == 1


def test_without_voices_or_a_free_port_one_line_says_so(out: Path, tmp_path: Path, server: ReviewServer) -> None:
    with pytest.raises(UsageError, match="holds no discovered voices"):
        load_review(tmp_path)
    with pytest.raises(UsageError, match="in use"):
        ReviewServer(out, server.server_address[1])
    for flags in ([], ["folder", "--review"], ["--review", "--port=70000"]):
        with pytest.raises(SystemExit):
            discover_command.main(flags)
