"""Files of a finished backbone: weights (.npz), LiteRT network, description (backbone.json), model card (README.md)."""

from __future__ import annotations

import hashlib
import platform
import string
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from audionet.audio.decoding import header
from audionet.backbones.conversion import SourceNetwork, convert, write_converted
from audionet.backbones.inception import FeatureLayer, as_one_vector, packed_weights, with_feature_layer
from audionet.backbones.voice_space import VoiceSpace, write_voice_space
from audionet.errors import BackboneError
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.manifest import Corpus, ManifestDataset
from audionet.pretraining.network import LOSS_WEIGHTS, feature_layer, is_tensorflow, plain_features, voice_layer
from audionet.pretraining.teachers import TEACHERS
from audionet.pretraining.trainer import Pretrained, format_metrics
from audionet.pretraining.views import OTHER_VOICES, SAME_VOICE
from audionet.pretraining.voice_space import VoiceSpaceScores
from audionet.utils.array_files import pack_npz
from audionet.utils.arrays import UInt8Array
from audionet.utils.files import make_folder, read_json, sha256, write_bytes, write_json
from audionet.utils.process import available_cores

MOST_BYTES = 50_000_000
"""Largest size of a backbone's weights in bytes: backbones are bundled with the code."""

_BOTTLENECKS = {
    "embedding": "its feature maps, pooled ({pooling}), and a linear layer to {embedding} dimensions, the input of all "
    "training heads",
    "maps": "its feature maps, pooled ({bottleneck}). In training they were pooled ({pooling}) and passed through a "
    "linear layer to {embedding} dimensions, the input of all training heads",
}
_APPENDED = {
    "none": "",
    "bands": " The image's band statistics (256 values) are appended.",
    "mfcc": " The image's MFCC statistics (40 values) are appended.",
}
_VOICE = (
    "The second output is a voice embedding of unit length, {voice_width} numbers: the maps of `{voice_endpoint}`, "
    "attentive statistics pooling and a linear layer."
)
_CHECK_IMAGES = 4  # stored with the weights
_TEMPLATE = Path(__file__).with_name("templates") / "backbone.md"
_VOICES_TEMPLATE = _TEMPLATE.with_name("voice_space.md")


def write_backbone(trained: Pretrained, config: PretrainConfig) -> Path:
    """Write a backbone's weights, network, description and model card, each file atomically, and return the folder.

    The LiteRT network is left out where Keras runs on another backend than TensorFlow, which converts it.

    Raises
    ------
    BackboneError
        If the weights take more than MOST_BYTES.
    """
    folder, name = config.output_dir, config.output_dir.name
    make_folder(folder)
    layer, voice = bottleneck_layer(config), voice_layer(config)
    features = plain_features(config)
    features.set_weights(trained.student.features.get_weights())
    finished = features if layer.embedding else with_feature_layer(features, layer, voice)
    content = weights_file(finished, trained.sample_images[:_CHECK_IMAGES])
    if len(content) > MOST_BYTES:
        raise BackboneError(
            f"the weights take {len(content) / 1e6:.0f} MB, and a bundled backbone may take at most "
            f"{MOST_BYTES / 1e6:.0f}; choose a smaller --embedding or an earlier --endpoint"
        )
    weights = folder / f"{name}.npz"
    network = weights.with_suffix(".tflite")
    network.unlink(missing_ok=True)  # of earlier weights
    write_bytes(weights, content)
    if is_tensorflow():
        joined = as_one_vector(finished) if voice else finished
        original = SourceNetwork(
            lambda pixels: joined(pixels, training=False),
            trained.sample_images.shape[1:3],
            joined,
            joined,
            config.voice_width,
        )
        write_converted(network, convert(original, trained.sample_images, name))
    description: dict[str, Any] = {
        "name": name,
        "version": config.version,
        "weights": weights.name,
        "sha256": hashlib.sha256(content).hexdigest(),
        "network": "InceptionV3",
        "input_size": [config.input_height, config.input_width],
        **asdict(layer),
        "voice": None if voice is None else asdict(voice),
        "statistics": None if config.statistics == "none" else config.statistics,
    }
    card = _card(trained, config, description, len(content))
    write_bytes(folder / "README.md", card.encode())
    write_json(folder / "backbone.json", description)
    return folder


def add_voice_space(folder: Path, space: VoiceSpace, scores: VoiceSpaceScores, corpus: Corpus) -> None:
    """Store a voice space beside its backbone, and describe it in the backbone's card, in place of an earlier one."""
    path = folder / "voice_space.npz"
    write_voice_space(path, space)
    utterances = corpus.training + corpus.held_out
    data = [
        _describe_dataset(dataset, [utterance.path for utterance in utterances if utterance.dataset == number])
        for number, dataset in enumerate(corpus.datasets)
    ]
    description = folder / "backbone.json"
    content = read_json(description, BackboneError, "make the backbone again with pretrain.py")
    filled = {
        "file": path.name,
        "projected": "bottleneck and the voice embedding" if content.get("voice") else "bottleneck",
        "megabytes": f"{path.stat().st_size / 1e6:.1f}",
        "dimensions": len(space.offset),
        "cohort": len(space.cohort),
        "data": "\n".join(data),
        "error_rate": f"{scores.equal_error_rate:.1%}",
        "recordings": f"{scores.recordings:,}",
        "speakers": scores.speakers,
        "speech": scores.speech,
        "other": scores.other,
    }
    section = string.Template(_VOICES_TEMPLATE.read_text("utf-8")).substitute(filled)
    card = folder / "README.md"
    kept = card.read_text("utf-8").partition(section.partition("\n")[0])[0] if card.exists() else ""
    write_bytes(card, f"{kept.rstrip()}\n\n{section}".lstrip().encode())
    write_json(description, content | {"voice_space": {"file": path.name, "sha256": sha256(path)}})


def bottleneck_layer(config: PretrainConfig) -> FeatureLayer:
    """Return the finished backbone's feature layer: that of training, or its maps without the linear layer."""
    if config.bottleneck == "embedding":
        return feature_layer(config)
    return FeatureLayer(config.endpoint, config.bottleneck)


def weights_file(features: Any, check_images: UInt8Array) -> bytes:
    """Return a backbone's .npz file: its weights, and check images with the expected features."""
    arrays: dict[str, Any] = packed_weights(features)
    # Round to the stored precision, so that the check features are those that a loader gets.
    features.set_weights([arrays[key].astype(np.float32) for key in sorted(arrays)])
    arrays["check_picture"] = check_images
    outputs = features(check_images.astype(np.float32), training=False)
    import keras

    parts = outputs if isinstance(outputs, list | tuple) else [outputs]
    for name, part in zip(("check_features", "check_voices"), parts, strict=False):
        arrays[name] = np.asarray(keras.ops.convert_to_numpy(part), np.float32)
    return pack_npz(arrays, compressed=True)


def _card(trained: Pretrained, config: PretrainConfig, description: dict[str, Any], size: int) -> str:
    teacher = TEACHERS.get(config.teacher)
    kind = "embedding" if config.bottleneck == "embedding" else "maps"
    utterances = trained.corpus.training + trained.corpus.held_out
    data = [
        _describe_dataset(dataset, [utterance.path for utterance in utterances if utterance.dataset == number])
        for number, dataset in enumerate(trained.corpus.datasets)
    ]
    filled = {
        "megabytes": f"{size / 1e6:.0f}",
        "bottleneck_layer": _BOTTLENECKS[kind].format(**asdict(config)),
        "appended": _APPENDED[config.statistics],
        "data": "\n".join(data),
        "teacher": f"{teacher.name} ({teacher.licence}, {teacher.url})." if teacher else "None.",
        "images": f"{trained.steps * config.batch_size:,}",
        "steps": f"{trained.steps:,}",
        "hours": f"{trained.hours:.1f}",
        "hardware": _hardware(),
        "speeds": " or ".join(f"{low:g} to {high:g}" for low, high in OTHER_VOICES),
        "same_voice": f"{SAME_VOICE:g}",
        "start": "random weights" if config.initial is None else f"the weights of {config.initial}",
        "voice": _VOICE.format(**asdict(config)) if config.voice_width else "It has no voice embedding.",
        "losses": ", ".join(f"{name} {weight:g}" for name, weight in LOSS_WEIGHTS.items()),
        "held_out": format_metrics(trained.held_out),
    }
    return string.Template(_TEMPLATE.read_text("utf-8")).substitute(asdict(config) | description | filled)


def _describe_dataset(dataset: ManifestDataset, paths: list[Path]) -> str:
    minutes = sum(found.seconds for path in paths if (found := header(path)) is not None) / 60
    amount = f"{len(paths):,} recordings, {minutes:.0f} minutes"
    task = "without labels" if dataset.task == "unlabelled" else f"{dataset.task}s"
    return f"- {dataset.name} ({dataset.licence}, {dataset.url}): {amount}, {task}"


def _hardware() -> str:
    import keras

    return (
        f"{available_cores()} CPU cores ({platform.machine()}), Keras {keras.__version__} on {keras.backend.backend()}"
    )
