"""Trial lists over folders of speakers."""

from __future__ import annotations

import itertools
from pathlib import Path


def write_trials(path: Path, folder: Path) -> Path:
    """Write all pairs of a folder's recordings as VoxCeleb's lists have them."""
    names = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())
    pairs = itertools.combinations(names, 2)
    path.write_text("".join(f"{int(a.split('/')[0] == b.split('/')[0])} {a} {b}\n" for a, b in pairs), "utf-8")
    return path
