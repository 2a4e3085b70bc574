"""Recordings to evaluate on: a folder of labels, or one set of the training split."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from audionet.audio.config import parse_channel
from audionet.audio.decoding import AUDIO_SUFFIXES, FileSource, choose_channels
from audionet.audio.sound import ChannelSetting
from audionet.data.dataset import ChunkImage, find_images, read_assigned
from audionet.data.given_split import given_sets, given_split
from audionet.data.grouping import group_recordings
from audionet.data.naming import (
    is_chunk_name,
    joined_folders,
    parse_chunk_name,
    recording_names,
)
from audionet.data.split import split_images
from audionet.errors import DatasetError, RecordingError
from audionet.evaluation.config import EvaluateConfig
from audionet.inference.clip import IMAGE_SUFFIXES
from audionet.inference.predictor import Predictor
from audionet.utils.files import walk
from audionet.utils.text import escape, find_name


def held_out_recordings(predictor: Predictor, config: EvaluateConfig) -> tuple[str, list[HeldOutRecording]]:
    """Find the recordings to evaluate on, in a folder of labels or the test set; returns their origin and them.

    Raises
    ------
    DatasetError
        If there are none.
    """
    if config.test_dir is not None:
        found = find_test_recordings(config.test_dir, step_seconds(predictor), parse_channel(config.channel))
        source = escape(config.test_dir)
        remedy = "give it one folder of recordings per label"
    else:
        found = recordings_of_set(predictor, config, "testing")
        source = f"the test part of {escape(config.image_dir)}"
        remedy = "train with --testing_percentage above 0, or name a folder of other recordings with --test_dir"
    if not found:
        raise DatasetError(f"{source} holds no recordings: {remedy}")
    return source, _with_labels_of(predictor, found)


def recordings_of_set(predictor: Predictor, config: EvaluateConfig, name: str) -> list[HeldOutRecording]:
    """Find the recordings of one set of the training split, such as ``validation``, among the training images."""
    training = predictor.card["training"]
    images: list[ChunkImage] = find_images(config.image_dir)
    apart = predictor.spectrogram.apart if predictor.spectrogram else 2
    assigned = read_assigned(config.image_dir)
    groups = group_recordings(images, training.get("group"), assigned).groups
    if training.get("split") == "given":
        split = given_split(images, given_sets(images, assigned), groups)
    else:
        percentages = training["validation_percentage"], training["testing_percentage"]
        split = split_images(images, *percentages, apart, groups)
    return _with_labels_of(predictor, group_by_recording(split.sets[name], step_seconds(predictor)))


def _with_labels_of(predictor: Predictor, recordings: list[HeldOutRecording]) -> list[HeldOutRecording]:
    """Spell labels as the model does, where they differ only in the encoding of their accents."""
    spelled = {label: find_name(label, predictor.labels) or label for label in {one.label for one in recordings}}
    return [dataclasses.replace(one, label=spelled[one.label]) for one in recordings]


def step_seconds(predictor: Predictor) -> float:
    """Return the time between the starts of two chunks, seconds; 0 where it is not known."""
    image = predictor.spectrogram
    return image.step_length / image.sample_rate if image else 0.0


@dataclass(frozen=True)
class HeldOutRecording:
    """Held-out recording: one audio file, or the files of its chunks or of their images.

    Attributes
    ----------
    label, name : str
    paths : tuple of Path
    starts : tuple of float
        Start of each chunk, seconds into the recording; empty for one audio file.
    source : Source or None
        What an audio file is read as.
    """

    label: str
    name: str
    paths: tuple[Path, ...]
    starts: tuple[float, ...] = ()
    source: FileSource | None = None


def find_test_recordings(folder: Path, step_seconds: float, channel: ChannelSetting = "auto") -> list[HeldOutRecording]:
    """Find every recording in a folder of labels: audio files, and chunks or images as data_maker.py writes them.

    Raises
    ------
    DatasetError
        If the folder does not exist.
    """
    found: list[HeldOutRecording] = []
    folders = joined_folders(folder)
    for label, spelling in ((label, spelling) for label, spellings in folders.items() for spelling in spellings):
        chunks = []
        for inside, path in walk(folder / spelling):
            suffix, stem = path.suffix.lower(), os.path.splitext(inside)[0]
            if suffix in IMAGE_SUFFIXES or (suffix in AUDIO_SUFFIXES and is_chunk_name(stem)):
                name, index, copy = parse_chunk_name(stem)
                if not copy:
                    chunks.append(ChunkImage(label, name, index, path.parent, path.name))
            elif suffix in AUDIO_SUFFIXES:
                found += _channels(label, inside, path, channel)
        found += group_by_recording(chunks, step_seconds)
    return found


def _channels(label: str, inside: str, path: Path, channel: ChannelSetting) -> list[HeldOutRecording]:
    try:
        sources = choose_channels(path, channel)
    except RecordingError:
        sources = [path]  # scoring it will report why
    names = recording_names(inside, len(sources))
    return [HeldOutRecording(label, name, (path,), source=source) for name, source in zip(names, sources, strict=True)]


def group_by_recording(images: Sequence[ChunkImage], step_seconds: float) -> list[HeldOutRecording]:
    """Group chunks or images by recording."""
    ordered = sorted(images, key=lambda p: (p.label, p.recording, p.index))
    recordings = []
    for (label, name), group in groupby(ordered, key=lambda p: (p.label, p.recording)):
        chunks = list(group)
        starts = tuple(chunk.index * step_seconds for chunk in chunks)
        recordings.append(HeldOutRecording(label, name, tuple(chunk.path for chunk in chunks), starts))
    return recordings
