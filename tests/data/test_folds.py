from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.data.dataset import ChunkImage
from audionet.data.folds import assign_folds
from audionet.data.grouping import group_recordings


def images_of(shape: dict[str, list[int]], folder: Path = Path("x"), copies: int = 0) -> list[ChunkImage]:
    """Images of labels whose recordings have so many chunks each."""
    return [
        ChunkImage(label, f"{number}.wav", index, folder, f"{number}_{index}_{copy}.jpg", copy)
        for label, recordings in shape.items()
        for number, chunks in enumerate(recordings)
        for index in range(chunks)
        for copy in range(copies + 1)
    ]


def alone(images: list[ChunkImage]) -> dict[tuple[str, str], str]:
    return group_recordings(images, None).groups


shapes = st.dictionaries(
    st.sampled_from(["ann", "bob", "ünï", "c c"]), st.lists(st.integers(1, 12), min_size=1, max_size=12), min_size=1
)


@given(shapes, st.integers(2, 6), st.integers(0, 1), st.integers(1, 4))
def test_fold_invariants(shape: dict[str, list[int]], number: int, copies: int, apart: int) -> None:
    images = images_of(shape, copies=copies)
    folds = assign_folds(images, alone(images), number, apart)
    tested = np.concatenate(folds.tests)
    assert len(tested) == len(set(tested.tolist()))
    assert not any(images[row].copy for row in tested)
    for training, test in zip(folds.training, folds.tests, strict=True):
        recordings = {(images[row].label, images[row].recording) for row in training}
        for row in test:
            image = images[row]
            assert any(label == image.label for label, _ in recordings)
            if (image.label, image.recording) in recordings:
                assert image.label in folds.cut_in_time
                same = [images[r].index for r in training if images[r].label == image.label]
                assert min(abs(index - image.index) for index in same) >= apart
    for label, recordings in shape.items():
        if len(recordings) > 1:
            assert sum(images[row].label == label for row in tested) == sum(recordings)
        assert (label in folds.untested) == (not any(images[row].label == label for row in tested))


@given(st.lists(st.integers(2, 40), min_size=1, max_size=6), st.integers(2, 6))
def test_folds_are_stratified(recordings: list[int], number: int) -> None:
    images = images_of({str(label): [1] * count for label, count in enumerate(recordings)})
    folds = assign_folds(images, alone(images), number)
    assert len(folds) == min(number, max(recordings))
    sizes = [len(test) for test in folds.tests]
    for label in range(len(recordings)):
        counts = [sum(images[row].label == str(label) for row in test) for test in folds.tests]
        assert max(counts) - min(counts) <= 1
    assert max(sizes) - min(sizes) <= len(recordings)


def test_moving_the_folder_changes_nothing_and_a_repeat_everything() -> None:
    shape = {"a": [3] * 10, "b": [2] * 7}
    folds = assign_folds(images_of(shape), alone(images_of(shape)), 5)
    moved = assign_folds(images_of(shape, Path("y")), alone(images_of(shape)), 5)
    again = assign_folds(images_of(shape), alone(images_of(shape)), 5, repeat=1)
    for one, other in zip(folds.tests, moved.tests, strict=True):
        np.testing.assert_array_equal(one, other)
    assert any(set(one) != set(other) for one, other in zip(folds.tests, again.tests, strict=True))


def test_groups_stay_together_across_labels() -> None:
    images = images_of({"sad": [1] * 12, "glad": [1] * 12})
    groups = {(p.label, p.recording): str(int(p.recording.split(".")[0]) // 3) for p in images}
    folds = assign_folds(images, groups, 4)
    for training, test in zip(folds.training, folds.tests, strict=True):
        assert not {groups[images[r].label, images[r].recording] for r in training} & {
            groups[images[r].label, images[r].recording] for r in test
        }
        assert Counter(images[row].label for row in test) == {"sad": 3, "glad": 3}


def test_a_group_that_covers_a_label_cannot_be_tested_and_is_always_trained_on() -> None:
    images = images_of({"a": [2] * 4, "b": [2] * 4})
    groups = {(p.label, p.recording): "all of a" if p.label == "a" else p.recording for p in images}
    folds = assign_folds(images, groups, 4)
    assert folds.untested == ["a"]
    assert sum(map(len, folds.tests)) == 8
    assert sum(any(images[row].label == "a" for row in training) for training in folds.training) == 3


@pytest.mark.parametrize(("chunks", "cut"), [(1, False), (3, False), (4, True), (40, True)])
def test_one_recording_is_cut_in_time_if_it_is_long_enough(chunks: int, cut: bool) -> None:
    images = images_of({"a": [chunks], "b": [2] * 6})
    folds = assign_folds(images, alone(images), 5, apart=2)
    assert (folds.cut_in_time == ["a"]) == cut
    assert (folds.untested == ["a"]) != cut
    assert sum(images[row].label == "a" for row in folds.tested) == (chunks if cut else 0)


def test_two_recordings_are_tested_in_two_of_five_folds() -> None:
    images = images_of({"rare": [3, 3], "common": [3] * 20})
    folds = assign_folds(images, alone(images), 5)
    assert len(folds) == 5
    assert sorted(sum(images[row].label == "rare" for row in test) for test in folds.tests) == [0, 0, 0, 3, 3]


def test_several_labels_of_one_recording_are_cut_in_time() -> None:
    meeting = [ChunkImage(label, "m.wav", i, Path("x"), f"{i}.jpg") for label in ("ann", "bob") for i in range(20)]
    both = [ChunkImage("ann", "n.wav", i, Path("x"), f"n{i}.jpg") for i in range(20)]
    for images in (meeting, meeting + both):
        groups = {(image.label, image.recording): image.recording for image in images}
        folds = assign_folds(images, groups, 4)
        assert "bob" in folds.cut_in_time
        assert not folds.untested
        assert len(folds.tested) == len(images)
        for training, test in zip(folds.training, folds.tests, strict=True):
            for row in test.tolist():
                near = [other for other in training.tolist() if images[other].recording == images[row].recording]
                same = [other for other in near if images[other].label == images[row].label]
                assert all(abs(images[other].index - images[row].index) > 1 for other in same)
