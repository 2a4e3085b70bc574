"""Pictures of the worst mistakes: a spectrogram for each, and the evidence for the wrong label in it."""

from __future__ import annotations

import io
import itertools
from typing import TYPE_CHECKING, Any, NamedTuple

from audionet.errors import DatasetError, RecordingError
from audionet.evaluation.batch_inference import chunks_of
from audionet.evaluation.page import data_uri
from audionet.evaluation.recordings import HeldOutRecording
from audionet.inference.explanation import explain_image, join_chunks

if TYPE_CHECKING:
    from audionet.inference.predictor import Predictor

_QUALITY = 85
_MOST_CHUNKS = 100  # of a recording, in which a label is looked for: five minutes


class ChunkPicture(NamedTuple):
    """Image of a chunk as a JPEG, and the start of the chunk, seconds."""

    start: float
    jpg: bytes


class Mistake(NamedTuple):
    """Recording with a wrong answer, and a picture of it.

    Attributes
    ----------
    entry : dict
        What report.json holds of it, and what else the page says.
    label : str
        Label that the evidence is of.
    alt : str
        Text in place of the image.
    image : str or None
        Image of a chunk as a data URI; None if it cannot be rendered.
    evidence : (str, str) or None
        Image of the evidence for the label in it, as a data URI, and in a sentence, if asked for.
    """

    entry: dict[str, Any]
    label: str
    alt: str
    image: str | None
    evidence: tuple[str, str] | None


def picture_mistake(
    predictor: Predictor, entry: dict[str, Any], label: str, alt: str, chunk: ChunkPicture | None, explains: bool
) -> Mistake:
    """Embed the image of a chunk and, if asked for, the evidence for a label in it."""
    if chunk is None:
        return Mistake(entry, label, alt, None, None)
    evidence = _evidence(predictor, chunk, label) if explains else None
    return Mistake(entry, label, alt, data_uri(chunk.jpg, "jpeg"), evidence)


def chunk_at(predictor: Predictor, recorded: HeldOutRecording, start: float) -> ChunkPicture | None:
    """Return the chunk that begins `start` seconds into a recording, None if it cannot be read."""
    try:
        for chunk in chunks_of(predictor, recorded):
            if abs(chunk.start - start) < 1e-3:
                return None if chunk.jpg is None else ChunkPicture(start, chunk.jpg)
    except (RecordingError, DatasetError):
        pass
    return None


def most_probable_chunk(predictor: Predictor, recorded: HeldOutRecording, label: str) -> ChunkPicture | None:
    """Return the chunk of a recording in which a label is most probable, None if none can be read.

    Of a long recording, the first chunks are looked at.
    """
    place, best, found = predictor.labels.index(label), -1.0, None
    try:
        for chunk in itertools.islice(chunks_of(predictor, recorded), _MOST_CHUNKS):
            if chunk.jpg is None:
                continue
            probability = float(predictor.answer_chunk(chunk, chunk.jpg).probabilities[place])
            if probability > best:
                best, found = probability, ChunkPicture(chunk.start, chunk.jpg)
    except (RecordingError, DatasetError):
        pass
    return found


def _evidence(predictor: Predictor, chunk: ChunkPicture, label: str) -> tuple[str, str]:
    """Draw the evidence for a label in a chunk, and say where it is."""
    index = predictor.labels.index(label)
    explanation = join_chunks(predictor, [explain_image(predictor, chunk.start, chunk.jpg, index)], index)
    explanation.image().save(buffer := io.BytesIO(), "JPEG", quality=_QUALITY)  # a fifth of a PNG
    return data_uri(buffer.getvalue(), "jpeg"), explanation.summary()
