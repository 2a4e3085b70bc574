"""Scores of verification trials: each recording is embedded once, and all trials are scored at a time."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.classifier.plda import Plda, fit_plda
from audionet.classifier.prototypes import unit_length
from audionet.errors import DatasetError, UsageError
from audionet.evaluation.config import TrialConfig
from audionet.evaluation.trials import TrialList, read_trials
from audionet.inference.embeddings import ClipFile, embed_files, find_clips, load_embedder
from audionet.metrics.accuracy import Groups
from audionet.metrics.detection import Detection, detection
from audionet.metrics.likelihood_ratios import cross_calibrated, min_ratio_cost, ratio_cost
from audionet.metrics.pairs import COHORT_NEAREST, normalise_by_cohort, pair_products, percentile_interval, resampled
from audionet.utils.arrays import AnyFloatArray, Float64Array, FloatArray, IntArray
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

PRIORS = (0.01, 0.05)
"""Prior probabilities of a target at which minDCF is reported."""

_LEAST_COHORT = 5
_SEED = 0


class Estimate(NamedTuple):
    """Measure with its 95 % interval, by resampling speakers; NaN where no resample has trials of both kinds."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Variant:
    """One way of scoring, with its scores and error rates.

    Attributes
    ----------
    name : str
    scores : ndarray of float, shape (trials,)
    detection : Detection or None
        Operating points; this and the following are None without targets or without nontargets.
    equal_error_rate : Estimate or None
    min_dcf : dict of float to Estimate
        Minimum normalised detection cost for each of `PRIORS`.
    cllr : float or None
        Cost of the log-likelihood ratios after calibration, cross-validated over speakers; None of few speakers.
    min_cllr : float or None
        Cllr after the best increasing calibration on these trials themselves.
    """

    name: str
    scores: AnyFloatArray
    detection: Detection | None = None
    equal_error_rate: Estimate | None = None
    min_dcf: dict[float, Estimate] | None = None
    cllr: float | None = None
    min_cllr: float | None = None


class Speakers(NamedTuple):
    """Speakers of the two sides of each trial, shape (trials,), and how they are known."""

    first: IntArray
    second: IntArray
    source: str

    @property
    def number(self) -> int:
        """Number of speakers."""
        return len(np.union1d(self.first, self.second))


@dataclass(frozen=True)
class TrialEvaluation:
    """Results of scoring a trial list.

    Attributes
    ----------
    trials : TrialList
    variants : list of Variant
        Cosine first, then with cohort normalisation and by PLDA, as far as they were asked for.
    speakers : Speakers
    config : TrialConfig
    plda_trained_on : tuple of int or None
        Numbers of speakers and of recordings that PLDA was trained on.
    cohort_speakers : int or None
    """

    trials: TrialList
    variants: list[Variant]
    speakers: Speakers
    config: TrialConfig
    plda_trained_on: tuple[int, int] | None
    cohort_speakers: int | None


def score_trials(path: Path, config: TrialConfig) -> TrialEvaluation:
    """Score a list of verification trials.

    Parameters
    ----------
    path : Path
        See `read_trials`.
    config : TrialConfig

    Raises
    ------
    DatasetError
        If no trial is left, or a folder has too few speakers.
    UsageError, BackboneError, ModelError
        If there is no such folder, backbone or model, or it compares no voices.
    """
    for flag, folder in (("plda", config.plda), ("cohort", config.cohort)):
        if folder is not None and not folder.is_dir():
            raise UsageError(f"--{flag} {escape(folder)} is not a folder: name one with a folder for each speaker")
    trials = read_trials(path, config.audio_dir or path.parent, config.enrolments)
    files = [ClipFile(trials.folder / name, name, "") for name in trials.recordings]
    found = embed_files(files, config.embedding, "recording")
    place = {name: row for row, name in enumerate(found.files)}
    rows = np.array([place.get(name, -1) for name in trials.recordings])
    trials = trials.restricted(rows >= 0)
    tests = found.vectors[rows]  # of unusable recordings another's, which no trial compares
    training = None if config.plda is None else _embed_speakers(config.plda, config, files, "plda")
    plda = None if training is None else _fit(training, config)
    cohort = None if config.score_norm == "none" else _cohort(config, files)
    speakers = find_speakers(trials)
    variants = [measure(name, scores, trials, speakers) for name, scores in _score(trials, tests, plda, cohort, config)]
    return TrialEvaluation(
        trials,
        variants,
        speakers,
        config,
        None if training is None else (len(set(training.speakers)), len(training.speakers)),
        None if cohort is None else len(cohort),
    )


def _score(
    trials: TrialList, tests: FloatArray, plda: Plda | None, cohort: FloatArray | None, config: TrialConfig
) -> Iterator[tuple[str, AnyFloatArray]]:
    """Yield the ways of scoring, each without and then with cohort normalisation."""
    counts = np.maximum(trials.counts(), 1)
    sums = np.zeros((len(trials.models), tests.shape[1]), np.float32)
    np.add.at(sums, trials.enrolled_model, tests[trials.enrolled_recording])
    means = (sums / counts[:, None]).astype(np.float32)
    none = np.zeros((0, tests.shape[1]), np.float32)
    others = none if cohort is None else cohort
    sides = tuple(vectors.astype(np.float64) for vectors in (unit_length(means), tests, others, others))
    comparisons = [_Comparison("cosine", *sides)]
    if plda is not None:
        single = np.ones(len(others), np.int64)
        sides = plda.enrolled(means, counts), plda.tested(tests), plda.enrolled(others, single), plda.tested(others)
        comparisons.append(_Comparison("PLDA", *sides))
    for comparison in comparisons:
        scores = pair_products(comparison.first, comparison.second, trials.pairs)
        yield comparison.name, scores
        if cohort is not None:
            against = comparison.against_cohort()
            # At most half of a small cohort is near.
            nearest = min(COHORT_NEAREST, -(-len(cohort) // 2)) if config.score_norm == "as" else None
            name = f"{comparison.name}, {config.score_norm.upper()}-norm"
            normalised: Float64Array = normalise_by_cohort(scores, *against, trials.pairs, nearest)
            yield name, normalised


class _Comparison(NamedTuple):
    """Vectors whose scalar products are scores: of models, of tested recordings, and of the cohort on either side."""

    name: str
    first: Float64Array
    second: Float64Array
    cohort_enrolled: Float64Array
    cohort_tested: Float64Array

    def against_cohort(self) -> tuple[Float64Array, Float64Array]:
        """Score models, and tested recordings, against the cohort: shapes (models, cohort) and (tests, cohort)."""
        return self.first @ self.cohort_tested.T, self.second @ self.cohort_enrolled.T


class _SpeakerEmbeddings(NamedTuple):
    vectors: FloatArray
    speakers: list[str]


def _embed_speakers(folder: Path, config: TrialConfig, used: Sequence[ClipFile], flag: str) -> _SpeakerEmbeddings:
    """Embed the recordings of a folder of speakers, without the speakers of whom trials use a recording."""
    clips = [clip for clip in find_clips([folder]) if clip.label]
    speakers = {clip.name: clip.name.partition("/")[0] for clip in clips}
    compared = {file.path.resolve() for file in used}
    known = {speakers[clip.name] for clip in clips if clip.path.resolve() in compared}
    others = [clip for clip in clips if speakers[clip.name] not in known]
    if known:
        log.warning(f"{folder}: {pluralise(len(known), 'speaker')} of the trials left out of --{flag}")
    if not others:
        remedy = "name a folder of other speakers" if known else "give it one folder for each speaker"
        raise DatasetError(f"{escape(folder)}: no speakers are left for --{flag}: {remedy}")
    found = embed_files(others, config.embedding, "recording")
    return _SpeakerEmbeddings(found.vectors, [speakers[name] for name in found.files])


def _fit(training: _SpeakerEmbeddings, config: TrialConfig) -> Plda:
    try:
        return fit_plda(training.vectors, training.speakers)
    except DatasetError as error:
        raise DatasetError(f"--plda {escape(config.plda or '')}: {error}") from None


def _cohort(config: TrialConfig, used: Sequence[ClipFile]) -> FloatArray:
    """Return the embeddings of the cohort's speakers, shape (speakers, dimensions)."""
    if config.cohort is None:
        cohort, source = load_embedder(config.embedding).cohort, "the model or backbone"
    else:
        found = _embed_speakers(config.cohort, config, used, "cohort")
        cohort, source = unit_length(Groups(found.speakers).mean(found.vectors)), escape(config.cohort)
    if len(cohort) < _LEAST_COHORT:
        raise DatasetError(
            f"--score_norm needs a cohort of {_LEAST_COHORT} speakers or more, and {source} has {len(cohort)}: name a "
            "folder of them with --cohort"
        )
    return cohort


def find_speakers(trials: TrialList) -> Speakers:
    """Find out which trials share a speaker, for the intervals.

    Folders are speakers, as VoxCeleb's ``id10270/...``, where targets alone compare recordings of one folder. Otherwise
    recordings that target trials join are of one speaker, and all others each of one.
    """
    enrolled = np.zeros(len(trials.models), np.int64)
    enrolled[trials.enrolled_model[::-1]] = trials.enrolled_recording[::-1]  # the first of each model
    first, second = enrolled[trials.pairs.first], trials.pairs.second
    parts = [name.split("/")[:-1] for name in trials.recordings]
    for depth in range(max(map(len, parts))):
        numbers = np.array(Groups(part[depth] if depth < len(part) else None for part in parts).member)
        alike = np.array_equal(numbers[trials.enrolled_recording], numbers[enrolled[trials.enrolled_model]])
        if alike and np.array_equal(numbers[first] == numbers[second], trials.pairs.target):
            return Speakers(numbers[first], numbers[second], "folders")
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    target = trials.pairs.target
    one = np.concatenate([first[target], enrolled[trials.enrolled_model]])
    other = np.concatenate([second[target], trials.enrolled_recording])
    number = len(trials.recordings)
    joined = connected_components(coo_array((np.ones(len(one)), (one, other)), (number, number)), directed=False)[1]
    numbers = joined.astype(np.int64)
    return Speakers(numbers[first], numbers[second], "target trials")


def measure(name: str, scores: AnyFloatArray, trials: TrialList, speakers: Speakers) -> Variant:
    """Compute the error rates of scores, with intervals by speaker."""
    target = trials.pairs.target
    found = detection(scores, target)
    if found is None:
        return Variant(name, scores)
    rates: list[float] = []
    costs: dict[float, list[float]] = {prior: [] for prior in PRIORS}
    for one in resampled(scores, target, speakers.first, speakers.second, _SEED):
        rates.append(one.equal_error_rate)
        for prior in PRIORS:
            costs[prior].append(one.min_dcf(prior))
    ratios = cross_calibrated(scores, target, speakers.first, speakers.second)
    return Variant(
        name,
        scores,
        found,
        Estimate(found.equal_error_rate, *percentile_interval(rates)),
        {prior: Estimate(found.min_dcf(prior), *percentile_interval(costs[prior])) for prior in PRIORS},
        None if ratios is None else ratio_cost(ratios, target),
        min_ratio_cost(scores, target),
    )
