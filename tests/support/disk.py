"""A disk that holds only what was synced, as after a loss of power."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from audionet.utils import disk


class RecordedDisk:
    """Records what the program syncs and renames, and asserts that files are synced before they are renamed.

    Parameters
    ----------
    monkeypatch : pytest.MonkeyPatch
    root : Path
        Folder that the program writes in.
    whole : bool
        Whether whole file systems can be synced, as on Linux.

    Attributes
    ----------
    contents : set of int
        Inodes of the files whose bytes are on the disk.
    names : set of Path
        Renamed files whose new names are on the disk.
    watch : callable
        Called before each sync and rename.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, root: Path, whole: bool = True) -> None:
        self.root = root
        self.contents: set[int] = set()
        self.names: set[Path] = set()
        self.watch: Callable[[], None] = lambda: None
        self._renamed: set[Path] = set()
        self._replace = os.replace
        monkeypatch.setattr(os, "fsync", self._fsync)
        monkeypatch.setattr(os, "replace", self._rename)
        monkeypatch.setattr(disk, "_syncfs", lambda: self._sync_all if whole else None)

    def holds(self, path: Path) -> bool:
        """Whether a renamed file, with its bytes, would be there after a loss of power."""
        return path in self.names and path.stat().st_ino in self.contents

    def _fsync(self, descriptor: int) -> None:
        self.watch()
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        if path.is_dir():
            self.names |= {name for name in self._renamed if name.parent == path}
        self.contents.add(path.stat().st_ino)

    def _sync_all(self, descriptor: int) -> None:
        self.watch()
        self.contents |= {path.stat().st_ino for path in self.root.rglob("*")}

    def _rename(self, source: str | Path, target: str | Path) -> None:
        self.watch()
        source, target = Path(source), Path(target)
        unsynced = [path for path in (source, *source.rglob("*")) if path.stat().st_ino not in self.contents]
        assert not unsynced, f"{target} is renamed before its bytes are on the disk"
        if target.exists():
            self.contents.discard(target.stat().st_ino)  # another file may get the number
        self._replace(source, target)
        self._renamed.add(target)
        self.names.discard(target)
