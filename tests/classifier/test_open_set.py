from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.embedding import EmbeddingExamples, fit_embedding_spaces
from audionet.classifier.open_set import OpenSet, fit_open_set, leave_labels_out
from audionet.classifier.prototypes import false_acceptance_rate
from audionet.classifier.rejection import RejectionRule
from audionet.classifier.similarities import (
    LOWEST_SCORE,
    Similarities,
    are_voices,
    choose_segments,
    compare_chunks,
    compare_fold,
    fit_scale,
    segments_of,
)
from audionet.classifier.threshold import (
    ImpostorScores,
    KnownScores,
    choose_rule,
    lowest_area,
    lowest_known,
    segments_needed,
    threshold_for,
)
from audionet.data.dataset import ChunkImage
from audionet.errors import DamagedError
from tests.support.features import WIDTH, speakers, voice_space


def held_out(sample: EmbeddingExamples, test: EmbeddingExamples, voices: VoiceSpace | None = None) -> Similarities:
    """Similarities of test examples to models that were fitted on the sample."""
    return compare_fold(sample, test, int(sample.labels.max()) + 1, [WIDTH], [voices])[0]


NOTHING = EmbeddingExamples(np.zeros((0, WIDTH), np.float32), np.zeros(0, np.int64), [])


def test_the_threshold_accepts_the_given_rate_of_unknown_speakers() -> None:
    sample = speakers(20, 30)
    found = fit_open_set(sample, held_out(sample, speakers(20, 10, seed=1)), [WIDTH], None, 0.1)
    assert found.rejection is not None
    scores = found.comparison.scores(speakers(60, 20, seed=2, first=200)).max(axis=1)
    assert (scores >= found.rejection.several).mean() == pytest.approx(0.1, abs=0.05)
    assert found.area is not None
    assert found.area > 0.97
    assert found.trials is not None
    assert len(found.trials.unknown) == 20 * 30
    assert len(found.known.segments) == 200


def test_a_held_out_label_takes_no_part_in_the_space_it_is_scored_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import audionet.classifier.similarities as similarities

    seen = []

    def spy(sample: EmbeddingExamples, widths: list[int], voices: list[None]):
        seen.append(len(sample.labels))
        assert sorted(set(sample.labels.tolist())) == list(range(sample.labels.max() + 1))
        return fit_embedding_spaces(sample, widths, voices)

    monkeypatch.setattr(similarities, "fit_embedding_spaces", spy)
    sample = speakers(4, 10)
    trials = leave_labels_out(sample, [WIDTH], None)
    assert seen == [30] * 4
    assert trials is not None
    assert ((trials.values > LOWEST_SCORE).mean(axis=1) == 0.75).all()
    assert (trials.values[:10, 0] == LOWEST_SCORE).all()
    seen.clear()
    assert leave_labels_out(speakers(25, 4), [WIDTH], None) is not None
    assert len(seen) == 10


def test_two_labels_give_no_threshold_without_a_background_or_a_cohort() -> None:
    two = speakers(2, 20)
    assert leave_labels_out(two, [WIDTH], None) is None
    test = held_out(two, speakers(2, 5, seed=1))
    found = fit_open_set(two, test, [WIDTH], None, 0.05)
    assert found.rejection is None
    assert found.area is None
    others = speakers(5, 10, first=50)
    labels = np.append(two.labels, np.full(50, -1))
    background = EmbeddingExamples(np.concatenate([two.features, others.features]), labels, list(range(90)))
    assert leave_labels_out(background, [WIDTH], None) is not None
    voices = voice_space()
    with_voices = fit_open_set(two, held_out(two, speakers(2, 5, seed=1), voices), [WIDTH], voices, None)
    assert with_voices.rejection is not None
    unknown = with_voices.comparison.scores(speakers(60, 4, seed=3, first=300)).max(axis=1)
    assert (unknown < with_voices.rejection.several).mean() > 0.8


def test_labels_that_are_no_voices_need_examples_of_the_unknown() -> None:
    sample, others = speakers(5, 20), speakers(5, 10, first=50)
    test = held_out(sample, speakers(5, 8, seed=1))
    for voices, rate, expected in ((None, None, True), (False, None, False), (False, 0.05, True)):
        found = fit_open_set(sample, test, [WIDTH], None, rate, voices)
        assert (found.rejection is not None) == expected
        assert found.lacks_examples == (not expected)
    labels = np.append(sample.labels, np.full(50, -1))
    both = EmbeddingExamples(np.concatenate([sample.features, others.features]), labels, list(range(150)))
    found = fit_open_set(both, test, [WIDTH], None, None, are_voices=False)
    assert found.rejection is not None


def test_few_impostors_are_joined_by_some_with_cohort_voices() -> None:
    sample, voices = speakers(4, 3), voice_space()
    alone = EmbeddingExamples(sample.features, sample.labels, list(range(12)))
    trials = leave_labels_out(alone, [WIDTH], voices)
    assert trials is not None
    assert len(trials.values) == 12 + 60
    assert len(set(trials.segments)) == 72
    many = leave_labels_out(speakers(8, 20), [WIDTH], voices)
    assert many is not None
    assert len(many.values) == 160


def test_validation_without_any_label_or_at_all() -> None:
    sample = speakers(4, 20)
    nothing = held_out(sample, NOTHING)
    found = fit_open_set(sample, nothing, [WIDTH], None, 0.05)
    assert found.rejection is not None
    single = fit_open_set(speakers(4, 1), held_out(speakers(4, 1), NOTHING), [WIDTH], None, None)
    assert single.rejection is None  # nothing is known of how new recordings of the labels score


def test_labels_of_one_recording_are_compared_with_their_own_other_chunks() -> None:
    sample = speakers(4, 8)
    found = compare_chunks(sample, np.array([1, 3]), [WIDTH], None)
    assert found is not None
    assert sorted(found.labels.tolist()) == [1] * 8 + [3] * 8
    assert (found.values.argmax(axis=1) == found.labels).mean() > 0.8
    assert compare_chunks(speakers(4, 1), np.array([1]), [WIDTH], None) is None


def test_a_label_of_poor_recordings_is_scaled_to_the_others() -> None:
    """Of one label, recordings are less like its model: on one scale, as many of them are above a threshold."""
    generator = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), 60)
    values = generator.normal(0, 0.05, (180, 3)).astype(np.float32)
    values[np.arange(180), labels] += np.where(labels == 2, 0.5, 0.9)
    found = Similarities(values, labels, list(range(180)))
    low, high = fit_scale(found, None)
    scores = ((values - low) / (high - low))[np.arange(180), labels]
    means = [scores[labels == label].mean() for label in range(3)]
    np.testing.assert_allclose(means, 1, atol=0.06)
    few = Similarities(values[::60], labels[::60], [0, 1, 2])
    assert fit_scale(few, None)[1][2] > 0.65  # one recording is little evidence


def test_words_are_no_voices() -> None:
    """The voice space hears the ten dimensions that tell speakers apart, and none of those of words."""
    generator = np.random.default_rng(0)
    sample = speakers(5, 12)
    words = np.zeros((60, WIDTH), np.float32)
    words[:, 20:] = 2 * np.random.default_rng(5).standard_normal((5, 10))[sample.labels]
    words += generator.standard_normal(words.shape).astype(np.float32)
    for features, voices in ((sample.features, True), (words, False)):
        every = EmbeddingExamples(features, sample.labels, sample.segments)
        even = np.arange(60) % 2 == 0
        compared = compare_fold(every.where(even), every.where(~even), 5, [WIDTH], [None, voice_space()])
        assert are_voices(*compared) == voices
    nothing = compare_fold(sample, NOTHING, 5, [WIDTH], [None, voice_space()])
    assert are_voices(*nothing)


@given(st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=200), st.floats(0.01, 0.5), st.floats(0.5, 1))
def test_no_more_than_the_asked_share_of_trials_reaches_the_threshold(
    scores: list[float], rate: float, share: float
) -> None:
    unknown = np.array(scores, np.float32)
    trials = ImpostorScores(unknown, unknown, unknown, np.full(len(unknown), share, np.float32), ones(unknown))
    threshold = threshold_for(trials, np.zeros(0, np.float32), rate)
    enough = len(unknown) >= segments_needed(trials, rate)
    assert (threshold is not None) == enough
    if threshold is not None:
        assert (unknown >= threshold).sum() < rate * (len(unknown) + 1)


def test_how_many_clips_a_rate_needs() -> None:
    trials = impostors(np.zeros(19, np.float32))
    assert segments_needed(trials, 0.05) == 19
    assert threshold_for(trials, trials.unknown[:0], 0.05) is not None
    assert threshold_for(impostors(trials.unknown[1:]), trials.unknown[:0], 0.05) is None


def test_the_threshold_lies_in_the_gap_below_known_voices() -> None:
    trials = impostors(np.linspace(-0.5, 0.2, 100, dtype=np.float32))
    alone = threshold_for(trials, trials.unknown[:0], 0.05)
    assert alone == pytest.approx(0.17, abs=0.01)
    assert threshold_for(trials, np.full(50, 0.9, np.float32), 0.05) == pytest.approx((0.17 + 0.9) / 2, abs=0.01)
    assert threshold_for(trials, np.full(50, 0.1, np.float32), 0.05) == alone


def test_the_rate_at_a_score() -> None:
    impostors = np.float32([0.1, 0.2, 0.3, 0.4])
    assert false_acceptance_rate(0.5, impostors) == pytest.approx(1 / 5)
    assert false_acceptance_rate(0.3, impostors) == pytest.approx(3 / 5)
    assert false_acceptance_rate(-1.0, impostors) == 1.0


def test_whole_segments_of_every_label_are_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import audionet.classifier.similarities as similarities

    images = [ChunkImage("a", "long", i, Path("x"), f"{i}.jpg") for i in range(400)]
    images += [ChunkImage("b", f"{i}", 0, Path("x"), f"{i}.jpg") for i in range(5)]
    labels = np.repeat([0, 1], [400, 5])
    assert len(choose_segments(images, labels)) == 405
    monkeypatch.setattr(similarities, "MAX_ROWS", 80)
    chosen = choose_segments(images, labels)
    assert (chosen >= 400).sum() == 5
    of_long = [images[i].index for i in chosen if i < 400]
    assert len(of_long) == 40
    assert {index // 4 for index in of_long} == {of_long[i] // 4 for i in range(0, 40, 4)}
    assert len(set(segments_of([images[i] for i in chosen]))) == 15


def ones(scores: np.ndarray) -> np.ndarray:
    return np.ones(len(scores), np.int64)


def test_clips_are_counted_as_clips_of_so_many_chunks_are_answered() -> None:
    scores, of, chunks = np.full(3, 0.85, np.float32), np.zeros(3, np.int64), np.array([1, 4, 9])
    trials = ImpostorScores(scores, scores, scores, np.ones(3, np.float32), chunks)
    rule = RejectionRule(several=0.9, single=0.8, window=0.9, slope=10.0)
    found = OpenSet(None, trials, KnownScores(scores, scores, of, of, chunks), None, rule)  # type: ignore[arg-type]
    assert found.passing.tolist() == [True, False, False]
    assert found.refused == 2


def impostors(unknown: np.ndarray) -> ImpostorScores:
    return ImpostorScores(unknown, unknown, unknown, np.ones(len(unknown), np.float32), ones(unknown))


def known_scores(scores: np.ndarray, labels: np.ndarray | None = None) -> KnownScores:
    of = np.zeros(len(scores), np.int64) if labels is None else labels
    return KnownScores(scores, scores, of, of, ones(scores))


def test_without_a_rate_known_speakers_are_spared() -> None:
    """Of a hundred known segments at most five are refused, however many unknown ones pass for that."""
    generator = np.random.default_rng(0)
    known = generator.normal(0.7, 0.15, 100).astype(np.float32)
    for mean in (0.1, 0.3, 0.4):
        unknown = generator.normal(mean, 0.15, 60).astype(np.float32)
        rule = choose_rule(impostors(unknown), known_scores(known), None)
        assert rule is not None
        assert (known < rule.several).sum() <= 5
        assert rule.single <= rule.several
    gap = choose_rule(impostors(np.full(60, 0.1, np.float32)), known_scores(known), None)
    assert gap is not None
    assert 0.1 < gap.several < np.sort(known)[5]


def test_few_known_scores_that_agree_promise_little() -> None:
    few = known_scores(np.float32([0.98, 1.0, 1.02]))
    many = known_scores(np.random.default_rng(0).normal(1, 0.02, 200).astype(np.float32))
    low = np.random.default_rng(1).normal(0.85, 0.05, 60).astype(np.float32)  # nothing to gain by a lower threshold
    thresholds = [rule.several for known in (few, many) if (rule := choose_rule(impostors(low), known, None))]
    assert thresholds[0] < 0.9 < thresholds[1]


def test_a_rare_label_counts_as_much_as_a_frequent_one() -> None:
    """Five in a hundred of both labels' scores are two of ten of the rare one, which all lie lowest."""
    scores = np.concatenate([np.linspace(0.9, 1.1, 400), np.linspace(0.5, 0.6, 10)]).astype(np.float32)
    labels = np.repeat([0, 1], [400, 10])
    assert lowest_known(scores, labels) < 0.52
    assert lowest_known(scores, np.zeros(410, np.int64)) > 0.8


def test_speakers_that_are_not_told_from_unknown_ones_are_never_refused() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(0.5, 0.1, (2, 80)).astype(np.float32)
    trials = impostors(scores[0])
    assert choose_rule(trials, known_scores(scores[1]), None) is None
    assert choose_rule(trials, known_scores(scores[1] + 0.12), None) is None  # the area is 0.8, but may be less
    assert choose_rule(trials, known_scores(scores[1] + 0.3), None) is not None
    assert choose_rule(trials, known_scores(scores[1]), 0.05) is not None
    assert choose_rule(trials, known_scores(scores[1]), 0.0) is None


@given(st.floats(0, 1), st.floats(0, 1), st.floats(1, 50), st.floats(1, 50))
def test_the_threshold_of_more_chunks_lies_between_that_of_one_and_of_several(
    several: float, single: float, one: float, other: float
) -> None:
    rule = RejectionRule(several, single, 1.0, 10.0)
    assert rule.threshold(1) == pytest.approx(single)
    assert rule.threshold(4) == rule.threshold(100) == pytest.approx(several)
    fewer, more = sorted((one, other))
    distances = [abs(rule.threshold(chunks) - several) for chunks in (fewer, more)]
    assert distances[0] >= distances[1] - 1e-9
    assert RejectionRule.from_json(rule.as_json()) == rule


def test_a_damaged_rejection_rule_is_refused() -> None:
    assert RejectionRule.from_json(None) is None
    right = {"several": 1, "single": 1, "window": 1, "slope": 2}
    assert RejectionRule.from_json(right) == RejectionRule(1.0, 1.0, 1.0, 2.0)
    for content in (
        {},
        right | {"slope": 0},
        [1],
        {"several": "x"},
        right | {"single": "1"},
        right | {"window": 1e300},
    ):
        with pytest.raises(DamagedError):
            RejectionRule.from_json(content)


def test_the_lower_end_of_the_area_is_below_it_by_the_spread_of_samples() -> None:
    """Areas of samples from two Gaussians lie above the lower end of the first sample's interval 39 times of 40."""
    generator = np.random.default_rng(0)
    pairs = generator.normal([[1.0], [0.0]], 1, (400, 2, 30)).astype(np.float32)
    true = 0.7602  # of Gaussians one deviation apart: the normal distribution at the square root of a half
    below = [lowest_area(known, unknown) <= true for known, unknown in pairs]
    assert 0.93 < np.mean(below) < 0.999
