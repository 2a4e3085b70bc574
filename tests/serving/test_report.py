"""The report on the model, as the service gives it to a browser."""

from __future__ import annotations

import json
import os
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from audionet._paths import model_json_path
from audionet.serving.config import API_KEY_VARIABLE
from audionet.serving.report import find_report
from tests.support.browser import chromium
from tests.support.serving import Serving, serving

KEY = "0123456789abcdef-key"
PAGE = """<!DOCTYPE html><title>not run</title><style>p {color: rgb(1, 2, 3)}</style><p>Ö</p>
<img src="data:image/gif;base64,R0lGODlhAQABAAAAACwAAAAAAQABAAA="><a href="#there">there</a><i id="there"></i><script>
let cookies = "none";
try { cookies = document.cookie } catch {}
let answer = "none";
fetch("/v1/model").then(reply => { answer = reply.status }).catch(() => {}).finally(() => {
  const [text, image] = [document.querySelector("p"), document.querySelector("img")];
  document.title = [getComputedStyle(text).color, image.naturalWidth, origin, cookies, answer].join(" ");
});
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("report")


@pytest.fixture(scope="module")
def server(tone_model: Path, folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    options: dict[str, Any] = {"environment": {API_KEY_VARIABLE: KEY}, "api_key": KEY}
    flags = ("--report_dir", folder, "--workers", 1)
    with serving(tone_model, *flags, temporary=tmp_path_factory.mktemp("server"), **options) as server:
        yield server


def write(folder: Path, graph_sha256: str, content: str = PAGE) -> None:
    (folder / "report.html").write_text(content, "utf-8")
    (folder / "report.json").write_text(json.dumps({"model": {"graph_sha256": graph_sha256}}))


def sha256_of(graph: Path) -> str:
    return str(json.loads(model_json_path(graph).read_text())["graph_sha256"])


def test_the_report_is_there_once_it_is_written_and_for_its_model_alone(
    server: Serving, tone_model: Path, folder: Path
) -> None:
    missing = server.get("/v1/report")
    assert missing.status == 404
    assert "evaluate.py writes one" in missing.detail
    assert server.get("/v1/model").json["report"] is False
    write(folder, sha256_of(tone_model))
    reply = server.get("/v1/report")
    assert (reply.status, reply.body.decode()) == (200, PAGE)
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"
    assert server.get("/v1/model").json["report"] is True
    write(folder, "0" * 64)
    assert server.get("/v1/report").status == 404
    assert server.get("/v1/model").json["report"] is False
    assert server.gauge('audionet_requests_total{path="/v1/report",status="200"}') == 1


def test_the_report_takes_the_key_and_has_no_origin(server: Serving, tone_model: Path, folder: Path) -> None:
    write(folder, sha256_of(tone_model))
    for authorization in ("", "Bearer wrong"):
        assert server.get("/v1/report", Authorization=authorization).status == 401
    headers = server.get("/v1/report").headers
    policy = headers["Content-Security-Policy"].split("; ")
    assert "sandbox allow-scripts" in policy
    assert "default-src 'none'" in policy
    assert headers["Cross-Origin-Opener-Policy"] == "unsafe-none"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Cache-Control"] == "no-store"
    assert "unsafe" not in server.get("/v1/model").headers["Content-Security-Policy"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": 1}', '{"model": {}}', '{"trials": {}}'])
def test_numbers_of_something_else_are_of_no_report(tmp_path: Path, content: str) -> None:
    (tmp_path / "report.html").write_text(PAGE)
    assert find_report(tmp_path, "a") is None
    (tmp_path / "report.json").write_text(content)
    assert find_report(tmp_path, "a") is None


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
@pytest.mark.parametrize("name", ["report.html", "report.json"])
def test_a_pipe_is_no_report(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a")
    (tmp_path / name).unlink()
    os.mkfifo(tmp_path / name)
    writer = os.open(tmp_path / name, os.O_RDWR)  # which lets a reader end
    os.write(writer, b'{"model": {"graph_sha256": "a"}}')
    closing = threading.Timer(1, os.close, [writer])
    closing.start()
    assert find_report(tmp_path, "a") is None
    closing.join()


def test_a_report_that_was_written_anew_is_read_anew(tmp_path: Path) -> None:
    write(tmp_path, "a")
    assert find_report(tmp_path, "a") == tmp_path / "report.html"
    write(tmp_path, "b")
    os.utime(tmp_path / "report.json", ns=(1, 1))
    assert find_report(tmp_path, "a") is None
    assert find_report(tmp_path, "b") == tmp_path / "report.html"
    (tmp_path / "report.html").unlink()
    assert find_report(tmp_path, "b") is None


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromedriver") is None, reason="not installed: chromedriver")
def test_a_browser_shows_the_report_and_gives_it_nothing_of_the_service(tone_model: Path, tmp_path: Path) -> None:
    write(tmp_path, sha256_of(tone_model))
    flags = ("--report_dir", tmp_path, "--workers", 1)
    with serving(tone_model, *flags, temporary=tmp_path / "server") as server, chromium(tmp_path / "x.wav") as driver:
        driver.get(f"{server.url}/v1/report")
        assert driver.title == "rgb(1, 2, 3) 1 null none none"
