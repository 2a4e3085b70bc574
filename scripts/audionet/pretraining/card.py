"""A finished backbone on disk: its weights, what a program has to know of them, and the card for people."""

from __future__ import annotations

import hashlib
import io
import platform
import string
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from audionet.audio.decoding import header
from audionet.backbones.inception import FeatureLayer, packed_weights, with_feature_layer
from audionet.errors import BackboneError
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.manifest import ManifestDataset
from audionet.pretraining.network import LOSS_WEIGHTS
from audionet.pretraining.teachers import TEACHERS
from audionet.pretraining.trainer import Pretrained, format_metrics
from audionet.pretraining.views import SPEED_FACTORS
from audionet.utils.arrays import UInt8Array
from audionet.utils.files import make_folder, write_bytes, write_json
from audionet.utils.parallel import available_cores

MOST_BYTES = 50_000_000
"""A backbone is bundled with the code, and has to stay small enough for that."""

_ENDS = {
    "embedding": "its maps pooled ({pooling}), and a linear layer to {embedding} numbers, on which all heads sat",
    "maps": "its maps pooled ({bottleneck}). In training they were pooled ({pooling}) and went through a linear layer "
    "to {embedding} numbers, on which all heads sat",
}
_JOINED = {
    "none": "",
    "bands": " The image's band statistics (256 numbers) join it.",
    "mfcc": " The image's MFCC statistics (40 numbers) join it.",
}
_TEMPLATE = Path(__file__).with_name("templates") / "backbone.md"


def write_backbone(found: Pretrained, config: PretrainConfig) -> Path:
    """Write a backbone's weights, JSON and card, each whole or not at all; returns the folder.

    Raises
    ------
    BackboneError
        If the weights take more than MOST_BYTES.
    """
    folder, name = config.output_dir, config.output_dir.name
    make_folder(folder)
    tap = bottleneck_layer(config)
    features = found.student.features
    content = weights_file(features if tap.embedding else with_feature_layer(features, tap), found.check_images)
    if len(content) > MOST_BYTES:
        raise BackboneError(
            f"the weights take {len(content) / 1e6:.0f} MB, and at most {MOST_BYTES / 1e6:.0f} are to be bundled: "
            "choose a smaller --embedding or an earlier --endpoint"
        )
    weights = folder / f"{name}.npz"
    write_bytes(weights, content)
    described: dict[str, Any] = {
        "name": name,
        "version": config.version,
        "weights": weights.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "network": "InceptionV3",
        "input_size": [config.input_height, config.input_width],
        **asdict(tap),
        "statistics": None if config.statistics == "none" else config.statistics,
    }
    card = _card(found, config, described, len(content))
    write_bytes(folder / "README.md", card.encode())
    write_json(folder / "backbone.json", described)
    return folder


def bottleneck_layer(config: PretrainConfig) -> FeatureLayer:
    """The tap that a finished backbone has: training's, or the same maps without the linear layer."""
    if config.bottleneck == "embedding":
        return FeatureLayer(config.endpoint, config.pooling, config.embedding)
    return FeatureLayer(config.endpoint, config.bottleneck)


def weights_file(features: Any, check_images: UInt8Array) -> bytes:
    """The .npz of a backbone: its weights, and images with what it says of them."""
    arrays: dict[str, Any] = packed_weights(features)
    # As a loader will have them: rounded.
    features.set_weights([arrays[key].astype(np.float32) for key in sorted(arrays)])
    arrays["check_picture"] = check_images
    answers = features(check_images.astype(np.float32), training=False)
    import keras

    arrays["check_features"] = np.asarray(keras.ops.convert_to_numpy(answers), np.float32)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()


def _card(found: Pretrained, config: PretrainConfig, described: dict[str, Any], size: int) -> str:
    teacher = TEACHERS.get(config.teacher)
    lessons = found.corpus.training + found.corpus.held_out
    data = [
        _dataset(source, [lesson.path for lesson in lessons if lesson.source == number])
        for number, source in enumerate(found.corpus.sources)
    ]
    filled = {
        "megabytes": f"{size / 1e6:.0f}",
        "network_ends": _ENDS["embedding" if config.bottleneck == "embedding" else "maps"].format(**asdict(config)),
        "joined": _JOINED[config.statistics],
        "data": "\n".join(data),
        "teacher": f"{teacher.name} ({teacher.licence}, {teacher.url})." if teacher else "None.",
        "images": f"{found.steps * config.batch_size:,}",
        "steps": f"{found.steps:,}",
        "hours": f"{found.hours:.1f}",
        "hardware": _hardware(),
        "speeds": ", ".join(f"{speed:g}" for speed in SPEED_FACTORS),
        "losses": ", ".join(f"{name} {weight:g}" for name, weight in LOSS_WEIGHTS.items()),
        "held_out": format_metrics(found.held_out),
    }
    return string.Template(_TEMPLATE.read_text("utf-8")).substitute(asdict(config) | described | filled)


def _dataset(source: ManifestDataset, paths: list[Path]) -> str:
    minutes = sum(found.seconds for path in paths if (found := header(path)) is not None) / 60
    amount = f"{len(paths):,} recordings, {minutes:.0f} minutes"
    return f"- {source.name} ({source.licence}, {source.url}): {amount}, {source.task}s"


def _hardware() -> str:
    import keras

    return (
        f"{available_cores()} CPU cores ({platform.machine()}), Keras {keras.__version__} on {keras.backend.backend()}"
    )
