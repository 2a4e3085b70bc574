from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.augment.config import PROBE_CONDITIONS
from audionet.backbones.registry import Backbone
from audionet.backbones.resemblyzer import embedding
from audionet.metrics.accuracy import accuracy
from audionet.metrics.bootstrap import grouped_accuracy, paired_difference
from audionet.probing.config import ProbeConfig
from audionet.probing.features import (
    BANDS,
    MFCC,
    ClipFeatures,
    Extraction,
    Network,
    extract_batch,
    extract_clips,
    mfcc_frames,
)
from audionet.probing.probe import MIXTURES, RANDOM, folds_of, prepare_probing, probe
from audionet.probing.results import TaskResult, insert_into_card, probe_json, to_markdown
from audionet.probing.tasks import Excerpt, ProbeMaterial, ProbeTask
from audionet.utils.parallel import local_processes
from tests.support.models import save_backbone
from tests.support.scripts import run_script
from tests.support.sounds import ROOT, tone, write_tone

PITCHES = {"high": 1200, "low": 300, "middle": 600}


def voices(folder: Path, recordings: int = 6, seconds: float = 0.6) -> Path:
    """Labels of different pitch, more or less, in noise."""
    generator = np.random.default_rng(0)
    for label, pitch in PITCHES.items():
        (folder / label).mkdir(parents=True)
        for number in range(recordings):
            sound = tone(pitch * (1 + 0.03 * generator.uniform(-1, 1)), seconds)
            sound += 0.02 * generator.standard_normal(len(sound))
            soundfile.write(folder / label / f"{number}.wav", sound, 16_000)
    return folder


@pytest.fixture
def probe_config(tmp_path: Path, model_dir: Path, averaging_backbone: Path) -> Callable[..., ProbeConfig]:
    def make(**changes: object) -> ProbeConfig:
        settings = {"data_dir": tmp_path / "voices", "backbone": (str(averaging_backbone),), "model_dir": model_dir}
        return ProbeConfig(**(settings | {"workers": 1} | changes))

    return make


def test_backbones_and_baselines_answer_for_the_same_recordings(
    tmp_path: Path, probe_config: Callable[..., ProbeConfig], capsys: pytest.CaptureFixture[str]
) -> None:
    voices(tmp_path / "voices")
    damaged = tmp_path / "voices" / "low" / "damaged.flac"
    damaged.write_bytes(b"fLaC" + bytes(50))
    soundfile.write(tmp_path / "voices" / "low" / "silent.wav", np.zeros(8000), 16_000)
    run = prepare_probing(probe_config(conditions="faster,noise"))
    (result,) = probe(run)
    said = capsys.readouterr().err
    assert str(damaged) in said
    assert "silent.wav: is silent" in said
    assert list(result.recordings) == ["clean", "noise", "faster"]
    names = [row.features for row in result.rows]
    assert names[:3] == [MFCC, BANDS, MIXTURES]
    assert names[-1] == run.backbones[0].name
    assert [row.width for row in result.rows][:2] == [40, 256]
    assert result.rows[-1].width == 64
    for condition, recordings in result.recordings.items():
        assert sorted(recordings) == sorted(f"{label}/{i}.wav" for label in PITCHES for i in range(6))
        assert all(len(row.right[condition]) == 18 for row in result.rows)
    for row in result.rows:
        assert row.right["clean"].mean() > 0.9
    content = json.loads(json.dumps(probe_json(run, [result], [], [1.0])))
    assert content["tasks"][0]["rows"][0]["less_mfcc_statistics"] == {"difference": 0, "low": 0, "high": 0}
    assert content["tasks"][0]["rows"][-1]["conditions"]["clean"]["total"] == 18
    assert content["backbones"][0]["bytes"] > 0


def test_parallel_is_serial(tmp_path: Path, backbone) -> None:
    folder = voices(tmp_path / "voices", recordings=2, seconds=1.7)
    paths = sorted(folder.glob("*/*.wav"))
    excerpts = [Excerpt(path, f"{path.parent.name}/{path.name}", "either") for path in paths]
    material = ProbeMaterial(excerpts, [], "", clip_seconds=1.0)
    network = Network("network", backbone.path, backbone.input_size)

    def features(workers: int, order: list[int]) -> list[ClipFeatures]:
        work = Extraction([(i, excerpts[i]) for i in order], material, PROBE_CONDITIONS, (network,), 9, 0, False)
        with local_processes(workers) as pool:
            clips, unusable = extract_clips(pool, work)
        assert not unusable
        return clips

    one, two = features(1, [0, 1, 2, 3, 4, 5]), features(2, [5, 3, 4, 0, 1, 2])
    assert [clip[:4] for clip in one] == [clip[:4] for clip in two]
    for clip, other in zip(one, two, strict=True):
        for name, values in clip.features.items():
            np.testing.assert_array_equal(values, other.features[name])
    # 1.7 s make two clips of a second, and so do 1.89; 1.55 s also.
    assert len(one) == 6 * 5 * 2
    assert {clip.stop for clip in one if clip.condition == "clean"} == {1.0, 1.7}


def clip(excerpt: int, condition: str, start: float = 0.0) -> ClipFeatures:
    return ClipFeatures(excerpt, condition, start, start + 1, {})


def test_what_is_learned_is_clean_and_never_tested() -> None:
    excerpts = [Excerpt(Path(str(i)), str(i), "training" if i == 4 else "either") for i in range(5)]
    task = ProbeTask("a", ("x", "y", "x", "y", "z"), (0, 0, 1, 1, 0))
    clips = [clip(i, c) for i in range(5) for c in ("clean", "noise") if i < 4 or c == "clean"]
    folds = folds_of(excerpts, task, clips)
    assert len(folds) == 2
    tested: list[int] = []
    for training, testing in folds:
        assert {clips[i].condition for i in training} == {"clean"}
        assert not {clips[i].excerpt for i in training} & {clips[i].excerpt for i in testing}
        assert 4 in {clips[i].excerpt for i in training}
        tested += testing.tolist()
    assert sorted(tested) == list(range(8))


def test_a_given_split_is_one_fold() -> None:
    excerpts = [Excerpt(Path(str(i)), str(i), use) for i, use in enumerate(("training", "testing", "training"))]
    clips = [clip(0, "clean"), clip(1, "clean"), clip(1, "noise"), clip(2, "clean")]
    ((training, testing),) = folds_of(excerpts, ProbeTask("a", ("x", "y", "y"), (0, 0, 0)), clips)
    assert (training.tolist(), testing.tolist()) == ([0, 3], [1, 2])


def test_intervals_are_wilsons_where_recordings_have_one_answer() -> None:
    right = np.arange(50) % 5 > 0
    assert grouped_accuracy(right, [str(i) for i in range(50)]) == accuracy(right)


def test_clips_of_one_recording_widen_the_interval() -> None:
    right = np.repeat(np.arange(20) % 4 > 0, 5)
    together = grouped_accuracy(right, [str(i // 5) for i in range(100)])
    assert together.share == 0.75
    assert together.high - together.low > 1.7 * (accuracy(right).high - accuracy(right).low)
    # By the normal approximation, of 20 answers: 0.75 -+ 1.96 sqrt(0.75 x 0.25 / 20).
    assert (together.low, together.high) == (pytest.approx(0.56, abs=0.03), pytest.approx(0.94, abs=0.03))


def test_all_right_is_not_certain() -> None:
    found = grouped_accuracy(np.ones(40, bool), [str(i // 4) for i in range(40)])
    assert found.high == pytest.approx(1)
    assert found.low < 0.95


def test_a_paired_difference_knows_what_is_hard_for_both() -> None:
    generator = np.random.default_rng(0)
    easy = generator.random(400) < 0.5
    better = easy | (np.arange(400) % 20 == 0)
    names = [str(i) for i in range(400)]
    value, low, high = paired_difference([(better, easy, names)], 0)
    assert value == pytest.approx(better.mean() - easy.mean())
    assert 0 < low < value < high
    spread = 1.96 * np.sqrt(np.var(better.astype(float) - easy) / 400)
    assert (high - low) / 2 == pytest.approx(spread, rel=0.15)
    assert paired_difference([(easy, easy, names)], 0) == (0, 0, 0)


def test_a_difference_is_a_mean_over_conditions_and_by_recording() -> None:
    one, other = np.array([True] * 4), np.array([True, True, False, False])
    half = (one, other, ["a", "a", "b", "b"])
    none = (one[:2], one[:2], ["a", "b"])
    value, low, high = paired_difference([half, none], 0)
    assert value == 0.25
    assert (low, high) == (0, 0.5)  # two recordings prove nothing


def test_a_recording_at_8_khz_is_drawn_like_one_at_16(tmp_path: Path) -> None:
    excerpts = [
        Excerpt(write_tone(tmp_path / f"{rate}.wav", 900, 1.0, rate), "a", "either") for rate in (8_000, 16_000)
    ]
    work = Extraction(list(enumerate(excerpts)), ProbeMaterial(excerpts, [], ""), ("slower",), (), 9, 0, False)
    low, high = extract_batch(work)
    assert not isinstance(low, str)
    for one, other in zip(low, high, strict=True):
        assert one.stop == pytest.approx(other.stop, abs=1e-3)  # a second, and a second over 0.9
        bands = [clip.features[BANDS][:128].argmax() for clip in (one, other)]
        assert bands[0] == bands[1]


def test_pauses_are_no_frames() -> None:
    levels = np.full((128, 10), 0.2, np.float32)
    levels[40, 3:7] = 1
    assert mfcc_frames(levels).shape == (4, 20)


def test_resemblyzer_is_a_baseline_where_it_is_installed() -> None:
    pytest.importorskip("resemblyzer")
    assert embedding((tone(300, 1) * 20_000).astype(np.int16)).shape == (256,)


def test_results_say_their_conditions(tmp_path: Path, probe_config: Callable[..., ProbeConfig]) -> None:
    voices(tmp_path / "voices", recordings=3)
    run = prepare_probing(probe_config(conditions="none"))
    results = list(probe(run))
    assert isinstance(results[0], TaskResult)
    assert results[0].changed == []
    assert probe_json(run, results, [], [1.0])["tasks"][0]["rows"][0]["less_mfcc_statistics"]["low"] is None
    assert dataclasses.asdict(run.config)["conditions"] == "none"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--data_dir", "{tmp}/none"], 1, "none is not a folder"),
        (["--data_dir", "{tmp}/one"], 1, "1 label with recordings"),
        (["--data_dir", "{tmp}", "--conditions", "rain"], 2, "--conditions is rain"),
        (["--data_dir", "{tmp}/two", "--backbone", "no such"], 2, "no backbone 'no such'"),
    ],
)
def test_wrong_use_is_one_line(tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    voices(tmp_path / "two", recordings=2, seconds=0.3)
    (tmp_path / "one" / "a").mkdir(parents=True)
    (tmp_path / "one" / "a" / "a.wav").touch()
    done = run_script("probe.py", *(argument.format(tmp=tmp_path) for argument in arguments))
    assert done.returncode == code
    assert message in done.stderr
    assert done.stderr.startswith("probe.py: ")
    assert done.stderr.count("\n") == 1


def test_make_passes_backbones_and_folder_on() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    command = ["make", "-n", "-C", str(ROOT), "probe", "BACKBONE=one two", "DATA=a folder", "ARGS=--seed 1"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert '--backbone=one --backbone=two --data_dir="a folder" --seed 1' in done.stdout


@pytest.mark.slow
def test_the_script_compares_the_bundled_backbone_with_a_random_one(tmp_path: Path) -> None:
    voices(tmp_path / "voices")
    report = tmp_path / "out" / "report.json"
    done = run_script(
        "probe.py",
        f"--data_dir={tmp_path / 'voices'}",
        "--backbone=inception_v3_speech",
        f"--backbone={RANDOM}",
        f"--model_dir={tmp_path / 'models'}",
        f"--report={report}",
    )
    assert done.returncode == 0, done.stderr
    assert "noise 10 dB" in done.stdout
    assert "inception_v3_speech" in done.stdout
    content = json.loads(report.read_text())
    rows = {row["features"]: row for row in content["tasks"][0]["rows"]}
    assert {"inception_v3_speech", "inception_v3_random", MFCC} <= set(rows)
    assert rows["inception_v3_speech"]["width"] == 13 * 288 + 192
    assert rows["inception_v3_random"]["conditions"]["clean"]["total"] == 18


def test_taps_of_one_backbone_are_told_apart(tmp_path: Path, probe_config: Callable[..., ProbeConfig]) -> None:
    voices(tmp_path / "voices", recordings=3)
    folder = save_backbone(
        tmp_path / "layers", lambda tf, x: {"default": tf.reduce_mean(x, [1, 2]), "early": x[:, ::2], "late": x[:, ::8]}
    )
    run = prepare_probing(probe_config(backbone=(f"{folder}#early#time", f"{folder}#late#time"), conditions="none"))
    (result,) = probe(run)
    rows = {row.features: row.width for row in result.rows[-2:]}
    assert [name.split()[-2:] for name in rows] == [["early", "time"], ["late", "time"]]
    assert list(rows.values()) == [32 * 3, 8 * 3]


@pytest.mark.parametrize(
    ("kind", "title", "width"), [("bands", "band statistics", 256), ("mfcc", "MFCC statistics", 40)]
)
def test_a_backbone_is_also_probed_without_the_statistics_that_it_joins(
    kind: str, title: str, width: int, tmp_path: Path, probe_config: Callable[..., ProbeConfig], backbone: Backbone
) -> None:
    voices(tmp_path / "voices", recordings=3)
    run = prepare_probing(probe_config(conditions="none"))
    joined = dataclasses.replace(backbone, name="joined", statistics=kind)
    (result,) = probe(dataclasses.replace(run, backbones=[joined]))
    assert [(row.features, row.width) for row in result.rows[-2:]] == [
        ("joined", 64),
        (f"joined and {title}", 64 + width),
    ]


def test_what_int8_costs_is_probed(tmp_path: Path, probe_config: Callable[..., ProbeConfig]) -> None:
    voices(tmp_path / "voices", 5)
    run = prepare_probing(probe_config(conditions="none", float32=True))
    assert [backbone.arithmetic for backbone in run.backbones] == ["int8", "float32"]
    assert run.backbones[0].identity != run.backbones[1].identity
    (result,) = probe(run)
    names = [row.features for row in result.rows]
    assert [name.rpartition(" ")[2] for name in names[3:]][-2:] == ["int8", "float32"]


def test_results_go_into_a_card_in_place_of_those_before(
    tmp_path: Path, probe_config: Callable[..., ProbeConfig]
) -> None:
    voices(tmp_path / "voices", 5)
    run = prepare_probing(probe_config(conditions="noise"))
    results = list(probe(run))
    section = to_markdown(run, results, [], [100.0])
    row = results[0].rows[0]
    shares = f"{row.right['clean'].mean():.3f}, {row.right['noise'].mean():.3f}"
    assert f"| MFCC statistics | 40 | {shares} |" in section
    assert all(len(line.split("|")) == 5 for line in section.splitlines() if line.startswith("| MFCC"))
    card = tmp_path / "README.md"
    for before, after in (("# mine\n\nText.\n", ""), ("# mine\n\n## Probes\n\nold\n", "## Limits\n\nMany.\n")):
        card.write_text(before + ("\n" + after if after else ""))
        insert_into_card(card, section)
        once = card.read_text()
        assert once.startswith("# mine\n\n")
        assert once.count("## Probes") == 1
        assert "old" not in once
        assert section in once
        assert once.endswith(after or section)
        insert_into_card(card, section)
        assert card.read_text() == once
