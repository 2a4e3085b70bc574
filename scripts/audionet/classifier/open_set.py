"""Open-set recognition: the scale of scores, and the rule that rejects unknown speakers.

Unknown speakers are estimated by leave-one-label-out: each label in turn is held out of training and scored as an
impostor. Known speakers are recordings that the scoring models were not trained on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.calibration import calibrated_losses
from audionet.classifier.embedding import EmbeddingExamples, EmbeddingSpace, fit_embedding_spaces
from audionet.classifier.head import softmax
from audionet.classifier.prototypes import join_voices
from audionet.classifier.rejection import SEGMENT_CHUNKS, RejectionRule
from audionet.data.dataset import ChunkImage
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import BoolArray, Float64Array, FloatArray, IntArray, evenly

REFUSED_SHARE = 0.05
"""Share of known speakers' recordings that may be refused, unless a rate for the unknown ones is asked for."""

ACCEPTED_SHARE = 0.05
"""Share of unknown speakers that may be accepted, where known ones are spared all the same."""

LEAST_AREA = 0.8
"""Least area under the curve, at the lower end of its interval, for which unknown is answered."""

LOWEST_SCORE = -2.0
"""Similarity where there is none: of a label that a fold's model lacks."""

_PRIOR_SCORES, _PRIOR_SPREAD = 4, 0.06  # of the variance of one kind of scores
_IGNORED_SHARE = 0.01  # share of the lowest known scores that is ignored when the threshold is put into a gap
_MAX_FOLDS = 10
_CHUNK_FOLDS = 4
_MAX_ROWS = 6000
_LEAST_IMPOSTORS = 60  # segments; with fewer, some are added with a cohort speaker's voice
_PRIOR_SEGMENTS = 4.0  # weight of the mean over all labels in a label's own scale, as a number of segments
_LEAST_RANGE = 0.1  # between the similarities that become 0 and 1
_LEAST_SLOPE, _MOST_SLOPE = 2.0, 40.0
_NEXT_TO_NOTHING = 0.02  # of a recording's loss: both spaces tell the labels apart
_SHARPNESS = np.float32(8)  # of similarities as logits; their temperature is fitted


@dataclass(frozen=True)
class Similarities:
    """Similarities of chunks to each label, by models that were not trained on them.

    Attributes
    ----------
    values : ndarray of float32, shape (n, labels)
        `LOWEST_SCORE` or less for labels that the model lacks.
    labels : ndarray of int64, shape (n,)
        True label of each chunk; -1 if it is of none.
    segments : sequence of n hashable
        Segment that each chunk belongs to.
    """

    values: FloatArray
    labels: IntArray
    segments: Sequence[Hashable]

    def by_segment(self) -> tuple[FloatArray, IntArray]:
        """Return the mean of each segment's chunks, and its label."""
        groups = Groups(self.segments)
        return groups.mean(self.values), groups.value(self.labels)

    def scaled(self, space: EmbeddingSpace) -> Similarities:
        """Return scores: similarities on the scale of the speaker models."""
        voices = space.voices
        scores = (self.values - voices.low) / (voices.high - voices.low)
        scores[self.values <= LOWEST_SCORE] = LOWEST_SCORE
        return dataclasses.replace(self, values=scores)

    def joined(self, other: Similarities) -> Similarities:
        """Return these chunks followed by others."""
        return Similarities(
            np.concatenate([self.values, other.values]),
            np.concatenate([self.labels, other.labels]),
            [*self.segments, *other.segments],
        )


@dataclass(frozen=True)
class ImpostorScores:
    """Impostor scores: scores of speakers that were not trained on.

    Attributes
    ----------
    unknown : ndarray of float32, shape (n,)
        Best score of each segment of an unknown speaker.
    single : ndarray of float32, shape (chunks,)
        Best score of each of their chunks.
    impostors : ndarray of float32, shape (m,)
        Scores of these segments for every speaker that they were compared with.
    shares : ndarray of float32, shape (n,)
        Number of speakers that each segment was compared with, as a share of all the model's.
    """

    unknown: FloatArray
    single: FloatArray
    impostors: FloatArray
    shares: FloatArray


@dataclass(frozen=True)
class KnownScores:
    """Best scores of known speakers, by models that were not trained on their recordings.

    Attributes
    ----------
    segments, single : ndarray of float32, shapes (n,) and (chunks,)
        Best score of each segment, and of each chunk.
    labels, single_labels : ndarray of int64, shapes (n,) and (chunks,)
    """

    segments: FloatArray
    single: FloatArray
    labels: IntArray
    single_labels: IntArray


@dataclass(frozen=True)
class OpenSet:
    """Result of open-set training: embedding space, impostor scores and rejection rule.

    Attributes
    ----------
    comparison : EmbeddingSpace
        With the scale of its scores.
    trials : ImpostorScores or None
        None for two labels without a background.
    known : KnownScores
    rate : float or None
        Highest false acceptance rate: share of unknown speakers that may be accepted as one of the labels; 0 to never
        answer unknown. None: at most `REFUSED_SHARE` of the known speakers' recordings may be refused instead.
    rejection : RejectionRule or None
        None if there are too few trials for one, or known and unknown speakers are not told apart.
    lacks_examples : bool
        True if the labels are no voices, and there are no examples of other sounds to learn what is unknown from.
    """

    comparison: EmbeddingSpace
    trials: ImpostorScores | None
    known: KnownScores
    rate: float | None
    rejection: RejectionRule | None
    lacks_examples: bool = False

    @property
    def refused(self) -> int:
        """Number of segments of known speakers that are refused."""
        return 0 if self.rejection is None else int((self.known.segments < self.rejection.several).sum())

    @property
    def area(self) -> float | None:
        """Probability that a known speaker scores higher than a held-out one (AUROC)."""
        if self.trials is None or not len(self.known.segments):
            return None
        return area_under_curve(self.known.segments, self.trials.unknown)


def area_under_curve(known: FloatArray, unknown: FloatArray) -> float:
    """Compute the probability that a known speaker's score is higher than an unknown one's, ties counting half."""
    ordered = np.sort(unknown)
    below, not_above = (np.searchsorted(ordered, known, side) for side in ("left", "right"))
    return float((below + not_above).mean() / (2 * len(ordered)))


def lowest_area(known: FloatArray, unknown: FloatArray) -> float:
    """Compute the lower end of the area's 95 % interval (Hanley & McNeil, 1982)."""
    area = area_under_curve(known, unknown)
    of_known, of_unknown = area / (2 - area) - area**2, 2 * area**2 / (1 + area) - area**2
    variance = area * (1 - area) + (len(known) - 1) * of_known + (len(unknown) - 1) * of_unknown
    return area - 1.96 * float(np.sqrt(max(variance, 0) / (len(known) * len(unknown))))


def compare_fold(
    training: EmbeddingExamples,
    test: EmbeddingExamples,
    labels: int,
    widths: Sequence[int],
    voice_spaces: Sequence[VoiceSpace | None],
) -> list[Similarities]:
    """Compare a fold's test images with speaker models that were fitted on the other folds.

    Parameters
    ----------
    training, test : EmbeddingExamples
        Of labels and background.
    labels : int
        Number of labels; the training set may lack some.
    widths : sequence of int
    voice_spaces : sequence of VoiceSpace or None

    Returns
    -------
    list of Similarities
        One for each voice space.
    """
    present = np.unique(training.labels[training.labels >= 0])
    found = []
    for space in _fit_on_labels(training, present, labels, widths, voice_spaces):
        every = np.full((len(test.labels), labels), LOWEST_SCORE, np.float32)
        every[:, present] = space.voices.similarities(space.embed(test.features))
        found.append(Similarities(every, test.labels, test.segments))
    return found


def compare_chunks(
    sample: EmbeddingExamples, missing: IntArray, widths: Sequence[int], voice_space: VoiceSpace | None
) -> Similarities | None:
    """Compare chunks of some labels with speaker models of the others and of their own other chunks.

    For labels of a single recording that is too short to be cut: what is known about their own scores, although new
    recordings will score less.

    Parameters
    ----------
    sample : EmbeddingExamples
    missing : ndarray of int64
        Labels to compare.
    widths, voice_space
        As for `fit_open_set`.

    Returns
    -------
    Similarities or None
        None if each of these labels has a single chunk.
    """
    fold = np.zeros(len(sample.labels), np.int64)
    for label in np.unique(sample.labels):
        of_label = np.flatnonzero(sample.labels == label)
        fold[of_label] = np.arange(len(of_label)) % min(_CHUNK_FOLDS, len(of_label))
    counts = np.bincount(sample.labels[sample.labels >= 0], minlength=int(sample.labels.max()) + 1)
    tested = np.isin(sample.labels, missing[counts[missing] > 1])
    found = []
    for number in range(_CHUNK_FOLDS):
        test = tested & (fold == number)
        if test.any():
            parts = sample.where(~test), sample.where(test)
            found += compare_fold(*parts, len(counts), widths, [voice_space])
    return functools.reduce(Similarities.joined, found) if found else None


class Voices(NamedTuple):
    """What held-out recordings say about labels as voices.

    Attributes
    ----------
    are : bool
        Whether the labels are voices: the voice space tells them apart.
    joined : bool
        Whether to join the voice space with the model's own, which otherwise does better alone.
    """

    are: bool
    joined: bool


def find_voices(own: Similarities, joined: Similarities) -> Voices:
    """Compare the model's own space, alone and joined with the voice space, on held-out recordings.

    Words, or one speaker's emotions, are speech, but no voices. In doubt they are voices: with one recording a label,
    the voice space is most of what is known about it.
    """
    is_known = own.labels >= 0
    if not is_known.any():
        return Voices(True, True)
    groups = Groups(segment for segment, known in zip(own.segments, is_known, strict=True) if known)
    losses = [
        calibrated_losses(softmax(_SHARPNESS * part.values[is_known]), own.labels[is_known], groups)
        for part in (own, joined)
    ]
    gains = losses[0] - losses[1]
    error = float(gains.std(ddof=1)) / np.sqrt(len(gains)) if len(gains) > 1 else np.inf
    gain = float(gains.mean())
    return Voices(gain > -max(2 * error, _NEXT_TO_NOTHING), gain > -2 * error)


def fit_open_set(
    sample: EmbeddingExamples,
    held_out: Similarities,
    widths: Sequence[int],
    voice_space: VoiceSpace | None,
    rate: float | None,
    are_voices: bool | None = None,
) -> OpenSet:
    """Fit embedding space, scale and rejection rule.

    Labels that are left out say how unknown voices score, as all voices are of one kind. They say little about other
    sounds than words, emotions or noises: where labels are no voices, unknown is not answered without examples of it,
    unless a rate is asked for.

    Parameters
    ----------
    sample : EmbeddingExamples
        Training set: every label from 0 to the highest at least once.
    held_out : Similarities
        Of recordings by models that were not trained on them; the background's count as unknown speakers. Labels that
        have none are compared with themselves, see `compare_chunks`.
    widths : sequence of int
        Widths of the concatenated parts of the features.
    voice_space : VoiceSpace or None
    rate : float or None
        Share of unknown speakers that may be accepted as one of the labels, 0 to 1; 0 to never answer unknown; None to
        refuse at most `REFUSED_SHARE` of the known ones instead.
    are_voices : bool, optional
        Whether the labels are voices; None if that is not known.
    """
    missing = np.setdiff1d(np.unique(sample.labels[sample.labels >= 0]), held_out.labels)
    if len(missing) and (chunks := compare_chunks(sample, missing, widths, voice_space)) is not None:
        held_out = held_out.joined(chunks)
    (space,) = fit_embedding_spaces(sample, widths, [voice_space])
    left_out = leave_labels_out(sample, widths, voice_space)
    space = dataclasses.replace(space, voices=space.voices.with_scale(*fit_scale(held_out, left_out)))
    scores = held_out.scaled(space)
    is_known = scores.labels >= 0
    of_known, of_background = (_where(scores, chosen) for chosen in (is_known, ~is_known))
    known = _known_scores(of_known)
    trials = None
    if left_out is not None:
        unknown = left_out.scaled(space)
        trials = _impostor_scores(unknown if is_known.all() else unknown.joined(of_background))
    lacks_examples = are_voices is False and rate is None and bool((sample.labels >= 0).all() and is_known.all())
    rule = None if trials is None or lacks_examples else choose_rule(trials, known, rate)
    return OpenSet(space, trials, known, rate, rule, lacks_examples)


def _where(scores: Similarities, chosen: BoolArray) -> Similarities:
    segments = [scores.segments[i] for i in np.flatnonzero(chosen).tolist()]
    return Similarities(scores.values[chosen], scores.labels[chosen], segments)


def _known_scores(scores: Similarities) -> KnownScores:
    segments, labels = scores.by_segment()
    return KnownScores(
        segments.max(axis=1, initial=LOWEST_SCORE),
        scores.values.max(axis=1, initial=LOWEST_SCORE),
        labels,
        scores.labels,
    )


def _impostor_scores(scores: Similarities) -> ImpostorScores:
    segments, _ = scores.by_segment()
    compared = segments > LOWEST_SCORE
    impostors = segments[compared]
    return ImpostorScores(
        segments.max(axis=1),
        scores.values.max(axis=1),
        impostors[evenly(len(impostors), _MAX_ROWS)],
        compared.mean(axis=1, dtype=np.float32),
    )


def fit_scale(held_out: Similarities, left_out: Similarities | None) -> tuple[FloatArray, FloatArray]:
    """Fit the similarities that become the scores 0 and 1, for each label: of others' recordings, and of its own.

    A label of few recordings has a poorer speaker model, which its own recordings resemble less; with a scale for each
    label, one threshold serves all. A label's means are joined with those over all labels, the more so the fewer
    recordings it has.

    Returns
    -------
    low, high : ndarray of float32, shape (labels,)
    """
    values, labels = held_out.by_segment()
    number = held_out.values.shape[1]
    own = labels[:, None] == np.arange(number)
    compared = values > LOWEST_SCORE
    lowest, highest = 0.0, 0.0
    if (own & compared).any():
        highest = float(values[own & compared].mean())
    if (~own & compared).any():
        lowest = float(values[~own & compared].mean())
    elif left_out is not None:
        lowest = float(left_out.values[left_out.values > LOWEST_SCORE].mean())
    if not (own & compared).any():
        highest = max(1.0, lowest + _LEAST_RANGE)
    low, high = (
        (np.where(chosen, values, 0).sum(axis=0) + _PRIOR_SEGMENTS * mean) / (chosen.sum(axis=0) + _PRIOR_SEGMENTS)
        for chosen, mean in ((~own & compared, lowest), (own & compared, highest))
    )
    return low.astype(np.float32), np.maximum(high, low + _LEAST_RANGE).astype(np.float32)


def _fit_on_labels(
    sample: EmbeddingExamples,
    kept: IntArray,
    labels: int,
    widths: Sequence[int],
    voice_spaces: Sequence[VoiceSpace | None],
) -> list[EmbeddingSpace]:
    """Fit embedding spaces on the examples of some labels, ascending and numbered anew, and on the background."""
    number = np.full(labels + 1, -1)  # the last is the background's, label -1
    number[kept] = np.arange(len(kept))
    rest = sample.where((sample.labels < 0) | (number[sample.labels] >= 0))
    renumbered = EmbeddingExamples(rest.features, number[rest.labels], rest.segments)
    return fit_embedding_spaces(renumbered, widths, voice_spaces)


def leave_labels_out(
    sample: EmbeddingExamples, widths: Sequence[int], voice_space: VoiceSpace | None
) -> Similarities | None:
    """Compare each label, as an impostor, with the others in an embedding space that was fitted without it.

    More than ten labels are held out several at a time, in ten folds. Where labels are voices and impostors are few,
    some are added that have the voice of a cohort speaker, see `_with_cohort_voices`.

    Returns
    -------
    Similarities or None
        None if there are fewer than three labels, or two with a background or a cohort.
    """
    labels = int(sample.labels.max()) + 1
    if labels < (2 if (sample.labels < 0).any() or voice_space is not None else 3):
        return None
    folds = np.arange(labels) % min(labels, _MAX_FOLDS)
    segments = len(set(sample.segments))
    parts = []
    for fold in range(folds.max() + 1):
        kept = np.flatnonzero(folds != fold)
        (space,) = _fit_on_labels(sample, kept, labels, widths, [voice_space])
        of_fold = sample.where((sample.labels >= 0) & ~np.isin(sample.labels, kept))
        embeddings, of_segment = space.embed(of_fold.features), list(of_fold.segments)
        if voice_space is not None and segments < _LEAST_IMPOSTORS:
            number = int(np.ceil(_LEAST_IMPOSTORS / labels))
            others = _with_cohort_voices(space, embeddings, number, fold)
            embeddings = np.concatenate([embeddings, others])
            of_segment += [("cohort", fold, place) for place in range(len(others))]
        values = np.full((len(embeddings), labels), LOWEST_SCORE, np.float32)
        values[:, kept] = space.voices.similarities(embeddings)
        parts.append(Similarities(values, np.full(len(values), -1), of_segment))
    return Similarities(
        np.concatenate([part.values for part in parts]),
        np.concatenate([part.labels for part in parts]),
        [segment for part in parts for segment in part.segments],
    )


def _with_cohort_voices(space: EmbeddingSpace, embeddings: FloatArray, number: int, seed: int) -> FloatArray:
    """Return impostors that have an embedding's own part, and in place of its voice that of a cohort speaker."""
    generator = np.random.default_rng(seed)
    cohort, share = space.voices.cohort, space.voices.voice_share
    voices = cohort[generator.permutation(len(cohort))[:number]]
    chosen = embeddings[generator.integers(len(embeddings), size=len(voices))]
    return join_voices(chosen[:, : -cohort.shape[1]] / np.float32((1 - share) ** 0.5), voices, share)


def choose_rule(trials: ImpostorScores, known: KnownScores, rate: float | None) -> RejectionRule | None:
    """Choose the lowest scores that are accepted, by the rate or, if that is None, so that known speakers are spared.

    Returns
    -------
    RejectionRule or None
        None for a rate of 0, too few trials for the rate or, without a rate, known and unknown speakers that are not
        told apart: the lower end of the area's interval is below `LEAST_AREA`.
    """
    slope = evidence_slope(known.single, trials.single)
    if rate is not None:
        several = threshold_for(trials, known.segments, rate) if rate else None
        if several is None:
            return None
        single = threshold_for(dataclasses.replace(trials, unknown=trials.single), known.single, rate)
        single = several if single is None else min(single, several)
        return RejectionRule(several, single, _window_threshold(single, known), slope)
    if not len(known.segments) or lowest_area(known.segments, trials.unknown) < LEAST_AREA:
        return None
    share = float(trials.shares.mean())
    several = _sparing_threshold(known.segments, known.labels, trials.unknown, share)
    # A single chunk, whose score varies more, is never harder to accept than several of them.
    single = min(several, _sparing_threshold(known.single, known.single_labels, trials.single, share))
    return RejectionRule(several, single, _window_threshold(single, known), slope)


def _window_threshold(single: float, known: KnownScores) -> float:
    """Choose the threshold for the best of the windows that cover a moment, of which two do not overlap.

    Both are refused at `REFUSED_SHARE` where each is refused at its root.
    """
    if not len(known.single):
        return single
    return max(single, lowest_known(known.single, known.single_labels, REFUSED_SHARE**0.5))


def _sparing_threshold(known: FloatArray, labels: IntArray, unknown: FloatArray, share: float) -> float:
    """Choose the highest threshold that spares known speakers; less, where unknown ones are far below it."""
    sparing = lowest_known(known, labels)
    rejecting = highest_unknown(unknown, share)
    # Where both kinds of mistake can be had rarely, the threshold is between: others have other scores than these.
    return sparing if rejecting > sparing else (rejecting + sparing) / 2


def lowest_known(scores: FloatArray, labels: IntArray, share: float = REFUSED_SHARE) -> float:
    """Estimate the score below which at most a share of new recordings lie, every label counting the same.

    The lower of two estimates: the quantile of the scores, which few of them would put too high; and a normal
    distribution's prediction limit, which their number enters.

    Parameters
    ----------
    scores : ndarray of float32, shape (n,)
        Of known speakers, n at least 1.
    labels : ndarray of int64, shape (n,)
    share : float
    """
    order = np.argsort(scores)
    _, member, counts = np.unique(labels, return_inverse=True, return_counts=True)
    weights = 1 / counts[member]
    below = np.cumsum(weights[order]) / weights.sum()
    quantile = float(scores[order][np.searchsorted(below, share, side="right")])
    return min(quantile, -_prediction_limit(-scores, weights, share))


def highest_unknown(scores: FloatArray, share: float) -> float:
    """Estimate the score above which `ACCEPTED_SHARE` of unknown speakers lie, the higher of two estimates likewise.

    Parameters
    ----------
    scores : ndarray of float32, shape (n,)
        n at least 1.
    share : float
        Number of labels that they were compared with, as a share of all.
    """
    rank = max(1, int(ACCEPTED_SHARE * share * (len(scores) + 1)))
    quantile = float(np.nextafter(np.sort(scores)[-rank], np.float32(np.inf)))
    return max(quantile, _prediction_limit(scores, np.ones(len(scores)), ACCEPTED_SHARE * share))


def _prediction_limit(scores: FloatArray, weights: Float64Array, share: float) -> float:
    """Compute the limit above which a share of new values lie, of a normal distribution (Whitmore, 1986).

    A prior of the variance keeps a few scores that happen to agree from promising too much.
    """
    from scipy.stats import t

    n, mean = len(scores), float(np.average(scores, weights=weights))
    squares = float(np.average((scores - mean) ** 2, weights=weights)) * n + _PRIOR_SCORES * _PRIOR_SPREAD**2
    deviation = np.sqrt(squares / max(1, n - 1 + _PRIOR_SCORES))
    return mean + float(t.ppf(1 - share, n - 1 + _PRIOR_SCORES) * deviation * np.sqrt(1 + 1 / n))


def evidence_slope(known: FloatArray, unknown: FloatArray) -> float:
    """Compute by how much a score that is higher by 1 raises the logarithm of the odds of a known speaker.

    For two normal distributions of equal variance: the distance of their means, divided by the variance.
    """
    if len(known) < 2 or len(unknown) < 2:
        return _LEAST_SLOPE
    variance = (float(known.var()) * len(known) + float(unknown.var()) * len(unknown)) / (len(known) + len(unknown))
    slope = (float(known.mean()) - float(unknown.mean())) / max(variance, 1e-6)
    return float(np.clip(slope, _LEAST_SLOPE, _MOST_SLOPE))


def threshold_for(trials: ImpostorScores, known: FloatArray, rate: float) -> float | None:
    """Find the lowest threshold that accepts at most a share `rate` of unknown speakers.

    Given scores of n segments of unknown speakers, the score of the next one exceeds the k-th highest of them with
    a probability of at most k / (n + 1) (Vovk, Gammerman & Shafer, Algorithmic learning in a random world, 2005). The
    full model compares an unknown speaker with more labels than a model with some held out, and so has that many more
    chances of a false acceptance; the rate for the trials is lower accordingly. If this leaves a gap below the known
    speakers' scores, the threshold is the middle of the gap, because speakers unlike the held-out ones have other
    scores.

    Returns
    -------
    float or None
        None if the trials have fewer than `segments_needed` segments.
    """
    rank = int(np.floor(rate * float(trials.shares.mean()) * (len(trials.unknown) + 1)))
    if rank < 1:
        return None
    lowest = np.nextafter(np.sort(trials.unknown)[-rank], np.float32(np.inf))
    lowest_score = np.quantile(known, _IGNORED_SHARE) if len(known) else lowest
    return float(max(lowest, (lowest + lowest_score) / 2))


def segments_needed(trials: ImpostorScores, rate: float) -> int:
    """Return the number of segments of unknown speakers that a threshold for this rate requires."""
    return int(np.ceil(1 / (rate * float(trials.shares.mean())))) - 1


def segments_of(images: Sequence[ChunkImage]) -> list[Hashable]:
    """Return the segment of each chunk: `SEGMENT_CHUNKS` consecutive chunks of one recording."""
    return [(image.label, image.recording, image.index // SEGMENT_CHUNKS) for image in images]


def choose_segments(images: Sequence[ChunkImage], labels: IntArray) -> IntArray:
    """Choose whole segments of each label, evenly thinned if there are more chunks than the embedding space needs.

    Parameters
    ----------
    images : sequence of ChunkImage
    labels : ndarray of int64, shape (len(images),)

    Returns
    -------
    ndarray of int64
        Indices of images, ascending.
    """
    segments = Groups(segments_of(images))
    present = np.unique(labels)
    segment_label = segments.value(labels)
    quota = max(2.0, _MAX_ROWS / max(1, len(present)))
    chosen = np.zeros(len(segments.names), bool)
    for label in present:
        indices = np.flatnonzero(segment_label == label)
        max_segments = int(max(1, quota / segments.sizes[indices].mean()))
        chosen[indices[evenly(len(indices), max_segments)]] = True
    return np.flatnonzero(chosen[segments.member])
