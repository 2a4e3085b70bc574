"""Whole folders as bytes, to compare."""

from __future__ import annotations

from pathlib import Path

from audionet.utils.files import LOCK_NAME


def files_of(*folders: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    }
