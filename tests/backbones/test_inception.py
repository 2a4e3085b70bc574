"""Feature layers and pooling of Inception-v3 and of SavedModels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audionet.backbones.conversion import mean_cosine
from audionet.backbones.inception import (
    FeatureLayer,
    attentive_statistics,
    endpoints,
    feature_layer_from_card,
    inception_v3,
    packed_weights,
    pool_maps,
    set_weights,
    with_feature_layer,
)
from audionet.backbones.litert import Runner
from audionet.backbones.registry import prepare
from audionet.backbones.tf_runtime import import_keras
from audionet.errors import BackboneError, UsageError
from tests.support.models import save_backbone

pytestmark = pytest.mark.tensorflow

MAPS = np.random.default_rng(0).normal(size=(5, 4, 7, 3)).astype(np.float32)


def random_images(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, *size, 3)).astype(np.uint8)


def test_each_pooling_matches_numpy() -> None:
    found = {name: np.asarray(pool_maps(MAPS, name)) for name in ("average", "time", "statistics")}
    np.testing.assert_allclose(found["average"], MAPS.mean(axis=(1, 2)), atol=1e-6)
    np.testing.assert_allclose(found["time"], MAPS.mean(axis=2).reshape(5, 12), atol=1e-6)
    both = found["statistics"].reshape(5, 4, 6)
    np.testing.assert_allclose(both[..., :3], MAPS.mean(axis=2), atol=1e-6)
    np.testing.assert_allclose(both[..., 3:], MAPS.std(axis=2), atol=1e-2)


def test_uniform_attention_equals_statistics() -> None:
    keras = import_keras()
    maps = keras.Input(MAPS.shape[1:])
    model = keras.Model(maps, attentive_statistics(maps))
    attention = model.get_layer("attention")
    attention.set_weights([np.zeros_like(weight) for weight in attention.get_weights()])
    means, deviations = np.split(np.asarray(model(MAPS)), 2, axis=1)
    np.testing.assert_allclose(means, MAPS.mean(axis=2).reshape(5, 12), atol=1e-5)
    np.testing.assert_allclose(deviations, MAPS.std(axis=2).reshape(5, 12), atol=1e-2)


def test_attention_to_one_frame_gives_that_frame() -> None:
    keras = import_keras()
    maps = keras.Input(MAPS.shape[1:])
    model = keras.Model(maps, attentive_statistics(maps))
    marked = MAPS.copy()
    marked[:, 0, :, 0] = 0
    marked[:, 0, 3, 0] = 50  # attended to: the first feature of the fourth frame
    hidden, attention = model.get_layer("attention_hidden"), model.get_layer("attention")
    first, bias = (np.zeros_like(weight) for weight in hidden.get_weights())
    first[0, 0] = 1
    hidden.set_weights([first, bias])
    second, bias = (np.zeros_like(weight) for weight in attention.get_weights())
    second[0] = 100
    attention.set_weights([second, bias])
    means, deviations = np.split(np.asarray(model(marked)), 2, axis=1)
    np.testing.assert_allclose(means, marked[:, :, 3].reshape(5, 12), atol=1e-4)
    np.testing.assert_allclose(deviations, 0, atol=1e-2)


@pytest.fixture(scope="module")
def network() -> Any:
    return inception_v3((75, 80), FeatureLayer("mixed1", "statistics", 16))


def test_a_network_ends_at_its_feature_layer(network: Any) -> None:
    assert network.input_shape == (None, 75, 80, 3)
    assert network.output_shape == (None, 16)
    assert endpoints(network) == ["mixed0", "mixed1"]


def test_weights_are_read_as_they_were_packed(network: Any, tmp_path: Path) -> None:
    images = random_images((75, 80)).astype(np.float32)
    np.savez(tmp_path / "weights.npz", **packed_weights(network))
    other = inception_v3((75, 80), FeatureLayer("mixed1", "statistics", 16))
    before = np.asarray(other(images))
    set_weights(other, (tmp_path / "weights.npz").read_bytes())
    expected = np.asarray(network(images))
    assert mean_cosine(np.asarray(other(images)), expected) > 0.9999
    assert mean_cosine(before, expected) < 0.9


def test_an_earlier_feature_layer_of_the_same_network(network: Any) -> None:
    earlier = with_feature_layer(network, FeatureLayer("mixed0", "time"))
    _, rows, _, channels = network.get_layer("mixed0").output.shape
    assert earlier.output_shape == (None, rows * channels)


def test_an_unknown_endpoint_or_pooling_lists_the_known_ones(network: Any) -> None:
    with pytest.raises(UsageError, match=r"no endpoint 'mixed7': there are mixed0, mixed1$"):
        with_feature_layer(network, FeatureLayer("mixed7", "time"))
    with pytest.raises(UsageError, match=r"pooling is most: it must be one of average, time, statistics$"):
        with_feature_layer(network, FeatureLayer("mixed0", "most"))
    with pytest.raises(UsageError, match=r"pooling is attentive: it must be one of average, time, statistics$"):
        with_feature_layer(network, FeatureLayer("mixed0", "attentive"))
    assert with_feature_layer(network, FeatureLayer("mixed0", "attentive", 16)).output_shape == (None, 16)


def test_a_card_without_feature_layer_has_the_first_backbones() -> None:
    assert feature_layer_from_card({"pooling": "global average", "name": "x"}) == FeatureLayer("mixed10", "average", 0)
    assert feature_layer_from_card({"endpoint": "mixed7", "pooling": "time", "embedding": 3}) == FeatureLayer(
        "mixed7", "time", 3
    )


def layers(tf: Any, x: Any) -> dict[str, Any]:
    return {"default": tf.reduce_mean(x, [1, 2]), "early": x[:, ::2], "late": x[:, ::4, ::4]}


def test_endpoints_of_a_saved_model(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path / "shows", layers)
    backbone = prepare(str(folder), tmp_path / "models", None, random_images, "early", "time")
    assert (backbone.width, backbone.endpoint, backbone.pooling) == (32 * 3, "early", "time")
    pixels = random_images((64, 48))[:1]
    expected = (pixels[:, ::2] / 255).mean(axis=2).reshape(-1)
    np.testing.assert_allclose(Runner(backbone.path)(pixels), expected, rtol=1e-3)
    # Each feature layer gives a separate converted network, with its own cache.
    other = prepare(str(folder), tmp_path / "models", None, random_images, "late", "average")
    assert other.path != backbone.path
    assert other.width == 3
    with pytest.raises(UsageError, match=r"has no endpoint 'middle': there are default, early, late"):
        prepare(str(folder), tmp_path / "models", None, random_images, "middle")


def test_maps_alone_can_be_pooled_and_a_vector_cannot(tmp_path: Path) -> None:
    maps = save_backbone(tmp_path / "maps", lambda tf, x: x[:, ::8])
    assert prepare(str(maps), tmp_path / "models", None, random_images, None, "time").width == 8 * 3
    with pytest.raises(BackboneError, match="is no feature-vector backbone"):
        prepare(str(maps), tmp_path / "models", None, random_images)
    vector = save_backbone(tmp_path / "vector", lambda tf, x: tf.reduce_mean(x, [1, 2]))
    with pytest.raises(UsageError, match=r"pooling time needs maps, and .* returns a vector: name endpoint"):
        prepare(str(vector), tmp_path / "models", None, random_images, None, "time")
    with pytest.raises(UsageError, match=r"has no endpoint 'x': there are none: it returns its feature vector only"):
        prepare(str(vector), tmp_path / "models", None, random_images, "x")


def test_a_module_that_returns_endpoints_when_asked(tmp_path: Path) -> None:
    import tensorflow as tf

    class Module(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, 64, 48, 3]), tf.TensorSpec([], tf.bool)])
        def both(self, pixels: Any, unused: Any) -> Any:
            return layers(tf, pixels)

        def __call__(self, pixels: Any, return_endpoints: bool = False) -> Any:
            return layers(tf, pixels) if return_endpoints else tf.reduce_mean(pixels, [1, 2])

    module = Module()
    module.__call__ = tf.function(module.__call__)  # type: ignore[method-assign]
    spec = tf.TensorSpec([None, 64, 48, 3])
    for asked in (False, True):
        module.__call__.get_concrete_function(spec, return_endpoints=asked)
    signature = tf.function(lambda x: {"vector": tf.reduce_mean(x, [1, 2])}).get_concrete_function(spec)
    tf.saved_model.save(module, str(tmp_path / "hub"), signatures={"serving_default": signature})
    backbone = prepare(str(tmp_path / "hub"), tmp_path / "models", None, random_images, "late", "time")
    assert backbone.width == 16 * 3
    assert prepare(str(tmp_path / "hub"), tmp_path / "models", None, random_images).width == 3
