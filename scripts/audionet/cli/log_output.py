"""Log messages on the console: as text, or one JSON object per line on stderr."""

from __future__ import annotations

import datetime
import json
import logging
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from audionet.utils.text import escape

ROOT = logging.getLogger("audionet")
SWITCHES = {
    "--quiet": "print results, warnings and errors alone",
    "--verbose": "also print details to stderr: files, times, settings",
    "--log_json": "write messages, warnings, errors and progress to stderr as JSON, one object per line",
}
"""Flags of every command that choose the messages, with their help."""


@dataclass(frozen=True)
class Output:
    """Messages to write, and their form.

    Attributes
    ----------
    quiet : bool
        Warnings and errors alone.
    verbose : bool
        Details too.
    log_json : bool
        One JSON object per line, on stderr.
    """

    quiet: bool = False
    verbose: bool = False
    log_json: bool = False

    @property
    def level(self) -> int:
        """Level of the least important messages that are written."""
        return logging.WARNING if self.quiet else logging.DEBUG if self.verbose else logging.INFO

    def failure(self, line: str) -> str:
        """Return the line that says why the command fails, as it is written to stderr."""
        if self.log_json:
            return json_line(logging.LogRecord(__name__, logging.ERROR, "", 0, line, None, None))
        return f"{os.path.basename(sys.argv[0])}: {line}"

    def install(self) -> None:
        """Write log messages of AudioNet to the console."""
        handler = JsonHandler() if self.log_json else ConsoleHandler()
        ROOT.addHandler(handler)
        ROOT.setLevel(self.level)


class ConsoleHandler(logging.Handler):
    """Log handler: messages to stdout; warnings, progress and details to stderr, without breaking progress bars."""

    def __init__(self) -> None:
        super().__init__()
        self._start = time.monotonic()

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        text = record.getMessage()
        if record.levelno < logging.INFO:
            module = record.name.removeprefix("audionet.")
            write_line(f"{time.monotonic() - self._start:9.3f} s  {module}: {text}")
        elif record.levelno >= logging.WARNING or hasattr(record, "progress"):
            write_line(text)
        else:
            print(text, flush=True)


class JsonHandler(logging.Handler):
    """Log handler: one JSON object per line on stderr, for programs that collect logs."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        print(json_line(record), file=sys.stderr, flush=True)


def json_line(record: logging.LogRecord) -> str:
    """Return a log record as a JSON object: time in UTC, level, logger, message, and its progress or traceback."""
    content: dict[str, Any] = {
        "time": datetime.datetime.fromtimestamp(record.created, datetime.UTC).isoformat(timespec="milliseconds"),
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": record.getMessage(),
    }
    if hasattr(record, "progress"):
        content["progress"] = record.progress
    if record.exc_info:
        content["traceback"] = logging.Formatter().formatException(record.exc_info)
    return json.dumps(content)


def log_as_service(name: str) -> None:
    """Write all log messages to stderr, those of other packages as well, every line marked with a service's name."""
    for handler in [handler for handler in ROOT.handlers if isinstance(handler, JsonHandler)]:
        logging.getLogger().addHandler(handler)  # then the format below is not used
    ROOT.handlers.clear()
    logging.basicConfig(format=f"{name}: %(message)s", level=logging.WARNING)


def write_line(line: str) -> None:
    """Write one line to stderr, above a progress bar if there is one."""
    if "tqdm" in sys.modules:
        from tqdm import tqdm

        tqdm.write(escape(line), file=sys.stderr)
    else:
        print(escape(line), file=sys.stderr, flush=True)
