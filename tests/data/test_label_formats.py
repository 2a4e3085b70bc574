from __future__ import annotations

import contextlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.data.label_formats import BadRow, Row, parse_time, read_rows
from audionet.errors import DatasetError


def rows_of(tmp_path: Path, text: str | bytes, name: str = "labels.csv", **columns: str) -> list[Row | BadRow]:
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_rows(path, columns))


FORMATS = {
    "comma": "file,start,end,label\na.wav,0.5,2,ann\n",
    "no times": "filename,category\na.wav,ann\n",
    "semicolon, decimal commas": "Datei;Onset;Offset;Label\r\n".replace("Datei", "File") + "a.wav;0,5;2,0;ann\r\n",
    "duration": "start\tduration\tspeaker\taudio\n0.5\t1.5\tann\ta.wav\n",
    "milliseconds": "file,start_ms,end_ms,label\na.wav,500,2000,ann\n",
    "milliseconds in brackets": "file,start (ms),end [msec],label\na.wav,500,2000,ann\n",
    "words joined": "audio_filename,StartTime,EndTime,label\na.wav,0.5,2,ann\n",
    "seconds in the name": "file,start_time_sec,end_time_sec,label\na.wav,0.5,2,ann\n",
    "offset and duration": "audio_filepath,offset,duration,label\na.wav,0.5,1.5,ann\n",
    "comment": "# by hand\nfile,start,end,label\n# the first\na.wav,0.5,2,ann\n",
    "spreadsheet": "sep=;\nfile;start;end;label\na.wav;0,5;2;ann\n",
    "quoted with tabs": 'file\tstart\tend\tlabel\n"a.wav"\t0.5\t2\t"ann"\n',
    "raven over several files": (
        "Begin Time (s)\tEnd Time (s)\tBegin File\tFile Offset (s)\tSpecies\n60.5\t62.0\ta.wav\t0.5\tann\n"
    ),
    "speaker in capitals": "SPEAKER\tSTART\tEND\tFILE\nann\t0.5\t2\ta.wav\n",
    "quoted": 'file,start,end,label\n"a.wav","0.5","2",ann\n',
    "raven": (
        "Selection\tView\tChannel\tBegin Time (s)\tEnd Time (s)\tLow Freq (Hz)\tBegin File\tSpecies\n"
        "1\tSpectrogram 1\t1\t0.5\t2.0\t100\ta.wav\tann\n"
    ),
    "elan": (
        "Tier\tBegin Time - hh:mm:ss.ms\tBegin Time - ss.msec\tEnd Time - ss.msec\tAnnotation\tFile Path\n"
        "ann\t00:00:00.500\t0.5\t2.0\thello\ta.wav\n"
    ),
    "rttm": "SPKR-INFO a 1 <NA> <NA> <NA> unknown ann <NA>\nSPEAKER a.wav 1 0.5 1.5 <NA> <NA> ann <NA> <NA>\n",
    "json lines": '{"file_name": "a.wav", "start": 0.5, "end": 2, "label": "ann"}\n',
}


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_row(tmp_path: Path, kind: str) -> None:
    (row,) = rows_of(tmp_path, FORMATS[kind])
    assert isinstance(row, Row)
    wanted = (0.0, math.inf) if kind == "no times" else (0.5, 2.0)
    assert (row.file, row.start, row.end, row.label) == ("a.wav", *wanted, "ann")


@pytest.mark.parametrize(
    "text",
    [
        "0.500000\t2.000000\tann\n\\\t100.0\t900.0\n",  # Audacity's spectral selections have a second line
        "\\\t100.0\t900.0\n0.500000\t2.000000\tann\n",
        "ann\t\t00:00:00.500\t00:00:02.000\t00:00:01.500\thello\n",  # ELAN without header
        "ann\t\t500\t2000\t1500\thello\n",
    ],
)
def test_a_label_file_without_names_is_about_the_recording_of_its_own_name(tmp_path: Path, text: str) -> None:
    (row,) = rows_of(tmp_path, text, "a.txt")
    assert row[1:] == (None, 0.5, 2.0, "ann", None, None, None)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_encodings_are_found(tmp_path: Path, encoding: str) -> None:
    (row,) = rows_of(tmp_path, "file,label\nZoë.wav,André\n".encode(encoding))
    assert isinstance(row, Row)
    assert (row.file, row.label) == ("Zoë.wav", "André")


def test_groups_and_sets_are_read(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "filename,fold,category,src_file\n1-100032-A-0.wav,1,dog,100032\n")
    assert isinstance(row, Row)
    assert (row.group, row.split) == ("100032", "1")


def test_columns_can_be_named(tmp_path: Path) -> None:
    text = "clip,who,label\na.wav,ann,noise\n"
    (row,) = rows_of(tmp_path, text, label="who")
    assert isinstance(row, Row)
    assert row.label == "ann"
    with pytest.raises(DatasetError, match=r"has no column 'whom': label_columns takes one of clip, who, label"):
        rows_of(tmp_path, text, label="whom")


def test_the_times_of_urbansound_are_those_of_its_sources(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "slice_file_name,fsID,start,end,fold,class\n1-2-0-0.wav,1,58.5,62.5,5,dog_bark\n")
    assert isinstance(row, Row)
    assert (row.start, row.end, row.label) == (0.0, math.inf, "dog_bark")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a.wav,3,2,ann", "ends at 2 s, before its start at 3 s"),
        ("a.wav,2,2.01,ann", "has no length"),
        ("a.wav,-1,2,ann", "starts before the recording"),
        ("a.wav,x,2,ann", "has the start 'x', which is no time"),
        ("a.wav,nan,2,ann", "which is no time"),
        ("a.wav,1,1e305,ann", "has the end '1e305', which is no time"),
        (",1,2,ann", "names no recording"),
        ("a.wav,1", "has 2 columns, not 4"),
    ],
)
def test_a_faulty_row_is_named_with_its_line_and_reason(tmp_path: Path, line: str, reason: str) -> None:
    good = "a.wav,0,1,ann"
    first, bad, last = rows_of(tmp_path, f"file,start,end,label\n{good}\n\n{line}\n{good}\n")
    assert isinstance(first, Row)
    assert isinstance(last, Row)
    assert isinstance(bad, BadRow)
    assert bad.line == 4
    assert reason in bad.reason


def test_lines_of_json_may_differ_in_what_they_leave_out(tmp_path: Path) -> None:
    lines = [
        '{"file_name": "a.wav", "label": "ann"}',
        '{"file_name": "a.wav", "start": 1, "end": 4, "label": "bob", "split": "test"}',
        '{"file_name": "a.wav", "label": ["ann", "bob"]}',
        '{"file_name": "a.wav"}',
    ]
    first, second, several, none = rows_of(tmp_path, "\n".join(lines), "metadata.jsonl")
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.end, second.start, second.end, second.split) == (math.inf, 1, 4, "test")
    assert isinstance(several, Row)
    assert several.label == "ann;bob"
    assert none == BadRow(4, "has no label")


def test_odd_values_in_json_are_no_labels(tmp_path: Path) -> None:
    values = ("[]", '["ann", null, " bob"]', '{"name": "ann"}', '[["ann"]]', "null", "7")
    lines = "\n".join(f'{{"file": "a.wav", "label": {value}}}' for value in values)
    odd = "has a label that is neither text nor a number"
    wanted = ["", "ann;bob", odd, odd, "", "7"]
    assert [
        getattr(row, "label", getattr(row, "reason", None)) for row in rows_of(tmp_path, lines, "a.jsonl")
    ] == wanted


@pytest.mark.parametrize(
    "text",
    [
        "# by hand\nfile,start,end,label\n#1.wav,0.5,2,ann\n# the end\n",
        "#,file,start,end,label\n1,#1.wav,0.5,2,ann\n",
        "file\tstart\tend\tlabel\n#1.wav\t0.5\t2\tann\n",
    ],
)
def test_a_recording_may_be_named_like_a_comment(tmp_path: Path, text: str) -> None:
    (row,) = rows_of(tmp_path, text)
    assert isinstance(row, Row)
    assert (row.file, row.start, row.end, row.label) == ("#1.wav", 0.5, 2, "ann")


def test_a_tier_may_be_named_like_a_comment(tmp_path: Path) -> None:
    (row,) = rows_of(tmp_path, "# from ELAN\n#1\t\t00:00:00.500\t00:00:02.000\t00:00:01.500\thello\n", "a.txt")
    assert isinstance(row, Row)
    assert (row.label, row.start, row.end) == ("#1", 0.5, 2)


def test_accents_are_composed_and_unknown_speakers_have_no_label(tmp_path: Path) -> None:
    rows = rows_of(tmp_path, "file,label\na.wav,cafe\u0301\na.wav,<unknown>\n")
    assert [row.label for row in rows if isinstance(row, Row)] == ["caf\u00e9", ""]


@pytest.mark.parametrize(
    ("text", "channel"),
    [("1", 1), ("2", 2), ("B", 2), ("2.0", 2), ("0", 0), ("<NA>", None), ("", None), ("left", None)],
)
def test_channels_are_read_from_every_format_that_has_them(tmp_path: Path, text: str, channel: int | None) -> None:
    files = [
        f"file\tchannel\tlabel\na.wav\t{text}\tann\n",
        f"Selection\tChannel\tBegin Time (s)\tEnd Time (s)\tAnnotation\n1\t{text}\t0.5\t2.0\tann\n",
        f'{{"file_name": "a.wav", "channel": "{text}", "label": "ann"}}\n',
        f"SPEAKER call {text or '<NA>'} 0 1 <NA> <NA> ann <NA> <NA>\n",
    ]
    rows = [row for file in files for row in rows_of(tmp_path, file)]
    assert [row.channel for row in rows if isinstance(row, Row)] == 4 * [channel]


def test_times_that_are_not_read_are_pointed_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows_of(tmp_path, "file,event_start_at,label\na.wav,3,ann\n")
    assert "labels whole recordings; if event_start_at are the times of parts" in caplog.text


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a.wav,0,1,ann\n", "has no header"),
        ("file,begin,finish\na.wav,0,1\n", "no column is named like a label"),
        (b"\x00\x01\x02\x03\n", "is no text file"),
        ("file,start,label\na.wav,1,ann\n", "has starts .'start'., but no ends or durations"),
        ("file,start (samples),end,label\na.wav,1,2,ann\n", "'start .samples.' is no time in seconds"),
        ('file,label,notes\na.wav,ann,"open\nb.wav,bob,\n', "csv:3: is no row of a table"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, text: str | bytes, reason: str) -> None:
    with pytest.raises(DatasetError, match=reason):
        rows_of(tmp_path, text)


@given(st.text(), st.sampled_from(["", "file,start,end,label\n", "SPEAKER a 1 0 1 x x ann\n", "0\t1\tann\n", "{}\n"]))
def test_any_text_gives_rows_reasons_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, text: str, head: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes((head + text).encode("utf-8", "surrogatepass"))
    with contextlib.suppress(DatasetError):
        for row in read_rows(path):
            assert isinstance(row, BadRow) or 0 <= row.start < row.end


@given(st.floats(0, 1e6))
def test_a_time_is_read_as_it_is_written(seconds: float) -> None:
    assert parse_time(f"{seconds:.6f}") == pytest.approx(seconds, abs=1e-6)
    assert parse_time(f"{seconds:.6f}".replace(".", ",")) == pytest.approx(seconds, abs=1e-6)
    whole, rest = divmod(seconds, 3600)
    assert parse_time(f"{whole:.0f}:{rest // 60:02.0f}:{rest % 60:09.6f}") == pytest.approx(seconds, abs=1e-5)
