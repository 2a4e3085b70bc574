"""Integer arithmetic of a converted network: LiteRT quantises the inputs of layers with int8 weights as it runs.

tf2onnx writes such layers in float. The difference, up to 1 % of a feature, is enough to turn close answers. LiteRT's
XNNPACK takes the scale and the zero point from the range of the whole image before a convolution, of each pixel before
one of size 1, and of each row before a dense layer; computed alike, the outputs are the same but for the rounding of
floats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

_LEVELS = 255.0
_CHANNELS, _IMAGE, _ROW = (1,), (1, 2, 3), (-1,)  # axes of NCHW, and of a matrix


def store_integer_weights(graph: Any) -> None:
    """Replace DequantizeLinear of int8 weights by a cast and a product.

    Runtimes compute those once, as they load the model, and a DequantizeLinear for every image.
    """
    from onnx import TensorProto, helper, numpy_helper

    constants = {item.name: item for item in graph.initializer}
    nodes = []
    for node in graph.node:
        if node.op_type != "DequantizeLinear" or node.input[0] not in constants:
            nodes.append(node)
            continue
        zero = numpy_helper.to_array(constants[node.input[2]]) if len(node.input) > 2 else np.zeros(1, np.int8)
        if zero.any():
            nodes.append(node)
            continue
        weights, (output,) = constants[node.input[0]], node.output
        scale = numpy_helper.to_array(constants[node.input[1]])
        axis = next((item.i for item in node.attribute if item.name == "axis"), 1)
        shape = [-1 if place == axis % len(weights.dims) else 1 for place in range(len(weights.dims))]
        scale = scale.reshape(shape if scale.size > 1 else ())
        graph.initializer.append(numpy_helper.from_array(scale, f"{output}/scale"))
        nodes += [
            helper.make_node("Cast", [weights.name], [f"{output}/cast"], f"{output}/cast", to=TensorProto.FLOAT),
            helper.make_node("Mul", [f"{output}/cast", f"{output}/scale"], [output], output),
        ]
    _replace(graph, nodes)


def quantise_activations(graph: Any) -> None:
    """Quantise the inputs of convolutions and dense layers whose weights `store_integer_weights` has stored."""
    makers = {output: node for node in graph.node for output in node.output}
    integers = {item.name for item in graph.initializer if item.data_type == _int8()}
    nodes: list[Any] = []
    written: dict[tuple[str, tuple[int, ...]], str] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul") and _is_integer(node.input[1], makers, integers):
            axes, source = _axes(node), _unquantised(node.input[0], makers)
            if axes is not None:
                if (source, axes) not in written:
                    written[source, axes] = f"{source}/quantised_{len(written)}"
                    nodes += _quantised(graph, source, written[source, axes], axes)
                node.input[0] = written[source, axes]
        nodes.append(node)
    _replace(graph, nodes)


def _int8() -> int:
    from onnx import TensorProto

    return int(TensorProto.INT8)


def _is_integer(name: str, makers: dict[str, Any], integers: set[str]) -> bool:
    """Return whether a tensor is computed from int8 constants alone."""
    while name in makers and makers[name].op_type in ("Mul", "Cast", "Transpose", "Reshape"):
        name = makers[name].input[0]
    return name in integers


def _axes(node: Any) -> tuple[int, ...] | None:
    """Return the axes over which LiteRT takes the range of a layer's input; None if it does not quantise it."""
    if node.op_type != "Conv":
        return _ROW
    given = {item.name: list(item.ints) or item.i for item in node.attribute}
    if given.get("group", 1) != 1:
        return None
    is_dense = all(value == 1 for name in ("kernel_shape", "strides") for value in given.get(name, [1]))
    return _CHANNELS if is_dense else _IMAGE


def _unquantised(name: str, makers: dict[str, Any]) -> str:
    """Return the tensor that tf2onnx itself quantises, by its range as a whole, before some dense layers."""
    dequantised = makers.get(name)
    if dequantised is None or dequantised.op_type != "DequantizeLinear":
        return name
    quantised = makers.get(dequantised.input[0])
    return name if quantised is None or quantised.op_type != "DynamicQuantizeLinear" else str(quantised.input[0])


def _quantised(graph: Any, source: str, output: str, axes: Sequence[int]) -> list[Any]:
    """Return nodes that round a tensor to 256 levels between its extremes and 0 over these axes."""
    from onnx import helper, numpy_helper

    def constant(name: str, value: float) -> str:
        full = f"quantised/{name}"
        if full not in {item.name for item in graph.initializer}:
            graph.initializer.append(numpy_helper.from_array(np.array(value, np.float32), full))
        return full

    nodes: list[Any] = []

    def operator(kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name, **attributes))
        return name

    zero, levels, least = (
        constant("zero", 0),
        constant("levels", _LEVELS),
        constant("least", float(np.finfo(np.float32).tiny)),
    )
    low = operator("ReduceMin", [source], f"{output}/lowest", axes=axes, keepdims=1)
    high = operator("ReduceMax", [source], f"{output}/highest", axes=axes, keepdims=1)
    low, high = operator("Min", [low, zero], f"{output}/low"), operator("Max", [high, zero], f"{output}/high")
    width = operator("Sub", [high, low], f"{output}/width")
    step = operator("Div", [width, levels], f"{output}/step_or_zero")
    step = operator("Max", [step, least], f"{output}/step")
    # A level is a whole number of steps from zero, which so has one itself.
    bottom = operator("Round", [operator("Div", [low, step], f"{output}/low_steps")], f"{output}/bottom")
    top = operator("Add", [bottom, levels], f"{output}/top")
    steps = operator("Round", [operator("Div", [source, step], f"{output}/steps")], f"{output}/rounded")
    steps = operator("Min", [operator("Max", [steps, bottom], f"{output}/above"), top], f"{output}/within")
    operator("Mul", [steps, step], output)
    return nodes


def _replace(graph: Any, nodes: Sequence[Any]) -> None:
    """Replace a graph's nodes, and drop nodes and constants that nothing uses any more."""
    used = {item.name for item in graph.output}
    kept = []
    for node in reversed(nodes):
        if used & set(node.output):
            used |= set(node.input)
            kept.append(node)
    constants = [item for item in graph.initializer if item.name in used]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(reversed(kept))
    graph.initializer.extend(constants)
