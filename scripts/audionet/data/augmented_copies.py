"""Which variants a dataset gets, and their files: beside each chunk, for training only."""

from __future__ import annotations

import hashlib
import os
from collections import Counter
from collections.abc import Collection, Iterator, Sequence, Set
from pathlib import Path
from typing import NamedTuple

import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from audionet.audio.samples import wav_bytes
from audionet.augment.config import MAX_COPIES, AugmentConfig
from audionet.augment.waveform import Recipe, augment_chunk, find_noise
from audionet.data.naming import ChunkName, chunk_name, parse_chunk_name
from audionet.errors import DatasetError, UsageError
from audionet.utils.files import write_bytes
from audionet.utils.text import escape

_BATCH = 64
_LOWEST_TELEPHONE_RATE = 8_000  # Hz
_HIGHEST_CODEC_RATE = 192_000  # Hz; libvorbis crashes above 200 kHz


class CopyTask(NamedTuple):
    """Variants of one label's chunks, for one worker to render."""

    label: str
    variants: list[ChunkName]
    outputs: dict[Path, str]
    config: SpectrogramConfig
    recipe: Recipe


def recipe_of(augment: AugmentConfig, config: SpectrogramConfig, labels: Collection[str]) -> Recipe | None:
    """How variants are to be made; None if none are asked for.

    Raises
    ------
    UsageError
        If the background noise cannot be used, the rate is none for a telephone or a codec, or variants are
        asked for of a label that is not among `labels`.
    """
    for label in augment.by_label:
        if label not in labels:
            raise UsageError(f"--augment_label {escape(label)}: there is no such label")
    if not augment.wanted:
        return None
    if "telephone" in augment.kinds and config.sample_rate < _LOWEST_TELEPHONE_RATE:
        raise UsageError(
            f"--sample_rate {config.sample_rate} is less than a telephone's {_LOWEST_TELEPHONE_RATE}: "
            "leave telephone out of --augment_kinds"
        )
    if "codec" in augment.kinds and config.sample_rate > _HIGHEST_CODEC_RATE:
        raise UsageError(
            f"--sample_rate {config.sample_rate} is more than a codec's {_HIGHEST_CODEC_RATE}: "
            "leave codec out of --augment_kinds"
        )
    noise = find_noise(augment.noise_dir) if augment.noise_dir else ()
    return Recipe(augment.kinds, noise, augment.augment_seed)


def copies_by_label(chunks: dict[str, int], augment: AugmentConfig) -> dict[str, int]:
    """How many variants each label gets in all, given its number of chunks."""
    wanted = {label: number * augment.by_label.get(label, augment.augment) for label, number in chunks.items()}
    if augment.balance:
        most = max((chunks[label] + wanted[label] for label in chunks), default=0)
        wanted = {
            label: max(wanted[label], min(most - number, MAX_COPIES * number)) for label, number in chunks.items()
        }
    return wanted


def copies_of(label: str, chunks: Sequence[tuple[str, int]], total: int) -> set[ChunkName]:
    """So many variants of a label's chunks, spread evenly; which chunks get one more than others is left to a hash."""

    def order(chunk: tuple[str, int]) -> bytes:
        return hashlib.blake2b(os.fsencode(f"{label}\0{chunk[0]}\0{chunk[1]}"), digest_size=8).digest()

    each, more = divmod(total, max(1, len(chunks)))
    return {
        ChunkName(recording, number, copy)
        for place, (recording, number) in enumerate(sorted(chunks, key=order))
        for copy in range(1, 1 + each + (place < more))
    }


def copies_present(label: str, outputs: dict[Path, str], chunks: Set[tuple[str, int]]) -> Counter[ChunkName]:
    """The variants of these chunks in a label's folders, and in how many of the folders each is."""
    present: Counter[ChunkName] = Counter()
    for folder, suffix in outputs.items():
        names = os.listdir(folder / label) if (folder / label).is_dir() else []
        parsed = (parse_chunk_name(name.removesuffix(suffix)) for name in names if name.endswith(suffix))
        present.update(name for name in parsed if name.copy and name[:2] in chunks)
    return present


def copy_batches(variants: set[ChunkName]) -> Iterator[list[ChunkName]]:
    """Variants in order, a worker's task each."""
    ordered = sorted(variants)
    return (ordered[place : place + _BATCH] for place in range(0, len(ordered), _BATCH))


def split_copies(task: CopyTask) -> list[CopyTask]:
    """A task for each variant."""
    return [task._replace(variants=[name]) for name in task.variants]


def render_copies(task: CopyTask) -> int:
    """Write variants of chunks, made of the chunks' own WAV files; returns how many."""
    wav_folder = next(folder for folder, suffix in task.outputs.items() if suffix == ".wav") / task.label
    rate = task.config.sample_rate
    for recording, number, copy in task.variants:
        chunk = wav_folder / chunk_name(recording, number, ".wav")
        try:
            samples, _ = soundfile.read(os.fsencode(chunk), dtype="int16")
        except soundfile.LibsndfileError:
            raise DatasetError(f"{escape(chunk)} cannot be read: make it again with --force") from None
        varied = augment_chunk(samples, rate, task.recipe, f"{task.label}\0{recording}\0{number}\0{copy}")
        for folder, suffix in task.outputs.items():
            content = wav_bytes(varied, rate) if suffix == ".wav" else render(varied, task.config)
            write_bytes(folder / task.label / chunk_name(recording, number, suffix, copy), content)
    return len(task.variants)
