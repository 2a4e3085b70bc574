"""Search: rank the recordings of a folder by their likeness to a clip, the most similar first.

Of each, the likeness as a whole is shown, and the chunk that is most like the clip.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence

import numpy as np

from audionet.cli.console import Parser
from audionet.discovery.config import SearchConfig
from audionet.discovery.search import Match, rank
from audionet.errors import DatasetError
from audionet.inference.config import EmbedConfig
from audionet.inference.embeddings import ClipFile, embed_files, find_clips
from audionet.utils.settings import add_flags, from_flags, path_flag
from audionet.utils.text import escape, format_table, utf8_name

_CLIP = "\0clip"  # no file has this name


def make_parser() -> Parser:
    parser = Parser(__doc__, "clip.wav recordings")
    parser.add_argument("clip", type=path_flag, metavar="CLIP", help="a recording")
    parser.add_argument("folder", type=path_flag, metavar="FOLDER", help="the recordings to search")
    add_flags(parser, EmbedConfig)
    add_flags(parser, SearchConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config, search = from_flags(EmbedConfig, flags), from_flags(SearchConfig, flags)
    files = [ClipFile(flags.clip, _CLIP, ""), *find_clips([flags.folder])]
    found = embed_files(files, config, per="chunk")
    is_clip = np.array([file == _CLIP for file in found.files])
    if not is_clip.any():
        raise DatasetError(f"{escape(flags.clip)} cannot be used: see the reason above")
    if is_clip.all():
        raise DatasetError(f"no recording in {escape(flags.folder)} could be used: see the reasons above")
    matches = rank(found.vectors[is_clip].mean(axis=0), found.where(~is_clip))[: search.top_k or None]
    if search.json:
        for match in matches:
            print(json.dumps(match._asdict() | {"file": utf8_name(match.file)}))
    else:
        print(format_table(["recording", "likeness", "best at", "there"], [_row(match) for match in matches]))


def _row(match: Match) -> list[str]:
    return [match.file, f"{match.likeness:.3f}", f"{match.start:.1f} - {match.end:.1f} s", f"{match.best:.3f}"]
