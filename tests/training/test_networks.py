from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audionet.backbones.conversion import SourceNetwork
from audionet.backbones.registry import Backbone, convert_trained, prepare
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.classifier.head import Head, Layer
from audionet.errors import BackboneError, UsageError
from audionet.export.publish import publish, summarise
from audionet.inference.predictor import Predictor
from audionet.training import networks
from audionet.training import trainer as training
from audionet.training.config import StepConfig
from audionet.training.networks import INPUT_SIZES, from_backbone, from_scratch
from audionet.training.trainer import train
from audionet.utils.files import LOCK_NAME
from tests.support.sounds import ROOT

pytest.importorskip("tensorflow")
tf = import_tensorflow()


def noise(count: int, size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3)).astype(np.uint8)


def blocks() -> Any:
    """A small network in blocks, as Inception is: the second sees twice what the first saw."""
    import keras

    keras.utils.set_random_seed(0)
    pixels = values = keras.Input((32, 24, 3))
    values = keras.layers.Rescaling(1 / 127.5, -1)(values)
    for number in range(3):
        left, right = (keras.layers.Conv2D(4, 3, strides=2, padding="same")(values) for _ in range(2))
        values = keras.layers.ReLU()(keras.layers.BatchNormalization()(keras.layers.Add()([left, right])))
        values = keras.layers.Concatenate(name=f"mixed{number}")([values, values])
    return keras.Model(pixels, keras.layers.GlobalAveragePooling2D()(values))


@pytest.fixture
def block_backbone(tmp_path: Path) -> Backbone:
    model = blocks()
    backbone = convert_trained(model, "blocks", "bands", noise(4, (32, 24)), tmp_path)

    def load() -> SourceNetwork:
        # A new one each time, as from a file.
        other = blocks()
        other.set_weights(model.get_weights())
        return SourceNetwork(lambda pixels: other(pixels, training=False), (32, 24), other, other)

    return dataclasses.replace(backbone, load=load)


def some_head(width: int, labels: int) -> Head:
    generator = np.random.default_rng(1)
    weights = generator.standard_normal((width, labels)).astype(np.float32)
    ones = np.ones(width, np.float32)
    return Head(0.1 * ones, 0.5 * ones, None, False, Layer(weights, np.zeros(labels, np.float32)))


@pytest.mark.parametrize("architecture", INPUT_SIZES)
def test_a_network_from_scratch_sees_normalised_images(architecture: str) -> None:
    samples = noise(20, INPUT_SIZES[architecture])
    built = from_scratch(architecture, samples, 5, StepConfig(), exact=True)
    assert built.input_size == INPUT_SIZES[architecture]
    assert built.network.model.output_shape == (None, 5)
    normal = built.features.get_layer("normalise")(samples.astype(np.float32)).numpy()
    np.testing.assert_allclose(normal.mean(axis=(0, 1, 2)), 0, atol=0.01)
    np.testing.assert_allclose(normal.std(axis=(0, 1, 2)), 1, atol=0.01)


@pytest.mark.parametrize(("blocks", "free"), [(1, 1), (2, 2), (3, 3)])
def test_only_the_last_blocks_are_free_and_batch_normalisation_is_not(block_backbone, blocks: int, free: int) -> None:
    width = block_backbone.width + 256
    built = from_backbone(block_backbone, some_head(width, 3), blocks, StepConfig(), exact=True)
    kernels = [weight for weight in built.network.model.trainable_variables if weight.path.endswith("kernel")]
    assert len(kernels) == 2 * free + 1
    assert not any("batch_norm" in weight.path for weight in built.network.model.trainable_variables)
    before = [w.numpy() for w in built.features.weights if "moving" in w.path]
    built.network.model([noise(8, (32, 24)).astype(np.float32), np.zeros((8, 256), np.float32)], training=True)
    for one, other in zip(before, [w.numpy() for w in built.features.weights if "moving" in w.path], strict=True):
        np.testing.assert_array_equal(one, other)
    state = {id(variable) for variable in built.network.state}
    assert {id(variable) for variable in built.network.model.trainable_variables} <= state


def test_fine_tuning_starts_from_what_the_top_layer_had_reached(block_backbone) -> None:
    from audionet.backbones.litert import Runner

    head = some_head(block_backbone.width + 256, 3)
    built = from_backbone(block_backbone, head, 1, StepConfig(), exact=True)
    pixels, bands = noise(5, (32, 24)), np.random.default_rng(2).random((5, 256)).astype(np.float32)
    features = np.concatenate([Runner(block_backbone.path).features(pixels), bands], axis=1)
    logits = built.network.model([pixels.astype(np.float32), bands]).numpy()
    np.testing.assert_allclose(logits, head.logits(features), atol=0.1)


def test_more_blocks_than_there_are_is_wrong_use(block_backbone) -> None:
    with pytest.raises(UsageError, match="fine_tune is 4: blocks has 3 blocks"):
        from_backbone(block_backbone, some_head(block_backbone.width + 256, 3), 4, StepConfig())


def test_a_backbone_without_blocks_is_refused(backbone: Backbone) -> None:
    with pytest.raises(BackboneError, match=r"cannot be fine-tuned: .* leave out fine_tune"):
        from_backbone(backbone, some_head(backbone.width, 3), 1, StepConfig())


@pytest.mark.parametrize("architecture", ["simple_cnn", pytest.param("deep_cnn", marks=pytest.mark.slow)])
def test_from_images_to_a_model_that_labels(image_folder, retrain_config, architecture: str) -> None:
    config = retrain_config(image_folder(), architecture=architecture, how_many_training_steps=40)
    trained = train(config)
    assert trained.test is not None
    assert trained.test.network.chunks.share > 0.9
    publish(trained, config)
    assert [path.name for path in summarise(trained)] == ["curves.png", "confusion.png"]
    assert [path.name for path in config.checkpoint_dir.iterdir()] == [LOCK_NAME]
    predictor = Predictor(config.output_graph)
    assert predictor.card["backbone"]["name"] == architecture
    right = [
        predictor.ranked(predictor.answer(path).probabilities, 1)[0]["label"] == path.parent.name
        for path in config.image_dir.rglob("*.jpg")
    ]
    assert np.mean(right) > 0.95


def test_fine_tuning_gets_better_and_is_what_is_published(
    image_folder, retrain_config, block_backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A random backbone and a top layer that hardly trained: all that is learned is learned by fine-tuning."""
    monkeypatch.setattr(training, "prepare", lambda *_: dataclasses.replace(block_backbone, statistics=None))
    config = retrain_config(
        image_folder(recordings=8),
        how_many_training_steps=1,
        learning_rate=1e-6,
        fine_tune=3,
        fine_tune_steps=80,
        fine_tune_learning_rate=0.01,
        mixup=0.0,
        spec_augment=1,
    )
    trained = train(config)
    assert trained.fitted.best_step > 0
    assert trained.test is not None
    assert trained.test.network.chunks.share > 0.9
    assert trained.backbone.name == "blocks_tuned"
    publish(trained, config)
    predictor = Predictor(config.output_graph)
    jpgs = [image.path.read_bytes() for image in trained.points[:5]]
    found = np.stack([predictor.predict_image(jpg).probabilities for jpg in jpgs])
    np.testing.assert_allclose(found, trained.head.probabilities(trained.features[:5]), atol=1e-3)


def test_fine_tuning_that_only_spoils_keeps_the_frozen_network(
    image_folder, retrain_config, block_backbone, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "prepare", lambda *_: dataclasses.replace(block_backbone, statistics=None))
    config = retrain_config(image_folder(), fine_tune=3, fine_tune_steps=20, fine_tune_learning_rate=5.0)
    trained = train(config)
    assert trained.backbone.name == "blocks"
    assert trained.validation_accuracy == 1
    assert trained.test is not None
    assert trained.test.network.chunks.share == 1


def test_the_documentation_names_the_networks() -> None:
    text = (ROOT / "docs" / "backbones.md").read_text("utf-8")
    assert all(name in text for name in networks.INPUT_SIZES)


def test_the_bundled_backbone_has_five_blocks(model_dir: Path) -> None:
    backbone = prepare("inception_v3_speech", model_dir, None, lambda size: noise(2, size))
    names = [layer.name for layer in backbone.load().model.layers]
    assert [name for name in names if name.startswith("mixed")] == [f"mixed{k}" for k in range(5)]
