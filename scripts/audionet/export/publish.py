"""Publishing of a trained model: LiteRT file, JSON, arrays and labels, and the other requested formats."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import platform
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from audionet._paths import arrays_path, enrolled_path, lite_path, out_of_fold_path
from audionet.audio.network_input import image_features
from audionet.backbones.registry import describe
from audionet.classifier.head import Layer
from audionet.classifier.model_files import (
    MODEL_FORMAT,
    ModelArrays,
    pack_arrays,
    read_written,
    short_keys,
    thin_scores,
)
from audionet.classifier.out_of_fold import OutOfFoldAnswers, pack_out_of_fold
from audionet.classifier.threshold import segments_needed
from audionet.data.dataset import read_augmentation, recordings_in
from audionet.data.folds import Folds
from audionet.data.split import SETS
from audionet.export.formats import FLOAT_TOLERANCE, TOLERANCE, Sample, difference, write_format
from audionet.export.litert import join_head
from audionet.export.litert import predict as predict_litert
from audionet.metrics.multi_label import multi_label_json
from audionet.training.config import LEARNING_RATES, RetrainConfig
from audionet.training.results import CrossValidation, MultiLabelTraining, Trained
from audionet.training.tensorboard_log import add_image, add_projector, finish_run, log_curves
from audionet.utils.arrays import evenly
from audionet.utils.disk import sync_tree
from audionet.utils.files import WriteBatch, atomic_path, exclusive_lock, pack_json, sha256, write_bytes
from audionet.utils.plots import confusion_plot, curves_plot, learning_curve_plot

log = logging.getLogger(__name__)

_CHECKED_IMAGES = 16
_VERIFICATION_RATE = 0.05  # false acceptance rate of --verify where none was asked for


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
    graph, statistics = config.output_graph, trained.backbone.statistics
    samples = evenly(len(trained.points), _CHECKED_IMAGES)
    jpgs = [trained.points[i].path.read_bytes() for i in samples]
    images = [image_features(jpg, trained.backbone.input_size) for jpg in jpgs]
    sample = Sample(jpgs, images, trained.head.probabilities(trained.features[samples]))
    network = join_head(trained.backbone, trained.head, config.final_tensor_name, _output_layer(trained))
    tolerance = TOLERANCE if trained.data.bottlenecks.engine == "LiteRT" else FLOAT_TOLERANCE
    apart = difference(predict_litert(network, images, statistics), sample.expected, trained, tolerance)
    fingerprint = _sha256(network)
    exports: dict[str, dict[str, Any]] = {}
    labels = "".join(f"{label}\n" for label in trained.data.labels).encode("utf-8", "surrogateescape")
    arrays, stored = pack_arrays(_model_arrays(trained)), _pack_out_of_fold(trained)
    card = _card(trained, config, fingerprint, apart, exports) | {"arrays_sha256": _sha256(arrays)}
    if stored is not None:
        card["cross_validation"]["sha256"] = _sha256(stored)
    # All files are on the disk before the first takes its place, so that who reads a model meanwhile finds it whole.
    with WriteBatch() as files, contextlib.ExitStack() as other_format:
        if graph.suffix != ".tflite":
            other = other_format.enter_context(atomic_path(graph))
            exports[graph.name] = write_format(other, trained, config, network, card, sample)
            sync_tree(other)
        is_same = _compare_with_previous(config, fingerprint, exports)
        files.write(lite_path(graph), network)
        if stored is not None:
            files.write(out_of_fold_path(graph), stored)
        files.write(arrays_path(graph), arrays)
        files.write(config.output_model, pack_json(card))
        files.write(config.output_labels, labels)
        files.sync()
        if not is_same:
            _set_aside_enrolled(enrolled_path(graph))
    if stored is None:
        out_of_fold_path(graph).unlink(missing_ok=True)


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _compare_with_previous(config: RetrainConfig, fingerprint: str, exports: dict[str, dict[str, Any]]) -> bool:
    """Return whether the model is the published one; log what of that one is lost, and add its other formats."""
    graph = config.output_graph
    previous, has_costs = read_written(graph)
    is_same = previous is not None and fingerprint == previous.graph
    for other_name, export in ({} if previous is None else previous.exports).items():
        if is_same:  # its other formats stay valid
            exports.setdefault(other_name, export)
        elif other_name not in exports and graph.with_name(other_name).exists():
            log.warning(
                f"{graph.with_name(other_name)}: is of an earlier training and can no longer be used: "
                "export it again or delete it"
            )
    if has_costs:
        log.warning(
            f"{config.output_model}: the decision costs of the earlier model are dropped: "
            "run evaluate.py with --cost again"
        )
    return is_same


def _output_layer(trained: Trained) -> Layer:
    """Return the layer of the second output: embeddings and, where labels are spoken, the speech detector."""
    return trained.open_set.comparison.output_layer(trained.backbone.voice_space if trained.data.speech else None)


def _pack_out_of_fold(trained: Trained) -> bytes | None:
    """Return the content of the out-of-fold answers' file; None if the model was not cross-validated."""
    validated, keys = trained.cross_validation, trained.data.bottlenecks.keys
    if validated is None:
        return None
    found, short = validated.found, short_keys(keys[validated.found.rows])
    order = np.argsort(short, kind="stable")
    baseline = None if validated.baseline is None else validated.baseline[order]
    answers = (found.fold[order], found.probabilities[order], validated.scores[order], baseline)
    return pack_out_of_fold(OutOfFoldAnswers(short[order], trained.data.activity[found.rows][order], *answers))


def summarise(trained: Trained) -> list[Path]:
    """Write plots, and log them and the bottlenecks for TensorBoard; return the PNG files."""
    data, folder = trained.data, trained.summaries
    fitted = trained.fitted
    plots = [(folder / "curves.png", curves_plot(fitted.points, fitted.best_step, fitted.strengths))]
    if fitted.strengths:  # training in steps has logged its curves as it went
        log_curves(folder, fitted.points)
    if trained.config.learning_curve and trained.cross_validation is not None:
        plots.append((folder / "learning_curve.png", _learning_curve(trained, trained.cross_validation)))
    points = folder / "points"
    if trained.test is not None:
        confusion = confusion_plot(trained.test.true, trained.test.predicted, data.labels)
        plots.append((folder / "confusion.png", confusion))
        add_image(points, "confusion", confusion)
    for path, png in plots:
        write_bytes(path, png)
    names = [image.name for image in trained.points]
    add_projector(points, trained.features, [image.label for image in trained.points], names)
    finish_run(folder)
    return [path for path, _ in plots]


def _learning_curve(trained: Trained, validated: CrossValidation) -> bytes:
    folds = trained.data.folds
    assert folds is not None
    recordings = len({(image.label, image.recording) for image in trained.data.split.sets["training"]})
    trained_on = recordings / len(trained.data.labels) * (1 - 1 / len(folds))
    points = [(one.accuracy.share, one.accuracy.low, one.accuracy.high) for one in validated.learning_curve]
    return learning_curve_plot([max(1.0, one.share * trained_on) for one in validated.learning_curve], points)


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
        thin_scores(found.known.segments),
        np.sort(short_keys(data.bottlenecks.keys[np.concatenate(seen)])),
        trained.baseline,
    )


def _open_set(trained: Trained) -> dict[str, Any]:
    """Collect the JSON's section on the open set."""
    found, data = trained.open_set, trained.data
    rejection = found.rejection
    return {
        "rejection": None if rejection is None else rejection.as_json(),
        "voices": found.comparison.voice_space is not None,
        "asked_rate": _VERIFICATION_RATE if found.rate is None else found.rate,
        "spares_known": found.rate is None,
        "stretches_left_out": 0 if found.trials is None else len(found.trials.unknown),
        "stretches_accepted": int(found.passing.sum()),
        "stretches_needed": segments_needed(found.trials, found.rate) if found.trials and found.rate else None,
        "area_under_curve": found.area,
        "known": {"refused": None if rejection is None else found.refused, "stretches": len(found.known.segments)},
        "background_recordings": recordings_in(
            data.bottlenecks.images[i] for rows in data.background.values() for i in rows
        ),
        "network_had_heard_those_left_out": trained.trained_on_left_out,
    }


def _card(
    trained: Trained, config: RetrainConfig, fingerprint: str, apart: float, exports: dict[str, Any]
) -> dict[str, Any]:
    """Collect the content of retrained_model.json."""
    data, fitted = trained.data, trained.fitted
    validated, settings = trained.cross_validation, _scalars(trained.config)
    percentages = trained.config.percentages if data.folds is None else (0.0, 0.0)
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
            **_step_settings(trained),
            "best_step": fitted.best_step,
            "last_step": fitted.last_step,
            "validation_accuracy": trained.validation_accuracy,
            "validation_percentage": percentages[0],
            "testing_percentage": percentages[1],
        },
        "cross_validation": None if validated is None else _cross_validation(trained, validated),
        "test": None
        if trained.test is None
        else {
            "network": dataclasses.asdict(trained.test.network),
            "answers": dataclasses.asdict(trained.test.answers),
            "mfcc_statistics": None if trained.test.baseline is None else dataclasses.asdict(trained.test.baseline),
            "leaky_split": None if trained.test.leaky is None else dataclasses.asdict(trained.test.leaky),
        },
        "calibration": {
            **trained.calibration._asdict(),
            "recordings": recordings_in(
                [data.bottlenecks.images[i] for i in validated.found.rows.tolist()]
                if validated
                else data.split.sets["validation"]
            ),
        },
        "speech": data.speech and trained.backbone.voice_space is not None,
        "open_set": _open_set(trained),
        "decision": None,
        "multi_label": None if trained.multi_label is None else _multi_label(trained.multi_label, data.labels),
        "export_difference": apart,
        "versions": {"python": platform.python_version()} | _versions(),
    }


def _scalars(config: Any) -> dict[str, Any]:
    """Return the settings of a config that are numbers, words or nothing."""
    values = dataclasses.asdict(config)
    return {name: value for name, value in values.items() if isinstance(value, int | float | str | bool | None)}


def _step_settings(trained: Trained) -> dict[str, Any]:
    """Return the settings of a head that was trained in steps."""
    if trained.data.exact and trained.config.exact:
        return {}
    stepping = trained.config.stepping
    width = len(trained.head.offset)
    rate = LEARNING_RATES["from scratch"] if trained.config.from_scratch else stepping.rate(width)
    return _scalars(stepping) | {"learning_rate": stepping.learning_rate or rate}


def _cross_validation(trained: Trained, validated: CrossValidation) -> dict[str, Any]:
    """Collect the JSON's section on the cross-validation."""
    folds = trained.data.folds
    assert folds is not None
    if trained.multi_label is not None:
        return _fit_choices(trained, validated, folds)
    curve = [{"share": one.share, **dataclasses.asdict(one.accuracy)} for one in validated.learning_curve]
    return {
        **_fit_choices(trained, validated, folds),
        "repeats": [dataclasses.asdict(one) for one in validated.repeats],
        "learning_curve": curve,
        "expected_accuracy": validated.expected_accuracy(len(folds)),
    }


def _multi_label(found: MultiLabelTraining, labels: Sequence[str]) -> dict[str, Any]:
    """Collect the JSON's section on several labels at a time."""
    return {
        "thresholds": found.thresholds.values.tolist(),
        "test": None if found.test is None else multi_label_json(found.test, labels),
        "mfcc_statistics": None if found.baseline is None else found.baseline.mean_average_precision,
    }


def _fit_choices(trained: Trained, validated: CrossValidation, folds: Folds) -> dict[str, Any]:
    """Collect the folds of the cross-validation, and what it chose."""
    return {
        "folds": len(folds),
        "groups": len(set(trained.data.groups.values())),
        "cut_in_time": folds.cut_in_time,
        "untested": folds.untested,
        "strength": validated.fitted.strength,
        "augmented_copies": validated.fitted.copies,
        "gain_of_copies": validated.fitted.gain,
    }


def _versions() -> dict[str, str]:
    """Return the versions of the packages that training used, as far as they are installed."""
    found = {}
    for name in ("tensorflow", "keras", "ai-edge-litert", "numpy", "scipy", "pillow", "soundfile", "soxr"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found
