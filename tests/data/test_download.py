"""Downloads from a server on loopback that breaks, changes its mind, or lies."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audionet.data import download as module
from audionet.data.download import Remote, download
from audionet.errors import DatasetError
from tests.support.file_server import ServedFile, serving

CONTENT = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.fixture
def server() -> Iterator[ServedFile]:
    with serving(CONTENT) as served:
        yield served


@pytest.fixture
def part(tmp_path: Path) -> Path:
    return tmp_path / "data.zip.part"


def exact(server: ServedFile) -> Remote:
    return Remote(server.url, len(CONTENT), exact=True)


def test_a_file_arrives_in_one_request(server: ServedFile, part: Path) -> None:
    download(exact(server), part)
    assert part.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [None]
    assert server.requests[0]["Accept-Encoding"] == "identity"


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://a..b/", f"http://{'b' * 70}/", "http://127.0.0.1:1/ü", "http://a b/"]
)
def test_an_address_that_cannot_be_one_is_refused_at_once(
    url: str, part: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WAIT_SECONDS", 1e6)
    with pytest.raises(DatasetError, match="no valid address"):
        download(Remote(url, 1, exact=True), part)


def test_a_broken_connection_goes_on_where_it_stopped(server: ServedFile, part: Path) -> None:
    server.breaks = [300_000, 0, 500_000]
    download(exact(server), part)
    assert part.read_bytes() == CONTENT
    assert [request.get("Range") for request in server.requests] == [
        None,
        "bytes=300000-",
        "bytes=300000-",
        "bytes=800000-",
    ]
    assert {request.get("If-Range") for request in server.requests[1:]} == {'"1"'}


def test_a_later_run_goes_on_where_an_earlier_one_gave_up(server: ServedFile, part: Path) -> None:
    server.breaks = [300_000, *[0] * 10]
    with pytest.raises(DatasetError, match=r"the connection broke after 300\.0 kB, which are kept: run it again"):
        download(exact(server), part)
    assert part.read_bytes() == CONTENT[:300_000]
    assert len(server.requests) == 5
    server.breaks = []
    download(exact(server), part)
    assert part.read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == "bytes=300000-"


def test_a_whole_part_is_not_asked_for_again(server: ServedFile, part: Path) -> None:
    for _ in range(2):
        download(exact(server), part)
    assert len(server.requests) == 1


def test_a_server_without_ranges_starts_again(server: ServedFile, part: Path) -> None:
    server.ranges, server.breaks = False, [300_000, 700_000]
    download(exact(server), part)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 3


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_has_changed_starts_again(server: ServedFile, part: Path, heeds: bool) -> None:
    server.breaks = [300_000, *[0] * 10]
    with pytest.raises(DatasetError):
        download(exact(server), part)
    server.content, server.version = CONTENT[::-1], '"2"'
    server.heeds_if_range, server.breaks = heeds, []
    download(exact(server), part)
    assert part.read_bytes() == CONTENT[::-1]


def test_a_part_of_another_address_or_version_is_not_continued(server: ServedFile, part: Path) -> None:
    server.version, server.breaks = None, [300_000]  # nothing names the version
    download(exact(server), part)
    assert part.read_bytes() == CONTENT
    server.version, server.breaks = '"1"', []
    part.write_bytes(b"of another server")
    state = part.with_name("data.zip.part.json")
    state.write_text(json.dumps({"url": "http://elsewhere/", "version": '"1"', "total": len(CONTENT)}))
    download(exact(server), part)
    for damaged in ("damaged", "[]", json.dumps({"url": server.url, "version": "a\r\nHost: b", "total": "1"})):
        state.write_text(damaged)
        part.write_bytes(b"of nowhere")
        download(exact(server), part)
        assert part.read_bytes() == CONTENT
    assert not any("Range" in request for request in server.requests)


def test_a_part_that_is_too_long_starts_again(server: ServedFile, part: Path) -> None:
    state = {"url": server.url, "version": '"1"', "total": None}
    part.with_name("data.zip.part.json").write_text(json.dumps(state))
    part.write_bytes(CONTENT * 2)
    download(exact(server), part)
    assert part.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(server: ServedFile, part: Path) -> None:
    server.statuses = [503, 429]
    download(exact(server), part)
    assert part.read_bytes() == CONTENT
    assert len(server.requests) == 3
    part.unlink()
    server.statuses = [404]
    with pytest.raises(DatasetError, match=r"refuses it \(HTTP 404\); check the connection, or name a copy with url"):
        download(exact(server), part)
    assert len(server.requests) == 4


def test_another_length_than_expected_is_refused_before_anything_is_written(server: ServedFile, part: Path) -> None:
    with pytest.raises(DatasetError, match=f"is {len(CONTENT)} bytes long, not 5: it is another file"):
        download(Remote(server.url, 5, exact=True), part)
    with pytest.raises(DatasetError, match=r"is 1\.0 MB long, not about 500\.0 kB"):
        download(Remote(server.url, 500_000, exact=False), part)
    assert not part.exists()
    download(Remote(server.url, 600_000, exact=False), part)
    assert part.read_bytes() == CONTENT


def test_a_server_that_promises_more_than_it_sends_is_given_up(server: ServedFile, part: Path) -> None:
    server.length = len(CONTENT) + 1000
    with pytest.raises(DatasetError, match="run it again to go on"):
        download(Remote(server.url, server.length, exact=True), part)
    assert len(server.requests) < 12


def test_a_file_of_unknown_length_arrives_and_has_a_limit(server: ServedFile, part: Path) -> None:
    server.chunked = True
    download(exact(server), part)
    assert part.read_bytes() == CONTENT
    part.unlink()
    with pytest.raises(DatasetError, match=r"sends more than 1\.0 MB"):
        download(Remote(server.url, 500_000, exact=False), part)


def test_a_disk_without_room_is_said_first(server: ServedFile, part: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(DatasetError, match=r"1\.0 MB more are to be downloaded, and 1\.0 kB are free"):
        download(exact(server), part)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://host/data.zip", "data.zip", "http:///data.zip", ""])
def test_other_addresses_than_of_the_web_are_refused(url: str, part: Path) -> None:
    with pytest.raises(DatasetError, match="no address of a file that begins with https"):
        download(Remote(url, 1, exact=True), part)


def test_no_server_is_one_line(part: Path) -> None:
    with serving(b"") as server:
        url = server.url
    with pytest.raises(DatasetError, match=r"no answer \(Connection refused\); check the connection"):
        download(Remote(url, 1, exact=True), part)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    breaks=st.lists(st.integers(0, len(CONTENT)), max_size=4),
    ranges=st.booleans(),
    chunked=st.booleans(),
    versions=st.sampled_from(['"1"', None, 'W/"1"']),
)
def test_whatever_breaks_the_file_arrives_whole(
    tmp_path: Path, breaks: list[int], ranges: bool, chunked: bool, versions: str | None
) -> None:
    part = tmp_path / "data.zip.part"
    part.unlink(missing_ok=True)
    part.with_name("data.zip.part.json").unlink(missing_ok=True)
    with serving(CONTENT) as server:
        server.breaks, server.ranges, server.chunked, server.version = breaks, ranges, chunked, versions
        download(exact(server), part)
    assert part.read_bytes() == CONTENT
