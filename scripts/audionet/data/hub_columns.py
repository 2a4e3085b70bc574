"""Columns of a dataset in the Hugging Face hub's forms: the sounds by their type, the others as of label tables."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from audionet.data.label_columns import SLICE, Columns, choose_columns, find_column
from audionet.errors import DatasetError
from audionet.utils.text import escape

_SPEAKERS = ("speaker", "speaker id", "client id", "subject", "subject id", "participant", "participant id")
"""Usual names of a column of speakers, which are groups where they are not the labels."""

_SURE = ("label", "class", "category", "species")
"""Names that mean the label whatever their type; others, such as a transcript, give way to a column of classes."""


class HubColumns(NamedTuple):
    """Columns of a dataset that are read.

    Attributes
    ----------
    audio : str
        Sounds.
    columns : Columns
        The others, as of a label table.
    classes : list of str or None
        Names of the classes that the labels number; None where the labels are their names.
    """

    audio: str
    columns: Columns
    classes: list[str] | None

    @property
    def label(self) -> str:
        """Column of the labels."""
        return self.columns.names["label"]


def choose_hub_columns(features: Mapping[str, Any], source: Path, columns: Mapping[str, str]) -> HubColumns:
    """Choose a dataset's columns by their types and names, and log them.

    Parameters
    ----------
    features : mapping of str to object
        Type of each column, as `datasets` has them.
    source : Path
        Dataset and split, for messages.
    columns : mapping of str to str
        Names that the user has given, by those in `COLUMNS`; the file is the sound.

    Raises
    ------
    DatasetError
        If no column, or more than one, can be that of the sounds or of the labels.
    """
    audio = _audio_column(features, source, columns.get("file"))
    others = [name for name in features if name != audio]
    classes = {name: found for name in others if (found := _class_names(features[name])) is not None}
    given = dict(columns)
    if "label" not in given and (label := _label_column(others, classes, source)):
        given["label"] = label
    # UrbanSound8K's times are those of the sources, which this column's name says.
    given["file"] = find_column(others, (SLICE,)) or audio
    if "group" not in given and find_column(others, ("group", "session")) is None:
        speaker = find_column(others, _SPEAKERS)
        if speaker not in (None, given.get("label")):
            given["group"] = str(speaker)
    chosen = choose_columns(list(features), source, given)
    names = {name: column for name, column in chosen.names.items() if name != "file"}
    if names.get("group") == names["label"]:
        del names["group"]
    return HubColumns(audio, Columns(names, chosen.seconds), classes.get(names["label"]))


def _audio_column(features: Mapping[str, Any], source: Path, wanted: str | None) -> str:
    found = [name for name, feature in features.items() if _is_sound(feature)]
    if wanted in found:
        return str(wanted)
    if not found or wanted is not None:
        what = "no column holds sounds" if wanted is None else f"'{escape(wanted)}' holds no sounds"
        raise DatasetError(
            f"{escape(source)}: {what}, of the type Audio or of bytes and path; its columns are "
            f"{', '.join(map(escape, features)) or 'none'}"
        )
    if len(found) > 1:
        raise DatasetError(
            f"{escape(source)}: has several columns of sounds: name one, --label_columns file=NAME, of "
            f"{', '.join(map(escape, found))}"
        )
    return found[0]


def _is_sound(feature: Any) -> bool:
    import datasets

    return isinstance(feature, datasets.Audio) or (isinstance(feature, dict) and set(feature) == {"bytes", "path"})


def _class_names(feature: Any) -> list[str] | None:
    """Return the names of a column of classes, or of lists of classes; None of any other."""
    import datasets

    inner = feature if isinstance(feature, datasets.ClassLabel) else getattr(feature, "feature", None)
    return list(inner.names) if isinstance(inner, datasets.ClassLabel) else None


def _label_column(names: list[str], classes: Mapping[str, list[str]], source: Path) -> str | None:
    """Return the column of labels; None where the usual names are to decide."""
    named = find_column(names, _SURE)
    if named is not None or not classes:
        return named
    if len(classes) > 1:
        raise DatasetError(
            f"{escape(source)}: has several columns of classes: say which are the labels, --label_columns label=NAME, "
            f"of {', '.join(map(escape, classes))}"
        )
    return next(iter(classes))


def label_text(value: Any, classes: list[str] | None) -> str:
    """Return a row's label as text; of several, their names joined by semicolons; empty if there is none.

    Parameters
    ----------
    value : object
        Text, a number, the number of a class, a list of these, or None.
    classes : list of str or None
        Names of the classes that are numbered.
    """
    if isinstance(value, list | tuple):
        return ";".join(sorted({text for item in value if (text := label_text(item, classes))}))
    if value is None or isinstance(value, dict) or value != value:  # NaN is how some tables write that there is none
        return ""
    if classes is not None and isinstance(value, int):
        return classes[value] if 0 <= value < len(classes) else ""
    return str(value).strip()
