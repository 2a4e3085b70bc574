"""Find the voices in recordings without labels: who speaks when, and the same voice under one name in all of them.

Writes a folder of turns and a contact sheet for each voice, and labels.csv, which data_maker.py --labels reads.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
from collections.abc import Sequence
from pathlib import Path

from audionet.cli.console import Parser, if_interrupted
from audionet.discovery.clustering import ClusterConfig
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.discover import Discovered, find_voices
from audionet.discovery.review import ReviewServer
from audionet.discovery.turns import LABELS_CSV, VOICES, suggest
from audionet.discovery.voice_folders import check_output, write_voices
from audionet.inference.timeline_files import format_time
from audionet.utils.files import exclusive_lock
from audionet.utils.settings import add_flags, flag_group, from_flags, path_flag
from audionet.utils.text import escape, pluralise


def make_parser() -> Parser:
    parser = Parser(__doc__, "talks", "--review")
    parser.add_argument("folder", nargs="?", type=path_flag, metavar="FOLDER", help="a folder of recordings")
    flag_group(parser, "review").add_argument(
        "--review", action="store_true", help="name the voices in --out, in the browser"
    )
    flag_group(parser, "review").add_argument(
        "--port", metavar="N", type=int, default=8001, help="port of the review, on this machine alone; 0: any"
    )
    add_flags(parser, ClusterConfig)
    add_flags(parser, DiscoverConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = make_parser()
    flags = parser.parse_args(argv)
    if (flags.folder is None) != flags.review:
        parser.error("name a folder of recordings, or --review the voices that were found")
    if not 0 <= flags.port < 65536:
        parser.error("argument --port: 0 to 65535")
    return flags


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config, clustering = from_flags(DiscoverConfig, flags), from_flags(ClusterConfig, flags)
    if flags.review:
        review(config.out, flags.port)
        return
    check_output(flags.folder, config.out)
    with if_interrupted(f"nothing was written to {config.out}: run it again, it starts from the beginning"):
        found = find_voices(flags.folder, config, clustering)
        write_voices(found, config.out, config.workers)
    print_voices(found)
    if len(found.names) < clustering.least:
        print(f"  No more could be distinguished; {clustering.least} were asked for.")
    for turn in suggest(found.turns, config.suggest):
        place = f"{format_time(turn.start, 1)} – {format_time(turn.end, 1)}"
        print(f"Label first: {escape(turn.file)} {place}, taken for {escape(found.names[turn.voice])}")
    print(f"Voices: {escape(config.out / VOICES)}, a folder of turns and a contact sheet each")
    table = config.out / LABELS_CSV
    print(f"Name them: audionet discover --review --out {_quoted(config.out)}")
    print(f"Then: audionet data --audio_dir {_quoted(flags.folder)} --labels {_quoted(table)}")


def _quoted(path: Path) -> str:
    return shlex.quote(escape(path))


def review(out: Path, port: int) -> None:
    """Serve the page on which voices are named, until interrupted."""
    with ReviewServer(out, port) as server, exclusive_lock(out):
        print(f"Open {server.url} and name the voices; Ctrl-C ends the review.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            server.serve_forever()


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
