"""Synthetic sounds: random settings of a small synthesizer, each a class of its own among the sounds.

Recordings of environmental sounds under a free licence are few. Telling apart what a synthesizer makes of random
settings teaches a network about timbre, rhythm and texture nearly as well as recordings do (Cherep and Singh,
Contrastive learning from synthetic audio doppelgängers, 2024).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from audionet.audio.samples import to_int16
from audionet.pretraining.manifest import Corpus, ManifestDataset, Utterance
from audionet.pretraining.sounds import SPECTROGRAM
from audionet.utils.arrays import Float64Array, FloatArray
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress

log = logging.getLogger(__name__)

_SECONDS = 5.0
_RATE = SPECTROGRAM.sample_rate
_LENGTH = round(_SECONDS * _RATE)
_SOUNDS_PER_TASK = 16
_HIGHEST_PITCH = 7000.0
_WEIGHT = 0.5  # how often they are drawn, relative to a dataset of recordings


class _Task(NamedTuple):
    numbers: list[int]
    paths: list[Path]


def add_synthetic_sounds(corpus: Corpus, folder: Path, count: int, workers: int) -> Corpus:
    """Add synthetic sounds to a corpus, as one more dataset whose recordings are classes of the task ``sound``.

    Parameters
    ----------
    corpus : Corpus
    folder : Path
        Folder of the sounds, reused by later runs.
    count : int
        Number of sounds; 0: none.
    workers : int
        Number of worker processes.
    """
    if not count:
        return corpus
    make_folder(folder)
    paths = [folder / f"{number:05d}.flac" for number in range(count)]
    missing = [number for number in range(count) if not paths[number].exists()]
    parts = [missing[i : i + _SOUNDS_PER_TASK] for i in range(0, len(missing), _SOUNDS_PER_TASK)]
    tasks = [_Task(part, [paths[number] for number in part]) for part in parts]
    if tasks:
        with local_processes(workers) as pool, progress("Synthetic sounds", "sounds", len(missing)) as advance:
            for task, error in map_unordered(pool, _make, tasks, lambda task: [task]):
                if isinstance(error, WorkerDied):
                    log.warning(f"{task.paths[0]}: crashed the process that makes it; left out")
                advance(len(task.numbers))
    labels = {task: list(names) for task, names in corpus.labels.items()}
    names = labels.setdefault("sound", [])
    first, number = len(names), len(corpus.datasets)
    names += [f"synthetic {i}" for i in range(count)]
    dataset = ManifestDataset(
        "Synthetic sounds", folder.name, "sound", None, "made by AudioNet", "synthetic_sounds.py", weight=_WEIGHT
    )
    made = [Utterance(path, number, first + i) for i, path in enumerate(paths) if path.exists()]
    return Corpus([*corpus.datasets, dataset], labels, corpus.training + made, corpus.held_out)


def _make(task: _Task) -> None:
    for number, path in zip(task.numbers, task.paths, strict=True):
        samples = to_int16(synthesize(np.random.default_rng([0, number])))
        with atomic_path(path) as temporary:
            soundfile.write(temporary, samples, _RATE, format="FLAC")


def synthesize(generator: np.random.Generator) -> FloatArray:
    """Make a sound of one to three sources, each with a course and a frequency response, peak 0.5, shape (n,)."""
    sound: Float64Array = np.zeros(_LENGTH)
    for _ in range(int(generator.integers(1, 4))):
        source = _SOURCES[int(generator.integers(len(_SOURCES)))](generator)
        source = filtered(source * course(generator), generator)
        sound += 10 ** generator.uniform(-1, 0) * source / max(float(np.abs(source).max()), 1e-9)
    result: FloatArray = (0.5 * sound / max(float(np.abs(sound).max()), 1e-9)).astype(np.float32)
    return result


def course(generator: np.random.Generator) -> Float64Array:
    """Draw the course of a level: steady, waving, one event, or events that repeat, regularly or not; 0 to 1."""
    time = np.arange(_LENGTH) / _RATE
    kind = int(generator.integers(4))
    if kind == 0:
        return np.ones(_LENGTH)
    if kind == 1:
        depth, rate = generator.uniform(0.3, 1), np.exp(generator.uniform(np.log(0.3), np.log(20)))
        waving: Float64Array = 1 - depth * (0.5 + 0.5 * np.sin(2 * np.pi * (rate * time + generator.random())))
        return waving
    rise, fall = np.exp(generator.uniform(np.log([0.002, 0.03]), np.log([0.3, 2.0])))
    gap = _SECONDS if kind == 2 else np.exp(generator.uniform(np.log(0.1), np.log(1.5)))
    starts = np.arange(generator.uniform(0, 0.5 * gap), _SECONDS, gap)
    if generator.random() < 0.5:
        starts = np.maximum(0, starts + generator.uniform(-0.4, 0.4, len(starts)) * gap)
    level = np.zeros(_LENGTH)
    for start in starts:
        since = np.maximum(time - start, 0)
        event = np.minimum(since / rise, np.exp(-np.maximum(since - rise, 0) / fall))
        level = np.maximum(level, generator.uniform(0.5, 1) * event)
    return level


def filtered(sound: Float64Array, generator: np.random.Generator) -> Float64Array:
    """Filter a sound by a random smooth response of up to 40 dB, and a few resonances."""
    spectrum, frequencies = np.fft.rfft(sound), np.fft.rfftfreq(_LENGTH, 1 / _RATE)
    octaves = np.log2(np.maximum(frequencies, 30) / 30)
    knots = np.linspace(0, octaves[-1], 7)
    decibels = np.interp(octaves, knots, generator.uniform(-40, 0, len(knots)))
    for _ in range(int(generator.integers(4))):
        centre, width = generator.uniform(1, octaves[-1]), generator.uniform(0.03, 0.3)
        decibels += generator.uniform(5, 25) * np.exp(-np.square((octaves - centre) / width))
    shaped: Float64Array = np.fft.irfft(spectrum * 10 ** (decibels / 20), _LENGTH)
    return shaped


def _noise(generator: np.random.Generator) -> Float64Array:
    return generator.standard_normal(_LENGTH)


def _tone(generator: np.random.Generator) -> Float64Array:
    """Return a harmonic tone that glides and wavers."""
    parts = np.arange(1.0, float(generator.integers(2, 30)))
    amplitudes, phase = np.power(parts, -generator.uniform(0.3, 2.5)), _phase(generator)
    tone: Float64Array = amplitudes @ np.sin(parts[:, None] * phase)
    return tone


def _modulated(generator: np.random.Generator) -> Float64Array:
    """Return a frequency-modulated tone, metallic or rough (Chowning, 1973)."""
    carrier, ratio, index = _phase(generator), generator.uniform(0.1, 5), generator.uniform(0.5, 12)
    modulated: Float64Array = np.sin(carrier + index * np.sin(ratio * carrier))
    return modulated


def _impulses(generator: np.random.Generator) -> Float64Array:
    """Return impulses at random moments, through a decaying resonance: drops, clicks, crackling, knocks."""
    sound = np.zeros(_LENGTH)
    number = int(np.exp(generator.uniform(np.log(2), np.log(400))))
    sound[generator.integers(_LENGTH, size=number)] = generator.standard_normal(number)
    time = np.arange(_RATE // 2) / _RATE
    frequency, decay = np.exp(generator.uniform(np.log([100, 0.002]), np.log([6000, 0.1])))
    ring = np.sin(2 * np.pi * frequency * time) * np.exp(-time / decay)
    size = 2 * _LENGTH
    rung: Float64Array = np.fft.irfft(np.fft.rfft(sound, size) * np.fft.rfft(ring, size), size)[:_LENGTH]
    return rung


def _phase(generator: np.random.Generator) -> Float64Array:
    """Return the phase of an oscillator whose pitch glides between random points and wavers."""
    glide, points = generator.choice([0.0, 0.05, 0.6]), int(generator.integers(2, 8))
    log_pitch = generator.uniform(np.log(50), np.log(3000)) + generator.normal(0, glide, points)
    time = np.arange(_LENGTH) / _RATE
    pitch = np.interp(time, np.linspace(0, _SECONDS, points), log_pitch)
    waver = generator.uniform(0, 0.05) * np.sin(2 * np.pi * generator.uniform(2, 12) * time)
    phase: Float64Array = 2 * np.pi * np.cumsum(np.minimum(np.exp(pitch + waver), _HIGHEST_PITCH)) / _RATE
    return phase


_SOURCES = (_noise, _tone, _modulated, _impulses)
