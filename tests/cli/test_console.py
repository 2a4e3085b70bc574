"""What all commands share."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from audionet.cli.console import command_line
from audionet.cli.main import COMMANDS
from tests.support.sounds import ROOT


def test_every_command_starts_without_docstrings() -> None:
    """PYTHONOPTIMIZE=2 takes them away."""
    code = f"""
import contextlib, importlib
for name in {list(COMMANDS)}:
    with contextlib.suppress(SystemExit):
        importlib.import_module("audionet.cli." + name).parse_args(["--help"])
        print("went on after --help:", name)
"""
    done = subprocess.run([sys.executable, "-OO", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("usage:") == len(COMMANDS)
    assert "went on" not in done.stdout


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A virtual environment whose Python runs a script of a checkout, and the programs of the system's folder."""
    for folder, names in (("env", ("python", "python3", "audionet")), ("usr", ("python3", "audionet"))):
        (tmp_path / folder / "bin").mkdir(parents=True)
        for name in names:
            program = tmp_path / folder / "bin" / name
            program.write_text("#!/bin/sh\n")
            program.chmod(0o755)
    (tmp_path / "scripts").mkdir()
    for name in ("label_image.py", "retrain.py"):
        (tmp_path / "scripts" / name).touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "env" / "bin" / "python3"))
    monkeypatch.setattr(sys, "argv", ["scripts/retrain.py"])
    monkeypatch.setenv("PATH", str(tmp_path / "usr" / "bin"))
    return tmp_path


def test_the_next_step_is_printed_as_the_shortest_line_that_works(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["scripts/retrain.py"])
    assert command_line("label") == "env/bin/python3 scripts/label_image.py"
    monkeypatch.setattr(sys, "argv", ["audionet train"])
    assert command_line("label") == "env/bin/python3 -m audionet label"
    (environment / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    monkeypatch.setattr(sys, "argv", ["../scripts/retrain.py"])
    assert command_line("label") == f"{environment}/env/bin/python3 ../scripts/label_image.py"
    monkeypatch.setenv("PATH", f"{environment}/env/bin{os.pathsep}{environment}/usr/bin")
    assert command_line("label", "--graph", Path("m.tflite")) == "audionet label --graph m.tflite"
    (environment / "env" / "bin" / "audionet").unlink()
    assert command_line("label") == "python ../scripts/label_image.py"
    (environment / "env" / "bin" / "python").unlink()
    assert command_line("label") == "python3 ../scripts/label_image.py"


def test_names_with_blanks_are_quoted(environment: Path) -> None:
    assert command_line("label", "--graph", Path("my models/it's.tflite"), "a\nb").endswith(
        """label_image.py --graph 'my models/it'"'"'s.tflite' 'a\\nb'"""
    )


def test_a_printed_command_works_outside_the_virtual_environment(tmp_path: Path) -> None:
    outside = {"PATH": os.defpath}
    script = [sys.executable, str(ROOT / "scripts" / "label_image.py")]
    asked = subprocess.run(script, capture_output=True, text=True, check=False, cwd=tmp_path, env=outside)
    assert asked.returncode == 2
    words, _, command = asked.stderr.strip().partition("name a clip: ")
    assert (words, command.endswith(" clip.wav")) == ("label_image.py: ", True)
    command = command.removesuffix(" clip.wav")
    again = subprocess.run(command, shell=True, capture_output=True, text=True, check=False, cwd=tmp_path, env=outside)
    assert again.stderr == asked.stderr
