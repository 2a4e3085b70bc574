"""Network in training: Inception-v3 up to the feature layer, with one head for each training task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audionet.backbones.inception import FeatureLayer, inception_v3
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.views import AUXILIARY_WIDTH

COSINE_SCALE = 30.0
"""Scale of the cosines before the softmax."""

LOSS_WEIGHTS = {"teacher": 2.0, "content": 1.0, "speaker": 0.2, "word": 0.2, "sound": 0.2}
_SPEAKER_DIMENSIONS = 256


@dataclass(frozen=True)
class Student:
    """The network in training.

    Attributes
    ----------
    features : keras.Model
        Maps pixels of 0 to 255 to bottlenecks; the part that the backbone keeps.
    model : keras.Model
        The same with all heads; its outputs are named after their tasks.
    """

    features: Any
    model: Any


def build(config: PretrainConfig, classes: Mapping[str, int], teacher_width: int) -> Student:
    """Build the untrained network and compile it with its losses.

    Parameters
    ----------
    config : PretrainConfig
    classes : mapping of str to int
        Number of classes of each task: ``speaker``, ``word``, ``sound``, as far as the corpus has them.
    teacher_width : int
        Dimensions of the teacher's embedding; 0: no teacher.
    """
    import keras

    layer = FeatureLayer(config.endpoint, config.pooling, config.embedding)
    features = inception_v3((config.input_height, config.input_width), layer)
    bottleneck = features.output
    outputs = {"content": _dense(AUXILIARY_WIDTH, name="content")(bottleneck)}
    losses: dict[str, Any] = {"content": keras.losses.Huber()}
    if teacher_width:
        embedding = _dense(teacher_width, name="teacher_direction")(bottleneck)
        outputs["teacher"] = keras.layers.UnitNormalization(name="teacher", dtype="float32")(embedding)
        losses["teacher"] = keras.losses.CosineSimilarity()
    for task, count in classes.items():
        if task == "speaker":
            direction = _dense(_SPEAKER_DIMENSIONS, name="speaker_direction", use_bias=False)(bottleneck)
            direction = keras.layers.UnitNormalization(name="speaker_unit", dtype="float32")(direction)
            outputs[task] = _dense(
                count, name="speaker", use_bias=False, kernel_constraint=keras.constraints.UnitNorm(axis=0)
            )(direction)
            losses[task] = margin_softmax(config.margin)
        else:
            outputs[task] = _dense(count, name=task)(bottleneck)
            losses[task] = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model = keras.Model(features.inputs[0], outputs)
    optimizer = keras.optimizers.AdamW(
        config.learning_rate,
        weight_decay=config.weight_decay,
        global_clipnorm=5.0,
        use_ema=config.ema_decay > 0,
        ema_momentum=config.ema_decay or 0.99,
    )
    model.compile(
        optimizer,
        loss=losses,
        loss_weights={name: LOSS_WEIGHTS[name] for name in losses},
        # XLA's convolutions are slower on a CPU than oneDNN's.
        jit_compile=False if keras.backend.backend() == "tensorflow" else "auto",
    )
    optimizer.build(model.trainable_variables)
    return Student(features, model)


def _dense(width: int, **options: Any) -> Any:
    import keras

    return keras.layers.Dense(width, dtype="float32", **options)


def margin_softmax(margin: float) -> Any:
    """Return the additive-margin softmax loss: the true class's cosine minus `margin` (CosFace: Wang et al., 2018).

    Returns
    -------
    callable
        Maps labels, int (n,), and cosines, float32 (n, classes), to losses, float32 (n,).
    """
    import keras

    def loss(labels: Any, cosines: Any) -> Any:
        labels = keras.ops.reshape(labels, (-1,))
        true_class = keras.ops.one_hot(labels, cosines.shape[-1], dtype=cosines.dtype)
        return keras.ops.sparse_categorical_crossentropy(
            labels, COSINE_SCALE * (cosines - margin * true_class), from_logits=True
        )

    return loss
