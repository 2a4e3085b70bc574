"""The benchmark's folds, table and rows of failures; its contestants here are a few lines each."""

from __future__ import annotations

import sys
from collections import Counter
from pathlib import Path

import benchmark
import benchmark_results
import benchmark_table
import numpy as np
import pytest
from benchmark_protocol import Recording, Trial, draw, labels_are_speakers, plan, recordings_by_folder
from benchmark_results import Answers, Cost, Report, Row, parse_answers, read_reports, summarise, write_report
from contestants import CONTESTANTS, Contestant, Job, link_training
from measured_process import FailedError, run
from peers.keras_speaker_cnn import spectra
from tests.support.sounds import tone, write_tone

from audionet.errors import DatasetError

# Knows a clip's label from its length, as far as it was trained on that label.
KNOWS = """
import json, os, sys, soundfile
known = dict(line.split() for line in open(sys.argv[1]))
for name in sorted(os.listdir(sys.argv[2])):
    own = known.get(str(soundfile.info(os.path.join(sys.argv[2], name)).frames))
    labels = [{"label": label, "probability": float(label == own)} for label in sorted(set(known.values()))]
    print(json.dumps({"file": name, "labels": labels}))
"""
LEARNS = """
import sys, soundfile
model, *pairs = sys.argv[1:]
lines = {f"{soundfile.info(path).frames} {label}" for path, label in zip(pairs[::2], pairs[1::2])}
open(model, "w").write("\\n".join(lines))
print('{"versions": {"tiny": "1.0"}}')
"""


def tiny(title: str = "tiny", learns: str = LEARNS, knows: str = KNOWS) -> Contestant:
    def train(job: Job) -> list[list[str]]:
        pairs = [text for recording in job.trial.training for text in (str(recording.path), recording.label)]
        return [[job.python, "-c", learns, str(job.model / "model"), *pairs]]

    return Contestant(title, train, lambda job, clips: [job.python, "-c", knows, str(job.model / "model"), str(clips)])


@pytest.fixture
def tones(tmp_path: Path) -> Path:
    """Two labels of six tones each, in three sessions; a label has its own length."""
    for place, label in enumerate(("high", "low")):
        for number in range(6):
            path = tmp_path / "tones" / label / f"s{number // 2}-{number}.wav"
            write_tone(path, 300 + 10 * number, 0.05 + 0.01 * place, subtype="PCM_16")
    return tmp_path / "tones"


def test_a_trial_trains_on_as_many_recordings_of_each_label_and_keeps_groups_apart(tones: Path) -> None:
    recordings = recordings_by_folder(tones, r"^(s\d)")
    assert len(recordings) == 12
    trials = plan(recordings, [1, 3, None], 3, 3, None)
    assert [(trial.number, trial.fold) for trial in trials] == [(n, fold) for n in (1, 3, None) for fold in range(3)]
    for trial in trials:
        assert not {r.group for r in trial.training} & {r.group for r in trial.test}
        assert set(Counter(r.label for r in trial.training).values()) == {trial.number or 4}
    for number in (1, 3, None):
        tested = [r for trial in trials if trial.number == number for r in trial.test]
        assert sorted(tested) == sorted(recordings), "every recording is tested once"
    assert set(trials[0].training) <= set(trials[3].training) <= set(trials[6].training)


def test_plans_and_draws_do_not_depend_on_where_the_folder_is(tones: Path) -> None:
    names = [r.path.name for trial in plan(recordings_by_folder(tones), [2], 3, 2, 1) for r in trial.training]
    moved = tones.rename(tones.with_name("moved"))
    recordings = recordings_by_folder(moved)
    assert names == [r.path.name for trial in plan(recordings, [2], 3, 2, 1) for r in trial.training]
    assert draw(recordings[::-1], 2) == draw(recordings, 2)


def test_a_folder_without_labels_is_refused(tmp_path: Path) -> None:
    write_tone(tmp_path / "alone" / "a.wav")
    with pytest.raises(DatasetError, match="has no two folders"):
        recordings_by_folder(tmp_path)


def test_labels_of_public_datasets_are_speakers_where_they_say_so() -> None:
    assert labels_are_speakers("fsdd", None)
    assert not labels_are_speakers("fsdd", "digit")
    assert not labels_are_speakers(None, None)


def test_training_folders_hold_groups_where_there_are_any(tones: Path, tmp_path: Path) -> None:
    grouped = recordings_by_folder(tones, r"^(s\d)")
    assert link_training(Trial(None, 0, grouped, []), tmp_path / "grouped")
    parents = {path.parent.name for path in (tmp_path / "grouped" / "low").rglob("*.wav")}
    assert len(parents) == 3
    assert not link_training(Trial(None, 0, recordings_by_folder(tones), []), tmp_path / "flat")
    assert len(list((tmp_path / "flat" / "low").glob("*.wav"))) == 6


def test_one_that_fails_and_one_that_is_missing_have_rows_that_say_so_and_the_others_stand(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    contestants = {
        "good": tiny(),
        "missing": tiny("the missing one"),
        "broken": tiny("the broken one", learns="raise RuntimeError('no such luck')"),
        "mute": tiny("the mute one", knows='print(\'{"file": "0.wav", "labels": [{}]}\')'),
        "slow": tiny("the slow one", learns="import time; time.sleep(60)"),
    }
    for module in (benchmark, benchmark_table):
        monkeypatch.setattr(module, "CONTESTANTS", contestants)
    out, document = tmp_path / "out", tmp_path / "BENCHMARKS.md"
    flags = [
        "--data",
        str(tones),
        "--out",
        str(out),
        "--recordings",
        "2",
        "--folds",
        "3",
        "--speakers",
        "--timeout",
        "5",
    ]
    nowhere = str(tmp_path / "nowhere")
    benchmark.main(
        [*flags, "--speakers", "--python", f"missing={nowhere}", "--write", str(document), "--only", *contestants]
    )
    rows = {row.contestant: row for row in read_reports(out)[0].rows}
    assert (rows["good"].right, rows["good"].total, rows["good"].eer) == (4, 4, 0)
    assert rows["good"].cost is not None
    assert rows["good"].cost.model_size == pytest.approx(len("800 high\n960 low") / 1e6)
    assert rows["missing"].failure == f"{nowhere} cannot be started (No such file or directory)"
    assert rows["broken"].failure == "RuntimeError: no such luck"
    assert rows["mute"].failure.startswith("printed no answers")
    assert rows["slow"].failure == "stopped after 5 s"
    text = document.read_text("utf-8")
    assert "| 100.0 (51–100) | 0.0 |" in text
    assert "Not run: the broken one: RuntimeError: no such luck." in text
    assert "tiny 1.0" in text
    assert "The recordings were not at hand: fsdd by speaker" in text
    assert "ARGS='--recordings 2 --folds 3 --speakers'" in text
    assert "good 2: 4 of 4" in capsys.readouterr().out


def test_one_contestant_is_run_again_beside_the_rows_of_the_others(
    tones: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    contestants = {"one": tiny(), "two": tiny(learns="raise SystemExit('out of order')")}
    for module in (benchmark, benchmark_table):
        monkeypatch.setattr(module, "CONTESTANTS", contestants)
    flags = ["--data", str(tones), "--out", str(tmp_path / "out")]
    benchmark.main([*flags, "--only", "one", "two"])
    contestants["two"] = tiny()
    benchmark.main([*flags, "--only", "two"])
    (report,) = read_reports(tmp_path / "out")
    assert [(row.contestant, row.failure) for row in report.rows] == [("one", ""), ("two", "")]
    benchmark.main([*flags, "--recordings", "1", "--only", "two"])
    (report,) = read_reports(tmp_path / "out")
    assert [(row.contestant, row.number) for row in report.rows] == [("one", None), ("two", None), ("two", 1)]
    write_tone(tones / "low" / "new.wav")
    benchmark.main([*flags, "--only", "two"])
    (report,) = read_reports(tmp_path / "out")
    assert ("one", None) not in [(row.contestant, row.number) for row in report.rows], "it knew other recordings"


def test_clips_without_an_answer_are_wrong() -> None:
    test = [Recording(label, name, Path(name), name) for label, name in ("aA", "bB", "bC")]
    labels = '[{"label": "b", "probability": 0.7}, {"label": "a", "probability": 1}]'
    lines = ["a note", f'{{"file": "x/00001.wav", "labels": {labels}}}', '{"file": "00002.wav", "error": "silent"}']
    answers = parse_answers("\n".join(lines), test)
    assert answers.right.tolist() == [False, False, False]
    assert answers.target.tolist() == [True, False]
    assert answers.scores.tolist() == [0.7, 1]


def test_intervals_are_wider_for_recordings_of_few_groups_and_for_cross_validations() -> None:
    right = np.arange(40) % 10 < 8
    scores, target = np.array([1.0, 0.0]), np.array([True, False])
    cost, row = Cost(1, 2, 3, 4, 5, 6), Row("x", 4, "abc")
    alone = summarise(row, [Answers(right, list(map(str, range(40))), scores, target)], [cost], False)
    few = Answers(np.sort(right), [str(i // 8) for i in range(40)], scores, target)
    grouped = summarise(row, [few], [cost], False)
    halves = [Answers(right[k::2], [f"{k}{i}" for i in range(20)], scores, target) for k in range(2)]
    folds = summarise(row, halves, [cost, Cost(3, 2, 3, 4, 5, 6)], True)
    assert alone.right == grouped.right == folds.right == 32
    assert alone.high - alone.low < min(grouped.high - grouped.low, folds.high - folds.low)
    assert (alone.eer, folds.eer) == (None, 0)
    assert folds.cost == Cost(2, 2, 3, 4, 5, 6)


def test_a_learning_curve_needs_two_numbers_of_recordings(tmp_path: Path) -> None:
    name = next(iter(CONTESTANTS))
    rows = [Row(name, number, "abc", "", 9, 10, 0.6, 0.98) for number in (4, 8)]
    about = ("tones", "Tones", "make benchmark", "2026-01-01", "here", 2, 20, 10, False)
    whole, one = Report(*about, rows=rows), Report(*about, rows=rows[:1])
    assert benchmark_results.read_reports(write_report(whole, tmp_path).parent) == [whole]
    picture = benchmark_table.learning_curves([whole, one])
    assert picture is not None
    assert picture.startswith(b"\x89PNG")
    assert benchmark_table.learning_curves([one]) is None


def test_a_process_that_takes_too_long_is_ended_with_its_children(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(2); pathlib.Path({str(mark)!r}).touch()"
    parent = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"
    with pytest.raises(FailedError, match=r"stopped after 0\.5 s"):
        run([sys.executable, "-c", parent], 0.5)
    with pytest.raises(FailedError, match="ended with status 3"):
        run([sys.executable, "-c", "import time; time.sleep(2.5); raise SystemExit(3)"], 30)
    assert not mark.exists()


def test_the_memory_of_children_counts() -> None:
    child = "import time; held = bytearray(80_000_000); time.sleep(1)"
    used = run([sys.executable, "-c", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r}])"], 30)
    assert 80 < used.peak < 200
    assert used.output == ""


def test_the_speaker_cnn_sees_whole_seconds_of_sound_by_frequency() -> None:
    found = spectra(tone(440, 2.6).astype(np.float32))
    assert found.shape == (2, 8000, 1)
    assert found[:, :, 0].argmax(axis=1).tolist() == [440, 440]
    assert spectra(np.zeros(100, np.float32)).shape == (1, 8000, 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mfcc_gmm", "mfcc_svm"])
def test_a_peer_learns_tones_in_processes_of_its_own(name: str, tmp_path: Path) -> None:
    for label, frequency in (("high", 2000), ("low", 300)):
        for number in range(6):
            write_tone(tmp_path / "tones" / label / f"{number}.wav", frequency * (1 + number / 50), 0.3)
    (trial,) = plan(recordings_by_folder(tmp_path / "tones"), [None], 3, 1, None)
    (tmp_path / "job").mkdir()
    found: dict[str, str] = {}
    answers, cost = benchmark.measure(CONTESTANTS[name], Job(trial, tmp_path / "job"), 300, found)
    assert answers.right.all()
    assert answers.scores[answers.target].min() > answers.scores[~answers.target].max()
    assert set(found) == {"librosa", "scikit-learn"}
    assert cost.model_size > 0
    assert cost.train_peak > 50


def test_a_peer_without_its_package_names_the_extra() -> None:
    command = CONTESTANTS["mfcc_svm"].label(Job(Trial(None, 0, [], []), Path("nowhere")), Path("clips"))
    command[command.index("label") :] = ["train", "of_no_package", "recordings.json", "model"]
    with pytest.raises(FailedError, match=r"of_no_package is not installed: pip install 'audionet\[benchmark\]'"):
        run(command, 60, CONTESTANTS["mfcc_svm"].environment)
