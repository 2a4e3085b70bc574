"""Live labelling: who speaks now, and the segments that have been heard so far."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from audionet.audio.array_sound import ArraySound
from audionet.audio.live import LiveSound, cut_windows
from audionet.audio.samples import PAUSE_DB
from audionet.errors import UsageError
from audionet.inference.answer import ChunkAnswer, Decision
from audionet.inference.clip import Clip, is_cut_off
from audionet.inference.predictor import Predictor
from audionet.inference.segmentation import LAG_SECONDS, Segment, Window
from audionet.utils.arrays import Int16Array
from audionet.utils.text import escape

STEP_SECONDS = 0.5
"""Longest time from one answer to the next."""

_LAG_SECONDS = 1.0  # of segments: a turn is decided a second or two after it ends


class Now(NamedTuple):
    """Answer for a moment of live sound.

    Attributes
    ----------
    seconds : float
        Time of the moment, seconds from the beginning: the end of the window that is answered for.
    decision : Decision or None
        For the last window; None in a pause.
    present : list of str or None
        Labels that are present, where the model answers with several at a time.
    probability : float
        Of the label, 0 to 1; 0 in a pause or if unknown.
    level : float or None
        Level of the window's loudest moment, dB below full scale; None if it is silent.
    """

    seconds: float
    decision: Decision | None
    present: list[str] | None
    probability: float
    level: float | None


def listen(predictor: Predictor, sound: LiveSound, on_now: Callable[[Now], object]) -> Iterator[Segment]:
    """Label sound as it arrives.

    Parameters
    ----------
    predictor : Predictor
    sound : LiveSound
    on_now : callable
        Called for each window, as soon as its last sample has arrived.

    Yields
    ------
    Segment
        As soon as it is decided, a second or two after its end. Where several labels may be present at a time, all at
        the end of the sound.

    Raises
    ------
    UsageError
        If data_maker.py did not render the model's training images.
    """
    length = _window_seconds(predictor)
    step = min(STEP_SECONDS, length / 3)
    decider = predictor.decider
    heard = 0.0

    def windows() -> Iterator[Window]:
        nonlocal heard
        for start, answer, level in _answers(predictor, sound, step):
            heard = start + length
            if answer is None:
                on_now(Now(heard, None, None, 0.0, level))
                yield Window(start, None, None)
                continue
            decision = decider.decide(answer.probabilities, answer.scores, 1)
            present = None if decider.thresholds is None else decider.present(answer.probabilities)
            on_now(Now(heard, decision, present, _probability(predictor, decision, answer), level))
            yield decider.window(answer)

    odds = None if predictor.rejection is None else predictor.rejection.window_odds
    yield from decider.turns(windows(), length, step, lambda: heard, odds, _LAG_SECONDS)


def collect_speech(
    predictor: Predictor, sound: LiveSound, seconds: float, on_progress: Callable[[float], object]
) -> ArraySound:
    """Record until there is enough sound, with speech where labels are spoken, to enrol a speaker from.

    Parameters
    ----------
    predictor : Predictor
    sound : LiveSound
    seconds : float
        Of chunks that count.
    on_progress : callable
        Called with the seconds that there are, whenever a chunk has arrived.

    Returns
    -------
    ArraySound
        All that was recorded, pauses included; less if the sound ends before.
    """
    length = _window_seconds(predictor)
    recorded: list[Int16Array] = []

    def kept() -> Iterator[Int16Array]:
        for block in sound.blocks:
            recorded.append(block)
            yield block

    counted = 0.0
    for _, answer, _ in _answers(predictor, LiveSound(sound.rate, kept()), length):
        counted += length if answer is not None else 0.0
        on_progress(counted)
        if counted >= seconds:
            break
    return ArraySound(np.concatenate(recorded) if recorded else np.zeros(1, np.int16), sound.rate)


def _window_seconds(predictor: Predictor) -> float:
    if predictor.spectrogram is None:
        raise UsageError(f"{escape(predictor.graph)} cannot listen: data_maker.py did not render its training images")
    return predictor.spectrogram.chunk_seconds


def _answers(
    predictor: Predictor, sound: LiveSound, step: float
) -> Iterator[tuple[float, ChunkAnswer | None, float | None]]:
    """Yield the start, the answer and the level of each window; no answer in a pause.

    A pause is silent, far below the loudest of the last 30 seconds, or without speech where labels are spoken.
    """
    assert predictor.spectrogram is not None
    # With overlap, a window is rendered as it is, not from where its sound begins.
    config = dataclasses.replace(predictor.spectrogram, overlap=0.5, trim_silence=None)
    levels: deque[tuple[float, float]] = deque()
    for start, samples in cut_windows(sound.blocks, sound.rate, config.chunk_seconds, step):
        chunk = next(iter(Clip(ArraySound(samples, sound.rate), config)))
        if chunk.jpg is None or chunk.level is None:
            yield start, None, None
            continue
        levels.append((start, chunk.level))
        while levels[0][0] < start - LAG_SECONDS:
            levels.popleft()
        answer = None
        loudest = max(level for _, level in levels)
        if chunk.level >= loudest - PAUSE_DB and not is_cut_off(chunk, config.chunk_seconds):
            answer = predictor.answer_chunk(chunk._replace(start=start), chunk.jpg)
        yield start, answer if answer is not None and answer.speech else None, chunk.level


def _probability(predictor: Predictor, decision: Decision, answer: ChunkAnswer) -> float:
    if decision.label is None:
        return 0.0
    if decision.enrolled:
        return 1.0
    return float(answer.probabilities[predictor.labels.index(decision.label)])
