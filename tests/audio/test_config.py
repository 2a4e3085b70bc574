from __future__ import annotations

import dataclasses
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from audionet.audio.config import LARGEST_IMAGE, LARGEST_SIDE, SpectrogramConfig
from audionet.errors import UsageError


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"chunk_seconds": 600.0, "hop_ms": 8.0}, r"hop_ms is 8.0: it must be 9\.19 or more: .* 74997 columns"),
        ({"chunk_seconds": 600.0, "hop_ms": 0.5}, r"hop_ms is 0.5: .* columns, and a JPG holds 65500"),
        ({"chunk_seconds": 600.0, "hop_ms": 2.0, "window_ms": 4.0}, r"chunk_seconds is 600.0: it must be less"),
        (
            {"sample_rate": 384_000, "window_ms": 1000.0, "representation": "linear", "max_frequency": 1e6},
            r"window_ms is 1000.0: it must be shorter, or max_frequency lower: an image would have 262\d+ rows",
        ),
        (
            {"sample_rate": 48_000, "chunk_seconds": 600.0, "window_ms": 100.0, "representation": "linear"}
            | {"max_frequency": 24_000.0},
            r"hop_ms is 10.0: it must be longer: an image would take 5\.\d GiB of memory, of at most 2",
        ),
        (
            {"sample_rate": 384_000, "chunk_seconds": 600.0, "n_mels": 512},
            r"chunk_seconds is 600.0: it must be less, or sample_rate lower: an image would take .* GiB",
        ),
        (
            {"sample_rate": 384_000, "window_ms": 1000.0, "n_mels": 512},
            r"window_ms is 1000.0: it must be shorter: an image would take 3\.5 GiB",
        ),
    ],
)
def test_images_too_large_for_a_jpg_or_for_memory_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        SpectrogramConfig(**settings)  # type: ignore[arg-type]
    if least := re.search(r"must be ([\d.]+) or more: an image", str(error.value)):
        config = SpectrogramConfig(**settings | {"hop_ms": float(least[1])})  # type: ignore[arg-type]
        assert config.frames > 0.99 * LARGEST_SIDE  # it asks for no more than it must


@given(
    rate=st.integers(1_000, 384_000),
    seconds=st.floats(0.1, 600),
    window=st.floats(2, 1000),
    hop=st.floats(0.5, 1000),
    kind=st.sampled_from(["mel", "linear", "chroma"]),
)
def test_every_image_that_is_accepted_fits_and_can_be_read_again(
    rate: int, seconds: float, window: float, hop: float, kind: str
) -> None:
    try:
        config = SpectrogramConfig(kind, rate, seconds, window_ms=window, hop_ms=hop)  # type: ignore[arg-type]
    except UsageError:
        assume(False)
    assert max(config.frames, config.rows) <= LARGEST_SIDE
    assert config.frames * config.rows <= LARGEST_IMAGE


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000])
@pytest.mark.parametrize("kind", ["mel", "linear", "chroma"])
def test_the_longest_chunks_of_common_rates_are_accepted(rate: int, kind: str) -> None:
    plain = SpectrogramConfig(sample_rate=rate, chunk_seconds=600.0)
    dataclasses.replace(plain, representation=kind, window_ms=25.0)  # type: ignore[arg-type]
