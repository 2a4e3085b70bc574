"""Compare models on the same recordings: paired, by the reports that evaluate.py writes.

The first is compared with each of the others. Without reports, the trainings in a folder are listed.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from audionet.cli.console import Parser
from audionet.errors import UsageError
from audionet.evaluation.comparison import compare, comparison_text, read_report, write_answers
from audionet.evaluation.config import CompareConfig
from audionet.evaluation.trainings import find_trainings, trainings_html, trainings_table, write_trainings
from audionet.utils.extras import require_modules
from audionet.utils.files import atomic_path, make_writable_folder
from audionet.utils.settings import add_flags, from_flags, path_flag
from audionet.utils.text import escape, format_table


def make_parser() -> Parser:
    parser = Parser(__doc__, "report/one report/two", "--to trainings.html")
    parser.add_argument("reports", nargs="*", type=path_flag, metavar="REPORT", help="report.json, or its folder")
    add_flags(parser, CompareConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    config = from_flags(CompareConfig, flags)
    if len(flags.reports) == 1:
        raise UsageError("one report has nothing to be compared with: name two or more, or none to list trainings")
    if config.to is not None:
        make_writable_folder(config.to.parent)
    if flags.reports:
        compare_reports(flags.reports, config)
    else:
        list_trainings(config)


def compare_reports(paths: Sequence[Path], config: CompareConfig) -> None:
    """Print the comparison of the first report with each of the others, and write the answers."""
    require_modules("scipy")
    reports = [read_report(path) for path in paths]
    print("\n\n".join(comparison_text(compare(reports[0], other), config.worst) for other in reports[1:]))
    if config.to is not None:
        with atomic_path(config.to) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            write_answers(stream, reports)
        print(f"Answers: {escape(config.to)}")


def list_trainings(config: CompareConfig) -> None:
    """Print the trainings in a folder, with the settings that differ, and write them."""
    found = find_trainings(config.models_dir)
    header, rows = trainings_table(found)
    print(format_table(header, rows))
    if config.to is not None:
        with atomic_path(config.to) as temporary, temporary.open("w", encoding="utf-8", newline="") as stream:
            if config.to.suffix.lower() == ".html":
                stream.write(trainings_html(header, rows, config.models_dir))
            else:
                write_trainings(stream, header, rows)
        print(f"Table: {escape(config.to)}")
