"""Labelled parts of recordings, from label files instead of folders."""

from __future__ import annotations

import logging
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from audionet.audio.sound import ChannelSetting
from audionet.data.label_channels import recordings_by_channel
from audionet.data.label_formats import LABEL_SUFFIXES, BadRow, Row, read_rows
from audionet.data.named_recordings import NamedRecordings
from audionet.data.naming import (
    BACKGROUND,
    SEPARATOR,
    label_cell_problem,
    parse_channel_name,
    separate_labels,
)
from audionet.data.recording_files import Found, RecordingFile
from audionet.data.spans import WHOLE, Span, complement, join_spans, with_joined_labels, without_overlaps
from audionet.errors import DatasetError
from audionet.utils.files import walk
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

_SHOWN = 5  # of the rows of a file that are left out


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
    found = _Found(NamedRecordings(audio_dir, path))
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

    def __init__(self, recordings: NamedRecordings) -> None:
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


def _pairs(times: array[float]) -> list[Span]:
    return list(zip(times[::2], times[1::2], strict=True))
