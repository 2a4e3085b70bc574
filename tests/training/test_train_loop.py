from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.errors import ModelError
from audionet.training import train_step as stepping
from audionet.training.checkpoint import Checkpoint
from audionet.training.config import StepConfig
from audionet.training.datasets import batches, prefetch
from audionet.training.head_training import train_head
from audionet.training.tensorboard_log import Curves
from audionet.training.train_step import TrainingSteps, class_weights
from audionet.utils.array_files import pack_npz, read_npz
from tests.support.features import clusters, examples, share_right
from tests.support.sounds import ROOT

pytestmark = pytest.mark.tensorflow

QUICK = StepConfig(how_many_training_steps=60, train_batch_size=20, eval_step_interval=5, label_smoothing=0)


class KilledError(Exception):
    pass


class KilledAfter(Checkpoint):
    """A checkpoint whose process is killed right after it was saved some times."""

    saves = 2

    def save(self, state: Any) -> None:
        super().save(state)
        self.saves -= 1
        if not self.saves:
            raise KilledError


def weights_of(head) -> list[np.ndarray]:
    return [head.last.weights, head.last.biases, *([head.hidden.weights] if head.hidden else [])]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"head": "mlp", "dropout": 0.5, "hidden_units": 16},
        {"head": "cosine", "schedule": "plateau", "early_stopping": 4},
    ],
)
def test_killed_and_resumed_equals_uninterrupted(tmp_path: Path, changes: dict[str, Any]) -> None:
    config = dataclasses.replace(QUICK, intermediate_store_frequency=10, **changes)
    sets = clusters(200, 12, 4, 1, 1.5), clusters(60, 12, 4, 2, 1.5)
    whole, fitted = train_head(*sets, 4, [12], config)
    with pytest.raises(KilledError):
        train_head(*sets, 4, [12], config, None, KilledAfter(tmp_path, "head", 1, 10))
    checkpoint = Checkpoint(tmp_path, "head", 1, 10)
    resumed, again = train_head(*sets, 4, [12], config, None, checkpoint)
    for one, other in zip(weights_of(whole), weights_of(resumed), strict=True):
        np.testing.assert_array_equal(one, other)
    assert again == fitted
    assert {point.step for point in fitted.points} >= {5, 10}
    third, _ = train_head(*sets, 4, [12], config, None, checkpoint)
    np.testing.assert_array_equal(third.last.weights, whole.last.weights)


def rewrite(path: Path, **changes: Any) -> None:
    """Change arrays of a checkpoint, fields of its description or of the progress in that."""
    arrays = read_npz(path.read_bytes())
    about = json.loads(arrays["about"].tobytes())
    for name, value in changes.items():
        place = arrays if name in arrays else about if name in about else about["progress"]
        assert name in place or name == "progress"
        place[name] = value
    path.write_bytes(pack_npz(arrays | {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}))


@pytest.mark.parametrize(
    ("spoil", "word"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-200]), "damaged"),
        (lambda path: path.write_bytes(b""), "damaged"),
        (lambda path: np.savez(path, x=np.zeros(3)), "damaged"),
        (lambda path: rewrite(path, step="12"), "damaged"),
        (lambda path: rewrite(path, step=1.5), "damaged"),
        (lambda path: rewrite(path, step=-1), "damaged"),
        (lambda path: rewrite(path, step=10**6), "damaged"),
        (lambda path: rewrite(path, progress=[]), "damaged"),
        (lambda path: rewrite(path, progress={}), "damaged"),
        (lambda path: rewrite(path, score=None), "damaged"),
        (lambda path: rewrite(path, score=["0.5", 1]), "damaged"),
        (lambda path: rewrite(path, best_step=10**6), "damaged"),
        (lambda path: rewrite(path, factor="1"), "damaged"),
        (lambda path: rewrite(path, points=[["training", 1, 0.5]]), "damaged"),
        (lambda path: rewrite(path, points=[["elsewhere", 1, 0.5, 0.5]]), "damaged"),
        (lambda path: rewrite(path, points=[["training", 1, "x", 0.5]]), "damaged"),
        (lambda path: rewrite(path, best0000=np.zeros((1, 2), np.float32)), "damaged"),
        (lambda path: rewrite(path, array0000=np.zeros((1, 2), np.float32)), "of another training"),
        (lambda path: rewrite(path, identity=3), "damaged"),
    ],
)
def test_a_damaged_checkpoint_costs_only_time(tmp_path: Path, capsys, spoil, word: str) -> None:
    sets = clusters(100, 6, 3, 1), clusters(30, 6, 3, 2)
    checkpoint = Checkpoint(tmp_path, "head", 1)
    whole, _ = train_head(*sets, 3, [6], QUICK, None, checkpoint)
    spoil(checkpoint.path)
    again, _ = train_head(*sets, 3, [6], QUICK, None, checkpoint)
    np.testing.assert_array_equal(whole.last.weights, again.last.weights)
    errors = capsys.readouterr().err
    assert word in errors
    assert "training starts over" in errors


def test_a_checkpoint_with_a_loss_that_is_no_number_is_resumed(tmp_path: Path, capsys) -> None:
    sets = clusters(100, 6, 3, 1), clusters(30, 6, 3, 2)
    checkpoint = Checkpoint(tmp_path, "head", 1)
    whole, fitted = train_head(*sets, 3, [6], QUICK, None, checkpoint)
    points = [list(point) for point in fitted.points]
    points[-1][2] = float("nan")
    rewrite(checkpoint.path, points=points, score=[0.5, -float("inf")])
    again, resumed = train_head(*sets, 3, [6], QUICK, None, checkpoint)
    np.testing.assert_array_equal(whole.last.weights, again.last.weights)
    assert np.isnan(resumed.points[-1].loss)
    assert "training starts over" not in capsys.readouterr().err


def test_a_checkpoint_of_another_network_is_said_and_left(tmp_path: Path, capsys) -> None:
    sets = clusters(100, 6, 3, 1), clusters(30, 6, 3, 2)
    checkpoint = Checkpoint(tmp_path, "head", "one")
    train_head(*sets, 3, [6], QUICK, None, checkpoint)
    other = Checkpoint(tmp_path, "head", "other")
    assert other.path != checkpoint.path
    other.path.write_bytes(checkpoint.path.read_bytes())
    head, _ = train_head(*sets, 3, [6], dataclasses.replace(QUICK, head="mlp"), None, other)
    assert head.hidden is not None
    assert "is a checkpoint of another training; training starts over" in capsys.readouterr().err


def lose_the_loss(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    step = TrainingSteps.__call__

    def broken(self, inputs, labels, rates, steps):
        loss, right, failed = step(self, inputs, labels, rates, steps)
        return (float("nan"), right, at) if steps[0] <= at <= steps[-1] else (loss, right, failed)

    monkeypatch.setattr(TrainingSteps, "__call__", broken)


def test_a_loss_that_is_no_number_ends_training_with_the_best_so_far(monkeypatch, capsys) -> None:
    sets = clusters(100, 6, 3, 1), clusters(30, 6, 3, 2)
    lose_the_loss(monkeypatch, 23)
    head, fitted = train_head(*sets, 3, [6], QUICK)
    assert fitted.last_step == 23
    assert 0 < fitted.best_step <= 20
    assert np.isfinite(head.last.weights).all()
    errors = capsys.readouterr().err
    assert errors.count("\n") == 1
    assert (
        f"the loss became NaN or infinite at step 23: training stops with the best weights so far, "
        f"those of step {fitted.best_step}" in errors
    )


def test_a_loss_that_is_no_number_at_once_is_an_error(monkeypatch) -> None:
    lose_the_loss(monkeypatch, 2)
    with pytest.raises(ModelError, match="at step 2, before the first validation: lower learning"):
        train_head(clusters(100, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], QUICK)


def test_bottlenecks_that_are_no_numbers_are_an_error() -> None:
    broken = clusters(100, 6, 3, 1).all()
    broken[7, 2] = np.nan
    sets = examples(broken, clusters(100, 6, 3, 1).labels), clusters(30, 6, 3, 2)
    with pytest.raises(ModelError, match="the bottleneck cache contains NaN or infinite values: delete bottleneck_dir"):
        train_head(*sets, 3, [6], QUICK)


def test_the_step_that_lost_the_loss_is_found_within_a_call() -> None:
    import keras
    import tensorflow as tf

    inputs = keras.Input((4,))
    model = keras.Model([inputs], keras.layers.Dense(3)(inputs))
    network = stepping.Network(model, model.variables, False, False, tf.distribute.get_strategy())
    steps = TrainingSteps(network, QUICK, np.ones(3, np.float32))
    batch = np.zeros((6, 5, 4), np.float32)
    batch[4, 1, 1] = np.inf
    labels = np.zeros((6, 5), np.int64)
    assert steps((batch,), labels, np.full(6, 0.1, np.float32), np.arange(40, 46))[2] == 44


def test_early_stopping_ends_what_gets_no_better() -> None:
    x = np.repeat(np.eye(2, dtype=np.float32), 50, axis=0)
    training, contrary = examples(x, np.repeat([0, 1], 50)), examples(x[::50], np.array([1, 0]))
    _, fitted = train_head(training, contrary, 2, [2], dataclasses.replace(QUICK, early_stopping=3))
    assert (fitted.best_step, fitted.last_step) == (5, 20)


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        ("constant", [0.3] * 60),
        ("cosine", [0.15 * (1 + np.cos(np.pi * step / 60)) for step in range(60)]),
        # Nothing gets better after the first look: a third after every five looks of five steps.
        ("plateau", [0.3] * 30 + [0.1] * 25 + [0.3 / 9] * 5),
    ],
)
def test_the_rate_follows_its_schedule(monkeypatch, schedule: str, rates: list[float]) -> None:
    seen: list[float] = []
    step = TrainingSteps.__call__
    monkeypatch.setattr(
        TrainingSteps,
        "__call__",
        lambda self, inputs, labels, rates, steps: seen.extend(rates) or step(self, inputs, labels, rates, steps),
    )
    x = np.repeat(np.eye(2, dtype=np.float32), 50, axis=0)
    contrary = examples(x[::50], np.array([1, 0]))
    config = dataclasses.replace(QUICK, schedule=schedule, learning_rate=0.3)
    train_head(examples(x, np.repeat([0, 1], 50)), contrary, 2, [2], config)
    np.testing.assert_allclose(seen, rates, rtol=1e-5)


def norm(changes: dict[str, Any]) -> float:
    head, _ = train_head(
        clusters(200, 12, 4, 1), clusters(40, 12, 4, 2), 4, [12], dataclasses.replace(QUICK, **changes)
    )
    return float(np.linalg.norm(head.last.weights))


def test_regularisation_keeps_the_weights_small() -> None:
    plain = norm({})
    assert norm({"l2": 0.01}) < 0.8 * plain
    assert norm({"l1": 0.01}) < 0.8 * plain
    assert norm({"weight_decay": 1.0}) < 0.8 * plain
    assert norm({"clip_norm": 1e-9}) < 0.1 * plain


def test_label_smoothing_makes_answers_less_sure() -> None:
    sets = clusters(200, 12, 4, 1), clusters(40, 12, 4, 2)
    heads = [train_head(*sets, 4, [12], dataclasses.replace(QUICK, label_smoothing=share))[0] for share in (0, 0.4)]
    sure, unsure = (head.probabilities(sets[1].all()).max(axis=1).mean() for head in heads)
    assert sure > 0.95
    assert unsure < sure - 0.08


def test_balanced_weights_count_labels_alike() -> None:
    labels = np.array([0] * 90 + [1] * 9 + [2])
    weights = class_weights(labels, 3, dataclasses.replace(QUICK, class_weights="balanced"))
    np.testing.assert_allclose(weights[labels].mean(), 1, rtol=1e-6)
    np.testing.assert_allclose(np.bincount(labels) * weights, 100 / 3, rtol=1e-6)
    assert class_weights(labels, 3, QUICK).tolist() == [1, 1, 1]


def test_balanced_weights_hear_the_rare_label() -> None:
    generator = np.random.default_rng(0)
    labels = np.array([0] * 380 + [1] * 20)
    features = (generator.standard_normal((400, 2)) + 1.2 * labels[:, None]).astype(np.float32)
    test = examples((generator.standard_normal((300, 2)) + 1.2).astype(np.float32), np.ones(300, np.int64))
    nothing = examples(np.zeros((0, 2), np.float32), np.zeros(0, np.int64))
    found = {}
    for kind in ("equal", "balanced"):
        config = dataclasses.replace(QUICK, class_weights=kind, train_batch_size=100)
        found[kind] = share_right(train_head(examples(features, labels), nothing, 2, [2], config)[0], test)
    assert found["balanced"] > found["equal"] + 0.3


@pytest.mark.parametrize("head", ["linear", "mlp", "cosine"])
def test_every_head_learns(head: str) -> None:
    config = dataclasses.replace(QUICK, head=head, how_many_training_steps=200)
    trained, fitted = train_head(clusters(300, 12, 4, 1), clusters(60, 12, 4, 2), 4, [12], config)
    assert trained.kind == head
    assert share_right(trained, clusters(500, 12, 4, 3)) > 0.97
    assert fitted.validation_accuracy == pytest.approx(share_right(trained, clusters(60, 12, 4, 2)))


def test_a_part_of_the_validation_set_is_always_the_same_part() -> None:
    config = dataclasses.replace(QUICK, validation_batch_size=7)
    sets = clusters(100, 6, 3, 1, 2.0), clusters(500, 6, 3, 2, 2.0)
    curves = [train_head(*sets, 3, [6], config, Curves())[1].points for _ in range(2)]
    assert curves[0] == curves[1]
    shares = {point.accuracy * 7 for point in curves[0] if point.set == "validation"}
    assert all(share == pytest.approx(round(share)) for share in shares)


@given(examples=st.integers(1, 40), size=st.integers(1, 50), seed=st.integers(0, 5), start=st.integers(0, 30))
def test_batches_depend_on_the_step_alone(examples: int, size: int, seed: int, start: int) -> None:
    source = batches(examples, size, seed)
    whole = [next(source) for _ in range(start + 5)]
    later = batches(examples, size, seed, start)
    for batch in whole[start:]:
        np.testing.assert_array_equal(batch, next(later))
    flat = np.concatenate(whole)
    for epoch in range(len(flat) // examples):
        assert sorted(flat[epoch * examples : (epoch + 1) * examples]) == list(range(examples))


def test_ahead_passes_everything_on_and_errors_too() -> None:
    def source():
        yield 1
        yield 2
        raise ValueError("gone")

    passed = prefetch(source())
    assert [next(passed), next(passed)] == [1, 2]
    with pytest.raises(ValueError, match="gone"):
        next(passed)


TWO_DEVICES = """
import sys
import numpy as np
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from audionet.backbones import tf_runtime
from audionet.training import networks
from audionet.training.config import StepConfig
from audionet.training.train_step import TrainingSteps
tf_runtime._fast_precision = lambda: "float32"
config = StepConfig(spec_augment=0, mixup=0, l2=0.01, clip_norm=1.0)
pixels = np.random.default_rng(0).integers(0, 256, (3, 10, 32, 32, 3)).astype(np.uint8)
labels = np.arange(30).reshape(3, 10) % 4
found = []
for strategy in (tf.distribute.get_strategy(), tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])):
    networks.training_strategy = lambda: strategy
    built = networks.from_scratch("simple_cnn", pixels[0], 4, config)
    for layer in built.features.layers:
        layer.rate = 0.0  # dropout differs from device to device
    steps = TrainingSteps(built.network, config, np.array([1, 2, 1, 1], np.float32))
    rate = np.array([0.001], np.float32)
    losses = [steps((pixels[i : i + 1],), labels[i : i + 1], rate, np.array([i])) for i in range(3)]
    found.append((losses, [weight.copy() for weight in built.network.model.get_weights()]))
assert strategy.num_replicas_in_sync == 2
np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-4)
for one, other in zip(found[0][1], found[1][1], strict=True):
    np.testing.assert_allclose(one, other, atol=2e-4)
"""


@pytest.mark.slow
def test_two_devices_take_the_steps_of_one() -> None:
    """MirroredStrategy over two halves of this CPU stands in for two GPUs."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES], cwd=ROOT / "scripts", capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
