"""Splits of a dataset in the Hugging Face hub's forms: a folder on disk, or a name on the hub."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from audionet.errors import DatasetError, UsageError
from audionet.utils.text import escape, first_line

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_SAVED = ("dataset_dict.json", "state.json")  # of save_to_disk


class HubName(NamedTuple):
    """Dataset as the user names it: a folder on disk or a name on the hub, and its configuration.

    Attributes
    ----------
    path : Path or None
        Absolute; None for a name on the hub.
    name : str
        Absolute path, or name on the hub.
    config : str or None
    """

    path: Path | None
    name: str
    config: str | None

    @property
    def folder_name(self) -> str:
        """Name of the folder of its recordings."""
        parts = [self.name.replace("/", "--") if self.path is None else self.path.name, *filter(None, [self.config])]
        return re.sub(r"[^\w.-]+", "_", "-".join(parts)).strip(".") or "dataset"


def parse_hub_name(text: str) -> HubName:
    """Parse the name of a dataset: ``FOLDER``, ``OWNER/NAME``, and either with ``:CONFIG``.

    Raises
    ------
    UsageError
        If it is neither a folder on disk nor a name that the hub can have.
    """
    whole, _, config = text.rpartition(":")
    for name, chosen in ((text, None), (whole, config)):
        if name and Path(name).is_dir():
            path = Path(os.path.normpath(Path(name).absolute()))
            return HubName(path, str(path), chosen or None)
    name, _, config = text.partition(":")
    if not _HUB_NAME.fullmatch(name) or name.startswith("."):
        raise UsageError(
            f"--dataset is {escape(text)}: it must be a folder on disk, or a name of the hub, OWNER/NAME or "
            "OWNER/NAME:CONFIG"
        )
    return HubName(None, name, config or None)


@dataclass(frozen=True)
class HubSplit:
    """Split of a dataset.

    Attributes
    ----------
    features : mapping of str to object
        Type of each column, as `datasets` has them.
    data : datasets.Dataset or datasets.IterableDataset
    loose : bool
        Whether its sounds are files, which `datasets` names by their paths.
    """

    features: Mapping[str, Any]
    data: Any
    loose: bool

    def rows(self, audio: str, others: Sequence[str]) -> Iterator[Mapping[str, Any]]:
        """Return an iterator over the rows: these columns, the sounds as paths or encoded bytes."""
        import datasets

        data = self.data.select_columns(list(dict.fromkeys([audio, *others])))
        if isinstance(self.features[audio], datasets.Audio):
            # Even undecoded, a path would have to pass through torchcodec, which is not needed.
            data = data.cast_column(audio, datasets.Value("string") if self.loose else datasets.Audio(decode=False))
        return iter(data)


def open_splits(name: HubName) -> dict[str, HubSplit]:
    """Open a dataset's splits, by name: rows are read as they are needed.

    A folder on disk is read where it lies, without a copy in the cache and without the network. A dataset of the hub is
    downloaded once, to the cache of `huggingface_hub`.

    Raises
    ------
    DatasetError
        If it cannot be read as a dataset.
    """
    with reading(name):
        import datasets

        if name.path is not None:
            return _open_folder(name.path, name.config)
        builder = datasets.load_dataset_builder(name.name, name.config)
        if _is_loose(builder):
            from huggingface_hub import snapshot_download

            return _open_folder(Path(snapshot_download(name.name, repo_type="dataset")), name.config)
        return _splits(datasets.load_dataset(name.name, name.config))


def _open_folder(path: Path, config: str | None) -> dict[str, HubSplit]:
    import datasets

    if any((path / saved).is_file() for saved in _SAVED):
        return _splits(datasets.load_from_disk(str(path)))
    builder = datasets.load_dataset_builder(str(path), config)
    return _splits(builder.as_streaming_dataset(), _is_loose(builder))


def _is_loose(builder: Any) -> bool:
    """Return whether a dataset is a folder of files, such as an audio folder."""
    return hasattr(builder, "BASE_COLUMN_NAME")


def _splits(found: Any, loose: bool = False) -> dict[str, HubSplit]:
    splits = found if isinstance(found, dict) else {str(found.split or "train"): found}
    # Of text formats, the columns are known from the rows only.
    return {
        str(name): HubSplit(data.features or dict.fromkeys(next(iter(data), {})), data, loose)
        for name, data in splits.items()
    }


@contextlib.contextmanager
def reading(name: HubName) -> Iterator[None]:
    """Raise what goes wrong in `datasets` within the block as a DatasetError, and keep its own log messages back."""
    import datasets

    before = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    except DatasetError:
        raise
    except Exception as error:  # the readers of a dozen formats share no base class of errors
        where = "is not on disk and cannot" if name.path is None else "cannot"
        raise DatasetError(
            f"--dataset {escape(name.name)}: {where} be read as a dataset ({first_line(error)}): it must be one that "
            "the package datasets loads, an audio folder, Parquet files or what save_to_disk wrote"
        ) from None
    finally:
        datasets.logging.set_verbosity(before)
