"""Discovery of voices in recordings without labels."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import decode, render
from audionet.audio.recording import Recording
from audionet.audio.samples import wav_bytes
from audionet.data.contact_sheet import contact_sheet
from audionet.discovery.clustering import ClusterConfig, cluster_voices
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.embeddings import embed_files, find_clips
from audionet.discovery.review import REVIEW_JSON, Review, first_naming
from audionet.discovery.turns import LABELS_CSV, VOICES, Turn, join_pieces, surest_first, turn_path, voice_name
from audionet.errors import DatasetError, RecordingError, UsageError
from audionet.inference.model import load_model
from audionet.inference.timeline_files import format_time
from audionet.metrics.accuracy import Groups
from audionet.utils.files import WriteBatch, atomic_path, make_folder
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

_SHOWN = 24  # turns on a contact sheet
_NAMING_TURNS = 5  # of a voice, by which a model names it


@dataclass(frozen=True)
class Discovered:
    """Voices found in recordings.

    Attributes
    ----------
    folder : Path
        Folder of the recordings.
    turns : list of Turn
        By recording and time.
    names : list of str
        Name of each voice; several may have one name, by which a model knows them.
    """

    folder: Path
    turns: list[Turn]
    names: list[str]


def discover(folder: Path, config: DiscoverConfig, clustering: ClusterConfig) -> Discovered:
    """Find the voices in a folder of recordings: who speaks when, the same voice with one name in all of them.

    Raises
    ------
    DatasetError
        If there is no speech in any recording.
    UsageError, BackboneError, ModelError
        If there is no such folder, no recording in it, no such model, or no voice space; if the output would lie in the
        folder, or holds voices already.
    """
    check_folders(folder, config.out)
    if config.graph is not None:
        load_model(config.graph)  # before the work that it would end
    pieces = embed_files(list(find_clips([folder])), config.embedding, "piece")
    if not pieces.is_speech.any():
        raise DatasetError(f"{escape(folder)}: no speech was found in {pluralise(len(set(pieces.files)), 'recording')}")
    speech = pieces.where(pieces.is_speech)
    recordings = Groups(speech.files).member
    voices = cluster_voices(speech.vectors, speech.start, speech.end, recordings, clustering)
    turns = join_pieces(speech, voices)
    return Discovered(folder, turns, [voice_name(voice) for voice in range(int(voices.labels.max()) + 1)])


def check_folders(folder: Path, out: Path) -> None:
    """Refuse what is no folder of recordings, and an output folder that holds voices already or would be searched."""
    if not folder.is_dir():
        raise UsageError(f"{escape(folder)} is not a folder: name a folder of recordings")
    if out.resolve().is_relative_to(folder.resolve()):
        raise UsageError(
            f"--out {escape(out)} lies in the folder of recordings, which its turns would belong to: name another"
        )
    if any((out / name).exists() for name in (LABELS_CSV, REVIEW_JSON, VOICES)):
        raise UsageError(
            f"{escape(out)} holds the voices of an earlier run: delete the folder, or name another with --out"
        )


def write_discovered(found: Discovered, config: DiscoverConfig) -> Discovered:
    """Write a folder of turns and a contact sheet for each voice, and the tables; name the voices that a model knows.

    Returns
    -------
    Discovered
        The same, with these names.
    """
    make_folder(config.out)
    _write_turns(found, config)
    if config.graph is not None:
        found = _named_by(config.graph, found, config.out)
    for voice in range(len(found.names)):
        _write_contact_sheet(found, voice, config.out)
    Review(config.out, found.turns).save(first_naming(found.names, found.turns))
    return found


class _WriteTask(NamedTuple):
    recording: Path
    turns: list[Turn]
    out: Path


def _write_turns(found: Discovered, config: DiscoverConfig) -> None:
    of_file: dict[str, list[Turn]] = {}
    for turn in found.turns:
        of_file.setdefault(turn.file, []).append(turn)
    for voice in range(len(found.names)):
        make_folder(config.out / VOICES / voice_name(voice))
    tasks = [_WriteTask(found.folder / file, turns, config.out) for file, turns in of_file.items()]
    with local_processes(config.workers) as pool, progress("Writing turns", "recordings", len(tasks)) as advance:
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
                batch.write(task.out / turn_path(turn), wav_bytes(samples, config.sample_rate))
                written += 1
    except RecordingError as error:
        # Damage after the last turn has been reported before.
        return None if written == len(task.turns) else f"{error}; {written} of {len(task.turns)} turns written"
    return None


def _named_by(graph: Path, found: Discovered, out: Path) -> Discovered:
    """Name the voices of which a model knows most turns, of those that are surest."""
    model, names = load_model(graph), list(found.names)
    for voice in range(len(names)):
        turns = surest_first(turn for turn in found.turns if turn.voice == voice)[:_NAMING_TURNS]
        answers = [model.predict(path).label for turn in turns if (path := out / turn_path(turn)).exists()]
        for label in {answer for answer in answers if answer is not None}:
            if 2 * answers.count(label) > len(answers):
                names[voice] = label
    return Discovered(found.folder, found.turns, names)


def _write_contact_sheet(found: Discovered, voice: int, out: Path) -> None:
    config = SpectrogramConfig()
    turns = [turn for turn in found.turns if turn.voice == voice]
    cells: list[tuple[str, Image.Image]] = []
    for turn in surest_first(turns)[:_SHOWN]:
        if (path := out / turn_path(turn)).exists():
            chunk = next(iter(Recording(path, config)))
            cells.append((f"{format_time(turn.start)} {escape(turn.file)}", decode(render(chunk.samples, config))))
    total = format_time(float(np.sum([turn.seconds for turn in turns])))
    title = f"{escape(found.names[voice])}: {total} in {pluralise(len(turns), 'turn')}, the surest first"
    with atomic_path(out / VOICES / f"{voice_name(voice)}.jpg") as temporary:
        contact_sheet(title, cells, config).save(temporary, "JPEG", quality=92)
