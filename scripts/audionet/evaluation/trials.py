"""Verification trials: lists as VoxCeleb, Kaldi and NIST publish them, and CSV."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from audionet.data.label_formats import BadRow
from audionet.data.named_recordings import NamedRecordings
from audionet.errors import DatasetError
from audionet.evaluation.trial_rows import TrialRow, read_enrolments, read_rows
from audionet.metrics.pairs import Pairs
from audionet.utils.arrays import BoolArray, IntArray
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

_SHOWN = 5  # rows and recordings that are named


@dataclass(frozen=True)
class TrialList:
    """Trials: each compares a speaker model, of one recording or several, with a recording.

    Attributes
    ----------
    path : Path
        List that they are from.
    folder : Path
        Folder of the recordings.
    recordings : list of str
        Paths in the folder.
    models : list of str
        Names as the list writes them.
    tests : list of str
        Name of each recording as the list writes it.
    enrolled_model, enrolled_recording : ndarray of int64, shape (m,)
        Recordings that models are enrolled from.
    pairs : Pairs
        Of models and recordings.
    left_out : dict of str to int
        Number of rows that are left out, by reason.
    """

    path: Path
    folder: Path
    recordings: list[str]
    models: list[str]
    tests: list[str]
    enrolled_model: IntArray
    enrolled_recording: IntArray
    pairs: Pairs
    left_out: dict[str, int]

    @property
    def targets(self) -> int:
        """Number of trials of one speaker."""
        return int(self.pairs.target.sum())

    @property
    def nontargets(self) -> int:
        """Number of trials of two speakers."""
        return len(self.pairs.target) - self.targets

    def counts(self) -> IntArray:
        """Return the number of recordings that each model is enrolled from, shape (models,)."""
        return np.bincount(self.enrolled_model, minlength=len(self.models)).astype(np.int64)

    def restricted(self, usable: BoolArray) -> TrialList:
        """Return the trials that are left where some recordings, shape (recordings,), cannot be used.

        Raises
        ------
        DatasetError
            If none are left.
        """
        kept = usable[self.enrolled_recording]
        trimmed = replace(
            self, enrolled_model=self.enrolled_model[kept], enrolled_recording=self.enrolled_recording[kept]
        )
        rows = usable[self.pairs.second] & (trimmed.counts() > 0)[self.pairs.first]
        if not rows.any():
            raise DatasetError(f"{escape(self.path)}: no trial is left, its recordings cannot be used")
        if lost := int((~rows).sum()):
            log.warning(f"{self.path}: {pluralise(lost, 'row')} left out whose recordings cannot be used")
        left_out = self.left_out | ({"with an unusable recording": lost} if lost else {})
        return replace(trimmed, pairs=self.pairs.where(rows), left_out=left_out)


def read_trials(path: Path, folder: Path, enrolments: Path | None = None) -> TrialList:
    """Read a trial list; log the rows that are left out, with the reasons.

    Rows are ``1 enrol.wav test.wav`` (VoxCeleb), ``model test target`` (Kaldi), or CSV with the columns ``enrol``,
    ``test`` and ``label``. Rows with the same name in a column ``model`` enrol one model from all their files.

    Parameters
    ----------
    path : Path
    folder : Path
        Folder of the recordings.
    enrolments : Path, optional
        Table of models and their files, one or more a row.

    Raises
    ------
    DatasetError
        If a file cannot be read, or no trial is left.
    """
    recordings = _Recordings(folder, path)
    table = {} if enrolments is None else _read_enrolments(enrolments, recordings)
    left_out: Counter[str] = Counter()
    rows = list(_well_formed(path, left_out))
    models = _enrol(rows, recordings, table)
    trials = _find_trials(rows, recordings, models, left_out)
    recordings.warn_of_missing()
    if left_out:
        reasons = ", ".join(f"{count} {reason}" for reason, count in left_out.items())
        log.warning(f"{path}: {pluralise(left_out.total(), 'row')} left out: {reasons}")
    if not trials:
        raise DatasetError(
            f"{escape(path)}: no trial is left: rows are '1 enrol.wav test.wav', or CSV with the columns enrol, test "
            f"and label, and recordings are looked for in {escape(folder)} (--audio_dir)"
        )
    place = {name: number for number, name in enumerate(models)}
    enrolled = np.array([(place[name], number) for name, files in models.items() for number in files], np.int64)
    numbers = np.array([(place[model], test) for model, test in trials], np.int64)
    return TrialList(
        path,
        folder,
        recordings.names,
        list(models),
        recordings.written,
        enrolled[:, 0],
        enrolled[:, 1],
        Pairs(numbers[:, 0], numbers[:, 1], np.array(list(trials.values()), bool)),
        dict(left_out),
    )


_Models = dict[str, dict[int, None]]
"""Recordings of each model, in order, each once."""


def _well_formed(path: Path, left_out: Counter[str]) -> Iterator[TrialRow]:
    """Yield the rows that can be read; log the first of the others, and count them."""
    for row in read_rows(path):
        if isinstance(row, TrialRow):
            yield row
            continue
        left_out["malformed"] += 1
        if left_out["malformed"] <= _SHOWN:
            log.warning(f"{path}:{row.line}: {row.reason}; left out")


def _enrol(rows: Sequence[TrialRow], recordings: _Recordings, table: _Models) -> _Models:
    """Return the models with at least one recording: the table's, and those that rows name the files of."""
    models: _Models = {}
    for row in rows:
        if row.model not in table and row.file is not None and (number := recordings.number(row.file)) is not None:
            models.setdefault(row.model, {})[number] = None
    return models | {name: files for name, files in table.items() if files}


def _find_trials(
    rows: Sequence[TrialRow], recordings: _Recordings, models: _Models, left_out: Counter[str]
) -> dict[tuple[str, int], bool]:
    """Return whether each model and recording that can be compared are a target; count the other rows."""
    trials: dict[tuple[str, int], bool] = {}
    contradictory: set[tuple[str, int]] = set()
    for row in rows:
        test = recordings.number(row.test)
        if row.model not in models or test is None:
            left_out["with a missing recording"] += 1
        elif test in models[row.model]:
            left_out["with one recording on both sides"] += 1
        elif (row.model, test) not in trials:
            trials[row.model, test] = row.target
        elif trials[row.model, test] != row.target:
            left_out["contradictory"] += 1
            contradictory.add((row.model, test))
        elif row.file in (None, row.model):  # otherwise it adds a file to the model
            left_out["repeated"] += 1
    for trial in contradictory:
        left_out["contradictory"] += 1
        del trials[trial]
    return trials


class _Recordings:
    """Recordings that a list names, numbered as they are first named."""

    def __init__(self, folder: Path, path: Path) -> None:
        self._found, self._path = NamedRecordings(folder, path), path
        self._numbers: dict[str, int | None] = {}
        self._places: dict[str, int] = {}
        self._missing: list[str] = []
        self.names: list[str] = []
        self.written: list[str] = []

    def number(self, written: str) -> int | None:
        """Return the number of a recording; None if there is none of that name."""
        if written not in self._numbers:
            found = self._found.find(written, self._path)
            if isinstance(found, BadRow):
                self._missing.append(found.reason)
                self._numbers[written] = None
            else:
                if found not in self._places:
                    self._places[found] = len(self.names)
                    self.names.append(found)
                    self.written.append(written)
                self._numbers[written] = self._places[found]
        return self._numbers[written]

    def warn_of_missing(self) -> None:
        """Log the first recordings that were not found, and their number."""
        for reason in self._missing[:_SHOWN]:
            log.warning(f"{self._path}: {reason}")
        if len(self._missing) > _SHOWN:
            log.warning(f"{self._path}: names {len(self._missing)} recordings that were not found, {_SHOWN} are shown")


def _read_enrolments(path: Path, recordings: _Recordings) -> _Models:
    """Read the recordings of each model."""
    found: _Models = {}
    for model, files in read_enrolments(path):
        numbers = map(recordings.number, files)
        found.setdefault(model, {}).update((number, None) for number in numbers if number is not None)
    return found
