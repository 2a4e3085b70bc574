"""A trained model to files: as LiteRT with its JSON and labels, and in the other forms that were asked for."""

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
from audionet.export.litert import predict as lite_answers
from audionet.export.tf_formats import predict, write_model
from audionet.training.config import RetrainConfig
from audionet.training.results import Trained
from audionet.training.tensorboard_log import add_image, add_projector
from audionet.utils.arrays import FloatArray, evenly
from audionet.utils.files import atomic_path, content_hash, exclusive_lock, sha256, write_bytes, write_json
from audionet.utils.plots import confusion_plot, curves_plot

log = logging.getLogger(__name__)


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
    with exclusive_lock(config.checkpoint_dir, wait=True):
        _publish(trained, config)
    for path in trained.leftovers:
        path.unlink(missing_ok=True)


def _publish(trained: Trained, config: RetrainConfig) -> None:
    graph, suffix, name = config.output_graph, config.output_graph.suffix, config.final_tensor_name
    samples = evenly(len(trained.points), _SAMPLES)
    expected = trained.head.probabilities(trained.features[samples])
    temperature = trained.temperature
    jpgs = [trained.points[i].path.read_bytes() for i in samples]
    images = [image_features(jpg, trained.backbone.input_size) for jpg in jpgs]
    exports: dict[str, dict[str, Any]] = {}
    before = read_card(graph)
    with atomic_path(lite_path(graph)) as temporary:
        temporary.write_bytes(join_head(trained.backbone, trained.head, name, trained.open_set.comparison.space))
        found = lite_answers(temporary, images, trained.backbone.statistics)
        exact = trained.data.bottlenecks.engine == "LiteRT"
        difference = _difference(found, expected, temperature, _TOLERANCE if exact else _TOLERANCE_IN_FLOAT)
        fingerprint = content_hash(temporary)
        if suffix != ".tflite":
            with atomic_path(graph) as other:
                write_model(other, suffix, trained.backbone, trained.head, name)
                given = predict(other, suffix, name, jpgs, images, trained.backbone)
                apart = _difference(given, expected, temperature, _TOLERANCE_IN_FLOAT)
                exports[graph.name] = {"sha256": content_hash(other), "difference": apart}
    for other_name, export in before.get("exports", {}).items():
        if fingerprint == before.get("graph_sha256"):  # the same model: its other forms still are
            exports.setdefault(other_name, export)
        elif other_name not in exports and graph.with_name(other_name).exists():
            log.warning(f"{graph.with_name(other_name)}: is of an earlier training, and is no longer answered for")
    if before.get("decision"):
        log.warning(f"{config.output_model}: what mistakes cost is forgotten: run evaluate.py with --cost again")
    if fingerprint != before.get("graph_sha256"):
        _put_aside(enrolled_path(graph))
    write_arrays(arrays_path(graph), _arrays(trained))
    card = _card(trained, config, fingerprint, difference, exports)
    write_json(config.output_model, card | {"arrays_sha256": content_hash(arrays_path(graph))})
    write_bytes(
        config.output_labels, "".join(f"{label}\n" for label in trained.data.labels).encode("utf-8", "surrogateescape")
    )


def summarise(trained: Trained) -> list[Path]:
    """Write what there is to look at beside the curves that TensorBoard has already; returns the PNGs."""
    data, folder = trained.data, trained.summaries
    images = [(folder / "curves.png", curves_plot(trained.fitted.points, trained.fitted.best_step))]
    points = folder / "points"
    if trained.test is not None:
        confusion = confusion_plot(data.targets_of("testing"), trained.test.given, data.labels)
        images.append((folder / "confusion.png", confusion))
        add_image(points, "confusion", confusion)
    for path, png in images:
        write_bytes(path, png)
    names = [image.name for image in trained.points]
    add_projector(points, trained.features, [image.label for image in trained.points], names)
    return [path for path, _ in images]


def _difference(found: FloatArray, expected: FloatArray, temperature: float, tolerance: float) -> float:
    # Before calibration, which makes small differences large where it makes answers surer.
    found, expected = (apply_temperature(predict, 1 / temperature) for predict in (found, expected))
    difference = float(np.abs(found - expected).max())
    if not difference <= tolerance:
        raise ModelError(
            f"the exported model's probabilities differ from the trained one's by {difference:.3f}: nothing was "
            "published; delete the converted backbone under --model_dir and run again"
        )
    return difference


def _put_aside(path: Path) -> None:
    """Keep voices that were enrolled in the model before this one, which cannot be compared with its embeddings."""
    if path.exists():
        kept = path.with_name(f"{path.stem}-{sha256(path)[:8]}{path.suffix}")
        path.replace(kept)
        log.warning(f"{path}: its voices were enrolled in the earlier model: kept as {kept.name}, enrol them again")


def _arrays(trained: Trained) -> ModelArrays:
    """What retrained_model.npz holds."""
    data, found = trained.data, trained.open_set
    nobody = np.zeros(0, np.float32)
    heard = [of[name] for of in (data.rows, data.background) for name in SETS[:2]]
    return ModelArrays(
        found.comparison.voices,
        nobody if found.trials is None else thin_scores(found.trials.unknown),
        nobody if found.trials is None else thin_scores(found.trials.impostors),
        thin_scores(found.known),
        np.sort(short_keys(data.bottlenecks.keys[np.concatenate(heard)])),
        trained.baseline,
    )


def _open_set(trained: Trained) -> dict[str, Any]:
    """What the JSON says of unknown voices."""
    found, data = trained.open_set, trained.data
    refused = None if found.threshold is None else int((found.known < found.threshold).sum())
    return {
        "threshold": found.threshold,
        "asked_rate": found.rate,
        "stretches_left_out": 0 if found.trials is None else len(found.trials.unknown),
        "stretches_needed": segments_needed(found.trials, found.rate) if found.trials and found.rate else None,
        "area_under_curve": found.area,
        "known": {"refused": refused, "stretches": len(found.known)},
        "background_recordings": recordings_in(
            data.bottlenecks.images[i] for rows in data.background.values() for i in rows
        ),
        "network_had_heard_those_left_out": trained.trained_on_left_out,
    }


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
