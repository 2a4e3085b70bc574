"""Folders of recordings to folders of chunks and images, doing only what is missing."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import AUDIO_SUFFIXES
from audionet.augment.config import AugmentConfig
from audionet.augment.waveform import Recipe
from audionet.data.augmented_copies import (
    CopyTask,
    copies_by_label,
    copies_of,
    copies_present,
    copy_batches,
    recipe_of,
    render_copies,
    split_copies,
)
from audionet.data.config import DataConfig
from audionet.data.dataset import dataset_json
from audionet.data.journal import JOURNAL_NAME, Journal, Outcome, RecordingFile, Summary, fingerprint, join_pieces
from audionet.data.naming import DATASET_JSON, ChunkName, chunk_name, label_folders
from audionet.data.render_tasks import (
    LARGE_BYTES,
    Piece,
    PieceTask,
    Watched,
    piece_batches,
    pieces_of,
    render_pieces,
    split_pieces,
)
from audionet.errors import DatasetError, UsageError
from audionet.utils.files import exclusive_lock, make_folder, walk, write_json
from audionet.utils.parallel import Pool, WorkerDied, map_unordered, worker_pool
from audionet.utils.progress import progress
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)


_NO_VARIANTS = AugmentConfig()


@dataclass(frozen=True)
class Result:
    """What a run of `render_folder` did: summaries by label, and counts of recordings, variants and removed files."""

    labels: dict[str, Summary]
    rendered: int
    unchanged: int
    removed: int
    varied: int


def render_folder(data: DataConfig, config: SpectrogramConfig, augment: AugmentConfig = _NO_VARIANTS) -> Result:
    """Render every recording under ``data.audio_dir`` that has not been rendered yet with these settings.

    Chunks and images of recordings that are gone are removed, and so are variants that are no longer asked for.
    Killed and run again, the result is the same.

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
    recipe = recipe_of(augment, config, survey.largest)
    if not survey.recordings:
        raise DatasetError(
            f"{escape(data.audio_dir)} holds no recordings: put them into one folder per label, "
            f"such as {escape(data.audio_dir / 'ann' / 'talk.mp3')}"
        )
    with contextlib.ExitStack() as locks:
        for folder in _outputs(data):
            make_folder(folder)
            locks.enter_context(exclusive_lock(folder))
        run = _RenderRun(data, config, survey)
        reads = [data.audio_dir] if augment.noise_dir is None else [data.audio_dir, augment.noise_dir]
        with worker_pool(data.workers, data.scheduler, reads, list(run.outputs)) as pool:
            run.render(pool)
            run.vary(pool, augment, recipe)
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
            log.warning(f"{path}: lies in no label's folder; skipped: move it into one")
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


class _RenderRun:
    """One run over all labels."""

    def __init__(self, data: DataConfig, config: SpectrogramConfig, survey: _Survey) -> None:
        self.data = data
        self.config = config
        self.outputs = _outputs(data)
        self.settings = fingerprint(config)
        self.survey = survey
        self.summaries: dict[str, Summary] = {}
        self.rendered = self.unchanged = self.removed = self.varied = 0
        self._open: dict[str, Journal] = {}
        self._unplanned: set[str] = set()
        self._pieces: dict[tuple[str, str], dict[int, Outcome]] = {}
        self._wanted: dict[tuple[str, str], int] = {}
        self._advance: Callable[[float], object] = lambda amount: None
        self._watched: dict[tuple[str, str], Watched] = {}
        described = _described(data.image_dir)
        self._before = described
        self._augmentation: dict[str, Any] | None = described.get("augmentation") if described else None
        self._changing = False

    def render(self, pool: Pool) -> None:
        """Bring the chunks up to date."""
        labels = sorted(set(self.survey.largest) | {label for f in self.outputs for label in label_folders(f)})
        with progress("Rendering", "B", self.survey.size) as self._advance:
            tasks = self._tasks(labels, pool)
            for task, outcomes in map_unordered(pool, render_pieces, tasks, split_pieces, self._look_within):
                for piece, outcome in zip(task.pieces, _outcomes(outcomes, task), strict=True):
                    self._take(task.label, piece, outcome)

    def vary(self, pool: Pool, augment: AugmentConfig, recipe: Recipe | None) -> None:
        """Bring the chunks' variants up to date."""
        described = recipe.described() if recipe else None
        if described != self._augmentation:
            # Until all of the old ones are gone nobody can tell which variants are which.
            self._augmentation = {}
            self._describe({}, complete=False)
            for label in self.summaries:
                self._remove_variants(label, copies_present(label, self.outputs, set(self._chunks(label))))
            self._augmentation = described
            self._describe({}, complete=False)
        if recipe is None:
            return
        wanted = copies_by_label({label: summary.chunks for label, summary in self.summaries.items()}, augment)
        with progress("Augmenting", "variants", sum(wanted.values())) as self._advance:
            tasks = self._variant_tasks(wanted, recipe)
            for task, done in map_unordered(pool, render_copies, tasks, split_copies):
                self._advance(len(task.variants))
                if isinstance(done, WorkerDied):
                    name = chunk_name(*task.variants[0][:2], "", task.variants[0].copy)
                    log.warning(f"{task.label}/{name}: ended the worker process, twice; left out")
                    self.summaries[task.label].variants -= 1
                else:
                    self.varied += done
        for label, summary in self.summaries.items():
            for folder in self.outputs if self.varied and summary.variants else ():
                make_folder(folder / label, alone=True)

    def result(self) -> Result:
        """What the run came to, written down in dataset.json as well."""
        labels = dict(sorted(self.summaries.items()))
        described = {label: dataclasses.asdict(summary) for label, summary in labels.items()}
        if self._changing or self._before != dataset_json(self.config, described, self._augmentation, complete=True):
            self._describe(described, complete=True)
        return Result(labels, self.rendered, self.unchanged, self.removed, self.varied)

    def _describe(self, labels: dict[str, Any], complete: bool) -> None:
        for folder in self.outputs:
            write_json(folder / DATASET_JSON, dataset_json(self.config, labels, self._augmentation, complete))
        self._changing = not complete

    def _variant_tasks(self, wanted: dict[str, int], recipe: Recipe) -> Iterator[CopyTask]:
        for label, summary in self.summaries.items():
            chunks = self._chunks(label)
            expected = copies_of(label, chunks, wanted[label])
            summary.variants = len(expected)
            present = copies_present(label, self.outputs, set(chunks))
            missing = {name for name in expected if self.data.force or present.get(name) != len(self.outputs)}
            surplus = set(present) - expected
            if (missing or surplus) and not self._changing:
                self._describe({}, complete=False)
            self._remove_variants(label, surplus)
            self._advance(len(expected) - len(missing))
            for batch in copy_batches(missing):
                yield CopyTask(label, batch, self.outputs, self.config, recipe)

    def _chunks(self, label: str) -> list[tuple[str, int]]:
        return list(Journal(label, self.data.audio_dir, self.outputs, self.settings, force=False).chunks())

    def _remove_variants(self, label: str, variants: Iterable[ChunkName]) -> None:
        for name in variants:
            for folder, suffix in self.outputs.items():
                path = folder / label / chunk_name(name.recording, name.number, suffix, name.copy)
                path.unlink(missing_ok=True)
                self.removed += 1

    def _tasks(self, labels: Sequence[str], pool: Pool) -> Iterator[PieceTask]:
        """Large recordings of all labels first, so that none is left for one worker to do alone in the end."""
        largest = self.survey.largest
        large = [label for label in labels if largest.get(label, 0) >= LARGE_BYTES]
        self._unplanned = set(labels)
        for label in sorted(large, key=lambda label: -largest[label]):
            ledger = self._ledger(label)
            for source in ledger.missing:
                if source.size >= LARGE_BYTES:
                    yield from (self._task(label, [piece]) for piece in self._pieces_of(ledger, source, pool))
        for label in labels:
            ledger = self._ledger(label)
            small = [source for source in ledger.missing if source.size < LARGE_BYTES]
            for batch in piece_batches(small):
                for source in batch:
                    self._wanted[label, source.file] = 1
                yield self._task(label, [Piece(s, known=ledger.known.get(s.file)) for s in batch])
            self._unplanned.discard(label)
            self._close_if_finished(label)

    def _task(self, label: str, pieces: list[Piece]) -> PieceTask:
        return PieceTask(label, pieces, self.data.audio_dir, self.outputs, self.config)

    def _ledger(self, label: str) -> Journal:
        """A label's books, opened when its turn comes: memory grows with one label, not with all."""
        if label in self._open:
            return self._open[label]
        ledger = Journal(label, self.data.audio_dir, self.outputs, self.settings, self.data.force)
        self._open[label] = ledger
        self.unchanged += len(ledger.outcomes)
        self._advance(sum(source.size for source in ledger.sources if source.file in ledger.outcomes))
        if not ledger.unchanged:
            if not self._changing:
                self._describe({}, complete=False)
            if ledger.missing:
                ledger.begin()
        return ledger

    def _pieces_of(self, ledger: Journal, source: RecordingFile, pool: Pool) -> list[Piece]:
        label, known = ledger.label, ledger.known.get(source.file)
        path = self.data.audio_dir / label / source.file
        cut, seconds = pieces_of(source, path, self.config, known, pool)
        self._wanted[label, source.file] = len(cut)
        if seconds is not None:
            folder, suffix = list(ledger.folders.items())[-1]
            self._watched[label, source.file] = Watched(source, folder, suffix, seconds)
        return cut

    def _take(self, label: str, piece: Piece, outcome: Outcome) -> None:
        key, ledger = (label, piece.source.file), self._open[label]
        pieces = self._pieces.setdefault(key, {})
        pieces[piece.first] = outcome
        watched = self._watched.pop(key, None)
        seen = watched.done if watched else 0.0
        self._advance(piece.source.size * (1 / self._wanted[key] - seen))
        if len(pieces) < self._wanted[key]:
            return
        del self._pieces[key], self._wanted[key]
        whole = join_pieces(pieces[first] for first in sorted(pieces))
        if piece.known and piece.known.digest == whole.digest:
            self.unchanged += 1
        else:
            self.rendered += 1
        if whole.note:
            log.warning(f"{label}/{piece.source.file}: {whole.note}; {_consequence(whole)}")
        ledger.record(piece.source, whole)
        self._close_if_finished(label)

    def _close_if_finished(self, label: str) -> None:
        ledger = self._open[label]
        if label in self._unplanned or not ledger.finished:
            return
        if not ledger.unchanged:
            self.removed += ledger.close()
        if untracked_images := ledger.untracked_images():
            log.warning(
                f"{label}: {pluralise(untracked_images, 'image')} of unknown recordings in {list(ledger.folders)[-1]}; "
                "left alone, but retrain.py would learn from them: remove what is not yours"
            )
        if ledger.sources or label in self.survey.largest:
            self.summaries[label] = ledger.summary()
        del self._open[label]

    def _look_within(self) -> None:
        """Show how far long recordings are that one worker reads from beginning to end, by the files it has made."""
        for watched in self._watched.values():
            self._advance(watched.source.size * watched.newly_done(self.config))


def _outcomes(outcomes: list[Outcome] | WorkerDied, task: PieceTask) -> list[Outcome]:
    if isinstance(outcomes, WorkerDied):
        note = "ended the worker process, twice, by a crash or for want of memory"
        return [Outcome(0, 0, [], note, lasting=False) for _ in task.pieces]
    return outcomes


_FOLDERS = ("wav_dir", "image_dir", "audio_dir")


def _check_folders(data: DataConfig) -> None:
    folders = {flag: Path(os.path.realpath(getattr(data, flag))) for flag in _FOLDERS}
    for one, path in folders.items():
        for other, place in folders.items():
            if one != other and (path == place or place in path.parents):
                raise UsageError(
                    f"--{one} is inside --{other} ({escape(place)}): chunks would be taken for recordings; "
                    "give each its own folder"
                )
    sheets = Path(os.path.realpath(data.gallery_dir))
    for one, path in folders.items():
        if sheets == path or path in sheets.parents:
            raise UsageError(f"--gallery_dir is inside --{one} ({escape(path)}): give it its own folder")
    for flag in ("wav_dir", "image_dir"):
        folder = folders[flag]
        if not folder.is_dir() or _described(folder) is not None:
            continue
        # A damaged dataset.json is made anew where the labels' books say whose folder it is.
        if any(data.image_dir.glob(f"*/{JOURNAL_NAME}")):
            continue
        if (folder / DATASET_JSON).exists() or any(os.listdir(folder / label) for label in label_folders(folder)):
            raise UsageError(
                f"--{flag} {escape(folder)} holds files that data_maker.py did not make: name an empty folder"
            )


def _outputs(data: DataConfig) -> dict[Path, str]:
    """The folders that chunks are written to, with their files' ending."""
    return {data.wav_dir: ".wav", data.image_dir: ".jpg"}


def _consequence(outcome: Outcome) -> str:
    return f"kept {pluralise(outcome.heard, 'chunk')} before that" if outcome.heard else "skipped"


def _described(folder: Path) -> dict[str, Any] | None:
    """What dataset.json says, or None where there is none of ours."""
    try:
        content = json.loads((folder / DATASET_JSON).read_bytes())
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) and "picture" in content else None
