"""Embed recordings, or folders of them: a vector for each chunk or recording, in a file for other programs.

With a backbone alone, or in the space in which a trained model (--graph) compares its labels.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audionet.cli.console import Parser
from audionet.discovery.config import EmbedOutput
from audionet.discovery.embedding_files import embedding_map, write_embeddings
from audionet.inference.config import EmbedConfig
from audionet.inference.embeddings import embed_files, find_clips
from audionet.utils.extras import require_modules
from audionet.utils.files import make_writable_folder, write_bytes
from audionet.utils.settings import add_flags, from_flags, path_flag
from audionet.utils.text import escape, pluralise


def make_parser() -> Parser:
    parser = Parser(__doc__, "clips --to clips.csv", "--per recording --map map.png clips")
    parser.add_argument("clips", nargs="+", type=path_flag, metavar="CLIP", help="a recording or a folder")
    add_flags(parser, EmbedConfig)
    add_flags(parser, EmbedOutput)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config, output = from_flags(EmbedConfig, flags), from_flags(EmbedOutput, flags)
    if output.to.suffix.lower() == ".parquet":
        require_modules("pyarrow")
    if output.map is not None:
        require_modules("matplotlib", "sklearn")
    for path in (output.to, output.map):
        if path is not None:
            make_writable_folder(path.parent)
    found = embed_files(list(find_clips(flags.clips)), config, output.per)
    write_embeddings(output.to, found)
    recordings = pluralise(len(set(found.files)), "recording")
    rows, columns = found.vectors.shape
    print(f"{escape(output.to)}: {pluralise(rows, 'embedding')} of {columns} dimensions, {recordings}")
    if output.map is not None:
        write_bytes(output.map, embedding_map(found))
        print(f"Map: {escape(output.map)}")
