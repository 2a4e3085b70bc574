from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.audio.config import SpectrogramConfig
from audionet.data.dataset import ChunkImage, dataset_json, find_images, read_spectrogram_config
from audionet.data.naming import chunk_name, parse_chunk_name, recording_name
from audionet.data.split import SETS, split_images
from audionet.errors import DatasetError
from audionet.utils.files import write_json

file_paths = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=300)


@given(st.lists(file_paths, min_size=2, max_size=2, unique=True))
def test_two_recordings_never_share_a_name(paths: list[str]) -> None:
    names = [recording_name(path) for path in paths]
    assert names[0] != names[1]
    for name in names:
        assert "/" not in name
        assert name.splitlines() == [name] or not name.isprintable()
        assert len(os.fsencode(chunk_name(name, 12_345, ".jpg"))) <= 255


@given(file_paths, st.integers(0, 10**6))
def test_a_chunk_name_round_trip(path: str, index: int) -> None:
    name = recording_name(path)
    for copy in (0, 1, 12):
        assert parse_chunk_name(chunk_name(name, index, "", copy)) == (name, index, copy)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("dr.smith.mp3", "dr.smith.mp3"),
        ("day 1/a.mp3", "day 1%2Fa.mp3"),
        ("-rf.wav", "-rf.wav"),
        ("100%.wav", "100%25.wav"),
        ("two\nlines.wav", "two%0Alines.wav"),
        ("анна.flac", "анна.flac"),
        ("a_nohash_1.wav", "a_nohash_1.wav"),
    ],
)
def test_recording_names(path: str, name: str) -> None:
    assert recording_name(path) == name
    assert parse_chunk_name(chunk_name(name, 7, "")) == (name, 7, 0)
    assert parse_chunk_name(chunk_name(name, 7, "", 2)) == (name, 7, 2)


def test_a_foreign_image_is_a_recording_of_its_own() -> None:
    assert parse_chunk_name("holiday") == ("holiday", 0, 0)


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


def test_the_requested_shares_are_met_by_duration() -> None:
    split = split_images(images_of({"a": [10] * 100, "b": [1, 30, 5, 4] * 50}), 10, 20)
    for label, total in (("a", 1000), ("b", 2000)):
        assert sum(p.label == label for p in split.sets["testing"]) == pytest.approx(0.2 * total, abs=30)
        assert sum(p.label == label for p in split.sets["validation"]) == pytest.approx(0.1 * total, abs=30)


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


def make_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_labels_are_folders_exactly_as_on_disk(tmp_path: Path) -> None:
    names = (
        "Ann/x_nohash_0001.jpg",
        "ann/x_nohash_0000.jpg",
        "Dr. Ö  /y.JPEG",
        ".hidden/z.jpg",
        "stray.jpg",
        "ann/.t.jpg",
    )
    make_images(tmp_path, *names)
    found = find_images(tmp_path)
    assert [(p.label, p.recording, p.index) for p in found] == [("Ann", "x", 1), ("Dr. Ö  ", "y", 0), ("ann", "x", 0)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no images"),
        (("ann/a.jpg",), "only 'ann' has images"),
        (("ann/a.jpg", "bob/notes.txt"), r"only 'ann' has images \(nothing in bob\)"),
        (("ann/a.jpg", "b\nb/a.jpg"), "line break"),
    ],
)
def test_unusable_image_folders_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    make_images(tmp_path, *names)
    with pytest.raises(DatasetError, match=message):
        find_images(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        find_images(tmp_path / "nowhere")


def test_dataset_json_round_trip(tmp_path: Path) -> None:
    config = SpectrogramConfig(chunk_seconds=1.5, n_mels=64)
    assert read_spectrogram_config(tmp_path) is None
    write_json(tmp_path / "dataset.json", dataset_json(config, {}, None, complete=True))
    assert read_spectrogram_config(tmp_path) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "no JSON object"),
        ('{"complete": false}', "stopped before it had finished"),
        ('{"complete": true, "picture": {"colour": "jet"}}', "not usable"),
        ('{"complete": true, "picture": {"n_mels": 2}}', "not usable"),
        ('{"complete": true}', "not usable"),
    ],
)
def test_a_damaged_dataset_json_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=message) as error:
        read_spectrogram_config(tmp_path)
    assert "run data_maker.py again" in str(error.value)
    assert "\n" not in str(error.value)


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


def test_settings_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    for wrong in (
        {"representation": "cqt"},
        {"overlap": "0.5"},
        {"n_mels": True},
        {"loudness": "none"},
        {"hop_ms": None},
    ):
        settings = dataset_json(SpectrogramConfig(), {}, None, complete=True)
        settings["picture"] |= wrong
        write_json(tmp_path / "dataset.json", settings)
        with pytest.raises(DatasetError, match=f"{next(iter(wrong))} is .*run data_maker.py again"):
            read_spectrogram_config(tmp_path)
