"""A clip's images on one axis of time."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import VIRIDIS, level_of
from audionet.serving.clip_image import ClipImage

CONFIG = SpectrogramConfig(chunk_seconds=1.0)


def flat(level: int) -> Image.Image:
    return Image.fromarray(np.tile(VIRIDIS[level], (CONFIG.rows, CONFIG.frames, 1)))


def drawn(strip: ClipImage) -> Image.Image:
    return Image.open(io.BytesIO(strip.jpg()), formats=["JPEG"])


def level_at(image: Image.Image, share: float) -> float:
    return float(level_of(image)[64, min(image.width - 1, int(share * image.width))])


def test_each_chunk_stands_where_it_belongs_in_time() -> None:
    strip = ClipImage(CONFIG, 2000)
    for start, level in ((0.0, 0), (1.0, 255), (3.0, 128)):
        strip.paste(start, flat(level))
    image = drawn(strip)
    assert strip.seconds == 4.0
    assert image.size == (4 * CONFIG.frames, CONFIG.rows)
    found = [level_at(image, (second + 0.5) / 4) for second in range(4)]
    assert found == pytest.approx([0, 1, 0, 0.5], abs=0.03)


def test_silence_is_dark() -> None:
    strip = ClipImage(CONFIG, 2000)
    strip.paste(0.0, None)
    assert level_at(drawn(strip), 0.5) == pytest.approx(0, abs=0.02)


def test_of_chunks_that_overlap_the_later_one_is_seen() -> None:
    strip = ClipImage(CONFIG, 2000)
    strip.paste(0.0, flat(0))
    strip.paste(0.5, flat(255))
    image = drawn(strip)
    assert level_at(image, 0.2) < 0.1
    assert level_at(image, 0.5) > 0.9


@given(chunks=st.integers(1, 400), most=st.integers(50, 400))
@example(chunks=80, most=50)
@settings(max_examples=20, deadline=None)
def test_a_long_clip_is_drawn_narrower_and_stays_in_place(chunks: int, most: int) -> None:
    strip = ClipImage(CONFIG, most)
    for number in range(chunks):
        strip.paste(float(number), flat(0 if number < chunks / 2 else 255))
    image = drawn(strip)
    assert image.width <= most
    assert image.height == CONFIG.rows
    assert level_at(image, 0.2) < 0.1 or chunks == 1
    assert level_at(image, 0.8) > 0.9 or chunks == 1


def test_memory_does_not_grow_with_the_clip() -> None:
    strip = ClipImage(CONFIG, 100)
    before = strip._canvas.nbytes
    for number in range(3600):
        strip.paste(float(number), None)
    assert strip._canvas.nbytes == before
    assert strip.seconds == 3600
