from __future__ import annotations

import numpy as np
import pytest

from audionet.classifier.head import Head, Layer, standardisation
from audionet.training.config import StepConfig
from audionet.training.head_training import train_head
from audionet.training.tensorboard_log import Curves
from tests.support.features import clusters, examples, share_right

QUICK = StepConfig(how_many_training_steps=100, train_batch_size=20, label_smoothing=0)


@pytest.mark.tensorflow
def test_learns_separable_clusters() -> None:
    head, fitted = train_head(clusters(300, 12, 4, 1), clusters(60, 12, 4, 2), 4, [12], QUICK)
    assert share_right(head, clusters(500, 12, 4, 3)) > 0.97
    assert fitted.validation_accuracy is not None
    assert fitted.validation_accuracy > 0.95


@pytest.mark.tensorflow
def test_learns_nothing_from_noise() -> None:
    generator = np.random.default_rng(0)
    noise = [examples(generator.standard_normal((200, 8)).astype(np.float32), np.arange(200) % 2) for _ in range(3)]
    assert 0.3 < share_right(train_head(noise[0], noise[1], 2, [8], QUICK)[0], noise[2]) < 0.7


@pytest.mark.tensorflow
def test_keeps_the_weights_of_the_best_validation() -> None:
    """Validation agrees with training at first and contradicts it in the end: the early weights win."""
    x = np.array([[1.0, 0.0], [0.0, 1.0]], np.float32)
    training = examples(np.repeat(x, 50, axis=0), np.repeat([0, 1], 50))
    wrong = examples(x, np.array([1, 0]))
    _, fitted = train_head(training, wrong, 2, [2], QUICK)
    assert fitted.best_step == QUICK.eval_step_interval


@pytest.mark.tensorflow
def test_without_validation_the_last_weights_are_kept() -> None:
    nothing = examples(np.zeros((0, 12), np.float32), np.zeros(0, np.int64))
    _, fitted = train_head(clusters(100, 12, 3, 1), nothing, 3, [12], QUICK)
    assert fitted.best_step == 100
    assert fitted.validation_accuracy is None


@pytest.mark.tensorflow
def test_the_same_seed_gives_the_same_weights() -> None:
    one, other, third = (
        train_head(
            clusters(90, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], StepConfig(how_many_training_steps=30, seed=s)
        )[0]
        for s in (5, 5, 6)
    )
    np.testing.assert_array_equal(one.last.weights, other.last.weights)
    assert not np.array_equal(one.last.weights, third.last.weights)


@pytest.mark.tensorflow
def test_probabilities_are_a_softmax() -> None:
    head, _ = train_head(clusters(90, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], QUICK)
    features = clusters(10, 6, 3, 4).all()
    probabilities = head.probabilities(features * 1000)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, rtol=1e-5)
    assert np.isfinite(probabilities).all()


def test_standardised_parts_weigh_as_the_roots_of_their_widths() -> None:
    generator = np.random.default_rng(0)
    features = np.concatenate(
        [1000 * generator.standard_normal((500, 400)) + 5, 0.01 * generator.standard_normal((500, 4))], axis=1
    ).astype(np.float32)
    offset, scale = standardisation([features], [400, 4])
    standard = (features - offset) * scale
    assert np.square(standard[:, :400]).sum(axis=1).mean() == pytest.approx(20 / 11, rel=0.01)
    assert np.square(standard[:, 400:]).sum(axis=1).mean() == pytest.approx(2 / 11, rel=0.01)
    assert np.square(standardisation([features], [404])[1] * features.std(axis=0)).sum() == pytest.approx(1, rel=0.1)


def test_a_constant_feature_does_not_explode_later() -> None:
    features = np.random.default_rng(0).standard_normal((100, 10)).astype(np.float32)
    features[:, 3] = 0.5
    offset, scale = standardisation([features], [10])
    assert np.isfinite(scale).all()
    assert abs((1.5 - offset[3]) * scale[3]) < 25 / np.sqrt(10)
    assert np.isfinite(standardisation([np.zeros((5, 3), np.float32)], [3])[1]).all()


@pytest.mark.tensorflow
def test_tensorboard_gets_both_curves(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    train_head(clusters(90, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], QUICK, curves := Curves(tmp_path))
    curves.close()
    for name in ("training", "validation"):
        events = EventAccumulator(str(tmp_path / name))
        events.Reload()
        assert set(events.Tags()["scalars"]) == {"accuracy", "cross_entropy"}
        assert [event.step for event in events.Scalars("accuracy")] == list(range(10, 101, 10))


@pytest.mark.tensorflow
def test_examples_are_predicted_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    from audionet.training import datasets as module

    head, _ = train_head(clusters(90, 6, 3, 1), clusters(30, 6, 3, 2), 3, [6], QUICK)
    data = clusters(100, 6, 3, 4)
    whole = head.answers(data.blocks())
    monkeypatch.setattr(module, "_BLOCK", 7)
    assert [len(block) for block in data.blocks()] == [7] * 14 + [2]
    np.testing.assert_allclose(head.answers(data.blocks()), whole, rtol=1e-5)
    assert head.answers(data.some(np.zeros(0, np.int64)).blocks()).shape == (0, 3)


def test_standardisation_in_blocks_equals_that_of_the_whole() -> None:
    generator = np.random.default_rng(0)
    features = (generator.standard_normal((101, 5)) * [1, 10, 0.1, 1e-3, 5] + 1000).astype(np.float32)
    whole = standardisation([features], [5])
    parts = standardisation([features[:1], features[1:40], features[40:]], [5])
    np.testing.assert_allclose(parts[0], features.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(parts[1], whole[1], rtol=1e-3)


def test_the_temperature_divides_the_logits() -> None:
    generator = np.random.default_rng(0)

    def layer(*shape: int) -> Layer:
        return Layer(generator.standard_normal(shape).astype(np.float32), np.ones(shape[1], np.float32))

    head = Head(np.zeros(6, np.float32), np.ones(6, np.float32), layer(6, 5), True, layer(5, 3))
    features = generator.standard_normal((4, 6)).astype(np.float32)
    np.testing.assert_allclose(head.with_temperature(2.5).logits(features), head.logits(features) / 2.5, rtol=1e-5)
