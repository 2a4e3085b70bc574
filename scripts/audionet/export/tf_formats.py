"""Export to TensorFlow's own formats: frozen graph, SavedModel, Keras file.

The frozen graph and the SavedModel take JPG bytes, and compute `network_input` as TensorFlow operations.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from audionet.audio.image import LEVEL_OF_LUMA
from audionet.audio.network_input import BANDS, STATISTICS_WIDTHS, ImageFeatures, cosine_transform, model_inputs
from audionet.backbones.registry import Backbone
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.classifier.head import Head
from audionet.errors import AudioNetError, BackboneError, ModelError
from audionet.training.config import StepConfig
from audionet.training.head_training import set_head_weights
from audionet.training.networks import add_head
from audionet.utils.arrays import FloatArray
from audionet.utils.process import native_stderr_muted
from audionet.utils.text import first_line

INPUT_NAME = "jpeg"

_INNER = ".network"  # --final_tensor_name begins with a letter, so that no other node or layer can have its name
_LUMA = (19595, 38470, 7471)  # Pillow's weights of red, green and blue, times 65536


def write_model(
    path: Path,
    suffix: str,
    backbone: Backbone,
    head: Head,
    output_name: str,
    image_size: tuple[int, int] | None = None,
) -> None:
    """Write a model in one of TensorFlow's formats.

    Parameters
    ----------
    path : Path
        The file or, for a SavedModel, the folder to write.
    suffix : str
        ``.pb``: a frozen graph from ``jpeg:0``, bytes (n,), to ``<output_name>:0``, probabilities (n, labels).
        Empty: a SavedModel whose ``serving_default`` does the same. ``.keras``: a Keras model that takes pixels of
        0 to 255 and, where the bottleneck has them, statistics.
    backbone : Backbone
    head : Head
    output_name : str
    image_size : (int, int), optional
        Height and width of the only JPG images that a frozen graph and a SavedModel take; default: they resize any.

    Raises
    ------
    ModelError
        If the backbone cannot be written in this format.
    """
    if suffix == ".keras":
        _write_keras(path, backbone, head, output_name)
        return
    write = _write_graph if suffix else _write_saved_model
    write(path, *_probabilities(backbone, head, output_name, image_size))


def check_backbone(suffix: str, backbone: Backbone) -> None:
    """Check that a model on this backbone can be written in one of TensorFlow's formats.

    Raises
    ------
    ModelError
        If the format does not hold it.
    BackboneError
        If its original network cannot be loaded.
    """
    try:
        original = backbone.load()
    except AudioNetError:
        raise
    except Exception as error:  # of whatever class in TensorFlow and Keras
        raise BackboneError(
            f"{backbone.name}: its original network cannot be loaded ({first_line(error)}): "
            "name a .tflite or .onnx file"
        ) from None
    if suffix == ".keras" and original.model is None:
        raise ModelError(
            f"{backbone.name} is a SavedModel, which a .keras file cannot hold: name a .tflite, .onnx or .pb file, "
            "or a folder"
        )


def _write_graph(path: Path, owner: Any, function: Any) -> None:
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    with native_stderr_muted():
        frozen = convert_variables_to_constants_v2(function.get_concrete_function())
    path.write_bytes(frozen.graph.as_graph_def().SerializeToString())


def _write_saved_model(path: Path, owner: Any, function: Any) -> None:
    tf = import_tensorflow()
    module = tf.Module()
    module.network, module.probabilities = owner, function
    signature = module.probabilities.get_concrete_function()
    with native_stderr_muted():
        tf.saved_model.save(module, str(path), signatures={"serving_default": signature})


def _write_keras(path: Path, backbone: Backbone, head: Head, output_name: str) -> None:
    import_tensorflow()
    import keras

    check_backbone(".keras", backbone)
    features = backbone.load().model
    config = StepConfig(head=head.kind, hidden_units=1 if head.hidden is None else len(head.hidden.biases))
    built = add_head(features, head.offset, head.scale, len(head.last.biases), backbone.statistics, config)
    model = built.network.model
    set_head_weights(head, model)
    temporary = path.with_name(path.name + ".keras")  # Keras chooses the format by the suffix
    activation = keras.layers.Activation("sigmoid" if head.independent else "softmax", name=output_name)
    inner = keras.Model(model.inputs, model.outputs[0], name=_INNER)
    keras.Model(model.inputs, activation(inner(model.inputs))).save(temporary)
    shutil.move(temporary, path)


def predict(
    path: Path,
    suffix: str,
    output_name: str,
    jpgs: Sequence[bytes],
    images: Sequence[ImageFeatures],
    backbone: Backbone,
) -> FloatArray:
    """Compute the probabilities, (n, labels), of a model that `write_model` wrote.

    Parameters
    ----------
    path, suffix, output_name
        As given to `write_model`.
    jpgs : sequence of bytes
    images : sequence of ImageFeatures
        The same images decoded, for a model that does not take JPG bytes.
    backbone : Backbone
    """
    tf = import_tensorflow()
    import keras

    result: FloatArray
    if suffix == ".keras":
        temporary = path.with_name(path.name + ".keras")
        shutil.copyfile(path, temporary)
        inputs = zip(*(model_inputs(image, backbone.statistics) for image in images), strict=True)
        result = keras.models.load_model(temporary)(
            [np.concatenate(part).astype(np.float32) for part in inputs]
        ).numpy()
        temporary.unlink()
    elif suffix == ".pb":
        result = load_graph(path, output_name)(tf.constant(list(jpgs))).numpy()
    else:
        signature = tf.saved_model.load(str(path)).signatures["serving_default"]
        result = signature(**{INPUT_NAME: tf.constant(list(jpgs))})[output_name].numpy()
    return result


def load_graph(path: Path, output_name: str) -> Callable[[Any], Any]:
    """Load the function of a frozen graph: JPG bytes (n,) to probabilities (n, labels)."""
    tf = import_tensorflow()
    definition = tf.compat.v1.GraphDef.FromString(path.read_bytes())
    with native_stderr_muted():
        wrapped = tf.compat.v1.wrap_function(lambda: tf.import_graph_def(definition, name=""), [])
    function: Callable[[Any], Any] = wrapped.prune(f"{INPUT_NAME}:0", f"{output_name}:0")
    return function


def _probabilities(
    backbone: Backbone, head: Head, output_name: str, image_size: tuple[int, int] | None
) -> tuple[Any, Any]:
    """Return the object that owns the network's weights, and a tf.function from JPG bytes to probabilities."""
    tf = import_tensorflow()
    original = backbone.load()

    kind = backbone.statistics

    def prepare(jpg: Any) -> tuple[Any, Any]:
        return _pixels_and_statistics(tf, _decode(tf, jpg, image_size), original.input_size, kind)

    def logits(jpegs: Any) -> Any:
        height, width = original.input_size
        shapes = tf.TensorSpec((height, width, 3)), tf.TensorSpec((STATISTICS_WIDTHS[kind] if kind else 0,))
        pixels, statistics = tf.map_fn(prepare, jpegs, fn_output_signature=shapes)
        values = original.function(pixels)
        values = tf.concat([values, statistics], axis=1)
        values = (values - head.offset) * head.scale
        if head.hidden is not None:
            values = tf.nn.relu(values @ head.hidden.weights + head.hidden.biases)
        if head.unit_length:
            values = tf.math.l2_normalize(values, axis=1)
        return values @ head.last.weights + head.last.biases

    def probabilities(jpegs: Any) -> dict[str, Any]:
        with tf.name_scope(_INNER):
            values = logits(jpegs)
        activation = tf.math.sigmoid if head.independent else tf.nn.softmax
        return {output_name: activation(values, name=output_name)}

    signature = [tf.TensorSpec([None], tf.string, INPUT_NAME)]
    return original.owner, tf.function(probabilities, input_signature=signature, autograph=False)


def _decode(tf: Any, jpg: Any, size: tuple[int, int] | None) -> Any:
    """Decode an image, and check its height and width, as labelling does."""
    # The same decoder as Pillow's, so that the pixels are identical.
    image = tf.io.decode_jpeg(jpg, channels=3, dct_method="INTEGER_ACCURATE")
    if size is None:
        return image
    message = f"is an image of another size, but those of this model are {size[1]} x {size[0]}"
    with tf.control_dependencies([tf.debugging.assert_equal(tf.shape(image)[:2], size, message)]):
        return tf.identity(image)


def _pixels_and_statistics(tf: Any, image: Any, input_size: tuple[int, int], kind: str | None) -> tuple[Any, Any]:
    """Compute `network_input.image_features` of one image: pixels at the input size and statistics of this kind."""
    shape = tf.shape(image)

    def resize(size: Any) -> Any:
        # As in Pillow: along the width, then the height, rounded to integers after each.
        horizontal = tf.floor(tf.image.resize(image, [shape[0], size[1]], antialias=True) + 0.5)
        resized = tf.floor(tf.image.resize(horizontal, size, antialias=True) + 0.5)
        return tf.clip_by_value(resized, 0.0, 255.0)

    height, width = input_size
    pixels = tf.ensure_shape(resize(input_size), (height, width, 3))
    if kind is None:
        return pixels, tf.zeros((0,))
    bands = tf.cast(
        tf.cond(shape[0] == BANDS, lambda: tf.cast(image, tf.float32), lambda: resize([BANDS, shape[1]])), tf.int32
    )
    luma = (tf.reduce_sum(bands * tf.constant(_LUMA), axis=2) + 0x8000) // 0x10000
    level = tf.gather(tf.constant(LEVEL_OF_LUMA), luma)[::-1]
    rows = level if kind == "bands" else tf.matmul(cosine_transform(), level)
    statistics = tf.concat([tf.reduce_mean(rows, axis=1), tf.math.reduce_std(rows, axis=1)], axis=0)
    return pixels, tf.ensure_shape(statistics, (STATISTICS_WIDTHS[kind],))
