"""Recordings of a folder, by the names that tables give them."""

from __future__ import annotations

import os
from collections import defaultdict
from pathlib import Path, PurePosixPath

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.data.label_formats import BadRow
from audionet.data.naming import recording_path
from audionet.errors import DatasetError
from audionet.utils.files import walk
from audionet.utils.text import composed, escape


class NamedRecordings:
    """Recordings of a folder, found by the end of their paths, with or without the ending of their names.

    Parameters
    ----------
    audio_dir : Path
    labels : Path
        Label file, or folder of label files.
    """

    def __init__(self, audio_dir: Path, labels: Path) -> None:
        self._folder, self._labels = audio_dir, labels
        self._by_name: dict[str, list[str]] = defaultdict(list)  # of the file, with and without its ending
        self._plain: dict[str, str] = {}
        self._found: dict[tuple[str, Path], str | BadRow] = {}
        self._prefix: str | None = None
        if not audio_dir.is_dir():
            raise DatasetError(f"{escape(audio_dir)} is not a folder: --audio_dir names that of the recordings")
        for name, path in walk(audio_dir):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                self._plain[name] = composed(name)
                pure = PurePosixPath(self._plain[name])
                for key in {pure.name, pure.stem}:
                    self._by_name[key].append(name)

    def find(self, written: str | None, table: Path) -> str | BadRow:
        """Return the path inside the folder of a recording as a row or a label file names it."""
        key = written or "", table.parent if written else table
        if key not in self._found:
            self._found[key] = self._named_after(table) if written is None else self._look_up(written, table)
        return self._found[key]

    def _look_up(self, written: str, table: Path) -> str | BadRow:
        """Find a recording by what a row names; blanks around it are its name's only if there is one of that name."""
        stripped = written.strip()
        exact = self._look_up_exactly(written, table) or self._look_up_exactly(stripped, table)
        return exact or self._look_up_nearly(stripped)

    def _look_up_exactly(self, written: str, table: Path) -> str | None:
        if written in self._plain:  # of names that only their Unicode form tells apart, or with a backslash inside
            return written
        plain = _normal(written)
        for beside in (plain, os.path.normpath(f"{self._beside(table)}/{plain}")):
            if exact := self._with_form(beside):
                return exact[0]
        return None

    def _look_up_nearly(self, written: str) -> str | BadRow:
        plain = _normal(written)
        candidates = self._by_name.get(PurePosixPath(plain).name, [])
        # As far as both go: the table's paths may begin further up or further down than the folder of recordings.
        deeper = [name for name in candidates if any(form.endswith(f"/{plain}") for form in self._forms(name))]
        if len(deeper) == 1:
            return deeper[0]
        if deeper:
            shown = ", ".join(map(escape, deeper[:3]))
            return BadRow(0, f"names {escape(written)}, which may be any of {shown}: give the path")
        higher = [(name, form) for name in candidates for form in self._forms(name) if f"/{plain}".endswith(f"/{form}")]
        if higher:
            name, form = max(higher, key=lambda pair: len(pair[1]))
            prefix = plain.removesuffix(form)
            self._prefix = prefix if self._prefix is None else self._prefix
            if prefix == self._prefix:  # otherwise it may be another folder's recording of this name
                return name
        return BadRow(0, f"names {escape(written)}, which is not in {escape(self._folder)}")

    def _with_form(self, path: str) -> list[str]:
        """Return the recordings of which a path is that in the folder, with or without the ending."""
        return [name for name in self._by_name.get(PurePosixPath(path).name, []) if path in self._forms(name)]

    def _forms(self, name: str) -> tuple[str, str]:
        """Return a recording's path with and without the ending, as tables may write it."""
        plain = self._plain[name]
        return plain, plain.removesuffix(PurePosixPath(plain).suffix)

    def _beside(self, table: Path) -> str:
        """Return the folder of a table inside that of the recordings; the latter itself if it lies elsewhere."""
        return os.path.relpath(table.parent, self._folder) if self._folder in table.parents else "."

    def _named_after(self, table: Path) -> str | BadRow:
        """Find the recording that a label file is about: ``talk.wav`` for ``talk.txt`` or ``talk.Table.1.txt``.

        Of several with that name, it is the one in the same folder inside the folder of label files. The slashes of a
        path may be encoded, as `recording_name` does.
        """
        stem = composed(table.name)
        inside = composed(os.path.relpath(table.parent, self._labels)) if self._labels.is_dir() else "."
        while "." in stem:
            stem = stem.rpartition(".")[0]
            path = recording_path(stem)
            for place in (os.path.normpath(f"{inside}/{path}"), path) if path != stem else ():
                if exact := self._with_form(place):
                    return exact[0]
            if names := self._by_name.get(stem):
                same = [name for name in names if os.path.normpath(f"{inside}/{stem}") in self._forms(name)]
                chosen = same or names
                if len(chosen) == 1:
                    return chosen[0]
                return BadRow(0, f"is about {escape(stem)}, of which there are several in {escape(self._folder)}")
        return BadRow(
            0,
            f"names no recording, and none in {escape(self._folder)} is named like {escape(table.name)}: if a column "
            "does, --label_columns file=NAME",
        )


def _normal(written: str) -> str:
    """Return a path as a table has it in the form of those of recordings."""
    return os.path.normpath(composed(written.replace("\\", "/")))
