"""Speaker verification on a probe's recordings: error rates over pairs, for each kind of features.

Features are compared by their cosine, as they are or after standardisation over the recordings under test; a backbone
with a voice space, also in it, and there with and without cohort normalisation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.prototypes import unit_length
from audionet.metrics.accuracy import Groups
from audionet.metrics.detection import detection
from audionet.metrics.pairs import (
    COHORT_NEAREST,
    Pairs,
    normalise_by_cohort,
    pair_products,
    percentile_interval,
    resampled,
)
from audionet.probing.features import BANDS, MFCC, RESEMBLYZER, ClipFeatures, Network
from audionet.probing.tasks import VerificationMaterial
from audionet.utils.arrays import FloatArray, IntArray


@dataclass(frozen=True)
class VerificationRow:
    """Result of one way of comparing recordings.

    Attributes
    ----------
    features, comparison : str
    equal_error_rate, low, high : float
        With its 95 % interval, by resampling speakers.
    min_dcf : float
        Minimum normalised detection cost at a target prior of 0.01.
    """

    features: str
    comparison: str
    equal_error_rate: float
    low: float
    high: float
    min_dcf: float


@dataclass(frozen=True)
class VerificationResult:
    """Results of a verification material.

    Attributes
    ----------
    title, split : str
    speakers, recordings, targets, nontargets : int
    rows : list of VerificationRow
    """

    title: str
    split: str
    speakers: int
    recordings: int
    targets: int
    nontargets: int
    rows: list[VerificationRow]


def verify(
    material: VerificationMaterial,
    clips: Sequence[ClipFeatures],
    networks: Sequence[Network],
    voice_spaces: Sequence[VoiceSpace | None],
    seed: int,
) -> VerificationResult | None:
    """Compare a material's recordings by each kind of features; None if no pairs of both kinds are left.

    Parameters
    ----------
    material : VerificationMaterial
    clips : sequence of ClipFeatures
        Of its excerpts; an excerpt's features are the mean over its clips.
    networks : sequence of Network
    voice_spaces : sequence of VoiceSpace or None
        Of each backbone.
    seed : int
        Of the resampling.
    """
    groups = Groups(clip.excerpt for clip in clips)
    speakers = np.unique([material.speakers[number] for number in groups.names], return_inverse=True)[1]
    pairs = find_pairs(material, groups.names, speakers)
    if pairs.target.all() or not pairs.target.any():
        return None
    rows = []
    kinds = [(name, (name,), None) for name in (MFCC, BANDS, RESEMBLYZER) if name in clips[0].features]
    own = [(network.name, network.parts, space) for network, space in zip(networks, voice_spaces, strict=True)]
    voices = [network.parts[1] for network in networks if network.voice_width]
    own += [(name, (name,), None) for name in voices]
    for name, parts, space in [*kinds, *own]:
        features = np.stack([np.concatenate([clip.features[part] for part in parts]) for clip in clips])
        for comparison, scores in _comparisons(features, groups, name in (RESEMBLYZER, *voices), space, pairs):
            found = detection(scores, pairs.target)
            assert found is not None
            found_again = resampled(scores, pairs.target, speakers[pairs.first], speakers[pairs.second], seed)
            low, high = percentile_interval([one.equal_error_rate for one in found_again])
            rows.append(VerificationRow(name, comparison, found.equal_error_rate, low, high, found.min_dcf()))
    targets = int(pairs.target.sum())
    return VerificationResult(
        material.title,
        material.split,
        int(speakers.max()) + 1,
        len(groups.names),
        targets,
        len(pairs.target) - targets,
        rows,
    )


def find_pairs(material: VerificationMaterial, excerpts: Sequence[int], speakers: IntArray) -> Pairs:
    """Return the pairs that a material lists, as far as both recordings could be used, or else all pairs.

    Parameters
    ----------
    material : VerificationMaterial
    excerpts : sequence of int
        Number of each usable excerpt.
    speakers : ndarray of int64, shape (len(excerpts),)
    """
    if material.pairs is None:
        first, second = np.triu_indices(len(excerpts), 1)
        return Pairs(first, second, speakers[first] == speakers[second])
    place = {number: i for i, number in enumerate(excerpts)}
    listed = [(place[a], place[b], same) for a, b, same in material.pairs if a in place and b in place]
    numbers = np.array([(a, b) for a, b, _ in listed], np.int64).reshape(-1, 2)
    return Pairs(numbers[:, 0], numbers[:, 1], np.array([same for *_, same in listed], bool))


def _comparisons(
    features: FloatArray, groups: Groups[int], for_cosines: bool, space: VoiceSpace | None, pairs: Pairs
) -> Iterator[tuple[str, FloatArray]]:
    """Yield the ways of comparing features, with the scores of the pairs; those made for cosines as they are."""
    if for_cosines:
        yield "cosine", _cosines(unit_length(groups.mean(features)), pairs)
        return
    means = groups.mean(features)
    standardised = (means - means.mean(axis=0)) / np.maximum(means.std(axis=0), 1e-6)
    yield "standardised cosine", _cosines(unit_length(standardised), pairs)
    if space is not None:
        voices = unit_length(groups.mean(space.directions(features)))
        scores = _cosines(voices, pairs)
        yield "voice space", scores
        against = voices @ space.cohort.T
        yield "voice space, cohort", normalise_by_cohort(scores, against, against, pairs, COHORT_NEAREST)


def _cosines(vectors: FloatArray, pairs: Pairs) -> FloatArray:
    """Return the cosine of each pair of unit vectors, shape (pairs,), from vectors of shape (recordings, width)."""
    return pair_products(vectors, vectors, pairs)
