"""Picture of the evidence in a whole clip, from the outputs of a worker process."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.inference.evidence_plot import evidence_image
from audionet.inference.explanation import ExplainedChunk, Explanation, explain_outputs, join_chunks
from audionet.inference.occlusion import OCCLUSIONS
from audionet.inference.predictor import Predictor
from audionet.serving.worker import Frame
from audionet.utils.arrays import Float64Array, FloatArray


class ClipEvidence(NamedTuple):
    """Picture of the evidence in a clip.

    Attributes
    ----------
    png : bytes
        From the clip's beginning to the end of its last chunk, as the image of the whole clip.
    seconds : float
        Duration that it spans.
    summary : str
        Sentence that says where most of the evidence is.
    """

    png: bytes
    seconds: float
    summary: str


def draw_evidence(
    predictor: Predictor, spectrogram: SpectrogramConfig, frames: Sequence[Frame], index: int
) -> ClipEvidence:
    """Explain a clip and draw the evidence.

    The frames hold arrays alone: no image that a worker process has encoded is decoded outside it.

    Parameters
    ----------
    predictor : Predictor
    spectrogram : SpectrogramConfig
    frames : sequence of Frame
        All that a job of occlusions yields.
    index : int
        Place of the label or enrolled speaker in `Predictor.names`.
    """
    *explained, (clip, levels), _ = frames
    chunks = [_explain_frame(predictor, spectrogram, frame, index) for frame in explained]
    explanation = join_chunks(predictor, chunks, index)
    level = np.frombuffer(levels, np.float32).reshape(spectrogram.rows, -1)
    seconds = float(clip["spans"])
    times = (np.arange(level.shape[1]) + 0.5) * seconds / level.shape[1]
    buffer = io.BytesIO()
    evidence_image(level, _at_times(explanation, times)).save(buffer, "PNG")
    return ClipEvidence(buffer.getvalue(), seconds, explanation.summary())


def _explain_frame(predictor: Predictor, spectrogram: SpectrogramConfig, frame: Frame, index: int) -> ExplainedChunk:
    header, content = frame
    values = np.frombuffer(content, np.float32)
    points = spectrogram.rows * spectrogram.frames
    level, outputs = values[:points].reshape(spectrogram.rows, -1), values[points:].reshape(OCCLUSIONS, -1)
    output = predictor.read_outputs(*np.split(outputs, [len(predictor.labels)], axis=1))
    return explain_outputs(predictor, header["start"], level, output, index)


def _at_times(explanation: Explanation, times: Float64Array) -> FloatArray:
    """Return the relevance at other times, shape (rows, times); 0 where nothing was explained."""
    known = explanation.times
    step = max(known[1] - known[0], times[1] - times[0]) if min(len(known), len(times)) > 1 else 1.0
    right = np.clip(np.searchsorted(known, times), 1, len(known) - 1)
    nearest = right - (times - known[right - 1] < known[right] - times)
    relevance: FloatArray = explanation.relevance[:, nearest] * (np.abs(known[nearest] - times) <= step)
    return relevance
