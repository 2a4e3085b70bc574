"""Answers from the frames that a worker process sends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from audionet.inference.answer import Answer, ChunkAnswer
from audionet.inference.formatting import answer_json, segment_json
from audionet.inference.predictor import Predictor
from audionet.inference.segmentation import Window
from audionet.serving.model import Model
from audionet.serving.worker import Frame
from audionet.utils.arrays import FloatArray


def combine_frames(model: Model, frames: list[Frame], name: str, top_k: int) -> dict[str, Any]:
    """Return the JSON of `label_image.py --json --per_chunk`, with the diarization and the model's id."""
    predictor, spectrogram = model.predictor, model.spectrogram
    answer = answer_of(predictor, frames)
    decider = predictor.decider
    windows = [decider.window(chunk) for chunk in answer.chunks] + [
        Window(start, None, None) for start in answer.pauses
    ]
    turns = decider.turns(
        sorted(windows, key=lambda window: window.start),
        spectrogram.chunk_seconds,
        spectrogram.step_length / spectrogram.sample_rate,
        lambda: answer.seconds or 0.0,
        None if predictor.rejection is None else predictor.rejection.odds(len(answer.chunks)),
    )
    content = answer_json(Path(name), answer, predictor, top_k, per_chunk=True)
    return content | {"file": name, "segments": list(map(segment_json, turns)), "model": model.id}


def answer_of(predictor: Predictor, frames: list[Frame]) -> Answer:
    """Combine the network's outputs for the chunks of a clip."""
    *found, (ended, _) = frames
    silent = [header["start"] for header, content in found if not content]
    chunks = chunk_answers(predictor, [frame for frame in found if frame[1]])
    return predictor.combine_chunks(chunks, silent, ended["seconds"], ended["remark"])


def chunk_answers(predictor: Predictor, frames: list[Frame]) -> list[ChunkAnswer]:
    """Make the answer for each chunk from the network's outputs."""
    return [answer for _, answer in embedded_chunks(predictor, frames)]


def embedded_chunks(predictor: Predictor, frames: list[Frame]) -> list[tuple[FloatArray, ChunkAnswer]]:
    """Return the embedding of each chunk, and the answer for it, from the network's outputs."""
    outputs = np.stack([np.frombuffer(content, np.float32) for _, content in frames])
    output = predictor.read_outputs(*np.split(outputs, [len(predictor.labels)], axis=1))
    return [
        (
            embedding,
            predictor.score_chunk(
                header["start"], header["level"], header["activity"], (probabilities, embedding, bool(speech))
            ),
        )
        for (header, _), probabilities, embedding, speech in zip(frames, *output, strict=True)
    ]
