from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.classifier.prototypes import unit_length
from audionet.discovery import clustering
from audionet.discovery.clustering import ClusterConfig, cluster_voices
from audionet.errors import UsageError
from audionet.utils.arrays import Float64Array, FloatArray, IntArray

DIMENSIONS = 60


def conversation(
    voices: int, pieces: int, seconds: float = 2.0
) -> tuple[FloatArray, Float64Array, Float64Array, IntArray]:
    """Pieces of voices that take turns, in two recordings; the first voice begins."""
    generator = np.random.default_rng(0)
    means = unit_length(generator.standard_normal((voices, DIMENSIONS)).astype(np.float32))
    labels = np.arange(pieces) % voices
    noise = unit_length(generator.standard_normal((pieces, DIMENSIONS)).astype(np.float32))
    vectors = unit_length((0.8 * means[labels] + 0.6 * noise).astype(np.float32))
    starts = np.tile(np.arange(pieces // 2) * 3.0, 2)
    return vectors, starts, starts + 2.0, np.repeat([0, 1], pieces // 2)


@pytest.mark.parametrize("voices", [1, 2, 5])
def test_the_number_of_voices_is_found(voices: int) -> None:
    found = cluster_voices(*conversation(voices, 40), ClusterConfig())
    np.testing.assert_array_equal(found.labels, np.arange(40) % voices)
    assert (found.certainty > 0.3).all()


def test_limits_of_the_number_are_kept() -> None:
    pieces = conversation(4, 80)
    for config, expected in (
        (ClusterConfig(voices=2), 2),
        (ClusterConfig(max_voices=3), 3),
        (ClusterConfig(voices=4), 4),
        (ClusterConfig(min_voices=9), 4),  # there are not more that could be told apart
    ):
        assert cluster_voices(*pieces, config).labels.max() + 1 == expected, config


def test_a_short_piece_follows_its_neighbours_unless_a_pause_parts_them() -> None:
    vectors, starts, ends, recordings = conversation(2, 40)
    order = np.argsort(np.arange(40) % 2, kind="stable")  # twenty pieces of each voice
    vectors = vectors[order]
    starts, recordings = np.arange(40) * 2.1, np.zeros(40, np.int64)
    ends = starts + 2.0
    vectors[5], ends[5] = unit_length(vectors[5] + 1.5 * vectors[30]), starts[5] + 0.3
    assert cluster_voices(vectors, starts, ends, recordings, ClusterConfig()).labels[5] == 0
    starts[5:], ends[5:] = starts[5:] + 60, ends[5:] + 60
    starts[6:], ends[6:] = starts[6:] + 60, ends[6:] + 60
    assert cluster_voices(vectors, starts, ends, recordings, ClusterConfig()).labels[5] == 1


def test_who_says_too_little_is_no_voice() -> None:
    vectors, starts, ends, recordings = conversation(3, 42)
    third = np.arange(42) % 3 == 2
    kept = ~third | (np.arange(42) < 3)
    pieces = vectors[kept], starts[kept], ends[kept], recordings[kept]
    assert cluster_voices(*pieces, ClusterConfig()).labels.max() + 1 == 2
    assert cluster_voices(*pieces, ClusterConfig(min_seconds=1)).labels.max() + 1 == 3


@given(st.integers(1, 12), st.integers(0, 5), st.floats(0.1, 4), st.sampled_from([None, 1, 2, 20]))
def test_any_few_pieces_are_clustered(pieces: int, seed: int, seconds: float, voices: int | None) -> None:
    generator = np.random.default_rng(seed)
    vectors = unit_length(generator.standard_normal((pieces, 8)).astype(np.float32))
    starts = np.cumsum(generator.uniform(seconds, 2 * seconds, pieces))
    found = cluster_voices(vectors, starts, starts + seconds, np.zeros(pieces, np.int64), ClusterConfig(voices=voices))
    assert found.labels[0] == 0
    assert set(found.labels.tolist()) == set(range(int(found.labels.max()) + 1))
    assert found.labels.max() < min(pieces, voices or pieces)
    assert np.isfinite(found.certainty).all()


@pytest.mark.parametrize(
    "settings",
    [
        {"voices": 0},
        {"voices": 2, "min_voices": 3},
        {"min_voices": 0},
        {"min_voices": 3, "max_voices": 2},
        {"min_seconds": -1.0},
    ],
)
def test_impossible_limits_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(UsageError):
        ClusterConfig(**settings)


def test_of_many_pieces_some_are_merged_and_all_assigned(monkeypatch: pytest.MonkeyPatch) -> None:
    pieces = conversation(4, 400)
    monkeypatch.setattr(clustering, "_MOST_MERGED", 30)
    found = cluster_voices(*pieces, ClusterConfig(min_seconds=100))  # 200 seconds of each, 15 of them merged
    np.testing.assert_array_equal(found.labels, np.arange(400) % 4)
