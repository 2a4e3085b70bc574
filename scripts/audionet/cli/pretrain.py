"""Pretrain a backbone on public recordings: Inception-v3 on spectrograms.

Reads the datasets that a manifest names, and writes weights, their description, a model card and the backbone's voice
space to a folder for retrain.py --architecture. An interrupted training resumes from its last checkpoint.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audionet.cli.console import Parser, command_line
from audionet.pretraining.card import add_voice_space, write_backbone
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.manifest import find_utterances, read_manifest
from audionet.pretraining.trainer import pretrain
from audionet.pretraining.voice_space import holds_voices_and_sounds, learn_voice_space, load_finished
from audionet.utils.extras import require_modules
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape


def make_parser() -> Parser:
    parser = Parser(__doc__, "--data_dir recordings --hours 8", "--voice_space inception_v3_speech")
    add_flags(parser, PretrainConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    config = from_flags(PretrainConfig, parse_args(argv))
    if config.voice_space is not None:
        add_voices(config.voice_space, config)
        return
    require_modules("tensorflow", "scipy", "audiomentations")
    found = pretrain(config)
    folder = write_backbone(found, config)
    print(f"Backbone: {escape(folder)}/ (after {found.hours:.2f} hours of training)")
    if holds_voices_and_sounds(find_utterances(read_manifest(config.manifest), config.data_dir)):
        add_voices(str(folder), config)
    else:
        print("No voice space: the manifest's datasets of speakers and of other sounds would bring it")
    print(f"Probe it: {command_line('probe', '--backbone', folder)} --data_dir RECORDINGS")
    print(f"Use it:   {command_line('train', '--architecture', folder)}")


def add_voices(architecture: str, config: PretrainConfig) -> None:
    """Learn the voice space of a finished backbone, and store it beside the backbone."""
    require_modules("scipy", "sklearn")
    folder, backbone = load_finished(architecture)
    corpus = find_utterances(read_manifest(config.manifest), config.data_dir)
    space, scores = learn_voice_space(corpus, backbone, config.workers)
    add_voice_space(folder, space, scores, corpus)
    print(f"Voice space: {escape(folder)}/ (equal error rate {scores.equal_error_rate:.1%} on held-out recordings)")
