"""Predictions of an evaluation as label files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.cli.evaluate import main as evaluate_main
from audionet.data.label_formats import Row, read_rows
from audionet.data.label_table import read_label_table
from audionet.errors import UsageError
from audionet.evaluation.batch_inference import RecordingPrediction
from audionet.evaluation.label_files import LABELS_CSV, LABELS_HEADER, LABELS_RTTM, TRACKS, check_has_times, segments_of
from audionet.evaluation.recordings import HeldOutRecording
from audionet.inference.predictor import Predictor
from tests.inference.test_predictor import sound


def prediction(starts: list[float], given: list[int], seconds: float | None = None) -> RecordingPrediction:
    sure = np.linspace(0.5, 0.9, len(given)).astype(np.float32)
    nothing = np.zeros(2, np.float32)
    recorded = HeldOutRecording("ann", "talk.wav", (Path("talk.wav"),))
    chunks = np.array(given)
    return RecordingPrediction(
        recorded, np.array(starts), chunks, sure, nothing, nothing, nothing, {}, None, False, seconds=seconds
    )


def spans(one: RecordingPrediction, length: float) -> list[tuple[float, float, str | None]]:
    return [(part.start, part.end, part.label) for part in segments_of(one, ["ann", "bob"], length)]


def test_chunks_are_joined_while_the_prediction_stays_the_same() -> None:
    one = prediction([0.0, 1.0, 2.0, 3.0, 6.0], [0, 0, 1, 0, 0], seconds=6.4)
    assert spans(one, 1.0) == [(0, 2, "ann"), (2, 3, "bob"), (3, 4, "ann"), (6, 6.4, "ann")]
    assert segments_of(one, ["ann", "bob"], 1.0)[0].probability == pytest.approx(0.55)


def test_of_overlapping_chunks_each_ends_where_the_next_begins() -> None:
    one = prediction([0.0, 0.5, 1.0, 1.5], [0, 0, 1, 1])
    assert spans(one, 1.0) == [(0, 1, "ann"), (1, 2.5, "bob")]


def write_test_set(folder: Path) -> Path:
    """Recordings whose tone changes, is the wrong one, or that of no label."""
    sounds = {
        "a300/day 1/first.wav": np.concatenate([sound(300, 1.0), sound(1200, 1.45)]),
        "a300/zoë, b.wav": sound(1200, 1.0),
        "other/x.wav": sound(6500, 0.5),
    }
    for name, samples in sounds.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / name, samples, 16_000)
    return folder


def test_every_file_is_read_as_labels_again(tone_model: Path, tmp_path: Path, capsys) -> None:
    test, out = write_test_set(tmp_path / "test"), tmp_path / "labels"
    flags = {"graph": tone_model, "test_dir": test, "report_dir": tmp_path / "report", "labels_dir": out, "workers": 1}
    evaluate_main([f"--{name}={value}" for name, value in flags.items()])
    assert f"Labels: {out / LABELS_CSV}, {out / LABELS_RTTM}, {out / TRACKS}" in capsys.readouterr().out

    table = read_label_table(out / LABELS_CSV, test)
    first, wrong = "a300/day 1/first.wav", "a300/zoë, b.wav"
    assert table.parts["a300"][first] == [(0.0, 1.0)]
    assert table.parts["c1200"][first] == [(1.0, 2.45)]  # the recording's end, not the chunk's
    assert table.parts["c1200"][wrong] == [(0.0, 1.0)]
    assert read_label_table(out / LABELS_RTTM, test).parts == table.parts

    with (out / LABELS_CSV).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(LABELS_HEADER)
    [row] = [row for row in rows if row["file"] == wrong]
    assert (row["true"], row["label"], row["answer"]) == ("a300", "c1200", "c1200")
    assert 0.5 < float(row["probability"]) <= 1
    assert {row["true"] for row in rows if row["file"] == "other/x.wav"} == {"other"}

    assert read_label_table(out / TRACKS, test).parts == table.parts
    for kind in ("txt", "selections.txt"):
        read = list(read_rows(out / TRACKS / "a300" / f"day 1%2Ffirst.wav.{kind}"))
        assert [(one.start, one.end, one.label) for one in read if isinstance(one, Row)] == [
            (0.0, 1.0, "a300"),
            (1.0, 2.45, "c1200"),
        ]


def test_images_are_named_as_the_recordings_that_they_are_of(tone_model: Path, tmp_path: Path) -> None:
    images, out = tone_model.parent / "data_image", tmp_path / "labels"
    flags = {"graph": tone_model, "image_dir": images, "report_dir": tmp_path, "labels_dir": out, "workers": 1}
    evaluate_main([f"--{name}={value}" for name, value in flags.items()])
    rows = [row for row in read_rows(out / LABELS_CSV) if isinstance(row, Row)]
    assert len(rows) == 10
    assert {(row.file or "").partition("/")[0] for row in rows} == {"a300", "b600", "c1200", "d2400", "e4800"}
    assert {(row.start, row.end) for row in rows} == {(0.0, 1.5)}


@pytest.mark.parametrize("channel", [2, 1])
def test_each_channel_of_a_call_has_labels_of_its_own(tone_model: Path, tmp_path: Path, channel: int) -> None:
    test, out = tmp_path / "test", tmp_path / "labels"
    (test / "a300").mkdir(parents=True)
    soundfile.write(test / "a300" / "call.wav", np.stack([sound(300, 1.0), sound(1200, 1.0)], axis=1), 16_000)
    flags = {"graph": tone_model, "test_dir": test, "report_dir": tmp_path / "report", "labels_dir": out, "workers": 1}
    evaluate_main([f"--{name}={value}" for name, value in (flags | {"channel": "split"}).items()])
    with (out / LABELS_CSV).open(encoding="utf-8", newline="") as file:
        rows = {int(row["channel"]): row for row in csv.DictReader(file)}
    assert rows[channel]["file"] == "a300/call.wav"
    assert rows[channel]["label"] == {1: "a300", 2: "c1200"}[channel]
    fields = (out / LABELS_RTTM).read_text().splitlines()[channel - 1].split()
    assert (fields[1], fields[2]) == ("a300/call.wav", str(channel))


def test_images_without_times_are_refused(tone_model: Path) -> None:
    predictor = Predictor(tone_model, with_enrolled=False)
    check_has_times(predictor)
    predictor.spectrogram = None
    with pytest.raises(UsageError, match="labels_dir needs times"):
        check_has_times(predictor)
