"""Which chunks of a clip count, what they say together, and whose voices are in it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.classifier.decision import Costs, Rule
from audionet.classifier.rejection import RejectionRule
from audionet.inference.answer import NO_SPEECH, Answer, ChunkAnswer, Decider, combine_chunks, find_pauses

LABELS = ["ann", "ben", "cem"]
RULE = RejectionRule(several=0.6, single=0.5, window=0.7, slope=20.0)
DECIDER = Decider(LABELS, [], Rule(Costs(3)), RULE, 0.9)


def chunk(start: float, speaker: int, score: float = 1.0, **changes: object) -> ChunkAnswer:
    """Make the answer for a chunk of a speaker; a low score is that of an unknown one who resembles it."""
    probabilities = np.full(3, 0.02, np.float32)
    probabilities[speaker] = 0.96
    scores = np.zeros(3, np.float32)
    scores[speaker] = score
    return ChunkAnswer(start, probabilities, scores)._replace(**{"level": -20.0} | changes)


def combined(chunks: list[ChunkAnswer], seconds: float, silent: tuple[float, ...] = (), decider=DECIDER) -> Answer:
    return combine_chunks(decider, chunks, silent, 3.0, 3.0, seconds, None)


def test_chunks_far_below_the_loudest_or_far_emptier_than_the_fullest_are_pauses() -> None:
    chunks = [
        chunk(0, 0),
        chunk(3, 0, level=-64.0),
        chunk(6, 0, level=-66.0),
        chunk(9, 0, activity=0.5),
        chunk(12, 0, activity=0.3),
        chunk(15, 0, speech=False),
        chunk(18, 0, level=None),
    ]
    assert find_pauses(chunks).tolist() == [False, False, True, False, True, True, False]


@given(st.lists(st.tuples(st.floats(-100, 0), st.floats(0, 1), st.booleans()), min_size=1, max_size=8))
def test_never_is_everything_a_pause(kinds: list[tuple[float, float, bool]]) -> None:
    chunks = [chunk(0, 0, level=level, activity=activity, speech=speech) for level, activity, speech in kinds]
    assert not find_pauses(chunks).all()


def test_pauses_do_not_change_the_answer() -> None:
    voice = [chunk(0, 1), chunk(3, 1)]
    noise = [chunk(start, 0, 0.1, level=-70.0) for start in (6.0, 9.0)]
    alone, around = combined(voice, 6.0), combined([*voice, *noise], 15.0, silent=(12.0,))
    assert around.decision == alone.decision
    assert around.decision.label == "ben"
    assert around.pauses == [6.0, 9.0, 12.0]
    np.testing.assert_array_equal(around.probabilities, alone.probabilities)


def test_chunks_weigh_by_their_sound() -> None:
    answer = combined([chunk(0, 0), chunk(3, 1, activity=0.5)], 6.0)
    assert answer.probabilities[0] == pytest.approx((0.96 + 0.5 * 0.02) / 1.5)
    assert answer.scores[1] == pytest.approx(0.5 / 1.5)


def test_a_clip_without_speech_is_nobody_of_spoken_labels() -> None:
    answer = combined([chunk(0, 0, speech=False), chunk(3, 0, speech=False)], 6.0)
    assert answer.decision.label is None
    assert answer.remark == NO_SPEECH
    damaged = combine_chunks(DECIDER, [chunk(0, 0, speech=False)], (), 3.0, 3.0, 3.0, "damaged after 3.0 s")
    assert damaged.remark == f"damaged after 3.0 s; {NO_SPEECH}"


def test_several_voices_are_named_with_the_longest_as_the_label() -> None:
    two = combined([chunk(3.0 * i, 0 if i < 4 else 1) for i in range(10)], 30.0)
    assert [(voice.label, voice.seconds) for voice in two.voices] == [("ben", 18.0), ("ann", 12.0)]
    assert two.decision.label == "ben"
    stranger = combined([chunk(3.0 * i, 0, 1.0 if i < 5 else 0.1) for i in range(8)], 24.0)
    assert [(voice.label, voice.seconds) for voice in stranger.voices] == [("ann", 15.0), (None, 9.0)]
    assert stranger.decision.label == "ann"


def test_speakers_who_take_turns_are_named_although_the_clip_as_a_whole_is_like_none() -> None:
    turns = [0, 0, 1, 1, 2, 2] * 3
    talk = combined([chunk(3.0 * i, speaker, 0.65) for i, speaker in enumerate(turns)], 54.0)
    assert talk.decision.score < DECIDER.rejection.threshold(len(turns)) < 0.65
    assert sorted(voice.label for voice in talk.voices) == LABELS
    assert {voice.seconds for voice in talk.voices} == {18.0}
    # A stranger, some of whose chunks are like one speaker and some like another.
    scores = [0.65 if i % 9 < 2 else 0.1 for i in range(18)]
    stranger = combined([chunk(3.0 * i, i // 9, score) for i, score in enumerate(scores)], 54.0)
    assert [voice.label for voice in stranger.voices] == [None]


def test_one_odd_chunk_is_no_second_voice() -> None:
    for place in range(8):
        chunks = [chunk(3.0 * i, 2 if i == place else 0) for i in range(8)]
        answer = combined(chunks, 24.0)
        assert [voice.label for voice in answer.voices] == ["ann"]
        assert answer.decision.label == "ann"


def test_short_clips_and_images_have_one_voice() -> None:
    assert [voice.label for voice in combined([chunk(0, 0), chunk(3, 0), chunk(6, 1)], 9.0).voices] == ["ann"]
    image = combine_chunks(DECIDER, [chunk(0, 0, level=None)], (), None, None, None, None)
    assert [(voice.label, voice.seconds) for voice in image.voices] == [("ann", 0.0)]


def test_longer_clips_have_the_threshold_of_several_chunks() -> None:
    assert combined([chunk(0, 0, 0.55)], 3.0).decision.label == "ann"
    assert combined([chunk(3.0 * i, 0, 0.55) for i in range(4)], 12.0).decision.label is None
    never = combined([chunk(0, 0, -1.0)], 3.0, decider=DECIDER._replace(rejection=None))
    assert (never.decision.label, never.decision.threshold) == ("ann", None)


def test_a_steady_voice_is_one_voice_that_is_known_as_the_clip_is() -> None:
    """Between the threshold of one chunk and that of several, the chunks do not say otherwise than the clip."""
    answer = combined([chunk(3.0 * i, 0, 0.55) for i in range(8)], 24.0)
    assert [voice.label for voice in answer.voices] == [answer.decision.label] == [None]


def test_an_enrolled_speaker_that_is_verified_is_not_unknown() -> None:
    with_dora = DECIDER._replace(enrolled=["dora"], least_enrolled=0.4)
    probabilities, scores = np.float32([0.9, 0.05, 0.05]), np.float32([0.1, 0, 0, 0.45])
    assert with_dora.decide(probabilities, scores, 4).label == "dora"
    assert with_dora._replace(least_enrolled=0.5).decide(probabilities, scores, 4).label is None
    assert with_dora.decide(probabilities, np.float32([0.45, 0, 0, 0.1]), 4).label is None
