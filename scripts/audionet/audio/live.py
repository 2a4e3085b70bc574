"""Sound as it arrives: from a microphone, or from a file as if it were one, cut into overlapping windows."""

from __future__ import annotations

import contextlib
import queue
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audionet.audio.decoding import open_sound
from audionet.audio.samples import to_int16
from audionet.errors import UnavailableError, UsageError
from audionet.utils.arrays import Int16Array
from audionet.utils.extras import missing_extra
from audionet.utils.text import first_line

BLOCK_SECONDS = 0.1
"""Length of the blocks that sound arrives in."""

_MOST_WAITING = 600  # blocks: a minute
_SILENT_SECONDS = 5.0  # without a block, after which a microphone is gone


class LiveSound(NamedTuple):
    """Sound as it arrives.

    Attributes
    ----------
    rate : int
        Hz.
    blocks : iterator of ndarray of int16, each shape (n,)
        Mono; waits for each block until it has arrived.
    """

    rate: int
    blocks: Iterator[Int16Array]


def cut_windows(
    blocks: Iterable[Int16Array], rate: int, window_seconds: float, step_seconds: float
) -> Iterator[tuple[float, Int16Array]]:
    """Cut sound into overlapping windows, each as soon as its last sample has arrived.

    Yields
    ------
    start : float
        Seconds from the beginning of the sound.
    samples : ndarray of int16, shape (window,)
    """
    window, step = round(window_seconds * rate), max(1, round(step_seconds * rate))
    held = np.zeros(0, np.int16)
    start = 0
    for block in blocks:
        held = np.concatenate([held, block])
        while len(held) >= window:
            yield start / rate, held[:window]
            held = held[step:]
            start += step


@contextlib.contextmanager
def play_file(path: Path, speed: float) -> Iterator[LiveSound]:
    """Play a recording as a microphone would hear it.

    Parameters
    ----------
    path : Path
    speed : float
        1 for real time, 2 for twice as fast; 0 for as fast as it is listened to.

    Raises
    ------
    RecordingError
        If it cannot be decoded; after the blocks before the damage.
    """
    with open_sound(path) as sound:

        def blocks() -> Iterator[Int16Array]:
            length = round(BLOCK_SECONDS * sound.rate)
            begin, played = time.monotonic(), 0
            for part in sound.mono():
                samples = to_int16(part)
                for place in range(0, len(samples), length):
                    block = samples[place : place + length]
                    played += len(block)
                    if speed:
                        time.sleep(max(0.0, begin + played / sound.rate / speed - time.monotonic()))
                    yield block

        yield LiveSound(sound.rate, blocks())


@contextlib.contextmanager
def open_microphone(device: str | None) -> Iterator[LiveSound]:
    """Open a microphone.

    Parameters
    ----------
    device : str or None
        Its number, or a part of its name; None for the system's default.

    Raises
    ------
    UsageError
        If the package or the library is not installed, or there is no such microphone.
    UnavailableError
        While it is read: if it is unplugged.
    """
    sounddevice = _import_sounddevice()
    arrived: queue.Queue[Int16Array] = queue.Queue(_MOST_WAITING)

    def hear(samples: Any, *_: object) -> None:
        with contextlib.suppress(queue.Full):  # whoever listens has stopped for a minute
            arrived.put_nowait(samples[:, 0].copy())

    def blocks() -> Iterator[Int16Array]:
        while True:
            try:
                yield arrived.get(timeout=_SILENT_SECONDS)
            except queue.Empty:
                raise UnavailableError("the microphone is silent: is it still connected?") from None

    chosen = int(device) if device is not None and device.isdecimal() else device
    try:
        rate = round(sounddevice.query_devices(chosen, "input")["default_samplerate"])
        stream = sounddevice.InputStream(
            rate, round(BLOCK_SECONDS * rate), chosen, channels=1, dtype="int16", callback=hear
        )
    except (ValueError, sounddevice.PortAudioError) as error:
        named = "no microphone was found" if device is None else f"--device {device} is no microphone"
        raise UsageError(
            f"{named} ({first_line(error)}): connect one, choose one of `python -m sounddevice` with --device, or "
            "play a recording with --play"
        ) from None
    with stream:
        yield LiveSound(rate, blocks())


def _import_sounddevice() -> Any:
    try:
        import sounddevice
    except ModuleNotFoundError:
        raise missing_extra("sounddevice", "listen") from None
    except OSError:  # the package without its library
        raise UsageError(
            "the library PortAudio is not installed, which reads the microphone: apt-get install libportaudio2, or "
            "brew install portaudio"
        ) from None
    return sounddevice
