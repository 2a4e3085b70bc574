"""A trained head joined to its backbone: one LiteRT file that needs nothing else, and the JSON beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .backbones import Backbone
from .features import BAND_STATISTICS_WIDTH, PictureFeatures, model_inputs
from .head import Head
from .litert import Runner
from .spectrogram import FloatArray


def join(backbone: Backbone, head: Head, output_name: str) -> bytes:
    """Append the head to the backbone's graph.

    The converted backbone's flatbuffer is edited, not converted again: that takes a tenth of a second where a
    conversion takes ten. Added are the concatenation with the band statistics where the bottleneck has them,
    one fully connected layer and a softmax.

    Returns
    -------
    bytes
        A .tflite file. Inputs: uint8 RGB (1, height, width, 3) and, where the backbone's bottleneck has them,
        float32 band statistics (1, 256). Output: float32 probabilities (1, labels), named `output_name`.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(backbone.path.read_bytes(), 0))
    graph = model.subgraphs[0]

    def tensor(name: str, shape: tuple[int, ...], data: NDArray[np.float32] | None = None) -> int:
        buffer = schema.BufferT()
        if data is not None:
            buffer.data = np.frombuffer(np.ascontiguousarray(data, "<f4").tobytes(), np.uint8)
        model.buffers.append(buffer)
        item = schema.TensorT()
        item.name, item.shape, item.type = name.encode(), np.array(shape, np.int32), schema.TensorType.FLOAT32
        item.buffer = len(model.buffers) - 1
        graph.tensors.append(item)
        return len(graph.tensors) - 1

    def operator(kind: str, inputs: list[int], output: int, options: Any) -> int:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, kind)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # readers older than schema 3a look only here
        model.operatorCodes.append(code)
        item = schema.OperatorT()
        item.opcodeIndex = len(model.operatorCodes) - 1
        item.inputs, item.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        item.builtinOptions = options
        item.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        graph.operators.append(item)
        return output

    bottleneck = int(graph.outputs[0])
    if backbone.band_statistics:
        statistics = tensor("band_statistics", (1, BAND_STATISTICS_WIDTH))
        graph.inputs = np.append(graph.inputs, statistics).astype(np.int32)
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        joined = tensor("bottleneck", (1, len(head.weights)))
        bottleneck = operator("CONCATENATION", [bottleneck, statistics], joined, options)
    labels = len(head.biases)
    weights = tensor("head/weights", (labels, len(head.weights)), head.weights.T)
    biases = tensor("head/biases", (labels,), head.biases)
    logits = operator(
        "FULLY_CONNECTED", [bottleneck, weights, biases], tensor("logits", (1, labels)), schema.FullyConnectedOptionsT()
    )
    softmax = schema.SoftmaxOptionsT()
    softmax.beta = 1.0
    graph.outputs = np.array([operator("SOFTMAX", [logits], tensor(output_name, (1, labels)), softmax)], np.int32)
    model.description = b"AudioNet"
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def largest_difference(
    path: Path, inputs: Sequence[PictureFeatures], band_statistics: bool, expected: FloatArray
) -> float:
    """How far an exported model's probabilities are from the trainer's, at most.

    Parameters
    ----------
    path : Path
        The .tflite file.
    inputs : sequence of PictureFeatures
        Pictures at the model's input size.
    band_statistics : bool
        Whether the model takes them as its second input.
    expected : ndarray of float32, shape (len(inputs), labels)
        The trainer's probabilities for these pictures.
    """
    runner = Runner(path)
    answers = [runner(*model_inputs(features, band_statistics)) for features in inputs]
    return float(np.abs(np.stack(answers) - expected).max())
