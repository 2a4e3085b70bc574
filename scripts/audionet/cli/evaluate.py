"""Hold a model against recordings it has not heard, and write a report: tf_files/report/report.html.

The recordings are the test part of its split, or any folder of labels. With --cost it also finds the decision rule
under which mistakes cost least, and stores it in the model: label_image.py then decides by it.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from audionet.classifier.decision import Rule
from audionet.cli.console import Parser, warn
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.evaluate import evaluate, store_rule
from audionet.evaluation.report import write_report
from audionet.evaluation.summary import summarise
from audionet.inference.predictor import Predictor
from audionet.utils.extras import require_modules
from audionet.utils.files import make_writable_folder
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape, pluralise


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__.partition("\n")[0])
    add_flags(parser, EvaluateConfig)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    config = from_flags(EvaluateConfig, parse_args(argv))
    require_modules("sklearn", "scipy", "matplotlib")
    make_writable_folder(config.report_dir)
    predictor = Predictor(config.graph, with_enrolled=False)
    found = evaluate(predictor, config)
    content = summarise(found, predictor, config)
    written = write_report(found, content, predictor, config.report_dir)
    if found.picked is not None or config.drops_rule:
        store_rule(predictor, found.rule)
    say(content)
    if found.picked is not None:
        say_rule(found.rule, content["costs"], predictor.labels)
    print(f"Report: {escape(written[0])}")


def say(content: dict[str, Any]) -> None:
    """The numbers that matter most, each with what it was counted on."""
    data, answers, open_set = content["data"], content["answers"], content["open_set"]
    unseen = "none of them heard in training" if data["unseen"] else "ALL OF THEM HEARD IN TRAINING"
    if data["unseen"] and (cut := len(data["recordings_also_heard_in_training"])):
        unseen = f"of {pluralise(cut, 'label')} from other stretches of recordings that training heard too"
    nobody = f" and {data['unknown_recordings']} of no label" if data["unknown_recordings"] else ""
    print(f"{pluralise(data['recordings'], 'recording')} of its labels{nobody} from {data['source']}, {unseen}:")
    baseline = content["mfcc_statistics"] or {}
    for name, unit in (("per recording", "recordings"), ("per chunk", "chunks")):
        print(f"  {name:<16} {in_words(content['accuracy'][unit])}")
        if unit in baseline:
            print(f"  {'MFCC statistics':<16} {in_words(baseline[unit])}")
    if content["leaky_split"]:
        print(f"  {'a leaky split':<16} {in_words(content['leaky_split'])}: what chunks drawn at random claim")
    if missing := data["missing_labels"]:
        some = ", ".join(map(escape, missing[:5])) + (", ..." if len(missing) > 5 else "")
        print(f"  not tested: {pluralise(len(missing), 'label')} without a recording ({some})")
    print(
        f"Answers: {answers['right']} right, {answers['wrong']} wrong, {answers['unknown']} unknown of "
        f"{answers['recordings']}"
    )
    unknown = open_set["unknown"]
    if unknown["accepted"] is not None and unknown["clips"]:
        print(f"Unknown voices: {unknown['accepted']} of {unknown['clips']} accepted ({unknown['of']})")
    before, after = (content["calibration"][when] for when in ("before", "after"))
    if before["calibration_error"] is not None:
        fitted = pluralise(content["calibration"]["recordings"], "validation recording")
        print(
            f"Calibration error: {after['calibration_error']:.1%} of {pluralise(after['recordings'], 'recording')}, "
            f"{before['calibration_error']:.1%} without the temperature, which {fitted} gave"
        )
    if content["costs"]:
        costs = content["costs"]
        rule, plain = (show(costs[name]) for name in ("mean_cost", "mean_cost_of_most_probable"))
        counted = pluralise(costs["recordings"], "recording")
        print(f"Cost of a recording: {rule} by the rule, {plain} by the most probable label ({counted})")


def say_rule(rule: Rule, costs: dict[str, Any], labels: Sequence[str]) -> None:
    """What the model decides by from now on, and whether that pays."""
    how = f"caution {rule.exponent:g}"
    if rule.threshold is not None:
        how = f"{escape(labels[1])} from a probability of {rule.threshold:.1%} on"
    print(f"Stored in the model: {how}. evaluate.py --cost none takes it back.")
    by_rule, plain = costs["mean_cost"], costs["mean_cost_of_most_probable"]
    if by_rule is not None and by_rule > plain:
        warn("on these recordings the rule costs more than the most probable label does; few recordings prove little")


def in_words(share: dict[str, Any]) -> str:
    if not share["total"]:
        return "nothing to test on"
    counted = f"{share['right']} of {share['total']}"
    return (
        f"{share['right'] / share['total']:6.1%}  ({counted}, 95 % interval {share['low']:.1%} to {share['high']:.1%})"
    )


def show(cost: float | None) -> str:
    return "none" if cost is None else f"{cost:.3g}"
