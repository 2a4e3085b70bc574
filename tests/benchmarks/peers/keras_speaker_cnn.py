"""A network as in Keras' example "Speaker Recognition": residual convolutions over the FFT of seconds of sound.

Written anew. The example also mixes in the background noises of its own data set, which is left out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from peers.peer import RATE, Sound, Vectors, sounds

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

PACKAGES = ("keras", "tensorflow", "librosa")
_BLOCKS = ((16, 2), (32, 2), (64, 3), (128, 3), (128, 3))  # filters and convolutions of each residual block
_EPOCHS, _PATIENCE, _BATCH, _VALIDATION = 100, 10, 128, 0.1


class Peer:
    """Convolutional network trained from scratch; a recording's answer is the mean over its seconds."""

    def fit(self, recordings: Sequence[Path], labels: Sequence[str]) -> None:
        import keras

        keras.utils.set_random_seed(0)
        names = sorted(set(labels))
        seconds = [spectra(sound) for sound in sounds(recordings)]
        x = np.concatenate(seconds)
        y = np.repeat([names.index(label) for label in labels], list(map(len, seconds)))
        order = np.random.default_rng(0).permutation(len(y))
        held = max(1, round(_VALIDATION * len(y)))
        self._network = network(len(names))
        self._network.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
        stop = keras.callbacks.EarlyStopping(patience=_PATIENCE, restore_best_weights=True)
        self._network.fit(
            x[order[held:]],
            y[order[held:]],
            batch_size=_BATCH,
            epochs=_EPOCHS,
            validation_data=(x[order[:held]], y[order[:held]]),
            callbacks=[stop],
            verbose=0,
        )

    def predict(self, recordings: Sequence[Path]) -> Vectors:
        seconds = [spectra(sound) for sound in sounds(recordings)]
        answers = self._network.predict(np.concatenate(seconds), batch_size=_BATCH, verbose=0)
        ends = np.cumsum(list(map(len, seconds)))
        return np.log(np.maximum([part.mean(axis=0) for part in np.split(answers, ends[:-1])], 1e-30))


def spectra(sound: Sound) -> NDArray[np.float32]:
    """Compute the magnitudes of the FFT of each second, the last filled with silence, shape (seconds, 8000, 1)."""
    number = max(1, len(sound) // RATE)
    padded = np.pad(sound, (0, max(0, number * RATE - len(sound))))[: number * RATE]
    magnitudes = np.abs(np.fft.rfft(padded.reshape(number, RATE), axis=1))[:, : RATE // 2, None]
    return magnitudes.astype(np.float32)


def network(labels: int) -> Any:
    """Create the untrained network."""
    import keras
    from keras import layers

    inputs = x = layers.Input((RATE // 2, 1))
    for filters, convolutions in _BLOCKS:
        shortcut = layers.Conv1D(filters, 1, padding="same")(x)
        for number in range(convolutions):
            x = layers.Conv1D(filters, 3, padding="same")(layers.Activation("relu")(x) if number else x)
        x = layers.MaxPool1D(2)(layers.Activation("relu")(layers.Add()([x, shortcut])))
    x = layers.Flatten()(layers.AveragePooling1D(3, strides=3)(x))
    for units in (256, 128):
        x = layers.Dense(units, activation="relu")(x)
    return keras.Model(inputs, layers.Dense(labels, activation="softmax")(x))
