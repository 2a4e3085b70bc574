"""Sounds, pictures and small backbones that the tests share."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from audionet.audio.spectrogram import render
from audionet.backbones.registry import Backbone, prepare
from audionet.config import PictureConfig, RetrainConfig
from audionet.data.dataset import DATASET_JSON, dataset_json
from audionet.utils.files import LOCK_NAME, write_json

ROOT = Path(__file__).resolve().parents[1]
SAMPLE_AUDIO = ROOT / "tf_files" / "sample_audio"


def tone(frequency: float, seconds: float, rate: int = 16_000, amplitude: float = 0.5) -> NDArray[np.float64]:
    return amplitude * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


def write_tone(path: Path, frequency: float = 440, seconds: float = 1.0, rate: int = 16_000, **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(os.fsencode(path), tone(frequency, seconds, rate), rate, **options)
    return path


def files_of(*folders: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder.parent)): path.read_bytes()
        for folder in folders
        for path in folder.rglob("*")
        if path.is_file() and path.name != LOCK_NAME
    }


def run_script(
    name: str, *arguments: object, cwd: Path | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """A script as a user runs it: its own process, no environment of ours."""
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=300, check=False, **options)


def make_pictures(folder: Path, recordings: int, chunks: int, labels: tuple[str, ...], detuned: float = 0) -> Path:
    """A folder of pictures: labels of different pitch, more or less, some recordings each."""
    generator = np.random.default_rng(0)
    config = PictureConfig(chunk_seconds=0.5)
    for number, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for recording in range(recordings):
            for chunk in range(chunks):
                pitch = 300 * 2**number * (1 + (detuned and detuned * generator.uniform(-1, 1)))
                sound = tone(pitch, 0.5) + 0.05 * generator.standard_normal(8000)
                jpg = render((sound * 16_000).astype(np.int16), config)
                (folder / label / f"{recording}.wav_nohash_{chunk:04d}.jpg").write_bytes(jpg)
    return folder


@pytest.fixture
def picture_folder(tmp_path: Path) -> Callable[..., Path]:
    """Pictures of three labels, or others."""

    def make(recordings: int = 5, chunks: int = 3, labels: tuple[str, ...] = ("high", "low", "middle")) -> Path:
        return make_pictures(tmp_path / "data_image", recordings, chunks, labels)

    return make


TONES = ("a300", "b600", "c1200", "d2400", "e4800")


@pytest.fixture(scope="session")
def tone_model(tmp_path_factory: pytest.TempPathFactory, model_dir: Path, averaging_backbone: Path) -> Path:
    """A model that tells five tones apart by half a second of each; copy its folder to change anything."""
    from audionet.export.publish import publish
    from audionet.training.trainer import train

    folder = tmp_path_factory.mktemp("tones")
    pictures = make_pictures(folder / "data_image", 10, 3, TONES, detuned=0.15)
    write_json(pictures / DATASET_JSON, dataset_json(PictureConfig(chunk_seconds=0.5), {}, None, complete=True))
    graph = folder / "retrained_graph.tflite"
    config = RetrainConfig(
        image_dir=pictures,
        bottleneck_dir=folder / "bottlenecks",
        model_dir=model_dir,
        checkpoint_dir=folder / "checkpoints",
        summaries_dir=folder / "summaries",
        output_graph=graph,
        output_labels=folder / "retrained_labels.txt",
        architecture=str(averaging_backbone),
        how_many_training_steps=60,
        validation_percentage=20,
        testing_percentage=20,
        unknown_fpr=10,
    )
    publish(train(config), config)
    return graph


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
        return RetrainConfig(**(settings | changes))

    return make


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Converted backbones, shared: converting Inception takes longer than most tests."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def averaging_backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The smallest backbone that hears pitch: a SavedModel that averages the picture's rows over time."""
    return save_backbone(tmp_path_factory.mktemp("backbone") / "row_average", lambda tf, x: tf.reduce_mean(x, [2, 3]))


@pytest.fixture(scope="session")
def backbone(averaging_backbone: Path, model_dir: Path) -> Backbone:
    samples = np.random.default_rng(0).integers(0, 256, (4, 64, 48, 3)).astype(np.uint8)
    return prepare(str(averaging_backbone), model_dir, None, lambda size: samples)


def save_backbone(
    folder: Path, function: Callable[[Any, Any], Any], shape: tuple[int | None, ...] = (None, 64, 48, 3)
) -> Path:
    """A SavedModel, callable as TF Hub's image modules are; `function` takes (tf, pixels)."""
    from audionet.backbones.tf_runtime import import_tensorflow

    tf = import_tensorflow()
    module = tf.Module()
    module.__call__ = tf.function(lambda x: function(tf, x), input_signature=[tf.TensorSpec(shape, tf.float32)])
    signature = module.__call__.get_concrete_function()
    tf.saved_model.save(module, str(folder), signatures={"serving_default": signature})
    return folder
