"""Folders of recordings to folders of chunks and pictures, doing only what is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .audio import SECTION_SECONDS, Recording, Span, is_silent, measure, needs_levels, span_of, wav_bytes
from .config import DataConfig, PictureConfig
from .console import count, progress, warn
from .dataset import DATASET_JSON, chunk_name, dataset_json, label_folders, recording_name
from .decoding import AUDIO_SUFFIXES, FFMPEG_SUFFIXES, header
from .errors import DatasetError, RecordingError, UnavailableError, UsageError
from .executors import Pool, WorkerDied, map_unordered, worker_pool
from .files import make_folder, only_run_in, printable, walk, write_bytes, write_json
from .ledger import Ledger, Outcome, Source, Summary, fingerprint, joined
from .spectrogram import render

PIECE_SECONDS = 600
"""A recording twice as long as this is rendered in pieces, by several workers at a time."""

_BATCH_BYTES = 2 << 20
_BATCH_RECORDINGS = 64
_LARGE_BYTES = 1 << 20  # of smaller files nobody asks how long they are
_LARGE_CONTAINER_BYTES = 16 << 20  # it takes ffprobe a twentieth of a second to say
_LONGEST_SILENCE = 64  # chunks that progress within a recording looks ahead


class Piece(NamedTuple):
    """A recording, or the chunks from `first` to before `stop` of it."""

    source: Source
    first: int = 0
    stop: int | None = None
    span: Span | None = None
    known: Outcome | None = None


class Task(NamedTuple):
    """Pieces of recordings of one label, for one worker to render."""

    label: str
    pieces: list[Piece]
    audio_dir: Path
    outputs: dict[Path, str]
    config: PictureConfig


@dataclass(frozen=True)
class Result:
    """What a run of `render_folder` did: summaries by label, and counts of recordings and removed files."""

    labels: dict[str, Summary]
    rendered: int
    unchanged: int
    removed: int


def render_folder(data: DataConfig, config: PictureConfig) -> Result:
    """Render every recording under ``data.audio_dir`` that has not been rendered yet with these settings.

    Chunks and pictures of recordings that are gone are removed. Killed and run again, the result is the same.

    Raises
    ------
    UsageError
        If the folders overlap, or an output folder holds what this program did not make.
    DatasetError
        If there are no recordings.
    AudioNetError
        If another run is at work in an output folder, or there is no such cluster.
    OSError
        If an output cannot be written.
    """
    data = dataclasses.replace(data, **{flag: getattr(data, flag).absolute() for flag in _FOLDERS})
    _check_folders(data)
    survey = _survey(data.audio_dir)
    if not survey.recordings:
        raise DatasetError(
            f"{printable(data.audio_dir)} holds no recordings: put them into one folder per label, "
            f"such as {printable(data.audio_dir / 'ann' / 'talk.mp3')}"
        )
    with contextlib.ExitStack() as locks:
        for folder in _outputs(data):
            make_folder(folder)
            locks.enter_context(only_run_in(folder))
        run = _Run(data, config, survey)
        run.render()
        return run.result()


@dataclass
class _Survey:
    """What lies in the folder of recordings."""

    recordings: int = 0
    size: int = 0
    largest: dict[str, int] = dataclasses.field(default_factory=dict)


def _survey(audio_dir: Path) -> _Survey:
    survey = _Survey()
    for path in sorted(audio_dir.iterdir()) if audio_dir.is_dir() else []:
        if path.is_file() and path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            warn(f"{path}: lies in no label's folder; skipped: move it into one")
    for label in label_folders(audio_dir):
        survey.largest[label] = 0
        for _, path in walk(audio_dir / label):
            if path.suffix.lower() in AUDIO_SUFFIXES:
                with contextlib.suppress(OSError):
                    size = path.stat().st_size
                    survey.size += size
                    survey.largest[label] = max(survey.largest[label], size)
                survey.recordings += 1
    return survey


class _Run:
    """One run over all labels."""

    def __init__(self, data: DataConfig, config: PictureConfig, survey: _Survey) -> None:
        self.data = data
        self.config = config
        self.outputs = _outputs(data)
        self.settings = fingerprint(config)
        self.survey = survey
        self.summaries: dict[str, Summary] = {}
        self.rendered = self.unchanged = self.removed = 0
        self._open: dict[str, Ledger] = {}
        self._unplanned: set[str] = set()
        self._pieces: dict[tuple[str, str], dict[int, Outcome]] = {}
        self._wanted: dict[tuple[str, str], int] = {}
        self._advance: Callable[[float], object] = lambda amount: None
        self._unfinished: dict[tuple[str, str], _Watched] = {}
        described = _described(data.image_dir)
        self._before = described["labels"] if described and described.get("complete") else None
        self._changing = False

    def render(self) -> None:
        labels = sorted(set(self.survey.largest) | {label for f in self.outputs for label in label_folders(f)})
        shared = [self.data.audio_dir, *self.outputs]
        with (
            progress("Rendering", "B", self.survey.size) as self._advance,
            worker_pool(self.data.workers, self.data.scheduler, shared) as pool,
        ):
            tasks = self._tasks(labels, pool)
            for task, outcomes in map_unordered(pool, render_pieces, tasks, _split, self._look_within):
                for piece, outcome in zip(task.pieces, self._outcomes(outcomes, task), strict=True):
                    self._take(task.label, piece, outcome)

    def result(self) -> Result:
        labels = dict(sorted(self.summaries.items()))
        described = {label: dataclasses.asdict(summary) for label, summary in labels.items()}
        if self._changing or self._before != described:
            self._describe(described, complete=True)
        return Result(labels, self.rendered, self.unchanged, self.removed)

    def _describe(self, labels: dict[str, Any], complete: bool) -> None:
        for folder in self.outputs:
            write_json(folder / DATASET_JSON, dataset_json(self.config, labels, None, complete=complete))
        self._changing = not complete

    def _tasks(self, labels: Sequence[str], pool: Pool) -> Iterator[Task]:
        """Large recordings of all labels first, so that none is left for one worker to do alone in the end."""
        largest = self.survey.largest
        large = [label for label in labels if largest.get(label, 0) >= _LARGE_BYTES]
        self._unplanned = set(labels)
        for label in sorted(large, key=lambda label: -largest[label]):
            ledger = self._ledger(label)
            for source in ledger.missing:
                if source.size >= _LARGE_BYTES:
                    yield from (self._task(label, [piece]) for piece in self._cut_up(ledger, source, pool))
        for label in labels:
            ledger = self._ledger(label)
            small = [source for source in ledger.missing if source.size < _LARGE_BYTES]
            for batch in _batches(small):
                for source in batch:
                    self._wanted[label, source.file] = 1
                yield self._task(label, [Piece(s, known=ledger.known.get(s.file)) for s in batch])
            self._unplanned.discard(label)
            self._close_if_finished(label)

    def _task(self, label: str, pieces: list[Piece]) -> Task:
        return Task(label, pieces, self.data.audio_dir, self.outputs, self.config)

    def _ledger(self, label: str) -> Ledger:
        """A label's books, opened when its turn comes: memory grows with one label, not with all."""
        if label in self._open:
            return self._open[label]
        ledger = Ledger(label, self.data.audio_dir, self.outputs, self.settings, self.data.force)
        self._open[label] = ledger
        self.unchanged += len(ledger.outcomes)
        self._advance(sum(source.size for source in ledger.sources if source.file in ledger.outcomes))
        if not ledger.unchanged:
            if not self._changing:
                self._describe({}, complete=False)
            if ledger.missing:
                ledger.begin()
        return ledger

    def _cut_up(self, ledger: Ledger, source: Source, pool: Pool) -> list[Piece]:
        """A long recording's pieces; a shorter one, or one that has to be read from its beginning, is one piece."""
        key, path = (ledger.label, source.file), self.data.audio_dir / ledger.label / source.file
        known = ledger.known.get(source.file)
        about = None
        if source.size >= _LARGE_CONTAINER_BYTES or path.suffix.lower() not in FFMPEG_SUFFIXES:
            about = header(path)
        self._wanted[key] = 1
        if about is None or about.seconds < 2 * PIECE_SECONDS:
            return [Piece(source, known=known)]
        self._unfinished[key] = _Watched(source, about.seconds)
        if not about.can_seek or known:
            return [Piece(source, known=known)]
        span = None
        if needs_levels(self.config):
            span = _measured(path, about.seconds, self.config, pool)
            if span is None:
                return [Piece(source)]
        del self._unfinished[key]
        seconds = (
            about.seconds if span is None or span.stop is None else (span.stop - span.start) / self.config.sample_rate
        )
        step = self.config.step_length / self.config.sample_rate
        size = max(1, round(PIECE_SECONDS / step))
        firsts = range(0, max(1, math.ceil(seconds / step)), size)
        self._wanted[key] = len(firsts)
        return [Piece(source, first, first + size if first != firsts[-1] else None, span) for first in firsts]

    def _outcomes(self, outcomes: list[Outcome] | WorkerDied, task: Task) -> list[Outcome]:
        if isinstance(outcomes, WorkerDied):
            note = "ended the worker process, twice, by a crash or for want of memory"
            return [Outcome(0, 0, [], note, lasting=False) for _ in task.pieces]
        return outcomes

    def _take(self, label: str, piece: Piece, outcome: Outcome) -> None:
        key, ledger = (label, piece.source.file), self._open[label]
        pieces = self._pieces.setdefault(key, {})
        pieces[piece.first] = outcome
        watched = self._unfinished.pop(key, None)
        self._advance(piece.source.size / self._wanted[key] - (watched.advanced if watched else 0))
        if len(pieces) < self._wanted[key]:
            return
        del self._pieces[key], self._wanted[key]
        whole = joined(pieces[first] for first in sorted(pieces))
        if piece.known and piece.known.digest == whole.digest:
            self.unchanged += 1
        else:
            self.rendered += 1
        if whole.note:
            warn(f"{label}/{piece.source.file}: {whole.note}; {_consequence(whole)}")
        ledger.record(piece.source, whole)
        self._close_if_finished(label)

    def _close_if_finished(self, label: str) -> None:
        ledger = self._open[label]
        if label in self._unplanned or not ledger.finished:
            return
        if not ledger.unchanged:
            self.removed += ledger.close()
        if ledger.sources or label in self.survey.largest:
            self.summaries[label] = ledger.summary()
        del self._open[label]

    def _look_within(self) -> None:
        """Show how far long recordings are that one worker reads from beginning to end, by the files it has made."""
        folder, suffix = list(self.outputs.items())[-1]
        for (label, file), watched in self._unfinished.items():
            name = recording_name(file)
            for index in range(watched.index, watched.index + _LONGEST_SILENCE):
                if (folder / label / chunk_name(name, index, suffix)).exists():
                    watched.index = index + 1
            done = min(1.0, watched.index * self.config.step_length / self.config.sample_rate / watched.seconds)
            self._advance(done * watched.source.size - watched.advanced)
            watched.advanced = done * watched.source.size


@dataclass
class _Watched:
    """A long recording that one worker renders as a whole, and how far it was seen to be."""

    source: Source
    seconds: float
    index: int = 0
    advanced: float = 0.0


def _split(task: Task) -> list[Task]:
    return [task._replace(pieces=[piece]) for piece in task.pieces]


def _measured(path: Path, seconds: float, config: PictureConfig, pool: Pool) -> Span | None:
    """The span of a long recording, measured by several workers; None if one of them ended."""
    sections = PIECE_SECONDS // SECTION_SECONDS
    places = range(0, math.ceil(seconds / SECTION_SECONDS), sections)
    try:
        futures = [pool.executor.submit(measure, path, config, place, sections) for place in places]
        return span_of([future.result() for future in futures], config)
    except BrokenExecutor:
        return None


def render_pieces(task: Task) -> list[Outcome]:
    """Write the chunks and pictures of some recordings; what cannot be decoded is said in the outcome."""
    return [_render_piece(piece, task) for piece in task.pieces]


def _render_piece(piece: Piece, task: Task) -> Outcome:
    path = task.audio_dir / task.label / piece.source.file
    recording = Recording(path, task.config, piece.span)
    name = recording_name(piece.source.file)
    silent: list[int] = []
    chunks = 0
    note, digest, lasting = None, "", True
    try:
        if piece.first == 0:
            digest = _digest(path)
            if piece.known and piece.known.digest == digest:
                return piece.known
        for chunk in recording.chunks(piece.first, piece.stop):
            chunks += 1
            if is_silent(chunk.samples):
                silent.append(chunk.index)
                continue
            wav = wav_bytes(chunk.samples, task.config.sample_rate)
            jpg = render(chunk.samples, task.config)
            for (folder, suffix), content in zip(task.outputs.items(), (wav, jpg), strict=True):
                write_bytes(folder / task.label / chunk_name(name, chunk.index, suffix), content)
        state = path.stat()
        if (state.st_size, state.st_mtime_ns) != (piece.source.size, piece.source.mtime_ns):
            raise UnavailableError("changed while it was read: run again to have it as it is now")
    except OSError as error:
        if error.filename != str(path):  # an output: no way to go on
            raise
        chunks, silent, note, lasting = 0, [], f"cannot be read: {error.strerror}", False
    except UnavailableError as error:
        chunks, silent, note, lasting = 0, [], str(error), False
    except RecordingError as error:
        note = str(error)
    return Outcome(recording.seconds, chunks, silent, note, digest, lasting)


def _digest(path: Path) -> str:
    digest = hashlib.blake2b(digest_size=16)
    try:
        with path.open("rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except IsADirectoryError:
        raise RecordingError("is a folder, not a recording") from None
    return digest.hexdigest()


_FOLDERS = ("wav_dir", "image_dir", "audio_dir")


def _check_folders(data: DataConfig) -> None:
    folders = {flag: Path(os.path.realpath(getattr(data, flag))) for flag in _FOLDERS}
    for one, path in folders.items():
        for other, place in folders.items():
            if one != other and (path == place or place in path.parents):
                raise UsageError(
                    f"--{one} is inside --{other} ({printable(place)}): chunks would be taken for recordings; "
                    "give each its own folder"
                )
    for flag in ("wav_dir", "image_dir"):
        folder = folders[flag]
        if not folder.is_dir() or _described(folder) is not None:
            continue
        if (folder / DATASET_JSON).exists() or any(os.listdir(folder / label) for label in label_folders(folder)):
            raise UsageError(
                f"--{flag} {printable(folder)} holds files that data_maker.py did not make: name an empty folder"
            )


def _outputs(data: DataConfig) -> dict[Path, str]:
    """The folders that chunks are written to, with their files' ending."""
    return {data.wav_dir: ".wav", data.image_dir: ".jpg"}


def _batches(sources: Sequence[Source]) -> Iterator[list[Source]]:
    """Small recordings together: a task takes long enough to be worth sending."""
    batch: list[Source] = []
    size = 0
    for source in sources:
        if batch and (size + source.size > _BATCH_BYTES or len(batch) == _BATCH_RECORDINGS):
            yield batch
            batch, size = [], 0
        batch.append(source)
        size += source.size
    if batch:
        yield batch


def _consequence(outcome: Outcome) -> str:
    return f"kept {count(outcome.heard, 'chunk')} before that" if outcome.heard else "skipped"


def _described(folder: Path) -> dict[str, Any] | None:
    """What dataset.json says, or None where there is none of ours."""
    try:
        content = json.loads((folder / DATASET_JSON).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "picture" in content else None
