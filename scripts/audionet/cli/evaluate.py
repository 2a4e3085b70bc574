"""Evaluate a model on recordings that it was not trained on, and write a report: tf_files/report/report.html.

The recordings are the test set of its split, or any folder of labels. With --cost it also fits the decision rule with
the least expected cost, and stores it in the model: label_image.py then applies it. With --trials it scores a list of
verification trials instead, by a model or by a backbone alone.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from audionet.classifier.decision import Rule
from audionet.cli.console import Parser, warn
from audionet.cli.multi_label import format_multi_label, name_some
from audionet.cli.trials import report_trials
from audionet.cli.verdict import format_verdict
from audionet.evaluation.comparison import compare, comparison_text, parse_report
from audionet.evaluation.config import EvaluateConfig, TrialConfig
from audionet.evaluation.evaluate import evaluate, store_rule
from audionet.evaluation.label_files import check_has_times, write_labels
from audionet.evaluation.multi_label import evaluate_multi_label, summarise_multi_label
from audionet.evaluation.multi_label_report import write_multi_label_report
from audionet.evaluation.report import write_report
from audionet.evaluation.summary import summarise
from audionet.inference.predictor import Predictor
from audionet.utils.extras import require_modules
from audionet.utils.files import make_writable_folder
from audionet.utils.settings import add_flags, flag_group, from_flags, path_flag, setting_names
from audionet.utils.text import escape, pluralise

_LABELS_NAMED = 5
_COMPARED = 10  # recordings that one model gets and the other does not


def make_parser() -> Parser:
    parser = Parser(__doc__, "--test_dir held_out", "--cost voicemail:human=10")
    add_flags(parser, EvaluateConfig, optional=True)
    flag_group(parser, "trials").add_argument(
        "--trials",
        type=path_flag,
        metavar="LIST",
        help="score verification trials instead: rows '1 enrol.wav test.wav', or CSV with enrol, test and label; by a "
        "backbone alone, or by --graph",
    )
    add_flags(parser, TrialConfig, optional=True)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    flags = parser.parse_args(argv)
    given = {name for name, value in vars(flags).items() if value not in (None, [])}
    if flags.trials is None and (wrong := given & setting_names(TrialConfig)):
        parser.error(f"argument --{min(wrong)}: goes with --trials alone")
    if flags.trials is not None and (wrong := given - {item.name for item in fields(TrialConfig)} - {"trials"}):
        parser.error(f"argument --{min(wrong)}: does not go with --trials")
    if {"graph", "architecture"} <= given:
        parser.error("argument --architecture: does not go with --graph, which has its own backbone")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    require_modules("sklearn", "scipy", "matplotlib")
    if flags.trials is not None:
        trial_config = from_flags(TrialConfig, flags)
        make_writable_folder(trial_config.report_dir)
        report_trials(flags.trials, trial_config)
        return
    config = from_flags(EvaluateConfig, flags)
    make_writable_folder(config.report_dir)
    predictor = Predictor(config.graph, with_enrolled=False)
    other = None if config.against is None else Predictor(config.against, with_enrolled=False)
    if predictor.thresholds is not None:
        content = report_multi_label(predictor, config)
        print_comparison(content, predictor, other, config)
        return
    if config.labels_dir is not None:
        check_has_times(predictor)
        make_writable_folder(config.labels_dir)
    result = evaluate(predictor, config)
    content = summarise(result, predictor, config)
    written = write_report(result, content, predictor, config.report_dir, config.explain)
    if result.picked is not None or config.drops_rule:
        store_rule(predictor, result.rule)
    print_summary(content)
    print(format_verdict(content["verdict"]))
    if result.check is not None and result.check.problem is not None:
        warn(f"the rule is not stored, and the most probable label stays the answer: {result.check.problem}")
    elif result.picked is not None:
        print_rule(result.rule, content["costs"], predictor.labels)
    print(f"Report: {escape(written[0])}")
    print_comparison(content, predictor, other, config)
    if config.labels_dir is not None:
        print(f"Labels: {', '.join(map(escape, write_labels(result, predictor, config, config.labels_dir)))}")


def print_comparison(
    content: dict[str, Any], predictor: Predictor, other: Predictor | None, config: EvaluateConfig
) -> None:
    """Evaluate the other model, if there is one, on the same recordings, and print the comparison."""
    if other is None:
        return
    same = dataclasses.replace(config, graph=other.graph, against=None, cost=(), labels_dir=None)
    if other.thresholds is not None:
        against = summarise_multi_label(evaluate_multi_label(other, same), other, same)
    else:
        against = summarise(evaluate(other, same), other, same)
    found = compare(parse_report(str(other.graph), against), parse_report(str(predictor.graph), content))
    print(comparison_text(found, _COMPARED))


def report_multi_label(predictor: Predictor, config: EvaluateConfig) -> dict[str, Any]:
    """Evaluate a model that answers with several labels at a time, print its scores and write the report.

    Returns
    -------
    dict
        Content of report.json.
    """
    found = evaluate_multi_label(predictor, config)
    content = summarise_multi_label(found, predictor, config)
    written = write_multi_label_report(found, content, predictor, config.report_dir, config.explain)
    data = content["data"]
    print(f"{pluralise(data['recordings'], 'recording')} from {data['source']}, {_unseen(data)}:")
    print(format_multi_label(found.scores, found.labels))
    if (baseline := content["mfcc_statistics"]) is not None and data["cross_validated"]:
        print(f"  {'MFCC statistics':<22} {baseline:.3f}")
    if missing := data["missing_labels"]:
        print(f"  not tested: {pluralise(len(missing), 'label')} without a recording ({name_some(missing)})")
    print(format_verdict(content["verdict"]))
    print(f"Report: {escape(written[0])}")
    return content


def print_summary(content: dict[str, Any]) -> None:
    """Print the most important results, each with the number of recordings or chunks behind it."""
    data, answers, open_set = content["data"], content["answers"], content["open_set"]
    unseen = _unseen(data)
    if data["unseen"] and (cut := len(data["recordings_also_heard_in_training"])):
        unseen = f"of {pluralise(cut, 'label')} from other segments of recordings that were also used in training"
    others = f" and {data['unknown_recordings']} of no label" if data["unknown_recordings"] else ""
    print(f"{pluralise(data['recordings'], 'recording')} of its labels{others} from {data['source']}, {unseen}:")
    print(
        f"  answers          {answers['right']} right, {answers['wrong']} wrong, {answers['unknown']} unknown of "
        f"{answers['recordings']}{_refused(content['labels']['labels'])}"
    )
    baseline = content["mfcc_statistics"] or {}
    for name, unit in (("label right", "recordings"), ("per chunk", "chunks")):
        print(f"  {name:<16} {format_accuracy(content['accuracy'][unit])}")
        if unit in baseline:
            print(f"  {'MFCC statistics':<16} {format_accuracy(baseline[unit])}")
    if content["leaky_split"]:
        print(
            f"  {'a leaky split':<16} {format_accuracy(content['leaky_split'])}: chunks split at random, too optimistic"
        )
    if missing := data["missing_labels"]:
        print(f"  not tested: {pluralise(len(missing), 'label')} without a recording ({name_some(missing)})")
    unknown = open_set["unknown"]
    if unknown["accepted"] is not None and unknown["clips"]:
        print(f"Unknown voices: {unknown['accepted']} of {unknown['clips']} accepted ({unknown['of']})")
    before, after = (content["calibration"][when] for when in ("before", "after"))
    if before["calibration_error"] is not None:
        kind = "cross-validated recording" if content["model"]["cross_validated"] else "validation recording"
        fitted = pluralise(content["calibration"]["recordings"], kind)
        print(
            f"Calibration error: {after['calibration_error']:.1%} of {pluralise(after['recordings'], 'recording')}, "
            f"{before['calibration_error']:.1%} without the temperature, which was fitted on {fitted}; "
            f"Brier score {after['brier']:.3f}, Cllr {after['cllr']:.3f}"
        )
    if content["costs"]:
        costs = content["costs"]
        rule, plain = (format_cost(costs[name]) for name in ("mean_cost", "mean_cost_of_most_probable"))
        counted = pluralise(costs["recordings"], "recording")
        print(f"Cost of a recording: {rule} by the rule, {plain} by the most probable label ({counted})")


def _unseen(data: dict[str, Any]) -> str:
    """Say whether the model was trained on the recordings."""
    if data["cross_validated"]:
        return "each tested by a model that was not trained on it"
    return "none of them seen in training" if data["unseen"] else "ALL OF THEM SEEN IN TRAINING"


def _refused(labels: Sequence[dict[str, Any]]) -> str:
    """List the labels with the most recordings that are answered unknown."""
    some = sorted((row for row in labels if row["refused"]), key=lambda row: -row["refused"])
    named = [f"{escape(row['label'])} {row['refused']} of {row['recordings']}" for row in some[:_LABELS_NAMED]]
    more = ", ..." if len(some) > _LABELS_NAMED else ""
    return f" (unknown: {', '.join(named)}{more})" if named else ""


def print_rule(rule: Rule, costs: dict[str, Any], labels: Sequence[str]) -> None:
    """Print the decision rule that was stored in the model; warn if it does not lower the cost."""
    description = f"cost exponent {rule.exponent:g}"
    if rule.threshold is not None:
        description = f"{escape(labels[1])} from a probability of {rule.threshold:.1%}"
    print(f"Stored in the model: {description}. Remove it with evaluate.py --cost none.")
    by_rule, plain = costs["mean_cost"], costs["mean_cost_of_most_probable"]
    if by_rule is not None and by_rule > plain:
        warn("on these recordings the rule costs more than the most probable label does; test on more recordings")


def format_accuracy(share: dict[str, Any]) -> str:
    if not share["total"]:
        return "nothing to test on"
    counted = f"{share['right']} of {share['total']}"
    return (
        f"{share['right'] / share['total']:6.1%}  ({counted}, 95 % interval {share['low']:.1%} to {share['high']:.1%})"
    )


def format_cost(cost: float | None) -> str:
    return "none" if cost is None else f"{cost:.3g}"
