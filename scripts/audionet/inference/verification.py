"""Adding voices to a trained model without training, and asking whether a clip is the voice it is said to be."""

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
"""Less of a voice than this is heard too little to be told from others reliably."""

RELIABLE_NORM = 0.5
"""A voice of less lies so far from all that training heard that others recorded like it may pass for it."""

_DEFAULT_RATE = 0.05
_MOST_NAMED = 10


class Verification(NamedTuple):
    """Whether a clip is the voice it is said to be.

    Attributes
    ----------
    accepted : bool
        Whether the rate is at most the one asked for at training.
    score : float
    rate : float
        Share of other voices that come as near, at most.
    nearer, trials : int
        How many trials with other voices came as near, and how many there were.
    """

    accepted: bool
    score: float
    rate: float
    nearer: int
    trials: int


class Enrolment(NamedTuple):
    """What was enrolled.

    Attributes
    ----------
    seconds : float
        How much was heard.
    norm : float
        1 of a voice like those of training, less of one that lies far from all of them.
    resembles : str or None
        The label whose voice it is so like that it would have been taken for it.
    replaced : bool
        Whether there was one of that name.
    failed, in_part : dict of Path to str
        Clips that could not be read, or not to their end, and why.
    """

    seconds: float
    norm: float
    resembles: str | None
    replaced: bool
    failed: dict[Path | ArraySound, str]
    in_part: dict[Path | ArraySound, str]


def check_name(predictor: Predictor, name: str) -> None:
    """Raise UsageError if a new voice cannot have this name."""
    if name in predictor.labels:
        raise UsageError(f"--enrol {escape(name)}: the model was trained on a label of that name: take another")
    if name in (UNKNOWN, "unknown") or not name.strip() or label_problem(name):
        raise UsageError(f"--enrol {escape(name)}: that is no name for a voice: take another")


def enrol_from_clips(predictor: Predictor, name: str, clips: Sequence[Path | ArraySound]) -> Enrolment:
    """Add a voice from what can be heard of clips.

    Raises
    ------
    RecordingError
        If that is nothing.
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
        heard = predictor.spectrogram.chunk_seconds * len(found) if predictor.spectrogram else 0.0
        seconds += min(clip.seconds or heard, heard)
    if not embeddings:
        reasons = "; ".join(f"{escape(str(source))} {reason}" for source, reason in failed.items())
        raise RecordingError(f"nothing can be heard to enrol {escape(name)}: {reasons}")
    card = predictor.card
    together = np.stack(embeddings)
    replaced = enrol(enrolled_path(predictor.graph), card["graph_sha256"], name, together, seconds)
    likeness = predictor.arrays.voices.scores(together).mean(axis=0)
    nearest = int(likeness.argmax())
    alike = predictor.threshold is not None and likeness[nearest] >= predictor.threshold
    resembles = predictor.labels[nearest] if alike else None
    return Enrolment(seconds, fit_speaker_model(together).norm, resembles, replaced, failed, in_part)


def forget_voice(predictor: Predictor, name: str) -> None:
    """Take an enrolled voice out again.

    Raises
    ------
    UsageError
        If there is none of that name.
    """
    if not forget(enrolled_path(predictor.graph), predictor.card["graph_sha256"], predictor.dimensions, name):
        there = ", ".join(map(escape, predictor.enrolled)) or "none"
        raise UsageError(f"--forget {escape(name)}: no voice of that name is enrolled (there is: {there})")


class Verifier:
    """Asks of clips whether they are one voice, trained or enrolled.

    Raises
    ------
    UsageError
        If the model has no voice of that name.
    ModelError
        If nothing is known of how near other voices come.
    """

    def __init__(self, predictor: Predictor, name: str) -> None:
        if name not in predictor.names:
            some = ", ".join(map(escape, predictor.names[:_MOST_NAMED]))
            more = ", ..." if len(predictor.names) > _MOST_NAMED else ""
            raise UsageError(f"--verify {escape(name)}: the model has no such voice, it has {some}{more}")
        impostors = predictor.arrays.impostors
        self._rate = predictor.card["open_set"]["asked_rate"] or _DEFAULT_RATE
        needed = int(np.ceil(1 / self._rate)) - 1
        if len(impostors) < needed:
            raise ModelError(
                f"the model has heard {len(impostors)} trials with other voices, and a false acceptance rate of "
                f"{self._rate:.2%} takes {needed}: train it on three labels or more, or with examples in {UNKNOWN}"
            )
        self._predictor = predictor
        self._place = predictor.names.index(name)

    def verify(self, source: Path | ArraySound) -> Verification:
        """Hold a clip against the voice.

        Raises
        ------
        RecordingError, DatasetError
            If nothing in the file can be judged.
        """
        score = float(self._predictor.answer(source).scores[self._place])
        impostors = self._predictor.arrays.impostors
        rate = false_acceptance_rate(score, impostors)
        return Verification(rate <= self._rate, score, rate, int((impostors >= score).sum()), len(impostors))
