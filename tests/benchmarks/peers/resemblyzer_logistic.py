"""Resemblyzer's voice embeddings (Wan et al., Generalized end-to-end loss, 2018) and logistic regression."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from peers.logistic import fit_logistic, log_probabilities
from peers.peer import Sound, Vectors, sounds

PACKAGES = ("resemblyzer", "torch", "scikit-learn")


class Peer:
    """Logistic regression on the embeddings of whole recordings, prepared as Resemblyzer's documentation says."""

    def fit(self, recordings: Sequence[Path], labels: Sequence[str]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # pkg_resources, in webrtcvad
            from resemblyzer import VoiceEncoder

        self._encoder = VoiceEncoder("cpu", verbose=False)
        self._model = fit_logistic(self._embed(recordings), labels)

    def predict(self, recordings: Sequence[Path]) -> Vectors:
        return log_probabilities(self._model, self._embed(recordings))

    def _embed(self, recordings: Sequence[Path]) -> Vectors:
        return np.stack([self._encoder.embed_utterance(_prepared(sound)) for sound in sounds(recordings)])


def _prepared(sound: Sound) -> Sound:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from resemblyzer import preprocess_wav
        from resemblyzer.audio import normalize_volume
    trimmed: Sound = preprocess_wav(sound)
    if len(trimmed):
        return trimmed
    levelled: Sound = normalize_volume(sound, -30, increase_only=True)  # its detector hears no voice at all
    return levelled
