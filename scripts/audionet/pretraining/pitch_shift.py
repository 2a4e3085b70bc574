"""Additional training speakers: pitch-shifted copies of recordings, whose formants move by half as much or less.

Speed perturbation moves pitch and formants alike. Pitch alone is the second cue that distinguishes speakers; together,
the two augmentations multiply the number of training speakers.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import logging
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from audionet.errors import RecordingError
from audionet.pretraining.manifest import Corpus, Utterance
from audionet.pretraining.sounds import SPECTROGRAM, decode
from audionet.utils.arrays import Int16Array
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress

log = logging.getLogger(__name__)

_TIMEOUT_SECONDS = 120  # for one recording


class _Task(NamedTuple):
    path: Path
    pitch: float
    shifted: Path


def add_pitch_shifted_speakers(corpus: Corpus, folder: Path, workers: int) -> Corpus:
    """Add pitch-shifted copies of the training recordings, as one more dataset for each dataset that asks for them.

    Needs ffmpeg with the rubberband filter; without it, a warning is logged and the corpus is returned unchanged.

    Parameters
    ----------
    corpus : Corpus
    folder : Path
        Folder of the pitch-shifted recordings, reused by later runs.
    workers : int
        Number of worker processes.
    """
    if not any(dataset.pitches for dataset in corpus.datasets):
        return corpus
    if not has_rubberband():
        log.warning("no pitch-shifted speakers: install ffmpeg with the rubberband filter to add them")
        return corpus
    make_folder(folder)
    datasets = list(corpus.datasets)
    labels = {task: list(names) for task, names in corpus.labels.items()}
    utterances, tasks = [], []
    for number, dataset in enumerate(corpus.datasets):
        if not dataset.pitches:
            continue
        names = labels[dataset.task]
        index = {name: i for i, name in enumerate(names)}
        for utterance in (utterance for utterance in corpus.training if utterance.dataset == number):
            for pitch in dataset.pitches:
                # Another pitch makes another speaker; a word or a sound keeps its label.
                name = names[utterance.label] + (f" at {pitch:g}" if dataset.task == "speaker" else "")
                if name not in index:
                    index[name] = len(names)
                    names.append(name)
                shifted = folder / f"{utterance.path.stem}-{_digest(utterance.path)}-{pitch:g}.flac"
                utterances.append(Utterance(shifted, len(datasets), index[name]))
                tasks.append(_Task(utterance.path, pitch, shifted))
        # Made voices count half as much as real ones.
        name, weight = f"{dataset.name}, at other pitches", dataset.weight / 2
        datasets.append(dataclasses.replace(dataset, name=name, pitches=(), weight=weight))
    failed = _render(tasks, workers)
    return Corpus(
        datasets,
        labels,
        corpus.training + [utterance for utterance in utterances if utterance.path not in failed],
        corpus.held_out,
    )


@functools.lru_cache(maxsize=1)
def has_rubberband() -> bool:
    """Return whether ffmpeg is installed and has the rubberband filter, which shifts pitch but not formants."""
    if shutil.which("ffmpeg") is None:
        return False
    listed = subprocess.run(["ffmpeg", "-hide_banner", "-filters"], capture_output=True, text=True, check=False)
    return " rubberband " in listed.stdout


def shift_pitch(samples: Int16Array, rate: int, pitch: float) -> Int16Array:
    """Multiply the pitch of a sound by `pitch`; keep its length, and its formants closer to where they were.

    Raises
    ------
    RecordingError
        If ffmpeg fails.
    """
    raw = ("-f", "s16le", "-ar", str(rate), "-ac", "1")
    audio_filter = ("-af", f"rubberband=pitch={pitch:g}:formant=preserved:pitchq=quality")
    command = ["ffmpeg", "-v", "error", *raw, "-i", "pipe:0", *audio_filter, *raw, "pipe:1"]
    try:
        done = subprocess.run(
            command, input=samples.tobytes(), capture_output=True, timeout=_TIMEOUT_SECONDS, check=True
        )
    except (OSError, subprocess.SubprocessError):
        raise RecordingError("ffmpeg cannot shift its pitch") from None
    return np.frombuffer(done.stdout, "<i2").astype(np.int16)


def _render(tasks: list[_Task], workers: int) -> set[Path]:
    """Render the copies that do not exist yet; return the paths of those that failed."""
    failed: set[Path] = set()
    tasks = [task for task in tasks if not task.shifted.exists()]
    if not tasks:
        return failed
    with local_processes(workers) as pool, progress("Pitch shift", "recordings", len(tasks)) as advance:
        for task, error in map_unordered(pool, _render_one, tasks, lambda task: [task]):
            if error is not None:
                log.warning(
                    f"{task.path}: {'crashed the worker process' if isinstance(error, WorkerDied) else error}; left out"
                )
                failed.add(task.shifted)
            advance(1)
    return failed


def _render_one(task: _Task) -> str | None:
    try:
        samples = shift_pitch(decode(task.path), SPECTROGRAM.sample_rate, task.pitch)
    except RecordingError as error:
        return str(error)
    with atomic_path(task.shifted) as temporary:
        soundfile.write(temporary, samples, SPECTROGRAM.sample_rate, format="FLAC")
    return None


def _digest(path: Path) -> str:
    return hashlib.sha256(f"{path} {path.stat().st_size}".encode("utf-8", "surrogateescape")).hexdigest()[:8]
