from __future__ import annotations

import json
import logging
import math
import unicodedata
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.data.label_table import LabelledParts, LabelTable, read_label_table
from audionet.data.naming import BACKGROUND
from audionet.data.spans import WHOLE, complement, join_spans, with_joined_labels, without_overlaps
from audionet.errors import DatasetError
from tests.support.sounds import write_tone


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for name in ("talk.wav", "day 1/call.flac", "day 2/call.flac", "day 2/Zoë.wav"):
        write_tone(tmp_path / "audio" / name, seconds=0.2)
    return tmp_path / "audio"


HEADER = "file,start,end,label\n"


def table_of(audio: Path, text: str, name: str = "labels.csv", **options: bool) -> LabelTable:
    path = audio.parent / name
    path.write_text(text, "utf-8")
    return read_label_table(path, audio, **options)


def test_recordings_are_found_by_path_name_and_stem(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    inside = ("talk.wav", "./talk.wav", "talk", "C:\\data\\talk.wav", "C:\\data\\day 1\\call.flac")
    more = ("day 1/call.flac", "day 1\\call", "Zoe\u0308.wav")
    table = table_of(audio, "file,label\n" + "".join(f"{name},ann\n" for name in (*inside, *more)))
    assert table.rows == len(inside) + len(more)
    assert set(table.parts["ann"]) == {"talk.wav", "day 1/call.flac", "day 2/Zoë.wav"}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    with pytest.raises(DatasetError, match="holds no usable row"):
        table_of(audio, "file,label\ncall,ann\nnone.wav,ann\n")
    ambiguous, missing = (record.message for record in caplog.records if record.levelno >= logging.WARNING)
    assert "labels.csv:2: names call, which may be any of day 1/call.flac, day 2/call.flac: give the path" in ambiguous
    assert "labels.csv:3: names none.wav, which is not in" in missing


def test_a_recording_of_another_folder_is_not_taken_for_one_of_the_same_name(audio: Path) -> None:
    rows = "day 3/call.flac,ann\nold/talk.wav,ann\nnew/talk.wav,bob\nnew/Zoë.wav,bob\nday 2/call.flac,bob\n"
    table = table_of(audio, f"file,label\n{rows}")
    assert table.parts == {"ann": {"talk.wav": [WHOLE]}, "bob": {"day 2/call.flac": [WHOLE]}}


def test_paths_may_be_those_beside_the_table(audio: Path) -> None:
    (audio / "day 2" / "metadata.csv").write_text("file_name,label\ncall.flac,ann\n")
    table = read_label_table(audio / "day 2" / "metadata.csv", audio)
    assert table.parts == {"ann": {"day 2/call.flac": [WHOLE]}}


@pytest.mark.parametrize("name", [" a.wav", "b .wav", " day /c.wav", "day / d.wav"])
@pytest.mark.parametrize("kind", ["csv", "jsonl", "rttm"])
def test_blanks_may_belong_to_a_name(tmp_path: Path, name: str, kind: str) -> None:
    for path in {name, name.replace(" ", "")}:
        write_tone(tmp_path / "audio" / path, seconds=0.2)
    text = {
        "csv": f"file,label\n{name},ann\n",
        "jsonl": json.dumps({"file": name, "label": "ann"}) + "\n",
        "rttm": f"SPEAKER {quote(name)} 1 0 1 <NA> <NA> ann <NA> <NA>\n",
    }[kind]
    assert list(table_of(tmp_path / "audio", text, f"labels.{kind}").parts["ann"]) == [name]


def test_blanks_around_a_name_may_be_those_of_its_cell(audio: Path) -> None:
    rows = " talk.wav ,ann\n  talk,ann\n call.flac/../day 1/call ,ann\n /data/day 2/Zoë.wav ,ann\n"
    table = table_of(audio, f"file,label\n{rows}")
    assert list(table.parts["ann"]) == ["talk.wav", "day 1/call.flac", "day 2/Zoë.wav"]
    with pytest.raises(DatasetError, match="holds no usable row"):
        table_of(audio, "file,label\n   ,ann\n")


def test_label_tracks_may_lie_in_folders_as_their_recordings_do(audio: Path, tmp_path: Path) -> None:
    for day in ("day 1", "day 2"):
        (tmp_path / "tracks" / day).mkdir(parents=True)
        (tmp_path / "tracks" / day / "call.txt").write_text(f"0.0\t0.1\t{day}\n")
    table = read_label_table(tmp_path / "tracks", audio)
    assert {label: list(names) for label, names in table.parts.items()} == {
        "day 1": ["day 1/call.flac"],
        "day 2": ["day 2/call.flac"],
    }


def test_two_label_files_about_one_recording_are_said(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    (audio / "talk.txt").write_text("0.0\t1\tann\n")
    (audio / "talk.csv").write_text("start,end,label\n0.0,1,bob\n1,2,bob\n")
    assert read_label_table(audio, audio).parts == {"bob": {"talk.wav": [(1.0, 2.0)]}}
    assert "is about talk.wav, and so is" in caplog.text


def test_rows_without_a_usable_label_are_no_background(audio: Path) -> None:
    rows = "talk.wav,0,3,_background_\ntalk.wav,3,6,a/b\ntalk.wav,6,9,ann\ntalk.wav,9.1,12,\n"
    table = table_of(audio, f"file,start,end,label\n{rows}", background=True)
    assert table.parts[BACKGROUND]["talk.wav"] == [(0.0, 3.0), (12.0, math.inf)]


def test_a_recording_of_which_nothing_is_left_is_named(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    table_of(audio, "file,label\ntalk.wav,ann\ntalk.wav,bob\nZoë.wav,ann\n")
    assert "talk.wav: all that is labelled bob has another label as well; left out" in caplog.text
    with pytest.raises(DatasetError, match="every labelled second has several labels"):
        table_of(audio, "file,label\ntalk.wav,ann\ntalk.wav,bob\n")


def test_slivers_beside_overlaps_and_between_labels_are_left_out(audio: Path) -> None:
    rows = "talk.wav,0,2,ann\ntalk.wav,1.9,4,bob\ntalk.wav,1.7,1.8,bob\ntalk.wav,4.1,5,cy\ntalk.wav,5.2,5.3,cy\n"
    table = table_of(audio, f"file,start,end,label\n{rows}", background=True)
    assert table.parts["ann"]["talk.wav"] == [(0.0, 1.7)]
    assert table.parts["bob"]["talk.wav"] == [(2.0, 4.0)]
    assert table.parts["cy"]["talk.wav"] == [(4.1, 5.0), (5.2, 5.3)]  # as short as it is, it was labelled so
    assert table.parts[BACKGROUND]["talk.wav"] == [(5.3, math.inf)]


@pytest.mark.parametrize("name", ["talk.txt", "talk.Table.1.selections.txt"])
def test_label_files_in_a_folder_are_about_the_recordings_of_their_names(audio: Path, name: str) -> None:
    (audio / name).write_text("0.0\t0.1\tann\n0.1\t0.2\tbob\n")
    table = read_label_table(audio, audio)
    assert table.parts == {"ann": {"talk.wav": [(0.0, 0.1)]}, "bob": {"talk.wav": [(0.1, 0.2)]}}


def test_other_text_in_a_folder_of_label_files_is_left_out(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    (audio / "talk.txt").write_text("0.0\t0.1\tann\n")
    (audio / "README.txt").write_text("Recorded in May.\n")
    assert list(read_label_table(audio, audio).parts) == ["ann"]
    assert "README.txt: no column is named like a label" in caplog.text


def test_several_labels_at_once_are_left_out_and_counted(audio: Path) -> None:
    rows = "talk.wav,0,6,ann\ntalk.wav,4,8,bob\ntalk.wav,4,8,bob\ntalk.wav,5,9,ann\n"
    table = table_of(audio, f"file,start,end,label\n{rows}", background=True)
    assert table.parts["ann"]["talk.wav"] == [(0.0, 4.0), (8.0, 9.0)]
    assert "bob" not in table.parts
    assert table.overlapping == 4.0
    assert table.parts[BACKGROUND]["talk.wav"] == [(9.0, math.inf)]


@pytest.mark.parametrize("label", ["a/b", "..", ".hidden", "x" * 300, "dataset.json", "x\u2028y", "a\tb"])
def test_a_label_that_cannot_be_a_folder_is_left_out(audio: Path, label: str, caplog: pytest.LogCaptureFixture) -> None:
    path = audio.parent / "labels.csv"
    path.write_bytes(f"file,label\ntalk.wav,{label}\ntalk.wav,ann\n".encode("utf-8", "surrogateescape"))
    table = read_label_table(path, audio)
    assert list(table.parts) == ["ann"]
    assert "labels.csv:2:" in caplog.text


def test_only_some_of_many_faulty_rows_are_shown(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    table_of(audio, "file,label\ntalk.wav,ann\n" + "none.wav,ann\n" * 50)
    assert len([record for record in caplog.records if record.levelno >= logging.WARNING]) == 6
    assert "50 rows left out" in caplog.text


def test_groups_and_sets_belong_to_recordings(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "talk.wav,ann,monday,train\nZoë.wav,bob,,test\ntalk.wav,bob,monday,test\n"
    table = table_of(audio, f"file,label,session,split\n{rows}")
    assert table.groups == {"talk.wav": "monday"}
    assert table.splits == {"talk.wav": "train", "day 2/Zoë.wav": "test"}
    assert "gives talk.wav another split than before, test" in caplog.text


def test_a_whole_recording_has_no_parts(audio: Path) -> None:
    table = table_of(audio, "file,start,end,label\ntalk.wav,,,ann\nZoë.wav,0.1,,ann\n")
    found = LabelledParts(table, audio).find("ann")
    assert {source.file: source.parts for source in found.sources} == {
        "talk.wav": (),
        "day 2/Zoë.wav": ((0.1, math.inf),),
    }


SPANS = st.lists(st.tuples(st.integers(0, 30), st.integers(1, 8)), max_size=6)


@given(st.dictionaries(st.sampled_from("abc"), SPANS, max_size=3))
def test_every_moment_with_one_label_is_kept_and_no_other(given_spans: dict[str, list[tuple[int, int]]]) -> None:
    labels = {
        label: join_spans((float(start), float(start + length)) for start, length in spans)
        for label, spans in given_spans.items()
    }
    alone, lost = without_overlaps(labels)
    several = 0
    for moment in range(40):
        at = {label for label, spans in labels.items() if any(start <= moment < end for start, end in spans)}
        kept = {label for label, spans in alone.items() if any(start <= moment < end for start, end in spans)}
        assert kept == (at if len(at) == 1 else set())
        several += len(at) > 1
        free = any(start <= moment < end for start, end in complement([span for of in labels.values() for span in of]))
        assert free == (not at)
    assert lost == several


def test_names_that_only_their_form_tells_apart_are_two_recordings(tmp_path: Path) -> None:
    names = [unicodedata.normalize(form, "é.wav") for form in ("NFC", "NFD")] + ["back\\slash.wav"]
    for name in names:
        write_tone(tmp_path / "audio" / name)
    rows = "".join(f"{name},0,1,{label}\n" for name, label in zip(names, "abc", strict=True))
    table = table_of(tmp_path / "audio", f"file,start,end,label\n{rows}")
    assert [list(table.parts[label]) for label in "abc"] == [[name] for name in names]


def test_labels_of_a_row_and_of_rows_that_overlap_are_joined(audio: Path) -> None:
    rows = "talk.wav,0,6,rain\ntalk.wav,4,8,dog; rain;\ntalk.wav,7,9,cat\n"
    table = table_of(audio, HEADER + rows, background=True)
    assert table.multi_label
    assert table.overlapping == 0
    assert {label: names["talk.wav"] for label, names in table.parts.items()} == {
        "rain": [(0.0, 4.0)],
        "dog;rain": [(4.0, 7.0)],
        "cat;dog;rain": [(7.0, 8.0)],
        "cat": [(8.0, 9.0)],
        BACKGROUND: [(9.0, math.inf)],
    }


def test_overlapping_rows_are_joined_where_that_is_asked_for(audio: Path) -> None:
    rows = "talk.wav,0,6,rain\ntalk.wav,4,8,dog\n"
    joined = table_of(audio, HEADER + rows, multi_label=True)
    assert joined.parts["dog;rain"] == {"talk.wav": [(4.0, 6.0)]}
    alone = table_of(audio, HEADER + rows)
    assert list(alone.parts) == ["dog", "rain"]


def test_a_row_that_is_left_out_does_not_make_labels_apply_at_the_same_time(audio: Path) -> None:
    rows = "talk.wav,0,6,rain\ntalk.wav,4,8,dog\ntalk.wav,9,10,;\n"
    assert not table_of(audio, HEADER + rows).multi_label


def test_a_semicolon_is_part_of_a_label_where_it_is_said_to_be(audio: Path) -> None:
    rows = "talk.wav,0,6,AC;DC\ntalk.wav,4,8,dog\n"
    assert list(table_of(audio, HEADER + rows, multi_label=False).parts) == ["AC;DC", "dog"]


def test_so_many_labels_that_no_folder_can_be_named_after_them_are_left_out_and_counted(audio: Path) -> None:
    rows = "".join(f"talk.wav,0,2,{letter * 99}\n" for letter in "abc") + "talk.wav,2,3,a\n"
    table = table_of(audio, HEADER + rows, multi_label=True)
    assert table.parts == {"a": {"talk.wav": [(2.0, 3.0)]}}
    assert table.overlapping == 2.0


@pytest.mark.parametrize("cell", [";", " ; ", "dog;.hidden", "dog;a/b"])
def test_a_cell_with_a_label_that_cannot_be_one_is_left_out(
    audio: Path, cell: str, caplog: pytest.LogCaptureFixture
) -> None:
    table = table_of(audio, f"{HEADER}talk.wav,0,6,{cell}\ntalk.wav,6,8,dog\n")
    assert table.parts == {"dog": {"talk.wav": [(6.0, 8.0)]}}
    assert "labels.csv:2:" in caplog.text


@given(st.dictionaries(st.sampled_from("abc"), SPANS, max_size=3))
def test_every_moment_with_labels_is_kept_with_all_of_them(given_spans: dict[str, list[tuple[int, int]]]) -> None:
    labels = {label: join_spans((float(a), float(a + b)) for a, b in spans) for label, spans in given_spans.items()}
    parts, lost = with_joined_labels(labels)
    assert lost == 0
    for moment in (second + 0.5 for second in range(40)):
        active = sorted(label for label, spans in labels.items() if any(a < moment < b for a, b in spans))
        found = [label for label, spans in parts.items() if any(a < moment < b for a, b in spans)]
        assert found == ([";".join(active)] if active else [])
