"""Help of a command: a page of the flags in everyday use, and the list of all of them."""

from __future__ import annotations

import argparse
import copy
import re
import shutil
from collections.abc import Sequence
from typing import Any

from audionet.utils.settings import OTHER_FLAGS

_WIDEST = 100  # columns
_UNBROKEN = "\u00a0"  # a blank at which a formatter begins no new line


def formatter(prog: str) -> argparse.HelpFormatter:
    """Return a formatter for the terminal's width, at most `_WIDEST` columns."""
    columns = min(_WIDEST, shutil.get_terminal_size().columns)
    return argparse.HelpFormatter(prog, max_help_position=30, width=columns - 2)


class AllFlags(argparse.Action):
    """Action of ``--help-all``: print the list of all flags, and exit."""

    def __init__(self, option_strings: Sequence[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, **options)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """Print the list."""
        print(all_flags(parser), end="")
        parser.exit()


def short_help(parser: argparse.ArgumentParser, examples: Sequence[str]) -> str:
    """Return the page of the flags in everyday use, in groups, each with the first clause of its help.

    Parameters
    ----------
    parser : argparse.ArgumentParser
    examples : sequence of str
        Flags of a typical use each, without the command's name.
    """
    page = _headed(parser)
    flags = 0
    for group in parser._action_groups:
        flags += sum(bool(action.option_strings) for action in group._group_actions)
        if group not in (parser._optionals, _others(parser)):
            _add_group(page, group, [_brief(action) for action in group._group_actions])
    parts = [page.format_help()]
    if examples:
        parts.append("examples:\n" + "".join(f"  {f'{parser.prog} {example}'.strip()}\n" for example in examples))
    return "\n".join([*parts, f"All {flags} flags: {parser.prog} --help-all\n"]).replace(_UNBROKEN, " ")


def all_flags(parser: argparse.ArgumentParser) -> str:
    """Return the list of all flags, with their whole help."""
    page = _headed(parser)
    others = _others(parser)
    groups = [group for group in parser._action_groups if group not in (parser._optionals, others)]
    for group in (*groups, *([] if others is None else [others]), parser._optionals):
        _add_group(page, group, group._group_actions)
    return page.format_help()


def _headed(parser: argparse.ArgumentParser) -> argparse.HelpFormatter:
    usage = formatter(parser.prog)
    usage.add_usage(None, parser._get_positional_actions(), [])
    page = formatter(parser.prog)
    page.add_usage(usage.format_help().removeprefix("usage: ").strip().replace("%", "%%") + " [flags]", [], [])
    page.add_text(parser.description)
    return page


def _others(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup | None:
    return next((group for group in parser._action_groups if group.title == OTHER_FLAGS), None)


def _add_group(
    page: argparse.HelpFormatter, group: argparse._ArgumentGroup, actions: Sequence[argparse.Action]
) -> None:
    page.start_section(group.title)
    page.add_arguments(actions)
    page.end_section()


def _brief(action: argparse.Action) -> argparse.Action:
    """Return a copy of a flag whose help is its first clause and its default."""
    short = copy.copy(action)
    text = action.help or ""
    default = re.search(r" \(default: (?!0\)|0.0\)|auto\)|none\))[^()]*\)$", text)
    short.help = re.split(r"[;:.] | \(", text)[0] + (_unbroken(default[0]) if default else "")
    if action.choices is not None:
        short.metavar = "|".join(map(str, action.choices))
    short.option_strings = action.option_strings[:1]  # without older names
    return short


def _unbroken(default: str) -> str:
    return " " + default.strip().replace(" ", _UNBROKEN)
