"""Small archives of the shape of public datasets."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import soundfile


def sound(seed: int, file_format: str = "WAV") -> bytes:
    """A tenth of a second of noise, which does not compress."""
    buffer = io.BytesIO()
    noise = np.random.default_rng(seed).uniform(-0.5, 0.5, 800)
    soundfile.write(buffer, noise, 8_000, format=file_format)
    return buffer.getvalue()


def write_archive(path: Path, files: Mapping[str, bytes]) -> Path:
    """Write a ZIP archive or, by the ending, a tar archive."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
            for name, content in files.items():
                zipped.writestr(name, content)
        return path
    compression = {".gz": "gz", ".bz2": "bz2", ".xz": "xz"}.get(path.suffix, "")
    with tarfile.open(path, f"w:{compression}") as tar:  # type: ignore[call-overload]
        for name, content in files.items():
            add_member(tar, name, content)
    return path


def add_member(tar: tarfile.TarFile, name: str, content: bytes = b"", **fields: Any) -> None:
    """Add a member of any kind, with fields of its header."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for field, value in fields.items():
        setattr(info, field, value)
    tar.addfile(info, io.BytesIO(content))


def write_files(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write the same files to a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
