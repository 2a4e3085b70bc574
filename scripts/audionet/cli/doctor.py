"""Check the installation: versions, decoders, networks, disk, and which command works without which extra.

Exits with 0 if all that AudioNet needs works, with 1 if something is broken; extras that are not installed are no
error. Nothing is fetched, and without --online no other machine is asked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from audionet.cli.console import Parser
from audionet.diagnostics.check import Check, State, guarded
from audionet.diagnostics.config import DoctorConfig
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape, pluralise

_COLOURS: dict[State, str] = {"ok": "32", "missing": "33", "broken": "31"}
_WIDTHS = (7, 22)  # of the state and the name


def make_parser() -> Parser:
    parser = Parser(__doc__, "", "--online", "--json")
    add_flags(parser, DoctorConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    config = from_flags(DoctorConfig, parse_args(argv))
    results: list[tuple[str, Check]] = []
    group = ""
    for title, check in run_checks(config):
        results.append((title, check))
        if not config.json:
            if title != group:
                print(("\n" if group else "") + title)
                group = title
            print(format_check(check, has_colours()), flush=True)
    broken = [check for _, check in results if check.state == "broken"]
    if config.json:
        checks = [{"group": title, **check._asdict()} for title, check in results]
        print(json.dumps({"ok": not broken, "checks": checks}, indent=1))
    else:
        missing = sum(check.state == "missing" for _, check in results)
        summary = f"{len(broken)} broken" if broken else "all that is needed works"
        print(f"\n{pluralise(len(results), 'check')}: {summary}, {missing} optional not there")
    if broken:
        raise SystemExit(1)


def run_checks(config: DoctorConfig) -> Iterator[tuple[str, Check]]:
    """Yield the results of all checks, each with the title of its group, as soon as they are there.

    The modules of a group are imported within it: a package that cannot be imported is a result as well.
    """

    def titled(title: str, checks: Iterable[Check]) -> Iterator[tuple[str, Check]]:
        return ((title, check) for check in checks)

    def machine() -> Iterator[Check]:
        from audionet.diagnostics.machine import check_python, check_resources

        yield from check_python()
        yield from check_resources()

    def packages() -> Iterator[Check]:
        from audionet.diagnostics.packages import check_core

        yield from check_core()

    def decoders() -> Iterator[Check]:
        from audionet.diagnostics.decoders import check_decoders

        yield from check_decoders()

    def networks() -> Iterator[Check]:
        from audionet.diagnostics.networks import check_backbones, check_model

        yield from check_backbones()
        yield from check_model(config.graph)

    def extras() -> Iterator[Check]:
        from audionet.diagnostics.machine import check_gpu, check_microphone
        from audionet.diagnostics.packages import check_extras

        yield from check_extras()
        yield from check_gpu()
        yield from check_microphone()

    def online() -> Iterator[Check]:
        from audionet.diagnostics.machine import check_hubs

        yield from check_hubs()

    groups = {"Machine": machine, "Packages": packages, "Decoders": decoders, "Networks": networks, "Extras": extras}
    if config.online:
        groups["Online"] = online
    for title, checks in groups.items():
        yield from titled(title, guarded(title.lower(), checks))


def format_check(check: Check, colours: bool) -> str:
    """Return the lines of one result: state, name and detail, and the way out below."""
    state, name = (text.ljust(width) for text, width in zip((check.state, escape(check.name)), _WIDTHS, strict=True))
    if colours:
        state = f"\x1b[{_COLOURS[check.state]}m{state}\x1b[0m"
    line = f"  {state}  {name}  {escape(check.detail)}".rstrip()
    return f"{line}\n{' ' * (sum(_WIDTHS) + 6)}-> {check.remedy}" if check.remedy else line


def has_colours() -> bool:
    """Return whether stdout is a terminal that shows colours; see https://no-color.org."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
