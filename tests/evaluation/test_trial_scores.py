"""Scores and error rates of trials, their report, and the command."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audionet.cli.evaluate import main
from audionet.errors import DatasetError, UsageError
from audionet.evaluation import trial_scores
from audionet.evaluation.config import TrialConfig
from audionet.evaluation.trial_report import write_trial_report
from audionet.evaluation.trial_scores import find_speakers, measure, score_trials
from audionet.evaluation.trial_summary import summarise_trials
from audionet.evaluation.trials import TrialList
from audionet.inference.embeddings import Embeddings
from audionet.metrics.pairs import Pairs
from tests.support.sounds import link_voices, write_tone
from tests.support.trials import write_trials


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return link_voices(tmp_path / "voices", 3, 2)


def drawn(monkeypatch: pytest.MonkeyPatch, folder: Path, speakers: int, each: int, seed: int = 0) -> Path:
    """Replace the embedding by random ones of speakers; return a folder of their recordings."""
    for speaker in range(speakers):
        (folder / f"s{speaker:03}").mkdir(parents=True)
        for number in range(each):
            (folder / f"s{speaker:03}" / f"{number}.wav").touch()

    def embed(files: list[Any], config: Any, per: str) -> Embeddings:
        vectors = []
        for file in files:
            *_, speaker, name = file.path.parts
            number, which = int(speaker[1:]), int(name.partition(".")[0])
            voice = np.random.default_rng((seed, number)).normal(size=12)
            vector = voice + np.random.default_rng((seed, number, which)).normal(size=12)
            vectors.append(vector / np.linalg.norm(vector))
        nothing = np.zeros(len(files))
        names = [file.name for file in files]
        return Embeddings(names, names, nothing, nothing, np.array(vectors, np.float32), nothing == 0)

    monkeypatch.setattr(trial_scores, "embed_files", embed)
    return folder


def test_each_way_of_scoring_is_shown_with_and_without(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = drawn(monkeypatch, tmp_path / "audio", 20, 4)
    others = tmp_path / "others"
    for speaker in range(100, 160):
        (others / f"s{speaker}").mkdir(parents=True)
        for number in range(4):
            (others / f"s{speaker}" / f"{number}.wav").touch()
    path = write_trials(tmp_path / "list.txt", folder)
    found = score_trials(path, TrialConfig(folder, score_norm="as", cohort=others, plda=others))
    assert [variant.name for variant in found.variants] == ["cosine", "cosine, AS-norm", "PLDA", "PLDA, AS-norm"]
    assert found.plda_trained_on == (60, 240)
    assert found.cohort_speakers == 60
    assert (found.speakers.number, found.speakers.source) == (20, "folders")
    for variant in found.variants:
        assert variant.equal_error_rate is not None
        assert variant.min_dcf is not None
        assert variant.cllr is not None
        assert variant.min_cllr is not None
        for estimate in (variant.equal_error_rate, *variant.min_dcf.values()):
            assert estimate.low <= estimate.value <= estimate.high
        assert 0 < variant.min_cllr < variant.cllr < 1
        assert 0 < variant.equal_error_rate.value < 0.3
    plain = score_trials(path, TrialConfig(folder, score_norm="s", cohort=others)).variants
    assert [variant.name for variant in plain] == ["cosine", "cosine, S-norm"]
    np.testing.assert_array_equal(plain[0].scores, found.variants[0].scores)


def test_speakers_of_the_trials_train_neither_plda_nor_the_cohort(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = drawn(monkeypatch, tmp_path / "audio", 30, 3)
    path = tmp_path / "list.txt"
    path.write_text("1 s000/0.wav s000/1.wav\n0 s000/0.wav s001/1.wav\n")
    found = score_trials(path, TrialConfig(folder, plda=folder))
    assert found.plda_trained_on == (28, 84)
    assert "2 speakers of the trials left out of" in caplog.text
    write_trials(path, folder)
    for settings in ({"plda": folder}, {"cohort": folder, "score_norm": "s"}):
        with pytest.raises(DatasetError, match=r"no speakers are left for .*: name a folder of other speakers"):
            score_trials(path, TrialConfig(folder, **settings))


def test_a_model_of_several_recordings_is_their_mean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder = drawn(monkeypatch, tmp_path / "audio", 12, 4)
    path, table = tmp_path / "list.txt", tmp_path / "models.csv"
    path.write_text("1 ann s000/3.wav\n0 ann s001/3.wav\n1 s000/0.wav s000/3.wav\n")
    table.write_text("model,file\nann,s000/0.wav\nann,s000/1.wav\nann,s000/2.wav\n")
    found = score_trials(path, TrialConfig(folder, table))
    files = [trial_scores.ClipFile(folder / f"s000/{number}.wav", "", "") for number in range(4)]
    vectors = trial_scores.embed_files(files, found.config.embedding, "recording").vectors
    mean = vectors[:3].mean(axis=0)
    assert found.variants[0].scores[0] == pytest.approx(mean @ vectors[3] / np.linalg.norm(mean), rel=1e-5)
    assert found.variants[0].scores[2] == pytest.approx(vectors[0] @ vectors[3], rel=1e-5)


def some_trials(recordings: list[str], pairs: list[tuple[int, int, bool]]) -> TrialList:
    first, second, target = (np.array(column) for column in zip(*pairs, strict=True))
    every = np.arange(len(recordings))
    return TrialList(
        Path("list"), Path(), recordings, recordings, recordings, every, every, Pairs(first, second, target), {}
    )


def test_speakers_are_known_from_folders_or_from_targets() -> None:
    pairs = [(0, 1, True), (0, 2, False), (2, 3, True)]
    found = find_speakers(some_trials(["wav/a/x/1", "wav/a/y/1", "wav/b/x/1", "wav/b/y/2"], pairs))
    assert (found.source, found.number) == ("folders", 2)
    assert (found.first == found.second).tolist() == [True, False, True]
    found = find_speakers(some_trials(["a/1", "b/1", "b/2", "a/3"], pairs))
    assert (found.source, found.number) == ("target trials", 2)
    assert (found.first == found.second).tolist() == [True, False, True]


def test_error_rates_of_gaussian_scores_are_those_of_theory() -> None:
    """Targets lie two standard deviations above nontargets: an equal error rate of 15.87 %."""
    recordings = [f"s{number // 20:03}/{number % 20}" for number in range(2000)]
    first, second = np.triu_indices(2000, 1)
    chosen = (first // 20 == second // 20) | (np.arange(len(first)) % 40 == 0)
    first, second = first[chosen], second[chosen]
    target = first // 20 == second // 20
    trials = some_trials(recordings, list(zip(first.tolist(), second.tolist(), target.tolist(), strict=True)))
    scores = np.random.default_rng(0).normal(size=len(first)) + 2 * target
    found = measure("gaussian", scores, trials, find_speakers(trials))
    assert found.equal_error_rate is not None
    assert found.equal_error_rate.value == pytest.approx(0.1587, abs=0.004)
    assert found.equal_error_rate.low < 0.1587 < found.equal_error_rate.high
    assert found.cllr == pytest.approx(found.min_cllr, abs=0.01)


def test_a_backbone_alone_scores_real_voices(voices: Path, model_dir: Path, tmp_path: Path) -> None:
    (voices / "broken.wav").write_text("words")
    path = write_trials(tmp_path / "list.txt", voices)
    found = score_trials(path, TrialConfig(voices, model_dir=model_dir, score_norm="as", workers=1))
    assert found.trials.left_out == {"with an unusable recording": 6}
    assert (found.trials.targets, found.trials.nontargets) == (3, 12)
    target = found.trials.pairs.target
    for variant in found.variants:
        assert variant.scores[target].min() > variant.scores[~target].max()
        assert variant.equal_error_rate is not None
        assert variant.equal_error_rate.value == 0
        assert variant.cllr is None  # of three speakers
    page = write_trial_report(found, summarise_trials(found), tmp_path / "report")[0].read_text("utf-8")
    assert "there are too few speakers for it here" in page


def test_a_trained_model_scores_in_its_own_space(tone_model: Path, tmp_path: Path) -> None:
    for pitch in (300, 2400):
        for number in range(2):
            write_tone(tmp_path / "audio" / f"t{pitch}" / f"{number}.wav", pitch + 5 * number, 1.0)
    path = write_trials(tmp_path / "list.txt", tmp_path / "audio")
    found = score_trials(path, TrialConfig(tmp_path / "audio", graph=tone_model, score_norm="s", workers=1))
    assert found.cohort_speakers == 5
    assert found.variants[0].equal_error_rate is not None
    assert found.variants[0].equal_error_rate.value == 0
    assert summarise_trials(found)["embedding"] == str(tone_model)


@pytest.mark.parametrize(("kept", "missing"), [("1", "nontargets"), ("0", "targets")])
def test_without_targets_or_nontargets_the_scores_are_written_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    kept: str,
    missing: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = drawn(monkeypatch, tmp_path / "audio", 3, 3)
    path = write_trials(tmp_path / "list.txt", folder)
    lines = [line for line in path.read_text().splitlines() if line.startswith(kept)]
    path.write_text("\n".join(lines))
    main([f"--trials={path}", f"--audio_dir={folder}", f"--report_dir={tmp_path / 'report'}"])
    printed = capsys.readouterr()
    assert f"has no {missing}, so there are no error rates" in printed.out + printed.err
    assert len((tmp_path / "report" / "scores.txt").read_text().splitlines()) == len(lines)
    assert f"the list has no {missing}" in (tmp_path / "report" / "report.html").read_text("utf-8")
    assert not (tmp_path / "report" / "det.png").exists()


def test_the_report_and_the_scores_hold_every_trial(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = drawn(monkeypatch, tmp_path / "a & b", 12, 3)
    path, report = write_trials(tmp_path / "list.txt", folder), tmp_path / "report"
    others = tmp_path / "others"
    for speaker in range(100, 110):
        write_tone(others / f"s{speaker}" / "0.wav", seconds=0.1)
    main(
        [f"--trials={path}", f"--audio_dir={folder}", f"--report_dir={report}", "--score_norm=s", f"--cohort={others}"]
    )
    printed = capsys.readouterr().out
    assert "36 targets and 594 nontargets, 12 speakers (known from folders):" in printed
    assert "cosine, S-norm" in printed
    content = json.loads((report / "report.json").read_text("utf-8"))
    assert [variant["name"] for variant in content["variants"]] == ["cosine", "cosine, S-norm"]
    assert set(content["variants"][0]["min_dcf"]) == {"0.01", "0.05"}
    header, *rows = csv.reader((report / "scores.csv").read_text("utf-8").splitlines())
    assert header == ["enrol", "test", "label", "cosine", "cosine, S-norm"]
    listed = [line.split() for line in path.read_text().splitlines()]
    assert [[label, enrol, test] for enrol, test, label, *_ in rows] == listed
    scores = [line.split() for line in (report / "scores.txt").read_text("utf-8").splitlines()]
    assert [row[0] for row in scores] == [row[4] for row in rows]
    page = (report / "report.html").read_text("utf-8")
    assert "a &amp; b" in page
    assert content["verdict"]["sentences"][0] in page
    assert f"Verdict: {content['verdict']['sentences'][0]}" in printed
    assert (report / "det.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trials=list.txt", "--test_dir=x"], "--test_dir: does not go with --trials"),
        (["--trials=list.txt", "--cost=a:b=1"], "--cost: does not go with --trials"),
        (["--score_norm=as"], "--score_norm: goes with --trials alone"),
        (["--trials=list.txt", "--graph=x.tflite", "--architecture=y"], "--architecture: does not go with --graph"),
    ],
)
def test_flags_that_do_not_go_together_are_refused(
    flags: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(flags)
    assert words in capsys.readouterr().err


def test_folders_of_speakers_are_checked_before_the_work(tmp_path: Path) -> None:
    for settings in ({"plda": tmp_path / "no"}, {"cohort": tmp_path / "no", "score_norm": "s"}):
        with pytest.raises(UsageError, match="is not a folder: name one with a folder for each speaker"):
            score_trials(tmp_path / "list.txt", TrialConfig(**settings))
    with pytest.raises(UsageError, match="score_norm is none: it must be s or as with cohort"):
        TrialConfig(cohort=tmp_path)


def test_few_speakers_are_too_few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    folder, others = drawn(monkeypatch, tmp_path / "audio", 3, 2), tmp_path / "others"
    for speaker in range(100, 104):
        (others / f"s{speaker}").mkdir(parents=True)
        for number in range(2):
            (others / f"s{speaker}" / f"{number}.wav").touch()
    path = write_trials(tmp_path / "list.txt", folder)
    with pytest.raises(DatasetError, match=r"^plda .*others: 4 speakers with two recordings or more: PLDA needs 10"):
        score_trials(path, TrialConfig(folder, plda=others))
    with pytest.raises(DatasetError, match=r"needs a cohort of 5 speakers or more, and .*others has 4"):
        score_trials(path, TrialConfig(folder, cohort=others, score_norm="s"))
