"""Train a new top layer on a pretrained network, for the labels that the folders of images are named after.

Reads what data_maker.py made, keeps bottlenecks and converted networks for the next run, and writes the model
that label_image.py loads.
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
    looked_at = summarise(trained)
    written = dict.fromkeys((config.output_graph, lite_path(config.output_graph), config.output_model))
    print("Model:  " + "\n        ".join(map(escape, written)))
    print(f"Labels: {escape(config.output_labels)}")
    print(f"Look:   {escape(looked_at[0].parent)}/ ({', '.join(path.name for path in looked_at)}), make tensorboard")
    print(f"Ask it: python scripts/label_image.py --graph {escape(config.output_graph)} CLIP")


def report(trained: Trained, config: RetrainConfig) -> None:
    print()
    test = trained.test
    if test is None:
        nothing = "no label has enough chunks to keep some aside" if config.testing_percentage else "none was asked for"
        print(f"No test: {nothing}.")
    else:
        unseen = "none of them heard in training" if not trained.data.split.seen_in_training else "see the note below"
        print(
            f"Test on {pluralise(test.network.chunks.total, 'chunk')} of "
            f"{pluralise(test.network.recordings.total, 'recording')}, {unseen}:"
        )
        for name, result in (("network", test.network), ("MFCC statistics", test.baseline)):
            if result is not None:
                print(f"  {name:<16} per chunk     {result.chunks}")
                print(f"  {'':<16} per recording {result.recordings}")
        if test.baseline is None:
            print("  MFCC statistics  not measured: it takes mel spectrograms made by data_maker.py")
    tested = {image.label for image in trained.data.split.sets["testing"]}
    if test is not None and (untested := len(trained.data.labels) - len(tested)):
        print(
            f"Note: {pluralise(untested, 'label')} of {len(trained.data.labels)} had too few chunks to be in this test."
        )
    if heard := trained.data.split.seen_in_training:
        names = ", ".join(map(escape, heard[:5])) + (", ..." if len(heard) > 5 else "")
        print(
            f"Note: of {pluralise(len(heard), 'label')} with fewer than three recordings ({names}) the test chunks "
            "come from recordings also heard in training, from another stretch of time. Expect less on new recordings; "
            "record more to know."
        )
    print(unknown_voices(trained.open_set))
    if trained.open_set.threshold is not None and trained.trained_on_left_out:
        print("Note: that is too favourable, as the network itself was trained on them: test it with evaluate.py.")
    if "unknown" in trained.data.labels:
        print(f"Note: a label is called unknown, which is also the answer for no label; for that, name it {UNKNOWN}.")
    if config.print_misclassified_test_images and test is not None:
        print(f"Misclassified test images: {len(test.misclassified)}")
        for image, given in test.misclassified:
            print(f"  {escape(image.path)} taken for {escape(given)}")


def unknown_voices(found: OpenSet) -> str:
    """What label_image.py will do with a voice that is none of the labels."""
    never = "Unknown voices: label_image.py will take every voice for one of the labels"
    if not found.rate:
        return f"{never}, as --unknown_fpr 0 asks."
    if found.trials is None:
        return f"{never}: with two labels, it takes examples of others in a folder named {UNKNOWN}."
    played = len(found.trials.unknown)
    if found.threshold is None:
        needed = segments_needed(found.trials, found.rate)
        return (
            f"{never}: to let {100 * found.rate:g} % of unknown ones pass takes {needed} clips of voices left out, and "
            f"there are {played}. Record more, or allow more with --unknown_fpr."
        )
    passed = int((found.trials.unknown >= found.threshold).sum())
    refused = int((found.known < found.threshold).sum())
    area = "" if found.area is None else f" (area under the curve {found.area:.3f})"
    return (
        f"Unknown voices: {passed} of {pluralise(played, 'clip')} of labels left out in turn would pass for a known "
        f"one; {refused} of {pluralise(len(found.known), 'known clip')} in validation would be refused{area}."
    )
