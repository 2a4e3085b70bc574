"""Clips as spectrogram images with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from audionet.audio.array_sound import ArraySound
from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import decode, render
from audionet.audio.recording import SILENT, Recording
from audionet.audio.samples import is_silent
from audionet.errors import DatasetError, RecordingError

Item = TypeVar("Item")

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg"})


class Clip:
    """Spectrogram images of a clip with their times, rendered as in training; or a single image from disk.

    Iteration yields pairs of start in seconds and JPG; the JPG is None if the chunk is silent.

    Parameters
    ----------
    source : Path or ArraySound
        A recording, samples in memory, or a spectrogram image (``.jpg``).
    spectrogram : SpectrogramConfig or None
        Spectrogram settings of the model's images.

    Attributes
    ----------
    seconds : float or None
        Position of the decoder, at the end the recording's length; None for an image.

    Raises
    ------
    RecordingError
        During iteration: at the start, or after the chunks before the damage.
    DatasetError
        If it is an image of a different size from the model's.
    """

    def __init__(self, source: Path | ArraySound, spectrogram: SpectrogramConfig | None) -> None:
        self._source = source
        self._spectrogram = spectrogram
        self._recording: Recording | None = None
        if not is_image(source):
            if spectrogram is None:
                raise RecordingError(
                    "is a recording, but data_maker.py did not render this model's training images: give it a JPG"
                )
            self._recording = Recording(source, spectrogram)

    @property
    def seconds(self) -> float | None:
        return None if self._recording is None else self._recording.seconds

    def __iter__(self) -> Iterator[tuple[float, bytes | None]]:
        if self._recording is None:
            assert isinstance(self._source, Path)
            yield 0.0, self._jpg(self._source)
            return
        for chunk in self._recording:
            silent = is_silent(chunk.samples)
            yield chunk.start, None if silent else render(chunk.samples, self._recording.config)

    def _jpg(self, path: Path) -> bytes:
        try:
            jpg = path.read_bytes()
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}") from None
        if self._spectrogram is not None:
            size, wanted = decode(jpg).size, (self._spectrogram.frames, self._spectrogram.rows)
            if size != wanted:
                raise DatasetError(
                    f"is an image of {size[0]} x {size[1]}, but this model's are {wanted[0]} x {wanted[1]}: "
                    "give the recording itself"
                )
        return jpg


def is_image(source: Path | ArraySound) -> bool:
    """Return whether a source is a spectrogram image, by its file name."""
    return isinstance(source, Path) and source.suffix.lower() in IMAGE_SUFFIXES


def process_images(
    images: Iterable[tuple[float, bytes | None]], function: Callable[[float, bytes], Item]
) -> tuple[list[Item], str | None]:
    """Apply a function to each image that is not silent, up to the damage in a damaged recording.

    Returns
    -------
    list
        Results of `function`.
    str or None
        Damage to the recording.

    Raises
    ------
    RecordingError
        If there is no such image.
    """
    found: list[Item] = []
    try:
        for start, jpg in images:
            if jpg is not None:
                found.append(function(start, jpg))
    except RecordingError as error:
        if not found:
            raise
        return found, str(error)
    if not found:
        raise RecordingError(SILENT)
    return found, None
