"""Find the voices in recordings without labels: who speaks when, and the same voice under one name in all of them.

Writes a folder of turns and a contact sheet for each voice, and labels.csv, which data_maker.py --labels reads.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audionet.cli.console import Parser
from audionet.discovery.clustering import ClusterConfig
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.discover import LABELS_CSV, VOICES, Discovered, discover, write_discovered
from audionet.discovery.turns import suggest
from audionet.errors import UsageError
from audionet.inference.timeline_files import format_time
from audionet.utils.files import make_writable_folder
from audionet.utils.settings import add_flags, from_flags, path_flag
from audionet.utils.text import escape, pluralise


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = Parser(__doc__.partition("\n")[0])
    parser.add_argument("folder", type=path_flag, metavar="FOLDER", help="a folder of recordings")
    add_flags(parser, ClusterConfig)
    add_flags(parser, DiscoverConfig)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config, clustering = from_flags(DiscoverConfig, flags), from_flags(ClusterConfig, flags)
    if (config.out / LABELS_CSV).exists():
        raise UsageError(
            f"{escape(config.out)} holds the labels of an earlier run: delete it, or name another folder with --out"
        )
    make_writable_folder(config.out)
    found = write_discovered(discover(flags.folder, config, clustering), config)
    print_voices(found)
    for turn in suggest(found.turns, config.suggest):
        place = f"{format_time(turn.start, 1)} – {format_time(turn.end, 1)}"
        print(f"Label first: {escape(turn.file)} {place}, taken for {escape(found.names[turn.voice])}")
    print(f"Voices: {escape(config.out / VOICES)}, a folder of turns and a contact sheet each")
    print(f"Labels: {escape(config.out / LABELS_CSV)}: put names in its label column, then")
    print(f"  audionet data --audio_dir {escape(flags.folder)} --labels {escape(config.out / LABELS_CSV)}")


def print_voices(found: Discovered) -> None:
    """Print each voice with its total time, the longest first."""
    files = {turn.file for turn in found.turns}
    print(f"{pluralise(len(found.names), 'voice')} in {pluralise(len(files), 'recording')}:")
    rows = []
    for voice, name in enumerate(found.names):
        turns = [turn for turn in found.turns if turn.voice == voice]
        rows.append((sum(turn.seconds for turn in turns), name, len(turns), len({turn.file for turn in turns})))
    for seconds, name, turns_of_voice, recordings in sorted(rows, reverse=True):
        print(
            f"  {escape(name):<16} {format_time(seconds):>8} in {pluralise(turns_of_voice, 'turn')}, "
            f"{pluralise(recordings, 'recording')}"
        )
