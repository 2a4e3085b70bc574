"""Verdict of the evaluation of a model that answers with one label at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from statistics import median_low
from typing import Any

from audionet.evaluation.verdict import (
    FAIR_SHARE,
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
from audionet.metrics.accuracy import Accuracy
from audionet.utils.text import escape

WORTHWHILE_GAIN = 0.01
"""Accuracy gained by the last doubling of the recordings from which more are worth the work: half of it comes next."""

_LEAST_CALIBRATED = 50
"""Recordings from which a calibration error is judged: that of fewer is above 0 by chance."""

_LARGE_ERROR = 0.1
"""Calibration error from which probabilities mislead: 90 % printed, 80 % right."""

_LEAST_MIXED = 3
"""Confusions of two labels, either way, that suggest recordings in the wrong folder, or two names for one voice."""


def label_verdict(content: dict[str, Any]) -> Verdict:
    """Judge an evaluation by the worse ends of its intervals.

    Parameters
    ----------
    content : dict
        Of report.json, from `summarise`.
    """
    if (refused := seen_in_training(content["data"])) is not None:
        return refused
    share, guessed = share_of(content["accuracy"]["recordings"]), _guessing(content)
    labels = content["model"]["labels"]
    grade = grade_share(share.low, guessed) if share.total and labels > 1 else Grade.NONE
    unknown = grade_unknown(content["open_set"])
    return make_verdict(
        grade,
        [_closed(share, grade, guessed, labels), _unknown(content["open_set"], unknown), _caution(content, share)],
        _advice(content, share, grade, unknown),
        unknown,
    )


def _guessing(content: dict[str, Any]) -> float:
    """Return the share of right answers if every recording were given the most frequent label."""
    counts = [row["recordings"] for row in content["labels"]["labels"]]
    return max(counts, default=0) / sum(counts) if sum(counts) else 0.0


def _closed(share: Accuracy, grade: Grade, guessed: float, labels: int) -> str:
    """Judge the answers among the labels."""
    if not share.total:
        return "Not tested: there is no recording of a known label."
    if labels < 2:
        return "Only one label: there is no other that its recordings could be taken for."
    counted = counted_share(share, "recording", "right")
    these = f"closed sets of these {labels} labels"
    if share.total == 1:
        return f"One recording shows nothing: it was answered {'rightly' if share.right else 'wrongly'}."
    if is_open(share.low, share.high):
        return f"Too few recordings for a verdict on {these}: {counted}."
    if grade is Grade.NONE:
        return (
            f"Not shown to be better than guessing: {counted}, and the most frequent label alone {100 * guessed:.0f} %."
        )
    if grade is Grade.GOOD:
        return f"Good enough for {these}: {counted}."
    if grade is Grade.WEAK:
        return f"Weak, even for {these}: {counted}."
    return f"{'At least fair' if share.high >= GOOD_SHARE else 'Fair'} for {these}: {counted}."


def grade_unknown(open_set: dict[str, Any]) -> Grade | None:
    """Grade the refusal of unknown voices by the share refused, and by the share of known voices not refused.

    Both by the lower end of Wilson's interval, the worse counts. Labels left out at training give a fair grade at most:
    the threshold was set on them.

    Returns
    -------
    Grade or None
        None if there are no unknown voices to test.
    """
    unknown, known = open_set["unknown"], open_set["known"]
    if not unknown["clips"]:
        return None
    if unknown["accepted"] is None:
        return Grade.NONE
    refused = wilson(unknown["clips"] - unknown["accepted"], unknown["clips"])
    grade = grade_share(refused.low)
    if known["recordings"]:
        grade = min(grade, grade_share(wilson(known["recordings"] - known["refused"], known["recordings"]).low))
    return min(grade, Grade.FAIR) if _is_estimated(open_set) else grade


def _is_estimated(open_set: dict[str, Any]) -> bool:
    """Return whether the unknown voices are labels left out at training."""
    return bool(open_set["unknown"]["of"] != "test recordings of no label")


def _unknown(open_set: dict[str, Any], grade: Grade | None) -> str:
    """Judge the refusal of unknown voices."""
    unknown, known = open_set["unknown"], open_set["known"]
    if open_set["threshold"] is None:
        return "Unknown voices: never refused, each is given one of the labels."
    if grade is None:
        return "Unknown voices: not tested."
    refused = wilson(unknown["clips"] - unknown["accepted"], unknown["clips"])
    kept = wilson(known["recordings"] - known["refused"], known["recordings"])
    few = is_open(refused.low, refused.high)
    few |= bool(known["recordings"]) and refused.low >= FAIR_SHARE and is_open(kept.low, kept.high)
    word = "too few tested for a verdict" if few else grade.word.replace("none", "weak")
    estimated = " of labels left out at training" if _is_estimated(open_set) else ""
    also = f", and {known['refused']} of {known['recordings']} known ones refused" if known["refused"] else ""
    return f"Unknown voices: {word}: {unknown['accepted']} of {unknown['clips']} clips{estimated} accepted{also}."


def _caution(content: dict[str, Any], share: Accuracy) -> str | None:
    """Say what the accuracy alone hides: a baseline as good as the network, or probabilities that mislead."""
    baseline = (content["mfcc_statistics"] or {}).get("recordings")
    if baseline and share.right < share.total and baseline["right"] >= share.right:
        return (
            f"The network is not better than MFCC statistics, which get {baseline['right']} of {baseline['total']} "
            "right."
        )
    after = content["calibration"]["after"]
    error = after["calibration_error"]
    if error is not None and error > _LARGE_ERROR and after["recordings"] >= _LEAST_CALIBRATED:
        return (
            f"Its probabilities are {100 * error:.0f} points off on average: they rank answers, but are no percentages."
        )
    return None


def _advice(content: dict[str, Any], share: Accuracy, grade: Grade, unknown: Grade | None) -> Iterator[str | None]:
    """Yield pieces of advice, the most important first."""
    if content["model"]["labels"] < 2:
        yield "Add a second label: one folder of recordings each."
    elif not share.total or share.total == 1 or is_open(share.low, share.high):
        yield test_more(share.total)
    yield _mixed(content["confusion"]["pairs"])
    yield _weak_labels(content["labels"]["labels"], share)
    yield _curve(content["learning_curve"], grade)
    yield _unknown_advice(content["open_set"], unknown)
    yield untested_labels(content["data"])


def _mixed(pairs: Sequence[dict[str, Any]]) -> str | None:
    """Advise to listen to the two labels that are taken for each other most."""
    counts: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        true, answer = pair["true"], pair["answer"]
        if true != answer and true is not None and answer is not None:
            counts[min(true, answer), max(true, answer)] += pair["count"]
    if not counts:
        return None
    (one, other), number = min(counts.items(), key=lambda item: (-item[1], item[0]))
    if number < _LEAST_MIXED:
        return None
    return (
        f"Listen to {escape(one)} and {escape(other)}, taken for each other in {number} recordings: is each in the "
        "right folder?"
    )


def _weak_labels(rows: Sequence[dict[str, Any]], share: Accuracy) -> str | None:
    """Advise to record the labels that are recognised worst."""
    tested = [row for row in rows if row["recordings"]]
    if not tested:
        return None
    bad = []
    for row in tested:
        right = round(row["recall"] * row["recordings"])
        mistakes = row["recordings"] - right
        if mistakes >= LEAST_MISTAKES and row["recall"] <= min(LOW_RECALL, share.share):
            said = f"{right} of {row['recordings']} right"
            bad.append((row["recall"], -mistakes, LabelResult(row["label"], row["recordings"], said)))
    return record_more([result for *_, result in sorted(bad)], median_low(row["recordings"] for row in tested))


def _curve(curve: Sequence[dict[str, Any]], grade: Grade) -> str | None:
    """Say whether more recordings help, by what the last doubling of them brought."""
    shares = {point["share"]: point["right"] / point["total"] for point in curve if point["total"]}
    if 0.5 not in shares or 1.0 not in shares:
        return None
    grown = f"{100 * shares[0.5]:.0f} % right with half of them, {100 * shares[1.0]:.0f} % with all"
    if shares[1.0] - shares[0.5] > WORTHWHILE_GAIN:
        return f"More recordings of every label would help: {grown}."
    if grade < Grade.GOOD and shares[1.0] < GOOD_SHARE:
        return f"More recordings alone would help little: {grown}."
    return None


def _unknown_advice(open_set: dict[str, Any], grade: Grade | None) -> str | None:
    """Advise on unknown voices: examples to train on if they are not refused, else a test on voices of others."""
    if open_set["threshold"] is None or (grade is not None and grade <= Grade.WEAK):
        known = open_set["known"]
        kept = 1 - known["refused"] / known["recordings"] if known["refused"] else 1.0
        if kept < FAIR_SHARE:
            return "Record more of each label: too many of the known recordings are refused as unknown."
        return "Against unknown voices, train with recordings of others in a folder named _unknown_."
    if grade is None or _is_estimated(open_set):
        return "To test unknown voices, have folders of other people's recordings, too, in the folder of --test_dir."
    return None
