"""Sounds, images and small backbones that the tests share."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audionet.audio.config import SpectrogramConfig
from audionet.backbones.registry import Backbone, prepare
from audionet.cli.log_output import ConsoleHandler
from audionet.data.dataset import dataset_json
from audionet.data.naming import DATASET_JSON
from audionet.training.config import RetrainConfig, StepConfig
from audionet.utils.files import write_json
from audionet.utils.settings import setting_names
from tests.support.chords import make_chords
from tests.support.images import make_images
from tests.support.models import TONES, save_backbone, save_lite_backbone


def pytest_configure() -> None:
    """Undo what a shell does for a job in the background, whose processes would ignore Ctrl-C."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what TensorFlow's backbone makes as needing it; tests that import it otherwise are marked where they are."""
    for item in items:
        if "averaging_backbone" in getattr(item, "fixturenames", ()):
            item.add_marker("tensorflow")


@pytest.fixture(autouse=True)
def console() -> Iterator[None]:
    """What the library logs goes to stdout and stderr, as it does under the command line."""
    logger, handler = logging.getLogger("audionet"), ConsoleHandler()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield
    logger.removeHandler(handler)


@pytest.fixture
def image_folder(tmp_path: Path) -> Callable[..., Path]:
    """Images of three labels, or others."""

    def make(recordings: int = 5, chunks: int = 3, labels: tuple[str, ...] = ("high", "low", "middle")) -> Path:
        return make_images(tmp_path / "data_image", recordings, chunks, labels)

    return make


@pytest.fixture(scope="session")
def tone_model(tmp_path_factory: pytest.TempPathFactory, model_dir: Path, lite_backbone: Path) -> Path:
    """A model that tells five tones apart by half a second of each; copy its folder to change anything."""
    from audionet.export.publish import publish
    from audionet.training.trainer import train

    folder = tmp_path_factory.mktemp("tones")
    images = make_images(folder / "data_image", 10, 3, TONES, detuned=0.15)
    write_json(images / DATASET_JSON, dataset_json(SpectrogramConfig(chunk_seconds=0.5), {}, None, complete=True))
    graph = folder / "retrained_graph.tflite"
    config = RetrainConfig(
        image_dir=images,
        bottleneck_dir=folder / "bottlenecks",
        model_dir=model_dir,
        checkpoint_dir=folder / "checkpoints",
        summaries_dir=folder / "summaries",
        output_graph=graph,
        output_labels=folder / "retrained_labels.txt",
        architecture=str(lite_backbone),
        validation_percentage=20,
        testing_percentage=20,
        unknown_fpr=10,
    )
    publish(train(config), config)
    return graph


@pytest.fixture(scope="session")
def chord_images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of three tones in every combination, in folders that join their names."""
    return make_chords(tmp_path_factory.mktemp("chords") / "data_image", 5)


@pytest.fixture(scope="session")
def chord_model(chord_images: Path, lite_backbone: Path, model_dir: Path) -> Path:
    """A model that answers with any number of three tones at a time."""
    from audionet.export.publish import publish
    from audionet.training.trainer import train

    folder = chord_images.parent
    folders = ("bottleneck_dir", "checkpoint_dir", "summaries_dir")
    config = RetrainConfig(
        image_dir=chord_images,
        model_dir=model_dir,
        output_graph=folder / "chords_graph.tflite",
        output_labels=folder / "chords_labels.txt",
        architecture=str(lite_backbone),
        **{name: folder / name for name in folders},  # type: ignore[arg-type]
    )
    publish(train(config), config)
    return config.output_graph


@pytest.fixture
def retrain_config(tmp_path: Path, model_dir: Path, averaging_backbone: Path) -> Callable[..., RetrainConfig]:
    """A quick training: an averaging backbone, few steps, everything under the test's folder."""

    def make(image_dir: Path, **changes: Any) -> RetrainConfig:
        settings: dict[str, Any] = {
            "image_dir": image_dir,
            "bottleneck_dir": tmp_path / "bottlenecks",
            "model_dir": model_dir,
            "checkpoint_dir": tmp_path / "checkpoints",
            "summaries_dir": tmp_path / "summaries",
            "output_graph": tmp_path / "out" / "retrained_graph.tflite",
            "output_labels": tmp_path / "out" / "retrained_labels.txt",
            "architecture": str(averaging_backbone),
            "how_many_training_steps": 60,
        }
        settings |= changes
        given = {name: settings.pop(name) for name in setting_names(StepConfig) & set(settings)}
        if given.get("how_many_training_steps", 0) is None:  # no training in steps
            given = {}
        return RetrainConfig(**settings, steps=StepConfig(**given) if given else None)

    return make


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted backbones, shared: converting Inception takes longer than most tests."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def averaging_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest backbone that hears pitch: a SavedModel that averages the image's rows over time."""
    return save_backbone(tmp_path_factory.mktemp("backbone") / "row_average", lambda tf, x: tf.reduce_mean(x, [2, 3]))


@pytest.fixture(scope="session")
def lite_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same without TensorFlow, for tests that need its features alone."""
    return save_lite_backbone(tmp_path_factory.mktemp("lite") / "row_average")


@pytest.fixture(scope="session")
def backbone(averaging_backbone: Path, model_dir: Path) -> Backbone:
    samples = np.random.default_rng(0).integers(0, 256, (4, 64, 48, 3)).astype(np.uint8)
    return prepare(str(averaging_backbone), model_dir, None, lambda size: samples)
