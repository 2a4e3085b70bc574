"""Occlusion of spectrogram images: what a model gets where the sound in a part of an image is silenced."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from audionet.audio.image import colour, decode, level_of
from audionet.audio.network_input import features_of, model_inputs
from audionet.backbones.litert import AT_A_TIME, Runner
from audionet.utils.arrays import FloatArray

FREQUENCY_WINDOWS, TIME_WINDOWS = 9, 13
"""Windows along each axis: a twelfth of a chunk and an eighth of the rows apart, and twice as wide."""

OCCLUSIONS = 1 + FREQUENCY_WINDOWS * TIME_WINDOWS
"""Images that `occluded` yields."""

_QUIET_SHARE = 0.1


@functools.lru_cache(maxsize=16)
def window_weights(length: int, number: int) -> FloatArray:
    """Compute Hann windows that overlap by half and sum to 1 everywhere; the first and the last are halves.

    Parameters
    ----------
    length : int
        Rows or frames of the image.
    number : int
        Windows, 2 or more.

    Returns
    -------
    ndarray of float32, shape (number, length)
    """
    distance = np.abs(np.linspace(0, number - 1, length)[None] - np.arange(number)[:, None])
    return np.where(distance < 1, 0.5 + 0.5 * np.cos(np.pi * distance), 0).astype(np.float32)


def sound_above_quiet(level: FloatArray) -> FloatArray:
    """Return how far each point of an image, of any shape, is above the level of its quietest tenth.

    The quiet level is the background of the recording itself: in place of a sound it leaves no hole, such as the
    network never saw in training. The mean level would not remove sound, but add noise where it was quiet.
    """
    above: FloatArray = np.maximum(level - np.quantile(level, _QUIET_SHARE), 0).astype(np.float32)
    return above


def occluded(level: FloatArray) -> Iterator[Image.Image]:
    """Yield an image as it is, then once with each window silenced: those of the lowest frequency first, in time.

    Parameters
    ----------
    level : ndarray of float32, shape (rows, frames)
        0 to 1, the lowest frequency first.

    Yields
    ------
    Image
        RGB; `OCCLUSIONS` of them.
    """
    yield colour(level)
    above = sound_above_quiet(level)
    rows, frames = level.shape
    for in_frequency in window_weights(rows, FREQUENCY_WINDOWS):
        for in_time in window_weights(frames, TIME_WINDOWS):
            yield colour(level - above * in_frequency[:, None] * in_time)


def occluded_outputs(network: Runner, jpg: bytes, statistics: str | None) -> tuple[FloatArray, list[FloatArray]]:
    """Run a model's network on an image and on its occlusions.

    Parameters
    ----------
    network : Runner
    jpg : bytes
    statistics : str or None
        Image statistics that the network takes as well; they are computed of each occlusion.

    Returns
    -------
    level : ndarray of float32, shape (rows, frames)
        The image, 0 to 1, the lowest frequency first.
    outputs : list of ndarray of float32, shape (OCCLUSIONS, width)
        The network's outputs, the whole image's first.

    Raises
    ------
    DatasetError
        If the bytes are not an image.
    """
    level = level_of(decode(jpg))
    _, height, width, _ = network.input_shapes[0]
    batches: list[list[FloatArray]] = []
    waiting: list[tuple[NDArray[Any], ...]] = []
    for number, image in enumerate(occluded(level), 1):
        waiting.append(model_inputs(features_of(image, (height, width)), statistics))
        if len(waiting) == AT_A_TIME or number == OCCLUSIONS:
            batches.append(network.run_all(*(np.concatenate(part) for part in zip(*waiting, strict=True))))
            waiting = []
    return level, [np.concatenate(parts) for parts in zip(*batches, strict=True)]


def relevance_of(evidence: FloatArray, level: FloatArray) -> FloatArray:
    """Compute the relevance of each point of an image from the evidence in it and in its occlusions.

    What is lost with a window is shared by the sound in it, in proportion to what is silenced of each point: a point
    that is quiet anyway does not matter. Silencing the 5 to 20 % of the points with the highest relevance costs voices
    1.7 times, and sounds 1.2 times, the evidence that it costs with a map that weighs all points of a window alike.

    Parameters
    ----------
    evidence : ndarray of float, shape (OCCLUSIONS,)
        In the order of `occluded`.
    level : ndarray of float32, shape (rows, frames)
        The image.

    Returns
    -------
    ndarray of float32, shape (rows, frames)
        The sum over all points is that of what is lost with each window.
    """
    lost = (evidence[0] - evidence[1:]).reshape(FREQUENCY_WINDOWS, TIME_WINDOWS)
    above = sound_above_quiet(level)
    rows, frames = (window_weights(length, number) for length, number in zip(level.shape, lost.shape, strict=True))
    silenced = rows @ above @ frames.T
    density = np.divide(lost, silenced, out=np.zeros(lost.shape), where=silenced > 0)
    relevance: FloatArray = (above * (rows.T @ density @ frames)).astype(np.float32)
    return relevance
