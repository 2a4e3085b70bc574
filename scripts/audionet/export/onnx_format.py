"""Export to ONNX: the LiteRT network converted by tf2onnx, with the arithmetic that LiteRT has on a CPU."""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audionet import __version__
from audionet.audio.network_input import ImageFeatures, model_inputs
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.errors import ModelError
from audionet.export.onnx_quantisation import quantise_activations, store_integer_weights
from audionet.utils.arrays import FloatArray
from audionet.utils.extras import require_modules
from audionet.utils.process import available_cores, native_stderr_muted
from audionet.utils.text import first_line

OPSET = 17
"""Version of ONNX's operators that files are written in; ONNX Runtime 1.13 and later run it."""

INPUT_NAMES = ("pixels", "statistics")
EMBEDDING_NAME = "embedding"

_INNER = "network/"  # --final_tensor_name has no slash, so that no other tensor can have its name


class OnnxOutputs(NamedTuple):
    """Outputs of an ONNX model for several images.

    Attributes
    ----------
    probabilities : ndarray of float32, shape (n, labels)
    embeddings : ndarray of float32, shape (n, width)
    """

    probabilities: FloatArray
    embeddings: FloatArray


def require_onnx() -> None:
    """Check that what writes and runs ONNX files is installed.

    Raises
    ------
    UsageError
        If it is not.
    """
    require_modules("tensorflow", "onnx", "onnxruntime", "tf2onnx")


def onnx_metadata(card: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of an ONNX file, each value as JSON.

    Parameters
    ----------
    card : mapping
        Content of the model's JSON.
    """
    backbone, several = card["backbone"], card["multi_label"]
    content = {
        "labels": card["labels"],
        "spectrogram": card["picture"],
        "statistics": backbone["statistics"],
        "calibration": card["calibration"],
        "thresholds": None if several is None else several["thresholds"],
        "speech": card["speech"],
        "graph_sha256": card["graph_sha256"],
        "audionet_version": __version__,
    }
    return {name: json.dumps(value) for name, value in content.items()}


def convert_to_onnx(network: bytes, output_name: str) -> Any:
    """Convert a LiteRT network to ONNX.

    Parameters
    ----------
    network : bytes
        Content of a .tflite file: a backbone's, or one that `join_head` wrote.
    output_name : str
        Name of the first output.

    Returns
    -------
    onnx.ModelProto
        Inputs: `INPUT_NAMES`, uint8 RGB (1, height, width, 3) and, where the model takes them, image statistics,
        float32 (1, width). Outputs: `output_name` and, if there is a second one, `EMBEDDING_NAME`, float32.

    Raises
    ------
    ModelError
        If an operator of the network has no counterpart.
    """
    import onnx

    try:
        model = _convert(_with_unique_names(network))
        store_integer_weights(model.graph)
        quantise_activations(model.graph)
        _rename(model.graph, output_name)
        onnx.checker.check_model(model, full_check=True)
        _session(model.SerializeToString())
    except Exception as error:  # of whatever class in three libraries
        raise ModelError(
            f"this backbone cannot be written as ONNX ({first_line(error)}): name a .tflite file with --output_graph"
        ) from None
    return model


def pack_onnx(model: Any, metadata: Mapping[str, str]) -> bytes:
    """Return the content of an .onnx file."""
    import onnx

    onnx.helper.set_model_props(model, dict(metadata))
    model.producer_name, model.producer_version = "AudioNet", __version__
    content: bytes = model.SerializeToString(deterministic=True)
    return content


def predict(model: bytes, images: Sequence[ImageFeatures], statistics: str | None) -> OnnxOutputs:
    """Compute an ONNX model's outputs for images by ONNX Runtime.

    Parameters
    ----------
    model : bytes
        Content of the .onnx file.
    images : sequence of ImageFeatures
        At the model's input size.
    statistics : str or None
        Kind of image statistics that the model takes as its second input; None: no second input.
    """
    session = _session(model)
    inputs = (dict(zip(INPUT_NAMES, model_inputs(image, statistics), strict=False)) for image in images)
    outputs = [session.run(None, values) for values in inputs]
    return OnnxOutputs(*(np.concatenate(part) for part in zip(*outputs, strict=True)))


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = available_cores()  # left to itself, it warns where it may not use every core
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _convert(network: bytes) -> Any:
    import_tensorflow()
    with tempfile.TemporaryDirectory() as folder, _quiet():
        from tf2onnx import convert

        path = Path(folder) / "network.tflite"
        path.write_bytes(network)
        model, _ = convert.from_tflite(str(path), opset=OPSET)
    return model


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Mute tf2onnx, which logs every step, and TensorFlow's warning that it will leave LiteRT to another package."""
    logger = logging.getLogger("tf2onnx")
    with native_stderr_muted(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        level, root = logger.level, logging.getLogger().level
        logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            logger.setLevel(level)
            logging.getLogger().setLevel(root)


def _with_unique_names(network: bytes) -> bytes:
    """Number the tensors of a .tflite file: tf2onnx tells them apart by name, LiteRT does not."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(network, 0))
    for number, tensor in enumerate(model.subgraphs[0].tensors):
        tensor.name = f"tensor_{number}".encode()
    model.signatureDefs = []
    builder = flatbuffers.Builder(len(network))
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def _rename(graph: Any, output_name: str) -> None:
    """Name inputs and outputs, and put all other names behind a prefix that keeps them from clashing with those."""
    from onnx import compose, helper

    compose.add_prefix_graph(graph, _INNER, inplace=True)
    nodes = list(graph.node)
    for item, name in zip(graph.input, INPUT_NAMES, strict=False):
        nodes.insert(0, helper.make_node("Identity", [name], [item.name], f"{_INNER}{name}"))
        item.name = name
    for item, name in zip(graph.output, (output_name, EMBEDDING_NAME), strict=False):
        nodes.append(helper.make_node("Identity", [item.name], [name], f"{_INNER}{name}"))
        item.name = name
    del graph.node[:]
    graph.node.extend(nodes)
    graph.name = "AudioNet"
