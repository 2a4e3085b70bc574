"""Checks of an installation find what is broken, and say so without an exception."""

from __future__ import annotations

import http.server
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audionet.diagnostics import decoders, machine
from audionet.diagnostics.check import Check, guarded
from audionet.diagnostics.decoders import FORMATS, check_format, tone_share
from audionet.diagnostics.machine import check_folder, check_hubs
from audionet.diagnostics.networks import check_backbone, check_backbones, check_model
from audionet.diagnostics.packages import EXTRAS, check_core, failed_imports
from audionet.utils.extras import EXTRA_OF
from tests.support.sounds import tone, write_tone


@pytest.mark.parametrize(("ending", "codec"), FORMATS.items())
def test_every_format_is_decoded(ending: str, codec: str, tmp_path: Path) -> None:
    check = check_format(tmp_path / f"x.{ending}", codec)
    assert (check.state, check.remedy) == ("ok", ""), check


def test_a_decoder_that_gives_another_sound_or_none_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoders, "encode_tone", lambda path, codec: write_tone(path, 600))
    other = check_format(tmp_path / "x.flac", "flac")
    assert (other.state, other.detail.startswith("another sound")) == ("broken", True)
    monkeypatch.setattr(decoders, "encode_tone", lambda path, codec: path.write_bytes(b"fLaC"))
    assert check_format(tmp_path / "y.flac", "flac").state == "broken"
    assert check_format(tmp_path / "z.flac", "flac").remedy


def test_a_format_without_an_encoder_is_not_tried(tmp_path: Path) -> None:
    check = check_format(tmp_path / "x.flac", "no_such_encoder")
    assert (check.state, check.detail.startswith("not tried")) == ("missing", True)


def test_the_share_of_a_tone() -> None:
    assert tone_share(tone(440, 1.0, 8000).astype(np.float32), 8000) > 0.99
    assert tone_share(tone(600, 1.0, 8000).astype(np.float32), 8000) < 0.01
    assert tone_share(np.zeros(100, np.float32), 8000) == 0


def test_bundled_backbones_run() -> None:
    checks = list(check_backbones())
    assert len(checks) >= 1
    assert {check.state for check in checks} == {"ok"}


def test_backbones_that_are_damaged_or_gone(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "bad.tflite").write_bytes(b"words")
    assert check_backbone(tmp_path / "bad" / "bad.tflite").state == "broken"
    (gone,) = check_backbones(tmp_path / "none")
    assert gone.state == "broken"


def test_a_model_is_whole_damaged_or_not_there(tone_model: Path, tmp_path: Path) -> None:
    (whole,) = check_model(tone_model)
    assert whole.state == "ok"
    assert "5 labels" in whole.detail
    for path in tone_model.parent.glob("retrained_*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "retrained_model.npz").write_bytes(b"")
    (damaged,) = check_model(tmp_path / tone_model.name)
    assert damaged.state == "broken"
    assert "retrained_model.npz" in damaged.detail
    (none,) = check_model(tmp_path / "none.tflite")
    assert none.state == "missing"


def test_modules_that_fail_end_python_or_never_come_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raises_x.py").write_text("raise OSError('no library')")
    (tmp_path / "ends_x.py").write_text("import os; os.abort()")
    (tmp_path / "hangs_x.py").write_text("import time; time.sleep(60)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert failed_imports(["json", "raises_x"]) == {"raises_x": "OSError: no library"}
    found = failed_imports(["json", "raises_x", "ends_x"])
    assert sorted(found) == ["ends_x", "raises_x"]
    assert "ends Python" in found["ends_x"]
    assert "takes longer" in failed_imports(["hangs_x"], 1.0)["hangs_x"]


def test_a_core_package_that_is_not_there_names_the_way_out() -> None:
    working, broken = check_core({"numpy": "numpy", "nothing": "no_such_module"})
    assert (working.state, working.detail) == ("ok", np.__version__)
    assert (broken.state, broken.remedy) == ("broken", "pip install --force-reinstall nothing")


def test_every_extra_is_checked_by_a_module_of_its_own() -> None:
    assert set(EXTRAS) == set(EXTRA_OF.values())
    assert all(EXTRA_OF[module] == extra for extra, (module, _) in EXTRAS.items())


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_folder(tmp_path / "not" / "yet").state == "ok"
    (tmp_path / "file").touch()
    assert check_folder(tmp_path / "file").state == "broken"
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10**9, 10**9, 10**6))
    full = check_folder(tmp_path)
    assert full.state == "broken"
    assert "0.00 GB free" in full.detail


@pytest.fixture
def server() -> Iterator[str]:
    class Refusing(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(403)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}"
        running.shutdown()


def test_hubs_that_answer_and_one_that_does_not(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    answers, silent = check_hubs((server, "http://127.0.0.1:9"), 2.0)
    assert (answers.state, answers.detail) == ("ok", "HTTP 403")
    assert silent.state == "missing"


def test_an_unexpected_error_is_a_result() -> None:
    def checks() -> Iterator[Check]:
        yield Check("one", "ok", "")
        raise RuntimeError("two\nlines")

    first, second = guarded("group", checks)
    assert first.name == "one"
    assert (second.name, second.state, second.detail) == ("group", "broken", "RuntimeError: two")
