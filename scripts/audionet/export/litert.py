"""Export to LiteRT: backbone, trained head and embedding layer in one file, and their way back from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.audio.network_input import STATISTICS_WIDTHS, ImageFeatures, model_inputs
from audionet.backbones.litert import Runner
from audionet.backbones.registry import Backbone
from audionet.classifier.head import Head, Layer
from audionet.errors import ModelError
from audionet.utils.arrays import FloatArray


def join_head(backbone: Backbone, head: Head, output_name: str, space: Layer) -> bytes:
    """Append the head, and the layer of the speaker embedding, to the backbone's graph.

    The converted backbone's flatbuffer is edited, not converted again: that takes a tenth of a second where a
    conversion takes ten seconds. The added operators are the concatenation with the image's statistics, where the
    bottleneck has them, the head's layers and a softmax, or the logistic function where labels are independent.

    Returns
    -------
    bytes
        A .tflite file. Inputs: uint8 RGB (1, height, width, 3) and, where the backbone's bottleneck has them,
        those statistics, float32 (1, width). Outputs: float32 probabilities (1, labels), named `output_name`, and
        the speaker embedding before its normalisation (1, dimensions), named "place".
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
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # readers older than schema 3a read only this field
        model.operatorCodes.append(code)
        item = schema.OperatorT()
        item.opcodeIndex = len(model.operatorCodes) - 1
        item.inputs, item.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        if options is not None:
            item.builtinOptions = options
            item.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        graph.operators.append(item)
        return output

    def layer(name: str, values: int, layer: Layer, activation: int) -> int:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = activation
        outputs = len(layer.biases)
        weights = tensor(f"{name}/weights", (outputs, len(layer.weights)), layer.weights.T)
        biases = tensor(f"{name}/biases", (outputs,), layer.biases)
        return operator("FULLY_CONNECTED", [values, weights, biases], tensor(name, (1, outputs)), options)

    none, relu = schema.ActivationFunctionType.NONE, schema.ActivationFunctionType.RELU
    values, width = int(graph.outputs[0]), len(head.offset)
    if backbone.statistics is not None:
        statistics = tensor("statistics", (1, STATISTICS_WIDTHS[backbone.statistics]))
        graph.inputs = np.append(graph.inputs, statistics).astype(np.int32)
        options = schema.ConcatenationOptionsT()
        options.axis = 1
        values = operator("CONCATENATION", [values, statistics], tensor("bottleneck", (1, width)), options)
    place = layer("place", values, space, none)
    offset = tensor("standardise/offset", (1, width), head.offset)
    values = operator("SUB", [values, offset], tensor("centred", (1, width)), schema.SubOptionsT())
    scale = tensor("standardise/scale", (1, width), head.scale)
    values = operator("MUL", [values, scale], tensor("standardised", (1, width)), schema.MulOptionsT())
    if head.hidden is not None:
        values = layer("hidden", values, head.hidden, relu)
    if head.unit_length:
        width = len(head.last.weights)
        values = operator("L2_NORMALIZATION", [values], tensor("unit_length", (1, width)), schema.L2NormOptionsT())
    logits = layer("logits", values, head.last, none)
    labels = len(head.last.biases)
    answer = tensor(output_name, (1, labels))
    if head.independent:
        probabilities = operator("LOGISTIC", [logits], answer, None)
    else:
        softmax = schema.SoftmaxOptionsT()
        softmax.beta = 1.0
        probabilities = operator("SOFTMAX", [logits], answer, softmax)
    graph.outputs = np.array([probabilities, place], np.int32)
    model.description = b"AudioNet"
    builder = flatbuffers.Builder(1 << 20)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())


def predict(model: bytes, images: Sequence[ImageFeatures], statistics: str | None) -> FloatArray:
    """Compute an exported model's probabilities of images.

    Parameters
    ----------
    model : bytes
        Content of the .tflite file.
    images : sequence of ImageFeatures
        At the model's input size.
    statistics : str or None
        Kind of image statistics that the model takes as its second input; None: no second input.

    Returns
    -------
    ndarray of float32, shape (len(images), labels)
    """
    runner = Runner(model)
    return np.stack([runner(*model_inputs(features, statistics)) for features in images])


def read_head(network: bytes) -> tuple[Head, Layer]:
    """Read what `join_head` appended to a backbone's graph.

    Parameters
    ----------
    network : bytes
        Content of the .tflite file.

    Returns
    -------
    head : Head
    space : Layer
        Layer of the speaker embedding.

    Raises
    ------
    ModelError
        If the graph lacks their tensors.
    """
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAsModel(network, 0)
    graph = model.Subgraphs(0)
    tensors = {item.Name().decode(): item for item in map(graph.Tensors, range(graph.TensorsLength()))}

    def values(name: str) -> FloatArray:
        if name not in tensors:
            raise ModelError(f"the network holds no tensor '{name}': it was written by another version; retrain it")
        item = tensors[name]
        data = model.Buffers(item.Buffer()).DataAsNumpy()
        array: FloatArray = np.frombuffer(data.tobytes(), "<f4").reshape(item.ShapeAsNumpy())
        return array

    def layer(name: str) -> Layer:
        return Layer(values(f"{name}/weights").T, values(f"{name}/biases"))

    hidden = layer("hidden") if "hidden/weights" in tensors else None
    offset, scale = (values(f"standardise/{name}")[0] for name in ("offset", "scale"))
    last = model.OperatorCodes(graph.Operators(graph.OperatorsLength() - 1).OpcodeIndex()).BuiltinCode()
    independent = last == schema.BuiltinOperator.LOGISTIC
    return Head(offset, scale, hidden, "unit_length" in tensors, layer("logits"), independent), layer("place")
