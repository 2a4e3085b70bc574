"""The books of one label: what has been made of each recording, and so what is missing.

They lie beside the label's images, one JSON object a line, so that the next run does only what has changed.
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
from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.audio.recording import SILENT
from audionet.data.naming import chunk_name, label_problem, parse_chunk_name, recording_name
from audionet.utils.files import make_folder, walk, write_bytes

JOURNAL_NAME = ".recordings.jsonl"
_FORMAT = 2  # another one renders everything again


class RecordingFile(NamedTuple):
    """A recording as it lies on disk."""

    file: str  # path inside the label's folder
    size: int
    mtime_ns: int


class Outcome(NamedTuple):
    """What became of a recording, or of a piece of it.

    Attributes
    ----------
    seconds : float
        Where decoding came to.
    chunks : int
        Chunks cut, silent ones among them.
    silent : list of int
        Numbers of those that are silent, and so have neither WAV nor image.
    note : str or None
        What is wrong with it.
    digest : str
        Stands for the recording's content.
    lasting : bool
        False if another run should try again.
    """

    seconds: float
    chunks: int
    silent: list[int]
    note: str | None = None
    digest: str = ""
    lasting: bool = True

    @property
    def heard(self) -> int:
        """Chunks that are not silent, and so have a WAV and an image."""
        return self.chunks - len(self.silent)


@dataclass
class Summary:
    """What a label came to."""

    recordings: int = 0
    chunks: int = 0
    seconds: float = 0.0
    variants: int = 0
    skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)
    remarks: list[dict[str, str]] = dataclasses.field(default_factory=list)


def fingerprint(config: SpectrogramConfig) -> str:
    """Sixteen digits that stand for all the settings."""
    text = json.dumps({"format": _FORMAT, **dataclasses.asdict(config)}, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def join_pieces(pieces: Iterable[Outcome]) -> Outcome:
    """One recording's outcome out of those of its pieces, first to last; what follows damage does not count."""
    seconds, chunks, silent, note, digest, lasting = 0.0, 0, list[int](), None, "", True
    for piece in pieces:
        seconds = max(seconds, piece.seconds)
        chunks += piece.chunks
        silent += piece.silent
        digest = digest or piece.digest
        note, lasting = piece.note, piece.lasting
        if note:
            break
    if chunks and len(silent) == chunks and note is None:
        note = SILENT
    return Outcome(seconds, chunks, silent, note, digest, lasting)


class Journal:
    """One label's recordings and what has been made of them.

    Parameters
    ----------
    label : str
    audio_dir : Path
    outputs : dict of Path to str
        The folders that chunks are written to, each with its files' ending; the books lie in the last one.
    settings : str
        The settings' fingerprint.
    force : bool
        Whether to count nothing as made.

    Attributes
    ----------
    missing : list of Source
        Recordings still to be rendered, largest first.
    outcomes : dict of str to Outcome
        Of those that are rendered, by file.
    known : dict of str to Outcome
        Of missing recordings that were rendered under another date: worth comparing their content.
    """

    def __init__(self, label: str, audio_dir: Path, outputs: dict[Path, str], settings: str, force: bool) -> None:
        self.label = label
        self.folders = {folder / label: suffix for folder, suffix in outputs.items()}
        self._settings = settings
        self._journal = list(self.folders)[-1] / JOURNAL_NAME
        self.sources, self._skipped = find_recordings(audio_dir, label)
        entries, self._begun = read_journal(self._journal)
        for folder in self.folders:
            if folder.is_dir():
                make_folder(folder, alone=True)
        self._present = {folder: self._chunks_present(folder) for folder in self.folders}
        self._variants = self._variants_present()
        self.outcomes: dict[str, Outcome] = {}
        self.known: dict[str, Outcome] = {}
        self.missing: list[RecordingFile] = []
        self._waiting: set[str] = set()
        for source in self.sources:
            entry = entries.get(source.file)
            usable = entry is not None and entry.settings == settings and entry.source.size == source.size
            if entry is not None and usable and not force and self._complete(source.file, entry.outcome):
                if entry.source == source:
                    self.outcomes[source.file] = entry.outcome
                    continue
                self.known[source.file] = entry.outcome
            self.missing.append(source)
        self.missing.sort(key=lambda source: -source.size)

    @property
    def unchanged(self) -> bool:
        """Whether everything is as a finished run left it."""
        return not self.missing and not self._stale() and self._begun == {source.file for source in self.sources}

    @property
    def finished(self) -> bool:
        """Whether nothing is being waited for."""
        return not self._waiting

    def begin(self) -> None:
        """Write down what is about to be rendered, and remove what was made of its earlier versions by variation."""
        for folder in self.folders:
            make_folder(folder)
        self._waiting = {source.file for source in self.missing}
        self._write(gone=self._begun - {source.file for source in self.sources})
        self._begun |= self._waiting
        for file in self._waiting - set(self.known):
            self._remove_variants(file)

    def record(self, source: RecordingFile, outcome: Outcome) -> None:
        """Write down what became of a recording."""
        if source.file in self.known and self.known[source.file].digest != outcome.digest:
            self._remove_variants(source.file)
        self.outcomes[source.file] = outcome
        self._waiting.discard(source.file)
        if outcome.lasting:
            with self._journal.open("a", encoding="ascii") as journal:
                journal.write(_line(source, self._settings, outcome))

    def close(self) -> int:
        """Remove the chunks of recordings and settings that are gone, and what dead workers left; returns how many."""
        if self.missing:
            for folder in self.folders:
                make_folder(folder, alone=True)
            self._present = {folder: self._chunks_present(folder) for folder in self.folders}
        stale = self._stale()
        for path in stale:
            path.unlink(missing_ok=True)
        if self.sources:
            self._write()
        elif self._journal.exists():
            self._journal.unlink()
        for folder in self.folders:
            with contextlib.suppress(OSError):  # something of somebody else's is in it
                folder.rmdir()
        return len(stale)

    def untracked_images(self) -> int:
        """Images with a chunk's name that neither the books nor the recordings know, as after damage to the books."""
        folder, suffix = list(self.folders.items())[-1]
        if not folder.is_dir():
            return 0
        known = {recording_name(file) for file in self._begun} | {recording_name(s.file) for s in self.sources}
        stems = (name.removesuffix(suffix) for name in os.listdir(folder) if name.endswith(suffix))
        return sum("_nohash_" in stem and parse_chunk_name(stem).recording not in known for stem in stems)

    def summary(self) -> Summary:
        """Counts, and what was left out and why."""
        summary = Summary(skipped=[{"file": file, "reason": reason} for file, reason in self._skipped])
        for source in self.sources:
            outcome = self.outcomes[source.file]
            if outcome.note:
                remark = {"file": source.file, "reason": outcome.note}
                (summary.remarks if outcome.heard else summary.skipped).append(remark)
            if outcome.heard:
                summary.recordings += 1
                summary.chunks += outcome.heard
                summary.seconds += outcome.seconds
        return summary

    def chunks(self) -> Iterable[tuple[str, int]]:
        """Recording's name and number of every chunk that has an image."""
        for file, outcome in self.outcomes.items():
            yield from self._heard(file, outcome)

    @staticmethod
    def _heard(file: str, outcome: Outcome) -> Iterable[tuple[str, int]]:
        name, silent = recording_name(file), set(outcome.silent)
        return ((name, i) for i in range(outcome.chunks) if i not in silent)

    def _complete(self, file: str, outcome: Outcome) -> bool:
        return all(
            chunk_name(name, index, suffix) in self._present[folder]
            for folder, suffix in self.folders.items()
            for name, index in self._heard(file, outcome)
        )

    def _chunks_present(self, folder: Path) -> set[str]:
        """Names of all chunks and variants that were made here; not what the user put among them."""
        made = {recording_name(file) for file in self._begun}
        suffix = self.folders[folder]
        try:
            names = os.listdir(folder)
        except (FileNotFoundError, NotADirectoryError):
            return set()
        return {
            name
            for name in names
            if name.endswith(suffix) and parse_chunk_name(name.removesuffix(suffix)).recording in made
        }

    def _stale(self) -> list[Path]:
        """Chunks that are there and should not be; a variant belongs to its chunk."""
        expected = {
            chunk
            for source in self.sources
            if source.file in self.outcomes
            for chunk in self._heard(source.file, self.outcomes[source.file])
        }
        return [
            folder / name
            for folder, suffix in self.folders.items()
            for name in self._present[folder]
            if parse_chunk_name(name.removesuffix(suffix))[:2] not in expected
        ]

    def _variants_present(self) -> dict[str, list[Path]]:
        """The variants that are there, by recording's name."""
        variants: dict[str, list[Path]] = {}
        for folder, suffix in self.folders.items():
            for name in self._present[folder]:
                parsed = parse_chunk_name(name.removesuffix(suffix))
                if parsed.copy:
                    variants.setdefault(parsed.recording, []).append(folder / name)
        return variants

    def _remove_variants(self, file: str) -> None:
        for path in self._variants.pop(recording_name(file), []):
            path.unlink(missing_ok=True)

    def _write(self, gone: Iterable[str] = ()) -> None:
        """Write the books anew: what is made, what is about to be, and what is gone but not yet removed."""
        lines = []
        for source in self.sources:
            outcome = self.outcomes.get(source.file)
            lines.append(_line(source, self._settings, outcome if outcome and outcome.lasting else None))
        lines += [json.dumps({"file": file}) + "\n" for file in sorted(gone)]
        content = "".join(lines).encode("ascii")
        if not self._journal.exists() or self._journal.read_bytes() != content:
            write_bytes(self._journal, content)


class Entry(NamedTuple):
    """One line of the books."""

    source: RecordingFile
    settings: str
    outcome: Outcome


def _line(source: RecordingFile, settings: str, outcome: Outcome | None) -> str:
    """The line that keeps an outcome or, without one, says that the recording's chunks are about to be written."""
    content: dict[str, Any] = {**source._asdict(), "settings": settings}
    if outcome is not None:
        content |= outcome._asdict()
        del content["lasting"]
    return json.dumps(content) + "\n"


def read_journal(path: Path) -> tuple[dict[str, Entry], set[str]]:
    """What earlier runs did to a label.

    Returns
    -------
    entries : dict
        By file. Damaged lines are passed over: their recordings are rendered again.
    begun : set of str
        Files of all recordings whose chunks may have been written, finished or not.
    """
    entries: dict[str, Entry] = {}
    begun: set[str] = set()
    try:
        lines: Sequence[str] = path.read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        lines = []
    for line in lines:
        try:
            content = json.loads(line)
            file = str(content["file"])
            begun.add(file)
            source = RecordingFile(file, int(content["size"]), int(content["mtime_ns"]))
            silent = [int(index) for index in content["silent"]]
            outcome = Outcome(
                float(content["seconds"]), int(content["chunks"]), silent, content["note"], str(content["digest"])
            )
            entries[file] = Entry(source, str(content["settings"]), outcome)
        except (ValueError, KeyError, TypeError):
            continue
    return entries, begun


def find_recordings(audio_dir: Path, label: str) -> tuple[list[RecordingFile], list[tuple[str, str]]]:
    """A label's recordings, and what is left out: file and reason."""
    if problem := label_problem(label):
        return [], [("", problem)]
    sources: list[RecordingFile] = []
    skipped: list[tuple[str, str]] = []
    for file, path in walk(audio_dir / label):
        try:
            state = path.stat()
            if path.is_dir():
                os.scandir(path).close()  # a folder that could not be looked into: says why
        except OSError as error:
            if file or path.exists():  # not a label that is gone, as one of earlier images may be
                skipped.append((file, f"cannot be read: {error.strerror}"))
            continue
        if path.suffix.lower() in AUDIO_SUFFIXES:
            sources.append(RecordingFile(file, state.st_size, state.st_mtime_ns))
        else:
            kind = path.suffix or "no ending"
            skipped.append((file, f"not a kind that is read ({kind}): convert it to WAV, FLAC or MP3"))
    return sources, skipped
