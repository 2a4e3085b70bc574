"""Contact sheets: a label's images on one page, for a quick visual check."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import decode
from audionet.audio.spectrogram import hz_to_mel
from audionet.data.dataset import ChunkImage, recordings_in
from audionet.data.naming import recording_name
from audionet.errors import DatasetError
from audionet.utils.arrays import evenly
from audionet.utils.files import atomic_path, make_folder
from audionet.utils.text import escape

log = logging.getLogger(__name__)

_WIDTH = 1500  # pixels, about
_ROWS = 6
_MARGIN = 48
_LINE = 18
_GAP = 10
_TICKS_HZ = (50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000)
_MIN_TICK_DISTANCE = 14


class Tick(NamedTuple):
    """Tick on an image's left edge: its height, 0 at the bottom to 1 at the top, and its text."""

    height: float
    text: str


def write_gallery(images: Sequence[ChunkImage], gallery_dir: Path, config: SpectrogramConfig) -> list[Path]:
    """Write a contact sheet for each label; return the files."""
    make_folder(gallery_dir)
    written = []
    for label, group in groupby(images, key=lambda image: image.label):
        label_images = list(group)
        cells = []
        for image in select(label_images, config):
            try:
                cells.append((caption(image, config), decode(image.path.read_bytes())))
            except (OSError, DatasetError) as error:
                log.warning(f"{image.path}: {error}")
        title = f"{escape(label)}: {len(cells)} of {len(label_images)} images, {recordings_in(label_images)} recordings"
        path = gallery_dir / f"{recording_name(label)}.jpg"
        write_contact_sheet(path, title, cells, config)
        written.append(path)
    return written


def write_contact_sheet(
    path: Path, title: str, cells: Sequence[tuple[str, Image.Image]], config: SpectrogramConfig
) -> None:
    """Write a contact sheet as a JPG file, see `contact_sheet`."""
    with atomic_path(path) as temporary:
        contact_sheet(title, cells, config).save(temporary, "JPEG", quality=92)


def select(images: Sequence[ChunkImage], config: SpectrogramConfig) -> list[ChunkImage]:
    """Select as many images as fit on a page, evenly spaced from the first to the last."""
    return [images[i] for i in evenly(len(images), _columns(config) * _ROWS)]


def caption(image: ChunkImage, config: SpectrogramConfig) -> str:
    """Format an image's time, augmented copy and recording."""
    minutes, seconds = divmod(round(image.index * config.step_length / config.sample_rate, 1), 60)
    copy = f" aug{image.copy}" if image.copy else ""
    return f"{minutes:.0f}:{seconds:04.1f}{copy} {escape(image.recording)}"


def ticks(config: SpectrogramConfig) -> list[Tick]:
    """Compute the ticks at an image's left edge: frequencies, or pitch classes."""
    if config.representation == "chroma":
        return [Tick((row + 0.5) / 12, name) for name, row in zip("CDEFGAB", (0, 2, 4, 5, 7, 9, 11), strict=True)]
    low, high = config.min_frequency, config.top_frequency
    frequencies = np.array([hz for hz in _TICKS_HZ if low <= hz <= high], float)
    scale = hz_to_mel if config.representation == "mel" else np.asarray
    bottom, top = scale(np.array([low, high]))
    texts = [f"{hz:g} Hz" if hz < 1000 else f"{hz / 1000:g} kHz" for hz in frequencies]
    return [
        Tick(float(height), text)
        for height, text in zip((scale(frequencies) - bottom) / (top - bottom), texts, strict=True)
    ]


def contact_sheet(title: str, cells: Sequence[tuple[str, Image.Image]], config: SpectrogramConfig) -> Image.Image:
    """Draw a page of images of one size, each with its caption below it.

    Parameters
    ----------
    title : str
    cells : sequence of (str, Image)
        Captions and images.
    config : SpectrogramConfig
        Determines the size of the images and their ticks.
    """
    columns, (width, height) = _columns(config), _cell(config)
    rows = max(1, -(-len(cells) // columns))
    step_x, step_y = width + _GAP, height + _LINE + _GAP
    columns = min(columns, max(1, len(cells)))
    page = Image.new("RGB", (max(600, _MARGIN + columns * step_x + _GAP), 2 * _LINE + rows * step_y + _LINE), "white")
    draw = ImageDraw.Draw(page)
    large, small = _font(16), _font(11)
    draw.text((_MARGIN, 8), _truncate(title, large, page.width - _MARGIN - _GAP), "black", large)
    for i, (text, image) in enumerate(cells):
        row, column = divmod(i, columns)
        x, y = _MARGIN + column * step_x, 2 * _LINE + row * step_y
        page.paste(image.resize((width, height)), (x, y))
        draw.text((x, y + height + 2), _truncate(text, small, width), "black", small)
        if column == 0:
            lowest_text = page.height
            for tick in ticks(config):
                middle = y + round((1 - tick.height) * (height - 1))
                draw.line((x - 4, middle, x - 1, middle), "black")
                if lowest_text - middle >= _MIN_TICK_DISTANCE:
                    draw.text((x - 6, middle), tick.text, "black", small, anchor="rm")
                    lowest_text = middle
    legend = f"each {config.chunk_seconds:g} s wide, {config.dynamic_range_db:g} dB from dark to bright"
    draw.text((_MARGIN, page.height - _LINE - 2), legend, "black", small)
    return page


def _cell(config: SpectrogramConfig) -> tuple[int, int]:
    """Return the width and height of an image on the page: unchanged, unless they are too large or too small."""
    return min(_WIDTH, max(64, config.frames)), min(384, max(96, config.rows))


def _columns(config: SpectrogramConfig) -> int:
    return max(1, _WIDTH // (_cell(config)[0] + _GAP))


def _font(size: int) -> ImageFont.FreeTypeFont:
    # Pillow's own font has Latin letters only; matplotlib brings one with Greek, Cyrillic and more.
    from matplotlib import get_data_path

    return ImageFont.truetype(str(Path(get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), size)


def _truncate(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Truncate a text to a width in pixels."""
    while text and font.getlength(text) > width:
        text = text[:-2] + "…" if len(text) > 2 else ""
    return text
