"""Linear probes of frozen backbones, and baselines without a network, on the same clips."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from audionet.audio.config import SpectrogramConfig
from audionet.audio.resampling import resample_samples
from audionet.augment.distortion import CLEAN, TITLES
from audionet.backbones.inception import FeatureLayer, inception_v3
from audionet.backbones.litert import AT_A_TIME, CONVERT_AGAIN, Runner
from audionet.backbones.registry import Backbone, convert_trained, prepare
from audionet.backbones.resemblyzer import has_resemblyzer
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.errors import DatasetError, RecordingError
from audionet.metrics.accuracy import Groups
from audionet.probing.classifiers import ProbeExamples, fit_linear_probe, fit_mixtures
from audionet.probing.config import ProbeConfig
from audionet.probing.features import (
    BANDS,
    FRAMES,
    MFCC,
    RESEMBLYZER,
    ClipFeatures,
    Extraction,
    Network,
    describe_clip,
    extract_clips,
    stack_pixels,
)
from audionet.probing.few_shot import few_shot
from audionet.probing.results import FeatureSet, ProbeResult, ProbeRun, TaskResult
from audionet.probing.tasks import (
    Excerpt,
    ProbeMaterial,
    ProbeTask,
    find_materials,
    find_verification,
    read_excerpt,
)
from audionet.probing.verification import VerificationResult, verify
from audionet.utils.arrays import FloatArray, UInt8Array, evenly
from audionet.utils.files import make_folder
from audionet.utils.parallel import Pool, local_processes

log = logging.getLogger(__name__)

RANDOM = "random"
"""Name of the untrained backbone."""

MIXTURES = "MFCC + GMM"

JOINED = {"bands": BANDS, "mfcc": MFCC}
"""Names, in the table, of the statistics that a backbone may append."""

_RANDOM_SIDE = 128
_RANDOM_SEED = 0
_SAMPLE_IMAGES = 32
_TIMED_RUNS = 3


def prepare_probing(config: ProbeConfig) -> ProbeRun:
    """Find the recordings and the backbones.

    Raises
    ------
    DatasetError
        If there are no recordings to probe with.
    UsageError, BackboneError
        If a backbone is not available.
    """
    materials, notes = find_materials(config)
    samples = sample_images(materials, config)
    backbones = []
    for name, endpoint, pooling in map(_parse_backbone, config.backbones):
        if name == RANDOM:
            backbones.append(random_backbone(config.model_dir, stack_pixels(samples, (_RANDOM_SIDE, _RANDOM_SIDE))))
            continue
        backbones += [
            prepare(
                name,
                config.model_dir,
                config.input_size,
                lambda size: stack_pixels(samples, size),
                endpoint,
                pooling,
                quantise,
            )
            for quantise in ((True, False) if config.float32 else (True,))
        ]
    verification = find_verification(config)
    if not has_resemblyzer():
        notes.append("left out: Resemblyzer is not installed; pip install resemblyzer brings it")
    return ProbeRun(config, materials, notes, backbones, samples, verification)


def sample_images(materials: Sequence[ProbeMaterial], config: ProbeConfig) -> list[bytes]:
    """Render images of evenly spaced recordings, for the conversion and timing of networks.

    Raises
    ------
    DatasetError
        If none of them can be decoded.
    """
    found = []
    excerpts = [(material, excerpt) for material in materials for excerpt in material.excerpts]
    for place in evenly(len(excerpts), _SAMPLE_IMAGES):
        material, excerpt = excerpts[place]
        image = SpectrogramConfig(chunk_seconds=material.clip_seconds)
        try:
            samples, rate = read_excerpt(excerpt, image.sample_rate, config.max_seconds)
        except RecordingError:
            continue  # reported when its features are extracted
        piece = resample_samples(samples, rate, image.sample_rate)[: image.chunk_length]
        found.append(describe_clip(piece, image)[0])
    if not found:
        raise DatasetError(f"{config.data_dir}: none of {_SAMPLE_IMAGES} recordings tried can be decoded")
    return found


def random_backbone(model_dir: Path, samples: UInt8Array) -> Backbone:
    """Create an untrained Inception-v3 with fixed random weights, for images of 128 x 128.

    Its features vary from image to image by a fiftieth of their mean. The mean is subtracted, so that the check of the
    converted network compares the variation.
    """
    import_tensorflow()
    import keras

    keras.utils.set_random_seed(_RANDOM_SEED)
    network = inception_v3((_RANDOM_SIDE, _RANDOM_SIDE), FeatureLayer())
    features = network.predict(samples.astype(np.float32), verbose=0)
    deviation = max(float(features.std(axis=0).mean()), 1e-12)
    centred = keras.layers.Normalization(mean=features.mean(axis=0), variance=np.full(features.shape[1], deviation**2))(
        network.output
    )
    folder = model_dir / "converted"
    make_folder(folder)
    return convert_trained(keras.Model(network.input, centred), "inception_v3_random", None, samples, folder)


def probe(run: ProbeRun) -> Iterator[TaskResult]:
    """Yield the results of each task. Recordings that cannot be used are excluded with a warning.

    Raises
    ------
    DatasetError
        If too few recordings can be decoded to probe with.
    """
    networks = _networks(run.backbones)
    own = [FeatureSet(network.name, network.parts) for network in networks]
    own += [FeatureSet(part, (part,)) for network in networks if network.voice_width for part in network.parts]
    own += [
        FeatureSet(f"{network.name} and {JOINED[backbone.statistics]}", (*network.parts, JOINED[backbone.statistics]))
        for network, backbone in zip(networks, run.backbones, strict=True)
        if backbone.statistics is not None
    ]
    resemblyzer = has_resemblyzer()
    sets = [FeatureSet(MFCC, (MFCC,)), FeatureSet(BANDS, (BANDS,)), FeatureSet(MIXTURES, (FRAMES,))]
    sets += [FeatureSet(RESEMBLYZER, (RESEMBLYZER,))] if resemblyzer else []
    with local_processes(run.config.workers) as pool:
        for material in run.materials:
            started = time.perf_counter()
            clips = _extract(pool, material, networks, resemblyzer, run.config)
            seconds = time.perf_counter() - started
            for task in material.tasks:
                result = probe_task(material, task, clips, [*sets, *own], run.config.seed)
                shots = few_shot(material, task, clips, [*sets, *own], run.config.seed)
                yield dataclasses.replace(result, feature_seconds=seconds, few_shot=shots)


def verify_speakers(run: ProbeRun) -> Iterator[VerificationResult]:
    """Yield the results of each verification material, clean."""
    networks, resemblyzer = _networks(run.backbones), has_resemblyzer()
    config = dataclasses.replace(run.config, conditions="none")
    with local_processes(config.workers) as pool:
        for material in run.verification:
            recordings = ProbeMaterial(material.excerpts, [], material.split, material.clip_seconds)
            clips = _extract(pool, recordings, networks, resemblyzer, config)
            spaces = [backbone.voice_space for backbone in run.backbones]
            result = verify(material, clips, networks, spaces, config.seed) if clips else None
            if result is not None:
                yield result


def _parse_backbone(text: str) -> tuple[str, str | None, str | None]:
    """Split ``name#endpoint#pooling`` into a backbone's name, its feature layer and pooling."""
    name, endpoint, pooling = [*text.split("#"), "", ""][:3]
    return name, endpoint or None, pooling or None


def _networks(backbones: Sequence[Backbone]) -> tuple[Network, ...]:
    return tuple(
        Network(name, backbone.path.absolute(), backbone.input_size, backbone.voice_width)
        for name, backbone in zip(_display_names(backbones), backbones, strict=True)
    )


def _display_names(backbones: Sequence[Backbone]) -> list[str]:
    """Return unique names of backbones: with the feature layer if names repeat, or else with the identity."""
    name_parts: list[Callable[[Backbone], tuple[str | None, ...]]] = [
        lambda backbone: (backbone.name,),
        lambda backbone: (backbone.name, backbone.endpoint, backbone.pooling),
        lambda backbone: (backbone.name, backbone.endpoint, backbone.pooling, backbone.arithmetic),
        lambda backbone: (backbone.name, backbone.identity[:6]),
    ]
    for parts_of in name_parts:
        names = [" ".join(filter(None, parts_of(backbone))) for backbone in backbones]
        if len(set(names)) == len(names):
            break
    return names


def _extract(
    pool: Pool, material: ProbeMaterial, networks: tuple[Network, ...], resemblyzer: bool, config: ProbeConfig
) -> list[ClipFeatures]:
    work = Extraction(
        list(enumerate(material.excerpts)),
        material,
        config.kinds,
        networks,
        config.max_seconds,
        config.seed,
        resemblyzer,
    )
    clips, unusable = extract_clips(pool, work)
    for excerpt, reason in unusable:
        log.warning(f"{excerpt.path}: {reason}; left out")
    return clips


def probe_task(
    material: ProbeMaterial, task: ProbeTask, clips: Sequence[ClipFeatures], sets: Sequence[FeatureSet], seed: int
) -> TaskResult:
    """Fit a probe on each set of features in each fold, and compare its predictions with the labels.

    Raises
    ------
    DatasetError
        If a fold has fewer than two training labels, or there are no test clips.
    """
    labels = sorted(set(task.labels))
    of_clip = np.array([labels.index(task.labels[clip.excerpt]) for clip in clips], np.int64)
    folds = folds_of(material.excerpts, task, clips)
    if not folds or any(len(np.unique(of_clip[training])) < 2 for training, _ in folds):
        raise DatasetError(f"{task.title}: too few usable recordings: training and test need two labels")
    tested = np.sort(np.concatenate([testing for _, testing in folds]))
    units = Groups(
        (clips[i].excerpt, clips[i].condition, clips[i].start if material.unit == "clip" else 0.0) for i in tested
    )
    answers = {
        condition: np.array([place for place, name in enumerate(units.names) if name[1] == condition], np.int64)
        for condition in TITLES
        if any(name[1] == condition for name in units.names)
    }
    truth = np.array([labels.index(task.labels[number]) for number, _, _ in units.names])
    rows = []
    for features in sets:
        started = time.perf_counter()
        scores, width, fitted = _scores(features, clips, of_clip, folds, len(labels), seed)
        right = units.mean(scores[tested]).argmax(axis=1) == truth
        rows.append(
            ProbeResult(
                features.name,
                width,
                {condition: right[places] for condition, places in answers.items()},
                [c for c, _, _ in fitted],
                sum(at_edge for _, at_edge, _ in fitted),
                sum(not converged for _, _, converged in fitted),
                time.perf_counter() - started,
            )
        )
    # Intervals resample recordings, because two segments of one recording are not independent.
    recordings = {
        condition: [material.excerpts[units.names[place][0]].recording for place in places]
        for condition, places in answers.items()
    }
    training_clips = len({int(i) for training, _ in folds for i in training})
    return TaskResult(task.title, material.split, material.unit, labels, training_clips, recordings, 0.0, rows, [])


def folds_of(
    excerpts: Sequence[Excerpt], task: ProbeTask, clips: Sequence[ClipFeatures]
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Return the indices of the training clips, all of them clean, and of the test clips of each fold."""
    use = np.array([excerpts[clip.excerpt].use for clip in clips])
    fold = np.array([task.folds[clip.excerpt] for clip in clips])
    clean = np.array([clip.condition == CLEAN for clip in clips])
    found = []
    for number in sorted(set(task.folds)):
        held_out = (use != "training") & (fold == number)
        training = clean & (use != "testing") & ~held_out
        if held_out.any():
            found.append((np.flatnonzero(training), np.flatnonzero(held_out)))
    return found


def _scores(
    features: FeatureSet,
    clips: Sequence[ClipFeatures],
    labels: NDArray[np.int64],
    folds: Sequence[tuple[NDArray[np.int64], NDArray[np.int64]]],
    count: int,
    seed: int,
) -> tuple[FloatArray, int, list[tuple[float, bool, bool]]]:
    """Compute test scores, shape (clips, labels), the features' width, and C, at_edge and converged of each fold."""
    scores = np.zeros((len(clips), count), np.float32)
    if features.parts == (FRAMES,):
        frames = [clip.features[FRAMES] for clip in clips]
        for training, testing in folds:
            fitted = fit_mixtures([frames[i] for i in training], labels[training], count, seed)
            scores[testing] = fitted.scores([frames[i] for i in testing])
        return scores, frames[0].shape[1], []
    parts = [np.stack([clip.features[part] for clip in clips]) for part in features.parts]
    widths = [part.shape[1] for part in parts]
    values = np.concatenate(parts, axis=1)
    outcomes = []
    for training, testing in folds:
        examples = ProbeExamples(
            labels[training],
            np.array([clips[i].excerpt for i in training], np.int64),
            np.array([clips[i].start for i in training]),
            np.array([clips[i].stop for i in training]),
        )
        probe = fit_linear_probe(values[training], widths, examples, count)
        scores[testing] = probe.probabilities(values[testing])
        outcomes.append((probe.c, probe.at_edge, probe.converged))
    return scores, sum(widths), outcomes


def images_a_second(backbone: Backbone, samples: Sequence[bytes]) -> float:
    """Measure the speed of a network on one thread, without decoding, in images per second; best of three runs."""
    pixels = stack_pixels(samples, backbone.input_size)
    runner = Runner(backbone.path, remedy=CONVERT_AGAIN)
    runner.features(pixels[:AT_A_TIME], AT_A_TIME)
    seconds = []
    for _ in range(_TIMED_RUNS):
        started = time.perf_counter()
        runner.features(pixels, AT_A_TIME)
        seconds.append(time.perf_counter() - started)
    return len(pixels) / min(seconds)
