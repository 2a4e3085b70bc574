"""Pauses in the training data: chunks without speech, where labels are spoken."""

from __future__ import annotations

import dataclasses
import logging

import numpy as np

from audionet.audio.network_input import LEAST_SHARE
from audionet.backbones.bottlenecks import Bottlenecks
from audionet.backbones.voice_space import VoiceSpace
from audionet.data.naming import UNKNOWN
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import BoolArray
from audionet.utils.text import pluralise

log = logging.getLogger(__name__)

_SPEAKING_SHARE = 0.95  # of the recordings, for labels to count as spoken
_BLOCK = 8192


def is_speech(bottlenecks: Bottlenecks, voice_space: VoiceSpace) -> BoolArray:
    """Return which images show speech, shape (n,)."""
    total = len(bottlenecks.images)
    blocks = [
        voice_space.speech_logits(bottlenecks.records.take("network", np.arange(i, min(i + _BLOCK, total))))
        for i in range(0, total, _BLOCK)
    ]
    return np.concatenate(blocks) > 0


def without_pauses(bottlenecks: Bottlenecks, voice_space: VoiceSpace | None, speech: str) -> tuple[Bottlenecks, bool]:
    """Leave out chunks that labelling would not count, and their augmented copies.

    These are chunks that are far emptier than the fullest of their recording, such as a padded last one; and where the
    labels are spoken, chunks without speech. Recordings without any speech, and examples of the background, are kept.

    Parameters
    ----------
    bottlenecks : Bottlenecks
    voice_space : VoiceSpace or None
        With the speech detector for these features, if there is one.
    speech : {"auto", "on", "off"}
        "auto" looks whether nearly every recording has speech.

    Returns
    -------
    bottlenecks : Bottlenecks
    spoken : bool
        Whether the labels are spoken.
    """
    images = bottlenecks.images
    original = np.array([not image.copy for image in images])
    labelled = np.array([image.label != UNKNOWN for image in images])
    recordings = Groups((image.label, image.recording) for image in images)
    activity = np.where(original, bottlenecks.records.take("activity"), 0)
    fullest = np.zeros(len(recordings.names))
    np.maximum.at(fullest, recordings.member, activity)
    empty = original & (activity < LEAST_SHARE * fullest[recordings.member])
    speechless = np.zeros(len(images), bool)
    spoken = False
    if voice_space is not None and speech != "off":
        speaking = is_speech(bottlenecks, voice_space)
        with_speech = np.zeros(len(recordings.names), bool)
        with_speech[recordings.member[speaking & original & ~empty]] = True
        of_labels = np.unique(recordings.member[labelled])
        spoken = speech == "on" or bool(with_speech[of_labels].mean() >= _SPEAKING_SHARE)
        if spoken:
            speechless = original & labelled & ~speaking & with_speech[recordings.member]
            log_pauses(int(speechless.sum()), int(original.sum()))
    chunks = Groups((image.label, image.recording, image.index) for image in images)
    left_out = np.zeros(len(chunks.names), bool)
    left_out[chunks.member[empty | speechless]] = True
    kept = np.flatnonzero(~left_out[chunks.member])
    found = dataclasses.replace(
        bottlenecks,
        images=[images[i] for i in kept],
        keys=bottlenecks.keys[kept],
        records=bottlenecks.records[kept],
    )
    return found, spoken


def log_pauses(pauses: int, chunks: int) -> None:
    """Log how many chunks without speech are left out, if any."""
    if pauses:
        log.info(f"Pauses: {pluralise(pauses, 'chunk')} without speech of {chunks} left out (--speech off keeps them)")
