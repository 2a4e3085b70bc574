"""Output of discovery: a folder of turns and a contact sheet for each voice, the tables of labels, and the page."""

from __future__ import annotations

import logging
from pathlib import Path, PurePath
from typing import NamedTuple

import numpy as np
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import decode, render
from audionet.audio.recording import Recording
from audionet.audio.samples import wav_bytes
from audionet.data.contact_sheet import write_contact_sheet
from audionet.discovery.discover import Discovered
from audionet.discovery.review import REVIEW_JSON, Review, first_naming
from audionet.discovery.turns import LABELS_CSV, VOICES, Turn, by_file, surest_first, turn_path, voice_name
from audionet.errors import RecordingError, UsageError
from audionet.inference.timeline_files import format_time
from audionet.utils.files import WriteBatch, atomic_path, make_folder
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

_SHOWN = 24  # turns on a contact sheet


def check_output(folder: Path, out: Path) -> None:
    """Refuse an output folder that holds voices already, or lies in the folder of recordings.

    Raises
    ------
    UsageError
    """
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"--out {escape(out)} lies in the folder of recordings, which its turns would belong to: name another"
        )
    if any((out / name).exists() for name in (LABELS_CSV, REVIEW_JSON, VOICES)):
        raise UsageError(
            f"{escape(out)} holds the voices of an earlier run: delete the folder, or name another with --out"
        )


def write_voices(found: Discovered, out: Path, workers: int) -> None:
    """Write the turns of each voice and its contact sheet, the tables of labels, and the page.

    Parameters
    ----------
    found : Discovered
    out : Path
        Created if missing.
    workers : int
        Number of processes.
    """
    make_folder(out)
    with atomic_path(out / VOICES) as voices:
        _write_turns(found, voices, workers)
        for voice in range(len(found.names)):
            _write_contact_sheet(found, voice, voices)
    Review(out, found.turns).save(first_naming(found.names, found.turns))


class _WriteTask(NamedTuple):
    recording: Path
    turns: list[Turn]
    voices: Path


def _sound_path(voices: Path, turn: Turn) -> Path:
    """Return a turn's sound file in the folder of voices, which has another name until it is complete."""
    return voices / PurePath(turn_path(turn)).relative_to(VOICES)


def _write_turns(found: Discovered, voices: Path, workers: int) -> None:
    for voice in range(len(found.names)):
        make_folder(voices / voice_name(voice))
    tasks = [_WriteTask(found.folder / file, turns, voices) for file, turns in by_file(found.turns).items()]
    with local_processes(workers) as pool, progress("Writing turns", "recordings", len(tasks)) as advance:
        for task, result in map_unordered(pool, _write_recording, tasks, lambda task: [task]):
            if isinstance(result, WorkerDied):
                log.warning(f"{task.recording}: ended the process that read it; its turns were not written")
            elif result is not None:
                log.warning(f"{task.recording}: {result}")
            advance(1)


def _write_recording(task: _WriteTask) -> str | None:
    """Write the turns of a recording; return why some could not be written."""
    config = SpectrogramConfig()
    excerpts = Recording(task.recording, config).excerpts([(turn.start, turn.end) for turn in task.turns])
    written = 0
    try:
        with WriteBatch() as batch:
            for turn, samples in zip(task.turns, excerpts, strict=False):
                batch.write(_sound_path(task.voices, turn), wav_bytes(samples, config.sample_rate))
                written += 1
    except RecordingError as error:
        # Damage after the last turn has been reported before.
        return None if written == len(task.turns) else f"{error}; {written} of {len(task.turns)} turns written"
    return None


def _write_contact_sheet(found: Discovered, voice: int, voices: Path) -> None:
    config = SpectrogramConfig()
    turns = [turn for turn in found.turns if turn.voice == voice]
    cells: list[tuple[str, Image.Image]] = []
    for turn in surest_first(turns)[:_SHOWN]:
        if (path := _sound_path(voices, turn)).exists():
            chunk = next(iter(Recording(path, config)))
            cells.append((f"{format_time(turn.start)} {escape(turn.file)}", decode(render(chunk.samples, config))))
    total = format_time(float(np.sum([turn.seconds for turn in turns])))
    title = f"{escape(found.names[voice])}: {total} in {pluralise(len(turns), 'turn')}, the surest first"
    write_contact_sheet(voices / f"{voice_name(voice)}.jpg", title, cells, config)
