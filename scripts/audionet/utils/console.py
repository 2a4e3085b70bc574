"""How scripts talk: one line an error, progress on stderr, tables on stdout."""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import NoReturn, TypeVar

from audionet.errors import AudioNetError
from audionet.utils.text import escape, os_error_reason

Item = TypeVar("Item")


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaint is one line, and that takes no abbreviated flags."""

    def __init__(self, description: str) -> None:
        super().__init__(description=description, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {escape(message)} (--help lists the flags)\n")


def run(main: Callable[[], None]) -> NoReturn:
    """Run a script's main; known errors end it with one line on stderr and the right exit code."""
    script = os.path.basename(sys.argv[0])
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that cannot show a name still shows the rest
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        main()
        print(end="", flush=True)
    except AudioNetError as error:
        _fail(script, escape(str(error)), error.exit_code)
    except BrokenPipeError:
        # The reader went away, as `| head` does; Python must not complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        where = f"{escape(os.fsdecode(error.filename))}: " if error.filename else ""
        _fail(script, f"{where}{os_error_reason(error)}", 1)
    except KeyboardInterrupt:
        _fail(script, "interrupted; run it again to go on, finished work is kept", 130)
    raise SystemExit(0)


def _open_closed_streams() -> None:
    """Give a caller's closed streams (``2>&-``) somewhere to go, before a data file gets their numbers."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number: this one
            os.set_inheritable(number, True)  # worker processes need it as well
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w", closefd=False))


def _fail(script: str, line: str, code: int) -> NoReturn:
    print(f"{script}: {line}", file=sys.stderr)
    raise SystemExit(code)


def warn(line: str) -> None:
    """One line on stderr about something left out; the run goes on."""
    from tqdm import tqdm

    tqdm.write(escape(line), file=sys.stderr)


@contextlib.contextmanager
def progress(what: str, unit: str, total: int) -> Iterator[Callable[[float], object]]:
    """Show how far the work is, with the time left; call what it gives with the amount done. Bytes are scaled."""
    from tqdm import tqdm

    # In a log file every refresh is a line to scroll past.
    refresh = 0.2 if sys.stderr.isatty() else 15.0
    in_bytes = unit == "B"
    with tqdm(
        desc=what,
        unit=unit if in_bytes else f" {unit}",
        unit_scale=in_bytes,
        total=total,
        dynamic_ncols=True,
        file=sys.stderr,
        mininterval=refresh,
    ) as bar:
        yield bar.update


def tracked(items: Iterable[Item], what: str, unit: str, total: int) -> Iterator[Item]:
    """Pass items through and show how far they are."""
    with progress(what, unit, total) as advance:
        for item in items:
            yield item
            advance(1)


_mute_lock = threading.Lock()
_mute_depth = 0
_mute_saved = -1


@contextlib.contextmanager
def native_stderr_muted() -> Iterator[None]:
    """Silence what C libraries write to file descriptor 2; Python's own stderr loses it meanwhile too.

    mpg123, XNNPACK and TensorFlow print notes there that no setting turns off, and a damaged
    MP3 would give ten lines instead of one. Nests, and threads may share it.
    """
    global _mute_depth, _mute_saved
    with _mute_lock:
        _mute_depth += 1
        if _mute_depth == 1:
            sys.stderr.flush()
            _mute_saved = os.dup(2)
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 2)
            os.close(null)
    try:
        yield
    finally:
        with _mute_lock:
            _mute_depth -= 1
            if _mute_depth == 0:
                os.dup2(_mute_saved, 2)
                os.close(_mute_saved)
