"""Completion, as a shell that has read the script gives it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from audionet.cli.completion import SHELLS, parser_of_all
from audionet.cli.main import COMMANDS
from tests.support.scripts import run_script
from tests.support.sounds import ROOT

shtab = pytest.importorskip("shtab")


@pytest.fixture(scope="module")
def script(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("completion") / "audionet.bash"
    path.write_text(shtab.complete(parser_of_all(), shell="bash"))
    return path


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("audionet", ""), set(COMMANDS)),
        (("audionet", "dis"), {"discover"}),
        (("audionet", "data", "--chunk"), {"--chunk_seconds"}),
        (("audionet", "data", "--representation", ""), {"mel", "linear", "chroma"}),
        (("audionet", "label", "--qui"), {"--quiet"}),
        (("audionet", "completion", "f"), {"fish"}),
    ],
)
def test_bash(script: Path, words: tuple[str, ...], expected: set[str]) -> None:
    quoted = " ".join(f"'{word}'" for word in words)
    code = f"""
source '{script}'
COMP_WORDS=({quoted}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="${{COMP_WORDS[*]}}"
function=$(complete -p audionet | sed 's/.*-F \\([^ ]*\\) .*/\\1/')
$function audionet "${{COMP_WORDS[COMP_CWORD]}}" "${{COMP_WORDS[COMP_CWORD-1]}}"
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False, timeout=60)
    assert expected <= {word.strip() for word in done.stdout.split()}, done.stderr
    if words[-1]:
        assert all(word.startswith(words[-1]) for word in done.stdout.split())


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_gets_a_script(shell: str) -> None:
    written = shtab.complete(parser_of_all(), shell=shell)
    assert all(command in written for command in COMMANDS)


def test_a_command_that_lacks_an_extra_still_completes_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib

    real = importlib.import_module

    def import_module(name: str) -> object:
        if name == "audionet.cli.train":
            raise ModuleNotFoundError("No module named 'scipy'")
        return real(name)

    monkeypatch.setattr(importlib, "import_module", import_module)
    assert "train" in shtab.complete(parser_of_all(), shell="bash")


def test_it_is_printed(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "audionet", "completion", "bash"],
        cwd=ROOT / "scripts",
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stderr, "complete" in done.stdout) == ("", True)
    assert run_script("data_maker.py", "--help", cwd=tmp_path).stdout.startswith("usage: data_maker.py [flags]\n")
