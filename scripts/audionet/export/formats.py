"""The formats beside LiteRT: what they need before a training, and their files, compared before they are published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audionet.audio.network_input import ImageFeatures, model_inputs
from audionet.backbones.litert import Runner
from audionet.backbones.registry import Backbone
from audionet.classifier.calibration import apply_temperature
from audionet.classifier.multi_label import apply_independent_temperature
from audionet.errors import ModelError
from audionet.export import onnx_format, tf_formats
from audionet.training.config import RetrainConfig
from audionet.training.results import Trained
from audionet.utils.arrays import FloatArray
from audionet.utils.extras import require_modules
from audionet.utils.files import content_hash

TOLERANCE = 0.02
"""Largest allowed difference between the LiteRT file's probabilities and the trainer's, or the ONNX file's.

The float16 bottleneck cache alone causes less than 0.005.
"""

FLOAT_TOLERANCE = 0.2
"""The same for TensorFlow's formats, which hold the network's weights in float32 where LiteRT rounds them to int8."""

_MINIMUM_COSINE = 0.99  # of an ONNX file's embedding and LiteRT's, on average


class Sample(NamedTuple):
    """Images that a written model must predict like the trained one.

    Attributes
    ----------
    jpgs : sequence of bytes
    images : sequence of ImageFeatures
        The same images decoded, at the model's input size.
    expected : ndarray of float32, shape (n, labels)
        Probabilities of the trained model.
    """

    jpgs: Sequence[bytes]
    images: Sequence[ImageFeatures]
    expected: FloatArray


def require_format(config: RetrainConfig) -> None:
    """Check that what writes the format of `output_graph` is installed.

    Raises
    ------
    UsageError
        If it is not.
    """
    if config.output_graph.suffix == ".onnx":
        onnx_format.require_onnx()
    elif config.output_graph.suffix != ".tflite":
        require_modules("tensorflow", "keras")


def check_backbone(config: RetrainConfig, backbone: Backbone) -> None:
    """Check before a training that a model on this backbone can be written in the format of `output_graph`.

    Raises
    ------
    ModelError
        If the format does not hold it.
    BackboneError
        If the format takes the original network, which cannot be loaded.
    """
    suffix = config.output_graph.suffix
    if suffix == ".onnx":
        onnx_format.convert_to_onnx(backbone.path.read_bytes(), config.final_tensor_name)
    elif suffix != ".tflite":
        tf_formats.check_backbone(suffix, backbone)


def write_format(
    path: Path, trained: Trained, config: RetrainConfig, network: bytes, card: Mapping[str, Any], sample: Sample
) -> dict[str, Any]:
    """Write a model in the format of `output_graph`, and compare it.

    Parameters
    ----------
    path : Path
        File or folder to write.
    trained : Trained
    config : RetrainConfig
    network : bytes
        The same model's LiteRT file.
    card : mapping
        Content of the model's JSON.
    sample : Sample

    Returns
    -------
    dict
        What the model's JSON says of the file.

    Raises
    ------
    ModelError
        If the written model predicts something else.
    """
    suffix, name, backbone = config.output_graph.suffix, config.final_tensor_name, trained.backbone
    if suffix == ".onnx":
        model = onnx_format.convert_to_onnx(network, name)
        path.write_bytes(content := onnx_format.pack_onnx(model, onnx_format.onnx_metadata(card)))
        compared = _compare_with_litert(content, network, trained, sample)
    else:
        spectrogram = trained.data.spectrogram
        size = None if spectrogram is None else (spectrogram.rows, spectrogram.frames)
        tf_formats.write_model(path, suffix, backbone, trained.head, name, size)
        found = tf_formats.predict(path, suffix, name, sample.jpgs, sample.images, backbone)
        compared = {"difference": difference(found, sample.expected, trained, FLOAT_TOLERANCE)}
    return {"sha256": content_hash(path), **compared}


def _compare_with_litert(content: bytes, network: bytes, trained: Trained, sample: Sample) -> dict[str, Any]:
    """Compare an ONNX file with the LiteRT file: probabilities, labels and embeddings."""
    statistics = trained.backbone.statistics
    found = onnx_format.predict(content, sample.images, statistics)
    runner = Runner(network)
    outputs = [runner.run_all(*model_inputs(image, statistics)) for image in sample.images]
    expected, embeddings = (np.concatenate(part) for part in zip(*outputs, strict=True))
    apart = difference(found.probabilities, expected, trained, TOLERANCE)
    lengths = np.linalg.norm(found.embeddings, axis=1) * np.linalg.norm(embeddings, axis=1)
    products = np.einsum("ij,ij->i", found.embeddings, embeddings)
    cosine = float(np.mean(np.divide(products, lengths, out=np.ones_like(lengths), where=lengths > 0)))
    if not cosine >= _MINIMUM_COSINE:
        raise ModelError(
            f"the ONNX file's embeddings differ from the LiteRT file's (cosine {cosine:.3f}): nothing was published; "
            "name a .tflite file, and report this backbone"
        )
    same = found.probabilities.argmax(axis=1) == expected.argmax(axis=1)
    return {"difference": apart, "cosine": cosine, "same_labels": int(same.sum()), "images": len(same)}


def difference(found: FloatArray, expected: FloatArray, trained: Trained, tolerance: float) -> float:
    """Return the largest difference of probabilities, both shape (n, labels), before calibration.

    Raises
    ------
    ModelError
        If it is above the tolerance.
    """
    # At temperature 1: calibration enlarges small differences where it makes the probabilities more confident.
    apply = apply_independent_temperature if trained.head.independent else apply_temperature
    found, expected = (apply(probabilities, 1 / trained.calibration.temperature) for probabilities in (found, expected))
    result = float(np.abs(found - expected).max())
    if not result <= tolerance:
        raise ModelError(
            f"the exported model's probabilities differ from the trained one's by {result:.3f}: nothing was "
            "published; delete the converted backbone under --model_dir and run again"
        )
    return result
