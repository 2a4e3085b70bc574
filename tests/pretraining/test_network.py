"""The network in training: fused operations, weights to start from, and its two outputs."""

from __future__ import annotations

import numpy as np
import pytest

from audionet.backbones.inception import FeatureLayer, VoiceLayer, as_one_vector, inception_v3, with_feature_layer
from audionet.errors import UsageError
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.network import build, copy_weights, plain_features, with_fused_batch_norm

pytestmark = pytest.mark.tensorflow

SIZE = (75, 75)


def pixels(number: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (number, *SIZE, 3)).astype(np.float32)


def test_fused_normalisation_is_keras_s_own() -> None:
    import keras

    inputs = keras.Input((6, 5, 3))
    plain = keras.Model(inputs, keras.layers.BatchNormalization(scale=False)(inputs))
    fused = with_fused_batch_norm(plain)
    images = np.random.default_rng(1).normal(3, 2, (16, 6, 5, 3)).astype(np.float32)
    for training in (True, False):
        found, expected = (np.asarray(model(images, training=training)) for model in (fused, plain))
        np.testing.assert_allclose(found, expected, atol=2e-3)
    mean, variance = (np.asarray(weight) for weight in fused.get_weights()[1:])
    np.testing.assert_allclose(mean, 0.01 * images.mean(axis=(0, 1, 2)), rtol=1e-3)
    np.testing.assert_allclose(variance, 0.99 + 0.01 * images.var(axis=(0, 1, 2)), rtol=1e-3)


def test_the_voice_has_unit_length_and_stays_when_the_bottleneck_changes() -> None:
    model = inception_v3(SIZE, FeatureLayer("mixed0", "time", 8), VoiceLayer("mixed1", 12))
    bottleneck, voice = (np.asarray(part) for part in model(pixels(2)))
    assert (bottleneck.shape, voice.shape) == ((2, 8), (2, 12))
    np.testing.assert_allclose(np.linalg.norm(voice, axis=1), 1, rtol=1e-5)
    other = as_one_vector(with_feature_layer(model, FeatureLayer("mixed0", "average"), VoiceLayer("mixed1", 12)))
    joined = np.asarray(other(pixels(2)))
    assert joined.shape == (2, 256 + 12)
    np.testing.assert_allclose(joined[:, -12:], voice, atol=1e-5)


def test_training_starts_from_the_blocks_in_common() -> None:
    source, target = (inception_v3(SIZE, FeatureLayer(name, "time")) for name in ("mixed1", "mixed0"))
    copy_weights(source, target)
    for one, other in zip(source.get_weights(), target.get_weights(), strict=False):
        np.testing.assert_array_equal(one, other)
    import keras

    small = keras.Input((4, 4, 3))
    stranger = keras.Model(small, keras.layers.Conv2D(2, 3, name="mixed0")(small))
    with pytest.raises(UsageError, match="initial is another network"):
        copy_weights(stranger, target)


def test_a_backbone_to_start_from_must_exist() -> None:
    with pytest.raises(UsageError, match="no finished backbone 'nothing'"):
        build(PretrainConfig(initial="nothing", teacher="none", endpoint="mixed0", voice_width=0), {}, 0)


def test_the_finished_network_is_the_trained_one() -> None:
    config = PretrainConfig(
        endpoint="mixed0",
        embedding=8,
        voice_endpoint="mixed1",
        voice_width=6,
        input_height=SIZE[0],
        input_width=SIZE[1],
    )
    student = build(config, {"speaker": 5, "word": 2}, teacher_width=6)
    assert set(student.model.output) == {"content", "teacher", "voice", "speaker", "word"}
    finished = plain_features(config)
    finished.set_weights(student.features.get_weights())
    for found, expected in zip(finished(pixels(3)), student.features(pixels(3)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
