"""Help of every command: a page of the flags in everyday use, and all of them."""

from __future__ import annotations

import importlib
import re

import pytest

from audionet.cli.console import Parser
from audionet.cli.help_page import all_flags
from audionet.cli.main import COMMANDS
from audionet.utils.settings import OTHER_FLAGS, flag_group
from tests.support.sounds import ROOT

COMMANDS_WITH_FLAGS = list(COMMANDS)
LINES = 30


def parser_of(command: str, monkeypatch: pytest.MonkeyPatch) -> Parser:
    monkeypatch.setattr("sys.argv", [f"audionet {command}"])
    monkeypatch.chdir(ROOT)
    return importlib.import_module(f"audionet.cli.{command}").make_parser()  # type: ignore[no-any-return]


@pytest.mark.parametrize("command", COMMANDS_WITH_FLAGS)
@pytest.mark.parametrize("columns", [80, 200])
def test_help_fits_a_screen(command: str, columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    parser = parser_of(command, monkeypatch)
    lines = parser.format_help().splitlines()
    assert len(lines) <= LINES
    assert max(map(len, lines)) <= 100
    assert lines[0].startswith(f"usage: audionet {command} ")
    assert f"audionet {command} --help-all" in lines[-1]
    assert "examples:" in lines


@pytest.mark.parametrize("command", COMMANDS_WITH_FLAGS)
def test_examples_are_command_lines_that_parse(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module(f"audionet.cli.{command}")
    for example in parser_of(command, monkeypatch).examples:
        module.parse_args(example.partition(" > ")[0].split())


@pytest.mark.parametrize("command", COMMANDS_WITH_FLAGS)
def test_all_flags_are_listed_once_and_counted(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parser = parser_of(command, monkeypatch)
    names = [action.option_strings[0] for action in parser._actions if action.option_strings]
    listed = re.findall(r"^  (--?\w[\w-]*)", all_flags(parser), re.M)
    assert sorted(listed) == sorted(names)
    assert f"All {len(names)} flags:" in parser.format_help()


def test_a_flag_without_a_group_is_in_the_whole_list_alone(capsys: pytest.CaptureFixture[str]) -> None:
    parser = Parser("Do it.\n\nMore.", "--often 3")
    flag_group(parser, "input").add_argument("--often", help="how often; 0: never (default: 1)")
    flag_group(parser, None).add_argument("--seldom", help="how seldom: 100 %% is never")
    page = parser.format_help()
    assert "input:\n  --often OFTEN  how often (default: 1)\n" in page
    assert "--seldom" not in page
    assert "More." not in page
    assert page.isascii()
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--help-all"])
    assert stopped.value.code == 0
    whole = capsys.readouterr().out
    assert f"{OTHER_FLAGS}:\n  --seldom SELDOM" in whole
    assert "100 % is never" in whole
    assert "how often; 0: never (default: 1)" in whole
    assert whole.index("input:") < whole.index(OTHER_FLAGS) < whole.index("every command:")
