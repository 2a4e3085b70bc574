"""Processes whose time and memory are measured from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import tempfile
import textwrap
import time
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import psutil

_INTERVAL = 0.1  # seconds between two looks at its memory
_LONGEST_REASON = 130


class Usage(NamedTuple):
    """What a process printed and used: seconds, and the most megabytes that it and its children held at once."""

    output: str
    seconds: float
    peak: float


class FailedError(Exception):
    """A process could not be started, failed or took too long; the message is one line."""


def run(command: Sequence[str], timeout: float, environment: Mapping[str, str] | None = None) -> Usage:
    """Run a command to its end.

    Memory is the proportional share (PSS) where the system tells it, so that pages which processes share count once.

    Raises
    ------
    FailedError
        If it fails; all processes that it started are ended.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=err,
                stdin=subprocess.DEVNULL,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        except OSError as error:
            raise FailedError(f"{command[0]} cannot be started ({error.strerror})") from None
        peak = 0
        try:
            while True:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_INTERVAL)
                    break
                peak = max(peak, _memory(process.pid))
                if time.perf_counter() - start > timeout:
                    raise FailedError(f"stopped after {timeout:g} s")
            seconds = time.perf_counter() - start
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        out.seek(0)
        if process.returncode:
            err.seek(0)
            raise FailedError(_reason(err.read().decode("utf-8", "replace"), process.returncode))
        return Usage(out.read().decode("utf-8"), seconds, peak / 1e6)


def _memory(pid: int) -> int:
    """Return the bytes that a process and its children hold."""
    total = 0
    with contextlib.suppress(psutil.Error):
        root = psutil.Process(pid)
        for process in (root, *root.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                found = process.memory_full_info()
                total += getattr(found, "pss", found.rss)
    return total


def _reason(errors: str, status: int) -> str:
    """Return the last line that a failed process wrote, which names the error in a traceback."""
    lines = [line.strip() for line in errors.splitlines() if line.strip()]
    if not lines:
        return f"ended with status {status}"
    return textwrap.shorten(lines[-1].rstrip("."), _LONGEST_REASON, placeholder=" [...]")
