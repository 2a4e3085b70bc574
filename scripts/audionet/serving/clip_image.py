"""Spectrogram image of a whole clip, of bounded width and memory."""

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
    """Joins the images of a clip's chunks on one time axis; times without an image are as dark as silence.

    Memory is bounded: an image that becomes too wide is halved in width, and so are all later chunks.

    Parameters
    ----------
    config : SpectrogramConfig
        Spectrogram settings of the chunks.
    max_width : int
        Maximum width of the result, pixels.
    """

    def __init__(self, config: SpectrogramConfig, max_width: int) -> None:
        self._max_width = max_width
        self._chunk_seconds = config.chunk_seconds
        self._per_second = config.frames / config.chunk_seconds
        # Room for one chunk beyond the width at which the canvas is halved; an even width halves exactly.
        self._canvas: UInt8Array = np.tile(VIRIDIS[0], (config.rows, 2 * (max_width + config.frames), 1))
        self.seconds = 0.0

    def paste(self, start: float, image: Image.Image | None) -> None:
        """Add the image of the chunk that starts at `start` seconds, in order of time; None for a silent chunk."""
        self.seconds = start + self._chunk_seconds
        while self.seconds * self._per_second > self._canvas.shape[1]:
            self._halve()
        if image is None:
            return
        # Round outwards to whole pixels, to cover the column that halving mixed with the dark after the last chunk.
        left = math.floor(start * self._per_second + _ROUNDING)
        right = math.ceil(self.seconds * self._per_second - _ROUNDING)
        resized = image.resize((max(1, right - left), self._canvas.shape[0]), Image.Resampling.BOX)
        self._canvas[:, left : left + resized.width] = np.asarray(resized)[:, : self._canvas.shape[1] - left]

    def image(self) -> Image.Image:
        """Return the image from the clip's beginning to the last chunk's end, at most `max_width` pixels wide."""
        width = max(1, round(self.seconds * self._per_second))
        image = Image.fromarray(self._canvas[:, :width])
        if width > self._max_width:
            image = image.resize((self._max_width, image.height), Image.Resampling.BOX)
        return image

    def jpg(self) -> bytes:
        """Return the image as a JPEG."""
        buffer = io.BytesIO()
        self.image().save(buffer, "JPEG", quality=QUALITY)
        return buffer.getvalue()

    def _halve(self) -> None:
        height, width, _ = self._canvas.shape
        half = np.asarray(Image.fromarray(self._canvas).resize((width // 2, height), Image.Resampling.BOX))
        self._canvas[:] = VIRIDIS[0]
        self._canvas[:, : width // 2] = half
        self._per_second /= 2
