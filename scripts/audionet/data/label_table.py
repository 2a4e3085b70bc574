"""Labelled parts of recordings, from label files instead of folders."""

from __future__ import annotations

import logging
import math
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.audio.sound import ChannelSetting
from audionet.data.label_channels import recordings_by_channel
from audionet.data.label_formats import LABEL_SUFFIXES, BadRow, Row, read_rows
from audionet.data.naming import (
    BACKGROUND,
    SEPARATOR,
    join_labels,
    label_problem,
    parse_channel_name,
    recording_path,
    separate_labels,
)
from audionet.data.recording_files import Found, RecordingFile
from audionet.errors import DatasetError
from audionet.utils.files import walk
from audionet.utils.text import composed, escape, pluralise

log = logging.getLogger(__name__)

Span = tuple[float, float]
"""Start and end, seconds; the end is infinity where it is the recording's."""

WHOLE: Span = (0.0, math.inf)

_SHOWN = 5  # of the rows of a file that are left out
_SLIVER_SECONDS = 0.3  # what is left between labels, or beside an overlap, and shorter is no sound of its own


@dataclass(frozen=True)
class LabelTable:
    """Labelled parts of recordings.

    Attributes
    ----------
    parts : dict of str to dict of str to list of Span
        Parts by label and by the recording's path inside the folder, of one channel with its number (see
        `channel_name`); sorted, without overlaps.
    groups, splits : dict of str to str
        Group and set of recordings that the files give one of.
    rows : int
        Number of rows that are used.
    overlapping : float
        Seconds that are left out because they have two labels.
    multi_label : bool
        Whether labels that apply at the same time are joined instead.
    """

    parts: dict[str, dict[str, list[Span]]]
    groups: dict[str, str] = field(default_factory=dict)
    splits: dict[str, str] = field(default_factory=dict)
    rows: int = 0
    overlapping: float = 0.0
    multi_label: bool = False


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
                state = (self._audio_dir / parse_channel_name(name)[0]).stat()
            except OSError as error:
                found.skipped.append((name, f"cannot be read: {error.strerror}"))
                continue
            parts = () if spans == [WHOLE] else tuple(spans)
            found.sources.append(RecordingFile(name, state.st_size, state.st_mtime_ns, parts))
        return found


def read_label_table(
    path: Path,
    audio_dir: Path,
    columns: Mapping[str, str] | None = None,
    background: bool = False,
    channel: ChannelSetting = "auto",
    multi_label: bool | None = None,
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
    channel : int, "auto", "mean" or "split"
        See `recordings_by_channel`.
    multi_label : bool, optional
        Whether what has several labels gets them all, joined, instead of being left out; None: if a row joins some.

    Raises
    ------
    DatasetError
        If there is no usable row, or a file is in none of the formats.
    """
    found = _Found(_Recordings(audio_dir, path))
    for file in _label_files(path):
        try:
            for row in read_rows(file, columns):
                found.add(row, file)
        except DatasetError as error:
            if file == path:
                raise
            log.warning(f"{error}; left out from there on")  # a folder may hold other text
    found.log_problems()
    found.assign_channels(audio_dir, channel)
    if not found.rows:
        raise DatasetError(f"{escape(path)}: holds no usable row for the recordings in {escape(audio_dir)}")
    parts: dict[str, dict[str, list[Span]]] = defaultdict(dict)
    overlapping = 0.0
    joins = found.has_joined if multi_label is None else multi_label
    for name, labels in found.by_recording(joins).items():
        alone, lost = with_joined_labels(labels) if joins else without_overlaps(labels)
        overlapping += lost
        for label in [label for label, spans in alone.items() if not (spans or joins)]:
            log.warning(f"{audio_dir / name}: all that is labelled {label} has another label as well; left out")
        if background:
            free = complement([*found.occupied(name), *(span for spans in labels.values() for span in spans)])
            alone[BACKGROUND] = join_spans([*alone.get(BACKGROUND, []), *free])
        for label, spans in alone.items():
            if spans:
                parts[label][name] = spans
    if not parts:
        raise DatasetError(f"{escape(path)}: every labelled second has several labels, and one is wanted")
    return LabelTable(dict(sorted(parts.items())), found.groups, found.splits, found.rows, overlapping, joins)


class _Found:
    """Rows of label files, by recording and label, and the reasons why others are left out."""

    def __init__(self, recordings: _Recordings) -> None:
        self.groups: dict[str, str] = {}
        self.splits: dict[str, str] = {}
        self.has_joined = False
        self._recordings = recordings
        self._times: dict[tuple[str, int | None, str], array[float]] = defaultdict(lambda: array("d"))
        self._unusable: dict[tuple[str, int | None], array[float]] = defaultdict(lambda: array("d"))
        self._by_channel: dict[tuple[str, int | None], list[str]] = {}
        self._occupied: dict[str, list[Span]] = defaultdict(list)
        self._files: dict[str, Path] = {}
        self._shown: list[str] = []
        self._counts: Counter[Path] = Counter()

    def add(self, row: Row | BadRow, file: Path) -> None:
        """Use a row of a label file, or note why it cannot be used."""
        if isinstance(row, BadRow):
            self._refuse(file, row)
            return
        name = self._recordings.find(row.file, file)
        if isinstance(name, BadRow):
            self._refuse(file, name._replace(line=row.line))
            return
        parts = row.label.split(SEPARATOR)
        problem = label_cell_problem(row.label) or next(filter(None, map(_part_problem, parts)), None)
        if problem and row.label:
            problem += ": change it in the table"
        for kind, values in (("group", self.groups), ("split", self.splits)):
            value = getattr(row, kind)
            if value is not None and values.setdefault(name, value) != value:
                problem = f"gives {escape(name)} another {kind} than before, {escape(value)}"
        if problem:
            self._refuse(file, BadRow(row.line, problem))
            self._unusable[name, row.channel].extend((row.start, row.end))
            return
        if row.file is None and self._files.setdefault(name, file) != file:
            log.warning(f"{file}: is about {name}, and so is {self._files[name]}: where they differ, neither counts")
            self._files[name] = file
        self.has_joined |= len(parts) > 1
        self._times[name, row.channel, row.label].extend((row.start, row.end))

    def assign_channels(self, audio_dir: Path, channel: ChannelSetting) -> None:
        """Decide which recordings the rows of each file and channel are about, once all rows are known."""
        rows = dict.fromkeys(self._unusable, 0)
        for (name, of_channel, _), times in self._times.items():
            rows[name, of_channel] = rows.get((name, of_channel), 0) + len(times) // 2
        self._by_channel = recordings_by_channel(rows, audio_dir, channel)
        for place, times in self._unusable.items():
            for recording in self._by_channel[place]:
                self._occupied[recording] += _pairs(times)

    @property
    def rows(self) -> int:
        """Number of rows that are used."""
        return sum(
            len(times) // 2 for (name, channel, _), times in self._times.items() if self._by_channel[name, channel]
        )

    def by_recording(self, separate: bool) -> dict[str, dict[str, list[Span]]]:
        """Return the joined spans of each label, by recording; `separate`: a row may join several."""
        found: dict[str, dict[str, list[Span]]] = defaultdict(lambda: defaultdict(list))
        for (name, channel, written), times in self._times.items():
            for recording in self._by_channel[name, channel]:
                for label in separate_labels(written) or (written,) if separate else (written,):
                    found[recording][label] = join_spans([*found[recording][label], *_pairs(times)])
        return found

    def occupied(self, name: str) -> list[Span]:
        """Return the times of a recording that rows without a usable label are about."""
        return self._occupied.get(name, [])

    def log_problems(self) -> None:
        """Log the first rows of each file that are left out, and their number."""
        for line in self._shown:
            log.warning(line)
        for file, count in self._counts.items():
            if count > _SHOWN:
                log.warning(f"{file}: {pluralise(count, 'row')} left out, the first {_SHOWN} of which are named above")

    def _refuse(self, file: Path, row: BadRow) -> None:
        self._counts[file] += 1
        if self._counts[file] <= _SHOWN:
            self._shown.append(f"{file}:{row.line}: {row.reason}; left out")


def label_cell_problem(label: str) -> str | None:
    """Return why a label in a table cannot be used, as the end of a sentence about its row; None if it can."""
    if not label.strip(f"{SEPARATOR} "):
        return "has no label"
    if not label.isprintable() or label.startswith(".") or set(label) & set("/\\") or len(os.fsencode(label)) > 255:
        return f"has the label '{escape(label)[:60]}', which cannot be a folder's name"
    if label_problem(label):
        return f"has the label '{escape(label)}', which is the name of a file that is written"
    return None


def _part_problem(label: str) -> str | None:
    """Return why one of the labels that a cell joins cannot be one; an empty one counts for nothing."""
    return label_cell_problem(label.strip()) if label.strip() else None


def _label_files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    files = [file for _, file in walk(path) if file.suffix.lower() in LABEL_SUFFIXES]
    if not files:
        raise DatasetError(f"{escape(path)}: holds no label files ({', '.join(sorted(LABEL_SUFFIXES))})")
    return files


class _Recordings:
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


def _pairs(times: array[float]) -> list[Span]:
    return list(zip(times[::2], times[1::2], strict=True))


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
        Parts of each label where no other applies, without slivers.
    lost : float
        Seconds with several labels; those up to the unknown end of a recording count as none.
    """
    alone: dict[str, list[Span]] = {label: [] for label in labels}
    lost = 0.0
    for span, active in _constant_parts(labels):
        if len(active) == 1:
            alone[next(iter(active))].append(span)
        elif span[1] < math.inf:
            lost += span[1] - span[0]
    return _without_slivers(alone, labels), lost


def with_joined_labels(labels: Mapping[str, Sequence[Span]]) -> tuple[dict[str, list[Span]], float]:
    """Join the labels of the times at which several apply: ``dog;rain``.

    Parameters
    ----------
    labels : mapping of str to sequence of Span
        Joined spans of each label.

    Returns
    -------
    parts : dict of str to list of Span
        Parts of each label, or several, where no other applies, without slivers.
    lost : float
        Seconds with so many labels that their names together are no folder's name.
    """
    parts: dict[str, list[Span]] = defaultdict(list)
    lost = 0.0
    for span, active in _constant_parts(labels):
        joined = join_labels(active)
        if label_cell_problem(joined) is None:
            parts[joined].append(span)
        elif span[1] < math.inf:
            lost += span[1] - span[0]
    return _without_slivers(parts, labels), lost


def _constant_parts(labels: Mapping[str, Sequence[Span]]) -> Iterator[tuple[Span, frozenset[str]]]:
    """Yield the times between two changes at which labels apply, with these labels."""
    edges = sorted(
        (time, change, label)
        for label, spans in labels.items()
        for span in spans
        for time, change in zip(span, (1, -1), strict=True)
    )
    active: set[str] = set()
    before = 0.0
    for time, change, label in edges:
        if time > before and active:
            yield (before, time), frozenset(active)
        before = time
        (active.add if change > 0 else active.discard)(label)


def _without_slivers(
    parts: Mapping[str, Sequence[Span]], labels: Mapping[str, Sequence[Span]]
) -> dict[str, list[Span]]:
    """Join parts, and leave out what is shorter than a sound and was not labelled so."""
    whole = {span for spans in labels.values() for span in spans}
    return {
        label: [span for span in join_spans(spans) if span in whole or span[1] - span[0] >= _SLIVER_SECONDS]
        for label, spans in parts.items()
    }


def complement(spans: Sequence[Span]) -> list[Span]:
    """Return the times from 0 to the end of the recording that are in no span, but for slivers."""
    free: list[Span] = []
    before = 0.0
    for start, end in join_spans(spans):
        if start - before >= _SLIVER_SECONDS:
            free.append((before, start))
        before = end
    return free if before == math.inf else [*free, (before, math.inf)]
