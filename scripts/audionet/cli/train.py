"""Train a new top layer on a pretrained network; the folders of images give the labels.

Reads the images that data_maker.py rendered, caches bottlenecks and converted networks for the next run, and writes
the model that label_image.py loads.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
from collections import Counter
from collections.abc import Sequence

import numpy as np

from audionet._paths import lite_path
from audionet.classifier.open_set import OpenSet
from audionet.classifier.threshold import segments_needed
from audionet.cli.console import Parser, command_line
from audionet.cli.multi_label import format_multi_label
from audionet.data.naming import UNKNOWN
from audionet.evaluation.label_verdict import WORTHWHILE_GAIN
from audionet.export.formats import check_backbone, require_format
from audionet.export.publish import publish, summarise
from audionet.metrics.accuracy import accuracy
from audionet.training.config import AUTO, RetrainConfig, StepConfig
from audionet.training.data_module import Data
from audionet.training.results import Answers, CrossValidation, MultiLabelTraining, Test, Trained
from audionet.training.trainer import train
from audionet.utils.extras import require_modules
from audionet.utils.settings import add_flags, from_flags, setting_names
from audionet.utils.text import escape, pluralise

_SHARES = {0.25: "a quarter", 0.5: "half", 1.0: "all"}
_FEW_FOLDS = 3
_LEAST_FOR_CURVE = 3  # recordings of a label
_MANY_REFUSED = 0.1  # share of known clips
_WORTH_SAYING = 0.005  # accuracy that the recordings of one fold more are expected to bring


def make_parser() -> Parser:
    parser = Parser(__doc__, "--architecture inception_v3_speech_v2 --unknown_fpr 5")
    add_flags(parser, RetrainConfig)
    add_flags(parser, StepConfig, optional=True)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def config_of(flags: argparse.Namespace) -> RetrainConfig:
    """Create the config; a flag of training in steps, whatever its value, asks for that instead of the exact fit."""
    given = setting_names(StepConfig) & set(vars(flags))
    config = from_flags(RetrainConfig, flags)
    return dataclasses.replace(config, steps=from_flags(StepConfig, flags)) if given else config


def main(argv: Sequence[str] | None = None) -> None:
    config = config_of(parse_args(argv))
    require_modules("scipy", "matplotlib", "tensorboard")
    require_format(config)
    trained = train(config, functools.partial(check_backbone, config))
    report(trained, config)
    publish(trained, config)
    summaries = summarise(trained)
    written = dict.fromkeys((config.output_graph, lite_path(config.output_graph), config.output_model))
    print("Model:  " + "\n        ".join(map(escape, written)))
    print(f"Labels: {escape(config.output_labels)}")
    print(f"Plots:  {escape(summaries[0].parent)}/ ({', '.join(path.name for path in summaries)}), make tensorboard")
    print(f"Use it: {command_line('label', '--graph', config.output_graph)} CLIP")


def report(trained: Trained, config: RetrainConfig) -> None:
    print()
    if trained.multi_label is not None:
        report_multi_label(trained, trained.multi_label)
        return
    if trained.test is None:
        print(f"No test: {_reason_for_no_test(trained, config)}.")
    elif trained.cross_validation is not None:
        report_cross_validation(trained, trained.test, trained.cross_validation)
    else:
        report_test(trained, trained.test)
    if seen := trained.data.split.seen_in_training:
        fewer = "one recording" if trained.cross_validation else "fewer than three recordings"
        print(
            f"Note: of {pluralise(len(seen), 'label')} with {fewer} ({_some(seen)}) the test chunks "
            "come from other segments of recordings that were also used in training. Expect a lower accuracy on new "
            "recordings; record more to measure it."
        )
    print(format_open_set(trained.open_set))
    if trained.open_set.rejection is not None and trained.trained_on_left_out:
        print("Note: that is too optimistic, as the network itself was trained on these labels: run evaluate.py.")
    if "unknown" in trained.data.labels:
        print(f"Note: a label is named unknown, like the answer for no label; name examples of no label {UNKNOWN}.")
    if config.print_misclassified_test_images and trained.test is not None:
        print(f"Misclassified test images: {len(trained.test.misclassified)}")
        for image, given in trained.test.misclassified:
            print(f"  {escape(image.path)} predicted as {escape(given)}")


def report_multi_label(trained: Trained, found: MultiLabelTraining) -> None:
    """Print the cross-validation of a model that answers with several labels at a time."""
    folds = trained.data.folds
    assert folds is not None
    if found.test is None:
        print(f"No test: {_reason_for_no_test(trained, trained.config)}.")
    else:
        print(
            f"Cross-validated, several labels at a time: in {len(folds)} folds each of "
            f"{pluralise(found.test.recordings, 'recording')} was tested once, by a model that was not trained on it:"
        )
        print(format_multi_label(found.test, trained.data.labels))
        if found.baseline is not None and found.baseline.mean_average_precision is not None:
            print(
                f"MFCC statistics in the same folds: mean average precision {found.baseline.mean_average_precision:.3f}"
            )
    recordings = pluralise(len(trained.data.groups), "recording")
    print(f"The model that is written has been fitted on all {recordings}.")


def _reason_for_no_test(trained: Trained, config: RetrainConfig) -> str:
    if trained.data.folds is not None:
        return "all recordings of each label are in one group, copies of each other, or one that is too short to be cut"
    return "no label has enough chunks for a test set" if config.percentages[1] else "--testing_percentage is 0"


def _some(labels: Sequence[str]) -> str:
    return ", ".join(map(escape, labels[:5])) + (", ..." if len(labels) > 5 else "")


def report_test(trained: Trained, test: Test) -> None:
    """Print the test of a classic split."""
    unseen = "none of them seen in training" if not trained.data.split.seen_in_training else "see the note below"
    print(
        f"Test on {pluralise(test.network.chunks.total, 'chunk')} of "
        f"{pluralise(test.network.recordings.total, 'recording')}, {unseen}:"
    )
    _print_answers(test.answers)
    _print_accuracies(test)
    tested = {image.label for image in trained.data.split.sets["testing"]}
    if untested := len(trained.data.labels) - len(tested):
        print(f"Note: {pluralise(untested, 'label')} of {len(trained.data.labels)} had too few chunks for a test set.")


def _print_answers(answers: Answers) -> None:
    refused = sorted(answers.refused.items(), key=lambda pair: -pair[1])
    some = f" (unknown: {_some([f'{label} {number}' for label, number in refused])})" if refused else ""
    print(
        f"  answers          {answers.right} right, {answers.wrong} wrong, {answers.unknown} unknown of "
        f"{answers.total}{some}"
    )


def _print_accuracies(test: Test) -> None:
    for name, result in (("network", test.network), ("MFCC statistics", test.baseline)):
        if result is not None:
            print(f"  {name:<16} per chunk     {result.chunks}")
            print(f"  {'':<16} per recording {result.recordings}")
    if test.baseline is None:
        print("  MFCC statistics  not measured: needs mel spectrograms rendered by data_maker.py")


def report_cross_validation(trained: Trained, test: Test, validated: CrossValidation) -> None:
    """Print the results of a cross-validation, and what the published model was fitted on."""
    found, folds = test.network.recordings, trained.data.folds
    assert folds is not None
    unseen = "by a model that was not trained on it"
    if folds.cut_in_time:
        unseen += ", or not on that part of it (see the note below)"
    interval = f"{found.share:.1%} (95 % interval {found.low:.1%} to {found.high:.1%})"
    print(
        f"Cross-validated: the label of {found.right} of {pluralise(found.total, 'recording')} right, {interval}. "
        f"In {len(folds)} folds every recording was tested once, {unseen}:"
    )
    _print_answers(test.answers)
    _print_accuracies(test)
    if len(folds) <= _FEW_FOLDS:
        print(
            f"  Each of these models was trained on {len(folds) - 1} of {len(folds)} parts of the recordings; the one "
            "that is written learns from all of them, and should be better."
        )
    if len(validated.repeats) > 1:
        shares = np.array([one.share for one in validated.repeats])
        mean, deviation = shares.mean(), shares.std(ddof=1)
        print(f"  in {len(shares)} repeats     {mean:.1%} on average, standard deviation {deviation:.1%}")
    if max(Counter(label for label, _ in trained.data.groups).values()) >= _LEAST_FOR_CURVE:
        print(format_learning_curve(validated, trained.data))
    if untested := [label for label in folds.untested if label != UNKNOWN]:
        print(
            f"Note: {pluralise(len(untested), 'label')} ({_some(untested)}) cannot be tested: all recordings are in "
            "one group, copies of each other, or one that is too short to be cut."
        )
    recordings = sum(label != UNKNOWN for label, _ in trained.data.groups)
    choices = _choices(trained, validated)
    print(f"The model that is written has been fitted on all {pluralise(recordings, 'recording')}{choices}.")
    expected = validated.expected_accuracy(len(folds))
    if expected - found.share > _WORTH_SAYING:
        print(f"  Along the learning curve, that makes about {expected:.1%} of new recordings right.")


def format_learning_curve(validated: CrossValidation, data: Data) -> str:
    """Describe how the accuracy grows with the recordings, and which labels have the fewest."""
    points = {one.share: one.accuracy for one in validated.learning_curve}
    shares = [f"{points[share].share:.1%} with {name}" for share, name in _SHARES.items()]
    half, whole = points[0.5], points[1.0]
    # Each doubling so far gained what the last one did, or more: half of that gain is worth recording for.
    advice = "more recordings would help" if whole.share - half.share > WORTHWHILE_GAIN else "more would help little"
    counts = Counter(label for label, _ in data.groups if label != UNKNOWN)
    fewest = [label for label, number in counts.items() if number == min(counts.values())]
    short = ""
    if advice.startswith("more recordings") and len(fewest) < len(counts):
        short = f", first of {_some(fewest)} ({counts[fewest[0]]}{' each' if len(fewest) > 1 else ''})"
    return f"Learning curve: {', '.join(shares)} of the recordings: {advice}{short}."


def _choices(trained: Trained, validated: CrossValidation) -> str:
    """Name the choices that cross-validation made."""
    chosen = []
    if trained.config.endpoint == AUTO:
        chosen.append(f"bottlenecks of {trained.backbone.endpoint}")
    if trained.backbone.statistics == "mfcc" and trained.config.statistics == "auto":
        chosen.append("bottlenecks joined with MFCC statistics")
    if trained.config.augmented == "auto" and any(image.copy for image in trained.data.bottlenecks.images):
        copies = {"none": "no augmented copies", "all": "all augmented copies"}
        name = copies.get(validated.fitted.copies, f"augmented copies by {validated.fitted.copies}")
        gain = "" if validated.fitted.copies == "none" else f" ({100 * validated.fitted.gain:+.1f} points)"
        chosen.append(name + gain)
    return f", with {' and '.join(chosen)}, as cross-validation chose" if chosen else ""


def format_open_set(found: OpenSet) -> str:
    """Describe how label_image.py will answer for speakers that are none of the labels."""
    never = "Unknown voices: label_image.py will never answer unknown"
    if found.rate == 0:
        return f"{never}, because --unknown_fpr is 0."
    if found.trials is None:
        return f"{never}: with two labels, that needs clips of other speakers in a folder named {UNKNOWN}."
    if found.lacks_examples:
        return (
            f"{never}: these labels are no voices, and what else there is to hear they do not say. Examples of other "
            f"sounds in a folder named {UNKNOWN} would, or --unknown_fpr 5."
        )
    trials = len(found.trials.unknown)
    area = "" if found.area is None else f" (area under the curve {found.area:.3f})"
    if found.rejection is None and found.rate is not None:
        needed = segments_needed(found.trials, found.rate)
        return (
            f"{never}: a false acceptance rate of {100 * found.rate:g} % needs {needed} clips of held-out labels, not "
            f"{trials}. Record more, or raise --unknown_fpr."
        )
    if found.rejection is None:
        return (
            f"{never}: these labels, left out in turn, are not separated from the others{area}. More recordings a "
            f"label, or examples of other sounds in a folder named {UNKNOWN}, may change that."
        )
    assert found.rejection is not None
    passing = accuracy(found.passing)
    line = (
        f"Unknown voices: {found.refused} of {pluralise(len(found.known.segments), 'known clip')} would be refused; "
        f"{passing.right} of {pluralise(trials, 'clip')} of labels left out in turn would pass for a known one, "
        f"{passing.share:.1%} (95 % interval {passing.low:.1%} to {passing.high:.1%}){area}."
    )
    if found.rate is not None and found.refused > _MANY_REFUSED * len(found.known.segments):
        line += f" That is what --unknown_fpr {100 * found.rate:g} costs: leave it out to spare the known ones."
    return line
