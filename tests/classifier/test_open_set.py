from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.classifier.open_set import (
    EmbeddingExamples,
    ImpostorScores,
    choose_segments,
    choose_threshold,
    fit_embedding_space,
    fit_open_set,
    leave_labels_out,
    lowest_area,
    segments_needed,
    segments_of,
    threshold_for,
)
from audionet.classifier.prototypes import (
    false_acceptance_rate,
)
from audionet.data.dataset import ChunkImage
from tests.support.features import WIDTH, speakers


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


def test_the_rate_at_a_score() -> None:
    impostors = np.float32([0.1, 0.2, 0.3, 0.4])
    assert false_acceptance_rate(0.5, impostors) == pytest.approx(1 / 5)
    assert false_acceptance_rate(0.3, impostors) == pytest.approx(3 / 5)
    assert false_acceptance_rate(-1.0, impostors) == 1.0


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


def test_without_a_rate_known_speakers_are_spared() -> None:
    """Of a hundred known segments at most five are refused, however many unknown ones pass for that."""
    generator = np.random.default_rng(0)
    known = generator.normal(0.7, 0.15, 100).astype(np.float32)
    for mean in (0.1, 0.3, 0.4):
        unknown = generator.normal(mean, 0.15, 60).astype(np.float32)
        trials = ImpostorScores(unknown, unknown, np.ones(60, np.float32))
        threshold = choose_threshold(trials, known, None)
        assert threshold is not None
        assert (known < threshold).sum() <= 5
    clear = np.full(60, 0.1, np.float32)
    gap = choose_threshold(ImpostorScores(clear, clear, np.ones(60, np.float32)), known, None)
    assert 0.1 < gap < np.sort(known)[5]


def test_speakers_that_are_not_told_from_unknown_ones_are_never_refused() -> None:
    generator = np.random.default_rng(0)
    scores = generator.normal(0.5, 0.1, (2, 80)).astype(np.float32)
    trials = ImpostorScores(scores[0], scores[0], np.ones(80, np.float32))
    assert choose_threshold(trials, scores[1], None) is None
    assert choose_threshold(trials, scores[1] + 0.12, None) is None  # the area is 0.8, but may be less
    assert choose_threshold(trials, scores[1] + 0.3, None) is not None
    assert choose_threshold(trials, scores[1], 0.05) is not None
    assert choose_threshold(trials, scores[1], 0.0) is None


def test_the_lower_end_of_the_area_is_below_it_by_the_spread_of_samples() -> None:
    """Areas of samples from two Gaussians lie above the lower end of the first sample's interval 39 times of 40."""
    generator = np.random.default_rng(0)
    pairs = generator.normal([[1.0], [0.0]], 1, (400, 2, 30)).astype(np.float32)
    true = 0.7602  # of Gaussians one deviation apart: the normal distribution at the square root of a half
    below = [lowest_area(known, unknown) <= true for known, unknown in pairs]
    assert 0.93 < np.mean(below) < 0.999
