"""Labelled parts of recordings, from label files instead of folders."""

from __future__ import annotations

import logging
import math
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.data.config import BACKGROUND
from audionet.data.label_formats import LABEL_SUFFIXES, BadRow, Row, read_rows
from audionet.data.naming import label_problem
from audionet.data.recording_files import Found, RecordingFile
from audionet.errors import DatasetError
from audionet.utils.files import walk
from audionet.utils.text import composed, escape, pluralise

log = logging.getLogger(__name__)

Span = tuple[float, float]
"""Start and end, seconds; the end is infinity where it is the recording's."""

WHOLE: Span = (0.0, math.inf)

_SHOWN = 5  # lines of each kind of problem


@dataclass(frozen=True)
class LabelTable:
    """Labelled parts of recordings.

    Attributes
    ----------
    parts : dict of str to dict of str to list of Span
        Parts by label and by the recording's path inside the folder; sorted, without overlaps.
    groups, splits : dict of str to str
        Group and set of recordings that the files give one of.
    rows : int
        Number of rows that are used.
    overlapping : float
        Seconds that are left out because they have two labels.
    """

    parts: dict[str, dict[str, list[Span]]]
    groups: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    overlapping: float = 0.0


class LabelledParts:
    """Recordings of which a label table labels parts.

    Parameters
    ----------
    table : LabelTable
    audio_dir : Path
        Folder of the recordings.
    """

    def __init__(self, table: LabelTable, audio_dir: Path) -> None:
        self._table, self._audio_dir = table, audio_dir
        self.labels = list(table.parts)

    def folder(self, label: str) -> Path:
        """Return the folder of the recordings, which is the same for all labels."""
        return self._audio_dir

    def sizes(self, label: str) -> Iterator[int]:
        """Yield the size of each recording with a part of this label, bytes; 0 of one that cannot be read."""
        return (source.size for source in self.find(label).sources)

    def find(self, label: str) -> Found:
        """List the recordings with parts of this label."""
        found = Found([], [])
        for name, spans in self._table.parts.get(label, {}).items():
            try:
                state = (self._audio_dir / name).stat()
            except OSError as error:
                found.skipped.append((name, f"cannot be read: {error.strerror}"))
                continue
            parts = () if spans == [WHOLE] else tuple(spans)
            found.sources.append(RecordingFile(name, state.st_size, state.st_mtime_ns, parts))
        return found


def read_label_table(
    path: Path, audio_dir: Path, columns: Mapping[str, str] | None = None, background: bool = False
) -> LabelTable:
    """Read the labels of the recordings in a folder, and log the rows that are left out.

    Parameters
    ----------
    path : Path
        Label file, or a folder of label files named after their recordings.
    audio_dir : Path
        Folder of the recordings.
    columns : mapping of str to str, optional
        See `read_rows`.
    background : bool
        Whether what no row labels gets the label `BACKGROUND`.

    Raises
    ------
    DatasetError
        If there is no usable row, or a file is in none of the formats.
    """
    recordings = _Recordings(audio_dir)
    found: dict[tuple[str, str], array[float]] = defaultdict(lambda: array("d"))
    given: dict[str, dict[str, str]] = {"group": {}, "split": {}}
    problems = _Problems()
    rows = 0
    for file in _label_files(path):
        try:
            for row in read_rows(file, columns):
                name = row if isinstance(row, BadRow) else _accepted(row, file, recordings, given)
                if isinstance(name, BadRow):
                    problems.add(file, name)
                elif not isinstance(row, BadRow):
                    found[name, row.label].extend((row.start, row.end))
                    rows += 1
        except DatasetError as error:
            if file == path:
                raise
            log.warning(f"{error}; left out")  # a folder may hold other text
    problems.log()
    if not rows:
        raise DatasetError(f"{escape(path)}: holds no usable row for the recordings in {escape(audio_dir)}")
    by_recording: dict[str, dict[str, list[Span]]] = defaultdict(dict)
    for (name, label), times in found.items():
        by_recording[name][label] = join_spans(zip(times[::2], times[1::2], strict=True))
    parts: dict[str, dict[str, list[Span]]] = defaultdict(dict)
    overlapping = 0.0
    for name, labels in by_recording.items():
        alone, lost = without_overlaps(labels)
        overlapping += lost
        if background:
            alone[BACKGROUND] = complement([span for spans in labels.values() for span in spans])
        for label, spans in alone.items():
            if spans:
                parts[label][name] = spans
    return LabelTable(dict(sorted(parts.items())), given["group"], given["split"], rows, overlapping)


def _accepted(row: Row, file: Path, recordings: _Recordings, given: dict[str, dict[str, str]]) -> str | BadRow:
    """Return the recording of a row, and note its group and set; or the reason why the row is left out."""
    if problem := _label_problem(row.label):
        return BadRow(row.line, problem)
    name = recordings.find(row.file, file)
    if isinstance(name, BadRow):
        return name._replace(line=row.line)
    for kind, values in given.items():
        value = getattr(row, kind)
        if value is not None and values.setdefault(name, value) != value:
            return BadRow(row.line, f"gives {escape(name)} another {kind} than before, {escape(value)}")
    return name


def _label_problem(label: str) -> str | None:
    if label in (".", "..") or label.startswith(".") or set(label) & set("/\\\0") or len(label.encode()) > 255:
        return f"has the label '{escape(label)[:60]}', which cannot be a folder's name: change it in the table"
    return label_problem(label)


def _label_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [file for _, file in walk(path) if file.suffix.lower() in LABEL_SUFFIXES]
    if not files:
        raise DatasetError(f"{escape(path)}: holds no label files ({', '.join(sorted(LABEL_SUFFIXES))})")
    return files


class _Recordings:
    """Recordings of a folder, found by a path, a name, or a name without its ending."""

    def __init__(self, audio_dir: Path) -> None:
        self._folder = audio_dir
        self._found: dict[str, str | BadRow] = {}
        self._names: dict[str, list[str]] = defaultdict(list)
        if not audio_dir.is_dir():
            raise DatasetError(f"{escape(audio_dir)} is not a folder: --audio_dir names that of the recordings")
        for name, path in walk(audio_dir):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                pure = PurePosixPath(composed(name))
                for key in dict.fromkeys((str(pure), str(pure.with_suffix("")), pure.name, pure.stem)):
                    self._names[key].append(name)

    def find(self, written: str | None, table: Path) -> str | BadRow:
        """Return the path inside the folder of a recording as a row or a label file names it."""
        if written is None:
            return self._named_after(table)
        if written not in self._found:
            self._found[written] = self._look_up(written)
        return self._found[written]

    def _look_up(self, written: str) -> str | BadRow:
        plain = composed(written.replace("\\", "/"))
        for key in dict.fromkeys((plain.removeprefix("./"), self._inside(plain), PurePosixPath(plain).name)):
            names = self._names.get(key, [])
            if len(names) == 1 or key in names:
                return key if key in names else names[0]
            if names:
                shown = ", ".join(map(escape, names[:3]))
                return BadRow(0, f"names {escape(written)}, which may be any of {shown}: give the path")
        return BadRow(0, f"names {escape(written)}, which is not in {escape(self._folder)}")

    def _inside(self, written: str) -> str:
        """Return a path as one inside the folder, if that is where it leads."""
        try:
            return PurePosixPath(written).relative_to(self._folder.absolute().as_posix()).as_posix()
        except ValueError:
            return written

    def _named_after(self, table: Path) -> str | BadRow:
        """Find the recording that a label file is about: ``talk.wav`` for ``talk.txt`` or ``talk.Table.1.txt``."""
        stem = composed(table.name)
        while "." in stem:
            stem = stem.rpartition(".")[0]
            if names := self._names.get(stem):
                if len(names) == 1:
                    return names[0]
                return BadRow(0, f"is about {escape(stem)}, of which there are several in {escape(self._folder)}")
        return BadRow(
            0, f"is about a recording named like {escape(table.name)}, which is not in {escape(self._folder)}"
        )


class _Problems:
    """Rows that are left out, by label file and kind."""

    def __init__(self) -> None:
        self._shown: list[str] = []
        self._counts: Counter[Path] = Counter()

    def add(self, file: Path, row: BadRow) -> None:
        self._counts[file] += 1
        if self._counts[file] <= _SHOWN:
            self._shown.append(f"{file}:{row.line}: {row.reason}; left out")

    def log(self) -> None:
        for line in self._shown:
            log.warning(line)
        for file, count in self._counts.items():
            if count > _SHOWN:
                log.warning(f"{file}: {pluralise(count, 'row')} left out, the first {_SHOWN} of which are named above")


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Sort spans, and join those that overlap or touch."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def without_overlaps(labels: Mapping[str, Sequence[Span]]) -> tuple[dict[str, list[Span]], float]:
    """Leave out the times at which several labels apply.

    Parameters
    ----------
    labels : mapping of str to sequence of Span
        Joined spans of each label.

    Returns
    -------
    alone : dict of str to list of Span
        Parts of each label where no other applies.
    lost : float
        Seconds with several labels; those up to the unknown end of a recording count as none.
    """
    edges = sorted(
        (time, change, label)
        for label, spans in labels.items()
        for span in spans
        for time, change in zip(span, (1, -1), strict=True)
    )
    alone: dict[str, list[Span]] = {label: [] for label in labels}
    active: set[str] = set()
    lost, before = 0.0, 0.0
    for time, change, label in edges:
        if time > before:
            if len(active) == 1:
                alone[next(iter(active))].append((before, time))
            elif active and time < math.inf:
                lost += time - before
        before = time
        (active.add if change > 0 else active.discard)(label)
    return {label: join_spans(spans) for label, spans in alone.items()}, lost


def complement(spans: Sequence[Span]) -> list[Span]:
    """Return the times from 0 to the end of the recording that are in no span."""
    free: list[Span] = []
    before = 0.0
    for start, end in join_spans(spans):
        if start > before:
            free.append((before, start))
        before = end
    return free if before == math.inf else [*free, (before, math.inf)]
