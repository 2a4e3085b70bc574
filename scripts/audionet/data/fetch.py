"""Public datasets by name: fetched, checked, unpacked, and labelled by tables for ``audionet data --labels``."""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet._paths import SHARED_FILES
from audionet.data.arrange import Origin, arrange_archive, arrange_folder, is_arranged, read_arranged
from audionet.data.download import Remote, discard, download
from audionet.data.named_datasets import DATASETS, Archive, NamedDataset, Table
from audionet.errors import DatasetError, UsageError
from audionet.utils.disk import sync
from audionet.utils.files import exclusive_lock, make_folder
from audionet.utils.progress import ProgressCallback, calling, progress
from audionet.utils.settings import from_parameters, require, setting
from audionet.utils.text import escape

log = logging.getLogger(__name__)

_BLOCK = 1 << 20


@dataclass(frozen=True)
class FetchConfig:
    """Settings for fetching a dataset: its source, its folders, and what its labels are."""

    by: str | None = setting(
        None, "what its labels are, such as speaker; default: the first that is listed", group="input"
    )
    source: Path | None = setting(
        None,
        "archive or folder of the dataset that you have, instead of a download; it is not changed",
        alias="from",
        group="input",
    )
    url: str | None = setting(None, "address of a copy of its archive, of the same size and hash", group="input")
    partial: bool = setting(
        False, "accept a part of the dataset, or another version: size, hash and number of recordings may differ"
    )
    datasets_dir: Path = setting(
        SHARED_FILES / "datasets", "folder for the datasets, each in one of its own", group="output"
    )
    downloads_dir: Path = setting(
        SHARED_FILES / "downloads", "folder for an archive until it is unpacked, and for what has arrived of one"
    )

    def __post_init__(self) -> None:
        require(self.url is None or self.source is None, "url", self.url, "left out with --source")


@dataclass(frozen=True)
class FetchedDataset:
    """Dataset that is ready for `render` or ``audionet data``.

    Attributes
    ----------
    name : str
    folder : Path
        Folder of its recordings, for ``audio_dir``.
    labels : Path
        Table of ``file``, ``label``, ``group`` and ``split``, for ``labels``.
    recordings : int
    was_there : bool
        Whether an earlier run fetched it.
    """

    name: str
    folder: Path
    labels: Path
    recordings: int
    was_there: bool


def fetch_dataset(name: str, progress: ProgressCallback | None = None, **settings: Any) -> FetchedDataset:
    """Fetch a public dataset by its name, unless it is there, and label its recordings.

    Parameters
    ----------
    name : str
        One of those that ``audionet dataset`` lists, such as ``fsdd``.
    progress : callable, optional
        Called with the name of the work, the amount done and the total.
    **settings
        Fields of `FetchConfig`: ``by``, ``source``, ``url``, ``partial``, ``datasets_dir``, ``downloads_dir``.

    Returns
    -------
    FetchedDataset
        Its folder and table of labels.

    Raises
    ------
    TypeError
        If there is no such setting, or it is of another type.
    UsageError
        If there is no such dataset, or none of its labels has that name.
    DatasetError
        If it cannot be downloaded, is damaged, incomplete or another one.
    OSError
        If a folder cannot be written.

    Examples
    --------
    >>> digits = audionet.fetch_dataset("fsdd", by="digit", source=fsdd_dir, datasets_dir=folder, partial=True)
    >>> digits.labels.name
    'digit.csv'
    """
    (config,) = from_parameters("fetch_dataset", settings, FetchConfig)
    with calling(progress):
        return fetch(name, config)


def find_dataset(name: str) -> NamedDataset:
    """Return the dataset of a name.

    Raises
    ------
    UsageError
        If there is none.
    """
    if name not in DATASETS:
        close = difflib.get_close_matches(name, DATASETS, 1)
        raise UsageError(
            f"there is no dataset {escape(name)}{f': is it {close[0]}?' if close else ''}; there are "
            f"{', '.join(DATASETS)}"
        )
    return DATASETS[name]


def find_table(name: str, by: str | None) -> tuple[str, Table]:
    """Return the labels of a dataset that ``--by`` names.

    Raises
    ------
    UsageError
        If it has none of that name.
    """
    tables = find_dataset(name).tables
    chosen = next(iter(tables)) if by is None else by
    require(chosen in tables, "by", escape(chosen), f"one of {', '.join(tables)} for {name}")
    return chosen, tables[chosen]


def fetch(name: str, config: FetchConfig) -> FetchedDataset:
    """Fetch a dataset as `fetch_dataset` does."""
    dataset, (by, _) = find_dataset(name), find_table(name, config.by)
    folder = config.datasets_dir.absolute() / name
    make_folder(folder.parent)
    with exclusive_lock(folder.parent):
        make_folder(folder.parent, alone=True)
        was_there = is_arranged(folder)
        if not was_there:
            _arrange(name, dataset, folder, config)
        return FetchedDataset(name, *read_arranged(name, folder, by), was_there)


def _arrange(name: str, dataset: NamedDataset, folder: Path, config: FetchConfig) -> None:
    if config.source is None:
        _download_and_arrange(name, dataset, folder, config)
        return
    source = config.source.absolute()
    if not (source.is_file() or source.is_dir()):  # a pipe or a device might never end
        raise DatasetError(f"--source {escape(source)} is neither an archive nor a folder")
    _log_about(dataset, str(source), folder)
    if source.is_dir():
        arrange_folder(name, dataset, source, folder, config.partial)
    else:
        checked = "" if dataset.archive is None or config.partial else check_archive(source, dataset.archive)
        arrange_archive(name, dataset, source, folder, Origin(str(source), checked, config.partial))


def _download_and_arrange(name: str, dataset: NamedDataset, folder: Path, config: FetchConfig) -> None:
    if dataset.archive is None:
        raise DatasetError(
            f"{name} cannot be downloaded without asking its authors ({dataset.homepage}): name the folder that you "
            "have with --source"
        )
    known = dataset.archive if config.url is None else dataclasses.replace(dataset.archive, url=config.url)
    _log_about(dataset, known.url, folder)
    path = config.downloads_dir.absolute() / f"{name}{dataset.archive.suffix}"
    make_folder(path.parent)
    with exclusive_lock(path.parent):
        if not path.exists():
            _download(known, path, config.partial)
        checked = "" if config.partial else _check_own(path, known)
        try:
            arrange_archive(name, dataset, path, folder, Origin(known.url, checked, config.partial))
        except DatasetError as error:
            path.unlink(missing_ok=True)
            raise DatasetError(f"{error}; the download is removed: run it again, or name another with --url") from None
        path.unlink(missing_ok=True)


def _download(known: Archive, path: Path, partial: bool) -> None:
    part = path.with_name(f"{path.name}.part")
    download(Remote(known.url, known.size, known.exact and not partial), part)
    os.replace(part, path)
    sync(path.parent)
    discard(part)


def _check_own(path: Path, known: Archive) -> str:
    """Check a download, and remove it if it is another file."""
    try:
        return check_archive(path, known)
    except DatasetError as error:
        path.unlink(missing_ok=True)
        raise DatasetError(
            f"{error}; it is removed: run it again, and if this repeats itself, name another copy with --url or "
            "--source"
        ) from None


def check_archive(path: Path, known: Archive) -> str:
    """Check the size and hash of an archive, and log the result.

    Returns
    -------
    str
        Hash, if it is the known one; else empty.

    Raises
    ------
    DatasetError
        If they are known to stay the same and are others.
    """
    size = path.stat().st_size
    if known.exact and size != known.size:
        kind = "cut off, or another file" if size < known.size else "another file"
        raise DatasetError(f"{escape(path)}: is {size} bytes long, not {known.size}: it is {kind}")
    if not known.digest:
        log.info(f"No hash of {path.name} is known: checked by what it holds")
        return ""
    found = _digest(path, known.algorithm)
    wanted = f"{known.algorithm} {known.digest}"
    if found == known.digest:
        log.info(f"Size and hash are right ({wanted})")
        return wanted
    if known.exact:
        raise DatasetError(f"{escape(path)}: its {known.algorithm} is {found}, not {known.digest}: it is another file")
    log.info(f"The hash is {found}, not the one seen before, as its server may pack it anew: checked by what it holds")
    return ""


def _digest(path: Path, algorithm: str) -> str:
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with path.open("rb") as stream, progress("Checking", "B", path.stat().st_size) as advance:
        while block := stream.read(_BLOCK):
            digest.update(block)
            advance(len(block))
    return digest.hexdigest()


def _log_about(dataset: NamedDataset, source: str, folder: Path) -> None:
    """Log the licence and the size first, where it comes from and where it goes."""
    log.info(f"{dataset.title}\nLicence: {dataset.licence}; cite: {dataset.citation}\nHomepage: {dataset.homepage}")
    size = "" if dataset.archive is None else f"; the whole archive is {dataset.archive.size_text}"
    log.info(f"From: {escape(source)}{size}\nTo: {escape(folder)}")
