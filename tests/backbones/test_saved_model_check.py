from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from audionet.backbones import saved_model as saved_models
from audionet.backbones.saved_model_check import check_saved_model
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.errors import BackboneError
from tests.support.models import save_backbone

pytestmark = pytest.mark.tensorflow


def means(tf: Any, x: Any) -> Any:
    return tf.reduce_mean(x, [1, 2])


def after(tf: Any, operations: list[Any], x: Any) -> Any:
    """The features, computed after other operations."""
    with tf.control_dependencies(operations):
        return tf.identity(means(tf, x))


def write(tf: Any, x: Any, marker: str) -> Any:
    return after(tf, [tf.io.write_file(marker, "written")], x)


def write_in_a_branch(tf: Any, x: Any, marker: str) -> Any:
    inner = tf.function(lambda: write(tf, x, marker))
    return tf.cond(tf.reduce_mean(x) > -1, lambda: inner(), lambda: means(tf, x))


def write_in_a_loop(tf: Any, x: Any, marker: str) -> Any:
    return tf.while_loop(lambda i, y: i < 1, lambda i, y: (i + 1, write(tf, x, marker)), [0, means(tf, x)])[1]


def write_in_a_dataset(tf: Any, x: Any, marker: str) -> Any:
    data = tf.data.Dataset.range(1).map(lambda i: (tf.io.write_file(marker, "written"), i)[1])
    return means(tf, x) + tf.cast(data.reduce(tf.constant(0, tf.int64), lambda a, b: a + b), tf.float32)


def read(tf: Any, x: Any, marker: str) -> Any:
    return means(tf, x) + tf.cast(tf.strings.length(tf.io.read_file(__file__)), tf.float32)


def read_lines(tf: Any, x: Any, marker: str) -> Any:
    lines = tf.data.TextLineDataset(__file__).reduce(0, lambda count, line: count + 1)
    return means(tf, x) + tf.cast(lines, tf.float32)


def list_files(tf: Any, x: Any, marker: str) -> Any:
    return means(tf, x) + tf.cast(tf.size(tf.io.matching_files("/*")), tf.float32)


def print_to_a_file(tf: Any, x: Any, marker: str) -> Any:
    return after(tf, [tf.print("written", output_stream=f"file://{marker}")], x)


def summarise(tf: Any, x: Any, marker: str) -> Any:
    writer = tf.raw_ops.SummaryWriter()
    made = tf.raw_ops.CreateSummaryFileWriter(
        writer=writer, logdir=marker, max_queue=1, flush_millis=1, filename_suffix=""
    )
    return after(tf, [made], x)


def save_variables(tf: Any, x: Any, marker: str) -> Any:
    saved = tf.raw_ops.SaveV2(prefix=marker, tensor_names=["x"], shape_and_slices=[""], tensors=[x])
    return after(tf, [saved], x)


def read_variables(tf: Any, x: Any, marker: str) -> Any:
    (value,) = tf.raw_ops.RestoreV2(prefix=marker, tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])
    return means(tf, x) + value


def read_memory_map(tf: Any, x: Any, marker: str) -> Any:
    value = tf.raw_ops.ImmutableConst(dtype=tf.float32, shape=[3], memory_region_name=__file__)
    return means(tf, x) + value


def read_description(tf: Any, x: Any, marker: str) -> Any:
    sizes, _ = tf.raw_ops.DecodeProtoV2(
        bytes=["x"], message_type="x", field_names=["x"], output_types=[tf.float32], descriptor_source=__file__
    )
    return means(tf, x) + tf.cast(tf.reduce_sum(sizes), tf.float32)


def run_python(tf: Any, x: Any, marker: str) -> Any:
    def touch() -> None:
        Path(marker).write_text("written")

    return after(tf, [tf.py_function(touch, [], [])], x)


def end_the_process(tf: Any, x: Any, marker: str) -> Any:
    return after(tf, [tf.raw_ops.Abort(error_msg="no", exit_without_error=True)], x)


@pytest.mark.parametrize(
    ("function", "operation"),
    [
        (write, "WriteFile"),
        (write_in_a_branch, "WriteFile"),
        (write_in_a_loop, "WriteFile"),
        (write_in_a_dataset, r"(WriteFile|\w*Dataset)"),
        (read, "ReadFile"),
        (read_lines, r"\w*Dataset"),
        (list_files, "MatchingFiles"),
        (print_to_a_file, "PrintV2"),
        (summarise, "SummaryWriter"),
        (save_variables, "SaveV2"),
        (read_variables, "RestoreV2"),
        (read_memory_map, "ImmutableConst"),
        (read_description, "DecodeProtoV2"),
        (run_python, "EagerPyFunc"),
        (end_the_process, "Abort"),
    ],
)
def test_an_operation_that_reaches_outside_is_refused(
    tmp_path: Path, function: Callable[..., Any], operation: str
) -> None:
    marker = tmp_path / "marker"
    folder = save_backbone(tmp_path / "hostile", lambda tf, x: function(tf, x, str(marker)))
    assert_refused(folder, operation)
    assert not marker.exists()


def assert_refused(folder: Path, operation: str) -> None:
    with pytest.raises(BackboneError, match=rf"its operation {operation} .*inception_v3_speech") as error:
        saved_models.load_saved_model(folder, str(folder), None)
    assert str(error.value).startswith(f"{folder}: ")
    assert len(str(error.value).splitlines()) == 1


def test_an_initialiser_that_writes_is_refused(tmp_path: Path) -> None:
    tf = import_tensorflow()
    marker = tmp_path / "marker"

    class Resource(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
        def _create_resource(self) -> Any:
            return tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[])

        def _initialize(self) -> None:
            tf.io.write_file(str(marker), "written")

    module = tf.Module()
    module.resource = Resource()
    module.__call__ = tf.function(lambda x: means(tf, x), input_signature=[tf.TensorSpec([None, 64, 48, 3])])
    tf.saved_model.save(module, str(tmp_path / "hostile"))
    marker.unlink(missing_ok=True)  # saving may run it
    assert_refused(tmp_path / "hostile", "WriteFile")
    assert not marker.exists()


def edit(folder: Path, change: Callable[[Any], object]) -> None:
    """Change the only graph of a SavedModel."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    path = folder / "saved_model.pb"
    message = SavedModel.FromString(path.read_bytes())
    change(message.meta_graphs[0])
    path.write_bytes(message.SerializeToString())


def saver_function(graph: Any) -> Any:
    library = graph.graph_def.library.function
    return next(item for item in library if any(node.op == "SaveV2" for node in item.node_def))


def run_function(graph: Any) -> Any:
    named = graph.object_graph_def.concrete_functions
    return next(item for item in graph.graph_def.library.function if item.signature.name in named)


def call_from_a_function(graph: Any) -> None:
    call = run_function(graph).node_def.add(name="save", op="StatefulPartitionedCall")
    call.attr["f"].func.name = saver_function(graph).signature.name


def call_from_an_attribute_of_a_function(graph: Any) -> None:
    branch = run_function(graph).node_def.add(name="save", op="Case").attr["branches"].list.func.add(name="other")
    branch.attr["f"].func.name = saver_function(graph).signature.name


def call_by_name(graph: Any) -> None:
    run_function(graph).node_def.add(name="save", op=saver_function(graph).signature.name)


def call_as_an_object(graph: Any) -> None:
    graph.object_graph_def.concrete_functions[saver_function(graph).signature.name].SetInParent()


def call_as_a_gradient(graph: Any) -> None:
    graph.graph_def.library.gradient.add(function_name="f", gradient_func=saver_function(graph).signature.name)


def put_in_the_place_of_another(graph: Any) -> None:
    saver_function(graph).attr["api_implements"].s = b"mean"


def load_as_tensorflow_1_does(graph: Any) -> None:
    graph.ClearField("object_graph_def")
    graph.saver_def.restore_op_name = graph.saver_def.save_tensor_name.partition(":")[0]


@pytest.mark.parametrize(
    "change",
    [
        call_from_a_function,
        call_from_an_attribute_of_a_function,
        call_by_name,
        call_as_an_object,
        call_as_a_gradient,
        put_in_the_place_of_another,
        load_as_tensorflow_1_does,
    ],
)
def test_a_saver_that_would_be_run_is_refused(tmp_path: Path, change: Callable[[Any], object]) -> None:
    tf = import_tensorflow()
    module = tf.Module()
    module.variable = tf.Variable(1.0)
    module.__call__ = tf.function(
        lambda x: means(tf, x) * module.variable, input_signature=[tf.TensorSpec([None, 64, 48, 3])]
    )
    folder = tmp_path / "hostile"
    tf.saved_model.save(module, str(folder), signatures=module.__call__.get_concrete_function())
    check_saved_model(folder)
    edit(folder, change)
    assert_refused(folder, "(SaveV2|ShardedFilename|MergeV2Checkpoints)")


@pytest.mark.parametrize("name", ["NoSuchOperation", "_Send"])
def test_an_operation_that_is_not_known_is_refused(tmp_path: Path, name: str) -> None:
    folder = save_backbone(tmp_path / "hostile", means)
    edit(folder, lambda graph: graph.graph_def.node.add(name="x", op=name))
    assert_refused(folder, name)


def save_as_tensorflow_1_does(folder: Path, main_op: Callable[[Any], Any] | None = None) -> Path:
    tf = import_tensorflow()
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        pixels = v1.placeholder(tf.float32, [None, 64, 48, 3])
        scale = v1.get_variable("scale", initializer=2.0, use_resource=False)
        features = means(tf, pixels) * scale
        session.run(v1.global_variables_initializer())
        signature = v1.saved_model.predict_signature_def({"pixels": pixels}, {"default": features})
        builder = v1.saved_model.Builder(str(folder))
        main = None if main_op is None else tf.group(main_op(tf))
        builder.add_meta_graph_and_variables(session, ["serve"], {"serving_default": signature}, main_op=main)
        builder.save()
    return folder


def test_a_main_op_of_tensorflow_1_that_writes_is_refused(tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    folder = save_as_tensorflow_1_does(tmp_path / "hostile", lambda tf: tf.io.write_file(str(marker), "written"))
    assert_refused(folder, "WriteFile")
    assert not marker.exists()


def restore_another_file(graph: Any) -> None:
    node = next(node for node in graph.graph_def.node if node.op == "RestoreV2")
    graph.graph_def.node.add(name="elsewhere", op="Const")
    node.input[0] = "elsewhere"


def save_as_the_main_op(graph: Any) -> None:
    graph.collection_def["saved_model_main_op"].node_list.value[:] = [graph.saver_def.save_tensor_name]


def save_as_a_signature(graph: Any) -> None:
    graph.signature_def["serving_default"].outputs["default"].name = graph.saver_def.save_tensor_name


def restore_as_a_signature(graph: Any) -> None:
    node = next(node for node in graph.graph_def.node if node.op == "RestoreV2")
    graph.signature_def["serving_default"].outputs["default"].name = f"{node.name}:0"


@pytest.mark.parametrize(
    "change", [restore_another_file, save_as_the_main_op, save_as_a_signature, restore_as_a_signature]
)
def test_a_saver_of_tensorflow_1_that_would_be_run_is_refused(tmp_path: Path, change: Callable[[Any], object]) -> None:
    folder = save_as_tensorflow_1_does(tmp_path / "hostile")
    edit(folder, change)
    assert_refused(folder, "(SaveV2|RestoreV2|ShardedFilename|MergeV2Checkpoints)")


def test_a_network_of_tensorflow_1_is_loaded_with_its_variables(tmp_path: Path) -> None:
    import numpy as np

    folder = save_as_tensorflow_1_does(tmp_path / "plain")
    source = saved_models.load_saved_model(folder, "plain", None)
    pixels = np.full((1, 64, 48, 3), 255, np.float32)
    np.testing.assert_allclose(source.function(pixels), [[2, 2, 2]])


@pytest.mark.slow
@pytest.mark.parametrize("how", ["save", "export"])
def test_a_network_of_keras_is_loaded(tmp_path: Path, how: str) -> None:
    tf = import_tensorflow()
    import keras

    model = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=None, pooling="avg")
    if how == "save":
        tf.saved_model.save(model, str(tmp_path / "plain"))
    else:
        model.export(str(tmp_path / "plain"), verbose=False)
    source = saved_models.load_saved_model(tmp_path / "plain", "plain", 96)
    (features,) = tf.nest.flatten(source.function(tf.zeros([1, 96, 96, 3])))
    assert features.shape == (1, 1280)


def test_the_operations_of_networks_are_let_through(tmp_path: Path) -> None:
    def function(tf: Any, x: Any) -> Any:
        resized = tf.image.resize(x, [16, 16])
        noise = tf.random.uniform(tf.shape(resized)) * tf.random.stateless_normal(tf.shape(resized), [1, 2]) * 0
        kept = tf.nn.dropout(tf.nn.swish(resized + noise), 0.5)
        weights = tf.einsum("bhwc,dc->bhwd", kept, tf.ones([4, 3]))
        each = tf.map_fn(lambda image: tf.reduce_mean(image, [0, 1]), weights)
        tf.debugging.assert_all_finite(each, "x")
        return tf.tensor_scatter_nd_update(each, [[0, 0]], [0.0])

    folder = save_backbone(tmp_path / "plain", function)
    saved_models.load_saved_model(folder, "plain", None)


def test_names_of_classes_are_let_through(tmp_path: Path) -> None:
    tf = import_tensorflow()
    module = tf.Module()
    module.names = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer([0, 1], ["dog", "cat"]), "")
    module.named = tf.function(lambda x: module.names[x], input_signature=[tf.TensorSpec([], tf.int32)])
    module.__call__ = tf.function(lambda x: means(tf, x), input_signature=[tf.TensorSpec([None, 64, 48, 3])])
    tf.saved_model.save(module, str(tmp_path / "plain"), signatures=module.__call__.get_concrete_function())
    saved_models.load_saved_model(tmp_path / "plain", "plain", None)


@pytest.mark.parametrize("other", ["saved_model.pbtxt", "saved_model.cpb"])
def test_other_forms_are_refused(tmp_path: Path, other: str) -> None:
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / other).write_text("")
    with pytest.raises(BackboneError, match=rf"{other} is a SavedModel in a form that is not checked: name"):
        saved_models.load_saved_model(folder, "hostile", None)


def test_a_file_of_great_size_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "saved_model.pb").open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(BackboneError, match=r"has more than \d+ bytes"):
        saved_models.load_saved_model(tmp_path, "hostile", None)
