"""More voices than were recorded: readers at another pitch, whose formants follow by half or less.

Played faster, all of a voice rises alike. Pitch for itself is the second thing that tells people apart, and both
together give many times as many voices to learn from as there were readers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from audionet.audio.decoding import has_ffmpeg
from audionet.errors import RecordingError
from audionet.pretraining.manifest import Corpus, Utterance
from audionet.pretraining.views import SPECTROGRAM, samples_of
from audionet.utils.arrays import Int16Array
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress

log = logging.getLogger(__name__)


_SECONDS = 120  # for one recording, or it is given up


class _Task(NamedTuple):
    path: Path
    pitch: float
    made: Path


def add_pitch_shifted_speakers(corpus: Corpus, folder: Path, workers: int) -> Corpus:
    """A corpus, and beside each dataset whose manifest asks for it one of its training recordings at other pitches.

    Takes ffmpeg with the rubberband filter; without it the corpus stays as it is, and that is said.

    Parameters
    ----------
    corpus : Corpus
    folder : Path
        Where recordings are kept, from run to run.
    workers : int
        Processes to make them with.
    """
    if not any(source.pitches for source in corpus.sources):
        return corpus
    if not has_rubberband():
        log.warning("no voices at other pitches: they take ffmpeg with the rubberband filter")
        return corpus
    make_folder(folder)
    sources = list(corpus.sources)
    labels = {task: list(names) for task, names in corpus.labels.items()}
    lessons, tasks = [], []
    for number, source in enumerate(corpus.sources):
        if not source.pitches:
            continue
        names = labels[source.task]
        place = {name: i for i, name in enumerate(names)}
        for lesson in (lesson for lesson in corpus.training if lesson.source == number):
            for pitch in source.pitches:
                # To another pitch a speaker is somebody else; a word or a sound stays what it is.
                name = names[lesson.label] + (f" at {pitch:g}" if source.task == "speaker" else "")
                if name not in place:
                    place[name] = len(names)
                    names.append(name)
                made = folder / f"{lesson.path.stem}-{_digest(lesson.path)}-{pitch:g}.flac"
                lessons.append(Utterance(made, len(sources), place[name]))
                tasks.append(_Task(lesson.path, pitch, made))
        sources.append(dataclasses.replace(source, name=f"{source.name}, at other pitches", pitches=()))
    missing = _make(tasks, workers)
    return Corpus(
        sources, labels, corpus.training + [one for one in lessons if one.path not in missing], corpus.held_out
    )


@functools.lru_cache(maxsize=1)
def has_rubberband() -> bool:
    """Whether ffmpeg is installed, and can move a pitch without the formants."""
    if not has_ffmpeg():
        return False
    listed = subprocess.run(["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    return " rubberband " in listed.stdout


def shift_pitch(samples: Int16Array, rate: int, pitch: float) -> Int16Array:
    """Sound as long as before, its pitch `pitch` times as high, its formants nearer to where they were.

    Raises
    ------
    RecordingError
        If ffmpeg fails.
    """
    raw = ("-f", "s16le", "-ar", str(rate), "-ac", "1")
    moved = ("-af", f"rubberband=pitch={pitch:g}:formant=preserved:pitchq=quality")
    command = ["ffmpeg", "-v", "error", *raw, "-i", "pipe:0", *moved, *raw, "pipe:1"]
    try:
        found = subprocess.run(command, input=samples.tobytes(), capture_output=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        raise RecordingError("cannot be brought to another pitch by ffmpeg") from None
    return np.frombuffer(found.stdout, "<i2").astype(np.int16)


def _make(tasks: list[_Task], workers: int) -> set[Path]:
    """Make what is not there yet; returns what cannot be made."""
    missing: set[Path] = set()
    tasks = [task for task in tasks if not task.made.exists()]
    if not tasks:
        return missing
    with local_processes(workers) as pool, progress("Other pitches", "recordings", len(tasks)) as advance:
        for task, trouble in map_unordered(pool, _make_one, tasks, lambda task: [task]):
            if trouble is not None:
                log.warning(
                    f"{task.path}: {'ended the process' if isinstance(trouble, WorkerDied) else trouble}; left out"
                )
                missing.add(task.made)
            advance(1)
    return missing


def _make_one(task: _Task) -> str | None:
    try:
        samples = shift_pitch(samples_of(task.path), SPECTROGRAM.sample_rate, task.pitch)
    except RecordingError as error:
        return str(error)
    with atomic_path(task.made) as temporary:
        soundfile.write(temporary, samples, SPECTROGRAM.sample_rate, format="FLAC")
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(f"{path} {path.stat().st_size}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
