"""The three steps as a user types them: whole processes, real voices, the bundled backbone."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.scripts import run_script
from tests.support.sounds import ROOT, SAMPLE_AUDIO, write_tone

VOICES = ("flite-slt", "flite-rms", "espeak-en-gb-scotland+f4")


class Workplace:
    """A folder with everything a model is made from and of."""

    def __init__(self, folder: Path, model_dir: Path) -> None:
        self.folder = folder
        self.graph = folder / "retrained_graph.tflite"
        self.data_flags = [f"--{name}={folder / place}" for name, place in (
            ("audio_dir", "data_audio"), ("wav_dir", "data_wav"), ("image_dir", "data_image"))]  # fmt: skip
        self.retrain_flags = [
            f"--image_dir={folder / 'data_image'}",
            f"--bottleneck_dir={folder / 'bottlenecks'}",
            f"--checkpoint_dir={folder / 'checkpoints'}",
            f"--summaries_dir={folder / 'summaries'}",
            f"--model_dir={model_dir}",
            f"--output_graph={self.graph}",
            f"--output_labels={folder / 'retrained_labels.txt'}",
        ]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Workplace:
    """Three voices rendered and trained on, their `unseen` recordings kept out."""
    workplace = Workplace(tmp_path_factory.mktemp("place"), model_dir)
    for voice in VOICES:
        shutil.copytree(
            SAMPLE_AUDIO / voice, workplace.folder / "data_audio" / voice, ignore=shutil.ignore_patterns("unseen*")
        )
    made = run_script("data_maker.py", *workplace.data_flags, cwd=workplace.folder)
    assert made.returncode == 0, made.stderr
    assert "Rendered 9 recordings" in made.stdout
    trained = run_script("retrain.py", *workplace.retrain_flags, cwd=workplace.folder)
    assert trained.returncode == 0, trained.stderr
    assert "Traceback" not in trained.stderr
    for words in (
        "Cross-validated: the label of 9 of 9 recordings right, 100.0%",
        "network",
        "MFCC statistics",
        "95 % interval",
        "per recording",
    ):
        assert words in trained.stdout
    return workplace


def test_unseen_recordings_get_their_own_voice(place: Workplace) -> None:
    clips = [SAMPLE_AUDIO / voice / "unseen.mp3" for voice in VOICES]
    done = run_script("label_image.py", "--graph", place.graph, "--json", *clips)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["labels"][0]["label"] for answer in answers] == list(VOICES)
    for clip, answer in zip(clips, answers, strict=True):
        assert answer["file"] == str(clip)
        assert answer["seconds"] == pytest.approx(26, abs=4)
        assert answer["chunks"] == round(answer["seconds"] / 3)
        probabilities = [label["probability"] for label in answer["labels"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
    assert done.returncode == 0
    assert done.stderr == ""


def test_a_chunks_wav_and_its_image_get_the_same_answer(place: Workplace) -> None:
    """Training and labelling render alike: to the last digit."""
    wav = next((place.folder / "data_wav" / VOICES[0]).glob("*_0003.wav"))
    jpg = place.folder / "data_image" / VOICES[0] / f"{wav.stem}.jpg"
    done = run_script("label_image.py", "--graph", place.graph, "--json", wav, "--image", jpg)
    sound, image = (json.loads(line) for line in done.stdout.splitlines())
    assert sound["labels"] == image["labels"]
    assert (sound["seconds"], image["seconds"]) == (3.0, None)


def test_the_answer_for_people(place: Workplace) -> None:
    done = run_script(
        "label_image.py", "--graph", place.graph, "--top_k", 2, "--per_chunk", SAMPLE_AUDIO / VOICES[0] / "unseen.mp3"
    )
    lines = done.stdout.splitlines()
    assert lines[0].endswith("unseen.mp3 (24.2 s, 8 chunks)")
    assert lines[1].split()[1] == VOICES[0]
    assert len(lines) == 1 + 2 + 8
    assert lines[4].startswith("  at     3.0 s")


def test_a_folder_is_all_its_clips(place: Workplace, tmp_path: Path) -> None:
    write_tone(tmp_path / "sub" / "a.wav")
    write_tone(tmp_path / "b.FLAC".lower())
    (tmp_path / "notes.txt").write_text("not a clip")
    done = run_script("label_image.py", "--graph", place.graph, "--json", tmp_path)
    assert [Path(json.loads(line)["file"]).name for line in done.stdout.splitlines()] == ["b.flac", "a.wav"]
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run_script("label_image.py", "--graph", place.graph, "--json", empty, tmp_path / "b.flac")
    assert ["error" in json.loads(line) for line in done.stdout.splitlines()] == [True, False]
    assert "empty: is a folder that holds no clips" in done.stderr


def test_clips_that_cannot_be_read_do_not_stop_the_others(place: Workplace, tmp_path: Path) -> None:
    (tmp_path / "empty.mp3").touch()
    (tmp_path / "text.wav").write_text("words")
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff")
    whole = (SAMPLE_AUDIO / VOICES[0] / "unseen.mp3").read_bytes()
    (tmp_path / "cut.mp3").write_bytes(whole[: len(whole) // 2])
    names = ("empty.mp3", "text.wav", "gone.wav", "bad.jpg", "cut.mp3")
    done = run_script("label_image.py", "--graph", place.graph, "--json", *(tmp_path / name for name in names))
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert ["error" in answer for answer in answers] == [True, True, True, True, False]
    assert answers[4]["labels"][0]["label"] == VOICES[0]
    assert answers[4]["remark"].startswith("cut short")
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 5
    assert done.stderr.splitlines()[-1] == "label_image.py: 4 of 5 clips could not be judged"


def test_a_second_training_computes_no_bottleneck(place: Workplace) -> None:
    done = run_script("retrain.py", *place.retrain_flags)
    assert "Bottlenecks: 0 computed, 86 from" in done.stdout
    assert "Converting" not in done.stdout


def test_a_report_on_what_training_kept_aside(place: Workplace) -> None:
    out = place.folder / "report"
    flags = [f"--graph={place.graph}", f"--image_dir={place.folder / 'data_image'}", f"--report_dir={out}"]
    done = run_script("evaluate.py", *flags)
    assert done.returncode == 0, done.stderr
    assert "9 recordings of its labels from the cross-validation on" in done.stdout
    assert "each tested by a model that was not trained on it" in done.stdout
    assert f"Report: {out / 'report.html'}" in done.stdout
    content = json.loads((out / "report.json").read_text())
    card = json.loads(place.graph.with_name("retrained_model.json").read_text())
    assert content["accuracy"]["chunks"]["right"] == card["test"]["network"]["chunks"]["right"]
    assert content["leaky_split"] == card["test"]["leaky_split"]
    page = (out / "report.html").read_text("utf-8")
    assert "://" not in page.replace("http://www.w3.org/", "")
    assert page.count("<img") >= 6


def test_recordings_kept_apart_and_one_that_nobody_knows(place: Workplace, tmp_path: Path) -> None:
    for voice in (*VOICES, "flite-kal16"):
        (tmp_path / "test" / voice).mkdir(parents=True)
        shutil.copy(SAMPLE_AUDIO / voice / "unseen.mp3", tmp_path / "test" / voice)
    shutil.copy(SAMPLE_AUDIO / VOICES[0] / "harbour.mp3", tmp_path / "test" / VOICES[0])
    out = f"--report_dir={tmp_path / 'report'}"
    done = run_script("evaluate.py", f"--graph={place.graph}", f"--test_dir={tmp_path / 'test'}", out)
    assert done.returncode == 0, done.stderr
    assert "the model has no label flite-kal16: counted as unknown voices" in done.stderr
    assert "took part in training or validation; left out" in done.stderr
    assert "  label right      100.0%  (3 of 3," in done.stdout


@pytest.mark.slow
def test_labels_of_any_script_survive_the_whole_way(tmp_path: Path, averaging_backbone: Path, model_dir: Path) -> None:
    labels = ["Ann", "ann", "Dr. Ö. 'x' \"y\"", "-rf", "анна  ", "$(id)"]
    place = Workplace(tmp_path, model_dir)
    for number, label in enumerate(labels):
        for recording in range(3):
            write_tone(tmp_path / "data_audio" / label / f"{recording}.wav", 200 * 1.5**number, 4 + recording / 8)
    assert run_script("data_maker.py", *place.data_flags, "--chunk_seconds=1").returncode == 0
    done = run_script("retrain.py", *place.retrain_flags, f"--architecture={averaging_backbone}")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "retrained_labels.txt").read_text("utf-8") == "".join(f"{x}\n" for x in sorted(labels))
    clips = [tmp_path / "data_audio" / label / "0.wav" for label in labels]
    done = run_script("label_image.py", "--graph", place.graph, "--json", *clips)
    assert [json.loads(line)["labels"][0]["label"] for line in done.stdout.splitlines()] == labels


@pytest.mark.parametrize(
    "flags",
    [
        pytest.param(
            "--representation linear --chunk_seconds 1.5 --overlap 0.5 --loudness -30 --trim_silence --augment 1",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "--representation chroma --window_ms 128 --hop_ms 20 --min_frequency 100 --loudness -18",
            marks=pytest.mark.slow,
        ),
        "--n_mels 64 --max_frequency 4000 --trim_silence 20 --sample_rate 11025 --balance",
    ],
)
def test_labelling_draws_a_clip_as_training_did(
    tmp_path: Path, averaging_backbone: Path, model_dir: Path, flags: str
) -> None:
    place = Workplace(tmp_path, model_dir)
    for voice in VOICES[:2]:
        shutil.copytree(SAMPLE_AUDIO / voice, tmp_path / "data_audio" / voice)
    assert run_script("data_maker.py", *place.data_flags, *flags.split()).returncode == 0
    done = run_script("retrain.py", *place.retrain_flags, f"--architecture={averaging_backbone}")
    assert done.returncode == 0, done.stderr
    clip = SAMPLE_AUDIO / VOICES[1] / "unseen.mp3"
    heard = run_script("label_image.py", "--graph", place.graph, "--json", "--per_chunk", clip)
    (answer,) = map(json.loads, heard.stdout.splitlines())
    images = sorted((tmp_path / "data_image" / VOICES[1]).glob("unseen.mp3_nohash_[0-9]*[0-9].jpg"))
    images = [path for path in images if "_aug" not in path.name]
    seen = run_script("label_image.py", "--graph", place.graph, "--json", *images)
    assert [json.loads(line)["labels"] for line in seen.stdout.splitlines()] == [
        chunk["labels"] for chunk in answer["per_chunk"]
    ]
    assert ("MFCC statistics  not measured" in done.stdout) == ("--representation" in flags)
    card = json.loads((tmp_path / "retrained_model.json").read_text())
    assert bool(card["augmentation"]) == ("--augment" in flags or "--balance" in flags)


@pytest.mark.skipif(shutil.which("ffmpeg") is None, reason="ffmpeg is not installed")
def test_a_clip_of_any_container_is_labelled(place: Workplace, tmp_path: Path) -> None:
    clip, phone = SAMPLE_AUDIO / VOICES[0] / "unseen.mp3", tmp_path / "voice memo.m4a"
    subprocess.run(["ffmpeg", "-v", "error", "-i", clip, "-ar", "44100", "-b:a", "128k", phone], check=True)
    done = run_script("label_image.py", "--graph", place.graph, "--json", tmp_path)
    (answer,) = map(json.loads, done.stdout.splitlines())
    assert answer["labels"][0]["label"] == VOICES[0]


def test_variants_and_contact_sheets(tmp_path: Path, model_dir: Path) -> None:
    place = Workplace(tmp_path, model_dir)
    for voice in VOICES[:2]:
        shutil.copytree(SAMPLE_AUDIO / voice, tmp_path / "data_audio" / voice)
    (tmp_path / "data_audio" / VOICES[0] / "unseen.mp3").unlink()
    flags = [*place.data_flags, f"--gallery_dir={tmp_path / 'gallery'}", "--gallery", "--balance"]
    done = run_script("data_maker.py", *flags, f"--augment_label={VOICES[1]}=1")
    assert done.returncode == 0, done.stderr
    table = {
        line.split()[0]: line.split()[1:] for line in done.stdout.splitlines() if line.startswith(("label", *VOICES))
    }
    chunks, variants = (table["label"].index(name) for name in ("chunks", "copies"))
    totals = [int(table[voice][chunks]) + int(table[voice][variants]) for voice in VOICES[:2]]
    assert totals[0] == totals[1] == 2 * int(table[VOICES[1]][chunks])
    assert "Gallery: " in done.stdout
    assert sorted(path.name for path in (tmp_path / "gallery").iterdir()) == sorted(f"{v}.jpg" for v in VOICES[:2])


@pytest.mark.parametrize(
    ("script", "flags", "code", "words"),
    [
        ("data_maker.py", ["--chunk_seconds", "0"], 2, "--chunk_seconds is 0.0"),
        ("data_maker.py", ["--chunk_seconds", "three"], 2, "invalid float value: 'three'"),
        ("data_maker.py", ["--loudness", "5"], 2, "--loudness is 5.0: it must be -70 to 0 dB, or none"),
        ("data_maker.py", ["--trim_silence", "x"], 2, "invalid float value: 'x'"),
        ("data_maker.py", ["--overlap", "1"], 2, "--overlap is 1.0: it must be 0 to 0.95"),
        ("data_maker.py", ["--representation", "cqt"], 2, "invalid choice: 'cqt'"),
        ("data_maker.py", ["--representation=linear", "--max_frequency=100"], 2, "needs 8"),
        ("data_maker.py", ["--augment", "-1"], 2, "--augment is -1"),
        ("data_maker.py", ["--no_such_flag"], 2, "--no_such_flag"),
        ("data_maker.py", ["--audio_dir", "/nowhere/at all"], 1, "/nowhere/at all is not a folder"),
        ("retrain.py", ["--image_dir", "/nowhere"], 1, "/nowhere is not a folder"),
        ("retrain.py", ["--testing_percentage", "100"], 2, "--testing_percentage is 100.0"),
        ("retrain.py", ["--output_graph", "graph.txt"], 2, "ends in .tflite, .onnx, .pb or .keras"),
        ("retrain.py", ["--seed", "-1"], 2, "--seed is -1"),
        (
            "retrain.py",
            ["--flip_left_right"],
            2,
            "--flip_left_right is refused: a flipped image is sound played backwards",
        ),
        ("retrain.py", ["--random_crop", "10"], 2, "--random_crop is refused: an image scaled or cut"),
        ("retrain.py", ["--random_scale=5"], 2, "data_maker.py --augment augments the waveform instead"),
        ("retrain.py", ["--random_brightness", "3"], 2, "--random_brightness is refused: brightness is relative"),
        ("retrain.py", ["--test_batch_size", "10"], 2, "the test takes all its images"),
        (
            "retrain.py",
            ["--validation_batch_size", "0"],
            2,
            "--validation_batch_size is 0: it must be 1 or more, or -1",
        ),
        ("retrain.py", ["--architecture=simple_cnn", "--fine_tune=2"], 2, "simple_cnn is trained from scratch"),
        ("retrain.py", ["--architecture=deep_cnn", "--hyper_search=9"], 2, "--hyper_search is 9: it must be 0"),
        ("retrain.py", ["--final_tensor_name", "a b"], 2, "--final_tensor_name is 'a b': it must be a letter"),
        ("retrain.py", ["--output_graph", "/"], 2, "--output_graph is /: it must be a file name"),
        ("retrain.py", ["--output_graph", "."], 2, "--output_graph is .: it must be a file name"),
        ("label_image.py", ["--graph", "/", "x.wav"], 2, "--graph is /: it must be a model"),
        ("retrain.py", ["--head", "quadratic"], 2, "invalid choice: 'quadratic'"),
        ("retrain.py", ["--dropout", "1"], 2, "--dropout is 1.0: it must be 0 to 0.9"),
        ("retrain.py", ["--validation_percentage=60", "--testing_percentage=40"], 2, "is 100.0: it must be below 100"),
        ("retrain.py", ["--unknown_fpr", "80"], 2, "--unknown_fpr is 80.0: it must be 0 to 50"),
        ("evaluate.py", ["--graph", "/nowhere.tflite"], 1, "run retrain.py first"),
        ("evaluate.py", ["--worst=-1"], 2, "--worst is -1: it must be 0 to 1000"),
        ("label_image.py", ["--timeline_step=0", "x.wav"], 2, "--timeline_step is 0.0: it must be 0.01 to 600"),
        ("label_image.py", ["--timeline", "--forget=ann", "x.wav"], 2, "--timeline and --forget cannot be combined"),
        ("label_image.py", [], 2, "name a clip"),
        ("label_image.py", [""], 2, "the path is empty"),
        ("label_image.py", ["--graph", "/nowhere.tflite", "x.wav"], 1, "run retrain.py first"),
    ],
)
def test_mistakes_get_one_line_and_the_right_code(
    script: str, flags: list[str], code: int, words: str, tmp_path: Path
) -> None:
    done = run_script(script, *flags, cwd=tmp_path)
    assert done.returncode == code
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith(f"{script}: ")


def limit_file_size() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_a_full_disk_is_one_line_and_the_next_run_goes_on(tmp_path: Path, model_dir: Path) -> None:
    """A limit on file size stands in for the disk: writing fails the same way, part-way."""
    place = Workplace(tmp_path, model_dir)
    shutil.copytree(SAMPLE_AUDIO / VOICES[0], tmp_path / "data_audio" / VOICES[0])
    full = run_script("data_maker.py", *place.data_flags, preexec_fn=limit_file_size)
    lines = [line for line in full.stderr.replace("\r", "\n").splitlines() if line and "Rendering:" not in line]
    assert full.returncode == 1
    assert len(lines) == 1
    assert "File too large" in lines[0]
    assert ".wav" in lines[0]
    assert not list(tmp_path.rglob(".audionet-tmp-*"))
    refused = run_script("retrain.py", *place.retrain_flags)
    assert "run data_maker.py again" in refused.stderr
    assert run_script("data_maker.py", *place.data_flags).returncode == 0


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, model_dir: Path) -> None:
    place = Workplace(tmp_path, model_dir)
    write_tone(tmp_path / "data_audio" / "ann" / "x.wav")
    (tmp_path / "data_wav").write_text("a file where a folder should be")  # root may write to read-only folders
    done = run_script("data_maker.py", *place.data_flags)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "data_wav" in done.stderr


def test_a_reader_that_goes_away_is_no_error(place: Workplace) -> None:
    clips = " ".join(f"'{SAMPLE_AUDIO / voice / 'unseen.mp3'}'" for voice in VOICES * 3)
    script = ROOT / "scripts" / "label_image.py"
    command = f"'{sys.executable}' '{script}' --graph '{place.graph}' {clips} | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=True)
    assert done.stderr == ""


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_streams_are_no_error(place: Workplace, closed: str) -> None:
    script, clip = ROOT / "scripts" / "label_image.py", SAMPLE_AUDIO / VOICES[0] / "unseen.mp3"
    command = f"'{sys.executable}' '{script}' --graph '{place.graph}' '{clip}' {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert (VOICES[0] in done.stdout) == (">&-" not in closed.replace("2>&-", ""))


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    environment = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL")}
    return lambda *words: subprocess.run(
        ["make", "-C", str(ROOT), *words], capture_output=True, text=True, check=False, env=environment
    )


def test_make_alone_lists_the_targets(make) -> None:
    done = make()
    assert done.returncode == 0
    for target in ("demo", "data", "gallery", "retrain", "evaluate", "tensorboard", "label", "test", "check", "bench"):
        assert f"make {target} " in done.stdout
