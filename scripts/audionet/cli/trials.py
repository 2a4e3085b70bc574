"""Verification trials on the command line: ``audionet evaluate --trials``."""

from __future__ import annotations

from pathlib import Path

from audionet.cli.console import warn
from audionet.cli.verdict import format_verdict
from audionet.evaluation.config import TrialConfig
from audionet.evaluation.trial_report import write_trial_report
from audionet.evaluation.trial_scores import PRIORS, TrialEvaluation, Variant, score_trials
from audionet.evaluation.trial_summary import summarise_trials
from audionet.utils.text import escape, format_table, pluralise

_NONE = "–"


def report_trials(path: Path, config: TrialConfig) -> None:
    """Score a trial list, print the error rates of each way of scoring, and write the report."""
    found = score_trials(path, config)
    content = summarise_trials(found)
    written = write_trial_report(found, content, config.report_dir)
    print(format_trials(found))
    print(format_verdict(content["verdict"]))
    if not found.trials.targets or not found.trials.nontargets:
        kind = "nontargets" if found.trials.targets else "targets"
        warn(f"{path} has no {kind}, so there are no error rates; the scores were written")
    print(f"Report: {escape(written[0])}")
    print(f"Scores: {', '.join(escape(file) for file in written if file.name.startswith('scores'))}")


def format_trials(found: TrialEvaluation) -> str:
    """Format the error rates of each way of scoring as a table."""
    trials, speakers = found.trials, found.speakers
    first = (
        f"{pluralise(trials.targets, 'target')} and {pluralise(trials.nontargets, 'nontarget')}, "
        f"{pluralise(speakers.number, 'speaker')} (known from {speakers.source}):"
    )
    header = ["scores", "EER", "95 % interval", *(f"minDCF({prior:g})" for prior in PRIORS), "Cllr", "min Cllr"]
    lines = [first, format_table(header, [_row(variant) for variant in found.variants])]
    if any(variant.cllr is not None for variant in found.variants):
        lines.append("Cllr: of scores calibrated on trials of other speakers; minimum: on these trials themselves.")
    elif found.variants[0].detection is not None:
        lines.append("Cllr: there are too few speakers to calibrate scores on trials of others.")
    return "\n".join(lines)


def _row(variant: Variant) -> list[str]:
    rate, costs = variant.equal_error_rate, variant.min_dcf
    if rate is None or costs is None:
        return [variant.name, *[_NONE] * (4 + len(PRIORS))]
    interval = _NONE if rate.low != rate.low else f"{rate.low:.2%} to {rate.high:.2%}"
    ratios = [_NONE if cost is None else f"{cost:.3f}" for cost in (variant.cllr, variant.min_cllr)]
    return [variant.name, f"{rate.value:.2%}", interval, *(f"{costs[prior].value:.3f}" for prior in PRIORS), *ratios]
