from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.classifier.decision import Cost, Costs, Rule
from audionet.errors import UsageError
from audionet.evaluation.costs import COST_EXPONENTS, check_rule, mean_cost, parse_costs, select_rule
from tests.support.costs import VOICES, any_costs, calibrated, softmax

ANIMALS = ["crow", "owl", "night owl", "jay", "tit", "wren"]

label_lists = st.lists(st.text("ab:= é", min_size=1, max_size=4), min_size=2, max_size=6, unique=True)


@given(label_lists, st.data())
def test_an_entry_is_read_wherever_it_can_be(labels: list[str], data: st.DataObject) -> None:
    true, predicted = data.draw(st.permutations(range(len(labels))))[:2]
    cost = data.draw(st.floats(0, 1e6))
    names = f"{labels[true]}:{labels[predicted]}"
    readings = [(a, b) for a in labels for b in labels if f"{a}:{b}" == names]
    if len(readings) > 1:
        with pytest.raises(UsageError, match="can be read as"):
            parse_costs([f"{names}={cost!r}"], labels)
        return
    expected = 1 - np.eye(len(labels))
    expected[true, predicted] = cost
    np.testing.assert_array_equal(parse_costs([f"{names}={cost!r}"], labels).matrix(), expected)


def test_several_entries() -> None:
    costs = parse_costs(["crow:owl=2", "owl:crow=.5", "jay:night owl=1e3", "tit:wren=1", "jay:jay=0"], ANIMALS)
    assert costs == Costs(6, (Cost(0, 1, 2.0), Cost(1, 0, 0.5), Cost(3, 2, 1000.0)))
    assert parse_costs([], ANIMALS) == Costs(6)
    assert parse_costs(["crow:owl=2", "crow:owl=2.0"], ANIMALS).exceptions == (Cost(0, 1, 2.0),)


def test_labels_of_any_script_and_with_colons() -> None:
    labels = ["00:30", "a=b", "日本", "00"]
    costs = parse_costs(["00:30:a=b=5", "a=b:日本=6", "日本:00:30=7"], labels)
    assert costs.exceptions == (Cost(0, 1, 5.0), Cost(1, 2, 6.0), Cost(2, 0, 7.0))


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        (["crow:eagle=2"], "there is no label 'eagle'; the labels are crow, owl, night owl, jay, tit and 1 more"),
        (["eagle:crow=2"], "there is no label 'eagle'; the labels are crow"),
        (["eagle:hawk=2"], "there is no label 'eagle' or 'hawk'; the labels are crow"),
        (["crow:Owl=2"], "there is no label 'Owl'"),
        (["crow:owl:x=2"], "crow:owl:x=2: there is no label 'owl:x'; the labels are"),
        (["wren:a:b:jay=2"], "there is no label 'a:b:jay' or 'wren:a:b'; the labels are"),
        (["crow:owl"], "of the form true:predicted=number"),
        (["crow=2"], "of the form true:predicted=number"),
        ([""], "of the form true:predicted=number"),
        (["crow:owl="], "'' is not a number from 0 to 1e+12: give one, as in crow:owl=10"),
        (["crow:owl=much"], "'much' is not a number from 0 to 1e+12"),
        (["crow:owl=1,5"], "'1,5' is not a number from 0 to 1e+12"),
        (["crow:owl=-1"], "'-1' is not a number from 0 to 1e+12"),
        (["crow:owl=inf"], "'inf' is not a number from 0 to 1e+12"),
        (["crow:owl=1e13"], "'1e13' is not a number from 0 to 1e+12"),
        (["crow:owl=nan"], "'nan' is not a number from 0 to 1e+12"),
        (["crow:crow=1"], "a right answer costs nothing"),
        (["crow:owl=2", "crow:owl=3"], "the same mistake also has the cost 2"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(entries: list[str], reason: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_costs(entries, ANIMALS)
    assert str(caught.value).startswith(f"cost {entries[-1]}: ")
    assert reason in str(caught.value)


def test_an_entry_that_can_be_read_in_two_ways() -> None:
    with pytest.raises(UsageError, match="'a' predicted as 'b:c' or 'a:b' predicted as 'c'"):
        parse_costs(["a:b:c=2"], ["a", "b:c", "a:b", "c"])


def test_a_message_stays_one_line() -> None:
    with pytest.raises(UsageError) as caught:
        parse_costs(["a\nb:c\td=2"], ["x\ny", "z"])
    assert str(caught.value).isprintable()


def test_mistakes_that_all_cost_nothing_are_refused() -> None:
    with pytest.raises(UsageError, match="no mistake would cost anything"):
        parse_costs(["human:voicemail=0", "voicemail:human=0"], VOICES)
    assert parse_costs(["human:voicemail=0"], VOICES).exceptions == (Cost(0, 1, 0.0),)


@given(any_costs(), st.data())
def test_answers_cost_what_the_matrix_says(costs: Costs, data: st.DataObject) -> None:
    number = st.integers(0, costs.labels - 1)
    pairs = np.array(data.draw(st.lists(st.tuples(number, number), min_size=1)))
    true, answers = pairs.T
    np.testing.assert_array_equal(costs.of(answers, true), costs.matrix()[true, answers])
    result = mean_cost(costs, answers, true)
    assert result.mean == pytest.approx(costs.matrix()[true, answers].mean())
    assert result.recordings == len(pairs)


def test_no_answers_cost_no_number() -> None:
    result = mean_cost(Costs(2), np.zeros(0, int), np.zeros(0, int))
    assert str(result) == "no recordings to test on"
    assert np.isnan(result.mean)
    assert str(mean_cost(Costs(2), np.array([0, 1]), np.array([1, 1]))) == "0.5 a recording  (2 recordings)"


def test_calibrated_probabilities_keep_bayes_rule() -> None:
    costs = parse_costs(["human:voicemail=10"], VOICES)
    for seed in range(20):
        probabilities, true = calibrated(2000, 2, seed)
        picked = select_rule(probabilities, true, costs)
        assert 0.5 <= picked.rule.exponent <= 1.6
        assert picked.chosen <= picked.bayes < picked.most_probable
        fresh, fresh_true = calibrated(50_000, 2, 1000 + seed)
        new = mean_cost(costs, picked.rule.decide(fresh), fresh_true).mean
        best = mean_cost(costs, Rule(costs).decide(fresh), fresh_true).mean
        assert new < 1.1 * best


@pytest.mark.parametrize("labels", [2, 5])
@pytest.mark.parametrize("sureness", [0.4, 2.0])
def test_probabilities_too_sure_or_unsure_of_themselves_are_made_up_for(labels: int, sureness: float) -> None:
    probabilities, true = calibrated(20_000, labels, 0, spread=3.0)
    claimed = softmax(sureness * np.log(probabilities))
    costs = Costs(labels, tuple(Cost(i, 0, 10.0) for i in range(1, labels)))
    picked = select_rule(claimed, true, costs)
    assert abs(picked.rule.exponent - sureness) < abs(picked.rule.exponent - 1)
    assert picked.chosen < picked.bayes


def test_one_lucky_recording_is_no_reason() -> None:
    costs = parse_costs(["human:voicemail=2"], VOICES)
    second = np.array([0.1, 0.1, 0.2, 0.7, 0.99, 0.99])  # Bayes answers voicemail from 2/3 on, wrongly once
    probabilities = np.stack([1 - second, second], axis=1)
    once = select_rule(probabilities, np.array([0, 0, 0, 0, 1, 1]), costs)
    assert once.curve[13].mean_cost < once.bayes
    assert once.rule.exponent == 1
    often = select_rule(np.repeat(probabilities, 5, axis=0), np.repeat([0, 0, 0, 0, 1, 1], 5), costs)
    assert often.rule.exponent == 1.3  # the nearest to 1 of those whose threshold is above 0.7
    assert often.rule.threshold > 0.7
    assert often.chosen == 0


def test_a_dear_mistake_that_was_not_seen_is_not_thought_impossible() -> None:
    costs = parse_costs(["human:voicemail=1000"], VOICES)
    for seed in range(20):
        probabilities, true = calibrated(300, 2, seed)
        picked = select_rule(softmax(1.7 * np.log(probabilities)), true, costs)
        assert picked.rule.exponent >= 1


def test_recordings_that_all_rules_get_right_keep_bayes_rule() -> None:
    true = np.arange(40) % 3
    picked = select_rule(np.eye(3, dtype=np.float32)[true], true, Costs(3, (Cost(0, 1, 5.0),)))
    assert picked.rule == Rule(Costs(3, (Cost(0, 1, 5.0),)), 1.0)
    assert (picked.chosen, picked.bayes, picked.most_probable, picked.recordings) == (0, 0, 0, 40)


def test_without_recordings_theory_decides() -> None:
    costs = parse_costs(["human:voicemail=10"], VOICES)
    picked = select_rule(np.zeros((0, 2), np.float32), np.zeros(0, int), costs)
    assert picked.rule == Rule(costs, 1.0)
    assert picked.curve == ()
    assert picked.recordings == 0
    assert np.isnan([picked.chosen, picked.bayes, picked.most_probable]).all()
    assert picked.rule.decide(np.zeros((0, 2), np.float32)).shape == (0,)


def test_the_curve_is_what_the_rules_cost() -> None:
    costs = Costs(3, (Cost(0, 1, 5.0), Cost(2, 1, 0.0)))
    probabilities, true = calibrated(300, 3, 0, spread=1.0)
    picked = select_rule(probabilities, true, costs)
    assert [point.exponent for point in picked.curve] == list(COST_EXPONENTS)
    assert {0.0, 1.0, 3.0} <= set(COST_EXPONENTS)
    for point in picked.curve:
        answers = Rule(costs, point.exponent).decide(probabilities)
        assert point.mean_cost == pytest.approx(costs.matrix()[true, answers].mean())
        assert point.mistakes.tolist() == [int(((true == i) & (answers != i)).sum()) for i in range(3)]
        assert point.threshold is None
    assert picked.most_probable == pytest.approx(costs.matrix()[true, probabilities.argmax(axis=1)].mean())


def test_a_rule_is_checked_on_other_recordings_than_it_is_selected_on() -> None:
    probabilities, true = calibrated(400, 2, 0)
    costs = parse_costs(["human:voicemail=10"], VOICES)
    found = check_rule(probabilities, true, np.arange(400) % 5, costs)
    assert found.problem is None
    assert found.by_rule < found.most_probable
    assert (found.labels, found.recordings) == (2, 400)


@pytest.mark.parametrize(
    ("shares", "true", "reason"),
    [
        ([0.23, 0.77] * 9, [0, 1] * 9, "it would predict one label for all of 18 recordings"),
        ([0.01, 0.99] * 9, [0, 1] * 9, r"it costs 0 a recording, and the most probable label 0"),
        ([0.5], [0], r"too few recordings to check it \(1\)"),
    ],
)
def test_a_rule_that_is_no_better_is_not_used(shares: list[float], true: list[int], reason: str) -> None:
    """With few recordings, calibration caps a probability at 0.77; a cost of ten wants 0.91, and never predicts it."""
    second = np.array(shares, np.float32)
    found = check_rule(
        np.stack([1 - second, second], axis=1),
        np.array(true),
        np.arange(len(true)) % 5,
        parse_costs(["human:voicemail=10"], VOICES),
    )
    assert re.search(reason, found.problem or "")


def test_labels_in_another_encoding_of_their_accents() -> None:
    assert parse_costs(["Jose\u0301:ann=3"], ["Jos\u00e9", "ann"]) == parse_costs(
        ["Jos\u00e9:ann=3"], ["Jos\u00e9", "ann"]
    )
