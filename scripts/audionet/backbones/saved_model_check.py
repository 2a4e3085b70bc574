"""Refusal of SavedModels whose operations could reach files, the network, other processes or Python.

A SavedModel is a program in TensorFlow's operations, and loading it already runs parts of it. A file, a host or a
program is named by text. So an operation may stand in a SavedModel if TensorFlow knows it, it keeps no state, and it
takes no text: neither a tensor of strings nor an attribute of free text. Few others are needed, and listed here.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from audionet.backbones.tf_runtime import import_tensorflow
from audionet.errors import BackboneError
from audionet.utils.text import escape

_FILE = "saved_model.pb"
_OTHER_FORMS = ("saved_model.pbtxt", "saved_model.cpb")
_LARGEST = 256 * 2**20  # bytes; that of a large network without its variables is a tenth of it

_HARMLESS = re.compile(
    # Variables.
    r"VarHandleOp|Variable(V2|Shape)?|(Read|Assign|AssignAdd|AssignSub)VariableOp|VarIsInitializedOp|DisableCopyOnRead"
    r"|DestroyResourceOp|Resource(Gather|Scatter|Apply|SparseApply|StridedSliceAssign)\w*"
    # Functions and control flow.
    r"|(Stateful)?PartitionedCall|If|While|Case|(Ref)?Enter|TensorArray\w*V3|Stack(V2|PushV2|PopV2|CloseV2)"
    r"|Assert|CheckNumerics(V2)?|PreventGradient|GuaranteeConst|Empty"
    # Random numbers.
    r"|Random(Uniform|UniformInt|StandardNormal|Gamma|Shuffle|Crop)|(Parameterized)?TruncatedNormal|Multinomial"
    r"|Stateful(Uniform|UniformInt|UniformFullInt|StandardNormalV2|TruncatedNormal)|RngSkip|RngReadAndSkip"
    r"|NonDeterministicInts|StatelessRandomGetAlg|SampleDistortedBoundingBox(V2)?"
    # Tables from memory, as networks have for the names of their classes.
    r"|(Anonymous)?(Mutable)?HashTable(V2)?|LookupTable(Find|Insert|Remove|Size|Import|Export)V2|InitializeTableV2"
    # Encoded images and examples, and text, as signatures for serving take.
    r"|Decode(Jpeg|AndCropJpeg|Png|Bmp|Gif|Image|Base64|Raw)|EncodeBase64|ExtractJpegShape|ParseExample(V2)?"
    r"|AsString|String(Join|Format|Length|Lower|Upper|Strip|ToNumber)|StaticRegex(FullMatch|Replace)"
)
"""Operations that keep state or take text, and reach nothing outside of the network."""

_HARMLESS_TEXTS = {
    "bad_indices_policy",
    "equation",
    "interpolation",
    "fill_mode",
    "kernel_type",
    "src_format",
    "dst_format",
    "row_partition_types",
}
"""Attributes whose text chooses a kind of arithmetic."""

_SAVER = {"SaveV2", "RestoreV2", "ShardedFilename", "MergeV2Checkpoints"}
"""Operations with which a SavedModel would be saved again; every one has them, and no loader runs them, but for a
RestoreV2 of TensorFlow 1, which reads the SavedModel's own variables."""


def check_saved_model(folder: Path) -> None:
    """Check that a SavedModel holds no operation that could reach outside of it, before any of it is run.

    Assets need no check: their paths are text in the graph, and no operation that is let through reads one.

    Raises
    ------
    BackboneError
        If it holds one, is in another form than ``saved_model.pb``, or cannot be read; the message names the operation.
    """
    graphs = _read(folder).meta_graphs
    for graph in graphs:
        # Only then does TensorFlow load the objects and their functions, otherwise the graph as TensorFlow 1 did.
        from_objects = len(graphs) == 1 and graph.HasField("object_graph_def")
        for node, where in _refused(graph, from_objects):
            raise BackboneError(
                f"{escape(folder)}: its operation {escape(node.op)} ({escape(node.name)}{where}) could reach files, "
                "the network or other programs, so none of it is run: name another backbone, such as "
                "--architecture inception_v3_speech, or export the network without it"
            )


def _read(folder: Path) -> Any:
    import_tensorflow()
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    remedy = f"name a folder that holds a SavedModel as {_FILE} alone"
    if other := next((name for name in _OTHER_FORMS if (folder / name).exists()), None):
        raise BackboneError(f"{escape(folder / other)} is a SavedModel in a form that is not checked: {remedy}")
    path = folder / _FILE
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST + 1)
    except OSError:
        raise BackboneError(f"{escape(path)} cannot be read: {remedy}") from None
    if len(content) > _LARGEST:
        raise BackboneError(f"{escape(path)} has more than {_LARGEST} bytes: {remedy}")
    try:
        return SavedModel.FromString(content)
    except Exception:  # protobuf's, whose package is not ours to import
        raise BackboneError(f"{escape(folder)} cannot be loaded as a SavedModel: {remedy}") from None


def _refused(graph: Any, from_objects: bool) -> Iterator[tuple[Any, str]]:
    """List the operations that must not run, each with the function that holds it."""
    nodes = {node.name: node for node in graph.graph_def.node}
    library = {function.signature.name: function for function in graph.graph_def.library.function}

    def inputs(name: str) -> Iterable[str]:
        return map(_node_of, nodes[name].input) if name in nodes else ()

    def functions(name: str) -> Iterable[str]:
        return (other for node in library[name].node_def for other in _called(node)) if name in library else ()

    run = _closure(_run_nodes(graph), inputs)
    restored = set() if from_objects else _closure([_node_of(graph.saver_def.restore_op_name)], inputs)
    called = (name for node in run | restored if node in nodes for name in _called(nodes[node]))
    run_functions = _closure([*_run_functions(graph), *called], functions)
    file_name = _node_of(graph.saver_def.filename_tensor_name)

    def is_refused(node: Any) -> bool:
        return not (_is_harmless(node.op) or (node.op in library and _definition(node.op) is None))

    for node in graph.graph_def.node:
        is_restore = node.op == "RestoreV2" and [_node_of(name) for name in node.input[:1]] == [file_name]
        is_unused = node.name not in run and (is_restore or node.name not in restored)
        if is_refused(node) and not (node.op in _SAVER and is_unused):
            yield node, ""
    for name, function in library.items():
        for node in function.node_def:
            if is_refused(node) and not (node.op in _SAVER and name not in run_functions):
                yield node, f", in the function {escape(name)}"


def _definition(operation: str) -> Any:
    from tensorflow.python.framework import op_def_registry

    return op_def_registry.get(operation)


@functools.cache
def _is_harmless(operation: str) -> bool:
    from tensorflow.core.framework.types_pb2 import DT_STRING

    definition = _definition(operation)
    if definition is None or operation.startswith("_"):  # TensorFlow's own rewriting alone makes the latter
        return False
    if _HARMLESS.fullmatch(operation):
        return True
    takes_text = any(value.type == DT_STRING for value in definition.input_arg) or any(
        attribute.type in ("string", "list(string)")
        and not attribute.allowed_values.list.s
        and attribute.name not in _HARMLESS_TEXTS
        for attribute in definition.attr
    )
    return not definition.is_stateful and not takes_text


def _run_nodes(graph: Any) -> Iterator[str]:
    """List the nodes of the outer graph that a signature or loading runs, without the restoring of variables."""
    for signature in graph.signature_def.values():
        for output in signature.outputs.values():
            yield from _nodes_of(output)
    for collection in graph.collection_def.values():
        yield from map(_node_of, collection.node_list.value)


def _nodes_of(output: Any) -> Iterator[str]:
    """List the nodes that a signature's output names: one, or those of its parts."""
    sparse = output.coo_sparse
    names = (output.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name)
    yield from map(_node_of, names)
    for component in output.composite_tensor.components:
        yield from _nodes_of(component)


def _run_functions(graph: Any) -> Iterator[str]:
    """List the functions that loading, a call or a gradient may run, without those that they call."""
    objects = graph.object_graph_def
    yield from objects.concrete_functions
    for item in objects.nodes:
        yield from item.function.concrete_functions
        yield item.bare_concrete_function.concrete_function_name
        yield item.captured_tensor.concrete_function
    library = graph.graph_def.library
    for gradient in library.gradient:
        yield gradient.gradient_func
    for registered in library.registered_gradients:
        yield registered.gradient_func
    for function in library.function:
        if "api_implements" in function.attr:  # TensorFlow puts it in the place of another that implements the same
            yield function.signature.name


def _called(node: Any) -> Iterator[str]:
    """List the functions that a node names."""
    yield node.op
    for value in node.attr.values():
        yield from _functions_of(value)


def _functions_of(value: Any) -> Iterator[str]:
    for function in (value.func, *value.list.func):
        yield function.name
        for inner in function.attr.values():
            yield from _functions_of(inner)


def _node_of(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _closure(roots: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    """Return the names that are reached from `roots`."""
    found: set[str] = set()
    waiting = list(roots)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting.extend(following(name))
    return found
