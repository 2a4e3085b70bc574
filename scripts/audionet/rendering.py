"""Folders of recordings to folders of chunks and pictures, doing only what is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from .audio import AUDIO_SUFFIXES, Recording, is_silent, wav_bytes
from .config import DataConfig, PictureConfig
from .console import count, progress, warn
from .dataset import (
    DATASET_JSON,
    JOURNAL,
    chunk_name,
    dataset_json,
    label_folders,
    label_problem,
    parse_chunk_name,
    recording_name,
)
from .errors import DatasetError, RecordingError, UsageError
from .executors import local_processes, map_unordered
from .files import make_folder, only_run_in, printable, walk, write_bytes, write_json
from .journal import Outcome, Source, fingerprint, journal_line, read_journal, write_journal
from .spectrogram import render

_BATCH_BYTES = 2 << 20
_BATCH_RECORDINGS = 64


class Task(NamedTuple):
    """Recordings for one worker to render."""

    sources: list[Source]
    wav_dir: Path
    image_dir: Path
    config: PictureConfig


@dataclass
class Summary:
    """What a label came to."""

    recordings: int = 0
    chunks: int = 0
    seconds: float = 0.0
    skipped: list[dict[str, str]] = dataclasses.field(default_factory=list)
    remarks: list[dict[str, str]] = dataclasses.field(default_factory=list)


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
        If another run is at work in an output folder.
    OSError
        If an output cannot be written.
    """
    _check_folders(data)
    sources, skipped = find_recordings(data.audio_dir)
    if not sources:
        raise DatasetError(
            f"{printable(data.audio_dir)} holds no recordings: put them into one folder per label, "
            f"such as {printable(data.audio_dir / 'ann' / 'talk.mp3')}"
        )
    with contextlib.ExitStack() as locks:
        for folder in _outputs(data):
            make_folder(folder)
            locks.enter_context(only_run_in(folder))
        return _render_sources(sources, skipped, data, config)


def _render_sources(
    sources: list[Source], skipped: list[tuple[str, str, str]], data: DataConfig, config: PictureConfig
) -> Result:
    outputs = _outputs(data)
    settings = fingerprint(config)
    outcomes, begun = read_journal(data.image_dir / JOURNAL)
    present = {folder: _chunks_present(folder, suffix, begun) for folder, suffix in outputs.items()}
    finished: dict[tuple[str, str], Outcome] = {}
    missing = []
    for source in sources:
        outcome = outcomes.get((source.label, source.file, source.size, source.mtime_ns, settings))
        complete = outcome and all(
            _chunks_of(source, outcome, suffix) <= present[folder] for folder, suffix in outputs.items()
        )
        if outcome and complete and not data.force:
            finished[source.label, source.file] = outcome
        else:
            missing.append(source)
    unchanged = len(finished)

    removed = 0
    stale = any(present[folder] - _expected(sources, finished, suffix) for folder, suffix in outputs.items())
    if missing or stale or not (data.image_dir / DATASET_JSON).exists():
        for folder in outputs:
            write_json(folder / DATASET_JSON, dataset_json(config, {}, complete=False))
        gone = begun - {(source.label, source.file) for source in sources}
        write_journal(data.image_dir / JOURNAL, sources, finished, settings, gone)
        finished |= _render_missing(missing, data, config, settings)
        begun |= set(finished)
        for folder, suffix in outputs.items():
            others = _chunks_present(folder, suffix, begun) - _expected(sources, finished, suffix)
            removed += _remove_chunks(folder, others)
        write_journal(data.image_dir / JOURNAL, sources, finished, settings)
    labels = _summarise(sources, finished, skipped)
    described = {label: dataclasses.asdict(summary) for label, summary in labels.items()}
    if missing or stale or _described(data.image_dir) != described:
        for folder in outputs:
            write_json(folder / DATASET_JSON, dataset_json(config, described, complete=True))
    return Result(labels, len(missing), unchanged, removed)


def find_recordings(audio_dir: Path) -> tuple[list[Source], list[tuple[str, str, str]]]:
    """Every recording under the label folders, and what is left out: label, file and reason."""
    sources: list[Source] = []
    skipped: list[tuple[str, str, str]] = []
    for path in sorted(audio_dir.iterdir()) if audio_dir.is_dir() else []:
        if path.is_file() and path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith("."):
            warn(f"{path}: lies in no label's folder; skipped: move it into one")
    for label in label_folders(audio_dir):
        if problem := label_problem(label):
            skipped.append((label, "", problem))
            continue
        for file, path in walk(audio_dir / label):
            try:
                state = path.stat()
                if path.is_dir():
                    os.scandir(path).close()  # a folder that could not be looked into: says why
            except OSError as error:
                skipped.append((label, file, f"cannot be read: {error.strerror}"))
                continue
            if path.suffix.lower() in AUDIO_SUFFIXES:
                sources.append(Source(label, file, path, state.st_size, state.st_mtime_ns))
            else:
                kind = path.suffix or "no ending"
                skipped.append((label, file, f"not a kind that is read ({kind}): convert it to WAV, FLAC or MP3"))
    return sources, skipped


def render_recordings(task: Task) -> list[Outcome]:
    """Write the chunks and pictures of some recordings; what cannot be decoded is said in the outcome."""
    return [_render_recording(source, task) for source in task.sources]


def _render_recording(source: Source, task: Task) -> Outcome:
    recording = Recording(source.path, task.config)
    name = recording_name(source.file)
    silent: list[int] = []
    chunks = 0
    note = None
    try:
        for chunk in recording:
            chunks += 1
            if is_silent(chunk.samples):
                silent.append(chunk.index)
                continue
            wav, jpg = (chunk_name(name, chunk.index, suffix) for suffix in (".wav", ".jpg"))
            write_bytes(task.wav_dir / source.label / wav, wav_bytes(chunk.samples, task.config.sample_rate))
            write_bytes(task.image_dir / source.label / jpg, render(chunk.samples, task.config))
    except RecordingError as error:
        note = str(error)
    if chunks and len(silent) == chunks and note is None:
        note = "is silent from beginning to end"
    return Outcome(recording.seconds, chunks, silent, note)


def _check_folders(data: DataConfig) -> None:
    folders = {flag: Path(os.path.realpath(getattr(data, flag))) for flag in ("wav_dir", "image_dir", "audio_dir")}
    for one, path in folders.items():
        for other, place in folders.items():
            if one != other and (path == place or place in path.parents):
                raise UsageError(
                    f"--{one} is inside --{other} ({printable(place)}): chunks would be taken for recordings; "
                    "give each its own folder"
                )
    for flag in ("wav_dir", "image_dir"):
        folder = folders[flag]
        ours = _described(folder) is not None
        if folder.is_dir() and not ours and ((folder / DATASET_JSON).exists() or any(_files_present(folder))):
            raise UsageError(
                f"--{flag} {printable(folder)} holds files that data_maker.py did not make: name an empty folder"
            )


def _outputs(data: DataConfig) -> dict[Path, str]:
    """The folders that chunks are written to, with their files' ending."""
    return {data.wav_dir: ".wav", data.image_dir: ".jpg"}


def _files_present(folder: Path) -> Iterator[tuple[str, str]]:
    """Label and name of every file in the label folders."""
    for label in label_folders(folder):
        yield from ((label, name) for name in os.listdir(folder / label))


def _chunks_present(folder: Path, suffix: str, begun: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Label and name of every chunk that was made here; half-written files of a killed run are cleared away.

    What the user put among them, chunks of other makings too, is not counted and so never removed.
    """
    for label in label_folders(folder):
        make_folder(folder / label)
    made = {(label, recording_name(file)) for label, file in begun}
    return {
        (label, name)
        for label, name in _files_present(folder)
        if name.endswith(suffix) and (label, parse_chunk_name(name.removesuffix(suffix))[0]) in made
    }


def _chunks_of(source: Source, outcome: Outcome, suffix: str) -> set[tuple[str, str]]:
    name, silent = recording_name(source.file), set(outcome.silent)
    return {(source.label, chunk_name(name, i, suffix)) for i in range(outcome.chunks) if i not in silent}


def _expected(sources: Iterable[Source], finished: dict[tuple[str, str], Outcome], suffix: str) -> set[tuple[str, str]]:
    expected: set[tuple[str, str]] = set()
    for source in sources:
        if outcome := finished.get((source.label, source.file)):
            expected |= _chunks_of(source, outcome, suffix)
    return expected


def _remove_chunks(folder: Path, chunks: set[tuple[str, str]]) -> int:
    """Remove chunks, and the label folders that are empty then; whatever else lies there stays."""
    for label, name in chunks:
        os.unlink(folder / label / name)
    for label in label_folders(folder):
        if not os.listdir(folder / label):
            os.rmdir(folder / label)
    return len(chunks)


def _render_missing(
    missing: list[Source], data: DataConfig, config: PictureConfig, settings: str
) -> dict[tuple[str, str], Outcome]:
    if not missing:
        return {}
    finished: dict[tuple[str, str], Outcome] = {}
    for folder in _outputs(data):
        for label in {source.label for source in missing}:
            make_folder(folder / label)
    tasks = [Task(batch, data.wav_dir, data.image_dir, config) for batch in _batches(missing)]
    workers = min(data.workers, len(tasks))
    with local_processes(workers) as pool, (data.image_dir / JOURNAL).open("a", encoding="ascii") as journal:
        results = map_unordered(pool, render_recordings, tasks, workers)
        steps = (
            (source, outcome) for task, done in results for source, outcome in zip(task.sources, done, strict=True)
        )
        for source, outcome in progress(steps, "Rendering", "recordings", len(missing)):
            finished[source.label, source.file] = outcome
            journal.write(journal_line(source, settings, outcome))
            journal.flush()
            if outcome.note:
                warn(f"{source.label}/{source.file}: {outcome.note}; {_consequence(outcome)}")
    return finished


def _batches(sources: list[Source]) -> Iterator[list[Source]]:
    """Recordings in the order found, big ones alone: a task takes long enough to be worth sending."""
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


def _summarise(
    sources: Iterable[Source], finished: dict[tuple[str, str], Outcome], skipped: Iterable[tuple[str, str, str]]
) -> dict[str, Summary]:
    labels: dict[str, Summary] = {}
    for label, file, reason in skipped:
        labels.setdefault(label, Summary()).skipped.append({"file": file, "reason": reason})
    for source in sources:
        summary = labels.setdefault(source.label, Summary())
        outcome = finished[source.label, source.file]
        if outcome.note:
            remark = {"file": source.file, "reason": outcome.note}
            (summary.remarks if outcome.heard else summary.skipped).append(remark)
        if outcome.heard:
            summary.recordings += 1
            summary.chunks += outcome.heard
            summary.seconds += outcome.seconds
    return dict(sorted(labels.items()))


def _described(folder: Path) -> Any:
    """What a finished run said of the labels, an empty dict from an unfinished one, None from anybody else."""
    try:
        content = json.loads((folder / DATASET_JSON).read_bytes())
    except (OSError, ValueError):
        return None
    return content.get("labels") if isinstance(content, dict) and "picture" in content else None
