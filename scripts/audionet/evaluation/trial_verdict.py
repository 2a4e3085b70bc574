"""Verdict of verification trials."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from audionet.evaluation.verdict import Grade, Verdict, make_verdict
from audionet.utils.text import pluralise

GOOD_RATE = 0.05
"""Equal error rate up to which a way of scoring is good: the mark of speaker embeddings on clean speech."""

FAIR_RATE = 0.15
"""Equal error rate up to which it is fair: enough to sort recordings, not to decide on one."""

_GUESSING = 0.5
_LEAST_SPEAKERS = 20
"""Speakers from which error rates hold for others: resampling fewer gives intervals that are too narrow."""


def trial_verdict(content: dict[str, Any]) -> Verdict:
    """Judge trials by the upper end of the interval of the equal error rate; of several ways of scoring, the last.

    The last is what was asked for beyond cosine scores, and what ``scores.txt`` holds; the best is known afterwards
    alone.

    Parameters
    ----------
    content : dict
        Of report.json, from `summarise_trials`.
    """
    variant, trials, speakers = content["variants"][-1], content["trials"], content["speakers"]["number"]
    rate = variant["equal_error_rate"]
    if rate is None:
        kind = "nontargets" if trials["targets"] else "targets"
        advice = f"Add {kind} to the list: pairs of {'different speakers' if trials['targets'] else 'one speaker'}."
        return make_verdict(Grade.NONE, [f"Not tested: the list has no {kind}."], [advice])
    measured = f"equal error rate {rate['value']:.1%}"
    if rate["high"] is None:
        sentence = f"Too few speakers for a verdict: {measured}, of {speakers}, without an interval."
        return make_verdict(Grade.NONE, [sentence], [_more_speakers(speakers)])
    grade = _grade(rate["high"])
    few = speakers < _LEAST_SPEAKERS
    if few:
        grade = min(grade, Grade.FAIR)
    measured += f" by {variant['name']} (95 % interval {rate['low']:.1%} to {rate['high']:.1%})"
    of = f"{pluralise(speakers, 'speaker')}, {trials['targets'] + trials['nontargets']:,} trials"
    word = "Not shown to be better than guessing" if grade is Grade.NONE else grade.word.capitalize()
    caution = "The speakers are few: others may be harder to tell apart." if few else None
    return make_verdict(
        grade, [f"{word} at telling these speakers apart: {measured}; {of}.", caution], _advice(content)
    )


def _grade(high: float) -> Grade:
    if high >= _GUESSING:
        return Grade.NONE
    if high <= GOOD_RATE:
        return Grade.GOOD
    return Grade.FAIR if high <= FAIR_RATE else Grade.WEAK


def _more_speakers(speakers: int) -> str:
    return f"Add trials of more speakers: {pluralise(speakers, 'speaker')} cannot show how it does with others."


def _advice(content: dict[str, Any]) -> Iterator[str | None]:
    """Yield pieces of advice, the most important first."""
    variants, speakers = content["variants"], content["speakers"]["number"]
    if speakers < _LEAST_SPEAKERS:
        yield _more_speakers(speakers)
    first, last = (variant["equal_error_rate"]["value"] for variant in (variants[0], variants[-1]))
    if last > first:
        yield f"{variants[-1]['name']} does no better here than {variants[0]['name']}, {first:.1%}: leave it out."
    if len(variants) == 1 and _grade(variants[0]["equal_error_rate"]["high"]) < Grade.GOOD:
        yield "Try --score_norm as, and --plda with recordings of many other speakers."
    if left_out := sum(content["trials"]["left_out"].values()):
        yield f"Mend the list: {pluralise(left_out, 'row')} left out."
