from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.image import VIRIDIS
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.training.spec_augment import mask, mixup

pytest.importorskip("tensorflow")
tf = import_tensorflow()


def seed(step: int) -> object:
    return tf.constant([0, step])


def test_masks_silence_whole_rows_and_columns_and_nothing_else() -> None:
    pixels = tf.fill([50, 40, 60, 3], 255.0)
    masked = mask(pixels, 2, seed(1)).numpy()
    hidden = (masked == VIRIDIS[0]).all(axis=-1)
    assert ((masked == 255).all(axis=-1) | hidden).all()
    rows, columns = hidden.all(axis=2), hidden.all(axis=1)
    np.testing.assert_array_equal(hidden, rows[:, :, None] | columns[:, None, :])
    # Two masks of at most 15 % each, overlapping perhaps.
    assert rows.mean(axis=1).max() <= 0.35
    assert 0.05 < rows.mean() < 0.25
    assert 0.05 < columns.mean() < 0.25
    assert len({row.tobytes() for row in rows}) > 20


def test_masks_come_again_with_their_seed() -> None:
    pixels = tf.fill([8, 40, 60, 3], 255.0)
    one, again, other = (mask(pixels, 2, seed(step)).numpy() for step in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert (one != other).any()


@given(examples=st.integers(1, 9), alpha=st.sampled_from([0.05, 0.2, 1.0]), step=st.integers(0, 20))
def test_mixing_blends_inputs_and_targets_alike(examples: int, alpha: float, step: int) -> None:
    values = np.random.default_rng(step).random((examples, 3)).astype(np.float32)
    targets = np.eye(examples, dtype=np.float32)
    (mixed,), wanted = mixup((tf.constant(values),), tf.constant(targets), alpha, seed(step))
    wanted = wanted.numpy()
    np.testing.assert_allclose(wanted.sum(axis=1), 1, rtol=1e-5)
    assert (wanted.diagonal() >= 0.499).all()
    # The targets are the shares, so that they say what the inputs must be.
    np.testing.assert_allclose(mixed.numpy(), wanted @ values, rtol=1e-4, atol=1e-5)
