"""Verdict of the evaluation of a model that answers with several labels at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median_low
from typing import Any

from audionet.evaluation.verdict import (
    GOOD_SHARE,
    LEAST_MISTAKES,
    LOW_RECALL,
    Grade,
    LabelResult,
    Verdict,
    counted_share,
    grade_share,
    is_open,
    make_verdict,
    record_more,
    seen_in_training,
    share_of,
    test_more,
    untested_labels,
    wilson,
)


def multi_label_verdict(content: dict[str, Any]) -> Verdict:
    """Judge an evaluation by the lower end of the interval of its mean average precision.

    Parameters
    ----------
    content : dict
        Of report.json, from `summarise_multi_label`.
    """
    if (refused := seen_in_training(content["data"])) is not None:
        return refused
    scores = content["multi_label"]
    mean = scores["mean_average_precision"]
    if mean is None:
        sentence = "Not tested: no label is in some of these recordings and not in others."
        return make_verdict(Grade.NONE, [sentence, _exact(scores)], [test_more(scores["recordings"])])
    # However few the recordings, the bootstrap's interval has no width where no label is ranked wrongly: it begins no
    # higher than Wilson's if every recording were right.
    low = min(scores["low"], wilson(scores["recordings"], scores["recordings"]).low)
    high = max(scores["high"], mean)
    grade = grade_share(low, scores["by_chance"])
    return make_verdict(
        grade,
        [_ranking(mean, low, high, grade, scores["by_chance"]), _exact(scores), _caution(content)],
        _advice(content, low, high),
    )


def _ranking(mean: float, low: float, high: float, grade: Grade, chance: float) -> str:
    """Judge how well the recordings with each label are found."""
    counted = f"mean average precision {mean:.2f} (95 % interval {low:.2f} to {high:.2f})"
    if is_open(low, high):
        return f"Too few recordings for a verdict: {counted}."
    if grade is Grade.NONE:
        return f"Not shown to be better than guessing: {counted}, and a random order comes to {chance:.2f}."
    word = "At least fair" if grade is Grade.FAIR and high >= GOOD_SHARE else grade.word.capitalize()
    return f"{word} at finding the recordings with each label: {counted}."


def _exact(scores: dict[str, Any]) -> str:
    share = share_of(scores["all_right"])
    return f"Answers at its thresholds: {counted_share(share, 'recording', 'with exactly their labels')}."


def _caution(content: dict[str, Any]) -> str | None:
    """Say if MFCC statistics, in the same folds, rank as well as the network."""
    baseline, mean = content["mfcc_statistics"], content["multi_label"]["mean_average_precision"]
    if not content["data"]["cross_validated"] or baseline is None or mean >= 1 or baseline < mean:
        return None
    return f"The network is not better than MFCC statistics, which come to {baseline:.2f}."


def _advice(content: dict[str, Any], low: float, high: float) -> Iterator[str | None]:
    """Yield pieces of advice, the most important first."""
    scores = content["multi_label"]
    if is_open(low, high):
        yield test_more(scores["recordings"])
    yield _weak_labels(scores["labels"])
    yield untested_labels(content["data"])


def _weak_labels(rows: Sequence[dict[str, Any]]) -> str | None:
    """Advise to record the labels with the lowest F1."""
    tested = [row for row in rows if row["recordings"]]
    bad = []
    for row in tested:
        mistakes = row["missed"] + row["wrong"]
        if mistakes >= LEAST_MISTAKES and row["f1"] <= LOW_RECALL:
            said = f"found in {row['right']} of {row['recordings']}, wrongly in {row['wrong']}"
            bad.append((row["f1"], -mistakes, LabelResult(row["label"], row["recordings"], said)))
    if not bad:
        return None
    return record_more([result for *_, result in sorted(bad)], median_low(row["recordings"] for row in tested))
