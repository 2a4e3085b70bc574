"""Open-set recognition: the model of labels and impostors that tells known speakers from unknown ones.

Unknown speakers are estimated by leave-one-label-out: each label in turn is held out of training and scored as an
impostor. Known speakers are recordings that the scoring models were not trained on.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.embedding import EmbeddingExamples, EmbeddingSpace, fit_embedding_spaces
from audionet.classifier.prototypes import join_voices
from audionet.classifier.rejection import RejectionRule
from audionet.classifier.similarities import (
    LOWEST_SCORE,
    MAX_ROWS,
    Similarities,
    compare_chunks,
    fit_on_labels,
    fit_scale,
)
from audionet.classifier.threshold import ImpostorScores, KnownScores, area_under_curve, choose_rule
from audionet.utils.arrays import BoolArray, FloatArray, evenly

_MAX_FOLDS = 10
_LEAST_IMPOSTORS = 60  # segments; with fewer, some are added with a cohort speaker's voice


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
        """Number of segments of known speakers that are refused, as clips of so many chunks are."""
        if self.rejection is None:
            return 0
        return int((~self.rejection.accepts(self.known.segments, self.known.chunks)).sum())

    @property
    def passing(self) -> BoolArray:
        """Segments of unknown speakers that are accepted, as clips of so many chunks are: a mask of shape (n,)."""
        if self.rejection is None or self.trials is None:
            return np.zeros(0, bool)
        return self.rejection.accepts(self.trials.unknown, self.trials.chunks)

    @property
    def area(self) -> float | None:
        """Probability that a known speaker scores higher than a held-out one (AUROC)."""
        if self.trials is None or not len(self.known.segments):
            return None
        return area_under_curve(self.known.segments, self.trials.unknown)


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
    of_known, of_background = (scores.where(chosen) for chosen in (is_known, ~is_known))
    known = _known_scores(of_known)
    trials = None
    if left_out is not None:
        unknown = left_out.scaled(space)
        trials = _impostor_scores(unknown if is_known.all() else unknown.joined(of_background))
    lacks_examples = are_voices is False and rate is None and bool((sample.labels >= 0).all() and is_known.all())
    rule = None if trials is None or lacks_examples else choose_rule(trials, known, rate)
    return OpenSet(space, trials, known, rate, rule, lacks_examples)


def _known_scores(scores: Similarities) -> KnownScores:
    segments, labels = scores.by_segment()
    return KnownScores(
        segments.max(axis=1, initial=LOWEST_SCORE),
        scores.values.max(axis=1, initial=LOWEST_SCORE),
        labels,
        scores.labels,
        scores.segment_chunks(),
    )


def _impostor_scores(scores: Similarities) -> ImpostorScores:
    segments, _ = scores.by_segment()
    compared = segments > LOWEST_SCORE
    impostors = segments[compared]
    return ImpostorScores(
        segments.max(axis=1),
        scores.values.max(axis=1),
        impostors[evenly(len(impostors), MAX_ROWS)],
        compared.mean(axis=1, dtype=np.float32),
        scores.segment_chunks(),
    )


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
        (space,) = fit_on_labels(sample, kept, labels, widths, [voice_space])
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
    return functools.reduce(Similarities.joined, parts)


def _with_cohort_voices(space: EmbeddingSpace, embeddings: FloatArray, number: int, seed: int) -> FloatArray:
    """Return impostors that have an embedding's own part, and in place of its voice that of a cohort speaker."""
    generator = np.random.default_rng(seed)
    cohort, share = space.voices.cohort, space.voices.voice_share
    voices = cohort[generator.permutation(len(cohort))[:number]]
    chosen = embeddings[generator.integers(len(embeddings), size=len(voices))]
    return join_voices(chosen[:, : -cohort.shape[1]] / np.float32((1 - share) ** 0.5), voices, share)
