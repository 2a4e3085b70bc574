"""Table of the trainings in a folder: what each came to, and the settings in which they differ."""

from __future__ import annotations

import csv
import datetime
import logging
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from audionet._paths import project_name
from audionet.classifier.model_files import MODEL_FORMAT
from audionet.errors import DamagedError, DatasetError, ModelError
from audionet.evaluation.page import environment
from audionet.utils.files import read_json, walk
from audionet.utils.json_files import field, nullable_field, optional_field, real, texts, whole
from audionet.utils.text import escape

log = logging.getLogger(__name__)

_ENDING = "_model.json"
_RESULTS = ("best_step", "last_step", "validation_accuracy", "learning_rate")
"""Fields of a training's settings that it came to, or that follow from others."""


@dataclass(frozen=True)
class Training:
    """A trained model in a folder.

    Attributes
    ----------
    name : str
        Path of the model inside the folder, without ``_model.json``.
    written : datetime
        When its JSON was written, local time.
    labels : int
    recordings : int
        Recordings that it was trained on.
    score : str
        Accuracy by recording, or mean average precision, with its interval, and the mean and the deviation of repeats.
    settings : dict of str to object
    """

    name: str
    written: datetime.datetime
    labels: int
    recordings: int
    score: str
    settings: dict[str, Any]


def find_trainings(folder: Path) -> list[Training]:
    """Read the trained models in a folder and the folders inside, the newest first; others are named in the log.

    Raises
    ------
    DatasetError
        If there is none.
    """
    found = []
    for inside, path in walk(folder) if folder.is_dir() else ():
        if not path.name.endswith(_ENDING):
            continue
        try:
            found.append(_read(inside.removesuffix(_ENDING), path))
        except (ModelError, DamagedError, OSError) as error:
            log.warning(f"{path}: {error}; left out")
    if not found:
        raise DatasetError(f"{escape(folder)} holds no trained models: name their folder with --models_dir")
    return sorted(found, key=lambda training: training.written, reverse=True)


def _read(name: str, path: Path) -> Training:
    card = read_json(path, ModelError, "train it again")
    if card.get("format") != MODEL_FORMAT:
        raise DamagedError("was written by another version")
    settings = {key: value for key, value in field(card, "training", dict).items() if key not in _RESULTS} | {
        "backbone": Path(field(field(card, "backbone", dict), "name", str)).name
    }
    settings.pop("architecture", None)
    recordings = whole(field(field(card, "split", dict), "training", dict), "recordings")
    written = datetime.datetime.fromtimestamp(path.stat().st_mtime).astimezone()
    return Training(name, written, len(texts(card, "labels")), recordings, _score(card), settings)


def _score(card: dict[str, Any]) -> str:
    several = optional_field(card, "multi_label", dict)
    if several is not None:
        test = nullable_field(several, "test", dict)
        if test is None or test.get("mean_average_precision") is None:
            return "not tested"
        mean, low, high = (real(test, name, 0, 1) for name in ("mean_average_precision", "low", "high"))
        return f"mAP {mean:.3f} ({low:.3f} to {high:.3f})"
    test = nullable_field(card, "test", dict)
    if test is None:
        return "not tested"
    share = field(field(test, "network", dict), "recordings", dict)
    right, total = whole(share, "right"), whole(share, "total", 1)
    interval = f"{real(share, 'low', 0, 1):.1%} to {real(share, 'high', 0, 1):.1%}"
    return f"{right / total:.1%} of {total} ({interval}){_repeats(card)}"


def _repeats(card: dict[str, Any]) -> str:
    """Return what cross-validations with other folds came to, if there were any."""
    validated = optional_field(card, "cross_validation", dict) or {}
    repeats = optional_field(validated, "repeats", list) or []
    if len(repeats) < 2:
        return ""
    shares = [whole(one, "right") / whole(one, "total", 1) for one in repeats]
    return f"; {statistics.mean(shares):.1%} ± {statistics.stdev(shares):.1%} in {len(shares)} repeats"


def trainings_table(found: Sequence[Training]) -> tuple[list[str], list[list[str]]]:
    """Return the header and the rows of a table of trainings, with a column for each setting that differs."""
    names = dict.fromkeys(name for training in found for name in training.settings)
    differing = [name for name in names if len({str(training.settings.get(name)) for training in found}) > 1]
    header = ["model", "written", "labels", "recordings", "right", *differing]
    rows = [
        [
            training.name,
            f"{training.written:%Y-%m-%d %H:%M}",
            str(training.labels),
            str(training.recordings),
            training.score,
            *("" if training.settings.get(name) is None else str(training.settings[name]) for name in differing),
        ]
        for training in found
    ]
    return header, rows


def write_trainings(stream: TextIO, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write the table as CSV."""
    csv.writer(stream).writerows([header, *rows])


def trainings_html(header: Sequence[str], rows: Sequence[Sequence[str]], folder: Path) -> str:
    """Render the table of the trainings in a folder as a page."""
    page = environment().get_template("trainings.html")
    return page.render(header=header, rows=rows, project=project_name(folder / "model"))
