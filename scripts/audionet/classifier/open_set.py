"""Telling known voices from unknown ones: the space they are compared in, and how far to trust it.

Labels are left out of the training data in turn and played as unknown voices to what was learned from the others.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from audionet.classifier.head import Layer, standardisation
from audionet.classifier.prototypes import SpeakerModels, embed, fit_speaker_models
from audionet.data.dataset import ChunkImage
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import FloatArray, IntArray, evenly

SEGMENT_CHUNKS = 4
"""Chunks that are judged together, as a clip would be; a longer recording counts as several clips."""

_DIMENSIONS = 128
_SHRINKAGE = 0.1
_WITHIN = 0.95  # share of the chunks that lie within a distance of 1
_REFUSED_AT_MOST = 0.01  # share of known voices that do not count where a gap is looked for
_MOST_FOLDS = 10
_MOST_ROWS = 6000


@dataclass(frozen=True)
class EmbeddingExamples:
    """Bottlenecks of chunks whose voices are compared.

    Attributes
    ----------
    features : ndarray of float32, shape (n, width)
    labels : ndarray of int64, shape (n,)
        -1 for chunks of the background.
    stretches : list of n hashable
        What each chunk is judged together with.
    """

    features: FloatArray
    labels: IntArray
    stretches: Sequence[Hashable]

    def where(self, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> EmbeddingExamples:
        """Some of the chunks."""
        stretches = [self.stretches[i] for i in np.flatnonzero(chosen).tolist()]
        return EmbeddingExamples(self.features[chosen], self.labels[chosen], stretches)


@dataclass(frozen=True)
class EmbeddingSpace:
    """How voices are compared: the layer that gives embeddings, and the voices of the training set."""

    space: Layer
    voices: SpeakerModels

    def scores(self, sample: EmbeddingExamples) -> FloatArray:
        """How much stretches are like each voice, shape (stretches, voices), the mean over their chunks."""
        return Groups(sample.stretches).mean(self.voices.scores(embed(sample.features, self.space)))


@dataclass(frozen=True)
class ImpostorScores:
    """Scores of voices that were not trained on.

    Attributes
    ----------
    unknown : ndarray of float32, shape (n,)
        The best score of each stretch of an unknown voice.
    impostors : ndarray of float32, shape (m,)
        The score of each such stretch for every voice that it might have been taken for.
    shares : ndarray of float32, shape (n,)
        For each stretch, how many voices it could be taken for, as a share of all the model's.
    """

    unknown: FloatArray
    impostors: FloatArray
    shares: FloatArray


@dataclass(frozen=True)
class OpenSet:
    """What is known of telling voices apart that were not trained on.

    Attributes
    ----------
    comparison : Comparison
    trials : Trials or None
        None of two labels without a background.
    known : ndarray of float32, shape (n,)
        The best score of each of the validation set's stretches.
    rate : float
        Share of unknown voices that may be taken for one of the labels; 0 if unknown is never to be answered.
    threshold : float or None
        The least score of a known voice; None where the trials do not support one.
    """

    comparison: EmbeddingSpace
    trials: ImpostorScores | None
    known: FloatArray
    rate: float
    threshold: float | None

    @property
    def area(self) -> float | None:
        """Chance that a known voice scores higher than one that was left out (AUROC)."""
        if self.trials is None or not len(self.known):
            return None
        from sklearn.metrics import roc_auc_score

        known = np.arange(len(self.known) + len(self.trials.unknown)) < len(self.known)
        return float(roc_auc_score(known, np.concatenate([self.known, self.trials.unknown])))


def fit_open_set(
    training: EmbeddingExamples, validation: EmbeddingExamples, widths: Sequence[int], rate: float
) -> OpenSet:
    """Learn to compare voices, and find out how far that goes.

    Examples of the background in the validation set are played as unknown voices as well.

    Parameters
    ----------
    training, validation : Sample
        Of the same labels; in the training set every label from 0 to the highest at least once.
    widths : sequence of int
        Widths of the parts that the features are joined of.
    rate : float
        Share of unknown voices that may be taken for one of the labels, 0 to 1; 0 if unknown is never to be answered.
    """
    comparison = fit_embedding_space(training, widths)
    together = EmbeddingExamples(
        np.concatenate([training.features, validation.features]),
        np.concatenate([training.labels, validation.labels]),
        [*training.stretches, *validation.stretches],
    )
    background = validation.labels < 0
    trials = leave_labels_out(
        together.where(np.concatenate([np.ones(len(training.labels), bool), ~background])), widths
    )
    if trials is not None and background.any():
        scores = comparison.scores(validation.where(background))
        trials = ImpostorScores(
            np.concatenate([trials.unknown, scores.max(axis=1)]),
            np.concatenate([trials.impostors, scores.ravel()[evenly(scores.size, _MOST_ROWS)]]),
            np.concatenate([trials.shares, np.ones(len(scores), np.float32)]),
        )
    known = np.zeros(0, np.float32)
    if not background.all():
        known = comparison.scores(validation.where(~background)).max(axis=1)
    threshold = threshold_for(trials, known, rate) if trials is not None and rate else None
    return OpenSet(comparison, trials, known, rate, threshold)


def fit_embedding_space(sample: EmbeddingExamples, widths: Sequence[int]) -> EmbeddingSpace:
    """Learn to compare voices from chunks of some.

    Bottlenecks are standardised, reduced to their principal components, and scaled so that one voice varies alike
    in all directions (within-class covariance normalisation: Hatch, Kajarekar & Stolcke, 2006), and so that nearly all
    of the labels' chunks lie within a distance of 1.

    Parameters
    ----------
    sample : Sample
        Every label from 0 to the highest at least once.
    widths : sequence of int
        Widths of the parts that the features are joined of.
    """
    from sklearn.decomposition import PCA

    known, labels = sample.labels >= 0, sample.labels[sample.labels >= 0]
    offset, scale = standardisation([sample.features], widths)
    standardised = (sample.features - offset) * scale
    dimensions = min(_DIMENSIONS, *standardised.shape)
    components = PCA(dimensions, svd_solver="randomized", iterated_power=3, random_state=0).fit(standardised)
    reduced = standardised @ components.components_.T
    means = _means(reduced[known], labels)
    around = reduced[known] - means[labels]
    within = around.T @ around / len(around)
    floor = max(np.trace(within) / dimensions, 1e-3 * float(reduced.var(axis=0).mean()), 1e-12)
    values, vectors = np.linalg.eigh((1 - _SHRINKAGE) * within + _SHRINKAGE * floor * np.eye(dimensions))
    whitening = vectors / np.sqrt(values)
    everybody = means if known.all() else np.concatenate([means, reduced[~known].mean(axis=0, keepdims=True)])
    matrix = scale[:, None] * (components.components_.T @ whitening)
    biases = -offset @ matrix - everybody.mean(axis=0) @ whitening
    distances = np.linalg.norm(sample.features[known] @ matrix + biases, axis=1)
    scale_of_space = max(float(np.quantile(distances, _WITHIN)), 1e-12)
    space = Layer((matrix / scale_of_space).astype(np.float32), (biases / scale_of_space).astype(np.float32))
    embeddings = embed(sample.features, space)
    return EmbeddingSpace(space, fit_speaker_models(embeddings[known], labels, embeddings[~known]))


def leave_labels_out(sample: EmbeddingExamples, widths: Sequence[int]) -> ImpostorScores | None:
    """Play each label to what was learned without it; None of fewer than three labels and no background.

    More than ten labels are left out some at a time.
    """
    labels = int(sample.labels.max()) + 1
    if labels < (2 if (sample.labels < 0).any() else 3):
        return None
    folds = np.arange(labels) % min(labels, _MOST_FOLDS)
    unknown, impostors, shares = [], [], []
    for fold in range(folds.max() + 1):
        kept = np.flatnonzero(folds != fold)
        number = np.full(labels + 1, -1)
        number[kept] = np.arange(len(kept))
        out = (sample.labels >= 0) & (number[sample.labels] < 0)
        rest = sample.where(~out)
        learned = fit_embedding_space(EmbeddingExamples(rest.features, number[rest.labels], rest.stretches), widths)
        scores = learned.scores(sample.where(out))
        unknown.append(scores.max(axis=1))
        impostors.append(scores.ravel()[evenly(scores.size, _MOST_ROWS)])
        shares.append(np.full(len(scores), len(kept) / labels, np.float32))
    return ImpostorScores(np.concatenate(unknown), np.concatenate(impostors), np.concatenate(shares))


def threshold_for(trials: ImpostorScores, known: FloatArray, rate: float) -> float | None:
    """The least score at which at most a share `rate` of unknown voices is accepted.

    Where n stretches of unknown voices were played, the next one exceeds the k-th highest of their scores with a
    probability of at most k / (n + 1) (Vovk, Gammerman & Shafer, Algorithmic learning in a random world, 2005). A model
    that knows all labels can take an unknown voice for more of them than one from which some were left out, and
    so has that many more chances to be wrong; the rate asked of the trials is lower accordingly. Where that leaves a
    gap below the known voices' scores, the threshold lies in its middle: voices of other kinds than those that were
    left out have other scores.

    Returns
    -------
    float or None
        None where fewer than `segments_needed` stretches were played.
    """
    place = int(np.floor(rate * float(trials.shares.mean()) * (len(trials.unknown) + 1)))
    if place < 1:
        return None
    least = np.nextafter(np.sort(trials.unknown)[-place], np.float32(np.inf))
    lowest_known = np.quantile(known, _REFUSED_AT_MOST) if len(known) else least
    return float(max(least, (least + lowest_known) / 2))


def segments_needed(trials: ImpostorScores, rate: float) -> int:
    """How many stretches of unknown voices support a threshold."""
    return int(np.ceil(1 / (rate * float(trials.shares.mean())))) - 1


def segments_of(images: Sequence[ChunkImage]) -> list[Hashable]:
    """Which chunks are judged together: a few that follow each other in one recording."""
    return [(image.label, image.recording, image.index // SEGMENT_CHUNKS) for image in images]


def choose_segments(images: Sequence[ChunkImage], labels: IntArray) -> IntArray:
    """Whole stretches of each label, evenly chosen where there are more chunks than comparing voices needs.

    Parameters
    ----------
    images : sequence of Image
    labels : ndarray of int64, shape (len(images),)

    Returns
    -------
    ndarray of int64
        Places among the images, in order.
    """
    stretches = Groups(segments_of(images))
    present = np.unique(labels)
    of_stretch = np.empty(len(stretches.names), np.int64)
    of_stretch[stretches.member] = labels
    quota = max(2.0, _MOST_ROWS / max(1, len(present)))
    chosen = np.zeros(len(stretches.names), bool)
    for label in present:
        places = np.flatnonzero(of_stretch == label)
        most = int(max(1, quota / stretches.sizes[places].mean()))
        chosen[places[evenly(len(places), most)]] = True
    return np.flatnonzero(chosen[stretches.member])


def _means(rows: FloatArray, labels: IntArray) -> FloatArray:
    groups = Groups(labels.tolist())
    return groups.mean(rows)[np.argsort(groups.names)]
