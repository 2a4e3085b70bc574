"""Enrolment by the service: changes of the speakers who are stored beside its model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from audionet.errors import ModelError
from audionet.inference.formatting import enrolment_json
from audionet.inference.predictor import Predictor
from audionet.inference.verification import check_name, counted_sound, enrol_from_embeddings, forget_voice
from audionet.serving.worker import Frame
from audionet.serving.worker_output import embedded_chunks
from audionet.utils.text import find_name, os_error_reason

_SETTING = "name"

Change = Callable[[Predictor], tuple[Predictor, dict[str, Any]]]
"""Change of the enrolled speakers: takes the model, and returns it as changed and the result for JSON."""


def can_enrol(predictor: Predictor) -> bool:
    """Return whether the model compares speakers, and its folder can be written."""
    return predictor.thresholds is None and os.access(predictor.graph.parent, os.W_OK)


def check_enrolment(predictor: Predictor, name: str) -> None:
    """Check that a speaker of this name may be enrolled.

    Raises
    ------
    ModelError
        If the model answers with several labels at a time.
    UsageError
        If the speaker cannot have this name.
    """
    if predictor.thresholds is not None:
        raise ModelError("the model answers with several labels at a time: it compares no speakers, and enrols none")
    check_name(predictor, name, _SETTING)


def enrol_frames(predictor: Predictor, name: str, frames: list[Frame]) -> tuple[Predictor, dict[str, Any]]:
    """Enrol a speaker from the frames of a clip, in place of a speaker of the same name.

    Raises
    ------
    RecordingError
        If nothing in the clip can be used.
    ModelError
        If the speakers beside the model cannot be read or written, or are another model's.
    """
    *found, (ended, _) = frames
    chunks = embedded_chunks(predictor, [frame for frame in found if frame[1]])
    embeddings, seconds = counted_sound(predictor, chunks, ended["seconds"] - ended["begin"])
    with _storing():
        before = predictor.with_enrolled_as_stored()  # label_image.py may have changed them
        done = enrol_from_embeddings(before, name, np.stack(embeddings), seconds)
        after = before.with_enrolled_as_stored()
    content = enrolment_json(done, before.enrolled) | {"remark": ended["remark"], "enrolled": list(after.enrolled)}
    return after, {"name": find_name(name, after.enrolled), **content}


def forget_name(predictor: Predictor, name: str) -> tuple[Predictor, dict[str, Any]]:
    """Remove an enrolled speaker.

    Raises
    ------
    UsageError
        If no speaker of that name is enrolled.
    ModelError
        If the speakers beside the model cannot be read or written, or are another model's.
    """
    with _storing():
        before = predictor.with_enrolled_as_stored()
        forget_voice(before, name, _SETTING)
        after = before.with_enrolled_as_stored()
    return after, {"enrolled": list(after.enrolled)}


@contextmanager
def _storing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ModelError(f"the enrolled speakers cannot be stored: {os_error_reason(error)}") from error
