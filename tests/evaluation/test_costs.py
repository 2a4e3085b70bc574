from __future__ import annotations

import io
import json
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from audionet.classifier import decision as costs_module
from audionet.classifier.decision import Cost, Costs, Rule
from audionet.errors import ModelError, UsageError
from audionet.evaluation.costs import COST_EXPONENTS, SelectedRule, mean_cost, parse_costs, select_rule
from audionet.evaluation.plots import cost_plot
from tests.support.sounds import ROOT

VOICES = ["human", "voicemail"]
ANIMALS = ["crow", "owl", "night owl", "jay", "tit", "wren"]

label_lists = st.lists(st.text("ab:= é", min_size=1, max_size=4), min_size=2, max_size=6, unique=True)
cost_values = st.sampled_from([0.0, 0.125, 1.0, 3.0, 40.0, 1e4])


@st.composite
def any_costs(draw: st.DrawFn, least: int = 2, most: int = 5) -> Costs:
    labels = draw(st.integers(least, most))
    pairs = [(i, j) for i in range(labels) for j in range(labels) if i != j]
    chosen = draw(st.lists(st.sampled_from(pairs), unique=True))
    drawn = Costs(labels, tuple(Cost(*pair, draw(cost_values)) for pair in chosen))
    assume(not drawn.all_zero)
    return drawn


@st.composite
def costs_and_probabilities(draw: st.DrawFn) -> tuple[Costs, np.ndarray]:
    costs = draw(any_costs())
    row = st.lists(st.integers(0, 6), min_size=costs.labels, max_size=costs.labels).filter(any)
    rows = np.array(draw(st.lists(row, min_size=1, max_size=8)), float)
    return costs, rows / rows.sum(axis=1, keepdims=True)


def softmax(log_odds: np.ndarray) -> np.ndarray:
    powers = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def calibrated(n: int, labels: int, seed: int, spread: float = 2.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, and true labels drawn by them."""
    generator = np.random.default_rng(seed)
    probabilities = softmax(spread * generator.standard_normal((n, labels)))
    true = (probabilities.cumsum(axis=1) < generator.random((n, 1))).sum(axis=1)
    return probabilities, np.minimum(true, labels - 1)


def naive_expected_costs(matrix: np.ndarray, exponent: float, row: np.ndarray) -> list[float]:
    labels = range(len(row))
    return [sum(row[i] * (matrix[i, j] ** exponent if matrix[i, j] else 0.0) for i in labels if i != j) for j in labels]


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


@given(costs_and_probabilities(), st.sampled_from([0.0, 0.3, 1.0, 2.5]))
def test_decisions_are_those_of_the_whole_matrix(drawn: tuple[Costs, np.ndarray], exponent: float) -> None:
    costs, probabilities = drawn
    for row, answer in zip(probabilities, Rule(costs, exponent).decide(probabilities), strict=True):
        expected = naive_expected_costs(costs.matrix(), exponent, row)
        assert expected[answer] <= min(expected) * (1 + 1e-9) + 1e-12 * costs.matrix().max() ** exponent
        tied = [j for j, cost in enumerate(expected) if cost == expected[answer]]
        assert row[answer] == row[tied].max()


@given(costs_and_probabilities(), st.integers(1, 20))
def test_rows_are_decided_alike_in_blocks(drawn: tuple[Costs, np.ndarray], at_once: int) -> None:
    costs, probabilities = drawn
    whole = Rule(costs).decide(probabilities)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(costs_module, "_BLOCK_VALUES", at_once)
        np.testing.assert_array_equal(Rule(costs).decide(probabilities), whole)


def test_many_rows_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(costs_module, "_BLOCK_VALUES", 10_000)
    probabilities = np.full((1000, 1000), 1e-3, np.float32)
    tracemalloc.start()
    Rule(Costs(1000, (Cost(0, 1, 5.0),))).decide(probabilities)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6


def test_a_tie_goes_to_the_more_probable() -> None:
    costs = parse_costs(["crow:owl=3", "owl:crow=1", "jay:crow=0", "jay:owl=0"], ["crow", "owl", "jay"])
    assert Rule(costs).decide(np.array([[0.25, 0.75, 0.0]])).tolist() == [1]
    mirrored = parse_costs(["crow:owl=1", "owl:crow=3", "jay:crow=0", "jay:owl=0"], ["crow", "owl", "jay"])
    assert Rule(mirrored).decide(np.array([[0.75, 0.25, 0.0]])).tolist() == [0]


@given(costs_and_probabilities())
def test_equal_costs_mean_the_most_probable_label(drawn: tuple[Costs, np.ndarray]) -> None:
    costs, probabilities = drawn
    pairs = [(i, j) for i in range(costs.labels) for j in range(costs.labels) if i != j]
    alike = Costs(costs.labels, tuple(Cost(*pair, 7.0) for pair in pairs))
    for rule in (Rule(alike), Rule(Costs(costs.labels)), Rule(Costs(costs.labels), 3.0)):
        np.testing.assert_array_equal(rule.decide(probabilities), probabilities.argmax(axis=1))


def test_no_caution_means_the_most_probable_label() -> None:
    probabilities, _ = calibrated(500, 4, 0)
    costs = Costs(4, (Cost(0, 1, 50.0), Cost(2, 3, 0.01)))
    np.testing.assert_array_equal(Rule(costs, 0.0).decide(probabilities), probabilities.argmax(axis=1))
    assert (Rule(costs).decide(probabilities) != probabilities.argmax(axis=1)).any()


@pytest.mark.parametrize("factor", [1e-200, 0.3, 7.0, 1e200])
@pytest.mark.parametrize("exponent", [1.0, 3.0])
def test_the_currency_does_not_matter(factor: float, exponent: float) -> None:
    generator = np.random.default_rng(0)
    pairs = [(i, j) for i in range(4) for j in range(4) if i != j]
    values = np.exp(2 * generator.standard_normal(len(pairs)))
    probabilities, _ = calibrated(1000, 4, 1)
    first, second = (
        Costs(4, tuple(Cost(*pair, float(value)) for pair, value in zip(pairs, values * scale, strict=True)))
        for scale in (1.0, factor)
    )
    answers = Rule(first, exponent).decide(probabilities)
    assert set(answers) == {0, 1, 2, 3}
    np.testing.assert_array_equal(Rule(second, exponent).decide(probabilities), answers)


def test_huge_costs_do_not_overflow() -> None:
    costs = Costs(3, (Cost(0, 1, 1e308), Cost(1, 0, 1e-308)))
    answers = Rule(costs, 3.0).decide(np.array([[0.5, 0.5, 0.0], [0.0, 0.9, 0.1]], np.float32))
    assert answers.tolist() == [0, 1]


@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 3.0])
@pytest.mark.parametrize(
    "entries", [[], ["human:voicemail=10"], ["human:voicemail=.1", "voicemail:human=4"], ["voicemail:human=0"]]
)
def test_two_labels_have_a_threshold(entries: list[str], exponent: float) -> None:
    rule = Rule(parse_costs(entries, VOICES), exponent)
    second = np.linspace(0.0005, 0.9995, 1000)
    answers = rule.decide(np.stack([1 - second, second], axis=1))
    np.testing.assert_array_equal(answers, second >= rule.threshold)


def test_the_threshold_by_hand() -> None:
    assert Rule(parse_costs(["human:voicemail=9"], VOICES)).threshold == pytest.approx(0.9)
    assert Rule(parse_costs(["voicemail:human=9"], VOICES)).threshold == pytest.approx(0.1)
    assert Rule(parse_costs(["human:voicemail=3"], VOICES), 2.0).threshold == pytest.approx(0.9)
    assert Rule(Costs(2)).threshold == 0.5
    assert Rule(parse_costs(["human:voicemail=0"], VOICES), 0.0).threshold == 0
    assert Rule(Costs(3)).threshold is None


def test_thousands_of_labels_take_little_memory() -> None:
    labels = [f"label {number}" for number in range(5000)]
    generator = np.random.default_rng(0)
    probabilities = softmax(generator.standard_normal((20, 5000))).astype(np.float32)
    best = probabilities.argmax(axis=1)
    tracemalloc.start()
    costs = parse_costs([f"label 17:label {best[0]}=1e9", f"label 1:label {best[1]}=0"], labels)
    picked = select_rule(probabilities, best, costs)
    answers = picked.rule.decide(probabilities)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert answers[0] != best[0]
    assert (answers[1:] == best[1:]).all()
    assert peak < 30e6


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


@given(any_costs(), st.floats(0, 3))
def test_a_rule_comes_back_from_json(costs: Costs, exponent: float) -> None:
    labels = ["a:b", "b=", "日本", "\udcff", "$"][: costs.labels]
    rule = Rule(costs, exponent)
    back = Rule.from_json(json.loads(json.dumps(rule.as_json(labels))), labels)
    assert back.exponent == exponent
    np.testing.assert_array_equal(back.costs.matrix(), costs.matrix())
    assert Rule.from_json(json.loads(json.dumps(back.as_json(labels))), labels) == back


def test_json_holds_what_is_not_ordinary() -> None:
    rule = Rule(parse_costs(["voicemail:human=10", "human:voicemail=1"], VOICES), 1.5)
    assert rule.as_json(VOICES) == {
        "costs": [{"true": "voicemail", "predicted": "human", "cost": 10.0}],
        "caution": 1.5,
    }


def entry(true: Any = "human", predicted: Any = "voicemail", cost: Any = 2) -> dict[str, Any]:
    return {"true": true, "predicted": predicted, "cost": cost}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "another version"),
        ([], "another version"),
        ({"costs": []}, "another version"),
        ({"costs": [], "caution": 1, "more": 1}, "another version"),
        ({"costs": [], "caution": -1}, "caution (cost exponent) is -1"),
        ({"costs": [], "caution": float("nan")}, "caution (cost exponent) is nan"),
        ({"costs": [], "caution": True}, "caution (cost exponent) is True"),
        ({"costs": [], "caution": "1"}, "caution (cost exponent) is '1'"),
        ({"costs": {}, "caution": 1}, "not a list"),
        ({"costs": ["human"], "caution": 1}, "the fields true, predicted and cost"),
        ({"costs": [{"true": "human"}], "caution": 1}, "the fields true, predicted and cost"),
        ({"costs": [entry(true="dog")], "caution": 1}, "names 'dog', which is none of the model's labels"),
        ({"costs": [entry(predicted=["human"])], "caution": 1}, "names ['human'], which is none"),
        ({"costs": [entry(cost=-2)], "caution": 1}, "is -2, not a number"),
        ({"costs": [entry(cost=float("inf"))], "caution": 1}, "is inf, not a number"),
        ({"costs": [entry(cost=None)], "caution": 1}, "is None, not a number"),
        ({"costs": [entry(cost=10**400)], "caution": 1}, "not a number"),
        ({"costs": [entry(predicted="human")], "caution": 1}, "'human' predicted as 'human' is no mistake"),
        ({"costs": [entry(), entry()], "caution": 1}, "or has two costs"),
        ({"costs": [entry(cost=0), entry("voicemail", "human", 0)], "caution": 1}, "no mistake costs anything"),
    ],
)
def test_json_that_does_not_fit_is_refused(content: Any, reason: str) -> None:
    with pytest.raises(ModelError) as caught:
        Rule.from_json(content, VOICES)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("run retrain.py again")


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


@pytest.mark.parametrize(
    "labels", [["$x^", "\\frac{1}{"], ["b", "$x^$"], ["a" * 300, "日本 🎻" * 50], ["x\ny", "%s", "z"]]
)
@pytest.mark.parametrize("cost", [0.0, 1.0, 30.0])
def test_any_rule_can_be_plotted(labels: list[str], cost: float) -> None:
    probabilities, true = calibrated(200, len(labels), 0)
    picked = select_rule(probabilities, true, Costs(len(labels), (Cost(0, 1, cost),)))
    assert size(cost_plot(picked, labels)) == (832, 494)


def test_rules_that_cost_nothing_can_be_plotted() -> None:
    true = np.arange(40) % 2
    picked = select_rule(np.eye(2)[true], true, Costs(2, (Cost(0, 1, 1e9),)))
    assert size(cost_plot(picked, VOICES)) == (832, 494)


def test_no_recordings_are_plotted_as_none() -> None:
    picked: SelectedRule = select_rule(np.zeros((0, 2)), np.zeros(0, int), Costs(2))
    assert size(cost_plot(picked, VOICES)) == (832, 494)


def test_labelling_can_use_it_without_anything_heavy() -> None:
    heavy = "{'matplotlib', 'scipy', 'sklearn', 'tensorflow'}"
    code = f"import sys, audionet.classifier.decision; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "scripts")
