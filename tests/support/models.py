"""Small backbones, and the labels of the shared model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from audionet.utils.files import sha256, write_json

INPUT_SIZE = (64, 48)
TONES = ("a300", "b600", "c1200", "d2400", "e4800")


def save_backbone(
    folder: Path, function: Callable[[Any, Any], Any], shape: tuple[int | None, ...] = (None, 64, 48, 3)
) -> Path:
    """A SavedModel, callable as TF Hub's image modules are; `function` takes (tf, pixels)."""
    from audionet.backbones.tf_runtime import import_tensorflow

    tf = import_tensorflow()
    module = tf.Module()
    module.__call__ = tf.function(lambda x: function(tf, x), input_signature=[tf.TensorSpec(shape, tf.float32)])
    signature = module.__call__.get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
    return folder


def save_lite_backbone(folder: Path) -> Path:
    """A backbone as pretrain.py writes it, without TensorFlow: its LiteRT network averages the image's rows over time.

    Its weights cannot be loaded: it can be neither fine-tuned nor exported to TensorFlow's formats.
    """
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    types = schema.TensorType
    model, graph, nothing, axes = schema.ModelT(), schema.SubGraphT(), schema.BufferT(), schema.BufferT()
    axes.data = np.frombuffer(np.array([2, 3], "<i4").tobytes(), np.uint8)
    model.version, model.subgraphs, model.buffers = 3, [graph], [nothing, axes]
    graph.tensors, graph.operators, model.operatorCodes = [], [], []
    for name, shape, kind, buffer in (
        ("pixels", (1, *INPUT_SIZE, 3), types.UINT8, 0),
        ("axes", (2,), types.INT32, 1),
        ("values", (1, *INPUT_SIZE, 3), types.FLOAT32, 0),
        ("rows", (1, INPUT_SIZE[0]), types.FLOAT32, 0),
    ):
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type, tensor.buffer = name.encode(), np.array(shape, np.int32), kind, buffer
        graph.tensors.append(tensor)
    for kind, inputs, output, options in (
        ("CAST", [0], 2, schema.CastOptionsT()),
        ("MEAN", [2, 1], 3, schema.ReducerOptionsT()),
    ):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        operator.opcodeIndex = len(model.operatorCodes)
        operator.inputs, operator.outputs = np.array(inputs, np.int32), np.array([output], np.int32)
        operator.builtinOptions = options
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs = np.array([0], np.int32), np.array([3], np.int32)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    folder.mkdir(parents=True)
    network, weights = folder / f"{folder.name}.tflite", folder / f"{folder.name}.npz"
    network.write_bytes(builder.Output())
    write_json(network.with_suffix(".json"), {"sha256": sha256(network), "arithmetic": "float32", "cosine": 1.0})
    weights.write_bytes(b"")
    card = {"name": folder.name, "weights": weights.name, "sha256": sha256(weights), "input_size": INPUT_SIZE}
    write_json(folder / "backbone.json", card | {"statistics": None})
    return folder
