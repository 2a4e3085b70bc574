"""Command-line front end: flag parser, progress, exit codes."""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NoReturn

from audionet.cli.early_flags import take_flag
from audionet.cli.help_page import AllFlags, formatter, short_help
from audionet.cli.interrupts import INTERRUPTED, die_when_interrupted, exit_when_interrupted
from audionet.cli.log_output import SWITCHES, Output
from audionet.errors import AudioNetError, UsageError, show_flags_in_messages
from audionet.utils.progress import Advance, Reporter, reporting_to
from audionet.utils.text import escape, os_error_reason

log = logging.getLogger(__name__)

SCRIPTS = {"data": "data_maker.py", "train": "retrain.py", "label": "label_image.py", "probe": "probe.py"}
"""Scripts of the commands that others name as the next step, where there is one."""

_SECONDS_A_LINE = 15.0


class Parser(argparse.ArgumentParser):
    """Argument parser with one-line error messages and without abbreviated flags.

    Parameters
    ----------
    documentation : str or None
        A command's docstring, whose first line describes it; None under ``python -OO``.
    *examples : str
        Flags of typical uses, without the command's name, for the help.
    """

    def __init__(self, documentation: str | None, *examples: str) -> None:
        description = (documentation or "").partition("\n")[0]
        super().__init__(description=description, allow_abbrev=False, formatter_class=formatter)
        self.examples = examples
        self._positionals.title, self._optionals.title = "arguments", "every command"
        self.add_argument("--help-all", "--help_all", action=AllFlags, help="show all flags, and exit")
        # Taken out of the command line by `cli.main`, before the defaults below are read.
        self.add_argument(
            "--project",
            metavar="NAME",
            default=argparse.SUPPRESS,
            help="keep recordings, images, models and reports apart from others, in tf_files/projects/NAME",
        )
        self.add_argument(
            "--config",
            metavar="FILE",
            default=argparse.SUPPRESS,
            help="settings from a TOML or JSON file, or those of an earlier run from its record, a model's JSON or "
            "dataset.json; flags go before them",
        )
        for name, text in SWITCHES.items():
            self.add_argument(name, action="store_true", default=argparse.SUPPRESS, help=text)

    def format_help(self) -> str:
        """Return the page of the flags in everyday use."""
        return short_help(self, self.examples)

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parse a command line, with the settings of ``--config`` before its flags."""
        given, path = take_flag(list(sys.argv[1:] if args is None else args), "--config")
        if path is not None:
            from audionet.cli.run_config import flags_from_file

            given = [*flags_from_file(Path(path), set(self._option_string_actions)), *given]
        flags = super().parse_args(given, namespace)
        for name, value in sorted(vars(flags).items()):
            log.debug("--%s %s", name, "..." if name == "api_key" and value else value)
        return flags

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {escape(message)} (--help-all lists the flags)\n")


def run(main: Callable[[], None], output: Output | None = None) -> NoReturn:
    """Run a script's main, and exit; known errors become one line on stderr and an exit code.

    Parameters
    ----------
    main : callable
        Imports what it needs, then calls `raise_when_interrupted`, and works.
    output : Output, optional
        Messages to write; by default, all but details.
    """
    output = output or Output()
    start = time.monotonic()
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a name still shows the rest
    show_flags_in_messages()
    output.install()
    exit_when_interrupted(lambda: output.failure("interrupted"))
    try:
        if output.quiet and output.verbose:
            raise UsageError("--quiet and --verbose exclude each other: give one of them")
        with reporting_to(_reporter(output)):
            main()
        print(end="", flush=True)
        log.debug("finished in %.1f s", time.monotonic() - start)
    except AudioNetError as error:
        _fail(output, escape(str(error)), error.exit_code)
    except BrokenPipeError:
        # The reader closed the pipe, as `| head` does; without this, Python reports the error once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f"{escape(os.fsdecode(error.filename))}: " if error.filename else ""
        _fail(output, f"{where}{os_error_reason(error)}", 1)
    except KeyboardInterrupt as interrupt:
        die_when_interrupted()
        line = f"interrupted; {escape(str(interrupt)) or 'run it again to go on, finished work is kept'}"
        _fail(output, line, INTERRUPTED)
    raise SystemExit(0)


def command_line(command: str, *arguments: str | os.PathLike[str]) -> str:
    """Return the shortest line that runs a command of AudioNet in this environment, from the current folder.

    Parameters
    ----------
    command : str
        One of those of ``audionet``.
    *arguments : str or path
        Quoted where a shell would take them apart.
    """
    own, here, script = (
        Path(sys.executable),
        Path.cwd(),
        Path(sys.argv[0]).with_name(SCRIPTS.get(command, f"{command}.py")),
    )

    def is_own(program: str) -> bool:
        found = shutil.which(program)
        return found is not None and Path(found).absolute().parent == own.parent

    if is_own("audionet"):
        words = ["audionet", command]
    else:
        nearest = own.relative_to(here) if own.is_relative_to(here) else own
        python = next(filter(is_own, ("python", "python3")), str(nearest))
        words = [python, str(script)] if script.is_file() else [python, "-m", "audionet", command]
    return " ".join(escape(shlex.quote(os.fspath(word))) for word in (*words, *arguments))


def _open_closed_streams() -> None:
    """Open /dev/null for standard streams that the caller closed (``2>&-``), before a data file gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(number, True)  # worker processes need it as well
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _fail(output: Output, line: str, code: int) -> NoReturn:
    print(output.failure(line), file=sys.stderr)
    raise SystemExit(code)


@contextlib.contextmanager
def if_interrupted(line: str) -> Iterator[None]:
    """Have an interruption of the block say what is kept and how to go on, where finished work is not kept."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(line) from None


def _reporter(output: Output) -> Reporter:
    """Return how progress is shown: as a bar on a terminal, as a line now and then elsewhere, or not at all."""
    return progress_bar if sys.stderr.isatty() and not output.quiet and not output.log_json else progress_lines


@contextlib.contextmanager
def progress_bar(what: str, unit: str, total: float) -> Iterator[Advance]:
    """Show a progress bar with the time left on stderr; bytes are scaled."""
    from tqdm import tqdm  # here alone: a label comes a tenth sooner without it

    in_bytes = unit == "B"
    with tqdm(
        desc=what,
        unit=unit if in_bytes else f" {unit}",
        unit_scale=in_bytes,
        total=total,
        dynamic_ncols=True,
        file=sys.stderr,
        mininterval=0.2,
    ) as bar:
        yield bar.update


@contextlib.contextmanager
def progress_lines(what: str, unit: str, total: float) -> Iterator[Advance]:
    """Log a line every `_SECONDS_A_LINE` with the amount done, where stderr is a file: a bar would fill it."""
    start = last = time.monotonic()
    done = 0.0

    def advance(amount: float) -> None:
        nonlocal done, last
        done += amount
        now = time.monotonic()
        if now - last >= _SECONDS_A_LINE and 0 < done < total:
            last = now
            left = (now - start) * (total - done) / done
            state = {"work": what, "done": done, "total": total, "unit": unit, "seconds_left": round(left, 1)}
            line = f"{what}: {done:.0f} of {total:.0f} {unit}, {left:.0f} s left"
            log.info(line, extra={"progress": state})

    yield advance
    log.debug("%s: %.0f %s in %.1f s", what, done, unit, time.monotonic() - start)


def warn(line: str) -> None:
    """Log a one-line warning."""
    log.warning(line)
