from __future__ import annotations

from pathlib import Path

import pytest

from audionet.data.dataset import Assigned, ChunkImage
from audionet.data.grouping import group_recordings, join_copies
from audionet.data.naming import recording_name
from audionet.errors import UsageError


def images_of(*paths: str) -> list[ChunkImage]:
    """One image of each recording, ``label/path inside the label's folder``."""
    names = [path.partition("/")[::2] for path in paths]
    return [ChunkImage(label, recording_name(inside), 0, Path("x"), f"{inside}.jpg") for label, inside in names]


def groups_of(expression: str | None, *paths: str) -> list[str]:
    found = group_recordings(images_of(*paths), expression).groups
    return [found[image.label, image.recording] for image in images_of(*paths)]


def test_without_an_expression_every_recording_is_alone() -> None:
    assert len(set(groups_of(None, "ann/a.wav", "ann/b.wav", "bob/a.wav"))) == 3


def test_a_folder_inside_the_label_groups_also_across_labels() -> None:
    first, other, again, alone, also = groups_of(
        "parent", "ann/day 1/a.wav", "ann/day 2/a.wav", "bob/day 1/b.wav", "ann/c.wav", "ann/d.wav"
    )
    assert first == again != other
    assert len({first, other, alone, also}) == 4


@pytest.mark.parametrize("expression", [r"^(\w+)-", r"^\w+(?=-)"])
def test_an_expression_names_the_group(expression: str) -> None:
    one, two, other, none = groups_of(expression, "sad/eve-1.wav", "mad/eve-2.wav", "sad/joe-1.wav", "sad/x.wav")
    assert one == two
    assert len({one, other, none}) == 3


def test_speakers_of_speech_commands_are_recognised() -> None:
    paths = ("yes/0a7c2a8d_nohash_0.wav", "no/0a7c2a8d_nohash_1.wav", "yes/0a7c2a8e_nohash_0.wav", "no/mine.wav")
    one, two, other, mine = groups_of(None, *paths)
    assert one == two
    assert len({one, other, mine}) == 3
    assert group_recordings(images_of(*paths), None).speakers == 3


def test_an_expression_that_matches_nothing_is_said() -> None:
    with pytest.raises(UsageError, match=r"group session\(\\d\+\): matches none of 2 recordings, such as day 1/a\.wav"):
        group_recordings(images_of("ann/day 1/a.wav", "bob/b.wav"), r"session(\d+)")


def test_copies_of_each_other_are_one_group_across_any_number_of_steps() -> None:
    images = images_of("ann/a.wav", "ann/b.wav", "bob/c.wav", "bob/d.wav", "bob/e.wav")
    groups = group_recordings(images, None).groups
    chunks = [*images, *images]
    keys = [b"1", b"2", b"3", b"4", b"5", b"2", b"3", b"9", b"8", b"4"]  # a, b and c hang together; d and e
    joined = join_copies(groups, chunks, keys)
    assert [len({joined[p.label, p.recording] for p in part}) for part in (images[:3], images[3:], images)] == [1, 1, 2]


def test_an_expression_without_end_is_stopped() -> None:
    name = "a" * 60 + ".wav"
    with pytest.raises(UsageError, match=rf"group \(a\|aa\)\+\$: its search in {name} takes for ever: simplify"):
        group_recordings(images_of(f"ann/{name}"), "(a|aa)+$")


def test_a_recording_with_several_labels_is_one_group() -> None:
    images = images_of("ann/call.wav", "bob/call.wav", "ann/other.wav", "bob/third.wav")
    found = group_recordings(images, None, Assigned({"other.wav": "monday", "third.wav": "monday"}, {})).groups
    one, same, other, third = (found[image.label, image.recording] for image in images)
    assert one == same != other == third
