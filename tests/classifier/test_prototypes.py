"""Embedding space, speaker models and open-set threshold, on synthetic speakers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.classifier.embedding import EmbeddingExamples, EmbeddingSpace, fit_embedding_spaces
from audionet.classifier.prototypes import (
    SpeakerModel,
    acceptance_threshold,
    false_acceptance_rate,
    fit_prototypes,
    fit_speaker_models,
    join_voices,
    read_outputs,
    unit_length,
    voice_share,
)
from tests.support.features import WIDTH, speakers, voice_space


def fit_embedding_space(sample: EmbeddingExamples, widths: list[int]) -> EmbeddingSpace:
    return fit_embedding_spaces(sample, widths, [None])[0]


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
    embeddings = comparison.embed(sample.features)
    first = fit_speaker_models(embeddings[:24], sample.labels[:24], embeddings[:0])
    other = fit_speaker_models(embeddings[24:], sample.labels[24:] - 2, embeddings[:0])
    places = np.cumsum(other.counts)
    parts = zip(other.centroids, np.split(other.prototypes, places[:-1]), other.norms, strict=True)
    joined = first.joined([SpeakerModel(centroid, prototypes, float(norm)) for centroid, prototypes, norm in parts])
    np.testing.assert_allclose(joined.scores(embeddings)[:, :2], first.scores(embeddings), atol=1e-6)
    np.testing.assert_allclose(joined.scores(embeddings)[:, 2:], other.scores(embeddings), atol=1e-6)


def test_a_cosine_of_joined_embeddings_is_the_weighted_mean_of_both() -> None:
    generator = np.random.default_rng(0)
    own, voices = (unit_length(generator.standard_normal((2, n)).astype(np.float32)) for n in (6, 4))
    joined = join_voices(own, voices, 0.7)
    np.testing.assert_allclose(np.linalg.norm(joined, axis=1), 1, atol=1e-6)
    assert joined[0] @ joined[1] == pytest.approx(0.3 * own[0] @ own[1] + 0.7 * voices[0] @ voices[1], abs=1e-6)
    assert voice_share(0) > voice_share(3) > voice_share(1000) == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("with_speech", [True, False])
def test_a_models_second_output_is_read_as_training_embeds(with_speech: bool) -> None:
    sample, space = speakers(3, 12), voice_space()
    for voices in (space, None):
        (comparison,) = fit_embedding_spaces(sample, [WIDTH], [voices])
        layer = comparison.output_layer(space if with_speech else None)
        embeddings, speech = read_outputs(sample.features @ layer.weights + layer.biases, comparison.voices)
        np.testing.assert_allclose(embeddings, comparison.embed(sample.features), atol=1e-5)
        assert (speech is None) != with_speech
        if speech is not None:
            np.testing.assert_allclose(speech, space.speech_logits(sample.features), atol=1e-5)


def test_the_voice_space_tells_speakers_of_one_chunk_apart() -> None:
    """In a space of its own, a model of one chunk a speaker knows nothing of how a speaker varies."""
    sample, test = speakers(6, 1), speakers(6, 20, seed=1)
    right = [
        (space.scores(test).argmax(axis=1) == test.labels).mean()
        for space in fit_embedding_spaces(sample, [WIDTH], [None, voice_space()])
    ]
    assert right[1] > right[0] + 0.2


def test_a_speaker_of_the_cohort_is_not_compared_with_itself() -> None:
    sample, space = speakers(3, 12), voice_space(cohort=30)
    (comparison,) = fit_embedding_spaces(sample, [WIDTH], [space])
    own = np.zeros((1, comparison.voices.centroids.shape[1] - 10), np.float32)
    itself = join_voices(own, space.cohort[:1], comparison.voices.voice_share)
    without = replace(comparison.voices, cohort=space.cohort[1:])
    np.testing.assert_allclose(comparison.voices.similarities(itself), without.similarities(itself), atol=1e-6)


def test_the_scale_makes_others_0_and_the_speaker_1() -> None:
    (comparison,) = fit_embedding_spaces(speakers(4, 12), [WIDTH], [None])
    embeddings = comparison.embed(speakers(4, 5, seed=1).features)
    similarities = comparison.voices.similarities(embeddings)
    low, high = np.float32([0.1, 0, -0.1, 0.2]), np.float32([0.8, 0.9, 1.0, 0.7])
    scores = comparison.voices.with_scale(low, high).scores(embeddings)
    np.testing.assert_allclose(scores, (similarities - low) / (high - low), atol=1e-6)


@given(st.lists(st.floats(-1, 1, width=32), max_size=60), st.floats(0.01, 0.6), st.floats(-1.25, 1.25, width=32))
def test_scores_from_the_acceptance_threshold_on_have_the_rate(scores: list[float], rate: float, score: float) -> None:
    impostors = np.array(scores, np.float32)
    threshold = acceptance_threshold(impostors, rate)
    assert (score >= threshold) == (false_acceptance_rate(score, impostors) <= rate * (1 + 1e-9))
