"""Verdict of an evaluation: grades, two or three sentences on them, and at most three pieces of advice."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.utils.text import escape, pluralise

MOST_SENTENCES = 3
MOST_ADVICE = 3

GOOD_SHARE = 0.9
"""Share of right answers from which a result is good: at most one answer in ten is wrong, and corrected by hand."""

FAIR_SHARE = 0.7
"""Share of right answers from which a result is fair: seven in ten save work, but every answer has to be checked."""

LEAST_MISTAKES = 2
"""Mistakes from which a label is named: a single one may be chance."""

LOW_RECALL = 0.75
"""Recall up to which more recordings of a label are advised, if it is below that of all."""

LEAST_MORE = 3
"""Recordings to ask for: fewer change little, even for a label with few."""

_LABELS_NAMED = 2
_ROUNDING = 1e-9  # Wilson's interval of no right answer begins at 0 but for rounding


class Grade(IntEnum):
    """Grade of a result, by the end of its 95 % interval that is worse."""

    NONE = 0
    """Not better than guessing, as far as the data show; or nothing was measured."""
    WEAK = 1
    FAIR = 2
    GOOD = 3

    @property
    def word(self) -> str:
        """Return the grade as ``report.json`` holds it."""
        return self.name.lower()


@dataclass(frozen=True)
class Verdict:
    """Verdict of an evaluation.

    Attributes
    ----------
    grade : Grade
        Grade of the answers among the labels, or of telling speakers apart.
    unknown : Grade or None
        Grade of refusing unknown voices; None if the evaluation does not test it.
    sentences : tuple of str
        At most `MOST_SENTENCES`.
    advice : tuple of str
        At most `MOST_ADVICE`, the most important first.
    """

    grade: Grade
    unknown: Grade | None
    sentences: tuple[str, ...]
    advice: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Format it for report.json."""
        return {
            "grade": self.grade.word,
            "unknown_voices": None if self.unknown is None else self.unknown.word,
            "sentences": list(self.sentences),
            "advice": list(self.advice),
        }


class LabelResult(NamedTuple):
    """Recordings of a label, and what became of them in words: ``2 of 5 right``."""

    label: str
    recordings: int
    said: str


def make_verdict(
    grade: Grade, sentences: Iterable[str | None], advice: Iterable[str | None], unknown: Grade | None = None
) -> Verdict:
    """Keep the first sentences and pieces of advice that there are."""
    said, advised = ([text for text in texts if text] for texts in (sentences, advice))
    return Verdict(grade, unknown, tuple(said[:MOST_SENTENCES]), tuple(advised[:MOST_ADVICE]))


def grade_share(low: float, chance: float = 0.0) -> Grade:
    """Grade a share of right answers.

    Parameters
    ----------
    low : float
        Lower end of its 95 % interval, 0 to 1.
    chance : float
        Share that guessing gets right.
    """
    if low <= chance + _ROUNDING:
        return Grade.NONE
    if low >= GOOD_SHARE:
        return Grade.GOOD
    return Grade.FAIR if low >= FAIR_SHARE else Grade.WEAK


def is_open(low: float, high: float) -> bool:
    """Return whether an interval is too wide for a verdict: anything from weak to good may be true."""
    return low < FAIR_SHARE and high >= GOOD_SHARE


def share_of(share: dict[str, Any]) -> Accuracy:
    """Read a share of right answers, with its interval, from the content of report.json."""
    return Accuracy(share["right"], share["total"], share["low"], share["high"])


def wilson(right: int, total: int) -> Accuracy:
    """Compute a share's interval from its counts."""
    return accuracy(np.arange(total) < right)


def span(low: float, high: float) -> str:
    """Format an interval in whole percent, rounded so that it never promises more than it holds."""
    # Rounded before, because 100 * 0.29 is 28.999...
    return f"{math.floor(round(100 * low, 9))} % to {math.ceil(round(100 * high, 9))} %"


def counted_share(share: Accuracy, noun: str, word: str) -> str:
    """Format a share with its count and interval: ``4 of 5 recordings right (95 % interval 37 % to 97 %)``."""
    return f"{share.right} of {pluralise(share.total, noun)} {word} (95 % interval {span(share.low, share.high)})"


def seen_in_training(data: dict[str, Any]) -> Verdict | None:
    """Refuse a verdict where the model was trained on every recording; None elsewhere."""
    if data["cross_validated"] or data["unseen"]:
        return None
    return make_verdict(
        Grade.NONE,
        ["No verdict: every recording took part in training, so nothing here holds for new ones."],
        ["Test on other recordings: name their folder with --test_dir."],
    )


def untested_labels(data: dict[str, Any]) -> str | None:
    """Advise to record labels without a test recording."""
    missing = data["missing_labels"]
    if not missing:
        return None
    others = f" and {pluralise(len(missing) - 1, 'more label')}" if len(missing) > 1 else ""
    return f"Record more of {escape(missing[0])}{others}, of which no recording was tested."


def test_more(recordings: int) -> str:
    """Advise to test more recordings than so few."""
    return f"Test more recordings: {pluralise(recordings, 'recording')} cannot show how good the model is."


def record_more(rows: Iterable[LabelResult], usual: int) -> str | None:
    """Advise to record the labels with most mistakes: as many as the others have, three at least; None if none is bad.

    Parameters
    ----------
    rows : iterable of LabelResult
        Labels that are worth naming, the worst first.
    usual : int
        Number of recordings that a label has.
    """
    bad = list(rows)
    named = [
        f"{max(LEAST_MORE, usual - row.recordings)} more of {escape(row.label)} ({row.said})"
        for row in bad[:_LABELS_NAMED]
    ]
    others = len(bad) - len(named)
    more = f"; more of {pluralise(others, 'other label')} would help, too" if others else ""
    return f"Record {' and '.join(named)}{more}." if named else None
