from __future__ import annotations

import numpy as np
import pytest

from audionet.config import RetrainConfig
from audionet.head import Examples, standardisation, train_head

QUICK = RetrainConfig(how_many_training_steps=100, train_batch_size=20)


def clusters(n: int, width: int, labels: int, seed: int, spread: float = 0.3) -> Examples:
    centres = np.random.default_rng(99).standard_normal((labels, width))
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, labels, n)
    features = centres[targets] + spread * generator.standard_normal((n, width))
    return Examples(features.astype(np.float32), targets)


def share_right(head, examples: Examples) -> float:
    return float((head.probabilities(examples.features).argmax(axis=1) == examples.labels).mean())


def test_learns_what_can_be_learned() -> None:
    head = train_head(clusters(300, 12, 4, 1), clusters(60, 12, 4, 2), 4, [12], QUICK)
    assert share_right(head, clusters(500, 12, 4, 3)) > 0.97
    assert head.validation_accuracy is not None
    assert head.validation_accuracy > 0.95


def test_learns_nothing_from_noise() -> None:
    generator = np.random.default_rng(0)
    noise = [Examples(generator.standard_normal((200, 8)).astype(np.float32), np.arange(200) % 2) for _ in range(3)]
    assert 0.3 < share_right(train_head(noise[0], noise[1], 2, [8], QUICK), noise[2]) < 0.7


def test_keeps_the_weights_of_the_best_validation() -> None:
    """Validation agrees with training at first and contradicts it in the end: the early weights win."""
    x = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    training = Examples(np.repeat(x, 50, axis=0), np.repeat([0, 1], 50))
    wrong = Examples(x, np.array([1, 0]))
    head = train_head(training, wrong, 2, [2], QUICK)
    assert head.best_step == QUICK.eval_step_interval


def test_without_validation_the_last_weights_are_kept() -> None:
    nothing = Examples(np.zeros((0, 12), np.float32), np.zeros(0, np.int64))
    head = train_head(clusters(100, 12, 3, 1), nothing, 3, [12], QUICK)
    assert head.best_step == 100
    assert head.validation_accuracy is None


def test_the_same_seed_gives_the_same_weights() -> None:
    one, other, third = (
        train_head(
            clusters(90, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], RetrainConfig(how_many_training_steps=30, seed=s)
        )
        for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.weights, other.weights)
    assert not np.array_equal(one.weights, third.weights)


def test_probabilities_are_a_softmax() -> None:
    head = train_head(clusters(90, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], QUICK)
    features = clusters(10, 6, 3, 4).features
    probabilities = head.probabilities(features * 1000)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.isfinite(probabilities).all()


def test_standardised_parts_weigh_the_same() -> None:
    generator = np.random.default_rng(0)
    features = np.concatenate(
        [1000 * generator.standard_normal((500, 200)) + 5, 0.01 * generator.standard_normal((500, 4))], axis=1
    ).astype(np.float32)
    offset, scale = standardisation(features, [200, 4])
    standard = (features - offset) * scale
    assert np.square(standard[:, :200]).sum(axis=1).mean() == pytest.approx(1, rel=0.01)
    assert np.square(standard[:, 200:]).sum(axis=1).mean() == pytest.approx(1, rel=0.01)


def test_a_constant_feature_does_not_explode_later() -> None:
    features = np.random.default_rng(0).standard_normal((100, 10)).astype(np.float32)
    features[:, 3] = 0.5
    offset, scale = standardisation(features, [10])
    assert np.isfinite(scale).all()
    assert abs((1.5 - offset[3]) * scale[3]) < 25 / np.sqrt(10)
    assert np.isfinite(standardisation(np.zeros((5, 3), np.float32), [3])[1]).all()


def test_tensorboard_gets_both_curves(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_head(clusters(90, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], QUICK, tmp_path)
    for name in ("training", "validation"):
        events = EventAccumulator(str(tmp_path / name))
        events.Reload()
        assert set(events.Tags()["tensors"]) == {"accuracy", "cross_entropy"}
        assert [event.step for event in events.Tensors("accuracy")] == list(range(10, 101, 10))
