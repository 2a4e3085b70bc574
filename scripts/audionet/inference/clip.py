"""Clips as spectrogram images with their times."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import Source
from audionet.audio.image import decode, render
from audionet.audio.recording import SILENT, Recording
from audionet.audio.samples import active_part, is_silent, peak_level
from audionet.errors import DatasetError, RecordingError

Item = TypeVar("Item")

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg"})

_SLIVER = 0.15  # of a window


class ClipChunk(NamedTuple):
    """Chunk of a clip.

    Attributes
    ----------
    start : float
        Seconds on the clip's clock.
    jpg : bytes or None
        Its spectrogram image; None if it is silent.
    level : float or None
        Level of its loudest moment, dB below full scale; None for an image from disk.
    active : (float, float) or None
        Where its sound begins and ends in the clip, seconds; None for an image.
    """

    start: float
    jpg: bytes | None
    level: float | None
    active: tuple[float, float] | None = None


class Clip:
    """Spectrogram images of a clip with their times, rendered as in training; or a single image from disk.

    Iteration yields a `ClipChunk` for each chunk.

    Parameters
    ----------
    source : Source
        A recording, one of its channels, samples in memory, or a spectrogram image (``.jpg``).
    spectrogram : SpectrogramConfig or None
        Spectrogram settings of the model's images.
    parts : sequence of (float, float), optional
        Only these parts of the recording, as for `Recording.chunks_of`.

    Attributes
    ----------
    seconds : float or None
        Position of the decoder on the recording's clock, at the end where the recording ends; None for an image.

    Raises
    ------
    RecordingError
        During iteration: at the start, or after the chunks before the damage.
    DatasetError
        If it is an image of a different size from the model's.
    """

    def __init__(
        self,
        source: Source,
        spectrogram: SpectrogramConfig | None,
        parts: Sequence[tuple[float, float]] | None = None,
    ) -> None:
        self._source = source
        self._parts = parts
        self._spectrogram = spectrogram
        self._recording: Recording | None = None
        if not is_image(source):
            if spectrogram is None:
                raise RecordingError(
                    "is a recording, but data_maker.py did not render this model's training images: give it a JPG"
                )
            self._recording = Recording(source, spectrogram, aligned=spectrogram.overlap == 0)

    @property
    def seconds(self) -> float | None:
        return None if self._recording is None else self._recording.seconds

    @property
    def start(self) -> float:
        """Time on the recording's clock at which the sound begins, seconds; final once a chunk has been yielded."""
        return 0.0 if self._recording is None else self._recording.start

    def remark(self, damage: str | None) -> str | None:
        """Return in one line what a user should know of the recording, and the damage that ended it, if any."""
        remarks = [] if self._recording is None else list(dict.fromkeys(self._recording.remarks))
        return "; ".join(remarks + ([damage] if damage else [])) or None

    def __iter__(self) -> Iterator[ClipChunk]:
        if self._recording is None:
            assert isinstance(self._source, Path)
            yield ClipChunk(0.0, self._jpg(self._source), None)
            return
        for chunk in self._recording if self._parts is None else self._recording.chunks_of(self._parts):
            silent = is_silent(chunk.samples)
            jpg = None if silent else render(chunk.samples, self._recording.config)
            rate = self._recording.config.sample_rate
            begin, end = active_part(chunk.samples, rate)
            active = chunk.start + begin / rate, chunk.start + end / rate
            yield ClipChunk(chunk.start, jpg, peak_level(chunk.samples, rate), active)

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


def is_cut_off(chunk: ClipChunk, seconds: float) -> bool:
    """Return whether a window is silent but for the beginning or the end of a sound that others hear more of.

    Parameters
    ----------
    chunk : ClipChunk
    seconds : float
        Length of the window.
    """
    if chunk.active is None:
        return False
    begin, end = (time - chunk.start for time in chunk.active)
    return end < _SLIVER * seconds or begin > (1 - _SLIVER) * seconds


def is_image(source: Source) -> bool:
    """Return whether a source is a spectrogram image, by its file name."""
    return isinstance(source, Path) and source.suffix.lower() in IMAGE_SUFFIXES


def process_images(
    chunks: Iterable[ClipChunk], function: Callable[[ClipChunk, bytes], Item]
) -> tuple[list[Item], list[float], str | None]:
    """Apply a function to each chunk that is not silent and its image, up to the damage in a damaged recording.

    Returns
    -------
    list
        Results of `function`.
    list of float
        Starts of the silent chunks.
    str or None
        Damage to the recording.

    Raises
    ------
    RecordingError
        If there is no such image.
    """
    found: list[Item] = []
    silent: list[float] = []
    damage = None
    try:
        for chunk in chunks:
            if chunk.jpg is None:
                silent.append(chunk.start)
            else:
                found.append(function(chunk, chunk.jpg))
    except RecordingError as error:
        if not found:
            raise
        damage = str(error)
    if not found:
        raise RecordingError(SILENT)
    return found, silent, damage
