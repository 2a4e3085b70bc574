from __future__ import annotations

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from audionet.cli.compare import main as compare_command
from audionet.cli.evaluate import main as evaluate_command
from audionet.errors import DatasetError, ModelError, UsageError
from audionet.evaluation.comparison import compare, comparison_text, parse_report, read_report, write_answers
from audionet.evaluation.trainings import find_trainings, trainings_table
from tests.support.images import make_images
from tests.support.models import TONES


def report(answers: str, labels: str = "ab", first: int = 0) -> dict[str, Any]:
    """A report of recordings of a and b in turn, with these answers."""
    entries = [
        {"label": label, "recording": f"{number}.wav", "answer": answer, "right": answer == label}
        for number, (label, answer) in enumerate(zip("ab" * len(answers), answers, strict=False), first)
    ]
    return {"label_names": list(labels), "data": {"source": "here"}, "recordings": entries}


def test_recordings_are_paired_by_label_and_name() -> None:
    first, second = parse_report("A", report("abbb")), parse_report("B", report("bbab", first=0))
    found = compare(first, second)
    assert (found.scores.both, found.scores.first_only, found.scores.second_only) == (2, 1, 1)
    assert found.only(first, second) == [("a", "0.wav")]
    assert found.only(second, first) == [("a", "2.wav")]
    text = comparison_text(found, 5)
    assert "right   A 75.0%, B 75.0%" in text
    assert "Right with A alone:\n  a/0.wav: b" in text


def test_recordings_of_one_model_alone_are_left_out_and_counted() -> None:
    found = compare(parse_report("A", report("abab")), parse_report("B", report("abab", first=2)))
    assert len(found.recordings) == 2
    assert found.left_out == 4
    assert "4 of one model alone left out" in comparison_text(found, 5)
    assert "no recording is right with one of them alone" in comparison_text(found, 5)


def test_models_of_other_labels_or_recordings_are_not_compared() -> None:
    first = parse_report("A", report("abab"))
    with pytest.raises(ModelError, match="different labels, c"):
        compare(first, parse_report("B", report("abab", labels="abc")))
    with pytest.raises(ModelError, match="no recording in common"):
        compare(first, parse_report("B", report("abab", first=90)))


def test_all_answers_stand_beside_each_other() -> None:
    write_answers(stream := io.StringIO(), [parse_report("A", report("ab")), parse_report("B", report("ba", first=1))])
    assert stream.getvalue().splitlines() == [
        "label,recording,A,B",
        "a,0.wav,a,",
        "b,1.wav,b,",
        "a,1.wav,,b",
        "b,2.wav,,a",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"data": {}}, "holds no answer for each recording"),
        (report("ab") | {"recordings": []}, "is damaged"),
        (report("ab") | {"recordings": [{"label": "a"}]}, "is damaged"),
        (report("ab") | {"label_names": [1]}, "is damaged"),
    ],
)
def test_a_report_without_answers_is_named(content: dict[str, Any], message: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message):
        read_report(tmp_path)
    with pytest.raises(ModelError, match="is missing"):
        read_report(tmp_path / "other.json")


def test_a_model_is_compared_with_itself_and_its_report(
    tone_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    test = make_images(tmp_path / "test", 2, 2, TONES, detuned=0.1)
    flags = [f"--graph={tone_model}", f"--test_dir={test}", f"--report_dir={tmp_path / 'report'}"]
    evaluate_command([*flags, f"--against={tone_model}"])
    assert "no recording is right with one of them alone" in capsys.readouterr().out
    compare_command([str(tmp_path / "report"), str(tmp_path / "report" / "report.json"), f"--to={tmp_path / 'a.csv'}"])
    assert "10 recordings" in capsys.readouterr().out
    assert len((tmp_path / "a.csv").read_text().splitlines()) == 11
    with pytest.raises(UsageError, match="nothing to be compared with"):
        compare_command([str(tmp_path / "report")])


def test_trainings_are_listed_with_what_differs(
    tone_model: Path, chord_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: Any
) -> None:
    shutil.copy(tone_model.with_name("retrained_model.json"), tmp_path / "tones_model.json")
    shutil.copy(chord_model.with_name("chords_model.json"), tmp_path / "chords_model.json")
    (tmp_path / "broken_model.json").write_text("{")
    card = json.loads((tmp_path / "tones_model.json").read_text())
    card["cross_validation"] = {"repeats": [{"right": right, "total": 10} for right in (7, 9)]}
    (tmp_path / "repeated_model.json").write_text(json.dumps(card))
    found = find_trainings(tmp_path)
    assert {training.name for training in found} == {"tones", "chords", "repeated"}
    assert "broken_model.json" in caplog.text
    header, rows = trainings_table(found)
    assert "unknown_fpr" in header
    assert "folds" not in header  # the same in both
    scores = {row[0]: row[4] for row in rows}
    assert scores["chords"].startswith("mAP ")
    assert scores["tones"].split()[1:3] == ["of", "10"]
    assert scores["repeated"] == scores["tones"] + "; 80.0% ± 14.1% in 2 repeats"
    for name in ("t.csv", "t.html"):
        compare_command([f"--models_dir={tmp_path}", f"--to={tmp_path / name}"])
        assert "chords" in (tmp_path / name).read_text()
    assert "written" in capsys.readouterr().out
    with pytest.raises(DatasetError, match="holds no trained models"):
        find_trainings(tmp_path / "nowhere")
