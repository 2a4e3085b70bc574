from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.data.naming import chunk_name, parse_chunk_name, recording_name, separate_labels

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


@pytest.mark.parametrize(
    ("folder", "labels"),
    [
        ("rain;dog", ("dog", "rain")),
        (" dog ;dog; ", ("dog",)),
        ("_background_;dog;_unknown_", ("dog",)),
        (" ; ", ()),
        ("cafe\u0301;rain", ("caf\u00e9", "rain")),
    ],
)
def test_labels_of_a_folder(folder: str, labels: tuple[str, ...]) -> None:
    assert separate_labels(folder) == labels
