from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from audionet.cli import doctor
from audionet.cli.doctor import format_check, has_colours
from audionet.diagnostics.check import Check
from tests.support.sounds import ROOT

FINE = [("Machine", Check("a", "ok", "1")), ("Extras", Check("[b]", "missing", "needed by c", "pip install b"))]
BROKEN = ("Machine", Check("d", "broken", "no", "repair it"))


def test_it_exits_with_1_only_if_something_is_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "run_checks", lambda config: iter(FINE))
    doctor.main([])
    out = capsys.readouterr().out
    assert "2 checks: all that is needed works, 1 optional not there" in out
    assert "-> pip install b" in out
    assert out.isprintable() or "\x1b" not in out
    monkeypatch.setattr(doctor, "run_checks", lambda config: iter([*FINE, BROKEN]))
    with pytest.raises(SystemExit) as stopped:
        doctor.main(["--json"])
    assert stopped.value.code == 1
    content = json.loads(capsys.readouterr().out)
    assert not content["ok"]
    assert content["checks"][2] == {"group": "Machine", **BROKEN[1]._asdict()}


def test_colours_are_for_terminals_that_want_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    assert not has_colours()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert has_colours()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not has_colours()
    assert format_check(BROKEN[1], False) == "  broken   d                       no\n" + " " * 35 + "-> repair it"
    assert format_check(BROKEN[1], True).startswith("  \x1b[31mbroken \x1b[0m")


@pytest.mark.slow
def test_a_package_that_cannot_be_imported_is_a_result(tmp_path: Path) -> None:
    """Not a traceback, although the checks of decoders themselves need it."""
    (tmp_path / "soundfile.py").write_text("raise OSError('libsndfile is of another processor')")
    paths = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT / 'scripts')!r}]"
    code = f"{paths}; sys.argv = ['audionet', 'doctor', '--json']; from audionet.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(tmp_path), "HOME": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (1, "")
    broken = [check["name"] for check in json.loads(done.stdout)["checks"] if check["state"] == "broken"]
    assert {"soundfile", "decoders"} <= set(broken)
