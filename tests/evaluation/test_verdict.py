from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.evaluation.label_verdict import label_verdict
from audionet.evaluation.multi_label_verdict import multi_label_verdict
from audionet.evaluation.trial_verdict import trial_verdict
from audionet.evaluation.verdict import MOST_ADVICE, MOST_SENTENCES, Grade, Verdict, span, wilson

DATA: dict[str, Any] = {"cross_validated": False, "unseen": True, "missing_labels": []}
LEFT_OUT, OTHERS = "labels left out at training", "test recordings of no label"


def share(right: int, total: int) -> dict[str, Any]:
    found = wilson(right, total)
    return {"right": right, "total": total, "low": found.low, "high": found.high}


def labels(
    counts: dict[str, tuple[int, int]], mixed: list[tuple[str, str | None, int]] | None = None
) -> dict[str, Any]:
    """The content of report.json for labels with numbers of right answers and of recordings."""
    right, total = (sum(pair[k] for pair in counts.values()) for k in (0, 1))
    rows = [{"label": name, "recordings": n, "recall": r / n if n else None} for name, (r, n) in counts.items()]
    pairs = [{"true": name, "answer": name, "count": r} for name, (r, _) in counts.items() if r]
    pairs += [{"true": true, "answer": answer, "count": count} for true, answer, count in mixed or []]
    return {
        "data": dict(DATA),
        "model": {"labels": len(counts)},
        "accuracy": {"recordings": share(right, total)},
        "mfcc_statistics": None,
        "labels": {"labels": rows},
        "confusion": {"pairs": pairs},
        "calibration": {"after": {"calibration_error": 0.02 if total else None, "recordings": total}},
        "learning_curve": [],
        "open_set": {
            "threshold": 0.5,
            "known": {"recordings": total, "refused": 0},
            "unknown": {"clips": 300, "accepted": 3, "of": OTHERS},
        },
    }


def several(mean: float | None, low: float, high: float, exact: tuple[int, int], f1: float = 0.9) -> dict[str, Any]:
    row = {"label": "rain", "recordings": 10, "right": 5, "missed": 5, "wrong": 1, "f1": f1}
    scores = {"recordings": exact[1], "mean_average_precision": mean, "low": low, "high": high, "by_chance": 0.3}
    scores |= {"all_right": share(*exact), "labels": [row]}
    return {"data": dict(DATA), "mfcc_statistics": None, "multi_label": scores}


def trials(*rates: tuple[float, float | None, float | None], speakers: int = 40, targets: int = 100) -> dict[str, Any]:
    names = ("cosine", "cosine, AS-norm")
    return {
        "trials": {"targets": targets, "nontargets": 900, "left_out": {}},
        "speakers": {"number": speakers},
        "variants": [
            {"name": name, "equal_error_rate": {"value": value, "low": low, "high": high}}
            for name, (value, low, high) in zip(names, rates, strict=False)
        ],
    }


def words(verdict: Verdict) -> str:
    return " ".join((*verdict.sentences, *verdict.advice))


@pytest.mark.parametrize(
    ("counts", "grade", "sentence"),
    [
        ({"a": (99, 100), "b": (98, 100)}, Grade.GOOD, "Good enough for closed sets of these 2 labels: 197 of 200"),
        ({"a": (95, 100), "b": (85, 100)}, Grade.FAIR, "At least fair for closed sets of these 2 labels: 180 of 200"),
        ({"a": (85, 100), "b": (80, 100)}, Grade.FAIR, "Fair for closed sets of these 2 labels: 165 of 200"),
        ({"a": (65, 100), "b": (65, 100)}, Grade.WEAK, "Weak, even for closed sets of these 2 labels: 130 of 200"),
        ({"a": (55, 100), "b": (50, 100)}, Grade.NONE, "Not shown to be better than guessing: 105 of 200"),
        ({"a": (90, 90), "b": (0, 10)}, Grade.NONE, "the most frequent label alone 90 %"),
        ({"a": (3, 3), "b": (2, 2)}, Grade.NONE, "Too few recordings for a verdict on closed sets of these 2 labels"),
        ({"a": (1, 1), "b": (0, 0)}, Grade.NONE, "One recording shows nothing: it was answered rightly."),
        ({"a": (0, 1), "b": (0, 0)}, Grade.NONE, "One recording shows nothing: it was answered wrongly."),
        ({"a": (100, 100)}, Grade.NONE, "Only one label: there is no other"),
        ({"a": (0, 0), "b": (0, 0)}, Grade.NONE, "Not tested: there is no recording of a known label."),
    ],
)
def test_labels_are_graded_by_the_worse_end_of_the_interval(
    counts: dict[str, tuple[int, int]], grade: Grade, sentence: str
) -> None:
    found = label_verdict(labels(counts))
    assert found.grade is grade
    assert sentence in found.sentences[0]


@pytest.mark.parametrize(
    ("clips", "accepted", "of", "refused", "threshold", "grade", "sentence"),
    [
        (300, 3, OTHERS, 0, 0.5, Grade.GOOD, "Unknown voices: good: 3 of 300 clips accepted."),
        (300, 3, LEFT_OUT, 0, 0.5, Grade.FAIR, "fair: 3 of 300 clips of labels left out at training accepted."),
        (300, 60, OTHERS, 0, 0.5, Grade.FAIR, "fair: 60 of 300"),
        (300, 120, OTHERS, 0, 0.5, Grade.WEAK, "weak: 120 of 300"),
        (300, 300, OTHERS, 0, 0.5, Grade.NONE, "weak: 300 of 300"),
        (300, 0, OTHERS, 120, 0.5, Grade.WEAK, "weak: 0 of 300 clips accepted, and 120 of 200 known ones refused."),
        (5, 0, OTHERS, 0, 0.5, Grade.WEAK, "too few tested for a verdict: 0 of 5"),
        (300, 0, OTHERS, (1, 4), 0.5, Grade.WEAK, "too few tested for a verdict: 0 of 300 clips accepted, and 1 of 4"),
        (300, 120, OTHERS, (1, 4), 0.5, Grade.WEAK, "weak: 120 of 300 clips accepted, and 1 of 4"),
        (0, 0, OTHERS, 0, 0.5, None, "Unknown voices: not tested."),
        (300, None, LEFT_OUT, None, None, Grade.NONE, "never refused"),
    ],
)
def test_unknown_voices(
    clips: int,
    accepted: int | None,
    of: str,
    refused: int | tuple[int, int] | None,
    threshold: float | None,
    grade: Grade,
    sentence: str,
) -> None:
    rejected, known = refused if isinstance(refused, tuple) else (refused, 200)
    content = labels({"a": (99, 100), "b": (98, 100)})
    content["open_set"] = {
        "threshold": threshold,
        "known": {"recordings": known, "refused": rejected},
        "unknown": {"clips": clips, "accepted": accepted, "of": of},
    }
    found = label_verdict(content)
    assert found.unknown is grade
    assert sentence in found.sentences[1]


def test_weak_labels_are_named_with_their_counts_the_worst_first() -> None:
    counts = {"ann": (9, 9), "bob": (2, 5), "cy": (1, 5), "dan": (3, 4), "eve": (5, 5), "fay": (3, 5)}
    (advice,) = (text for text in label_verdict(labels(counts)).advice if text.startswith("Record"))
    assert (
        advice
        == "Record 3 more of cy (1 of 5 right) and 3 more of bob (2 of 5 right); more of 1 other label would help, too."
    )
    counts = {"ann": (30, 30), "bob": (2, 5), "cy": (30, 30)}
    assert "Record 25 more of bob (2 of 5 right)." in label_verdict(labels(counts)).advice


def test_two_labels_taken_for_each_other_are_to_be_listened_to() -> None:
    mixed: list[tuple[str, str | None, int]] = [("b", "a", 1), ("a", "b", 2), ("a", None, 5), (None, "b", 9)]
    found = label_verdict(labels({"a": (3, 10), "b": (9, 10)}, mixed))
    assert found.advice[0] == "Listen to a and b, taken for each other in 3 recordings: is each in the right folder?"
    assert "Listen" not in words(label_verdict(labels({"a": (3, 10), "b": (9, 10)}, mixed[:1])))


def test_the_learning_curve_says_whether_more_recordings_help() -> None:
    content = labels({"a": (85, 100), "b": (80, 100)})
    content["learning_curve"] = [{"share": 0.5, "right": 70, "total": 100}, {"share": 1.0, "right": 82, "total": 100}]
    assert "More recordings of every label would help: 70 % right with half of them, 82 % with all." in words(
        label_verdict(content)
    )
    content["learning_curve"][0]["right"] = 82
    assert "More recordings alone would help little" in words(label_verdict(content))


def test_a_baseline_as_good_and_probabilities_that_mislead_are_named() -> None:
    content = labels({"a": (85, 100), "b": (80, 100)})
    content["calibration"]["after"]["calibration_error"] = 0.12
    assert label_verdict(content).sentences[2].startswith("Its probabilities are 12 points off on average")
    content["mfcc_statistics"] = {"recordings": {"right": 165, "total": 200}}
    assert label_verdict(content).sentences[2] == (
        "The network is not better than MFCC statistics, which get 165 of 200 right."
    )
    content["mfcc_statistics"]["recordings"]["right"] = 164
    assert "MFCC" not in words(label_verdict(content))


@pytest.mark.parametrize("content", [labels({"a": (9, 9), "b": (9, 9)}), several(0.9, 0.8, 1.0, (9, 9))])
def test_of_recordings_seen_in_training_there_is_no_verdict(content: dict[str, Any]) -> None:
    content = content | {"data": DATA | {"unseen": False}}
    found = (label_verdict if "labels" in content else multi_label_verdict)(content)
    assert found.grade is Grade.NONE
    assert found.sentences == (
        "No verdict: every recording took part in training, so nothing here holds for new ones.",
    )
    assert found.advice == ("Test on other recordings: name their folder with --test_dir.",)


def test_untested_labels_are_named() -> None:
    content = labels({"a": (99, 100), "b": (98, 100), "c": (0, 0), "d": (0, 0)})
    content["data"]["missing_labels"] = ["c", "d"]
    assert "Record more of c and 1 more label, of which no recording was tested." in label_verdict(content).advice


@pytest.mark.parametrize(
    ("content", "grade", "sentence"),
    [
        (several(0.97, 0.93, 0.99, (80, 100)), Grade.GOOD, "Good at finding the recordings with each label"),
        (several(0.9, 0.8, 0.95, (80, 100)), Grade.FAIR, "At least fair at finding"),
        (several(0.8, 0.75, 0.85, (80, 100)), Grade.FAIR, "Fair at finding"),
        (several(0.6, 0.5, 0.7, (50, 100)), Grade.WEAK, "Weak at finding"),
        (several(0.4, 0.2, 0.6, (50, 100)), Grade.NONE, "Not shown to be better than guessing"),
        (several(1.0, 1.0, 1.0, (3, 3)), Grade.WEAK, "Too few recordings for a verdict"),
        (several(1.0, 1.0, 1.0, (1, 1)), Grade.NONE, "Too few recordings for a verdict"),
        (several(None, 0.0, 1.0, (3, 3)), Grade.NONE, "Not tested: no label is in some of these recordings"),
    ],
)
def test_several_labels(content: dict[str, Any], grade: Grade, sentence: str) -> None:
    found = multi_label_verdict(content)
    assert found.grade is grade
    assert sentence in found.sentences[0]
    assert "with exactly their labels" in found.sentences[1]


def test_several_labels_are_advised_on_by_their_f1() -> None:
    found = multi_label_verdict(several(0.9, 0.8, 0.95, (80, 100), f1=0.6))
    assert found.advice == ("Record 3 more of rain (found in 5 of 10, wrongly in 1).",)


@pytest.mark.parametrize(
    ("content", "grade", "sentence"),
    [
        (
            trials((0.02, 0.01, 0.04)),
            Grade.GOOD,
            "Good at telling these speakers apart: equal error rate 2.0% by cosine",
        ),
        (trials((0.09, 0.05, 0.12)), Grade.FAIR, "Fair at telling"),
        (trials((0.2, 0.15, 0.25)), Grade.WEAK, "Weak at telling"),
        (trials((0.45, 0.35, 0.55)), Grade.NONE, "Not shown to be better than guessing"),
        (trials((0.02, 0.01, 0.04), speakers=5), Grade.FAIR, "Fair at telling"),
        (trials((0.02, None, None), speakers=2), Grade.NONE, "Too few speakers for a verdict"),
        (trials((0.2, 0.15, 0.25), (0.02, 0.01, 0.04)), Grade.GOOD, "by cosine, AS-norm"),
    ],
)
def test_trials(content: dict[str, Any], grade: Grade, sentence: str) -> None:
    found = trial_verdict(content)
    assert found.grade is grade
    assert sentence in found.sentences[0]


def test_trials_of_one_kind_and_a_normalisation_that_does_not_help() -> None:
    content = trials((0.1, 0.1, 0.1), targets=0)
    content["variants"][0]["equal_error_rate"] = None
    assert trial_verdict(content).sentences == ("Not tested: the list has no targets.",)
    worse = trial_verdict(trials((0.02, 0.01, 0.04), (0.03, 0.02, 0.05)))
    assert worse.advice == ("cosine, AS-norm does no better here than cosine, 2.0%: leave it out.",)


def test_an_interval_never_promises_more_than_it_holds() -> None:
    assert span(0.29, 0.29) == "29 % to 29 %"
    assert span(0.899, 0.9001) == "89 % to 91 %"


counts = st.dictionaries(
    st.text(min_size=1, max_size=3),
    st.integers(0, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    min_size=1,
)


@st.composite
def contents(draw: st.DrawFn) -> dict[str, Any]:
    content = labels(draw(counts))
    names = [row["label"] for row in content["labels"]["labels"]]
    total = content["accuracy"]["recordings"]["total"]
    clips = draw(st.integers(0, 200))
    threshold = draw(st.sampled_from([None, 0.5]))
    some: Any = st.none() if threshold is None else st.integers(0, clips)
    refused: Any = st.none() if threshold is None else st.integers(0, total)
    content["open_set"] = {
        "threshold": threshold,
        "known": {"recordings": total, "refused": draw(refused)},
        "unknown": {"clips": clips, "accepted": draw(some), "of": draw(st.sampled_from([LEFT_OUT, OTHERS]))},
    }
    named = st.sampled_from([*names, None])
    content["confusion"]["pairs"] += draw(
        st.lists(st.fixed_dictionaries({"true": named, "answer": named, "count": st.integers(1, 9)}), max_size=5)
    )
    content["learning_curve"] = [
        {"share": part, "right": draw(st.integers(0, total)), "total": total}
        for part in draw(st.sampled_from([(), (0.5, 1.0)]))
    ]
    content["data"] |= {"unseen": draw(st.booleans()), "missing_labels": draw(st.lists(st.text(), max_size=3))}
    return content


@given(contents())
def test_any_evaluation_has_a_verdict_in_few_words(content: dict[str, Any]) -> None:
    found = label_verdict(content)
    assert 1 <= len(found.sentences) <= MOST_SENTENCES
    assert len(found.advice) <= MOST_ADVICE
    assert all(text.isprintable() and text.endswith((".", "?")) for text in (*found.sentences, *found.advice))


@given(contents(), st.data())
def test_one_more_mistake_never_gives_a_better_verdict(content: dict[str, Any], data: st.DataObject) -> None:
    worse = copy.deepcopy(content)
    part = content["accuracy"]["recordings"]
    worse["accuracy"]["recordings"] = share(data.draw(st.integers(0, part["right"])), part["total"])
    unknown, known = worse["open_set"]["unknown"], worse["open_set"]["known"]
    if unknown["accepted"] is not None:
        unknown["accepted"] = data.draw(st.integers(unknown["accepted"], unknown["clips"]))
        known["refused"] = data.draw(st.integers(known["refused"], known["recordings"]))
    before, after = label_verdict(content), label_verdict(worse)
    assert after.grade <= before.grade
    assert (after.unknown is None) == (before.unknown is None)
    assert before.unknown is None or (after.unknown is not None and after.unknown <= before.unknown)


@given(st.lists(st.floats(0, 1), min_size=3, max_size=3).map(sorted), st.floats(0, 0.5), st.integers(1, 100))
def test_of_several_labels_and_of_trials_worse_numbers_never_give_a_better_verdict(
    bounds: list[float], less: float, recordings: int
) -> None:
    low, value, high = bounds
    lower = [max(0.0, bound - less) for bound in bounds]
    good = multi_label_verdict(several(value, low, high, (recordings, recordings)))
    bad = multi_label_verdict(several(lower[1], lower[0], lower[2], (recordings, recordings)))
    assert bad.grade <= good.grade
    good, bad = (trial_verdict(trials((1 - b, 1 - c, 1 - a))) for a, b, c in (bounds, lower))
    assert bad.grade <= good.grade
