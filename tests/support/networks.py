"""LiteRT networks that are edited as flatbuffers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

INT32, FLOAT32 = schema.TensorType.INT32, schema.TensorType.FLOAT32


def edit_network(network: Path, path: Path, change: Callable[[Any, Any], object]) -> Path:
    """Write a copy of a .tflite file after `change(model, graph)`."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(network.read_bytes(), 0))
    change(model, model.subgraphs[0])
    builder = flatbuffers.Builder(1 << 16)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    path.write_bytes(builder.Output())
    return path


def add(model: Any, graph: Any, kind: str, inputs: list[int], *outputs: tuple[int, tuple[int, ...]]) -> None:
    """Append an operator whose outputs have these types and shapes."""
    code, operator = schema.OperatorCodeT(), schema.OperatorT()
    code.builtinCode = getattr(schema.BuiltinOperator, kind)
    code.deprecatedBuiltinCode = min(code.builtinCode, 127)
    model.operatorCodes.append(code)
    operator.opcodeIndex = len(model.operatorCodes) - 1
    operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([], np.int32)
    for kind_of_number, shape in outputs:
        operator.outputs = np.append(operator.outputs, constant(model, graph, kind_of_number, shape))
    graph.operators.append(operator)


def constant(model: Any, graph: Any, kind: int, shape: tuple[int, ...], values: Any = None) -> int:
    """Append a tensor, with values or without."""
    buffer, tensor = schema.BufferT(), schema.TensorT()
    if values is not None:
        buffer.data = np.frombuffer(np.array(values, np.int32).tobytes(), np.uint8)
    model.buffers.append(buffer)
    tensor.shape, tensor.type, tensor.buffer = np.array(shape, np.int32), kind, len(model.buffers) - 1
    tensor.name = b"added"
    graph.tensors.append(tensor)
    return np.int32(len(graph.tensors) - 1)
