"""Open-set recognition: the embedding space, and the threshold that rejects unknown speakers.

The threshold is estimated by leave-one-label-out: each label in turn is held out of training and scored as an impostor.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from audionet.classifier.head import EPSILON, Layer, standardisation
from audionet.classifier.prototypes import SpeakerModels, embed, fit_speaker_models
from audionet.data.dataset import ChunkImage
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import FloatArray, IntArray, evenly

SEGMENT_CHUNKS = 4
"""Chunks of a segment, which is scored as a clip would be; a longer recording counts as several segments."""

REFUSED_SHARE = 0.05
"""Share of known speakers' segments that may be refused, unless a rate for the unknown ones is asked for."""

LEAST_AREA = 0.8
"""Least area under the curve, at the lower end of its interval, for which unknown is answered."""

_ACCEPTED_SHARE = 0.05
_DIMENSIONS = 128
_SHRINKAGE = 0.1
_INLIER_SHARE = 0.95  # share of the chunks that lie within a distance of 1
_IGNORED_SHARE = 0.01  # share of the lowest known scores that is ignored when the threshold is put into a gap
_MAX_FOLDS = 10
_MAX_ROWS = 6000
_MAX_GRAM_ROWS = 1500
_LOWEST_SCORE = -2.0


@dataclass(frozen=True)
class EmbeddingExamples:
    """Bottlenecks of chunks, with their labels and segments.

    Attributes
    ----------
    features : ndarray of float32, shape (n, width)
    labels : ndarray of int64, shape (n,)
        -1 for chunks of the background.
    segments : sequence of n hashable
        Segment that each chunk belongs to; its chunks are scored together.
    """

    features: FloatArray
    labels: IntArray
    segments: Sequence[Hashable]

    def where(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> EmbeddingExamples:
        """Return the chosen chunks."""
        segments = [self.segments[i] for i in np.flatnonzero(chosen).tolist()]
        return EmbeddingExamples(self.features[chosen], self.labels[chosen], segments)


@dataclass(frozen=True)
class EmbeddingSpace:
    """Embedding space: the layer that computes embeddings, and the speaker models of the training set."""

    space: Layer
    voices: SpeakerModels

    def scores(self, sample: EmbeddingExamples) -> FloatArray:
        """Score segments against each speaker, shape (segments, speakers): the mean over their chunks."""
        return Groups(sample.segments).mean(self.voices.scores(embed(sample.features, self.space)))


@dataclass(frozen=True)
class ImpostorScores:
    """Impostor scores: scores of speakers that were not trained on.

    Attributes
    ----------
    unknown : ndarray of float32, shape (n,)
        Best score of each segment of an unknown speaker.
    impostors : ndarray of float32, shape (m,)
        Scores of these segments for every speaker that they were compared with.
    shares : ndarray of float32, shape (n,)
        Number of speakers that each segment was compared with, as a share of all the model's.
    """

    unknown: FloatArray
    impostors: FloatArray
    shares: FloatArray


@dataclass(frozen=True)
class OpenSet:
    """Result of open-set training: embedding space, impostor scores and rejection threshold.

    Attributes
    ----------
    comparison : EmbeddingSpace
    trials : ImpostorScores or None
        None for two labels without a background.
    known : ndarray of float32, shape (n,)
        Best score of each segment of the validation set.
    rate : float or None
        Highest false acceptance rate: share of unknown speakers that may be accepted as one of the labels; 0 to never
        answer unknown. None: at most `REFUSED_SHARE` of the known speakers' segments may be refused instead.
    threshold : float or None
        Lowest score that is accepted; None if there are too few trials for one, or known and unknown speakers are not
        told apart.
    """

    comparison: EmbeddingSpace
    trials: ImpostorScores | None
    known: FloatArray
    rate: float | None
    threshold: float | None

    @property
    def refused(self) -> int:
        """Number of segments of known speakers that are refused."""
        return 0 if self.threshold is None else int((self.known < self.threshold).sum())

    @property
    def area(self) -> float | None:
        """Probability that a known speaker scores higher than a held-out one (AUROC)."""
        return None if self.trials is None or not len(self.known) else area_under_curve(self.known, self.trials.unknown)


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


@dataclass(frozen=True)
class OutOfFoldScores:
    """Speaker scores of images by models that were not trained on their recordings.

    Attributes
    ----------
    known : ndarray of float32, shape (n, labels)
        Of images of the labels; lowest possible where a fold's model lacks a label.
    segments : sequence of n hashable
        Segment that each of these images belongs to.
    unknown : ndarray of float32, shape (m,)
        Best score of each segment of the background.
    impostors : ndarray of float32, shape (k,)
        Scores of these segments for every label.
    """

    known: FloatArray
    segments: Sequence[Hashable]
    unknown: FloatArray
    impostors: FloatArray


def score_fold(
    training: EmbeddingExamples, known: FloatArray, background: EmbeddingExamples, labels: int, widths: Sequence[int]
) -> tuple[FloatArray, FloatArray]:
    """Score a fold's test images by an embedding space that was fitted on the other folds.

    Parameters
    ----------
    training : EmbeddingExamples
    known : ndarray of float32, shape (n, width)
        Test images of the labels.
    background : EmbeddingExamples
        Test images of the background.
    labels : int
        Number of labels; the training set may lack some.
    widths : sequence of int

    Returns
    -------
    known : ndarray of float32, shape (n, labels)
    background : ndarray of float32, shape (segments, labels)
    """
    present = np.unique(training.labels[training.labels >= 0])
    space = _fit_on_labels(training, present, labels, widths)
    found = []
    for scores in (space.voices.scores(embed(known, space.space)), space.scores(background)):
        every = np.full((len(scores), labels), _LOWEST_SCORE, np.float32)
        every[:, present] = scores
        found.append(every)
    return found[0], found[1]


def fit_open_set_out_of_fold(
    sample: EmbeddingExamples, scores: OutOfFoldScores, widths: Sequence[int], rate: float | None
) -> OpenSet:
    """Fit the embedding space on all examples, and the threshold on out-of-fold scores of known speakers.

    Parameters
    ----------
    sample : EmbeddingExamples
        Every label from 0 to the highest at least once.
    scores : OutOfFoldScores
    widths : sequence of int
    rate : float or None
        As in `fit_open_set`.
    """
    comparison = fit_embedding_space(sample, widths)
    trials = leave_labels_out(sample, widths)
    if trials is not None:
        trials = _with_background(trials, scores.unknown, scores.impostors)
    known = Groups(scores.segments).mean(scores.known).max(axis=1) if len(scores.known) else np.zeros(0, np.float32)
    threshold = None if trials is None else choose_threshold(trials, known, rate)
    return OpenSet(comparison, trials, known, rate, threshold)


def _with_background(trials: ImpostorScores, unknown: FloatArray, impostors: FloatArray) -> ImpostorScores:
    """Add the scores of background recordings, which were compared with every label."""
    return ImpostorScores(
        np.concatenate([trials.unknown, unknown]),
        np.concatenate([trials.impostors, impostors[evenly(len(impostors), _MAX_ROWS)]]),
        np.concatenate([trials.shares, np.ones(len(unknown), np.float32)]),
    )


def fit_open_set(
    training: EmbeddingExamples, validation: EmbeddingExamples, widths: Sequence[int], rate: float | None
) -> OpenSet:
    """Fit the embedding space, and the threshold that rejects unknown speakers.

    Background examples in the validation set are scored as unknown speakers as well.

    Parameters
    ----------
    training, validation : EmbeddingExamples
        Of the same labels; the training set has every label from 0 to the highest at least once.
    widths : sequence of int
        Widths of the concatenated parts of the features.
    rate : float or None
        Share of unknown speakers that may be accepted as one of the labels, 0 to 1; 0 to never answer unknown; None to
        refuse at most `REFUSED_SHARE` of the known ones instead.
    """
    comparison = fit_embedding_space(training, widths)
    both = EmbeddingExamples(
        np.concatenate([training.features, validation.features]),
        np.concatenate([training.labels, validation.labels]),
        [*training.segments, *validation.segments],
    )
    background = validation.labels < 0
    trials = leave_labels_out(both.where(np.concatenate([np.ones(len(training.labels), bool), ~background])), widths)
    if trials is not None and background.any():
        scores = comparison.scores(validation.where(background))
        trials = _with_background(trials, scores.max(axis=1), scores.ravel())
    known = np.zeros(0, np.float32)
    if not background.all():
        known = comparison.scores(validation.where(~background)).max(axis=1)
    threshold = None if trials is None else choose_threshold(trials, known, rate)
    return OpenSet(comparison, trials, known, rate, threshold)


def fit_embedding_space(sample: EmbeddingExamples, widths: Sequence[int]) -> EmbeddingSpace:
    """Fit the embedding space and its speaker models.

    Bottlenecks are standardised, reduced to their principal components, whitened so that the within-speaker variance is
    the same in all directions (within-class covariance normalisation: Hatch, Kajarekar & Stolcke, 2006), and scaled so
    that nearly all of the labels' chunks lie within a distance of 1.

    Parameters
    ----------
    sample : EmbeddingExamples
        Every label from 0 to the highest at least once.
    widths : sequence of int
        Widths of the concatenated parts of the features.
    """
    known, labels = sample.labels >= 0, sample.labels[sample.labels >= 0]
    offset, scale = standardisation([sample.features], widths)
    standardised: FloatArray = (sample.features - offset) * scale
    dimensions = min(_DIMENSIONS, *standardised.shape)
    components = _principal_directions(standardised, dimensions)
    reduced: FloatArray = standardised @ components.T
    means = _means(reduced[known], labels)
    deviations = reduced[known] - means[labels]
    within = deviations.T @ deviations / len(deviations)
    floor = max(np.trace(within) / dimensions, 1e-3 * float(reduced.var(axis=0).mean()), 1e-12)
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * within + _SHRINKAGE * floor * np.eye(dimensions))
    whitening = vectors / np.sqrt(values)
    all_means = means if known.all() else np.concatenate([means, reduced[~known].mean(axis=0, keepdims=True)])
    matrix = scale[:, None] * (components.T @ whitening)
    biases = -offset @ matrix - all_means.mean(axis=0) @ whitening
    distances = np.linalg.norm(sample.features[known] @ matrix + biases, axis=1)
    scale_of_space = max(float(np.quantile(distances, _INLIER_SHARE)), 1e-12)
    space = Layer((matrix / scale_of_space).astype(np.float32), (biases / scale_of_space).astype(np.float32))
    embeddings = embed(sample.features, space)
    return EmbeddingSpace(space, fit_speaker_models(embeddings[known], labels, embeddings[~known]))


def _principal_directions(rows: FloatArray, number: int) -> FloatArray:
    """Return the first principal directions of rows, shape (number, width)."""
    if len(rows) > _MAX_GRAM_ROWS:
        from sklearn.decomposition import PCA

        found: FloatArray = PCA(number, svd_solver="randomized", iterated_power=3, random_state=0).fit(rows).components_
        return found
    from scipy.linalg import eigh

    # From the Gram matrix, which is smaller than the covariance where there are fewer chunks than features.
    centred = rows - rows.mean(axis=0)
    n = len(rows)
    values, vectors = eigh((centred @ centred.T).astype(np.float64), subset_by_index=[n - number, n - 1])
    # Chunks that are all alike span no direction: their eigenvalues are rounding errors, and so is what they scale.
    lengths = np.sqrt(np.maximum(values, max(1e-7 * float(values[-1]), EPSILON)))
    directions: FloatArray = ((vectors / lengths).T.astype(np.float32) @ centred)[::-1]
    return directions


def _fit_on_labels(sample: EmbeddingExamples, kept: IntArray, labels: int, widths: Sequence[int]) -> EmbeddingSpace:
    """Fit the embedding space on the examples of some labels, ascending and numbered anew, and on the background."""
    number = np.full(labels + 1, -1)  # the last is the background's, label -1
    number[kept] = np.arange(len(kept))
    rest = sample.where((sample.labels < 0) | (number[sample.labels] >= 0))
    return fit_embedding_space(EmbeddingExamples(rest.features, number[rest.labels], rest.segments), widths)


def leave_labels_out(sample: EmbeddingExamples, widths: Sequence[int]) -> ImpostorScores | None:
    """Score each label as an impostor against an embedding space that was fitted without it.

    More than ten labels are held out several at a time, in ten folds. None if there are fewer than three labels, or two
    with a background.
    """
    labels = int(sample.labels.max()) + 1
    if labels < (2 if (sample.labels < 0).any() else 3):
        return None
    folds = np.arange(labels) % min(labels, _MAX_FOLDS)
    unknown, impostors, shares = [], [], []
    for fold in range(folds.max() + 1):
        kept = np.flatnonzero(folds != fold)
        space = _fit_on_labels(sample, kept, labels, widths)
        scores = space.scores(sample.where((sample.labels >= 0) & ~np.isin(sample.labels, kept)))
        unknown.append(scores.max(axis=1))
        impostors.append(scores.ravel()[evenly(scores.size, _MAX_ROWS)])
        shares.append(np.full(len(scores), len(kept) / labels, np.float32))
    return ImpostorScores(np.concatenate(unknown), np.concatenate(impostors), np.concatenate(shares))


def choose_threshold(trials: ImpostorScores, known: FloatArray, rate: float | None) -> float | None:
    """Choose the lowest score that is accepted, by the rate or, if that is None, so that known speakers are spared.

    Returns
    -------
    float or None
        None for a rate of 0, too few trials for the rate or, without a rate, known and unknown speakers that are not
        told apart: the lower end of the area's interval is below `LEAST_AREA`.
    """
    if rate is not None:
        return threshold_for(trials, known, rate) if rate else None
    if not len(known) or lowest_area(known, trials.unknown) < LEAST_AREA:
        return None
    sparing = float(np.sort(known)[int(REFUSED_SHARE * len(known))])
    rank = max(1, int(_ACCEPTED_SHARE * float(trials.shares.mean()) * (len(trials.unknown) + 1)))
    rejecting = float(np.nextafter(np.sort(trials.unknown)[-rank], np.float32(np.inf)))
    # Where both kinds of mistake can be had rarely, the threshold is between: others have other scores than these.
    return sparing if rejecting > sparing else (rejecting + sparing) / 2


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
    lowest_known = np.quantile(known, _IGNORED_SHARE) if len(known) else lowest
    return float(max(lowest, (lowest + lowest_known) / 2))


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


def _means(rows: FloatArray, labels: IntArray) -> FloatArray:
    groups = Groups(labels.tolist())
    return groups.mean(rows)[np.argsort(groups.names)]
