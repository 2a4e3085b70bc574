"""Export: write a trained model to a folder that is ready to be uploaded to the Hugging Face hub.

It holds the model's files, its weights as safetensors, and a model card with the metrics that the model's files have.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from audionet.cli.console import Parser
from audionet.export.config import ExportConfig
from audionet.export.hub_folder import CARD_NAME, export_folder
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape, format_table


def make_parser() -> Parser:
    parser = Parser(__doc__, "--license cc-by-4.0 --to my_model")
    add_flags(parser, ExportConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    config = from_flags(ExportConfig, parse_args(argv))
    folder = export_folder(config)
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    print(format_table(["file", "kB"], [[path.name, f"{path.stat().st_size / 1e3:.1f}"] for path in files]))
    if config.license is None:
        print(f"No licence is stated: add one with --license, or in {CARD_NAME}.")
    print("Where labels are people, the files describe their voices: publish them with their consent only.")
    print(f"Read {escape(folder / CARD_NAME)}, then: hf upload OWNER/NAME {escape(config.to)}")
