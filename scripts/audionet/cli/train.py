"""Train a new top layer on a pretrained network; the folders of images give the labels.

Reads the images that data_maker.py rendered, caches bottlenecks and converted networks for the next run, and writes
the model that label_image.py loads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audionet._paths import lite_path
from audionet.classifier.open_set import OpenSet, segments_needed
from audionet.cli.console import Parser
from audionet.data.naming import UNKNOWN
from audionet.export.publish import publish, summarise
from audionet.training.config import RetrainConfig
from audionet.training.results import Trained
from audionet.training.trainer import train
from audionet.utils.extras import require_modules
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape, pluralise


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__.partition("\n")[0])
    add_flags(parser, RetrainConfig)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    config = from_flags(RetrainConfig, parse_args(argv))
    require_modules("tensorflow", "sklearn", "scipy", "matplotlib", "tensorboard")
    trained = train(config)
    report(trained, config)
    publish(trained, config)
    summaries = summarise(trained)
    written = dict.fromkeys((config.output_graph, lite_path(config.output_graph), config.output_model))
    print("Model:  " + "\n        ".join(map(escape, written)))
    print(f"Labels: {escape(config.output_labels)}")
    print(f"Plots:  {escape(summaries[0].parent)}/ ({', '.join(path.name for path in summaries)}), make tensorboard")
    print(f"Use it: python scripts/label_image.py --graph {escape(config.output_graph)} CLIP")


def report(trained: Trained, config: RetrainConfig) -> None:
    print()
    test = trained.test
    if test is None:
        reason = (
            "no label has enough chunks for a test set" if config.testing_percentage else "--testing_percentage is 0"
        )
        print(f"No test: {reason}.")
    else:
        unseen = "none of them seen in training" if not trained.data.split.seen_in_training else "see the note below"
        print(
            f"Test on {pluralise(test.network.chunks.total, 'chunk')} of "
            f"{pluralise(test.network.recordings.total, 'recording')}, {unseen}:"
        )
        for name, result in (("network", test.network), ("MFCC statistics", test.baseline)):
            if result is not None:
                print(f"  {name:<16} per chunk     {result.chunks}")
                print(f"  {'':<16} per recording {result.recordings}")
        if test.baseline is None:
            print("  MFCC statistics  not measured: needs mel spectrograms rendered by data_maker.py")
    tested = {image.label for image in trained.data.split.sets["testing"]}
    if test is not None and (untested := len(trained.data.labels) - len(tested)):
        print(f"Note: {pluralise(untested, 'label')} of {len(trained.data.labels)} had too few chunks for a test set.")
    if seen := trained.data.split.seen_in_training:
        names = ", ".join(map(escape, seen[:5])) + (", ..." if len(seen) > 5 else "")
        print(
            f"Note: of {pluralise(len(seen), 'label')} with fewer than three recordings ({names}) the test chunks "
            "come from other segments of recordings that were also used in training. Expect a lower accuracy on new "
            "recordings; record more to measure it."
        )
    print(format_open_set(trained.open_set))
    if trained.open_set.threshold is not None and trained.trained_on_left_out:
        print("Note: that is too optimistic, as the network itself was trained on these labels: run evaluate.py.")
    if "unknown" in trained.data.labels:
        print(f"Note: a label is named unknown, like the answer for no label; name examples of no label {UNKNOWN}.")
    if config.print_misclassified_test_images and test is not None:
        print(f"Misclassified test images: {len(test.misclassified)}")
        for image, given in test.misclassified:
            print(f"  {escape(image.path)} predicted as {escape(given)}")


def format_open_set(found: OpenSet) -> str:
    """Describe how label_image.py will answer for speakers that are none of the labels."""
    never = "Unknown voices: label_image.py will never answer unknown"
    if not found.rate:
        return f"{never}, because --unknown_fpr is 0."
    if found.trials is None:
        return f"{never}: with two labels, that needs clips of other speakers in a folder named {UNKNOWN}."
    trials = len(found.trials.unknown)
    if found.threshold is None:
        needed = segments_needed(found.trials, found.rate)
        return (
            f"{never}: a false acceptance rate of {100 * found.rate:g} % needs {needed} clips of held-out labels, not "
            f"{trials}. Record more, or raise --unknown_fpr."
        )
    accepted = int((found.trials.unknown >= found.threshold).sum())
    refused = int((found.known < found.threshold).sum())
    area = "" if found.area is None else f" (area under the curve {found.area:.3f})"
    return (
        f"Unknown voices: {accepted} of {pluralise(trials, 'clip')} of labels left out in turn would pass for a known "
        f"one; {refused} of {pluralise(len(found.known), 'known clip')} in validation would be refused{area}."
    )
