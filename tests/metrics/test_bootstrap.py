from __future__ import annotations

import numpy as np
import pytest

from audionet.metrics.bootstrap import bootstrap, bootstrap_ratio


def test_the_bootstrap_of_a_mean_is_that_of_the_normal_distribution() -> None:
    right = (np.arange(1000) < 800).astype(float)
    low, high = bootstrap(right, samples=20_000)
    error = 1.96 * np.sqrt(0.8 * 0.2 / 1000)
    assert (low, high) == pytest.approx((0.8 - error, 0.8 + error), abs=1.5e-3)


def test_chunks_are_drawn_by_recording() -> None:
    generator = np.random.default_rng(1)
    chunks = generator.integers(1, 40, 60)
    right = np.where(generator.random(60) < 0.7, chunks, 0)
    low, high = bootstrap_ratio(right, chunks, samples=4000)
    drawn = generator.integers(60, size=(4000, 60))  # the plain way
    expected = np.quantile(right[drawn].sum(1) / chunks[drawn].sum(1), [0.025, 0.975])
    assert (low, high) == pytest.approx(tuple(expected), abs=0.015)
    by_chunk = bootstrap(np.repeat(right > 0, chunks).astype(float))
    assert high - low > 2 * (by_chunk[1] - by_chunk[0])


def test_weights() -> None:
    values, weights = np.array([1, 0, 1, 1.0]), np.array([1, 2, 3, 4.0])
    assert bootstrap(values, weights) == bootstrap_ratio(values * weights, weights)
    assert bootstrap(values, weights) != bootstrap(values)
    assert bootstrap(values, 2 * weights) == pytest.approx(bootstrap(values, weights))


def test_the_bootstrap_is_the_same_each_time_and_in_any_order() -> None:
    values = np.random.default_rng(0).random(50)
    assert bootstrap(values) == bootstrap(values[::-1])
    assert bootstrap(values, seed=1) != bootstrap(values)


def test_many_recordings_are_drawn_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).random(300)
    at_once = bootstrap(values, samples=500)
    monkeypatch.setattr("audionet.metrics.bootstrap._MAX_DRAWN", 1000)
    assert bootstrap(values, samples=500) == pytest.approx(at_once, abs=1e-12)


def test_no_mistakes_no_width_no_recordings_no_number() -> None:
    assert bootstrap(np.ones(30)) == (1, 1)
    assert np.isnan(bootstrap(np.zeros(0))).all()
    assert np.isnan(bootstrap_ratio(np.zeros(3), np.zeros(3))).all()
    assert bootstrap_ratio(np.array([0, 1]), np.array([0, 1])) == (1, 1)  # half the draws of these have no chunk
