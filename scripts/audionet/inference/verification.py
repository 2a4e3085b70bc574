"""Speaker enrolment without training, and speaker verification."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet._paths import enrolled_path
from audionet.audio.array_sound import ArraySound
from audionet.classifier.enrolment import enrol, forget
from audionet.classifier.prototypes import false_acceptance_rate, fit_speaker_model
from audionet.data.naming import UNKNOWN, label_problem
from audionet.errors import DatasetError, ModelError, RecordingError, UsageError
from audionet.inference.clip import Clip, process_images
from audionet.inference.predictor import Predictor
from audionet.utils.arrays import FloatArray
from audionet.utils.text import escape

RELIABLE_SECONDS = 10.0
"""Least duration of speech from which a speaker can be recognised reliably."""

RELIABLE_NORM = 0.5
"""Norm below which a speaker is so unlike all training data that others recorded alike may be accepted."""

_DEFAULT_RATE = 0.05
_MAX_NAMES = 10


class Verification(NamedTuple):
    """Result of verifying that a clip is of a speaker.

    Attributes
    ----------
    accepted : bool
        Whether the rate is at most the one set at training.
    score : float
    rate : float
        False acceptance rate at this score: upper estimate of the share of other speakers that score as high.
    nearer, trials : int
        Number of impostor trials that scored as high, and number of all impostor trials.
    """

    accepted: bool
    score: float
    rate: float
    nearer: int
    trials: int


class Enrolment(NamedTuple):
    """Result of enrolling a speaker.

    Attributes
    ----------
    seconds : float
        Duration of the sound that was used.
    norm : float
        Mean norm of the embeddings: 1 for a speaker like those in training, less for one unlike all of them.
    resembles : str or None
        Label that the speaker's clips would have been accepted as without enrolment.
    replaced : bool
        Whether a speaker of the same name was replaced.
    failed, in_part : dict of Path to str
        Clips that could not be read, or only in part, with the reasons.
    """

    seconds: float
    norm: float
    resembles: str | None
    replaced: bool
    failed: dict[Path | ArraySound, str]
    in_part: dict[Path | ArraySound, str]


def check_name(predictor: Predictor, name: str) -> None:
    """Raise UsageError if a new speaker cannot have this name."""
    if name in predictor.labels:
        raise UsageError(f"--enrol {escape(name)}: the model was trained on a label of that name: choose another name")
    if name in (UNKNOWN, "unknown") or not name.strip() or label_problem(name):
        raise UsageError(f"--enrol {escape(name)}: that is not a valid name for a speaker: choose another")


def enrol_from_clips(predictor: Predictor, name: str, clips: Sequence[Path | ArraySound]) -> Enrolment:
    """Enrol a speaker from clips.

    Raises
    ------
    RecordingError
        If no clip has sound that can be used.
    UsageError
        If the speaker cannot have this name.
    """
    check_name(predictor, name)
    embeddings: list[FloatArray] = []
    seconds = 0.0
    failed: dict[Path | ArraySound, str] = {}
    in_part: dict[Path | ArraySound, str] = {}
    for source in clips:
        try:
            clip = Clip(source, predictor.spectrogram)
            found, remark = process_images(clip, lambda _, jpg: predictor.predict_image(jpg).embedding)
        except (RecordingError, DatasetError) as error:
            failed[source] = str(error)
            continue
        if remark is not None:
            in_part[source] = remark
        embeddings += found
        used_seconds = predictor.spectrogram.chunk_seconds * len(found) if predictor.spectrogram else 0.0
        seconds += min(clip.seconds or used_seconds, used_seconds)
    if not embeddings:
        reasons = "; ".join(f"{escape(str(source))} {reason}" for source, reason in failed.items())
        raise RecordingError(f"no clip can be used to enrol {escape(name)}: {reasons}")
    card = predictor.card
    stacked = np.stack(embeddings)
    replaced = enrol(enrolled_path(predictor.graph), card["graph_sha256"], name, stacked, seconds)
    similarities = predictor.arrays.voices.scores(stacked).mean(axis=0)
    nearest = int(similarities.argmax())
    similar = predictor.threshold is not None and similarities[nearest] >= predictor.threshold
    resembles = predictor.labels[nearest] if similar else None
    return Enrolment(seconds, fit_speaker_model(stacked).norm, resembles, replaced, failed, in_part)


def forget_voice(predictor: Predictor, name: str) -> None:
    """Remove an enrolled speaker.

    Raises
    ------
    UsageError
        If no speaker of that name is enrolled.
    """
    if not forget(enrolled_path(predictor.graph), predictor.card["graph_sha256"], predictor.dimensions, name):
        enrolled = ", ".join(map(escape, predictor.enrolled)) or "none"
        raise UsageError(f"--forget {escape(name)}: no speaker of that name is enrolled (enrolled: {enrolled})")


class Verifier:
    """Verifies that clips are of one speaker, trained or enrolled.

    Raises
    ------
    UsageError
        If the model has no speaker of that name.
    ModelError
        If training had too few impostor trials for the false acceptance rate.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        if name not in predictor.names:
            some = ", ".join(map(escape, predictor.names[:_MAX_NAMES]))
            more = ", ..." if len(predictor.names) > _MAX_NAMES else ""
            raise UsageError(f"--verify {escape(name)}: the model has no such speaker, it has {some}{more}")
        impostors = predictor.arrays.impostors
        self._rate = predictor.card["open_set"]["asked_rate"] or _DEFAULT_RATE
        needed = int(np.ceil(1 / self._rate)) - 1
        if len(impostors) < needed:
            raise ModelError(
                f"the model has {len(impostors)} impostor trials, and a false acceptance rate of "
                f"{self._rate:.2%} needs {needed}: train it on three labels or more, or with examples in {UNKNOWN}"
            )
        self._predictor = predictor
        self._index = predictor.names.index(name)

    def verify(self, source: Path | ArraySound) -> Verification:
        """Verify that a clip is of the speaker.

        Raises
        ------
        RecordingError, DatasetError
            If nothing in the file can be used.
        """
        score = float(self._predictor.answer(source).scores[self._index])
        impostors = self._predictor.arrays.impostors
        rate = false_acceptance_rate(score, impostors)
        return Verification(rate <= self._rate, score, rate, int((impostors >= score).sum()), len(impostors))
