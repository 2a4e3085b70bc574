"""Folders of public datasets: recordings, tables of their labels, and a record of where they are from."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from audionet.data.named_datasets import NamedDataset, Table
from audionet.data.named_rows import Fields
from audionet.data.unpack import unpack
from audionet.errors import DamagedError, DatasetError
from audionet.utils.disk import sync_files
from audionet.utils.files import atomic_path, read_json, walk, write_json
from audionet.utils.json_files import damage_as, field, nullable_field, whole
from audionet.utils.text import escape

RECORD = "named_dataset.json"
"""File in a dataset's folder that says where it is from; it is only there when the folder is complete."""

_FORMAT = 1
_AUDIO = "audio"
_COLUMNS = ("file", "label", "group", "split")
_POINTER = b"version https://git-lfs"


class Origin(NamedTuple):
    """Origin of a dataset's files.

    Attributes
    ----------
    source : str
        Address, or path of the archive or folder.
    checked : str
        Hash that its archive was checked by; empty if none is known.
    partial : bool
        Whether it may be a part of the dataset.
    """

    source: str
    checked: str
    partial: bool


def arrange_archive(name: str, dataset: NamedDataset, archive: Path, folder: Path, origin: Origin) -> None:
    """Unpack an archive to a folder that appears when it is complete.

    Raises
    ------
    DatasetError
        If the archive is damaged, incomplete or of another dataset.
    OSError
        If the folder cannot be written.
    """
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        try:
            unpack(archive, temporary, _placer(dataset))
        except DamagedError as error:
            raise DatasetError(f"{escape(archive)}: {error}") from None
        recordings = {path: path for path, _ in walk(temporary / _AUDIO)} if (temporary / _AUDIO).is_dir() else {}
        files = {path.name: path for path in temporary.iterdir() if path.is_file()}
        _check_recordings(dataset, {place: temporary / _AUDIO / place for place in recordings}, archive, origin.partial)
        _write_tables(dataset, recordings, files, temporary)
        _write_record(name, dataset, temporary, len(recordings), origin, None)


def arrange_folder(name: str, dataset: NamedDataset, source: Path, folder: Path, partial: bool) -> None:
    """Label the recordings of a folder where they lie.

    Raises
    ------
    DatasetError
        If the folder is incomplete, or of another dataset.
    OSError
        If it cannot be read, or the tables cannot be written.
    """
    recordings: dict[str, str] = {}
    files: dict[str, Path] = {}
    wanted = {item.file for item in dataset.rows.metadata}
    for inside, path in walk(source):
        place = dataset.rows.place(inside)
        if place in recordings:
            raise DatasetError(
                f"{escape(source)}: holds {escape(place)} twice, as {escape(recordings[place])} and "
                f"{escape(inside)}: name the folder of one copy"
            )
        if place is not None:
            recordings[place] = inside
        elif path.name in wanted:
            files.setdefault(path.name, path)
    _check_recordings(dataset, {place: source / inside for place, inside in recordings.items()}, source, partial)
    with atomic_path(folder) as temporary:
        temporary.mkdir()
        _write_tables(dataset, recordings, files, temporary)
        _write_record(name, dataset, temporary, len(recordings), Origin(str(source), "", partial), source)


def _placer(dataset: NamedDataset) -> Callable[[str], str | None]:
    """Return a function from a path in an archive to that in the dataset's folder, None for what is not wanted."""
    kept = {item.file for item in dataset.rows.metadata}
    taken: set[str] = set()

    def place(path: str) -> str | None:
        if found := dataset.rows.place(path):
            return f"{_AUDIO}/{found}"
        pure = PurePosixPath(path)
        is_notice = len(pure.parts) <= 2 and re.fullmatch(dataset.notices, pure.name, re.IGNORECASE)
        if pure.name in taken or not (pure.name in kept or is_notice):
            return None
        taken.add(pure.name)
        return pure.name

    return place


def _check_recordings(dataset: NamedDataset, paths: Mapping[str, Path], source: Path, partial: bool) -> None:
    """Check the number of recordings, and that the first one is a file, and no pointer to a file elsewhere."""
    if not paths or (len(paths) != dataset.recordings and not partial):
        hint = "" if partial else ", or accept a part or another version with --partial"
        raise DatasetError(
            f"{escape(source)}: holds {len(paths)} of the dataset's {dataset.recordings} recordings: look whether it "
            f"is complete, and of this dataset{hint}"
        )
    first = paths[min(paths)]
    if not first.is_file():  # opening a pipe would never end
        raise DatasetError(f"{escape(first)}: is no file: look whether the dataset is complete")
    with first.open("rb") as stream:
        if stream.read(len(_POINTER)) == _POINTER:
            raise DatasetError(
                f"{escape(first)}: holds no sound, but a pointer of Git LFS: clone {dataset.homepage} with git lfs, "
                "and name its folder with --source"
            )


def _write_tables(
    dataset: NamedDataset, recordings: Mapping[str, str], files: Mapping[str, Path], folder: Path
) -> None:
    """Write a table of labels for each of a dataset's kinds.

    Parameters
    ----------
    dataset : NamedDataset
    recordings : mapping of str to str
        Paths in the folder of recordings, by place.
    files : mapping of str to Path
        Other files of the dataset, by name.
    folder : Path
    """
    rows = list(dataset.rows.fields(sorted(recordings), files))
    for name, table in dataset.tables.items():
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(_COLUMNS)
            try:
                writer.writerows(table_rows(table, ((recordings[place], fields) for place, fields in rows)))
            except KeyError as error:
                raise DatasetError(
                    f"{', '.join(map(escape, files.values()))}: has no column {error.args[0]}: is it another version?"
                ) from None


def table_rows(table: Table, rows: Iterable[tuple[str, Fields]]) -> list[tuple[str, str, str, str]]:
    """Return the rows of a table of labels: file, label, group and split.

    Parameters
    ----------
    table : Table
    rows : iterable of (str, mapping of str to str)
        Path and fields of each recording.
    """
    return [
        (path, fields[table.label], fields.get(table.group, ""), fields.get(table.split, ""))
        for path, fields in rows
        if not table.only or fields[table.only] == "True"
    ]


def _write_record(
    name: str, dataset: NamedDataset, folder: Path, recordings: int, origin: Origin, audio_dir: Path | None
) -> None:
    about = {"title": dataset.title, "licence": dataset.licence, "citation": dataset.citation}
    record = {"format": _FORMAT, "dataset": name, **about, "homepage": dataset.homepage, "recordings": recordings}
    place = {"audio_dir": None if audio_dir is None else str(audio_dir)}
    write_json(folder / RECORD, record | origin._asdict() | place)
    sync_files([folder / RECORD])  # the whole disk at once, before `atomic_path` waits for each of 100,000 files


def is_arranged(folder: Path) -> bool:
    """Return whether a dataset's folder is there, and complete.

    Raises
    ------
    DatasetError
        If the folder holds something else.
    """
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return False
    if not (folder / RECORD).exists():
        raise DatasetError(
            f"{escape(folder)} holds something that audionet dataset has not written: move it, or name another folder "
            "with --datasets_dir"
        )
    return True


def read_arranged(name: str, folder: Path, by: str) -> tuple[Path, Path, int]:
    """Return the folder of a dataset's recordings, the table of labels of a kind, and the number of recordings.

    Raises
    ------
    DatasetError
        If its record is damaged, or they are gone.
    """
    path, again = folder / RECORD, f"remove {escape(folder)}, and run it again"
    record = read_json(path, DatasetError, again)
    with damage_as(DatasetError, path, again):
        if whole(record, "format") != _FORMAT or field(record, "dataset", str) != name:
            raise DamagedError("it is of another version or dataset")
        elsewhere, recordings = nullable_field(record, "audio_dir", str), whole(record, "recordings")
    audio_dir, labels = folder / _AUDIO if elsewhere is None else Path(elsewhere), folder / f"{by}.csv"
    for needed in (audio_dir, labels):
        if not needed.exists():
            raise DatasetError(f"{escape(needed)} is missing, and belongs to the dataset: put it back, or {again}")
    return audio_dir, labels, recordings
