from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.samples import to_int16
from audionet.audio.spectrogram import level
from audionet.data.contact_sheet import caption, contact_sheet, select, ticks, write_gallery
from audionet.data.dataset import ChunkImage, find_images
from tests.support.sounds import tone

CONFIG = SpectrogramConfig()


@pytest.mark.parametrize("representation", ["mel", "linear"])
@pytest.mark.parametrize("frequency", [500, 1000, 5000])
def test_a_tick_is_at_its_frequencys_row(representation, frequency: int) -> None:
    config = SpectrogramConfig(representation=representation)
    rows = level(to_int16(tone(frequency, 3).astype(np.float32)), config).mean(axis=1)
    text = f"{frequency} Hz" if frequency < 1000 else f"{frequency // 1000} kHz"
    (height,) = [tick.height for tick in ticks(config) if tick.text == text]
    assert height * (config.rows - 1) == pytest.approx(rows.argmax(), abs=1.5)


def test_pitch_class_ticks_are_in_the_middle_of_their_rows() -> None:
    marks = {tick.text: tick.height for tick in ticks(SpectrogramConfig(representation="chroma"))}
    assert marks["C"] == pytest.approx(0.5 / 12)
    assert marks["A"] == pytest.approx(9.5 / 12)


def test_a_sheet_shows_images_from_first_to_last() -> None:
    images = [ChunkImage("ann", "x.wav", index, Path("x"), "y") for index in range(1000)]
    found = [image.index for image in select(images, CONFIG)]
    assert (found[0], found[-1], len(found)) == (0, 999, 24)
    assert len({b - a for a, b in pairwise(found)}) <= 2
    assert select(images[:3], CONFIG) == images[:3]


def test_a_caption_names_time_copy_and_recording() -> None:
    assert caption(ChunkImage("ann", "talk.mp3", 21, Path("x"), "y", 2), CONFIG) == "1:03.0 aug2 talk.mp3"


def test_images_are_unscaled_on_the_sheet() -> None:
    image = Image.new("RGB", (CONFIG.frames, CONFIG.rows), (10, 200, 30))
    sheet = contact_sheet("a title far too long " * 40, [("caption", image)] * 7, CONFIG)
    green = (np.asarray(sheet) == (10, 200, 30)).all(axis=2).sum()
    assert green == 7 * CONFIG.frames * CONFIG.rows


def test_a_sheet_for_each_label(image_folder, tmp_path: Path) -> None:
    folder = image_folder(labels=("анна", 'it\'s "x"', "two\tparts"))
    images = find_images(folder)
    images[0].path.write_bytes(b"no image")
    sheets = write_gallery(images, tmp_path / "gallery", SpectrogramConfig(chunk_seconds=0.5))
    assert sorted(path.name for path in sheets) == ['it\'s "x".jpg', "two%09parts.jpg", "анна.jpg"]
    for path in sheets:
        with Image.open(path, formats=["JPEG"]) as sheet:
            assert sheet.width > 500
    assert sorted(path.name for path in (tmp_path / "gallery").iterdir()) == sorted(path.name for path in sheets)
