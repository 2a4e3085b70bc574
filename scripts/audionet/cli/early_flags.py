"""Flags that count before the others are parsed, as these depend on them."""

from __future__ import annotations

from collections.abc import Collection


def take_flag(argv: list[str], name: str) -> tuple[list[str], str | None]:
    """Take a flag with its value out of a command line, before that is parsed; returns the rest, and the value or None.

    Parameters
    ----------
    argv : list of str
    name : str
        Such as ``--project``.
    """
    flags = argv[: argv.index("--")] if "--" in argv else argv
    for place, flag in enumerate(flags):
        if flag.startswith(f"{name}="):
            return [*argv[:place], *argv[place + 1 :]], flag.partition("=")[2]
        if flag == name and place + 1 < len(flags):
            return [*argv[:place], *argv[place + 2 :]], argv[place + 1]
    return argv, None


def take_switches(argv: list[str], names: Collection[str]) -> tuple[list[str], set[str]]:
    """Take flags without values out of a command line, before it is parsed; returns the rest, and those given.

    Parameters
    ----------
    argv : list of str
    names : collection of str
        Such as ``--quiet``.
    """
    end = argv.index("--") if "--" in argv else len(argv)
    rest = [word for word in argv[:end] if word not in names]
    return [*rest, *argv[end:]], set(argv[:end]) & set(names)
