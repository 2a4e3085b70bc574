"""Embedding space, speaker models and open-set threshold, on synthetic speakers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet._paths import enrolled_path
from audionet.classifier.enrolment import enrol, forget, read_enrolled
from audionet.classifier.head import Head, Layer
from audionet.classifier.model_files import ModelArrays, read_arrays, short_keys, thin_scores, write_arrays
from audionet.classifier.open_set import (
    EmbeddingExamples,
    ImpostorScores,
    choose_segments,
    fit_embedding_space,
    fit_open_set,
    leave_labels_out,
    segments_needed,
    segments_of,
    threshold_for,
)
from audionet.classifier.prototypes import (
    SpeakerModel,
    embed,
    false_acceptance_rate,
    fit_prototypes,
    fit_speaker_models,
    unit_length,
)
from audionet.data.dataset import ChunkImage
from audionet.errors import ModelError

WIDTH = 30


def speakers(labels: int, chunks: int, seed: int = 0, first: int = 0) -> EmbeddingExamples:
    """Draw speakers that differ in ten dimensions, with larger within-speaker variance in ten others."""
    means = np.random.default_rng(99).standard_normal((1000, 10))[first : first + labels]
    generator = np.random.default_rng((seed, first))
    rows = np.repeat(means, chunks, axis=0)
    varying = 3 * generator.standard_normal((len(rows), 10))
    own = rows + 0.3 * generator.standard_normal(rows.shape)
    noise = 0.1 * generator.standard_normal(rows.shape)
    features = np.concatenate([own, varying, noise], axis=1).astype(np.float32)
    return EmbeddingExamples(features, np.repeat(np.arange(labels), chunks), [(seed, row) for row in range(len(rows))])


def test_a_speaker_is_most_like_itself_and_an_unknown_one_like_none() -> None:
    comparison = fit_embedding_space(speakers(8, 40), [WIDTH])
    known, unknown = speakers(8, 20, seed=1), speakers(8, 20, seed=1, first=100)
    scores = comparison.scores(known)
    assert (scores.argmax(axis=1) == known.labels).mean() > 0.98
    assert np.quantile(scores.max(axis=1), 0.1) > np.quantile(comparison.scores(unknown).max(axis=1), 0.9)


def test_the_threshold_accepts_the_given_rate_of_unknown_speakers() -> None:
    found = fit_open_set(speakers(20, 30), speakers(20, 10, seed=1), [WIDTH], 0.1)
    assert found.threshold is not None
    scores = found.comparison.scores(speakers(60, 20, seed=2, first=200)).max(axis=1)
    assert (scores >= found.threshold).mean() == pytest.approx(0.1, abs=0.05)
    assert found.area is not None
    assert found.area > 0.97
    assert found.trials is not None
    assert len(found.trials.unknown) == 20 * 40
    assert len(found.known) == 200


def test_a_held_out_label_takes_no_part_in_the_space_it_is_scored_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import audionet.classifier.open_set as openset

    seen = []

    def spy(sample: EmbeddingExamples, widths: list[int]):
        seen.append(len(sample.labels))
        assert sorted(set(sample.labels.tolist())) == list(range(sample.labels.max() + 1))
        return fit_embedding_space(sample, widths)

    monkeypatch.setattr(openset, "fit_embedding_space", spy)
    sample = speakers(4, 10)
    trials = leave_labels_out(sample, [WIDTH])
    assert seen == [30] * 4
    assert trials is not None
    assert trials.shares.tolist() == [0.75] * 40
    assert len(trials.impostors) == 40 * 3
    seen.clear()
    assert leave_labels_out(speakers(25, 4), [WIDTH]) is not None
    assert len(seen) == 10


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


def test_two_labels_give_no_threshold_without_a_background() -> None:
    two = speakers(2, 20)
    assert leave_labels_out(two, [WIDTH]) is None
    found = fit_open_set(two, speakers(2, 5, seed=1), [WIDTH], 0.05)
    assert found.threshold is None
    assert found.area is None
    others = speakers(5, 10, first=50)
    labels = np.append(two.labels, np.full(50, -1))
    background = EmbeddingExamples(np.concatenate([two.features, others.features]), labels, list(range(90)))
    assert leave_labels_out(background, [WIDTH]) is not None


def test_validation_without_any_label_or_at_all() -> None:
    nothing = EmbeddingExamples(np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64), [])
    found = fit_open_set(speakers(4, 20), nothing, [WIDTH], 0.05)
    assert found.threshold is not None
    assert found.area is None


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_few_chunks_give_finite_scores(rows: int) -> None:
    sample = speakers(3, rows)
    assert np.isfinite(fit_embedding_space(sample, [WIDTH]).scores(sample)).all()
    same = EmbeddingExamples(np.repeat(sample.features[::rows], 2, axis=0), np.repeat(np.arange(3), 2), list(range(6)))
    assert np.isfinite(fit_embedding_space(same, [WIDTH]).scores(same)).all()


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=200), st.floats(0.01, 0.5), st.floats(0.5, 1))
def test_no_more_than_the_asked_share_of_trials_reaches_the_threshold(
    scores: list[float], rate: float, share: float
) -> None:
    unknown = np.array(scores, np.float32)
    trials = ImpostorScores(unknown, unknown, np.full(len(unknown), share, np.float32))
    threshold = threshold_for(trials, np.zeros(0, np.float32), rate)
    enough = len(unknown) >= segments_needed(trials, rate)
    assert (threshold is not None) == enough
    if threshold is not None:
        assert (unknown >= threshold).sum() < rate * (len(unknown) + 1)


def test_how_many_clips_a_rate_needs() -> None:
    trials = ImpostorScores(np.zeros(19, np.float32), np.zeros(0, np.float32), np.ones(19, np.float32))
    assert segments_needed(trials, 0.05) == 19
    assert threshold_for(trials, trials.impostors, 0.05) is not None
    assert (
        threshold_for(ImpostorScores(trials.unknown[1:], trials.impostors, trials.shares[1:]), trials.impostors, 0.05)
        is None
    )


def test_the_threshold_lies_in_the_gap_below_known_voices() -> None:
    trials = ImpostorScores(
        np.linspace(-0.5, 0.2, 100, dtype=np.float32), np.zeros(0, np.float32), np.ones(100, np.float32)
    )
    alone = threshold_for(trials, trials.impostors, 0.05)
    assert alone == pytest.approx(0.17, abs=0.01)
    assert threshold_for(trials, np.full(50, 0.9, np.float32), 0.05) == pytest.approx((0.17 + 0.9) / 2, abs=0.01)
    assert threshold_for(trials, np.full(50, 0.1, np.float32), 0.05) == alone


def test_outliers_are_like_no_speaker() -> None:
    comparison = fit_embedding_space(speakers(5, 30), [WIDTH])
    known = speakers(5, 10, seed=1)
    far = EmbeddingExamples(20 * known.features, known.labels, known.segments)
    assert comparison.scores(known).max(axis=1).mean() > 0.7
    assert comparison.scores(far).max() < 0.2


def test_the_rate_at_a_score() -> None:
    impostors = np.float32([0.1, 0.2, 0.3, 0.4])
    assert false_acceptance_rate(0.5, impostors) == pytest.approx(1 / 5)
    assert false_acceptance_rate(0.3, impostors) == pytest.approx(3 / 5)
    assert false_acceptance_rate(-1.0, impostors) == 1.0


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


def test_whole_segments_of_every_label_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import audionet.classifier.open_set as openset

    images = [ChunkImage("a", "long", i, Path("x"), f"{i}.jpg") for i in range(400)]
    images += [ChunkImage("b", f"{i}", 0, Path("x"), f"{i}.jpg") for i in range(5)]
    labels = np.repeat([0, 1], [400, 5])
    assert len(choose_segments(images, labels)) == 405
    monkeypatch.setattr(openset, "_MAX_ROWS", 80)
    chosen = choose_segments(images, labels)
    assert (chosen >= 400).sum() == 5
    of_long = [images[i].index for i in chosen if i < 400]
    assert len(of_long) == 40
    assert {index // 4 for index in of_long} == {of_long[i] // 4 for i in range(0, 40, 4)}
    assert len(set(segments_of([images[i] for i in chosen]))) == 15


def some_arrays(baseline: bool = True) -> ModelArrays:
    sample = speakers(3, 12)
    comparison = fit_embedding_space(sample, [WIDTH])
    last = Layer(np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32))
    head = Head(np.zeros(4, np.float32), np.ones(4, np.float32), None, False, last)
    scores = np.float32([0.3, 0.1, 0.2])
    return ModelArrays(
        comparison.voices,
        thin_scores(scores),
        thin_scores(scores),
        thin_scores(scores[:0]),
        np.arange(5, dtype=np.uint64),
        head if baseline else None,
    )


@pytest.mark.parametrize("baseline", [True, False])
def test_arrays_come_back_as_they_went(tmp_path: Path, baseline: bool) -> None:
    arrays, path = some_arrays(baseline), tmp_path / "x.npz"
    write_arrays(path, arrays)
    found = read_arrays(path, "run it again")
    np.testing.assert_array_equal(found.voices.prototypes, arrays.voices.prototypes)
    assert found.unknown.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.seen.dtype == np.uint64
    assert (found.baseline is not None) == baseline
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"x\.npz is damaged: run it again"):
        read_arrays(path, "run it again")


def test_seen_images_are_recognised() -> None:
    arrays = some_arrays()
    for keys, expected in (([3], True), ([9, 0], True), ([5, 2**63], False), ([], False)):
        assert arrays.has_seen(np.array(keys, np.uint64)) == expected


def test_very_many_scores_are_thinned_from_the_lowest_to_the_highest() -> None:
    kept = thin_scores(np.random.default_rng(0).permutation(50_000).astype(np.float32))
    assert (len(kept), kept[0], kept[-1]) == (2000, 0, 49_999)
    assert (np.diff(kept) > 0).all()


def test_short_keys_are_the_keys_beginnings() -> None:
    keys = np.frombuffer(bytes(range(32)), "V16")
    assert short_keys(keys).tobytes() == bytes(range(8)) + bytes(range(16, 24))


def test_enrolled_speakers_are_stored_replaced_and_removed(tmp_path: Path) -> None:
    path = enrolled_path(tmp_path / "retrained_graph.tflite")
    assert path.name == "retrained_enrolled.json"
    embeddings = unit_length(np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32))
    assert not enrol(path, "hash", 'Ann "Ö" \udcff', embeddings, 27.0)
    assert enrol(path, "hash", 'Ann "Ö" \udcff', embeddings[:3], 9.0)
    assert not enrol(path, "hash", "ben", embeddings, 27.0)
    found = read_enrolled(path, "hash", 5)
    assert list(found) == ['Ann "Ö" \udcff', "ben"]
    assert found["ben"].speaker.prototypes.shape == (3, 5)
    np.testing.assert_allclose(found["ben"].speaker.centroid, unit_length(embeddings.mean(axis=0)), atol=1e-5)
    assert forget(path, "hash", 5, "ben")
    assert not forget(path, "hash", 5, "ben")
    assert len(read_enrolled(path, "hash", 5)) == 1


def test_speakers_of_another_model_or_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "retrained_enrolled.json"
    enrol(path, "hash", "ann", np.eye(3, 5, dtype=np.float32), 9.0)
    with pytest.raises(ModelError, match="were enrolled in another model"):
        read_enrolled(path, "other", 5)
    with pytest.raises(ModelError, match="is damaged: delete it"):
        read_enrolled(path, "hash", 7)
    path.write_text('{"format": 1, "graph_sha256": "hash", "voices": {"ann": {"centroid": [1]}}}')
    with pytest.raises(ModelError, match="is damaged"):
        read_enrolled(path, "hash", 5)


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
