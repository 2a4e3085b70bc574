"""Publishing of a trained model: LiteRT file, JSON, arrays and labels, and the other requested formats."""

from __future__ import annotations

import dataclasses
import logging
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from audionet._paths import arrays_path, enrolled_path, lite_path
from audionet.audio.network_input import image_features
from audionet.backbones.registry import describe
from audionet.classifier.calibration import apply_temperature
from audionet.classifier.model_files import MODEL_FORMAT, ModelArrays, read_card, short_keys, thin_scores, write_arrays
from audionet.classifier.open_set import segments_needed
from audionet.data.dataset import read_augmentation, recordings_in
from audionet.data.split import SETS
from audionet.errors import ModelError
from audionet.export.litert import join_head
from audionet.export.litert import predict as predict_litert
from audionet.export.tf_formats import predict, write_model
from audionet.training.config import RetrainConfig
from audionet.training.results import Trained
from audionet.training.tensorboard_log import add_image, add_projector
from audionet.utils.arrays import FloatArray, evenly
from audionet.utils.files import atomic_path, content_hash, exclusive_lock, sha256, write_bytes, write_json
from audionet.utils.plots import confusion_plot, curves_plot

log = logging.getLogger(__name__)

_CHECKED_IMAGES = 16

_TOLERANCE = 0.02
"""Largest allowed difference between the LiteRT file's and the trainer's probabilities.

The float16 bottleneck cache alone causes less than 0.005.
"""

_FLOAT_TOLERANCE = 0.2
"""The same for the other formats, which hold the network's weights in float32 where LiteRT rounds them to int8."""


def publish(trained: Trained, config: RetrainConfig) -> None:
    """Write the model, its JSON, arrays and labels, once the written model predicts like the trained one.

    Raises
    ------
    ModelError
        If the written model's probabilities differ.
    OSError
        If a file cannot be written.
    """
    with exclusive_lock(config.checkpoint_dir, wait=True):
        _publish(trained, config)
    for path in trained.temporary_files:
        path.unlink(missing_ok=True)


def _publish(trained: Trained, config: RetrainConfig) -> None:
    graph, suffix, name = config.output_graph, config.output_graph.suffix, config.final_tensor_name
    samples = evenly(len(trained.points), _CHECKED_IMAGES)
    expected = trained.head.probabilities(trained.features[samples])
    temperature = trained.temperature
    jpgs = [trained.points[i].path.read_bytes() for i in samples]
    images = [image_features(jpg, trained.backbone.input_size) for jpg in jpgs]
    exports: dict[str, dict[str, Any]] = {}
    previous = read_card(graph)
    with atomic_path(lite_path(graph)) as temporary:
        temporary.write_bytes(join_head(trained.backbone, trained.head, name, trained.open_set.comparison.space))
        probabilities = predict_litert(temporary, images, trained.backbone.statistics)
        exact = trained.data.bottlenecks.engine == "LiteRT"
        difference = _difference(probabilities, expected, temperature, _TOLERANCE if exact else _FLOAT_TOLERANCE)
        fingerprint = content_hash(temporary)
        if suffix != ".tflite":
            with atomic_path(graph) as other:
                write_model(other, suffix, trained.backbone, trained.head, name)
                probabilities = predict(other, suffix, name, jpgs, images, trained.backbone)
                apart = _difference(probabilities, expected, temperature, _FLOAT_TOLERANCE)
                exports[graph.name] = {"sha256": content_hash(other), "difference": apart}
    for other_name, export in previous.get("exports", {}).items():
        if fingerprint == previous.get("graph_sha256"):  # the same model: its other formats stay valid
            exports.setdefault(other_name, export)
        elif other_name not in exports and graph.with_name(other_name).exists():
            log.warning(
                f"{graph.with_name(other_name)}: is of an earlier training and can no longer be used: "
                "export it again or delete it"
            )
    if previous.get("decision"):
        log.warning(
            f"{config.output_model}: the decision costs of the earlier model are dropped: "
            "run evaluate.py with --cost again"
        )
    if fingerprint != previous.get("graph_sha256"):
        _set_aside_enrolled(enrolled_path(graph))
    write_arrays(arrays_path(graph), _model_arrays(trained))
    card = _card(trained, config, fingerprint, difference, exports)
    write_json(config.output_model, card | {"arrays_sha256": content_hash(arrays_path(graph))})
    write_bytes(
        config.output_labels, "".join(f"{label}\n" for label in trained.data.labels).encode("utf-8", "surrogateescape")
    )


def summarise(trained: Trained) -> list[Path]:
    """Write plots, and log them and the bottlenecks for TensorBoard; return the PNG files."""
    data, folder = trained.data, trained.summaries
    plots = [(folder / "curves.png", curves_plot(trained.fitted.points, trained.fitted.best_step))]
    points = folder / "points"
    if trained.test is not None:
        confusion = confusion_plot(data.targets_of("testing"), trained.test.predicted, data.labels)
        plots.append((folder / "confusion.png", confusion))
        add_image(points, "confusion", confusion)
    for path, png in plots:
        write_bytes(path, png)
    names = [image.name for image in trained.points]
    add_projector(points, trained.features, [image.label for image in trained.points], names)
    return [path for path, _ in plots]


def _difference(found: FloatArray, expected: FloatArray, temperature: float, tolerance: float) -> float:
    # At temperature 1: calibration enlarges small differences where it makes the probabilities more confident.
    found, expected = (apply_temperature(probabilities, 1 / temperature) for probabilities in (found, expected))
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise ModelError(
            f"the exported model's probabilities differ from the trained one's by {difference:.3f}: nothing was "
            "published; delete the converted backbone under --model_dir and run again"
        )
    return difference


def _set_aside_enrolled(path: Path) -> None:
    """Rename the file of speakers enrolled in the previous model, whose embeddings are of another space."""
    if path.exists():
        kept = path.with_name(f"{path.stem}-{sha256(path)[:8]}{path.suffix}")
        path.replace(kept)
        log.warning(f"{path}: its speakers were enrolled in the earlier model: kept as {kept.name}, enrol them again")


def _model_arrays(trained: Trained) -> ModelArrays:
    """Collect the arrays of retrained_model.npz."""
    data, found = trained.data, trained.open_set
    empty = np.zeros(0, np.float32)
    seen = [of[name] for of in (data.rows, data.background) for name in SETS[:2]]
    return ModelArrays(
        found.comparison.voices,
        empty if found.trials is None else thin_scores(found.trials.unknown),
        empty if found.trials is None else thin_scores(found.trials.impostors),
        thin_scores(found.known),
        np.sort(short_keys(data.bottlenecks.keys[np.concatenate(seen)])),
        trained.baseline,
    )


def _open_set(trained: Trained) -> dict[str, Any]:
    """Collect the JSON's section on the open set."""
    found, data = trained.open_set, trained.data
    rejected = None if found.threshold is None else int((found.known < found.threshold).sum())
    return {
        "threshold": found.threshold,
        "asked_rate": found.rate,
        "stretches_left_out": 0 if found.trials is None else len(found.trials.unknown),
        "stretches_needed": segments_needed(found.trials, found.rate) if found.trials and found.rate else None,
        "area_under_curve": found.area,
        "known": {"refused": rejected, "stretches": len(found.known)},
        "background_recordings": recordings_in(
            data.bottlenecks.images[i] for rows in data.background.values() for i in rows
        ),
        "network_had_heard_those_left_out": trained.trained_on_left_out,
    }


def _card(
    trained: Trained, config: RetrainConfig, fingerprint: str, difference: float, exports: dict[str, Any]
) -> dict[str, Any]:
    """Collect the content of retrained_model.json."""
    data, fitted = trained.data, trained.fitted
    config_used = dataclasses.asdict(trained.config)
    settings = {
        name: value for name, value in config_used.items() if isinstance(value, int | float | str | bool | None)
    }
    packages = ("tensorflow", "keras", "ai-edge-litert", "numpy", "pillow", "soundfile", "soxr")
    return {
        "format": MODEL_FORMAT,
        "graph_sha256": fingerprint,
        "exports": exports,
        "labels": data.labels,
        "picture": None if data.spectrogram is None else dataclasses.asdict(data.spectrogram),
        "augmentation": read_augmentation(config.image_dir),
        "backbone": describe(trained.backbone),
        "split": {
            "by": "recording",
            "heard_in_training": data.split.seen_in_training,
            **{
                name: {"chunks": len(images), "recordings": recordings_in(images)}
                for name, images in data.split.sets.items()
            },
        },
        "training": {
            **settings,
            "learning_rate": trained.config.rate,
            "best_step": fitted.best_step,
            "last_step": fitted.last_step,
            "validation_accuracy": trained.validation_accuracy,
        },
        "test": None
        if trained.test is None
        else {
            "network": dataclasses.asdict(trained.test.network),
            "mfcc_statistics": None if trained.test.baseline is None else dataclasses.asdict(trained.test.baseline),
            "leaky_split": None if trained.test.leaky is None else dataclasses.asdict(trained.test.leaky),
        },
        "calibration": {
            "temperature": trained.temperature,
            "recordings": recordings_in(data.split.sets["validation"]),
        },
        "open_set": _open_set(trained),
        "decision": None,
        "export_difference": difference,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
    }
