from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audionet.data.dataset import Assigned, ChunkImage
from audionet.data.given_split import are_folds, given_folds, given_sets, given_split
from audionet.data.naming import recording_name
from audionet.errors import DatasetError


def images_of(*paths: str, chunks: int = 1, copies: int = 0) -> list[ChunkImage]:
    """Images of recordings, ``label/path inside the label's folder``, with augmented copies of each chunk."""
    return [
        ChunkImage(label, recording_name(inside), index, Path("x"), f"{inside}_{index}_{copy}.jpg", copy)
        for path in paths
        for label, _, inside in [path.partition("/")]
        for index in range(chunks)
        for copy in range(copies + 1)
    ]


def alone(images: list[ChunkImage]) -> dict[tuple[str, str], str]:
    """Every recording as a group of its own."""
    return {(image.label, image.recording): f"{image.label}/{image.recording}" for image in images}


def test_speech_commands_have_their_official_sets() -> None:
    # The first lines of the lists that come with versions 0.01 and 0.02.
    validation = ("right/a69b9b3e_nohash_0.wav", "right/439c84f4_nohash_1.wav", "right/409c962a_nohash_1.wav")
    testing = ("cat/2aa787cf_nohash_0.wav", "cat/ffa76c4a_nohash_0.wav", "go/0c40e715_nohash_1.wav")
    training = tuple(f"{word}/00176480_nohash_0.wav" for word in ("right", "cat", "go"))
    official = dict.fromkeys(validation, "validation") | dict.fromkeys(testing, "testing")
    official |= dict.fromkeys(training, "training")
    images = images_of(*official)
    found = given_sets(images, None)
    assert [found[image.label, image.recording] for image in images] == list(official.values())
    assert not are_folds(found)


def test_esc_has_its_folds() -> None:
    images = images_of("dog/1-100032-A-0.wav", "dog/5-203128-B-0.ogg", "rain/3-1-A.opus", "rain/other.wav")
    found = given_sets(images, None)
    assert sorted(found.values()) == ["1", "3", "5"]
    assert are_folds(found)


def test_a_label_table_comes_before_file_names() -> None:
    images = images_of("dog/1-100032-A-0.wav", "dog/2-1-A-0.wav", "cat/day 1/x.wav", "cat/y.wav")
    sets = {"1-100032-A-0.wav": "Test", "2-1-A-0.wav": "train", "day 1%2Fx.wav": "dev", "y.wav": "TRAIN"}
    found = given_sets(images, Assigned({}, sets))
    assert list(found.values()) == ["testing", "training", "validation", "training"]


@pytest.mark.parametrize(
    ("sets", "reason"),
    [
        ({}, "no recording comes with a set"),
        ({"a.wav": "test", "b.wav": "2"}, "some recordings are in the set testing, others in 2"),
        ({"a.wav": "1", "b.wav": "1"}, "all recordings are in the fold 1"),
        ({"a.wav": "test", "b.wav": "test"}, "no recording is in the training set"),
        ({"a.wav": "train"}, "no recording is in the testing set"),
        ({"a.wav": "train", "c.wav": "test"}, "no recording of cat is in the training set"),
    ],
)
def test_sets_that_prove_nothing_are_errors(sets: dict[str, str], reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        given_sets(images_of("dog/a.wav", "dog/b.wav", "cat/c.wav"), Assigned({}, sets))


def test_a_group_is_on_one_side() -> None:
    images = images_of("dog/a.wav", "dog/b.wav", "dog/c.wav", "cat/d.wav", "cat/e.wav")
    groups = alone(images) | {("dog", "a.wav"): "g", ("dog", "c.wav"): "g"}
    names = ("training", "training", "testing", "training", "testing")
    sets = {(image.label, image.recording): name for image, name in zip(images, names, strict=True)}
    split = given_split(images, sets, groups)
    assert [image.recording for image in split.sets["training"]] == ["b.wav", "d.wav"]
    folds = given_folds(images, {key: name[:2] for key, name in sets.items()}, groups)
    for tests, training in zip(folds.tests, folds.training, strict=True):
        assert not {groups[images[row].label, images[row].recording] for row in tests} & {
            groups[images[row].label, images[row].recording] for row in training
        }
    with pytest.raises(DatasetError, match="no recording of dog is left in the training set"):
        given_split(images, sets, groups | {("dog", "b.wav"): "g"})


def test_copies_of_test_images_are_dropped() -> None:
    images = images_of("dog/a.wav", "dog/b.wav", "dog/c.wav", copies=1)
    split = given_split(images, {("dog", "a.wav"): "training", ("dog", "b.wav"): "testing"}, alone(images))
    assert {name: len(found) for name, found in split.sets.items()} == {"training": 2, "validation": 0, "testing": 1}
    assert split.dropped == 3


def test_every_fold_is_tested_by_a_model_of_the_others() -> None:
    images = images_of(*(f"{label}/{name}.wav" for label in ("cat", "dog") for name in "abcd"), chunks=2, copies=1)
    images += images_of("fox/a.wav", chunks=2)
    sets = {("cat" if i % 2 else "dog", f"{name}.wav"): f"{i // 2 % 3}" for i, name in enumerate("aabbcc")}
    sets["fox", "a.wav"] = "0"
    folds = given_folds(images, sets, alone(images))
    assert len(folds) == 3
    for number, (tests, training) in enumerate(zip(folds.tests, folds.training, strict=True)):
        tested = {(images[row].label, images[row].recording) for row in tests}
        assert tested == {key for key, fold in sets.items() if fold == f"{number}" and key[0] != "fox"}
        assert not any(images[row].copy for row in tests)
        assert not {(images[row].label, images[row].recording) for row in training} & tested
        assert {"d.wav"} <= {images[row].recording for row in training}
    assert len(np.unique(folds.tested)) == len(folds.tested) == 12
    assert folds.untested == ["fox"]  # all its recordings are in one fold: no model knows it
