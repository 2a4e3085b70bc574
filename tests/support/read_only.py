"""Folders that cannot be written, not even by root, whom permissions do not bind."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {"os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.utime", "os.chmod", "os.truncate", "os.link"}
_folders: list[Path] = []
_hooked = False


@contextlib.contextmanager
def read_only(*folders: Path) -> Iterator[None]:
    """Have this process's changes below the folders fail, as on a disk that is mounted read-only."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_refuse_changes)  # for good: a hook cannot be taken away
        _hooked = True
    _folders.extend(folders)
    try:
        yield
    finally:
        _folders.clear()


def _refuse_changes(event: str, arguments: tuple[Any, ...]) -> None:
    if not _folders or not (event in _CHANGES or (event == "open" and arguments[2] & _WRITING)):
        return
    for path in arguments[: 2 if event in ("os.rename", "os.link") else 1]:
        if not isinstance(path, str | bytes | os.PathLike):
            continue
        changed = Path.cwd() / os.fsdecode(path)
        if any(folder in (changed, *changed.parents) for folder in _folders):
            number = errno.EEXIST if event == "os.mkdir" and changed.exists() else errno.EROFS
            raise OSError(number, os.strerror(number), str(changed))
