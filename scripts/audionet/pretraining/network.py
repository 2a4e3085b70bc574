"""Network in training: Inception-v3 up to the feature layer and the voice layer, with one head for each task."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from audionet.backbones.inception import FeatureLayer, VoiceLayer, endpoints, inception_v3
from audionet.backbones.registry import load_finished_model
from audionet.errors import UsageError
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.views import AUXILIARY_WIDTH

COSINE_SCALE = 30.0
"""Scale of the cosines before the softmax."""

LOSS_WEIGHTS = {"voice": 4.0, "teacher": 1.0, "content": 1.0, "speaker": 0.2, "word": 0.2, "sound": 0.5}


@dataclass(frozen=True)
class Student:
    """The network in training.

    Attributes
    ----------
    features : keras.Model
        Maps pixels of 0 to 255 to bottlenecks and, if there is a voice layer, voice embeddings; the part that the
        backbone keeps.
    model : keras.Model
        The same with all heads; its outputs are named after their tasks.
    """

    features: Any
    model: Any


def feature_layer(config: PretrainConfig) -> FeatureLayer:
    """Return the feature layer in training."""
    return FeatureLayer(config.endpoint, config.pooling, config.embedding)


def voice_layer(config: PretrainConfig) -> VoiceLayer | None:
    """Return the voice layer, None if there is none."""
    return VoiceLayer(config.voice_endpoint, config.voice_width) if config.voice_width else None


def build(config: PretrainConfig, classes: Mapping[str, int], teacher_width: int) -> Student:
    """Build the network, untrained or from an earlier backbone, and compile it with its losses.

    Parameters
    ----------
    config : PretrainConfig
    classes : mapping of str to int
        Number of classes of each task: ``speaker``, ``word``, ``sound``, as far as the corpus has them.
    teacher_width : int
        Dimensions of the teacher's embedding; 0: no teacher.

    Raises
    ------
    UsageError
        If the backbone to start from does not exist, or is another network.
    """
    import keras

    features = plain_features(config)
    if is_tensorflow():
        features = with_fused_batch_norm(features)
    if config.initial is not None:
        copy_weights(load_finished_model(config.initial), features)
    bottleneck, *voices = features.outputs
    outputs = {"content": _dense(AUXILIARY_WIDTH, name="content")(bottleneck)}
    losses: dict[str, Any] = {"content": keras.losses.Huber()}
    for name, vector in (("teacher", bottleneck), *(("voice", vector) for vector in voices)):
        if teacher_width:
            # A voice embedding of the teacher's width is the teacher's: its cosines are what the losses shape.
            direct = name == "voice" and vector.shape[-1] == teacher_width
            outputs[name] = vector if direct else _unit(_dense(teacher_width, name=f"{name}_of_teacher")(vector))
            losses[name] = keras.losses.CosineSimilarity()
    for task, count in classes.items():
        if task == "speaker":
            voice = voices[0] if voices else _unit(bottleneck)
            outputs[task] = _dense(
                count, name="speaker", use_bias=False, kernel_constraint=keras.constraints.UnitNorm(axis=0)
            )(voice)
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
        jit_compile=False if is_tensorflow() else "auto",
    )
    optimizer.build(model.trainable_variables)
    return Student(features, model)


def is_tensorflow() -> bool:
    """Return whether Keras runs on TensorFlow."""
    import keras

    return bool(keras.backend.backend() == "tensorflow")


def plain_features(config: PretrainConfig) -> Any:
    """Build the part of the network that the backbone keeps, of Keras's own layers, untrained."""
    return inception_v3((config.input_height, config.input_width), feature_layer(config), voice_layer(config))


def copy_weights(source: Any, target: Any) -> None:
    """Copy the weights of the blocks that two networks have in common, up to the last such block.

    Raises
    ------
    UsageError
        If they have none in common, or its weights have other shapes.
    """
    import keras

    common = [name for name in endpoints(source) if name in endpoints(target)]
    try:
        trunks = [keras.Model(model.inputs[0], model.get_layer(common[-1]).output) for model in (source, target)]
        trunks[1].set_weights(trunks[0].get_weights())
    except (IndexError, ValueError):
        raise UsageError(
            "--initial is another network: name a backbone of Inception-v3 at the same input size"
        ) from None


def with_fused_batch_norm(model: Any) -> Any:
    """Rebuild a model with TensorFlow's fused operation for the batch normalisation of maps.

    Keras computes it in steps, each of which reads and writes all maps: training steps take 1.7 times as long.
    """
    import keras
    import tensorflow as tf

    class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
        def call(self, inputs: Any, training: bool = False, mask: Any = None) -> Any:
            maps = tf.cast(inputs, self.compute_dtype)
            scale = tf.ones_like(self.moving_mean) if self.gamma is None else tf.convert_to_tensor(self.gamma)
            moments = (self.moving_mean, self.moving_variance)
            is_trained = bool(training) and self.trainable
            normalised, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
                x=maps,
                scale=scale,
                offset=tf.convert_to_tensor(self.beta),
                mean=[] if is_trained else tf.convert_to_tensor(self.moving_mean),
                variance=[] if is_trained else tf.convert_to_tensor(self.moving_variance),
                epsilon=self.epsilon,
                is_training=is_trained,
            )
            if is_trained:
                for moving, current in zip(moments, (mean, variance), strict=True):
                    moving.assign(moving * self.momentum + current * (1 - self.momentum))
            return normalised

    def rebuild(layer: Any) -> Any:
        if type(layer) is keras.layers.BatchNormalization and len(layer.output.shape) == 4:
            return FusedBatchNormalization.from_config(layer.get_config())
        return type(layer).from_config(layer.get_config())

    fused = keras.models.clone_model(model, clone_function=rebuild)
    fused.set_weights(model.get_weights())
    return fused


def _dense(width: int, **options: Any) -> Any:
    import keras

    return keras.layers.Dense(width, dtype="float32", **options)


def _unit(vectors: Any) -> Any:
    import keras

    return keras.layers.UnitNormalization(dtype="float32")(vectors)


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
