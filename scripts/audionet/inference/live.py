"""Live labelling: who speaks now, and the segments that have been heard so far."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from audionet.audio.array_sound import ArraySound
from audionet.audio.config import SpectrogramConfig
from audionet.audio.live import LiveSound, cut_windows
from audionet.audio.samples import PAUSE_DB
from audionet.errors import UsageError
from audionet.inference.answer import ChunkAnswer, Decision
from audionet.inference.clip import Clip, is_cut_off
from audionet.inference.formatting import segment_json
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


class Heard(NamedTuple):
    """Window of live sound that is not silent.

    Attributes
    ----------
    level : float
        Level of its loudest moment, dB below full scale.
    cut_off : bool
        True if it is silent but for the beginning or the end of a sound.
    answer : callable
        Takes the window's start and returns its answer; the network may run only then.
    """

    level: float
    cut_off: bool
    answer: Callable[[float], ChunkAnswer]


Hear = Callable[[Int16Array, int], Heard | None]
"""Renders a window of live sound, mono at a rate in Hz; returns None if it is silent."""


def hear_with(predictor: Predictor) -> Hear:
    """Return a function that renders windows, and runs the network, in this process."""
    config = live_spectrogram(predictor)

    def hear(samples: Int16Array, rate: int) -> Heard | None:
        chunk = next(iter(Clip(ArraySound(samples, rate), config)))
        jpg = chunk.jpg
        if jpg is None or chunk.level is None:
            return None
        cut_off = is_cut_off(chunk, config.chunk_seconds)
        return Heard(chunk.level, cut_off, lambda start: predictor.answer_chunk(chunk._replace(start=start), jpg))

    return hear


def live_spectrogram(predictor: Predictor) -> SpectrogramConfig:
    """Return the spectrogram settings of the windows of live sound.

    Raises
    ------
    UsageError
        If data_maker.py did not render the model's training images.
    """
    if predictor.spectrogram is None:
        raise UsageError(f"{escape(predictor.graph)} cannot listen: data_maker.py did not render its training images")
    # With overlap, a window is rendered as it is, not from where its sound begins.
    return dataclasses.replace(predictor.spectrogram, overlap=0.5, trim_silence=None)


def step_seconds(spectrogram: SpectrogramConfig) -> float:
    """Return the time from one answer to the next."""
    return min(STEP_SECONDS, spectrogram.chunk_seconds / 3)


def listen(
    predictor: Predictor,
    sound: LiveSound,
    on_now: Callable[[Now], object],
    hear: Hear | None = None,
    is_late: Callable[[float], bool] = lambda seconds: False,
) -> Iterator[Segment]:
    """Label sound as it arrives.

    Parameters
    ----------
    predictor : Predictor
    sound : LiveSound
    on_now : callable
        Called for each window, as soon as its last sample has arrived.
    hear : callable, optional
        Renders a window and runs the network; default: in this process.
    is_late : callable, optional
        Takes the end of a window, seconds from the beginning, and returns whether to leave it out: its answer would
        come too late.

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
    spectrogram = live_spectrogram(predictor)
    length, step = spectrogram.chunk_seconds, step_seconds(spectrogram)
    hear = hear_with(predictor) if hear is None else hear
    decider = predictor.decider
    heard = 0.0

    in_time = (
        (start, samples)
        for start, samples in cut_windows(sound.blocks, sound.rate, length, step)
        if not is_late(start + length)
    )

    def windows() -> Iterator[Window]:
        nonlocal heard
        for start, answer, level in _answers(hear, in_time, sound.rate):
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


def now_json(now: Now) -> dict[str, Any]:
    """Return the answer for a moment as a message."""
    decision = now.decision
    return {
        "type": "now",
        "seconds": round(now.seconds, 3),
        "pause": decision is None,
        "label": None if decision is None else decision.label,
        "unknown": decision is not None and decision.label is None,
        **({} if now.present is None else {"present": now.present}),
        "probability": round(now.probability, 6),
        "level": None if now.level is None else round(now.level, 1),
    }


def live_segment_json(segment: Segment) -> dict[str, Any]:
    """Return a segment as a message."""
    return {"type": "segment", **segment_json(segment)}


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
    length = live_spectrogram(predictor).chunk_seconds
    recorded: list[Int16Array] = []

    def kept() -> Iterator[Int16Array]:
        for block in sound.blocks:
            recorded.append(block)
            yield block

    counted = 0.0
    windows = cut_windows(kept(), sound.rate, length, length)
    for _, answer, _ in _answers(hear_with(predictor), windows, sound.rate):
        counted += length if answer is not None else 0.0
        on_progress(counted)
        if counted >= seconds:
            break
    return ArraySound(np.concatenate(recorded) if recorded else np.zeros(1, np.int16), sound.rate)


def _answers(
    hear: Hear, windows: Iterable[tuple[float, Int16Array]], rate: int
) -> Iterator[tuple[float, ChunkAnswer | None, float | None]]:
    """Yield the start, the answer and the level of each window; no answer in a pause.

    A pause is silent, far below the loudest of the last 30 seconds, or without speech where labels are spoken.
    """
    levels: deque[tuple[float, float]] = deque()
    for start, samples in windows:
        heard = hear(samples, rate)
        if heard is None:
            yield start, None, None
            continue
        levels.append((start, heard.level))
        while levels[0][0] < start - LAG_SECONDS:
            levels.popleft()
        answer = None
        if heard.level >= max(level for _, level in levels) - PAUSE_DB and not heard.cut_off:
            answer = heard.answer(start)
        yield start, answer if answer is not None and answer.speech else None, heard.level


def _probability(predictor: Predictor, decision: Decision, answer: ChunkAnswer) -> float:
    if decision.label is None:
        return 0.0
    if decision.enrolled:
        return 1.0
    return float(answer.probabilities[predictor.labels.index(decision.label)])
