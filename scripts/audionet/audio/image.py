"""Conversion of spectrogram levels to viridis images, and back."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from audionet.audio.config import LARGEST_IMAGE, SpectrogramConfig
from audionet.audio.spectrogram import level
from audionet.errors import DatasetError
from audionet.utils.arrays import FloatArray, Int16Array, UInt8Array

# matplotlib's viridis, 256 RGB triples. Importing matplotlib for it would add 0.4 s to every labelling.
VIRIDIS: UInt8Array = np.frombuffer(
    base64.b64decode(
        "RAFURAJVRANXRQVYRQZaRQhbRglcRgteRgxfRg5hRw9iRxFjRxJlRxRmRxVnRxZpRxhqSBlrSBpsSBxuSB1vSB5wSCBxSCFySCJz"
        "SCN0RyV1RyZ2Ryd3Ryh4Ryp5Ryt6Ryx7Ri18Ri98RjB9RjF+RTJ/RTR/RTWARTaBRDeBRDmCQzqDQzuDQzyEQj2EQj6FQkCFQUGG"
        "QUKGQEOHQESHP0WHP0eIPkiIPkmJPUqJPUuJPUyJPE2KPE6KO1CKO1GKOlKLOlOLOVSLOVWLOFaLOFeMN1iMN1mMNlqMNluMNVyM"
        "NV2MNF6NNF+NM2CNM2GNMmKNMmONMWSNMWWNMWaNMGeNMGiNL2mNL2qNLmuOLmyOLm2OLW6OLW+OLHCOLHGOLHKOK3OOK3SOKnWO"
        "KnaOKneOKXiOKXmOKHqOKHqOKHuOJ3yOJ32OJ36OJn+OJoCOJoGOJYKOJYONJISNJIWNJIaNI4eNI4iNI4mNIomNIoqNIouNIYyN"
        "IY2MIY6MII+MIJCMIJGMH5KMH5OLH5SLH5WLH5aLHpeKHpiKHpmKHpmKHpqJHpuJHpyJHp2IHp6IHp+IHqCHH6GHH6KGH6OGIKSF"
        "IKWFIaaFIaeEIqeEI6iDI6mCJKqCJauBJqyBJ62AKK5/Ka9/KrB+K7F9LLF9LrJ8L7N7MLR6MrV6M7Z5Nbd4Nrh3OLl2Obl2O7p1"
        "Pbt0PrxzQL1yQr5xRL5wRb9vR8BuScFtS8JsTcJrT8NpUcRoU8VnVcZmV8ZlWcdkW8hiXslhYMlgYspfZMtdZ8xcacxba81Zbc5Y"
        "cM5Wcs9VdNBUd9BSedFRfNJPftJOgdNMg9NLhtRJiNVHi9VGjdZEkNZDktdBldc/l9g+mtg8ndk6n9k4oto3pdo1p9szqtsyrdww"
        "r9wust0std0rt90put4nvd4mv98kwt8ixd8hx+AfyuAezeAdz+Ec0uEb1OEa1+IZ2uIY3OIY3+MY4eMY5OMY5+QZ6eQZ7OQa7uUb"
        "8eUc8+Ue9uYf+OYh+uYi/eck"
    ),
    np.uint8,
).reshape(256, 3)


def colour(level: FloatArray) -> Image.Image:
    """Colour a level of 0 to 1, shape (rows, frames), in viridis; the lowest row is at the bottom."""
    image = Image.fromarray(np.rint(level[::-1] * 255).astype(np.uint8))
    image.putpalette(VIRIDIS.tobytes())
    return image.convert("RGB")  # ten times as fast as NumPy's indexing


def render(samples: Int16Array, config: SpectrogramConfig) -> bytes:
    """Render a chunk as a JPG spectrogram: the only input of the networks, in training and in labelling."""
    buffer = io.BytesIO()
    colour(level(samples, config)).save(buffer, "JPEG", quality=config.jpeg_quality)
    return buffer.getvalue()


def decode(jpg: bytes) -> Image.Image:
    """Decode an image from its JPG bytes, as RGB.

    Raises
    ------
    DatasetError
        If the bytes are not a complete JPG image, or one larger than any that is made; nothing is decoded then.
    """
    try:
        # Image.open would try all formats that Pillow knows, and start Ghostscript for PostScript.
        with JpegImageFile(io.BytesIO(jpg)) as image:
            if image.width * image.height > LARGEST_IMAGE:
                raise DatasetError(
                    f"is an image of {image.width} x {image.height}, larger than any of AudioNet's: "
                    "data_maker.py --force makes it again"
                )
            image.load()
            return image if image.mode == "RGB" else image.convert("RGB")
    except (OSError, SyntaxError, ValueError):
        raise DatasetError("is not a JPG image that can be read: data_maker.py --force makes it again") from None


# Luma increases monotonically along viridis (but for rounding), so a pixel's luma determines its level.
_LUMA = np.maximum.accumulate(VIRIDIS @ np.array([0.299, 0.587, 0.114])) + 1e-9 * np.arange(256)
LEVEL_OF_LUMA = np.interp(np.arange(256), _LUMA, np.linspace(0, 1, 256)).astype(np.float32)


def level_of(image: Image.Image) -> FloatArray:
    """Undo `colour`: levels of 0 to 1, shape (rows, frames), the lowest row first."""
    return np.take(LEVEL_OF_LUMA, np.asarray(image.convert("L"))[::-1])
