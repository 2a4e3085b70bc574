"""From a folder of pictures to a published model: split, bottlenecks, top layer, test, export."""

from __future__ import annotations

import dataclasses
import platform
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backbones import Backbone, description, prepare
from .bottlenecks import Bottlenecks, bottlenecks_of
from .config import PictureConfig, RetrainConfig, available_cores
from .console import count, table, warn
from .dataset import (
    SETS,
    Picture,
    Split,
    find_pictures,
    read_augmentation,
    read_picture_config,
    recordings_in,
    split_pictures,
    without_copies,
)
from .errors import DatasetError, ModelError, UsageError
from .export import join, largest_difference
from .features import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH, picture_features
from .files import atomic_path, make_folder, printable, sha256, write_bytes, write_json
from .head import Examples, Head, train_head
from .metrics import Accuracy, accuracy, mean_by_group
from .prediction import MODEL_FORMAT
from .spectrogram import FloatArray, UInt8Array

_SAMPLES = 16
_TOLERANCE = 0.02
"""How far an exported model's probabilities may be from the trainer's; the cache's fp16 costs under 0.005."""


@dataclass(frozen=True)
class Measured:
    """Accuracy on the test set, by chunk and by recording (chunks' probabilities averaged)."""

    chunks: Accuracy
    recordings: Accuracy


@dataclass(frozen=True)
class Test:
    """The network's and the baseline's results on the same test set, and the network's mistakes."""

    network: Measured
    baseline: Measured | None
    misclassified: list[tuple[Picture, str]]


@dataclass(frozen=True)
class Trained:
    """All that a training came to."""

    labels: list[str]
    picture: PictureConfig | None
    backbone: Backbone
    split: Split
    head: Head
    test: Test | None
    bottlenecks: Bottlenecks


def train(config: RetrainConfig) -> Trained:
    """Train a head on the pictures of ``config.image_dir`` and test it, beside the MFCC-statistics baseline.

    Raises
    ------
    DatasetError
        If the pictures cannot be trained on.
    BackboneError
        If the backbone cannot be had.
    """
    _check_outputs(config)
    picture_config = read_picture_config(config.image_dir)
    pictures = find_pictures(config.image_dir)
    backbone = prepare(
        config.architecture, config.model_dir, config.input_size, lambda size: _sample_pixels(pictures, size)
    )
    bottlenecks = bottlenecks_of(pictures, backbone, config.bottleneck_dir, available_cores(), config.scheduler)
    rate = f" at {bottlenecks.computed / bottlenecks.seconds:.0f} a second" if bottlenecks.computed else ""
    made = f"{bottlenecks.computed} computed{rate}, {bottlenecks.cached} from {printable(config.bottleneck_dir)}"
    print(f"Bottlenecks: {made}")
    labels = sorted({picture.label for picture in bottlenecks.pictures})
    if len(labels) < 2:
        raise DatasetError(f"{printable(config.image_dir)}: only '{printable(labels[0])}' has readable pictures")
    apart = picture_config.apart if picture_config else 2
    split = split_pictures(bottlenecks.pictures, config.validation_percentage, config.testing_percentage, apart)
    keys = [key.tobytes() for key in bottlenecks.records["key"]]
    split, copies = without_copies(split, dict(zip((p.path for p in bottlenecks.pictures), keys, strict=True)))
    print(_split_table(labels, split))
    if copies:
        print(f"Left out {count(copies, 'picture')} with copies in another set: they would prove nothing.")
    for here, there in sorted(_contradictions(bottlenecks.pictures, keys)):
        warn(f"{here}: lies under {there} too, so one of the two labels is wrong: remove it there")
    row = {picture.path: i for i, picture in enumerate(bottlenecks.pictures)}
    number = {label: i for i, label in enumerate(labels)}
    rows = {name: np.array([row[picture.path] for picture in split.sets[name]], int) for name in SETS}
    targets = np.array([number[picture.label] for picture in bottlenecks.pictures])

    def examples(features: FloatArray) -> dict[str, Examples]:
        return {name: Examples(features[rows[name]], targets[rows[name]]) for name in SETS}

    widths = [backbone.width, BAND_STATISTICS_WIDTH] if backbone.band_statistics else [backbone.width]
    network = examples(joined(bottlenecks.records, backbone))
    summaries = config.summaries_dir / time.strftime("%Y%m%d-%H%M%S")
    head = train_head(network["training"], network["validation"], len(labels), widths, config, summaries)
    if head.validation_accuracy is not None:
        print(f"Best validation: {head.validation_accuracy:.1%} of chunks at step {head.best_step}")
    baseline = None
    if picture_config is not None and picture_config.representation == "mel" and len(rows["testing"]):
        mfcc = examples(bottlenecks.records["mfcc"])
        other = train_head(mfcc["training"], mfcc["validation"], len(labels), [MFCC_STATISTICS_WIDTH], config)
        baseline = other.probabilities(mfcc["testing"].features)
    probabilities = head.probabilities(network["testing"].features)
    test = _test(probabilities, baseline, split.sets["testing"], labels) if len(rows["testing"]) else None
    return Trained(labels, picture_config, backbone, split, head, test, bottlenecks)


def _check_outputs(config: RetrainConfig) -> None:
    """Find out before the work, not after it, that its result cannot be written."""
    for path in (config.output_graph, config.output_model, config.output_labels):
        make_folder(path.parent)
        if path.is_dir():
            raise UsageError(f"{printable(path)} is a folder: name a file to write to")
    make_folder(config.summaries_dir)


def _contradictions(pictures: Sequence[Picture], keys: Sequence[bytes]) -> set[tuple[str, str]]:
    """Pairs of recordings, by label and name, that lie under two labels and share a picture."""
    first: dict[bytes, Picture] = {}
    pairs = set()
    for picture, key in zip(pictures, keys, strict=True):
        other = first.setdefault(key, picture)
        if other.label != picture.label:
            pairs.add((f"{other.label}/{other.recording}", f"{picture.label}/{picture.recording}"))
    return pairs


def joined(records: NDArray[Any], backbone: Backbone) -> FloatArray:
    """The bottleneck: the network's features and, where the backbone wants them, the band statistics."""
    network: FloatArray = records["network"].astype(np.float32)
    return np.concatenate([network, records["bands"]], axis=1) if backbone.band_statistics else network


def publish(trained: Trained, config: RetrainConfig) -> None:
    """Write the model, its JSON and its labels, once the written model has answered like the trained one.

    Raises
    ------
    ModelError
        If it does not.
    OSError
        If a file cannot be written.
    """
    with atomic_path(config.output_graph) as temporary:
        temporary.write_bytes(join(trained.backbone, trained.head, config.final_tensor_name))
        difference = _check(trained, temporary)
        fingerprint = sha256(temporary)
    write_json(config.output_model, _card(trained, config, fingerprint, difference))
    write_bytes(
        config.output_labels, "".join(f"{label}\n" for label in trained.labels).encode("utf-8", "surrogateescape")
    )


def _check(trained: Trained, path: Path) -> float:
    pictures = trained.bottlenecks.pictures
    chosen = _spread(len(pictures))
    records = trained.bottlenecks.records[chosen]
    inputs = [picture_features(pictures[i].path.read_bytes(), trained.backbone.input_size) for i in chosen]
    expected = trained.head.probabilities(joined(records, trained.backbone))
    difference = largest_difference(path, inputs, trained.backbone.band_statistics, expected)
    if not difference <= _TOLERANCE:
        raise ModelError(
            f"the exported model's probabilities differ from the trained one's by {difference:.3f}: nothing was "
            "published; delete the converted backbone under --model_dir and run again"
        )
    return difference


def _spread(total: int) -> NDArray[np.int64]:
    """A few places among `total`, evenly from the first to the last."""
    return np.unique(np.linspace(0, total - 1, _SAMPLES).astype(np.int64))


def _sample_pixels(pictures: Sequence[Picture], size: tuple[int, int]) -> UInt8Array:
    """A few of the user's pictures, spread over the labels."""
    pixels = []
    for i in _spread(len(pictures)):
        try:
            pixels.append(picture_features(pictures[i].path.read_bytes(), size).pixels[0])
        except (OSError, DatasetError):
            continue  # said later, when its bottleneck is wanted
    if not pixels:
        raise DatasetError("the pictures cannot be read: make them again with data_maker.py --force")
    return np.stack(pixels)


def _test(
    probabilities: FloatArray, baseline: FloatArray | None, pictures: Sequence[Picture], labels: Sequence[str]
) -> Test:
    given = [labels[place] for place in probabilities.argmax(axis=1)]
    return Test(
        _measure(probabilities, pictures, labels),
        None if baseline is None else _measure(baseline, pictures, labels),
        [(picture, label) for picture, label in zip(pictures, given, strict=True) if picture.label != label],
    )


def _measure(probabilities: FloatArray, pictures: Sequence[Picture], labels: Sequence[str]) -> Measured:
    recordings = [(picture.label, picture.recording) for picture in pictures]
    given = probabilities.argmax(axis=1)
    right = np.array([labels[g] == picture.label for g, picture in zip(given, pictures, strict=True)])
    names, averaged = mean_by_group(probabilities, recordings)
    whole = np.array([labels[g] == label for g, (label, _) in zip(averaged.argmax(axis=1), names, strict=True)])
    return Measured(accuracy(right, recordings), accuracy(whole))


def _split_table(labels: Sequence[str], split: Split) -> str:
    rows = []
    for label in labels:
        of_label = {name: [p for p in split.sets[name] if p.label == label] for name in SETS}
        rows.append([label, *(f"{len(p)} ({recordings_in(p)})" for p in of_label.values())])
    return table(["chunks (recordings)", *SETS], rows)


def _card(trained: Trained, config: RetrainConfig, fingerprint: str, difference: float) -> dict[str, Any]:
    """What retrained_model.json says."""
    asked = dataclasses.asdict(config)
    settings = {name: value for name, value in asked.items() if isinstance(value, int | float | str | bool | None)}
    packages = ("tensorflow", "keras", "ai-edge-litert", "numpy", "pillow", "soundfile", "soxr")
    return {
        "format": MODEL_FORMAT,
        "graph_sha256": fingerprint,
        "labels": trained.labels,
        "picture": None if trained.picture is None else dataclasses.asdict(trained.picture),
        "augmentation": read_augmentation(config.image_dir),
        "backbone": description(trained.backbone),
        "split": {
            "by": "recording",
            "heard_in_training": trained.split.heard_in_training,
            **{
                name: {"chunks": len(pictures), "recordings": recordings_in(pictures)}
                for name, pictures in trained.split.sets.items()
            },
        },
        "training": {
            **settings,
            "best_step": trained.head.best_step,
            "validation_accuracy": trained.head.validation_accuracy,
        },
        "test": None
        if trained.test is None
        else {
            "network": dataclasses.asdict(trained.test.network),
            "mfcc_statistics": None if trained.test.baseline is None else dataclasses.asdict(trained.test.baseline),
        },
        "export_difference": difference,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
    }
