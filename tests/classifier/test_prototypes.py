"""Embedding space, speaker models and open-set threshold, on synthetic speakers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.classifier.open_set import (
    EmbeddingExamples,
    fit_embedding_space,
)
from audionet.classifier.prototypes import (
    SpeakerModel,
    embed,
    fit_prototypes,
    fit_speaker_models,
    unit_length,
)
from tests.support.features import WIDTH, speakers


def test_a_speaker_is_most_like_itself_and_an_unknown_one_like_none() -> None:
    comparison = fit_embedding_space(speakers(8, 40), [WIDTH])
    known, unknown = speakers(8, 20, seed=1), speakers(8, 20, seed=1, first=100)
    scores = comparison.scores(known)
    assert (scores.argmax(axis=1) == known.labels).mean() > 0.98
    assert np.quantile(scores.max(axis=1), 0.1) > np.quantile(comparison.scores(unknown).max(axis=1), 0.9)


def test_the_background_makes_unknown_speakers_less_like_known_ones() -> None:
    known, others = speakers(4, 30), speakers(20, 10, first=300)
    joined = EmbeddingExamples(
        np.concatenate([known.features, others.features]), np.append(known.labels, np.full(200, -1)), list(range(320))
    )
    plain, informed = fit_embedding_space(known, [WIDTH]), fit_embedding_space(joined, [WIDTH])
    more = speakers(20, 5, seed=3, first=300)
    ours = speakers(4, 10, seed=3)

    def apart(comparison) -> float:
        return comparison.scores(ours).max(axis=1).mean() - comparison.scores(more).max(axis=1).mean()

    assert apart(informed) > apart(plain)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_chunks_give_finite_scores(rows: int) -> None:
    sample = speakers(3, rows)
    assert np.isfinite(fit_embedding_space(sample, [WIDTH]).scores(sample)).all()
    same = EmbeddingExamples(np.repeat(sample.features[::rows], 2, axis=0), np.repeat(np.arange(3), 2), list(range(6)))
    assert np.isfinite(fit_embedding_space(same, [WIDTH]).scores(same)).all()


def test_outliers_are_like_no_speaker() -> None:
    comparison = fit_embedding_space(speakers(5, 30), [WIDTH])
    known = speakers(5, 10, seed=1)
    far = EmbeddingExamples(20 * known.features, known.labels, known.segments)
    assert comparison.scores(known).max(axis=1).mean() > 0.7
    assert comparison.scores(far).max() < 0.2


@settings(max_examples=30)
@given(st.integers(1, 60), st.integers(0, 1000))
def test_prototypes_are_of_unit_length_and_as_many_as_asked(chunks: int, seed: int) -> None:
    embeddings = unit_length(np.random.default_rng(seed).standard_normal((chunks, 8)).astype(np.float32))
    found = fit_prototypes(embeddings, 16)
    assert len(found) == min(16, max(1, chunks // 3))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)


def test_prototypes_find_the_clusters_of_a_speaker() -> None:
    centres = np.eye(4, dtype=np.float32)
    noise = 0.05 * np.random.default_rng(0).standard_normal((4, 30, 4)).astype(np.float32)
    embeddings = unit_length((centres[:, None] + noise).reshape(-1, 4))
    assert ((fit_prototypes(embeddings, 4) @ centres.T).max(axis=0) > 0.99).all()


def test_joined_speakers_are_scored_as_alone() -> None:
    sample = speakers(4, 12)
    comparison = fit_embedding_space(sample, [WIDTH])
    embeddings = embed(sample.features, comparison.space)
    first = fit_speaker_models(embeddings[:24], sample.labels[:24], embeddings[:0])
    other = fit_speaker_models(embeddings[24:], sample.labels[24:] - 2, embeddings[:0])
    places = np.cumsum(other.counts)
    parts = zip(other.centroids, np.split(other.prototypes, places[:-1]), other.norms, strict=True)
    joined = first.joined([SpeakerModel(centroid, prototypes, float(norm)) for centroid, prototypes, norm in parts])
    np.testing.assert_allclose(joined.scores(embeddings)[:, :2], first.scores(embeddings), atol=1e-6)
    np.testing.assert_allclose(joined.scores(embeddings)[:, 2:], other.scores(embeddings), atol=1e-6)
