"""Fetch a public dataset by its name, and label its recordings for audionet data; without a name, list all.

Licence and size are said first. A download that was interrupted goes on where it stopped; its size and hash are
checked, and the dataset appears when it is complete.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

from audionet._paths import PROJECT_VARIABLE
from audionet.cli.console import Parser, command_line, if_interrupted
from audionet.data.fetch import FetchConfig, FetchedDataset, fetch, find_table
from audionet.data.named_datasets import DATASETS
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape, pluralise


def make_parser() -> Parser:
    parser = Parser(__doc__, "", "fsdd --by digit", "voxceleb1 --from voxceleb1")
    parser.add_argument("name", nargs="?", metavar="NAME", help=f"one of {', '.join(DATASETS)}")
    add_flags(parser, FetchConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config = from_flags(FetchConfig, flags)
    if flags.name is None:
        print_list()
        return
    with if_interrupted("run it again to go on: what has been downloaded is kept"):
        found = fetch(flags.name, config)
    report(found, config)


def print_list() -> None:
    """Print the name, size, labels and licence of each dataset."""
    for name, dataset in DATASETS.items():
        size = "with --from" if dataset.archive is None else dataset.archive.size_text
        print(f"{name:<21} {size:<14}  {dataset.title}")
        print(f"{'':<37} labels: {', '.join(dataset.tables)}; licence: {dataset.licence}")
    print(f"\nFetch one: {command_line('dataset', 'NAME')}")


def report(found: FetchedDataset, config: FetchConfig) -> None:
    """Print where a dataset is, and the commands that go on with it."""
    by, table = find_table(found.name, config.by)
    done = "is there already, complete: nothing to do" if found.was_there else "is ready"
    if found.was_there and (config.source or config.url):
        print(f"To take it from elsewhere, remove {escape(_nearby(found.labels.parent))} first.")
    print(f"{found.name} {done}: {pluralise(found.recordings, 'recording')} in {escape(_nearby(found.folder))}")
    print(f"Labels by {by} ({table.about}): {escape(_nearby(found.labels))}")
    # Without a project of its own, its images would replace those of the user's recordings.
    project = () if os.environ.get(PROJECT_VARIABLE) else ("--project", f"{found.name}_{by}")
    folders = ("--audio_dir", _nearby(found.folder), "--labels", _nearby(found.labels))
    print(f"Next: {command_line('data', *project, *folders)}")
    print(f"Then: {command_line('train', *project)}")
    if table.official:
        kind = "in the official folds" if "folds" in table.about else "with the official split"
        print(f"Or {kind}: {command_line('train', *project, *table.official)}")


def _nearby(path: Path) -> Path:
    """Return a path from the current folder, if it is below it."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
