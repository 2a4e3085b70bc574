"""Turn recordings into WAV chunks and JPG spectrograms, one folder per label.

Put MP3, WAV, FLAC or OGG files into tf_files/data_audio/<label>/ and run it; run it again after adding or
deleting recordings, and it renders only the new and changed ones.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence

from audionet.audio.config import SpectrogramConfig
from audionet.augment.config import AugmentConfig
from audionet.cli.console import Parser
from audionet.data.config import DataConfig
from audionet.data.contact_sheet import write_gallery
from audionet.data.dataset import find_images
from audionet.data.render import Result, render_folder
from audionet.errors import DatasetError
from audionet.utils.extras import require_modules
from audionet.utils.settings import add_flags, from_flags
from audionet.utils.text import escape, format_table, pluralise

log = logging.getLogger(__name__)


def make_parser() -> Parser:
    parser = Parser(
        __doc__, "--audio_dir interviews --chunk_seconds 2", "--audio_dir field --labels labels.csv --gallery"
    )
    add_flags(parser, DataConfig)
    add_flags(parser, SpectrogramConfig)
    add_flags(parser, AugmentConfig)
    return parser


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    return make_parser().parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    flags = parse_args(argv)
    data, spectrogram = from_flags(DataConfig, flags), from_flags(SpectrogramConfig, flags)
    augment = from_flags(AugmentConfig, flags)
    if augment.wanted:
        require_modules("audiomentations", "scipy")
    if data.gallery:
        require_modules("matplotlib")  # brings the font
    executor = data.scheduler or f"{data.workers} workers"
    source = f"of {data.dataset}" if data.dataset else f"in {data.audio_dir}"
    log.info("Recordings %s, %g s a chunk, %s", escape(source), spectrogram.chunk_seconds, escape(executor))
    result = render_folder(data, spectrogram, augment)
    report(result, data)
    if not any(summary.chunks for summary in result.labels.values()):
        raise DatasetError("no recording could be used: see the reasons above")
    if data.gallery:
        sheets = write_gallery(find_images(data.image_dir, least_labels=1), data.gallery_dir, spectrogram)
        print(f"Gallery: {escape(data.gallery_dir)} ({pluralise(len(sheets), 'sheet')})")


def report(result: Result, data: DataConfig) -> None:
    rows = [
        [label, str(s.recordings), str(s.chunks), f"{s.seconds / 60:.1f}", str(len(s.skipped)), str(s.variants)]
        for label, s in result.labels.items()
    ]
    header = ["label", "recordings", "chunks", "minutes", "skipped", "copies"]
    columns = len(header) if any(s.variants for s in result.labels.values()) else len(header) - 1
    print(format_table(header[:columns], [row[:columns] for row in rows]))
    for label, summary in result.labels.items():
        if not summary.recordings and not summary.skipped:
            print(f"Note: {escape(label)} holds no recordings, and will not be a label")
        for item in summary.skipped:
            place = f"{label}/{item['file']}" if item["file"] else label
            print(f"skipped {escape(place)}: {item['reason']}")
        for item in summary.remarks:
            print(f"kept {escape(label)}/{escape(item['file'])}: {item['reason']}")
    if result.rendered or result.removed or result.varied:
        print(f"Rendered {pluralise(result.rendered, 'recording')}, {result.unchanged} were up to date.", end=" ")
        if result.varied:
            made = "augmented copy" if result.varied == 1 else "augmented copies"
            print(f"Made {result.varied} {made}.", end=" ")
        print(f"Removed {pluralise(result.removed, 'file')} of deleted recordings or old settings.")
    else:
        print("Nothing to do: every recording is rendered with these settings.")
    print(f"Chunks: {escape(data.wav_dir)}\nImages: {escape(data.image_dir)}")
