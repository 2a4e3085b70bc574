"""Incremental rendering of a folder of recordings to folders of WAV chunks and spectrogram images."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.audio.config import SpectrogramConfig
from audionet.audio.sound import ChannelChoice
from audionet.audio.spectrogram import check_bands
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
from audionet.data.config import DataConfig, parse_columns
from audionet.data.dataset import Assigned, dataset_json
from audionet.data.hub_dataset import TABLE_NAME, write_recordings
from audionet.data.hub_splits import parse_hub_name
from audionet.data.journal import (
    JOURNAL_NAME,
    Journal,
    Outcome,
    Summary,
    fingerprint,
    join_pieces,
)
from audionet.data.label_table import LabelledParts, read_label_table
from audionet.data.naming import (
    DATASET_JSON,
    ChunkName,
    chunk_name,
    label_folders,
    parse_channel_name,
    recording_name,
    separate_labels,
)
from audionet.data.recording_files import LabelFolders, RecordingFile, RecordingSource
from audionet.data.render_tasks import (
    LARGE_BYTES,
    Piece,
    PieceProgress,
    PieceTask,
    piece_batches,
    pieces_of,
    render_pieces,
    source_of,
    split_pieces,
)
from audionet.errors import DamagedError, DatasetError, UsageError
from audionet.utils.files import PathLike, exclusive_lock, make_folder, write_json
from audionet.utils.json_files import parse_json
from audionet.utils.parallel import Pool, WorkerDied, map_unordered, worker_pool
from audionet.utils.progress import ProgressCallback, calling, progress
from audionet.utils.settings import from_parameters
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

_NO_COPIES = AugmentConfig()


@dataclass(frozen=True)
class Result:
    """Result of `render_folder`.

    Attributes
    ----------
    labels : dict of str to Summary
    rendered, unchanged : int
        Number of recordings.
    removed : int
        Number of files.
    varied : int
        Number of augmented copies rendered.
    """

    labels: dict[str, Summary]
    rendered: int
    unchanged: int
    removed: int
    varied: int


def render_folder(data: DataConfig, config: SpectrogramConfig, augment: AugmentConfig = _NO_COPIES) -> Result:
    """Render every recording under ``data.audio_dir`` that has not been rendered yet with these settings.

    Chunks and images of deleted recordings are removed, and so are augmented copies that are no longer requested.
    A run that is killed and started again gives the same result.

    Raises
    ------
    UsageError
        If the settings leave rows of the images empty, the folders overlap, or an output folder holds files that
        data_maker.py did not write.
    DatasetError
        If there are no recordings, or ``data.dataset`` cannot be used.
    AudioNetError
        If another run is using an output folder, or the Dask cluster cannot be used.
    OSError
        If an output cannot be written.
    """
    check_bands(config)
    hub, columns = None if data.dataset is None else parse_hub_name(data.dataset), parse_columns(data.label_columns)
    if hub is not None:
        folder = data.dataset_dir / hub.folder_name
        table = folder / TABLE_NAME
        data = dataclasses.replace(data, dataset=None, audio_dir=folder, labels=table, label_columns=None)
    data = dataclasses.replace(data, **{flag: getattr(data, flag).absolute() for flag in _FOLDERS})
    _check_folders(data)
    if hub is not None:
        write_recordings(hub, data.audio_dir, columns)
    source, assigned = _source(data)
    survey = _survey(source)
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
        run = _RenderRun(data, config, source, survey, assigned)
        reads = [data.audio_dir] if augment.noise_dir is None else [data.audio_dir, augment.noise_dir]
        with worker_pool(data.workers, data.scheduler, reads, list(run.outputs)) as pool:
            run.render(pool)
            run.augment(pool, augment, recipe)
        return run.result()


def render(
    audio_dir: PathLike | None,
    image_dir: PathLike,
    wav_dir: PathLike | None = None,
    progress: ProgressCallback | None = None,
    **settings: Any,
) -> Result:
    """Render a folder of recordings to spectrogram images; only what has changed since the last call.

    Parameters
    ----------
    audio_dir : str or path, or None
        Recordings, one folder per label; never changed. None with ``dataset``, whose recordings go to ``dataset_dir``.
    image_dir : str or path
        Output folder for the images and dataset.json.
    wav_dir : str or path, optional
        Output folder for the WAV chunks; default: beside the images, ``<image_dir>_wav``.
    progress : callable, optional
        Called with the name of the work, the amount done and the total.
    **settings
        Fields of `SpectrogramConfig`, `AugmentConfig` and `DataConfig`, such as ``chunk_seconds``, ``augment``,
        ``workers``.

    Returns
    -------
    Result
        ``labels`` gives, for each label, the number of recordings and chunks used, and the skipped files with their
        reasons.

    Raises
    ------
    TypeError
        If a setting does not exist or has the wrong type.
    UsageError
        If a setting is out of range, or the folders overlap.
    DatasetError
        If there are no recordings.

    Examples
    --------
    >>> result = audionet.render(audio_dir, folder / "data_image", workers=1, chunk_seconds=0.5)
    >>> sorted(result.labels), result.rendered
    (['ann', 'bob'], 2)
    """
    folders = {"image_dir": image_dir, "wav_dir": wav_dir or f"{os.fspath(image_dir)}_wav"}
    if audio_dir is not None:
        folders["audio_dir"] = audio_dir
    configs = from_parameters("render", folders | settings, DataConfig, SpectrogramConfig, AugmentConfig)
    with calling(progress):
        return render_folder(*configs)


def _source(data: DataConfig) -> tuple[RecordingSource, Assigned | None]:
    """Return the recordings of each label, those in its folder or those of a label table, and what that assigns."""
    if data.labels is None:
        return LabelFolders(data.audio_dir, data.channel_setting == "split"), None
    columns = parse_columns(data.label_columns)
    joins = {"auto": None, "on": True, "off": False}[data.multi_label]
    table = read_label_table(data.labels, data.audio_dir, columns, data.background, data.channel_setting, joins)
    files = {parse_channel_name(name)[0] for recordings in table.parts.values() for name in recordings}
    labels = {label for joined in table.parts for label in (separate_labels(joined) if table.multi_label else [joined])}
    several = ", several at a time" if table.multi_label else ""
    lost = (
        f", {table.overlapping:.1f} s with {'too many' if table.multi_label else 'several'} labels are left out"
        if table.overlapping
        else ""
    )
    log.info(
        f"{escape(data.labels)}: {pluralise(table.rows, 'row')} label {pluralise(len(files), 'recording')} with "
        f"{pluralise(len(labels), 'label')}{several}{lost}"
    )
    named = [{recording_name(file): value for file, value in found.items()} for found in (table.groups, table.splits)]
    return LabelledParts(table, data.audio_dir), Assigned(*named)


@dataclass
class _Survey:
    """Sizes of the recordings.

    Attributes
    ----------
    recordings : int
        Number of recordings.
    size : int
        Bytes in all.
    largest : dict of str to int
        Bytes of each label's largest recording.
    """

    recordings: int = 0
    size: int = 0
    largest: dict[str, int] = dataclasses.field(default_factory=dict)


def _survey(source: RecordingSource) -> _Survey:
    survey = _Survey()
    for label in source.labels:
        survey.largest[label] = 0
        for size in source.sizes(label):
            survey.recordings += 1
            survey.size += size
            survey.largest[label] = max(survey.largest[label], size)
    return survey


class _RenderRun:
    """State of one run over all labels."""

    def __init__(
        self,
        data: DataConfig,
        config: SpectrogramConfig,
        source: RecordingSource,
        survey: _Survey,
        assigned: Assigned | None,
    ) -> None:
        self.data = data
        self.config = config
        self.outputs = _outputs(data)
        self.settings = fingerprint(config, data.channel)
        self.channel: ChannelChoice = "auto" if data.channel_setting == "split" else data.channel_setting
        self.source, self.survey, self.assigned = source, survey, assigned
        self.summaries: dict[str, Summary] = {}
        self.rendered = self.unchanged = self.removed = self.varied = 0
        self._journals: dict[str, Journal] = {}
        self._unscheduled: set[str] = set()
        self._piece_outcomes: dict[tuple[str, str], dict[int, Outcome]] = {}
        self._piece_counts: dict[tuple[str, str], int] = {}
        self._advance: Callable[[float], object] = lambda amount: None
        self._progress: dict[tuple[str, str], PieceProgress] = {}
        self._previous = _read_dataset_json(data.image_dir)
        self._augmentation: dict[str, Any] | None = self._previous.get("augmentation") if self._previous else None
        self._marked_incomplete = False

    def render(self, pool: Pool) -> None:
        """Render missing chunks, and remove obsolete ones."""
        labels = sorted(set(self.survey.largest) | {label for f in self.outputs for label in label_folders(f)})
        with progress("Rendering", "B", self.survey.size) as self._advance:
            tasks = self._tasks(labels, pool)
            for task, outcomes in map_unordered(pool, render_pieces, tasks, split_pieces, self._report_progress):
                for piece, outcome in zip(task.pieces, _outcomes(outcomes, task), strict=True):
                    self._add_outcome(task.label, piece, outcome)

    def augment(self, pool: Pool, augment: AugmentConfig, recipe: Recipe | None) -> None:
        """Render missing augmented copies, and remove obsolete ones."""
        described = recipe.described() if recipe else None
        if described != self._augmentation:
            # Copies of two recipes have the same names: remove all old ones before the new recipe is written down.
            self._augmentation = {}
            self._write_dataset_json({}, complete=False)
            for label in self.summaries:
                self._remove_copies(label, copies_present(label, self.outputs, set(self._chunks(label))))
            self._augmentation = described
            self._write_dataset_json({}, complete=False)
        if recipe is None:
            return
        totals = copies_by_label({label: summary.chunks for label, summary in self.summaries.items()}, augment)
        with progress("Augmenting", "copies", sum(totals.values())) as self._advance:
            tasks = self._copy_tasks(totals, recipe)
            for task, done in map_unordered(pool, render_copies, tasks, split_copies):
                self._advance(len(task.copies))
                if isinstance(done, WorkerDied):
                    name = chunk_name(*task.copies[0][:2], "", task.copies[0].copy)
                    log.warning(f"{task.label}/{name}: ended the worker process twice; skipped")
                    self.summaries[task.label].variants -= 1
                else:
                    self.varied += done
        for label, summary in self.summaries.items():
            for folder in self.outputs if self.varied and summary.variants else ():
                make_folder(folder / label, alone=True)

    def result(self) -> Result:
        """Write dataset.json, unless it is up to date, and return the run's result."""
        labels = dict(sorted(self.summaries.items()))
        summaries = {label: dataclasses.asdict(summary) for label, summary in labels.items()}
        current = dataset_json(self.config, summaries, self._augmentation, True, self.assigned)
        if self._marked_incomplete or self._previous != current:
            self._write_dataset_json(summaries, complete=True)
        return Result(labels, self.rendered, self.unchanged, self.removed, self.varied)

    def _write_dataset_json(self, labels: dict[str, Any], complete: bool) -> None:
        for folder in self.outputs:
            write_json(
                folder / DATASET_JSON, dataset_json(self.config, labels, self._augmentation, complete, self.assigned)
            )
        self._marked_incomplete = not complete

    def _copy_tasks(self, totals: dict[str, int], recipe: Recipe) -> Iterator[CopyTask]:
        for label, summary in self.summaries.items():
            chunks = self._chunks(label)
            expected = copies_of(label, chunks, totals[label])
            summary.variants = len(expected)
            present = copies_present(label, self.outputs, set(chunks))
            missing = {name for name in expected if self.data.force or present.get(name) != len(self.outputs)}
            surplus = set(present) - expected
            if (missing or surplus) and not self._marked_incomplete:
                self._write_dataset_json({}, complete=False)
            self._remove_copies(label, surplus)
            self._advance(len(expected) - len(missing))
            for batch in copy_batches(missing):
                yield CopyTask(label, batch, self.outputs, self.config, recipe)

    def _chunks(self, label: str) -> list[tuple[str, int]]:
        return list(self._open_journal(label, force=False).chunks())

    def _remove_copies(self, label: str, copies: Iterable[ChunkName]) -> None:
        for name in copies:
            for folder, suffix in self.outputs.items():
                path = folder / label / chunk_name(name.recording, name.number, suffix, name.copy)
                path.unlink(missing_ok=True)
                self.removed += 1

    def _tasks(self, labels: Sequence[str], pool: Pool) -> Iterator[PieceTask]:
        """Yield all tasks, large recordings first, so that no worker renders one alone at the end."""
        largest = self.survey.largest
        large = [label for label in labels if largest.get(label, 0) >= LARGE_BYTES]
        self._unscheduled = set(labels)
        for label in sorted(large, key=lambda label: -largest[label]):
            journal = self._journal_of(label)
            for source in journal.missing:
                if source.size >= LARGE_BYTES:
                    yield from (self._task(label, [piece]) for piece in self._pieces_of(journal, source, pool))
        for label in labels:
            journal = self._journal_of(label)
            small = [source for source in journal.missing if source.size < LARGE_BYTES]
            for batch in piece_batches(small):
                for source in batch:
                    self._piece_counts[label, source.file] = 1
                yield self._task(label, [Piece(s, known=journal.known.get(s.file)) for s in batch])
            self._unscheduled.discard(label)
            self._close_if_finished(label)

    def _task(self, label: str, pieces: list[Piece]) -> PieceTask:
        return PieceTask(label, pieces, self.source.folder(label), self.outputs, self.config, self.channel)

    def _open_journal(self, label: str, force: bool) -> Journal:
        return Journal(label, self.source.find(label), self.outputs, self.settings, force)

    def _journal_of(self, label: str) -> Journal:
        """Return a label's journal, opened on first use: memory grows with one label, not with all."""
        if label in self._journals:
            return self._journals[label]
        journal = self._open_journal(label, self.data.force)
        self._journals[label] = journal
        self.unchanged += len(journal.outcomes)
        self._advance(sum(source.size for source in journal.sources if source.file in journal.outcomes))
        if not journal.unchanged:
            if not self._marked_incomplete:
                self._write_dataset_json({}, complete=False)
            if journal.missing:
                journal.begin()
        return journal

    def _pieces_of(self, journal: Journal, source: RecordingFile, pool: Pool) -> list[Piece]:
        label, known = journal.label, journal.known.get(source.file)
        sound = source_of(self.source.folder(label), source, self.channel)
        pieces, seconds = pieces_of(source, sound, self.config, known, pool)
        self._piece_counts[label, source.file] = len(pieces)
        if seconds is not None:
            folder, suffix = list(journal.folders.items())[-1]
            self._progress[label, source.file] = PieceProgress(source, folder, suffix, seconds)
        return pieces

    def _add_outcome(self, label: str, piece: Piece, outcome: Outcome) -> None:
        key, journal = (label, piece.source.file), self._journals[label]
        outcomes = self._piece_outcomes.setdefault(key, {})
        outcomes[piece.first] = outcome
        tracked = self._progress.pop(key, None)
        reported = tracked.done if tracked else 0.0
        self._advance(piece.source.size * (1 / self._piece_counts[key] - reported))
        if len(outcomes) < self._piece_counts[key]:
            return
        del self._piece_outcomes[key], self._piece_counts[key]
        whole = join_pieces(outcomes[first] for first in sorted(outcomes))
        if whole.kept:
            self.unchanged += 1
        else:
            self.rendered += 1
        if whole.note and not whole.kept:
            log.warning(f"{label}/{piece.source.file}: {whole.note}; {_consequence(whole)}")
        journal.record(piece.source, whole)
        self._close_if_finished(label)

    def _close_if_finished(self, label: str) -> None:
        journal = self._journals[label]
        if label in self._unscheduled or not journal.finished:
            return
        if not journal.unchanged:
            self.removed += journal.close()
        if untracked := journal.untracked_images():
            log.warning(
                f"{label}: {pluralise(untracked, 'image')} of unknown recordings in {list(journal.folders)[-1]}; "
                "kept, but retrain.py would train on them: remove those that are not yours"
            )
        if journal.sources or label in self.survey.largest:
            self.summaries[label] = journal.summary()
        del self._journals[label]

    def _report_progress(self) -> None:
        """Report the progress within long recordings that one worker renders from beginning to end."""
        for tracked in self._progress.values():
            self._advance(tracked.source.size * tracked.newly_done(self.config))


def _outcomes(outcomes: list[Outcome] | WorkerDied, task: PieceTask) -> list[Outcome]:
    if isinstance(outcomes, WorkerDied):
        note = "ended the worker process twice (by a crash or lack of memory)"
        return [Outcome(0, 0, [], note, final=False) for _ in task.pieces]
    return outcomes


_FOLDERS = ("wav_dir", "image_dir", "audio_dir")


def _check_folders(data: DataConfig) -> None:
    folders = {flag: Path(os.path.realpath(getattr(data, flag))) for flag in _FOLDERS}
    for one, path in folders.items():
        for other, parent in folders.items():
            if one != other and (path == parent or parent in path.parents):
                raise UsageError(
                    f"--{one} is inside --{other} ({escape(parent)}): chunks would be mistaken for recordings; "
                    "give each its own folder"
                )
    sheets = Path(os.path.realpath(data.gallery_dir))
    for one, path in folders.items():
        if sheets == path or path in sheets.parents:
            raise UsageError(f"--gallery_dir is inside --{one} ({escape(path)}): give it its own folder")
    for flag in ("wav_dir", "image_dir"):
        folder = folders[flag]
        if not folder.is_dir() or _read_dataset_json(folder) is not None:
            continue
        # A damaged dataset.json is written anew if journals show that data_maker.py made the folder.
        if any(data.image_dir.glob(f"*/{JOURNAL_NAME}")):
            continue
        if (folder / DATASET_JSON).exists() or any(os.listdir(folder / label) for label in label_folders(folder)):
            raise UsageError(
                f"--{flag} {escape(folder)} holds files that data_maker.py did not make: name an empty folder"
            )


def _outputs(data: DataConfig) -> dict[Path, str]:
    """Return the output folders, each with the suffix of its files."""
    return {data.wav_dir: ".wav", data.image_dir: ".jpg"}


def _consequence(outcome: Outcome) -> str:
    return f"kept {pluralise(outcome.audible, 'chunk')}" if outcome.audible else "skipped"


def _read_dataset_json(folder: Path) -> dict[str, Any] | None:
    """Read dataset.json; return None if there is none, or none that data_maker.py wrote."""
    try:
        content = parse_json((folder / DATASET_JSON).read_bytes())
    except (OSError, DamagedError):
        return None
    return content if "picture" in content else None
