from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.errors import DatasetError, RecordingError
from audionet.probing.config import ProbeConfig
from audionet.probing.tasks import Excerpt, cut_clips, find_materials, read_excerpt
from tests.support.sounds import write_tone


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def labelled(folder: Path, **recordings: int) -> Path:
    touch(*(folder / label / f"{i}.wav" for label, number in recordings.items() for i in range(number)))
    return folder


def test_digits_have_their_official_split_and_two_questions(tmp_path: Path) -> None:
    recordings = tmp_path / "fsdd" / "recordings"
    touch(*(recordings / f"{d}_{s}_{i}.wav" for d in (3, 7) for s in ("ann", "bob") for i in range(7)))
    touch(recordings / "notes.wav")
    (material,), notes = find_materials(ProbeConfig(data_dir=tmp_path))
    speakers, digits = material.tasks
    assert set(speakers.labels) == {"ann", "bob"}
    assert set(digits.labels) == {"3", "7"}
    for excerpt, speaker in zip(material.excerpts, speakers.labels, strict=True):
        assert excerpt.use == ("testing" if int(excerpt.recording.split("_")[2]) < 5 else "training")
        assert speaker in excerpt.recording
    assert len(material.excerpts) == 28
    assert [note.split(" holds no ")[1] for note in notes] == ["libri251", "wakewords", "speechocean", "esc10"]


def test_sounds_are_held_out_by_the_folds_in_their_names(tmp_path: Path) -> None:
    touch(
        *(
            tmp_path / "esc10" / label / f"{fold}-{i}-A.opus"
            for label in ("dog", "rain")
            for fold in (1, 2, 5)
            for i in range(4)
        )
    )
    (material,), _ = find_materials(ProbeConfig(data_dir=tmp_path))
    (task,) = material.tasks
    assert [f"{fold}-" for fold in task.folds] == [excerpt.path.name[:2] for excerpt in material.excerpts]
    assert material.split == "the dataset's own folds: 1, 2, 5"


def test_the_last_accented_speakers_are_probed(tmp_path: Path) -> None:
    labelled(tmp_path / "speechocean", **{f"s{number:02}": 3 for number in range(30)})
    (material,), _ = find_materials(ProbeConfig(data_dir=tmp_path))
    (task,) = material.tasks
    assert set(task.labels) == {f"s{number:02}" for number in range(5, 30)}
    assert len(material.excerpts) == len(task.labels) == len(task.folds) == 75
    for excerpt, label in zip(material.excerpts, task.labels, strict=True):
        assert excerpt.recording.startswith(label)


def test_of_readers_the_last_51_are_taken_and_cut_in_time_with_a_gap(tmp_path: Path) -> None:
    touch(*(tmp_path / "libri251" / f"{i}-1-0000.flac" for i in range(100, 160)))
    (material,), _ = find_materials(ProbeConfig(data_dir=tmp_path))
    assert set(material.tasks[0].labels) == {str(i) for i in range(109, 160)}
    parts = {excerpt.use: (excerpt.start, excerpt.stop) for excerpt in material.excerpts}
    assert parts == {"training": (0, 0.6), "testing": (0.7, 1)}
    assert len(material.excerpts) == 102
    assert material.unit == "clip"


def test_known_parts_go_together_and_a_part_that_is_no_good_is_said(tmp_path: Path) -> None:
    labelled(tmp_path / "wakewords", hey=3, you=3)
    (tmp_path / "libri251").mkdir()
    materials, notes = find_materials(ProbeConfig(data_dir=tmp_path))
    assert [task.title for material in materials for task in material.tasks] == ["wakewords"]
    assert any("libri251 holds no" in note and "two speakers" in note for note in notes)


def test_a_folder_of_labels_holds_each_recording_out_once(tmp_path: Path) -> None:
    (material,), notes = find_materials(ProbeConfig(data_dir=labelled(tmp_path, a=7, b=12, c=1)))
    (task,) = material.tasks
    assert notes == ["used for training only, because they have one recording: c"]
    for label in "ab":
        places = [i for i, other in enumerate(task.labels) if other == label]
        assert {material.excerpts[i].use for i in places} == {"either"}
        sizes = np.bincount([task.folds[i] for i in places], minlength=5)
        assert sizes.max() - sizes.min() <= 1
    assert {e.use for e, label in zip(material.excerpts, task.labels, strict=True) if label == "c"} == {"training"}


def test_which_recordings_are_taken_depends_on_names_and_seed_alone(tmp_path: Path) -> None:
    def drawn(folder: Path, seed: int = 0) -> set[str]:
        found, _ = find_materials(ProbeConfig(data_dir=folder, max_recordings=5, seed=seed))
        return {excerpt.recording for excerpt in found[0].excerpts}

    here, there = labelled(tmp_path / "here", a=20, b=20), labelled(tmp_path / "there", a=20, b=20)
    assert drawn(here) == drawn(there)
    assert drawn(here) != drawn(here, seed=1)
    assert len(drawn(here)) == 10


@pytest.mark.parametrize(
    ("recordings", "message"),
    [({}, "0 labels"), ({"a": 3}, "1 label with recordings"), ({"a": 1, "b": 1}, "at least one of them with two")],
)
def test_what_cannot_be_probed_with_is_said(tmp_path: Path, recordings: dict[str, int], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        find_materials(ProbeConfig(data_dir=labelled(tmp_path, **recordings)))


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no-such is not a folder"):
        find_materials(ProbeConfig(data_dir=tmp_path / "no-such"))


def test_an_excerpt_is_a_share_of_its_recording(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", seconds=2, rate=8000)
    whole = read_excerpt(Excerpt(path, "a", "either"), 16_000, 10)
    assert (len(whole.samples), whole.rate) == (16_000, 8000)
    part = read_excerpt(Excerpt(path, "a", "testing", 0.75, 1), 16_000, 10)
    np.testing.assert_array_equal(part.samples, whole.samples[12_000:])
    short = read_excerpt(Excerpt(path, "a", "either"), 16_000, 0.5)
    np.testing.assert_array_equal(short.samples, whole.samples[:4000])
    above = read_excerpt(Excerpt(write_tone(tmp_path / "b.wav", rate=44_100), "b", "either"), 16_000, 10)
    assert (len(above.samples), above.rate) == (16_000, 16_000)


def test_a_damaged_recording_is_no_excerpt(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"RIFF" + bytes(100))
    with pytest.raises(RecordingError):
        read_excerpt(Excerpt(path, "a", "either"), 16_000, 10)


@given(st.integers(0, 500), st.integers(2, 60), st.data())
def test_clips_cover_all_but_what_is_too_short(total: int, length: int, data: st.DataObject) -> None:
    step = data.draw(st.integers(1, length))
    samples = np.arange(total).astype(np.int16)
    clips = cut_clips(samples, length, step, keep_short=False)
    for place, (start, piece) in enumerate(clips):
        assert start == place * step
        assert len(piece) == length or (place == len(clips) - 1 and 2 * len(piece) >= length)
        np.testing.assert_array_equal(piece, samples[start : start + length])
    end = clips[-1][0] + len(clips[-1][1]) if clips else 0
    assert end == total or 2 * (total - len(clips) * step) < length
    assert sum(start + length >= total for start, _ in clips) <= 1  # no superfluous clip


def test_a_whole_recording_makes_a_clip_however_short() -> None:
    assert len(cut_clips(np.ones(3, np.int16), 100, 100, keep_short=True)) == 1
    assert not cut_clips(np.ones(3, np.int16), 100, 100, keep_short=False)
