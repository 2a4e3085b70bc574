"""Learning of a backbone's voice space: linear discriminant analysis between speakers, and a speech detector."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr
from numpy.typing import NDArray

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from audionet.audio.network_input import image_features
from audionet.audio.recording import Recording
from audionet.audio.samples import is_silent, to_float, to_int16
from audionet.augment.distortion import active_samples, pink_noise
from audionet.backbones.litert import AT_A_TIME, thread_runner
from audionet.backbones.registry import BUNDLED, Backbone, prepare
from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.prototypes import unit_length
from audionet.errors import DatasetError, RecordingError
from audionet.metrics.accuracy import Accuracy, Groups, accuracy
from audionet.metrics.detection import detection
from audionet.pretraining.manifest import Corpus, Utterance
from audionet.pretraining.sounds import decode
from audionet.pretraining.views import segment_views
from audionet.utils.arrays import AnyFloatArray, BoolArray, FloatArray, Int16Array, IntArray, UInt8Array
from audionet.utils.files import write_bytes
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.progress import progress

log = logging.getLogger(__name__)

DIMENSIONS = 128
SPECTROGRAM = dataclasses.replace(SpectrogramConfig(), overlap=2 / 3)
"""Windows of a chunk's length, a second apart."""

FALSE_ALARMS = 0.04
"""Share of the windows without speech that pass for speech: a pause that counts does less harm than speech that does
not, and other people's speech is less like these recordings than their own. Of other recordings, twice as many pass."""

_COMPONENTS = 400  # principal components before the analysis, which more of them would overfit
_SHRINKAGE = 0.5  # of the within-speaker covariance: few speakers are heard in more than one session
_PAUSE_SECONDS = 0.25
_SHORT_SECONDS = (0.3, 1.2)
_NARROW_SHARE = 0.5
_VIEW_STRENGTH = 0.7
_NOISES = 600
_UTTERANCES_PER_TASK = 16


class WindowTask(NamedTuple):
    """Recordings for a worker to compute windows' features of, and the network."""

    paths: tuple[Path, ...]
    network: Path


@dataclass(frozen=True)
class Windows:
    """Features of the windows of recordings.

    Attributes
    ----------
    features : ndarray of float16, shape (n, width)
    recording : ndarray of int64, shape (n,)
        Place of the recording in the task.
    varied : ndarray of float16, shape (2 * m, width)
        Features of one short part of each of m recordings, padded with zeros to a window, every other one at 8 kHz;
        and of one augmented view of each.
    pauses : ndarray of float16, shape (m, width)
        Features of background noise: each recording's quietest part, repeated to a window.
    """

    features: NDArray[np.float16]
    recording: IntArray
    varied: NDArray[np.float16]
    pauses: NDArray[np.float16]


class VoiceSpaceScores(NamedTuple):
    """Results of a voice space on recordings held out of it.

    Attributes
    ----------
    speakers, recordings : int
    equal_error_rate : float
        Of single held-out recordings against the means of their speakers' other recordings.
    speech, other : Accuracy
        Held-out windows of speech, and of other sounds, that the detector gets right.
    """

    speakers: int
    recordings: int
    equal_error_rate: float
    speech: Accuracy
    other: Accuracy


def load_finished(architecture: str) -> tuple[Path, Backbone]:
    """Find a finished backbone by the bundled one's name or its folder; return the folder and the backbone.

    Raises
    ------
    UsageError
        If there is no such backbone.
    """
    folder = BUNDLED / architecture if (BUNDLED / architecture).is_dir() else Path(architecture)
    with tempfile.TemporaryDirectory() as cache:
        found = prepare(str(folder), Path(cache), None, lambda size: np.zeros((1, *size, 3), np.uint8))
        kept = folder / f"{found.name}.tflite"
        if not kept.exists():
            write_bytes(kept, found.path.read_bytes())
    return folder, dataclasses.replace(found, path=kept)


def holds_voices_and_sounds(corpus: Corpus) -> bool:
    """Return whether a corpus has what a voice space is learned from."""
    return "speaker" in corpus.labels and any(dataset.task == "sound" for dataset in corpus.datasets)


def learn_voice_space(corpus: Corpus, backbone: Backbone, workers: int) -> tuple[VoiceSpace, VoiceSpaceScores]:
    """Learn the voice space of a backbone from a corpus of speakers, words and other sounds.

    Speakers give the projection and the cohort. They and words are speech to the detector; other sounds, noise and the
    recordings' own pauses are not.

    Raises
    ------
    DatasetError
        If the corpus has fewer than two speakers, or no other sounds.
    """
    if not holds_voices_and_sounds(corpus):
        raise DatasetError("a voice space needs datasets of speakers and of other sounds: see docs/pretraining.md")
    training, held_out = (_of_utterances(part, backbone, workers) for part in (corpus.training, corpus.held_out))
    tasks = [
        np.array([corpus.datasets[utterance.dataset].task for utterance in part])
        for part in (corpus.training, corpus.held_out)
    ]
    labels = [np.array([utterance.label for utterance in part]) for part in (corpus.training, corpus.held_out)]
    speaks = tasks[0] == "speaker"
    of_speakers = speaks[training.recording]
    features = training.features[of_speakers].astype(np.float32)
    speaker = labels[0][training.recording[of_speakers]]
    # Of both outputs: they distinguish new speakers better than the voice embedding, which knows these, does alone.
    every = np.concatenate([features, training.varied[np.repeat(speaks, 2)].astype(np.float32)])
    of_every = np.concatenate([speaker, np.repeat(labels[0][speaks], 2)])
    projection, offset = discriminant_projection(every, of_every, DIMENSIONS)
    noises = _noise_features(backbone)
    speaking, other = _speech_and_other(training, tasks[0] == "sound")
    speech, speech_offset = fit_speech_detector(speaking, np.concatenate([other, noises[::2]]))
    empty = np.zeros((0, DIMENSIONS), np.float32)
    space = VoiceSpace(projection, offset, empty, speech, speech_offset)
    by_speaker = Groups(speaker.tolist())
    cohort = unit_length(by_speaker.mean(space.directions(features)))
    space = dataclasses.replace(space, cohort=cohort)
    of_held_out = tasks[1][held_out.recording] == "speaker"
    rate, speakers, recordings = _verify(
        space,
        held_out,
        of_held_out,
        labels[1],
        dict(zip(by_speaker.names, cohort, strict=True)),
    )
    speaking, other = _speech_and_other(held_out, tasks[1] == "sound")
    logits, others = (
        space.speech_logits(part.astype(np.float32)) for part in (speaking, np.concatenate([other, noises[1::2]]))
    )
    return space, VoiceSpaceScores(
        speakers,
        recordings,
        rate,
        accuracy(logits > 0),
        accuracy(others <= 0),
    )


def _speech_and_other(windows: Windows, is_sound: BoolArray) -> tuple[NDArray[np.float16], NDArray[np.float16]]:
    """Divide windows into those of speech and others; `is_sound` tells which recordings are of other sounds."""
    whole, varied = is_sound[windows.recording], np.repeat(is_sound, 2)
    return (
        np.concatenate([windows.features[~whole], windows.varied[~varied]]),
        np.concatenate([windows.features[whole], windows.varied[varied], windows.pauses]),
    )


def discriminant_projection(features: FloatArray, speakers: IntArray, dimensions: int) -> tuple[FloatArray, FloatArray]:
    """Find the directions in which speakers differ most for how much one speaker varies (Fisher, 1936; Rao, 1948).

    Features are standardised and reduced to their principal components first. Every speaker counts the same, however
    many windows it has.

    Parameters
    ----------
    features : ndarray of float32, shape (n, width)
    speakers : ndarray of int64, shape (n,)
    dimensions : int

    Returns
    -------
    projection : ndarray of float32, shape (width, dimensions)
    offset : ndarray of float32, shape (dimensions,)
        The mean speaker's projection becomes 0.
    """
    from scipy.linalg import eigh

    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = deviation + 0.05 * np.sqrt(np.mean(deviation**2))
    standardised = (features - mean) / scale
    width = standardised.shape[1]
    components = min(_COMPONENTS, width, len(features) - 1)
    _, axes = eigh(standardised.T @ standardised / len(features), subset_by_index=[width - components, width - 1])
    reduced = standardised @ axes
    groups = Groups(speakers.tolist())
    means = groups.mean(reduced)
    deviations = (reduced - means[groups.member]) / np.sqrt(groups.sizes[groups.member])[:, None]
    within = deviations.T @ deviations / len(groups.names)
    within = (1 - _SHRINKAGE) * within + _SHRINKAGE * np.trace(within) / components * np.eye(components)
    centred = means - means.mean(axis=0)
    kept = min(dimensions, components)
    _, discriminants = eigh(
        centred.T @ centred / len(means), within, subset_by_index=[components - kept, components - 1]
    )
    axes = axes @ discriminants[:, ::-1]
    projection = axes / scale[:, None]
    offset = -(mean @ projection) - means.mean(axis=0) @ discriminants[:, ::-1]
    return projection.astype(np.float32), offset.astype(np.float32)


def fit_speech_detector(speech: AnyFloatArray, other: AnyFloatArray) -> tuple[FloatArray, float]:
    """Fit a linear speech detector; its offset lets `FALSE_ALARMS` of the other windows pass.

    Parameters
    ----------
    speech, other : ndarray of float, shapes (n, width) and (m, width)

    Returns
    -------
    weights : ndarray of float32, shape (width,)
    offset : float
    """
    from sklearn.linear_model import LogisticRegression

    features = np.concatenate([speech, other]).astype(np.float32)
    target = np.arange(len(features)) < len(speech)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    scale = (deviation + 0.05 * np.sqrt(np.mean(deviation**2))) * np.sqrt(features.shape[1])
    fitted = LogisticRegression(C=1.0, class_weight="balanced", max_iter=1000).fit((features - mean) / scale, target)
    weights = (fitted.coef_[0] / scale).astype(np.float32)
    logits = features @ weights
    return weights, -float(np.quantile(logits[~target], 1 - FALSE_ALARMS))


def _verify(
    space: VoiceSpace,
    windows: Windows,
    chosen: BoolArray,
    labels: IntArray,
    means: dict[int, FloatArray],
) -> tuple[float, int, int]:
    """Compare held-out recordings with the means of all speakers; return the equal error rate and the counts."""
    groups = Groups(windows.recording[chosen].tolist())
    found = groups.mean(space.directions(windows.features[chosen].astype(np.float32)))
    true = labels[np.array(groups.names, np.int64)]
    names = np.array(sorted(means))
    scores = found @ np.stack([means[name] for name in names]).T
    result = detection(scores.ravel(), (true[:, None] == names).ravel())
    return float("nan") if result is None else result.equal_error_rate, len(np.unique(true)), len(true)


def _of_utterances(utterances: Sequence[Utterance], backbone: Backbone, workers: int) -> Windows:
    """Compute the features of all windows of recordings, in parallel; recordings that cannot be read are left out."""
    paths = [utterance.path for utterance in utterances]
    place = {path: number for number, path in enumerate(paths)}
    tasks = [
        WindowTask(tuple(paths[i : i + _UTTERANCES_PER_TASK]), backbone.path.absolute())
        for i in range(0, len(paths), _UTTERANCES_PER_TASK)
    ]
    nothing = np.zeros((0, backbone.width), np.float16)
    found = [Windows(nothing, np.zeros(0, np.int64), nothing, nothing)] * len(paths)
    with local_processes(workers) as pool, progress("Windows", "recordings", len(paths)) as advance:
        for task, result in map_unordered(pool, compute_windows, tasks, _split):
            if isinstance(result, WorkerDied):
                log.warning(f"{task.paths[0]}: crashed the process that read it; left out")
            else:
                for number, path in enumerate(task.paths):
                    own = result.recording == number
                    found[place[path]] = Windows(
                        result.features[own],
                        result.recording[own],
                        result.varied[2 * number : 2 * number + 2],
                        result.pauses[number : number + 1],
                    )
            advance(len(task.paths))
    recording = np.repeat(np.arange(len(paths)), [len(one.features) for one in found])
    features, varied, pauses = (
        np.concatenate([getattr(one, name) for one in found]) for name in ("features", "varied", "pauses")
    )
    return Windows(features, recording, varied, pauses)


def compute_windows(task: WindowTask) -> Windows:
    """Compute the features of the windows of some recordings, of a short part and a view of each, and of its pauses."""
    runner = thread_runner(task.network)
    _, height, width, _ = runner.input_shapes[0]
    size = (height, width)
    images: list[bytes] = []
    recording: list[int] = []
    varied: list[UInt8Array] = []
    pauses: list[bytes] = []
    for number, path in enumerate(task.paths):
        chunks: list[Int16Array] = []
        with contextlib.suppress(RecordingError):  # the chunks before the damage are good
            chunks += [chunk.samples for chunk in Recording(path, SPECTROGRAM) if not is_silent(chunk.samples)]
        images += [render(samples, SPECTROGRAM) for samples in chunks]
        recording += [number] * len(chunks)
        generator = np.random.default_rng(int.from_bytes(_digest(path.name), "big"))
        short = render(short_part(chunks, generator), SPECTROGRAM)
        view = short_pixels = image_features(short, size).pixels
        with contextlib.suppress(RecordingError):
            view, _ = segment_views(decode(path), None, 1.0, 1, size, _VIEW_STRENGTH, generator)
        varied += [short_pixels, view]
        pauses.append(render(pause_of(chunks), SPECTROGRAM))
    whole, quiet = (_features(some, task.network) for some in (images, pauses))
    pixels = np.concatenate(varied)
    others = runner.features(pixels, AT_A_TIME).astype(np.float16)
    return Windows(whole, np.array(recording, np.int64), others, quiet)


def _digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest()


def short_part(chunks: Sequence[Int16Array], generator: np.random.Generator) -> Int16Array:
    """Cut a short part around a loud moment of a recording, pad it to a chunk, and narrow every other one to 8 kHz."""
    part = np.zeros(SPECTROGRAM.chunk_length, np.int16)
    if not chunks:
        return part
    chunk = chunks[int(generator.integers(len(chunks)))]
    length = round(generator.uniform(*_SHORT_SECONDS) * SPECTROGRAM.sample_rate)
    loud = np.flatnonzero(active_samples(chunk, SPECTROGRAM.sample_rate))
    start = max(0, int(loud[generator.integers(len(loud))]) - length // 2)
    cut = chunk[start : start + length]
    if generator.random() < _NARROW_SHARE:
        narrow = soxr.resample(to_float(cut), SPECTROGRAM.sample_rate, SPECTROGRAM.sample_rate // 2)
        cut = to_int16(soxr.resample(narrow, SPECTROGRAM.sample_rate // 2, SPECTROGRAM.sample_rate))
    part[: len(cut)] = cut[: len(part)]
    return part


def pause_of(chunks: Sequence[Int16Array]) -> Int16Array:
    """Repeat the quietest quarter of a second of some chunks, forwards and backwards in turn, to a chunk's length."""
    length = round(_PAUSE_SECONDS * SPECTROGRAM.sample_rate)
    whole = np.concatenate([np.zeros(0, np.int16), *chunks])
    blocks = whole[: len(whole) // length * length].reshape(-1, length).astype(np.float64)
    powers = np.square(blocks).mean(axis=1)
    sounding = np.flatnonzero(powers > 4)
    if not len(sounding):
        return np.zeros(SPECTROGRAM.chunk_length, np.int16)
    quietest = blocks[sounding[powers[sounding].argmin()]].astype(np.int16)
    there_and_back = np.concatenate([quietest, quietest[::-1]])
    return np.resize(there_and_back, SPECTROGRAM.chunk_length)


def _noise_features(backbone: Backbone) -> NDArray[np.float16]:
    """Compute the features of generated noise: of several slopes, steady or in bursts, hum and tones."""
    return _features([render(to_int16(sound), SPECTROGRAM) for sound in _noises()], backbone.path.absolute())


def _noises() -> Iterator[FloatArray]:
    generator = np.random.default_rng(0)
    length, rate = SPECTROGRAM.chunk_length, SPECTROGRAM.sample_rate
    time = np.arange(length, dtype=np.float32) / rate
    for number in range(_NOISES):
        white, pink = generator.standard_normal(length).astype(np.float32), pink_noise(length, rate, generator)
        sound = generator.random() * white / np.abs(white).max() + generator.random() * pink / np.abs(pink).max()
        if number % 3 == 1:
            pitch = generator.choice([50, 60, generator.uniform(200, 4000)])
            hum = sum(np.sin(2 * np.pi * pitch * part * time) / part for part in range(1, generator.integers(2, 4)))
            sound = np.float32(10 ** generator.uniform(-2, 0)) * sound + np.asarray(hum, np.float32)
        if number % 5 == 2:
            sound *= np.sin(2 * np.pi * generator.uniform(0.2, 8) * time) > generator.uniform(-0.8, 0.8)
        if number % 4 == 3:
            sound[generator.integers(length // 10, length) :] = 0
        yield (0.5 * sound / np.abs(sound).max()).astype(np.float32)


def _features(images: Sequence[bytes], network: Path) -> NDArray[np.float16]:
    runner = thread_runner(network)
    _, height, width, _ = runner.input_shapes[0]
    pixels = [image_features(jpg, (height, width)).pixels for jpg in images]
    if not pixels:
        return np.zeros((0, runner.output_width), np.float16)
    return runner.features(np.concatenate(pixels), AT_A_TIME).astype(np.float16)


def _split(task: WindowTask) -> list[WindowTask]:
    return [task._replace(paths=(path,)) for path in task.paths]
