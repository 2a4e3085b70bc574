"""Journal of one label's rendered recordings; decides what the next incremental run renders.

It lies beside the label's images, one JSON object per line, so that the next run renders only changed recordings.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import SILENT
from audionet.data.naming import chunk_name, parse_chunk_name, recording_name
from audionet.data.recording_files import Found, RecordingFile
from audionet.errors import DamagedError
from audionet.utils.files import file_sizes, make_folder, write_bytes
from audionet.utils.json_files import checked_whole, field, nullable_field, parse_json, real, whole

JOURNAL_NAME = ".recordings.jsonl"
_FORMAT = 2  # part of the fingerprint: a new number renders everything again
_STORED_FIELDS = 6  # of an outcome: those before `final`


DECODING = 2
"""Version of the decoding of recordings; where it changed what is read of one, the next run renders it again."""


class Outcome(NamedTuple):
    """Result of rendering a recording, or a piece of it.

    Attributes
    ----------
    seconds : float
        Length of what was decoded.
    chunks : int
        Number of chunks, silent ones included.
    silent : list of int
        Numbers of the silent chunks, which have neither a WAV file nor an image.
    note : str or None
        Problem with the recording, if any, or what to know of it.
    digest : str
        Hash of the recording's content.
    decoding : int
        Version of the decoding.
    final : bool
        False if the next run should try again; not written to the journal, as all that follow.
    ended : bool
        Whether damage ended the decoding.
    kept : bool
        Whether it is the outcome of an earlier run, and still holds.
    notes : tuple of str
        Parts of the note.
    """

    seconds: float
    chunks: int
    silent: list[int]
    note: str | None = None
    digest: str = ""
    decoding: int = DECODING
    final: bool = True
    ended: bool = False
    kept: bool = False
    notes: tuple[str, ...] = ()

    @property
    def audible(self) -> int:
        """Number of chunks that are not silent; each has a WAV file and an image."""
        return self.chunks - len(self.silent)


@dataclass
class Summary:
    """Counts of one label, and its skipped and partly rendered recordings, for dataset.json."""

    recordings: int = 0
    chunks: int = 0
    seconds: float = 0.0
    variants: int = 0
    skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)
    remarks: list[dict[str, str]] = dataclasses.field(default_factory=list)


def fingerprint(config: SpectrogramConfig, channel: str = "auto") -> str:
    """Compute a hash of all settings, 16 hexadecimal digits."""
    chosen = {} if channel in ("auto", "split") else {"channel": channel}
    text = json.dumps({"format": _FORMAT, **dataclasses.asdict(config), **chosen}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def join_notes(notes: Sequence[str]) -> str | None:
    """Return notes as one line; None if there are none."""
    return "; ".join(notes) or None


def join_pieces(pieces: Iterable[Outcome]) -> Outcome:
    """Combine the outcomes of a recording's pieces, first to last; pieces after the first damage are ignored."""
    whole = Outcome(0.0, 0, [])
    notes: tuple[str, ...] = ()
    for piece in pieces:
        notes = tuple(dict.fromkeys(notes + (piece.notes or ((piece.note,) if piece.note else ()))))
        whole = Outcome(
            max(whole.seconds, piece.seconds),
            whole.chunks + piece.chunks,
            whole.silent + piece.silent,
            join_notes(notes),
            whole.digest or piece.digest,
            piece.decoding,
            piece.final,
            piece.ended,
            piece.kept,
            notes,
        )
        if piece.ended:
            break
    if whole.chunks and not whole.audible and not whole.ended:
        whole = whole._replace(note=join_notes((SILENT, *notes)))
    return whole


class Journal:
    """Journal of one label's recordings and their rendered chunks.

    Parameters
    ----------
    label : str
    found : Found
        Its recordings.
    outputs : dict of Path to str
        Output folders, each with the suffix of its files; the journal lies in the last one.
    settings : str
        Fingerprint of the settings.
    force : bool
        Whether to treat every recording as not rendered.

    Attributes
    ----------
    missing : list of RecordingFile
        Recordings still to be rendered, largest first.
    outcomes : dict of str to Outcome
        Outcomes of the rendered recordings, by file.
    known : dict of str to Outcome
        Earlier outcomes of missing recordings of which only the modification time or the version of the decoding
        differs. A recording whose content and sound are the same is not rendered again.
    """

    def __init__(
        self,
        label: str,
        found: Found,
        outputs: dict[Path, str],
        settings: str,
        force: bool,
    ) -> None:
        self.label = label
        self.folders = {folder / label: suffix for folder, suffix in outputs.items()}
        self._settings = settings
        self._path = list(self.folders)[-1] / JOURNAL_NAME
        self.sources, self._skipped = found
        entries, self._begun = read_journal(self._path)
        for folder in self.folders:
            if folder.is_dir():
                make_folder(folder, alone=True)
        self._present = {folder: self._chunks_present(folder) for folder in self.folders}
        self._copies = self._copies_present()
        self.outcomes: dict[str, Outcome] = {}
        self.known: dict[str, Outcome] = {}
        self.missing: list[RecordingFile] = []
        self._pending: set[str] = set()
        for source in self.sources:
            entry = entries.get(source.file)
            usable = (
                entry is not None and entry.settings == self._settings_of(source) and entry.source.size == source.size
            )
            if entry is not None and usable and not force and self._complete(source.file, entry.outcome):
                if entry.source.mtime_ns == source.mtime_ns and entry.outcome.decoding == DECODING:
                    self.outcomes[source.file] = entry.outcome
                    continue
                self.known[source.file] = entry.outcome
            self.missing.append(source)
        self.missing.sort(key=lambda source: -source.size)

    @property
    def unchanged(self) -> bool:
        """True if everything is as a finished run left it."""
        return not self.missing and not self._stale() and self._begun == {source.file for source in self.sources}

    @property
    def finished(self) -> bool:
        """True if no recording is pending."""
        return not self._pending

    def begin(self) -> None:
        """Record the recordings about to be rendered, and remove augmented copies of their earlier versions."""
        for folder in self.folders:
            make_folder(folder)
        self._pending = {source.file for source in self.missing}
        self._write(gone=self._begun - {source.file for source in self.sources})
        self._begun |= self._pending
        for file in self._pending - set(self.known):
            self._remove_copies(file)

    def record(self, source: RecordingFile, outcome: Outcome) -> None:
        """Record the outcome of a recording."""
        if source.file in self.known and not outcome.kept:
            self._remove_copies(source.file)
        self.outcomes[source.file] = outcome
        self._pending.discard(source.file)
        if outcome.final:
            with self._path.open("a", encoding="ascii") as journal:
                journal.write(_line(source, self._settings_of(source), outcome))

    def close(self) -> int:
        """Remove chunks of deleted recordings and earlier settings, and files of dead workers; return the number."""
        if self.missing:
            for folder in self.folders:
                make_folder(folder, alone=True)
            self._present = {folder: self._chunks_present(folder) for folder in self.folders}
        stale = self._stale()
        for path in stale:
            path.unlink(missing_ok=True)
        if self.sources:
            self._write()
        elif self._path.exists():
            self._path.unlink()
        for folder in self.folders:
            with contextlib.suppress(OSError):  # not empty: it contains the user's own files
                folder.rmdir()
        return len(stale)

    def untracked_images(self) -> int:
        """Count images with a chunk's name but no known recording, as after damage to the journal."""
        folder, suffix = list(self.folders.items())[-1]
        if not folder.is_dir():
            return 0
        known = {recording_name(file) for file in self._begun} | {recording_name(s.file) for s in self.sources}
        stems = (name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))
        return sum("_nohash_" in stem and parse_chunk_name(stem).recording not in known for stem in stems)

    def summary(self) -> Summary:
        """Build the label's summary: counts, and the reasons for skipped recordings."""
        summary = Summary(skipped=[{"file": file, "reason": reason} for file, reason in self._skipped])
        for source in self.sources:
            outcome = self.outcomes[source.file]
            if outcome.note:
                remark = {"file": source.file, "reason": outcome.note}
                (summary.remarks if outcome.audible else summary.skipped).append(remark)
            if outcome.audible:
                summary.recordings += 1
                summary.chunks += outcome.audible
                summary.seconds += outcome.seconds
        return summary

    def chunks(self) -> Iterable[tuple[str, int]]:
        """Yield the recording's name and the number of every chunk that has an image."""
        for file, outcome in self.outcomes.items():
            yield from self._audible_chunks(file, outcome)

    @staticmethod
    def _audible_chunks(file: str, outcome: Outcome) -> Iterable[tuple[str, int]]:
        name, silent = recording_name(file), set(outcome.silent)
        return ((name, i) for i in range(outcome.chunks) if i not in silent)

    def _settings_of(self, source: RecordingFile) -> str:
        """Return the fingerprint of the settings and of the parts of the recording that are to be rendered."""
        if not source.parts:
            return self._settings
        return hashlib.blake2b(f"{self._settings} {source.parts}".encode(), digest_size=8).hexdigest()

    def _complete(self, file: str, outcome: Outcome) -> bool:
        return all(
            self._present[folder].get(chunk_name(name, index, suffix))  # the file has bytes
            for folder, suffix in self.folders.items()
            for name, index in self._audible_chunks(file, outcome)
        )

    def _chunks_present(self, folder: Path) -> dict[str, int]:
        """List the names and sizes of all chunks and augmented copies rendered here, without the user's own files."""
        rendered = {recording_name(file) for file in self._begun}
        suffix = self.folders[folder]
        return {
            name: size
            for name, size in file_sizes(folder, suffix).items()
            if parse_chunk_name(name.removesuffix(suffix)).recording in rendered
        }

    def _stale(self) -> list[Path]:
        """List the obsolete chunks, with their augmented copies."""
        expected = {
            chunk
            for source in self.sources
            if source.file in self.outcomes
            for chunk in self._audible_chunks(source.file, self.outcomes[source.file])
        }
        return [
            folder / name
            for folder, suffix in self.folders.items()
            for name in self._present[folder]
            if parse_chunk_name(name.removesuffix(suffix))[:2] not in expected
        ]

    def _copies_present(self) -> dict[str, list[Path]]:
        """List the existing augmented copies by recording's name."""
        copies: dict[str, list[Path]] = {}
        for folder, suffix in self.folders.items():
            for name in self._present[folder]:
                parsed = parse_chunk_name(name.removesuffix(suffix))
                if parsed.copy:
                    copies.setdefault(parsed.recording, []).append(folder / name)
        return copies

    def _remove_copies(self, file: str) -> None:
        for path in self._copies.pop(recording_name(file), []):
            path.unlink(missing_ok=True)

    def _write(self, gone: Iterable[str] = ()) -> None:
        """Rewrite the journal: rendered recordings, pending ones, and deleted ones whose chunks still exist."""
        lines = []
        for source in self.sources:
            outcome = self.outcomes.get(source.file)
            settings = self._settings_of(source)
            lines.append(_line(source, settings, outcome if outcome and outcome.final else None))
        lines += [json.dumps({"file": file}) + "\n" for file in sorted(gone)]
        content = "".join(lines).encode("ascii")
        if not self._path.exists() or self._path.read_bytes() != content:
            write_bytes(self._path, content)


class Entry(NamedTuple):
    """One line of the journal."""

    source: RecordingFile
    settings: str
    outcome: Outcome


def _line(source: RecordingFile, settings: str, outcome: Outcome | None) -> str:
    """Format a journal line: an outcome or, without one, that the recording's chunks are about to be written."""
    content: dict[str, Any] = {
        "file": source.file,
        "size": source.size,
        "mtime_ns": source.mtime_ns,
        "settings": settings,
    }
    if outcome is not None:
        content |= {name: getattr(outcome, name) for name in Outcome._fields[:_STORED_FIELDS]}
    return json.dumps(content) + "\n"


def read_journal(path: Path) -> tuple[dict[str, Entry], set[str]]:
    """Read the journal that earlier runs wrote for a label.

    Returns
    -------
    entries : dict
        By file. Damaged lines are ignored: their recordings are rendered again.
    begun : set of str
        Files of all recordings whose chunks may have been written, finished or not.
    """
    entries: dict[str, Entry] = {}
    begun: set[str] = set()
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        lines = []
    for line in lines:
        try:
            content = parse_json(line)
            file = field(content, "file", str)
            begun.add(file)
            entries[file] = _parse_entry(file, content)
        except DamagedError:
            continue
    return entries, begun


def _parse_entry(file: str, content: dict[str, Any]) -> Entry:
    chunks = whole(content, "chunks")
    outcome = Outcome(
        real(content, "seconds", 0),
        chunks,
        [checked_whole(index, "silent", 0, chunks - 1) for index in field(content, "silent", list)],
        nullable_field(content, "note", str),
        field(content, "digest", str),
        whole(content, "decoding") if "decoding" in content else 1,
    )
    source = RecordingFile(file, whole(content, "size"), whole(content, "mtime_ns", -(2**63)))
    return Entry(source, field(content, "settings", str), outcome)
