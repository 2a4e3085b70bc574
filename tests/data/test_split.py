from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.audio.config import SpectrogramConfig
from audionet.data.dataset import ChunkImage
from audionet.data.split import SETS, split_images


def images_of(shape: dict[str, list[int]], folder: Path = Path("x")) -> list[ChunkImage]:
    return [
        ChunkImage(label, f"r{number}.wav", index, folder / label, f"r{number}.wav_nohash_{index:04d}.jpg")
        for label, recordings in shape.items()
        for number, chunks in enumerate(recordings)
        for index in range(chunks)
    ]


shapes = st.dictionaries(
    st.sampled_from(["ann", "Ann", "bob", "ünï", "c c"]),
    st.lists(st.integers(1, 30), min_size=1, max_size=25),
    min_size=1,
)
shares = st.sampled_from([(10.0, 10.0), (0.0, 33.0), (0.0, 0.0), (20.0, 40.0), (10.0, 0.0), (1.0, 1.0)])


@settings(max_examples=200, deadline=None)
@given(shapes, shares)
def test_split_invariants(shape: dict[str, list[int]], share: tuple[float, float]) -> None:
    images = images_of(shape)
    split = split_images(images, *share)

    where = {image.path: name for name in SETS for image in split.sets[name]}
    assert sum(map(len, split.sets.values())) == len(where)  # nothing twice
    assert len(where) + split.dropped == len(images)
    for label, recordings in shape.items():
        of_label = {name: {p.recording for p in split.sets[name] if p.label == label} for name in SETS}
        assert of_label["training"]
        if len(recordings) >= 3:
            assert not of_label["training"] & of_label["testing"]
            assert not of_label["training"] & of_label["validation"]
            assert not of_label["validation"] & of_label["testing"]
            assert bool(of_label["validation"]) == (share[0] > 0)
            assert bool(of_label["testing"]) == (share[1] > 0)
            assert label not in split.seen_in_training
        else:
            assert (label in split.seen_in_training) == bool(of_label["testing"] or of_label["validation"])


@settings(max_examples=50, deadline=None)
@given(shapes, st.randoms(use_true_random=False))
def test_moving_or_shuffling_changes_nothing(shape: dict[str, list[int]], shuffle: random.Random) -> None:
    here, there = images_of(shape), images_of(shape, Path("/elsewhere/entirely"))
    shuffle.shuffle(there)
    one, other = split_images(here, 10, 10), split_images(there, 10, 10)
    for name in SETS:
        assert [(p.label, p.recording, p.index) for p in one.sets[name]] == [
            (p.label, p.recording, p.index) for p in other.sets[name]
        ]


def test_the_split_order_is_a_hash_that_differs_between_labels() -> None:
    """Names often follow time, and neighbours in time resemble each other."""
    split = split_images(images_of({"a": [1] * 40, "b": [1] * 40}), 0, 25)
    tested = {label: {p.recording for p in split.sets["testing"] if p.label == label} for label in ("a", "b")}
    by_name = sorted(f"r{number}.wav" for number in range(40))
    assert tested["a"] != tested["b"]
    assert len(tested["a"] & set(by_name[:10])) < 7
    assert len(tested["a"] & set(by_name[-10:])) < 7


def test_the_requested_shares_are_met_by_recordings() -> None:
    shape = {"a": [10] * 100, "b": [1, 30, 5, 4] * 50, "c": [40, 1, 1] * 4}
    split = split_images(images_of(shape), 10, 33)
    for label, recordings in shape.items():
        found = {name: len({p.recording for p in of if p.label == label}) for name, of in split.sets.items()}
        assert found["testing"] == pytest.approx(0.33 * len(recordings), abs=0.51)
        assert found["validation"] == pytest.approx(0.1 * len(recordings), abs=0.51)


@given(st.lists(st.integers(1, 4), min_size=3, max_size=30), st.integers(2, 6))
def test_a_group_is_in_one_set_whatever_its_label(chunks: list[int], groups: int) -> None:
    images = images_of({"a": chunks, "b": chunks})
    group = {(p.label, p.recording): str(sum(p.recording.encode()) % groups) for p in images}
    split = split_images(images, 20, 20, groups=group)
    found = [{group[p.label, p.recording] for p in split.sets[name]} for name in SETS]
    assert found[0].isdisjoint(found[1] | found[2])
    assert found[1].isdisjoint(found[2])


def test_one_recording_is_cut_in_time_with_gaps() -> None:
    split = split_images(images_of({"solo": [20]}), 10, 10)
    places = {name: [p.index for p in split.sets[name]] for name in SETS}
    assert places == {"training": list(range(14)), "validation": [15, 16], "testing": [18, 19]}
    assert split.seen_in_training == ["solo"]
    assert split.dropped == 2


def test_a_recording_too_short_to_cut_is_all_training() -> None:
    split = split_images(images_of({"solo": [4]}), 10, 10)
    assert len(split.sets["training"]) == 4
    assert split.seen_in_training == []


@given(chunks=st.integers(1, 80), overlap=st.sampled_from([0.0, 0.25, 0.5, 0.75, 0.9]))
def test_sets_cut_in_time_are_a_whole_chunk_apart(chunks: int, overlap: float) -> None:
    config = SpectrogramConfig(overlap=overlap)
    images = [ChunkImage("ann", "x.wav", index, Path(), f"{index}.jpg") for index in range(chunks)]
    split = split_images(images, 10, 10, config.apart)
    begin = {name: [image.index * config.step_length for image in split.sets[name]] for name in SETS}
    for one, other in (("training", "validation"), ("training", "testing"), ("validation", "testing")):
        if begin[one] and begin[other]:
            assert min(begin[other]) - (max(begin[one]) + config.chunk_length) >= config.chunk_length
    assert sum(map(len, begin.values())) + split.dropped == chunks
