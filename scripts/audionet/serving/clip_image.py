"""A clip's images side by side on one axis of time, however long the clip."""

from __future__ import annotations

import io
import math

import numpy as np
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import VIRIDIS
from audionet.utils.arrays import UInt8Array

QUALITY = 85
_ROUNDING = 1e-6


class ClipImage:
    """Images pasted where they belong in time; what is not covered is as dark as silence.

    Memory is bounded: a strip that grows too wide is halved, and later images are drawn as much narrower.

    Parameters
    ----------
    config : SpectrogramConfig
        How the images were made.
    most : int
        Widest result, pixels.
    """

    def __init__(self, config: SpectrogramConfig, most: int) -> None:
        self._most = most
        self._chunk_seconds = config.chunk_seconds
        self._per_second = config.frames / config.chunk_seconds
        # Room for the widest image beyond the width at which the strip is halved; an even width halves exactly.
        self._canvas: UInt8Array = np.tile(VIRIDIS[0], (config.rows, 2 * (most + config.frames), 1))
        self.seconds = 0.0

    def paste(self, start: float, image: Image.Image | None) -> None:
        """Add the image of the chunk that begins at `start` seconds, later than those before; None is silence."""
        self.seconds = start + self._chunk_seconds
        while self.seconds * self._per_second > self._canvas.shape[1]:
            self._halve()
        if image is None:
            return
        # Outwards to whole pixels: the column that halving mixed with the dark beyond the last chunk is covered.
        left = math.floor(start * self._per_second + _ROUNDING)
        right = math.ceil(self.seconds * self._per_second - _ROUNDING)
        resized = image.resize((max(1, right - left), self._canvas.shape[0]), Image.Resampling.BOX)
        self._canvas[:, left : left + resized.width] = np.asarray(resized)[:, : self._canvas.shape[1] - left]

    def jpg(self) -> bytes:
        """The strip from the clip's beginning to the last chunk's end, at most `most` pixels wide."""
        width = max(1, round(self.seconds * self._per_second))
        image = Image.fromarray(self._canvas[:, :width])
        if width > self._most:
            image = image.resize((self._most, image.height), Image.Resampling.BOX)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    def _halve(self) -> None:
        height, width, _ = self._canvas.shape
        half = np.asarray(Image.fromarray(self._canvas).resize((width // 2, height), Image.Resampling.BOX))
        self._canvas[:] = VIRIDIS[0]
        self._canvas[:, : width // 2] = half
        self._per_second /= 2
