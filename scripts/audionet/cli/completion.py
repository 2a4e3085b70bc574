"""Print a script that completes AudioNet's commands, flags and files in a shell.

Writing it takes seconds, using it takes none: it holds all flags, and is written again after an update.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence

from audionet.cli.console import Parser
from audionet.utils.extras import require_modules
from audionet.utils.settings import path_flag

SHELLS = ("bash", "zsh", "fish", "tcsh", "powershell")


def make_parser() -> Parser:
    parser = Parser(
        __doc__,
        "bash > ~/.local/share/bash-completion/completions/audionet",
        "zsh > ~/.zfunc/_audionet",
        "fish > ~/.config/fish/completions/audionet.fish",
    )
    parser.add_argument("shell", choices=SHELLS, help="the shell")
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    require_modules("shtab")
    import shtab

    print(shtab.complete(parser_of_all(), shell=flags.shell))


def parser_of_all() -> argparse.ArgumentParser:
    """Return a parser with a sub-parser for each command; those that lack an extra's modules complete no flags."""
    import shtab

    from audionet.cli.main import COMMANDS

    parser = argparse.ArgumentParser(prog="audionet")
    parser.add_argument("--version", "-V", action="store_true", help="print the version")
    commands = parser.add_subparsers()
    for name, text in COMMANDS.items():
        try:
            parents = [importlib.import_module(f"audionet.cli.{name}").make_parser()]
        except ModuleNotFoundError:
            parents = []
        command = commands.add_parser(name, help=text, parents=parents, add_help=False)
        for action in command._actions:
            if action.type is path_flag:
                action.complete = shtab.FILE  # type: ignore[attr-defined]
    return parser
