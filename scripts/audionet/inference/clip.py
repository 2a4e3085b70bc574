"""A clip's pictures with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from audionet.audio.config import PictureConfig
from audionet.audio.image import decode, render
from audionet.audio.recording import SILENT, Recording
from audionet.audio.samples import is_silent
from audionet.errors import DatasetError, RecordingError

Item = TypeVar("Item")

PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg"})


class Clip:
    """A clip's pictures with their times, rendered as in training; or the one picture that it is.

    Iterate over it: a picture is None where the chunk is silent.

    Parameters
    ----------
    path : Path
    picture : PictureConfig or None
        How the model's pictures were made.

    Attributes
    ----------
    seconds : float or None
        Where decoding has come to, the recording's length in the end; None for a picture.

    Raises
    ------
    RecordingError
        While iterating: at once, or after the chunks before the damage.
    DatasetError
        If it is a picture of other making.
    """

    def __init__(self, path: Path, picture: PictureConfig | None) -> None:
        self.path = path
        self._picture = picture
        self._recording: Recording | None = None
        if path.suffix.lower() not in PICTURE_SUFFIXES:
            if picture is None:
                raise RecordingError(
                    "is a recording, but this model was trained on pictures of unknown making: give it a JPG"
                )
            self._recording = Recording(path, picture)

    @property
    def seconds(self) -> float | None:
        return None if self._recording is None else self._recording.seconds

    def __iter__(self) -> Iterator[tuple[float, bytes | None]]:
        if self._recording is None:
            yield 0.0, self._jpg()
            return
        for chunk in self._recording:
            silent = is_silent(chunk.samples)
            yield chunk.start, None if silent else render(chunk.samples, self._recording.config)

    def _jpg(self) -> bytes:
        try:
            jpg = self.path.read_bytes()
        except OSError as error:
            raise RecordingError(f"cannot be read: {error.strerror}") from None
        if self._picture is not None:
            size, wanted = decode(jpg).size, (self._picture.frames, self._picture.rows)
            if size != wanted:
                raise DatasetError(
                    f"is a picture of {size[0]} x {size[1]}, this model's are {wanted[0]} x {wanted[1]}: "
                    "give the recording itself"
                )
        return jpg


def look_through(
    pictures: Iterable[tuple[float, bytes | None]], look: Callable[[float, bytes], Item]
) -> tuple[list[Item], str | None]:
    """Look at each picture that is not silent, up to where the recording is damaged.

    Returns
    -------
    list
        What `look` returned.
    str or None
        What is wrong with the recording.

    Raises
    ------
    RecordingError
        If there is nothing to look at.
    """
    found: list[Item] = []
    try:
        for start, jpg in pictures:
            if jpg is not None:
                found.append(look(start, jpg))
    except RecordingError as error:
        if not found:
            raise
        return found, str(error)
    if not found:
        raise RecordingError(SILENT)
    return found, None
