"""Datasets of the Hugging Face hub's forms: rows to a folder of recordings, and a label table beside them."""

from __future__ import annotations

import csv
import itertools
import logging
import os
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from audionet.audio.decoding import header
from audionet.data.hub_columns import HubColumns, choose_hub_columns, label_text
from audionet.data.hub_sound import Sound, keep_sound, safe_name, sound_of
from audionet.data.hub_splits import HubName, HubSplit, open_splits, reading
from audionet.data.label_formats import BadRow, Row, row_from_cells
from audionet.data.naming import label_cell_problem
from audionet.data.spans import WHOLE
from audionet.errors import DatasetError, UsageError
from audionet.utils.extras import require_modules
from audionet.utils.files import (
    LOCK_NAME,
    TEMPORARY_PREFIX,
    WriteBatch,
    atomic_path,
    exclusive_lock,
    make_folder,
    read_json,
    walk,
    write_json,
)
from audionet.utils.progress import progress
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

TABLE_NAME = "labels.csv"
_SOURCE_NAME = "source.json"
_SHOWN = 5  # of the rows that are left out
_CHECKED_TIMES = 50  # rows; enough to see that times are those of a longer recording


def write_recordings(name: HubName, folder: Path, columns: Mapping[str, str]) -> Path:
    """Write the recordings of a dataset to a folder, and its labels to a table beside them.

    A recording in memory, as Parquet files hold them, is written as it is; one that is a file on disk is linked. What
    is there already stays, and what the dataset no longer has is removed.

    Parameters
    ----------
    name : HubName
    folder : Path
        Created if missing; that of the same dataset, or empty.
    columns : mapping of str to str
        Names of the dataset's columns, by their names in `COLUMNS`, where they are not the usual ones.

    Returns
    -------
    Path
        The table, for `read_label_table`.

    Raises
    ------
    DatasetError
        If it is no dataset, is damaged or empty, or has no column of recordings or of labels.
    UsageError
        If the folder holds other files, or the package `datasets` is not installed.
    """
    require_modules("datasets", "huggingface_hub")
    source = {"dataset": name.name, "config": name.config}
    _check_own(folder, source)
    splits = open_splits(name)
    make_folder(folder)
    with exclusive_lock(folder):
        write_json(folder / _SOURCE_NAME, source)
        return _Writing(name, folder, columns).write(splits)


def _check_own(folder: Path, source: dict[str, Any]) -> None:
    """Raise UsageError unless the folder is empty or that of the same dataset."""
    ours = folder / _SOURCE_NAME
    if ours.exists():
        other = read_json(ours, DatasetError, "delete the folder of the dataset's recordings, and run again")
        if other != source:
            raise UsageError(
                f"{escape(folder)} holds the recordings of another dataset, {escape(str(other.get('dataset')))}: name "
                "another folder with --dataset_dir"
            )
    elif folder.exists() and (
        not folder.is_dir() or any(not entry.startswith((LOCK_NAME, TEMPORARY_PREFIX)) for entry in os.listdir(folder))
    ):
        raise UsageError(f"{escape(folder)} holds files that --dataset did not write: name another --dataset_dir")


@dataclass
class _Writing:
    """Recordings and table of one dataset, on the way to their folder."""

    name: HubName
    folder: Path
    columns: Mapping[str, str]
    files: set[str] = field(default_factory=set)
    rows: int = 0
    written: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    shown: list[str] = field(default_factory=list)
    timed: list[tuple[str, float]] = field(default_factory=list)

    def write(self, splits: Mapping[str, HubSplit]) -> Path:
        """Write what is missing, then the table, and then remove what the dataset no longer has."""
        table = self.folder / TABLE_NAME
        with atomic_path(table) as temporary:
            body = temporary.with_name(f"{temporary.name}-rows")
            try:
                with body.open("w", encoding="utf-8", newline="") as stream, WriteBatch() as batch:
                    lines = csv.writer(stream)
                    for split, found in splits.items():
                        for row, file in self._rows(split, found, batch):
                            start, end = ("", "") if (row.start, row.end) == WHOLE else (row.start, row.end)
                            given = row.split or (split if len(splits) > 1 else "")
                            lines.writerow([file, row.label, row.group or "", given, start, end])
                self._report()
                times = "source from,source to" if self._times_are_of_a_source() else "start,end"
                with temporary.open("wb") as whole, body.open("rb") as stream:
                    whole.write(f"file,label,group,split,{times}\n".encode())
                    shutil.copyfileobj(stream, whole)
            finally:
                body.unlink(missing_ok=True)
        removed = self._remove_others()
        log.info(
            f"{escape(self.name.name)}: {pluralise(self.rows, 'row')}, {pluralise(len(self.files), 'recording')} in "
            f"{escape(self.folder)}; {self.written} written, {removed} removed"
        )
        return table

    def _rows(self, split: str, found: HubSplit, batch: WriteBatch) -> Iterator[tuple[Row, str]]:
        """Yield the usable rows of a split, each with the file of its recording, which is written."""
        chosen = choose_hub_columns(found.features, Path(f"{self.name.name} ({split})"), self.columns)
        with reading(self.name):
            rows = found.rows(chosen.audio, list(chosen.columns.names.values()))
        with progress(f"Reading {split}", "rows", 0) as advance:
            for number in itertools.count(1):
                with reading(self.name):
                    cells = next(rows, None)
                if cells is None:
                    return
                advance(1)
                row = self._parse(number, cells, chosen)
                sound = sound_of(cells[chosen.audio], self.name.path)
                if isinstance(row, BadRow) or sound is None:
                    self._leave_out(split, number, row.reason if isinstance(row, BadRow) else "has no sound")
                    continue
                yield row, self._keep(split, row, sound, batch)

    def _parse(self, number: int, cells: Mapping[str, Any], chosen: HubColumns) -> Row | BadRow:
        texts = {name: "" if cells[of] is None else str(cells[of]) for name, of in chosen.columns.names.items()}
        texts["label"] = label_text(cells[chosen.label], chosen.classes)
        texts["group"] = " ".join(texts.get("group", "").split())
        row = row_from_cells(number, texts, chosen.columns)
        if isinstance(row, Row) and (problem := label_cell_problem(row.label)):
            return BadRow(number, problem)
        return row

    def _keep(self, split: str, row: Row, sound: Sound, batch: WriteBatch) -> str:
        file = f"{safe_name(split)}/{sound.name}"
        self.rows += 1
        if file not in self.files:
            self.files.add(file)
            (self.folder / file).parent.mkdir(exist_ok=True)
            self.written += keep_sound(sound.content, self.folder / file, batch)
        if (row.start, row.end) != WHOLE and len(self.timed) < _CHECKED_TIMES:
            self.timed.append((file, row.start))
        return file

    def _leave_out(self, split: str, number: int, reason: str) -> None:
        self.left_out[split] += 1
        if self.left_out.total() <= _SHOWN:
            log.warning(f"{self.name.name}: row {number} of {split} {reason}; left out")

    def _report(self) -> None:
        """Log the number of rows that are left out; raise DatasetError if none is left."""
        count = self.left_out.total()
        if not self.rows:
            why = f"no row of {count} can be used: see the reasons above" if count else "it is empty"
            raise DatasetError(f"--dataset {escape(self.name.name)}: {why}")
        if count > _SHOWN:
            log.warning(f"{self.name.name}: {pluralise(count, 'row')} left out, the first {_SHOWN} are named above")

    def _times_are_of_a_source(self) -> bool:
        """Return whether the rows' times are those of longer recordings that their sounds were cut from."""
        lengths = [(start, header(self.folder / file)) for file, start in self.timed]
        outside = sum(found is not None and start >= found.seconds for start, found in lengths)
        if outside * 2 <= len(lengths):
            return False
        log.warning(
            f"{self.name.name}: its times are beyond the ends of its sounds, so they are those of a source that the "
            "sounds were cut from: each row labels its whole sound"
        )
        return True

    def _remove_others(self) -> int:
        """Remove recordings of earlier runs that the dataset no longer has."""
        others = [path for name, path in walk(self.folder) if "/" in name and name not in self.files]
        for path in others:
            path.unlink(missing_ok=True)
        return len(others)
