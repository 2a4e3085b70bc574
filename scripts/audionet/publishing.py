"""A trained model to files: as LiteRT with its JSON and labels, and in the other forms that were asked for."""

from __future__ import annotations

import dataclasses
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from .backbones import description
from .config import RetrainConfig, lite_path
from .console import warn
from .dataset import evenly, read_augmentation, recordings_in
from .errors import ModelError
from .export import answers as lite_answers
from .export import join
from .features import picture_features
from .files import atomic_path, content_hash, only_run_in, write_bytes, write_json
from .plots import confusion_plot, curves_plot
from .prediction import MODEL_FORMAT, card_beside
from .spectrogram import FloatArray
from .summaries import add_image, add_projector
from .tensorflow_export import answers, write_model
from .training import Trained

_SAMPLES = 16

_TOLERANCE = 0.02
"""How far the LiteRT file's probabilities may be from the trainer's; the cache's fp16 costs under 0.005."""

_TOLERANCE_IN_FLOAT = 0.2
"""The same for the other forms, which hold the network's weights in float32 where LiteRT rounds them to int8."""


def publish(trained: Trained, config: RetrainConfig) -> None:
    """Write the model, its JSON and its labels, once what was written has answered like the trained one.

    Raises
    ------
    ModelError
        If it does not.
    OSError
        If a file cannot be written.
    """
    with only_run_in(config.checkpoint_dir, wait=True):
        _publish(trained, config)
    for path in trained.leftovers:
        path.unlink(missing_ok=True)


def _publish(trained: Trained, config: RetrainConfig) -> None:
    graph, suffix, name = config.output_graph, config.output_graph.suffix, config.final_tensor_name
    samples = evenly(len(trained.points), _SAMPLES)
    expected = trained.head.probabilities(trained.features[samples])
    jpgs = [trained.points[i].path.read_bytes() for i in samples]
    pictures = [picture_features(jpg, trained.backbone.input_size) for jpg in jpgs]
    exports: dict[str, dict[str, Any]] = {}
    before = card_beside(graph)
    with atomic_path(lite_path(graph)) as temporary:
        temporary.write_bytes(join(trained.backbone, trained.head, name))
        found = lite_answers(temporary, pictures, trained.backbone.band_statistics)
        exact = trained.data.bottlenecks.engine == "LiteRT"
        difference = _difference(found, expected, _TOLERANCE if exact else _TOLERANCE_IN_FLOAT)
        fingerprint = content_hash(temporary)
        if suffix != ".tflite":
            with atomic_path(graph) as other:
                write_model(other, suffix, trained.backbone, trained.head, name)
                given = answers(other, suffix, name, jpgs, pictures, trained.backbone)
                apart = _difference(given, expected, _TOLERANCE_IN_FLOAT)
                exports[graph.name] = {"sha256": content_hash(other), "difference": apart}
    for other_name, export in before.get("exports", {}).items():
        if fingerprint == before.get("graph_sha256"):  # the same model: its other forms still are
            exports.setdefault(other_name, export)
        elif other_name not in exports and graph.with_name(other_name).exists():
            warn(f"{graph.with_name(other_name)}: is of an earlier training, and is no longer answered for")
    write_json(config.output_model, _card(trained, config, fingerprint, difference, exports))
    write_bytes(
        config.output_labels, "".join(f"{label}\n" for label in trained.data.labels).encode("utf-8", "surrogateescape")
    )


def summarise(trained: Trained) -> list[Path]:
    """Write what there is to look at beside the curves that TensorBoard has already; returns the PNGs."""
    data, folder = trained.data, trained.summaries
    pictures = [(folder / "curves.png", curves_plot(trained.fitted.points, trained.fitted.best_step))]
    points = folder / "points"
    if trained.test is not None:
        confusion = confusion_plot(data.targets_of("testing"), trained.test.given, data.labels)
        pictures.append((folder / "confusion.png", confusion))
        add_image(points, "confusion", confusion)
    for path, png in pictures:
        write_bytes(path, png)
    names = [picture.name for picture in trained.points]
    add_projector(points, trained.features, [picture.label for picture in trained.points], names)
    return [path for path, _ in pictures]


def _difference(found: FloatArray, expected: FloatArray, tolerance: float) -> float:
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise ModelError(
            f"the exported model's probabilities differ from the trained one's by {difference:.3f}: nothing was "
            "published; delete the converted backbone under --model_dir and run again"
        )
    return difference


def _card(
    trained: Trained, config: RetrainConfig, fingerprint: str, difference: float, exports: dict[str, Any]
) -> dict[str, Any]:
    """What retrained_model.json says."""
    data, fitted = trained.data, trained.fitted
    used = dataclasses.asdict(trained.config)
    settings = {name: value for name, value in used.items() if isinstance(value, int | float | str | bool | None)}
    packages = ("tensorflow", "keras", "ai-edge-litert", "numpy", "pillow", "soundfile", "soxr")
    return {
        "format": MODEL_FORMAT,
        "graph_sha256": fingerprint,
        "exports": exports,
        "labels": data.labels,
        "picture": None if data.picture is None else dataclasses.asdict(data.picture),
        "augmentation": read_augmentation(config.image_dir),
        "backbone": description(trained.backbone),
        "split": {
            "by": "recording",
            "heard_in_training": data.split.heard_in_training,
            **{
                name: {"chunks": len(pictures), "recordings": recordings_in(pictures)}
                for name, pictures in data.split.sets.items()
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
        },
        "export_difference": difference,
        "versions": {"python": platform.python_version(), **{name: metadata.version(name) for name in packages}},
    }
