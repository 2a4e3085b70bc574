"""Features of whole recordings that the peers without a network of their own take from librosa."""

from __future__ import annotations

import numpy as np

from peers.peer import RATE, Sound, Vectors

_WINDOW, _HOP, _COEFFICIENTS = 400, 160, 20  # 25 and 10 ms


def mfcc(sound: Sound) -> Vectors:
    """Compute 20 MFCCs and their deltas, shape (frames, 40)."""
    import librosa

    found = librosa.feature.mfcc(y=sound, sr=RATE, n_mfcc=_COEFFICIENTS, n_fft=512, win_length=_WINDOW, hop_length=_HOP)
    both: Vectors = np.concatenate([found, librosa.feature.delta(found, mode="nearest")]).T.astype(np.float64)
    return both


def mfcc_statistics(sound: Sound) -> Vectors:
    """Compute the mean and deviation of the MFCCs and their deltas over the recording, shape (80,)."""
    frames = mfcc(sound)
    return np.concatenate([frames.mean(axis=0), frames.std(axis=0)])
