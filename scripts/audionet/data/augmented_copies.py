"""Augmented copies of chunks, for training only: their number per label and their files beside the chunks."""

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
from audionet.utils.files import WriteBatch, file_sizes
from audionet.utils.text import escape

_BATCH = 64
_LOWEST_TELEPHONE_RATE = 8_000  # Hz
_HIGHEST_CODEC_RATE = 192_000  # Hz; libvorbis crashes above 200 kHz


class CopyTask(NamedTuple):
    """Augmented copies of one label's chunks, for one worker to render."""

    label: str
    copies: list[ChunkName]
    outputs: dict[Path, str]
    config: SpectrogramConfig
    recipe: Recipe


def recipe_of(augment: AugmentConfig, config: SpectrogramConfig, labels: Collection[str]) -> Recipe | None:
    """Build the recipe for augmented copies, or None if none are requested.

    Raises
    ------
    UsageError
        If the background noise cannot be used, the sample rate does not suit the telephone or the codec, or
        copies are requested for a label that is not among `labels`.
    """
    for label in augment.by_label:
        if label not in labels:
            raise UsageError(f"--augment_label {escape(label)}: there is no such label")
    if not augment.wanted:
        return None
    if "telephone" in augment.kinds and config.sample_rate < _LOWEST_TELEPHONE_RATE:
        raise UsageError(
            f"--sample_rate {config.sample_rate} is below the {_LOWEST_TELEPHONE_RATE} Hz of a telephone: "
            "leave telephone out of --augment_kinds"
        )
    if "codec" in augment.kinds and config.sample_rate > _HIGHEST_CODEC_RATE:
        raise UsageError(
            f"--sample_rate {config.sample_rate} is above the {_HIGHEST_CODEC_RATE} Hz of the codec: "
            "leave codec out of --augment_kinds"
        )
    noise = find_noise(augment.noise_dir) if augment.noise_dir else ()
    return Recipe(augment.kinds, noise, augment.augment_seed)


def copies_by_label(chunks: dict[str, int], augment: AugmentConfig) -> dict[str, int]:
    """Compute the number of augmented copies for each label, from its number of chunks."""
    totals = {label: number * augment.by_label.get(label, augment.augment) for label, number in chunks.items()}
    if augment.balance:
        largest = max((chunks[label] + totals[label] for label in chunks), default=0)
        totals = {
            label: max(totals[label], min(largest - number, MAX_COPIES * number)) for label, number in chunks.items()
        }
    return totals


def copies_of(label: str, chunks: Sequence[tuple[str, int]], total: int) -> set[ChunkName]:
    """Name `total` augmented copies of a label's chunks, spread evenly; a hash selects the chunks that get one more."""

    def order(chunk: tuple[str, int]) -> bytes:
        return hashlib.blake2b(os.fsencode(f"{label}\0{chunk[0]}\0{chunk[1]}"), digest_size=8).digest()

    each, remainder = divmod(total, max(1, len(chunks)))
    return {
        ChunkName(recording, number, copy)
        for rank, (recording, number) in enumerate(sorted(chunks, key=order))
        for copy in range(1, 1 + each + (rank < remainder))
    }


def copies_present(label: str, outputs: dict[Path, str], chunks: Set[tuple[str, int]]) -> Counter[ChunkName]:
    """Count, for each augmented copy of these chunks, the label's folders that hold it, and not as an empty file."""
    present: Counter[ChunkName] = Counter()
    for folder, suffix in outputs.items():
        for file, size in file_sizes(folder / label, suffix).items():
            name = parse_chunk_name(file.removesuffix(suffix))
            if name.copy and name[:2] in chunks:
                present[name] += size > 0
    return present


def copy_batches(copies: set[ChunkName]) -> Iterator[list[ChunkName]]:
    """Divide augmented copies, in order, into batches for one task each."""
    ordered = sorted(copies)
    return (ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH))


def split_copies(task: CopyTask) -> list[CopyTask]:
    """Split a task into one task per augmented copy."""
    return [task._replace(copies=[name]) for name in task.copies]


def copy_identity(label: str, recording: str, number: int, copy: int) -> str:
    """Identify an augmented copy: with the recipe's seed this determines its augmentations."""
    return f"{label}\0{recording}\0{number}\0{copy}"


def render_copies(task: CopyTask) -> int:
    """Write augmented copies, computed from the chunks' WAV files; return their number."""
    wav_folder = next(folder for folder, suffix in task.outputs.items() if suffix == ".wav") / task.label
    rate = task.config.sample_rate
    with WriteBatch() as batch:
        for recording, number, copy in task.copies:
            chunk = wav_folder / chunk_name(recording, number, ".wav")
            try:
                samples, _ = soundfile.read(os.fsencode(chunk), dtype="int16")
            except soundfile.LibsndfileError:
                raise DatasetError(f"{escape(chunk)} cannot be read: render it again with --force") from None
            augmented = augment_chunk(samples, rate, task.recipe, copy_identity(task.label, recording, number, copy))
            for folder, suffix in task.outputs.items():
                content = wav_bytes(augmented, rate) if suffix == ".wav" else render(augmented, task.config)
                batch.write(folder / task.label / chunk_name(recording, number, suffix, copy), content)
    return len(task.copies)
