"""Settings of the spectrogram images."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from audionet.audio.sound import ChannelSetting
from audionet.errors import DatasetError, UsageError
from audionet.utils.settings import from_json, require, setting
from audionet.utils.text import escape

CHROMA_ROWS = 8
"""Pixel rows per pitch class: JPG encodes blocks of eight rows separately."""

LARGEST_SIDE = 65_500
"""Columns or rows of the largest image that a JPG can hold."""

_MEMORY = 2 * 2**30  # bytes
_SAMPLE_MEMORY, _PIXEL_MEMORY, _WEIGHT_MEMORY = 8, 24, 28  # bytes for each at the peak, measured

LARGEST_IMAGE = _MEMORY // _PIXEL_MEMORY
"""Pixels in the largest image that is made or read."""


CHANNEL_HELP = (
    "channel to use: its number from 1; mean: the plain mean of all; split: each channel as a recording of its own; "
    "auto: the mean, but where the channels cancel each other the louder one"
)


def parse_channel(text: str) -> ChannelSetting:
    """Parse the setting ``channel``.

    Raises
    ------
    UsageError
        If it is neither a number nor one of the words.
    """
    if text in ("auto", "mean", "split"):
        return cast("Literal['auto', 'mean', 'split']", text)
    require(text.isdecimal() and 1 <= int(text) <= 1024, "channel", text, "a number from 1, auto, mean or split")
    return int(text)


@dataclass(frozen=True)
class SpectrogramConfig:
    """Settings of the spectrogram images. Stored with every model, so that labelling renders in the same way.

    Raises
    ------
    UsageError
        If a value is out of its range; the message names the flag, the value and the rule.
    """

    representation: Literal["mel", "linear", "chroma"] = setting(
        "mel", "pixel rows of the image: mel bands, FFT bins, or the twelve pitch classes (try --window_ms 128)"
    )
    sample_rate: int = setting(16_000, "sample rate that recordings are resampled to, Hz")
    chunk_seconds: float = setting(3.0, "length of one chunk, and so of one image, seconds", group="images")
    overlap: float = setting(0.0, "share of a chunk that the next chunk repeats, 0 to 0.95")
    loudness: float | None = setting(
        None, "normalise each recording to this RMS level, dBFS, as far as its peak allows; none: no change"
    )
    trim_silence: float | None = setting(
        None,
        "trim a recording's beginning and end where they are this many dB below its loudest moment (bare: 40)",
        bare=40.0,
        group="images",
    )
    window_ms: float = setting(25.0, "length of the Hann window, milliseconds")
    hop_ms: float = setting(10.0, "step between windows, milliseconds")
    n_mels: int = setting(128, "mel bands, one pixel row each")
    min_frequency: float = setting(20.0, "lower edge of the image (of the lowest mel band), Hz")
    max_frequency: float = setting(7600.0, "upper edge of the image (of the highest mel band), Hz")
    dynamic_range_db: float = setting(80.0, "dynamic range of the image below the chunk's maximum, dB")
    jpeg_quality: int = setting(95, "quality of the JPG images, 1 to 100")

    def __post_init__(self) -> None:
        require(1_000 <= self.sample_rate <= 384_000, "sample_rate", self.sample_rate, "1000 to 384000")
        require(0.1 <= self.chunk_seconds <= 600, "chunk_seconds", self.chunk_seconds, "0.1 to 600")
        require(0 <= self.overlap <= 0.95, "overlap", self.overlap, "0 to 0.95, a share of the chunk")
        for flag, low, high in (("loudness", -70, 0), ("trim_silence", 1, 120)):
            value = getattr(self, flag)
            require(value is None or low <= value <= high, flag, value, f"{low} to {high} dB, or none")
        require(2 <= self.window_ms <= 1000, "window_ms", self.window_ms, "2 to 1000")
        require(
            0.5 <= self.hop_ms <= self.window_ms,
            "hop_ms",
            self.hop_ms,
            f"0.5 to the window's length, {self.window_ms:g}",
        )
        require(
            self.fft_length <= self.chunk_length,
            "chunk_seconds",
            self.chunk_seconds,
            f"{self.fft_length / self.sample_rate:g} or more, the length of one FFT",
        )
        require(8 <= self.n_mels <= 512, "n_mels", self.n_mels, "8 to 512")
        require(0 < self.max_frequency <= 1e6, "max_frequency", self.max_frequency, "above 0, to 1000000")
        require(
            0 <= self.min_frequency < self.top_frequency,
            "min_frequency",
            self.min_frequency,
            f"0 to the upper edge, {self.top_frequency:g}",
        )
        require(
            len(self.bins) >= {"mel": 0, "linear": 8, "chroma": 1}[self.representation],
            "max_frequency",
            self.max_frequency,
            "further above --min_frequency: there have to be FFT bins between them, and a linear image needs 8",
        )
        require(10 <= self.dynamic_range_db <= 200, "dynamic_range_db", self.dynamic_range_db, "10 to 200")
        require(1 <= self.jpeg_quality <= 100, "jpeg_quality", self.jpeg_quality, "1 to 100")
        self._check_size()

    def _check_size(self) -> None:
        """Check that a JPG can hold an image, and that rendering it takes no more memory than there should be."""
        require(
            self.rows <= LARGEST_SIDE,
            "window_ms",
            self.window_ms,
            f"shorter, or --max_frequency lower: an image would have {self.rows} rows, and a JPG holds {LARGEST_SIDE}",
        )
        least_hop = (self.chunk_length // LARGEST_SIDE + 1) / self.sample_rate * 1000
        columns = f"an image would have {self.frames} columns, and a JPG holds {LARGEST_SIDE}"
        if least_hop <= self.window_ms:
            rule = f"{math.ceil(least_hop * 100) / 100:g} or more"
            require(self.frames <= LARGEST_SIDE, "hop_ms", self.hop_ms, f"{rule}: {columns}")
        require(self.frames <= LARGEST_SIDE, "chunk_seconds", self.chunk_seconds, f"less: {columns}")
        weights = self.fft_length // 2 * self.n_mels if self.representation == "mel" else 12 * self.fft_length
        needs = {
            "chunk_seconds": _SAMPLE_MEMORY * self.chunk_length,
            "hop_ms": _PIXEL_MEMORY * self.rows * self.frames,
            "window_ms": _WEIGHT_MEMORY * weights,
        }
        flag = max(needs, key=lambda name: needs[name])
        rule = {"chunk_seconds": "less, or --sample_rate lower", "hop_ms": "longer", "window_ms": "shorter"}[flag]
        rule += f": an image would take {sum(needs.values()) / 2**30:.1f} GiB of memory, of at most {_MEMORY >> 30}"
        require(sum(needs.values()) <= _MEMORY, flag, getattr(self, flag), rule)

    @property
    def chunk_length(self) -> int:
        """Number of samples in a chunk."""
        return round(self.chunk_seconds * self.sample_rate)

    @property
    def step_length(self) -> int:
        """Samples from the beginning of one chunk to that of the next."""
        return max(1, round(self.chunk_length * (1 - self.overlap)))

    @property
    def apart(self) -> int:
        """Index distance to the next chunk that begins at least a chunk's length after this one's end."""
        return -(-2 * self.chunk_length // self.step_length)

    @property
    def window_length(self) -> int:
        """Samples in a window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop_length(self) -> int:
        """Samples from one window to the next."""
        return max(1, round(self.hop_ms * self.sample_rate / 1000))

    @property
    def fft_length(self) -> int:
        """Samples in an FFT: the window rounded up to a power of two."""
        return 1 << (self.window_length - 1).bit_length()

    @property
    def top_frequency(self) -> float:
        """Upper edge of the highest band in Hz, never above half the sample rate."""
        return min(self.max_frequency, self.sample_rate / 2)

    @property
    def frames(self) -> int:
        """Pixel columns in an image."""
        return 1 + max(0, self.chunk_length - self.fft_length) // self.hop_length

    @property
    def bins(self) -> range:
        """FFT bins from the lower to the upper frequency."""
        width = self.sample_rate / self.fft_length
        return range(math.ceil(self.min_frequency / width), math.floor(self.top_frequency / width) + 1)

    @property
    def rows(self) -> int:
        """Pixel rows in an image."""
        return {"mel": self.n_mels, "linear": len(self.bins), "chroma": 12 * CHROMA_ROWS}[self.representation]


def spectrogram_config_from(
    settings: Any, path: Path, remedy: str, error: type[Exception] = DatasetError
) -> SpectrogramConfig:
    """Read image settings from JSON; raise `error`, naming the file, if they are not of this version."""
    try:
        return from_json(SpectrogramConfig, settings)
    except UsageError as why:
        raise error(f"{escape(path)}: its image settings are not usable ({why}): {remedy}") from None
