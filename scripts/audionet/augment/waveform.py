"""Waveform augmentation of chunks: time stretch, pitch shift, reverberation, noise, gain, telephone, codec.

audiomentations provides the transforms it has; reverberation, telephone and codec are implemented here, because its
own need extra packages.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import math
import random
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import AUDIO_SUFFIXES, open_sound
from audionet.audio.recording import SILENT, Recording
from audionet.audio.samples import to_float, to_int16
from audionet.augment.config import AUGMENT_KINDS
from audionet.augment.distortion import simulate_telephone
from audionet.errors import RecordingError, UnavailableError, UsageError
from audionet.utils.arrays import FloatArray, Int16Array
from audionet.utils.files import walk
from audionet.utils.text import escape

_MAX_KINDS = 3  # in one augmented copy
_MP3_RATES = frozenset({8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000})
_DIGESTED_BYTES = 1 << 20
_MAX_NOISE_CHUNKS = 6000  # of a tenth of a second: ten minutes

_global_random = threading.Lock()


@dataclass(frozen=True)
class Recipe:
    """Settings that determine the augmented copies of a chunk.

    Attributes
    ----------
    kinds : tuple of str
        Names from AUGMENT_KINDS to choose from.
    noise : tuple of Path
        Recordings of background noise; without any, noise is generated.
    seed : int
    """

    kinds: tuple[str, ...]
    noise: tuple[Path, ...] = ()
    seed: int = 0

    def described(self) -> dict[str, Any]:
        """Return everything an augmented copy depends on beside its chunk, for dataset.json."""
        digest = hashlib.blake2b(digest_size=8)
        for path in self.noise:
            size = path.stat().st_size
            digest.update(f"{path.name}\0{size}\0".encode("utf-8", "surrogateescape"))
            with path.open("rb") as file:  # first and last megabyte only: noise collections are large
                digest.update(file.read(_DIGESTED_BYTES))
                file.seek(max(0, size - _DIGESTED_BYTES))
                digest.update(file.read(_DIGESTED_BYTES))
        return {"kinds": list(self.kinds), "noise": digest.hexdigest() if self.noise else None, "seed": self.seed}


def augment_chunk(samples: Int16Array, rate: int, recipe: Recipe, name: str) -> Int16Array:
    """Augment a chunk by one to three of the recipe's kinds, in the order of AUGMENT_KINDS.

    Parameters
    ----------
    samples : ndarray of int16, shape (n,)
    rate : int
        Hz.
    recipe : Recipe
    name : str
        Identifies the augmented copy; with the recipe's seed it determines the kinds and their parameters.

    Returns
    -------
    ndarray of int16, shape (n,)
    """
    generator = _generator(recipe.seed, name)
    chosen = _draw_kinds(recipe.kinds, generator)
    sound = to_float(samples)
    for kind in AUGMENT_KINDS:
        if kind in chosen:
            sound = _TRANSFORMS[kind](sound, rate, generator, recipe)
    return to_int16(sound)


def kinds_of_copy(kinds: tuple[str, ...], seed: int, name: str) -> frozenset[str]:
    """Return the augmentations of a copy that `augment_chunk` made with a recipe of these kinds and this seed."""
    return _draw_kinds(kinds, _generator(seed, name))


def _generator(seed: int, name: str) -> np.random.Generator:
    digest = hashlib.blake2b(f"{seed}\0{name}".encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "big"))


def _draw_kinds(kinds: tuple[str, ...], generator: np.random.Generator) -> frozenset[str]:
    return frozenset(map(str, generator.permutation(kinds)[: generator.integers(1, _MAX_KINDS + 1)]))


def find_noise(folder: Path) -> tuple[Path, ...]:
    """Find the recordings in a folder of background noise, in order.

    Raises
    ------
    UsageError
        If there are none, or one is unusable.
    """
    found = tuple(path for _, path in walk(folder.absolute()) if path.suffix.lower() in AUDIO_SUFFIXES)
    if not found:
        raise UsageError(f"--noise_dir {escape(folder)} holds no recordings")
    for path in found:
        try:
            with open_sound(path) as sound:
                if not any(block.any() for block in sound.mono()):
                    raise RecordingError(SILENT)
        except UnavailableError as error:
            raise UsageError(f"--noise_dir: {escape(path)}: {error}") from None
        except RecordingError as error:
            raise UsageError(f"--noise_dir: {escape(path)}: {error}; remove it") from None
    return found


def _apply_library_transform(
    transform: Any, sound: FloatArray, rate: int, generator: np.random.Generator
) -> FloatArray:
    """Apply an audiomentations transform, which draws from the global generators of Python and NumPy."""
    with _global_random, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about a noise too quiet to change anything
        random.seed(int(generator.integers(2**32)))
        np.random.seed(int(generator.integers(2**32)))
        changed: FloatArray = transform(sound, rate)
        return changed


def _stretch(sound: FloatArray, rate: int, generator: np.random.Generator, recipe: Recipe) -> FloatArray:
    """Stretch time by a rate of 0.8 to 1.25 at constant pitch; repeat the sound to fill a shortened chunk."""
    from audiomentations import TimeStretch

    stretch = TimeStretch(min_rate=0.8, max_rate=1.25, leave_length_unchanged=False, p=1)
    return np.resize(_apply_library_transform(stretch, sound, rate, generator), sound.shape)


def _pitch(sound: FloatArray, rate: int, generator: np.random.Generator, recipe: Recipe) -> FloatArray:
    """Shift the pitch by up to two semitones at constant speed."""
    from audiomentations import PitchShift

    return _apply_library_transform(PitchShift(min_semitones=-2, max_semitones=2, p=1), sound, rate, generator)


def _room(sound: FloatArray, rate: int, generator: np.random.Generator, recipe: Recipe) -> FloatArray:
    """Add the reverberation of a room, RT60 0.15 to 0.8 s: direct sound plus decaying noise (Polack, 1988)."""
    from scipy.signal import fftconvolve

    reverberation_time = generator.uniform(0.15, 0.8)
    time = np.arange(math.ceil(reverberation_time * rate)) / rate
    tail = generator.standard_normal(len(time)) * 10 ** (-3 * time / reverberation_time)  # -60 dB at its end
    tail[0] = 0
    direct_to_reverberant = 10 ** (generator.uniform(0, 12) / 10)
    tail /= math.sqrt(float(np.square(tail).sum()) * direct_to_reverberant)
    wet: FloatArray = fftconvolve(sound, tail.astype(np.float32))[: len(sound)]
    return (sound + wet).astype(np.float32)


def _noise(sound: FloatArray, rate: int, generator: np.random.Generator, recipe: Recipe) -> FloatArray:
    """Add background noise at an SNR of 5 to 30 dB: recorded, or generated between brown and white."""
    if recipe.noise:
        # audiomentations reads fewer file formats than AudioNet does, and fails at a damaged file.
        recorded = _load_noise(recipe.noise[generator.integers(len(recipe.noise))], rate)
        start = generator.integers(max(1, len(recorded) - len(sound) + 1))
        noise = np.resize(recorded[start : start + len(sound)], sound.shape).astype(np.float32)
        ratio = 10 ** (generator.uniform(5, 30) / 20)
        level = math.sqrt(float(np.square(sound).mean()) / max(float(np.square(noise).mean()), 1e-12)) / ratio
        return (sound + np.float32(level) * noise).astype(np.float32)
    from audiomentations import AddColorNoise

    generated = AddColorNoise(min_snr_db=5, max_snr_db=30, min_f_decay=-6, max_f_decay=0, p=1)
    return _apply_library_transform(generated, sound, rate, generator)


@functools.lru_cache(maxsize=8)
def _load_noise(path: Path, rate: int) -> Int16Array:
    """Load the decodable part of a noise recording, at most its first ten minutes."""
    chunks: list[Int16Array] = []
    with contextlib.suppress(RecordingError):  # checked by find_noise already; later damage only shortens the noise
        recording = Recording(path, SpectrogramConfig(sample_rate=rate, chunk_seconds=0.1))
        for chunk in recording.chunks(0, _MAX_NOISE_CHUNKS):
            chunks.append(chunk.samples)
    return np.concatenate(chunks) if chunks else np.zeros(1, np.int16)


def _gain(sound: FloatArray, rate: int, generator: np.random.Generator, recipe: Recipe) -> FloatArray:
    """Change the level by -18 to +6 dB, clipped as a microphone clips."""
    from audiomentations import Gain

    return _apply_library_transform(Gain(min_gain_db=-18, max_gain_db=6, p=1), sound, rate, generator)


def _telephone(sound: FloatArray, rate: int, generator: np.random.Generator, recipe: Recipe) -> FloatArray:
    """Simulate a telephone line with a voice that is up to 12 dB quieter."""
    return simulate_telephone(np.float32(10 ** (-generator.uniform(0, 12) / 20)) * sound, rate)


def _codec(sound: FloatArray, rate: int, generator: np.random.Generator, recipe: Recipe) -> FloatArray:
    """Encode with MP3 or Vorbis at a low bit rate, and decode again."""
    mp3 = generator.random() < 0.5 and rate in _MP3_RATES
    level = float(generator.uniform(0.3, 0.95))
    container, codec = ("MP3", "MPEG_LAYER_III") if mp3 else ("OGG", "VORBIS")
    buffer = io.BytesIO()
    with soundfile.SoundFile(buffer, "w", rate, 1, codec, format=container, compression_level=level) as file:
        for start in range(0, len(sound), rate):  # one long block would overflow libvorbis's stack
            file.write(np.clip(sound[start : start + rate], -1, 1))
    buffer.seek(0)
    decoded, _ = soundfile.read(buffer, dtype="float32")
    kept: FloatArray = np.zeros_like(sound)
    kept[: len(decoded)] = decoded[: len(sound)]
    return kept


_TRANSFORMS: dict[str, Callable[[FloatArray, int, np.random.Generator, Recipe], FloatArray]] = {
    "stretch": _stretch,
    "pitch": _pitch,
    "room": _room,
    "noise": _noise,
    "gain": _gain,
    "telephone": _telephone,
    "codec": _codec,
}
