"""Explanation of an answer: where in time and frequency its evidence is, found by occlusion."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import Source
from audionet.audio.spectrogram import row_frequencies
from audionet.classifier.head import log_odds
from audionet.inference.answer import Answer, ChunkAnswer
from audionet.inference.clip import Clip, ClipChunk, process_images
from audionet.inference.evidence_plot import evidence_image, evidence_plot
from audionet.inference.evidence_region import EvidenceRegion, find_region
from audionet.inference.occlusion import relevance_of
from audionet.inference.predictor import BatchOutput, Predictor
from audionet.utils.arrays import Float64Array, FloatArray
from audionet.utils.extras import require_modules
from audionet.utils.files import PathLike, write_bytes
from audionet.utils.text import escape

MOST_CHUNKS = 8
"""Number of chunks that are explained, those with the most evidence: each takes as long as some fifty labellings."""

_ALL_ALONG = 0.75  # share of the time
_LEAST_PROBABILITY = 1e-30
_LEAST_INDEPENDENT = 1e-7  # of the logistic function, whose float32 values do not come nearer to 1


class ExplainedChunk(NamedTuple):
    """A chunk with its spectrogram and the relevance of each point, both of shape (rows, frames)."""

    start: float
    level: FloatArray
    relevance: FloatArray


@dataclass(frozen=True)
class Explanation:
    """Evidence for a label in a clip, by time and frequency.

    The relevance of a point is its share of the evidence that is lost where the sound around it, a twelfth of a chunk
    and an eighth of the rows to each side, falls to the image's quiet level. The sum over a part of the map estimates
    what silencing that part costs. Negative: the sound there speaks against the label.

    Attributes
    ----------
    label : str
        A label or an enrolled speaker.
    relevance : ndarray of float32, shape (rows, frames)
        In units of `unit`; the lowest frequency first.
    level : ndarray of float32, shape (rows, frames)
        The spectrogram, 0 to 1.
    times : ndarray of float64, shape (frames,)
        Centre of each frame, seconds from the beginning of the clip. Chunks that are not explained are left out: at
        most `MOST_CHUNKS` are, those with the most evidence. Numbers of frames, if the model does not know its
        images' times.
    frequencies : ndarray of float64, shape (rows,), or None
        Centre of each row, Hz; None for pitch classes, and if the model does not know them.
    unit : {"log-odds", "score"}
        Natural logarithm of the odds of a label's joined and calibrated probability; or the score of an enrolled
        speaker, and of the only label of a model.
    spectrogram : SpectrogramConfig or None
    """

    label: str
    relevance: FloatArray
    level: FloatArray
    times: Float64Array
    frequencies: Float64Array | None
    unit: str
    spectrogram: SpectrogramConfig | None

    @functools.cached_property
    def region(self) -> EvidenceRegion | None:
        """Smallest rectangle of times and frequencies with half of the evidence; None if it lies nowhere."""
        return find_region(self.relevance, self.times, self.frequencies)

    def summary(self) -> str:
        """Return in one sentence where the evidence is, such as "most of the evidence for ann: 1.2 to 1.9 s, ..."."""
        name, region = escape(self.label), self.region
        if region is None:
            return f"no part of it alone is evidence for {name}"
        if region.is_spread:
            return f"the evidence for {name} is spread over all of it"
        time, pitch = region.describe(self.spectrogram is not None)
        lasts = region.columns[1] - region.columns[0] >= _ALL_ALONG * len(self.times)
        return f"most of the evidence for {name}: {'all along' if lasts else time}{pitch and f', {pitch}'}"

    def image(self) -> Image.Image:
        """Draw the spectrogram in grey, with the evidence for the label in orange, against it in blue; RGB."""
        return evidence_image(self.level, self.relevance)

    def png(self, name: str = "") -> bytes:
        """Draw the image with axes of seconds and Hz, and a frame around the region, as a PNG; needs matplotlib."""
        title = [*([escape(name)] if name else []), self.summary()]
        return evidence_plot(self.image(), self.times, self.spectrogram, self.region, "\n".join(title))

    def save(self, path: PathLike) -> Path:
        """Write a PNG of the spectrogram with the evidence; returns its path.

        Raises
        ------
        UsageError
            If matplotlib is not installed.
        """
        require_modules("matplotlib")
        write_bytes(Path(path), self.png())
        return Path(path)


def explain(
    predictor: Predictor, source: Source, name: str | None = None, setting: str = "label"
) -> tuple[Answer, Explanation]:
    """Answer for a clip as `Predictor.answer` does, and explain a label.

    Parameters
    ----------
    predictor : Predictor
    source : Source
    name : str, optional
        A label or an enrolled speaker; default: the answer or, if that is unknown, the most probable label.
    setting : str
        Flag or parameter that gives the name, for error messages.

    Raises
    ------
    RecordingError, DatasetError
        If nothing in the file can be used.
    UsageError
        If there is no such name.
    """
    index = None if name is None else predictor.index_of(name, setting)
    clip = Clip(source, predictor.spectrogram)

    def answer_chunk(chunk: ClipChunk, jpg: bytes) -> tuple[ChunkAnswer, bytes]:
        return predictor.answer_chunk(chunk, jpg), jpg

    found, silent, damage = process_images(clip, answer_chunk)
    answer = predictor.combine_chunks([chunk for chunk, _ in found], silent, clip.seconds, clip.remark(damage))
    index = explained_index(predictor, answer) if index is None else index
    images = {chunk.start: jpg for chunk, jpg in found}
    explained = [explain_image(predictor, start, images[start], index) for start in chosen_starts(answer, index)]
    return answer, join_chunks(predictor, explained, index)


def explained_index(predictor: Predictor, answer: Answer) -> int:
    """Return the place in `Predictor.names` of what an answer is explained by: its decision, or the likeliest label."""
    if answer.decision.label is not None:
        return predictor.names.index(answer.decision.label)
    return int(answer.probabilities.argmax())


def chosen_starts(answer: Answer, index: int) -> list[float]:
    """Return the starts of the chunks to explain: those with the most evidence for a name, in order of time."""

    def strength(chunk: ChunkAnswer) -> float:
        labels = len(chunk.probabilities)
        return float(chunk.probabilities[index] if index < labels else chunk.scores[index])

    chosen = sorted(answer.chunks, key=strength, reverse=True)[:MOST_CHUNKS]
    return sorted(chunk.start for chunk in chosen)


def explain_image(predictor: Predictor, start: float, jpg: bytes, index: int) -> ExplainedChunk:
    """Explain a label or an enrolled speaker, by its place in `Predictor.names`, in one chunk."""
    level, output = predictor.predict_occluded(jpg)
    return explain_outputs(predictor, start, level, output, index)


def explain_outputs(
    predictor: Predictor, start: float, level: FloatArray, output: BatchOutput, index: int
) -> ExplainedChunk:
    """Explain a chunk from the network's outputs for its image and the occlusions of it."""
    return ExplainedChunk(start, level, relevance_of(evidence(predictor, output, index), level))


def evidence(predictor: Predictor, output: BatchOutput, index: int) -> FloatArray:
    """Compute the evidence for a label or an enrolled speaker in n images, shape (n,), in `evidence_unit`."""
    probabilities, scores = predictor.score_batch(output.probabilities, output.embeddings)
    if evidence_unit(predictor, index) == "score":
        return scores[:, index]
    probability = probabilities[:, index].astype(np.float64)
    if predictor.thresholds is not None:
        return log_odds(probability, _LEAST_INDEPENDENT)
    # A sum of small probabilities is exact, where 1 minus a large one is not.
    others = np.delete(probabilities, index, axis=1).sum(axis=1, dtype=np.float64)
    found: FloatArray = np.log(np.maximum(probability, _LEAST_PROBABILITY)) - np.log(
        np.maximum(others, _LEAST_PROBABILITY)
    )
    return found


def evidence_unit(predictor: Predictor, index: int) -> str:
    """Return the unit of `evidence`: "log-odds" or, where there are no odds, "score"."""
    has_odds = predictor.thresholds is not None or len(predictor.labels) > 1
    return "log-odds" if has_odds and index < len(predictor.labels) else "score"


def join_chunks(predictor: Predictor, chunks: Sequence[ExplainedChunk], index: int) -> Explanation:
    """Join explained chunks, in order of time, on one time axis; where they overlap, it shows their mean."""
    spectrogram = predictor.spectrogram
    frames = chunks[0].level.shape[1]
    per_second = 1.0 if spectrogram is None else frames / spectrogram.chunk_seconds
    places = [round(chunk.start * per_second) + np.arange(frames) for chunk in chunks]
    columns, column = np.unique(np.concatenate(places), return_inverse=True)
    counts = np.bincount(column).astype(np.float32)

    def mean(parts: list[FloatArray]) -> FloatArray:
        total = np.zeros((len(columns), len(parts[0])), np.float32)
        np.add.at(total, column, np.concatenate(parts, axis=1).T)
        result: FloatArray = np.ascontiguousarray((total / counts[:, None]).T)
        return result

    return Explanation(
        predictor.names[index],
        mean([chunk.relevance for chunk in chunks]),
        mean([chunk.level for chunk in chunks]),
        (columns + 0.5) / per_second,
        None if spectrogram is None else row_frequencies(spectrogram),
        evidence_unit(predictor, index),
        spectrogram,
    )
