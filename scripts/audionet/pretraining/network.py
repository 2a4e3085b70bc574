"""The network that becomes a backbone: Inception-v3 up to a tap, and a head for each thing it learns to say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audionet.backbones.inception import FeatureLayer, inception_v3
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.views import AUXILIARY_WIDTH

COSINE_SCALE = 30.0
"""What cosines are multiplied by before the softmax."""

LOSS_WEIGHTS = {"teacher": 2.0, "content": 1.0, "speaker": 0.2, "word": 0.2, "sound": 0.2}
_HIDDEN = 256


@dataclass(frozen=True)
class Student:
    """The network in training.

    Attributes
    ----------
    features : keras.Model
        Pixels of 0 to 255 to bottlenecks: what is kept in the end.
    model : keras.Model
        The same with all heads; its outputs are named by what they say.
    """

    features: Any
    model: Any


def build(config: PretrainConfig, classes: Mapping[str, int], teacher_width: int) -> Student:
    """The untrained network, compiled with its losses.

    Parameters
    ----------
    config : PretrainConfig
    classes : mapping of str to int
        How many classes each task has: ``speaker``, ``word``, ``sound``, those there are.
    teacher_width : int
        Numbers in the teacher's answer; 0: no teacher.
    """
    import keras

    tap = FeatureLayer(config.endpoint, config.pooling, config.embedding)
    features = inception_v3((config.input_height, config.input_width), tap)
    bottleneck = features.output
    outputs = {"content": _dense(AUXILIARY_WIDTH, name="content")(bottleneck)}
    losses: dict[str, Any] = {"content": keras.losses.Huber()}
    if teacher_width:
        answer = _dense(teacher_width, name="teacher_direction")(bottleneck)
        outputs["teacher"] = keras.layers.UnitNormalization(name="teacher", dtype="float32")(answer)
        losses["teacher"] = keras.losses.CosineSimilarity()
    for task, count in classes.items():
        if task == "speaker":
            direction = _dense(_HIDDEN, name="speaker_direction", use_bias=False)(bottleneck)
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
        use_ema=config.average > 0,
        ema_momentum=config.average or 0.99,
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
    """Cross entropy of cosines of which the right one counts as `margin` less (CosFace: Wang et al., 2018).

    Returns
    -------
    callable
        Labels, int (n,), and cosines, float32 (n, classes), to losses, float32 (n,).
    """
    import keras

    def loss(labels: Any, cosines: Any) -> Any:
        labels = keras.ops.reshape(labels, (-1,))
        right = keras.ops.one_hot(labels, cosines.shape[-1], dtype=cosines.dtype)
        return keras.ops.sparse_categorical_crossentropy(
            labels, COSINE_SCALE * (cosines - margin * right), from_logits=True
        )

    return loss
