from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.classifier import decision as costs_module
from audionet.classifier.decision import Cost, Costs, Rule
from audionet.errors import ModelError
from audionet.evaluation.costs import parse_costs, select_rule
from tests.support.costs import VOICES, any_costs, calibrated, softmax
from tests.support.sounds import ROOT


@st.composite
def costs_and_probabilities(draw: st.DrawFn) -> tuple[Costs, np.ndarray]:
    costs = draw(any_costs())
    row = st.lists(st.integers(0, 6), min_size=costs.labels, max_size=costs.labels).filter(any)
    rows = np.array(draw(st.lists(row, min_size=1, max_size=8)), float)
    return costs, rows / rows.sum(axis=1, keepdims=True)


def naive_expected_costs(matrix: np.ndarray, exponent: float, row: np.ndarray) -> list[float]:
    labels = range(len(row))
    return [sum(row[i] * (matrix[i, j] ** exponent if matrix[i, j] else 0.0) for i in labels if i != j) for j in labels]


@given(costs_and_probabilities(), st.sampled_from([0.0, 0.3, 1.0, 2.5]))
def test_decisions_are_those_of_the_whole_matrix(drawn: tuple[Costs, np.ndarray], exponent: float) -> None:
    costs, probabilities = drawn
    for row, answer in zip(probabilities, Rule(costs, exponent).decide(probabilities), strict=True):
        expected = naive_expected_costs(costs.matrix(), exponent, row)
        assert expected[answer] <= min(expected) * (1 + 1e-9) + 1e-12 * costs.matrix().max() ** exponent
        tied = [j for j, cost in enumerate(expected) if cost == expected[answer]]
        assert row[answer] == row[tied].max()


def test_rounding_does_not_decide_between_labels_that_cost_nothing() -> None:
    """1 - 2/3 - 1/3 is not 0 in floating point."""
    costs = Costs(3, (Cost(0, 1, 0.0), Cost(0, 2, 0.0), Cost(2, 1, 0.0)))
    assert Rule(costs, 0.0).decide(np.array([[1 / 3, 0, 2 / 3]])).tolist() == [2]


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


def test_labelling_can_use_it_without_anything_heavy() -> None:
    heavy = "{'matplotlib', 'scipy', 'sklearn', 'tensorflow'}"
    code = f"import sys, audionet.classifier.decision; sys.exit(bool({heavy} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "scripts")
