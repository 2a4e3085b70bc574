"""Linear probes of a backbone's frozen features on real recordings, compared with baselines without a network.

--data_dir holds the Free Spoken Digit Dataset (fsdd/recordings), utterances of LibriSpeech (libri251), wake words
(wakewords), accented speakers (speechocean), environmental sounds (esc10), or one folder of recordings for each label.
Speakers are also verified, over pairs of recordings. All probes are trained on clean recordings and tested on
clean ones, with noise, over a telephone line and at a different speed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audionet.augment.distortion import CLEAN, TITLES
from audionet.cli.console import Parser
from audionet.errors import UsageError
from audionet.metrics.accuracy import Accuracy
from audionet.probing.config import ProbeConfig
from audionet.probing.probe import images_a_second, prepare_probing, probe, verify_speakers
from audionet.probing.results import (
    ProbeRun,
    TaskResult,
    format_error_rate,
    format_few_shot,
    insert_into_card,
    probe_json,
    to_markdown,
)
from audionet.probing.verification import VerificationResult
from audionet.utils.extras import require_modules
from audionet.utils.files import make_writable_folder, write_json
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape, format_table, pluralise


def make_parser() -> Parser:
    parser = Parser(__doc__, "--data_dir recordings --backbone inception_v3_speech --backbone random")
    add_flags(parser, ProbeConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    config = from_flags(ProbeConfig, parse_args(argv))
    require_modules("sklearn", "scipy")
    if config.report is not None:
        make_writable_folder(config.report.parent)
    if config.card is not None and not config.card.is_file():
        raise UsageError(f"--card is {escape(config.card)}, which is not a file: name a backbone's README.md")
    probing = prepare_probing(config)
    for note in probing.notes:
        print(note, flush=True)
    speeds = [images_a_second(backbone, probing.samples) for backbone in probing.backbones]
    results = []
    for result in probe(probing):
        print_result(result, config.seed)
        print(end="", flush=True)  # the next task takes minutes
        results.append(result)
    verified = []
    for found in verify_speakers(probing):
        print_verification(found)
        verified.append(found)
    print_backbones(probing, speeds)
    if config.report is not None:
        write_json(config.report, probe_json(probing, results, verified, speeds))
        print(f"Report: {escape(config.report)}")
    if config.card is not None:
        insert_into_card(config.card, to_markdown(probing, results, verified, speeds))
        print(f"Card: {escape(config.card)}")


def print_result(result: TaskResult, seed: int) -> None:
    """Print a task's tables: accuracy under each condition, and its difference to the baseline."""
    clean = result.recordings[CLEAN]
    tested = pluralise(len(clean), result.unit) + (f" of {len(set(clean))} recordings" if result.unit == "clip" else "")
    print(f"\n{result.title}: {len(result.labels)} labels, {tested} tested")
    probes = sum(row.seconds for row in result.rows)
    print(f"{result.split} (features {result.feature_seconds:.0f} s, probes {probes:.0f} s)")
    conditions = list(result.recordings)
    rows = [
        [row.features, str(row.width), *(format_accuracy(result.accuracy(row, name)) for name in conditions)]
        for row in result.rows
    ]
    print(format_table(["accuracy (95 % interval)", "width", *(TITLES[name] for name in conditions)], rows))
    if result.changed:
        means = [
            [row.features, f"{result.mean_share(row):.3f}", format_difference(result.difference(row, seed))]
            for row in result.rows
        ]
        print(
            format_table([f"mean of the {len(result.changed)} not clean", "right", "more than MFCC statistics"], means)
        )
    if result.few_shot:
        shots = [[row.features, format_few_shot(row)] for row in result.few_shot]
        print(format_table(["8 recordings a label, ten draws", "right, then the mean of the not clean"], shots))
    for row in result.rows:
        if row.unconverged or row.at_edge:
            print(
                f"{escape(row.features)}: of {pluralise(len(row.cs), 'fit')} {row.unconverged} did not converge, "
                f"{row.at_edge} ended with the lowest or highest regularisation that was tried"
            )


def print_verification(result: VerificationResult) -> None:
    """Print the error rates of a verification material."""
    print(
        f"\n{result.title}, verification: {result.split}, {result.targets:,} of one speaker and "
        f"{result.nontargets:,} of two, of {pluralise(result.speakers, 'speaker')}"
    )
    rows = [[row.features, row.comparison, format_error_rate(row), f"{row.min_dcf:.3f}"] for row in result.rows]
    print(format_table(["features", "compared by", "equal error rate (95 % interval)", "minDCF"], rows), flush=True)


def format_accuracy(found: Accuracy) -> str:
    return f"{found.share:.3f} ({found.low:.2f}-{found.high:.2f})"


def format_difference(difference: tuple[float, float, float]) -> str:
    value, low, high = difference
    return f"{value:+.3f} ({low:+.3f} to {high:+.3f})"


def print_backbones(probing: ProbeRun, speeds: Sequence[float]) -> None:
    """Print the size and speed of each backbone."""
    rows = [
        [
            backbone.name,
            "{} x {}".format(*backbone.input_size),
            str(backbone.width),
            backbone.arithmetic,
            f"{speed:.0f}",
            f"{backbone.path.stat().st_size / 1e6:.1f}",
        ]
        for backbone, speed in zip(probing.backbones, speeds, strict=True)
    ]
    print()
    print(format_table(["backbone", "input", "width", "arithmetic", "images/s, one thread", "MB"], rows))
