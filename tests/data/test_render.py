from __future__ import annotations

import contextlib
import dataclasses
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr

from audionet.audio.config import SpectrogramConfig
from audionet.augment.config import AugmentConfig
from audionet.data import render as rendering
from audionet.data.config import DataConfig
from audionet.data.dataset import Assigned, read_assigned
from audionet.data.journal import JOURNAL_NAME, read_journal
from audionet.data.naming import DATASET_JSON
from audionet.data.render import Result, render_folder
from audionet.errors import AudioNetError, DatasetError, UsageError
from audionet.utils import files
from audionet.utils.files import LOCK_NAME, exclusive_lock, temporary_path
from tests.support.disk import RecordedDisk
from tests.support.encoding import encode
from tests.support.files import files_of
from tests.support.read_only import read_only
from tests.support.sounds import ROOT, SAMPLE_AUDIO, tone, write_tone

SECOND = SpectrogramConfig(chunk_seconds=1.0)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(tmp_path / "audio", tmp_path / "wav", tmp_path / "image", workers=2)


def put(path: Path, text: str = "mine") -> None:
    path.write_text(text)


def chunks_of(result: Result) -> dict[str, tuple[int, int]]:
    return {label: (summary.recordings, summary.chunks) for label, summary in result.labels.items()}


def test_recordings_become_chunks_and_images(data: DataConfig) -> None:
    write_tone(data.audio_dir / "ann" / "a.wav", seconds=2.7)
    write_tone(data.audio_dir / "bob" / "day 1" / "b.flac", seconds=0.3, rate=44_100)
    result = render_folder(data, SECOND)
    assert chunks_of(result) == {"ann": (1, 3), "bob": (1, 1)}
    names = {f"ann/a.wav_nohash_{i:04d}" for i in range(3)} | {"bob/day 1%2Fb.flac_nohash_0000"}
    assert set(files_of(data.wav_dir)) == {f"wav/{name}.wav" for name in names} | {"wav/dataset.json"}
    assert set(files_of(data.image_dir)) == {f"image/{name}.jpg" for name in names} | {
        "image/dataset.json",
        "image/ann/.recordings.jsonl",
        "image/bob/.recordings.jsonl",
    }
    info = soundfile.info(data.wav_dir / "ann" / "a.wav_nohash_0000.wav")
    assert (info.samplerate, info.channels, info.subtype, info.frames) == (16_000, 1, "PCM_16", 16_000)
    described = json.loads((data.image_dir / "dataset.json").read_text())
    assert described["complete"]
    assert described["picture"]["chunk_seconds"] == 1.0
    assert described["labels"]["ann"]["seconds"] == pytest.approx(2.7)


@pytest.fixture
def rendered(data: DataConfig) -> DataConfig:
    for label in ("ann", "bob"):
        for number in range(3):
            write_tone(data.audio_dir / label / f"{number}.wav", 300 + 100 * number, seconds=2)
    render_folder(data, SECOND)
    return data


class OneThread:
    """A pool of this process, whose files a test can watch."""

    workers = 1

    def __init__(self) -> None:
        self.executor = ThreadPoolExecutor(1)

    def renew(self) -> None:
        raise AssertionError("a thread does not die")


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells which file is synced by /proc")
def test_a_journal_names_no_file_that_a_loss_of_power_would_take(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tone(data.audio_dir / "ann" / "long.wav", seconds=20)
    for number in range(3):
        write_tone(data.audio_dir / "ann" / f"{number}.wav", 300 + 100 * number, seconds=2)
    disk, seen = RecordedDisk(monkeypatch, tmp_path), set()

    def check() -> None:
        entries, _ = read_journal(data.image_dir / "ann" / JOURNAL_NAME)
        for file, entry in entries.items():
            names = [f"{file}_nohash_{index:04d}" for index in range(entry.outcome.chunks)]
            paths = {data.image_dir / "ann" / f"{name}.jpg" for name in names}
            paths |= {data.wav_dir / "ann" / f"{name}.wav" for name in names}
            assert [path for path in paths if not disk.holds(path)] == []
            seen.update(paths)

    disk.watch = check
    monkeypatch.setattr(files, "_BATCH_FILES", 8)
    monkeypatch.setattr(rendering, "worker_pool", lambda *_: contextlib.nullcontext(OneThread()))
    render_folder(data, SECOND, AugmentConfig(augment=1))
    assert len(seen) == 2 * 26
    images = list(data.image_dir.rglob("*.jpg"))
    assert len(images) == 2 * 26
    assert all(disk.holds(path) for path in [*images, data.image_dir / DATASET_JSON])


def touched(data: DataConfig) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in data.image_dir.rglob("*.jpg")}


def test_a_second_run_does_nothing(rendered: DataConfig) -> None:
    before = {path: path.stat().st_mtime_ns for path in rendered.image_dir.rglob("*")}
    result = render_folder(rendered, SECOND)
    assert (result.rendered, result.unchanged, result.removed) == (0, 6, 0)
    assert {path: path.stat().st_mtime_ns for path in rendered.image_dir.rglob("*")} == before


@pytest.mark.parametrize("locked", [True, False])
def test_a_second_run_needs_to_write_nothing(data: DataConfig, locked: bool) -> None:
    augment = AugmentConfig(augment=1)
    write_tone(data.audio_dir / "ann" / "a.wav", seconds=2)
    render_folder(data, SECOND, augment)
    for folder in (data.wav_dir, data.image_dir):
        (folder / "ann" / temporary_path(folder).name).touch()  # of a killed run
        if not locked:
            (folder / LOCK_NAME).unlink()
    with read_only(data.audio_dir, data.wav_dir, data.image_dir):
        result = render_folder(data, SECOND, augment)
        assert (result.rendered, result.unchanged, result.removed, result.varied) == (0, 1, 0, 0)
    write_tone(data.audio_dir / "ann" / "b.wav", seconds=2)
    with read_only(data.audio_dir, data.wav_dir, data.image_dir), pytest.raises(OSError, match="Read-only") as error:
        render_folder(data, SECOND, augment)
    assert error.value.filename == str(data.wav_dir / DATASET_JSON)


def test_only_new_changed_or_lost_recordings_are_rendered(rendered: DataConfig) -> None:
    before = touched(rendered)
    write_tone(rendered.audio_dir / "ann" / "new.wav")
    write_tone(rendered.audio_dir / "ann" / "0.wav", 999, seconds=3)
    next((rendered.image_dir / "bob").glob("1.wav*")).unlink()
    result = render_folder(rendered, SECOND)
    assert (result.rendered, result.unchanged) == (3, 4)
    after = touched(rendered)
    assert sum(after.get(path) == time for path, time in before.items()) == 8
    assert chunks_of(result) == {"ann": (4, 8), "bob": (3, 6)}


@pytest.mark.parametrize("folder", ["image_dir", "wav_dir"])
def test_empty_files_are_rendered_again(rendered: DataConfig, folder: str) -> None:
    before = files_of(rendered.image_dir, rendered.wav_dir)
    chunk = next((getattr(rendered, folder) / "bob").glob("1.wav*"))
    chunk.write_bytes(b"")
    result = render_folder(rendered, SECOND)
    assert (result.rendered, result.unchanged, result.removed) == (1, 5, 0)
    assert files_of(rendered.image_dir, rendered.wav_dir) == before


def test_empty_files_of_deleted_recordings_are_removed(rendered: DataConfig) -> None:
    (rendered.audio_dir / "bob" / "1.wav").unlink()
    for folder in (rendered.image_dir, rendered.wav_dir):
        for chunk in (folder / "bob").glob("1.wav*"):
            chunk.write_bytes(b"")
    assert render_folder(rendered, SECOND).removed == 4
    assert not list((rendered.image_dir / "bob").glob("1.wav*"))


def test_a_changed_setting_renders_everything_again(rendered: DataConfig) -> None:
    old = files_of(rendered.image_dir)
    result = render_folder(rendered, SpectrogramConfig(chunk_seconds=1.0, n_mels=64))
    assert (result.rendered, result.unchanged) == (6, 0)
    assert all(files_of(rendered.image_dir)[name] != data for name, data in old.items() if name.endswith(".jpg"))


def test_longer_chunks_replace_all_shorter_ones(rendered: DataConfig) -> None:
    render_folder(rendered, SpectrogramConfig(chunk_seconds=2.0))
    assert len(list(rendered.image_dir.rglob("*.jpg"))) == len(list(rendered.wav_dir.rglob("*.wav"))) == 6


def test_chunks_of_a_deleted_recording_are_removed(rendered: DataConfig) -> None:
    (rendered.audio_dir / "ann" / "1.wav").unlink()
    shutil.rmtree(rendered.audio_dir / "bob")
    result = render_folder(rendered, SECOND)
    assert (result.rendered, result.removed) == (0, 16)
    assert {path.name for path in rendered.image_dir.iterdir() if path.is_dir()} == {"ann"}
    assert len(list(rendered.image_dir.rglob("*.jpg"))) == len(list(rendered.wav_dir.rglob("*.wav"))) == 4


def test_the_users_own_files_among_the_images_are_kept(rendered: DataConfig) -> None:
    names = ("bob/look at this.txt", "bob/holiday.jpg", "bob/theirs.wav_nohash_0000.jpg", "new/x_nohash_0000.jpg")
    mine = {rendered.image_dir / name for name in names}
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    shutil.rmtree(rendered.audio_dir / "bob")
    render_folder(rendered, SECOND)
    render_folder(rendered, SpectrogramConfig(chunk_seconds=2.0))
    left = {path for path in rendered.image_dir.rglob("*") if path.is_file() and path.parts[-2] in ("bob", "new")}
    assert left == mine
    assert {path.read_text() for path in mine} == {"mine"}


def test_force_renders_everything_again(rendered: DataConfig) -> None:
    before = files_of(rendered.wav_dir, rendered.image_dir)
    forced = DataConfig(rendered.audio_dir, rendered.wav_dir, rendered.image_dir, workers=1, force=True)
    assert render_folder(forced, SECOND).rendered == 6
    assert files_of(rendered.wav_dir, rendered.image_dir) == before  # and with one worker, not two


@pytest.mark.parametrize("more", [[], pytest.param(["--augment", "2"], marks=pytest.mark.slow)])
def test_a_killed_run_started_again_gives_the_same_files(tmp_path: Path, more: list[str]) -> None:
    audio = tmp_path / "audio"
    for voice in ("flite-slt", "flite-awb"):
        shutil.copytree(SAMPLE_AUDIO / voice, audio / voice)
    undisturbed, killed = tmp_path / "undisturbed", tmp_path / "killed"

    def command(out: Path) -> list[str]:
        flags = ["--audio_dir", str(audio), "--wav_dir", str(out / "wav"), "--image_dir", str(out / "image")]
        return [
            sys.executable,
            str(ROOT / "scripts" / "data_maker.py"),
            *flags,
            "--chunk_seconds",
            "0.5",
            "--workers",
            "2",
            *more,
        ]

    subprocess.run(command(undisturbed), check=True, capture_output=True)
    wanted = len(list(undisturbed.rglob("*.jpg")))
    for share in (0.1, 0.5):
        process = subprocess.Popen(command(killed), start_new_session=True, stderr=subprocess.DEVNULL)
        until = time.monotonic() + 60
        while len(list(killed.rglob("*.jpg"))) < share * wanted and time.monotonic() < until:
            time.sleep(0.01)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    (killed / "image" / "flite-slt" / ".audionet-tmp-999999999-1").write_bytes(b"half an image")
    subprocess.run(command(killed), check=True, capture_output=True)

    def content(folder: Path) -> dict[str, bytes]:
        return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert content(killed) == content(undisturbed)


AWKWARD = [
    "dr.smith",
    "two words",
    'it\'s "quoted"',
    "-rf",
    "--help",
    "анна",
    "Ann",
    "ann",
    "..dots..",
    "$(id)",
    "a;b",
    "%2F",
]


def test_awkward_names_of_labels_and_recordings(data: DataConfig) -> None:
    for name in AWKWARD:
        if not name.startswith("."):
            write_tone(data.audio_dir / name / "x.wav")
        write_tone(data.audio_dir / "all" / f"{name}.wav".lstrip("."))
    write_tone(data.audio_dir / "all" / "new\nline.wav")
    write_tone(data.audio_dir / "all" / "x.wav")
    write_tone(data.audio_dir / "all" / "x.flac")
    write_tone(data.audio_dir / "all" / "sub" / "x.wav")
    result = render_folder(data, SECOND)
    assert set(result.labels) == {name for name in AWKWARD if not name.startswith(".")} | {"all"}
    assert chunks_of(result)["all"] == (len(AWKWARD) + 4, len(AWKWARD) + 4)
    assert render_folder(data, SECOND).rendered == 0


def test_unusable_recordings_are_reported_and_skipped(data: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data.audio_dir / "ann"
    write_tone(folder / "good.wav")
    (folder / "empty.mp3").touch()
    (folder / "text.mp3").write_text("words\n" * 50)
    (folder / "notes.txt").write_text("words")
    (folder / "cover").write_bytes(b"\x89PNG")
    soundfile.write(folder / "silent.wav", np.zeros(48_000), 16_000)
    write_tone(data.audio_dir / "bob" / "good.wav")
    (data.audio_dir / "nobody").mkdir()
    (data.audio_dir / "nobody" / "x.wav").touch()
    (data.audio_dir / "two\nlines").mkdir()
    write_tone(data.audio_dir / "two\nlines" / "x.wav")
    (folder / "dangling.wav").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    (folder / "self.wav").symlink_to("self.wav")
    os.mkfifo(folder / "pipe.wav")
    write_tone(data.audio_dir / "stray.wav")
    write_tone(data.audio_dir / "dataset.json" / "x.wav")
    result = render_folder(data, SECOND)
    assert chunks_of(result) == {
        "ann": (1, 1),
        "bob": (1, 1),
        "nobody": (0, 0),
        "two\nlines": (0, 0),
        "dataset.json": (0, 0),
    }
    reasons = {item["file"]: item["reason"] for item in result.labels["ann"].skipped}
    assert reasons["empty.mp3"] == "the file is empty"
    assert "cannot be decoded" in reasons["text.mp3"]
    assert (
        reasons[""].startswith("2 files of other kinds than recordings (1 .txt, 1 no ending)")
        or "no ending" in reasons[""]
    )
    assert reasons["silent.wav"] == "is silent from beginning to end"
    assert "No such file" in reasons["dangling.wav"]
    assert "symbolic links" in reasons["self.wav"]
    assert "is a pipe or a device" in reasons["pipe.wav"]
    assert len(reasons) == 7
    for label in ("two\nlines", "dataset.json"):
        assert "rename the folder" in result.labels[label].skipped[0]["reason"]
    lines = capsys.readouterr().err.replace("\r", "\n").splitlines()
    assert sum("ann/empty.mp3: the file is empty; skipped" in line for line in lines) == 1
    assert sum("stray.wav: is in no label's folder" in line for line in lines) == 1


def test_chunks_far_below_the_loudest_are_skipped_but_numbered(data: DataConfig) -> None:
    """Noise 60 dB below the voice, before and after it, is no training data; a voice 30 dB below is."""
    folder = data.audio_dir / "ann"
    folder.mkdir(parents=True)
    noise = np.random.default_rng(0).standard_normal(48_000)
    parts = [2e-4 * noise, tone(440, 3.0, amplitude=0.3), tone(440, 3.0, amplitude=0.01), 2e-4 * noise]
    soundfile.write(folder / "x.wav", np.concatenate(parts), 16_000)
    for _ in range(2):
        render_folder(data, SpectrogramConfig())
        for outputs, suffix in ((data.image_dir, "jpg"), (data.wav_dir, "wav")):
            names = sorted(path.name for path in (outputs / "ann").glob(f"*.{suffix}"))
            assert names == [f"x.wav_nohash_000{i}.{suffix}" for i in (1, 2)]


def test_silent_chunks_are_skipped_but_numbered(data: DataConfig) -> None:
    sound = np.concatenate([tone(440, 1), np.full(16_000, 0.1), tone(440, 1)])  # a constant is no sound
    data.audio_dir.joinpath("ann").mkdir(parents=True)
    soundfile.write(data.audio_dir / "ann" / "x.wav", sound, 16_000)
    assert chunks_of(render_folder(data, SECOND)) == {"ann": (1, 2)}
    assert sorted(path.name[-8:] for path in data.image_dir.rglob("*.jpg")) == ["0000.jpg", "0002.jpg"]
    assert render_folder(data, SECOND).rendered == 0


def test_a_link_to_recordings_elsewhere_is_followed(data: DataConfig, tmp_path: Path) -> None:
    write_tone(tmp_path / "elsewhere" / "x.wav")
    data.audio_dir.mkdir()
    (data.audio_dir / "ann").symlink_to(tmp_path / "elsewhere")
    assert chunks_of(render_folder(data, SECOND)) == {"ann": (1, 1)}


@pytest.mark.parametrize(
    ("prepare", "error", "message"),
    [
        (lambda d: None, DatasetError, "is not a folder"),
        (lambda d: d.audio_dir.mkdir(), DatasetError, "holds no recordings"),
        (lambda d: write_tone(d.audio_dir / "stray.wav"), DatasetError, "one folder per label"),
        (
            lambda d: (write_tone(d.audio_dir / "a" / "x.wav"), write_tone(d.wav_dir / "mine" / "precious.wav")),
            UsageError,
            "did not make",
        ),
        (
            lambda d: (write_tone(d.audio_dir / "a" / "x.wav"), d.image_dir.mkdir(), put(d.image_dir / "dataset.json")),
            UsageError,
            "did not make",
        ),
    ],
)
def test_unusable_folders_are_refused(
    data: DataConfig, prepare: Callable[[DataConfig], object], error: type[Exception], message: str
) -> None:
    prepare(data)
    before = files_of(data.audio_dir.parent)
    with pytest.raises(error, match=message):
        render_folder(data, SECOND)
    assert files_of(data.audio_dir.parent) == before


@pytest.mark.parametrize("inside", ["wav_dir", "image_dir"])
def test_output_folders_inside_audio_dir_are_refused(data: DataConfig, inside: str) -> None:
    write_tone(data.audio_dir / "ann" / "x.wav")
    folders = {"audio_dir": data.audio_dir, "wav_dir": data.wav_dir, "image_dir": data.image_dir}
    for folder in (data.audio_dir, data.audio_dir / "ann"):
        with pytest.raises(UsageError, match=f"{inside} is inside audio_dir"):
            render_folder(DataConfig(**(folders | {inside: folder})), SECOND)


def test_recordings_with_damaged_journal_lines_are_rendered_again(rendered: DataConfig) -> None:
    before = files_of(rendered.wav_dir, rendered.image_dir)
    journal = rendered.image_dir / "bob" / ".recordings.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    odd = lines[1].replace('"chunks": 2', '"chunks": "x"')
    journal.write_text(lines[0] + odd + '{"file": 3}\n[]\n' + lines[2][:20])
    assert render_folder(rendered, SECOND).rendered == 2
    assert files_of(rendered.wav_dir, rendered.image_dir) == before


@pytest.mark.parametrize("content", [b"", b'{"pic', b"\0" * 500])
def test_a_damaged_dataset_json_is_written_anew(rendered: DataConfig, content: bytes) -> None:
    before = files_of(rendered.wav_dir, rendered.image_dir)
    for folder in (rendered.wav_dir, rendered.image_dir):
        (folder / "dataset.json").write_bytes(content)
    assert render_folder(rendered, SECOND).rendered == 0
    assert files_of(rendered.wav_dir, rendered.image_dir) == before


def test_images_without_journal_entry_and_recording_are_reported(
    rendered: DataConfig, capsys: pytest.CaptureFixture[str]
) -> None:
    (rendered.image_dir / "bob" / ".recordings.jsonl").write_text("x")
    (rendered.audio_dir / "bob" / "1.wav").unlink()
    render_folder(rendered, SECOND)
    assert "bob: 2 images of unknown recordings in " in capsys.readouterr().err


@pytest.mark.parametrize("inside", ["audio_dir", "wav_dir", "image_dir"])
def test_a_gallery_inside_a_data_folder_is_refused(data: DataConfig, inside: str) -> None:
    write_tone(data.audio_dir / "ann" / "x.wav")
    with pytest.raises(UsageError, match=f"gallery_dir is inside {inside}"):
        render_folder(dataclasses.replace(data, gallery_dir=getattr(data, inside) / "ann"), SECOND)


def test_a_closed_stderr_is_no_error(tmp_path: Path) -> None:
    write_tone(tmp_path / "audio" / "ann" / "x.wav")
    flags = " ".join(f"'--{name}_dir={tmp_path / name}'" for name in ("audio", "wav", "image"))
    command = f"'{sys.executable}' '{ROOT / 'scripts' / 'data_maker.py'}' {flags} 2>&-"
    subprocess.run(command, shell=True, check=True, capture_output=True)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see other processes")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_workers_do_not_outlive_their_parent(tmp_path: Path, how: signal.Signals) -> None:
    for number in range(40):
        write_tone(tmp_path / "audio" / "ann" / f"{number}.wav", seconds=60)
    flags = [f"--{name}_dir={tmp_path / name}" for name in ("audio", "wav", "image")]
    # A shell starts its background jobs with SIGINT ignored: SIGTERM has to end them nevertheless.
    on_interrupt = signal.default_int_handler if how == signal.SIGINT else signal.SIG_IGN
    process = subprocess.Popen(
        [sys.executable, str(ROOT / "scripts" / "data_maker.py"), *flags, "--workers=2"],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, on_interrupt),
    )
    until = time.monotonic() + 60
    while not list((tmp_path / "image").rglob("*.jpg")) and time.monotonic() < until:
        time.sleep(0.01)
    process.send_signal(how)
    _, errors = process.communicate()
    while group_lives(process.pid) and time.monotonic() < until:
        time.sleep(0.05)
    assert not group_lives(process.pid)
    if how != signal.SIGKILL:
        assert process.returncode == 130
        assert errors.splitlines()[-1].startswith("data_maker.py: interrupted; run it again to go on")
        assert "Traceback" not in errors


def group_lives(group: int) -> bool:
    """Return whether a process of the group is running; a zombie is not."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, process_group = status.read_text().rpartition(")")[2].split()[:3]
            if int(process_group) == group and state != "Z":
                return True
    return False


@pytest.mark.parametrize("kind", ["wav", "mp3"])
@pytest.mark.parametrize("settings", [{}, {"loudness": -20.0, "trim_silence": 30.0}, {"overlap": 0.5}])
def test_a_long_recording_gives_the_same_files_in_pieces(
    data: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, settings: dict[str, float]
) -> None:
    rate = 16_000 if kind == "wav" else 32_000
    sound = 0.1 * np.random.default_rng(0).standard_normal(rate * 62)
    sound[: 3 * rate] = sound[30 * rate : 40 * rate] = 0
    (data.audio_dir / "ann").mkdir(parents=True)
    soundfile.write(data.audio_dir / "ann" / f"x.{kind}", sound, rate)
    config = SpectrogramConfig(chunk_seconds=1, **settings)
    render_folder(data, config)
    monkeypatch.setattr("audionet.data.render_tasks.PIECE_SECONDS", 20)
    monkeypatch.setattr("audionet.data.render.LARGE_BYTES", 1000)
    other = dataclasses.replace(data, wav_dir=tmp_path / "other" / "wav", image_dir=tmp_path / "other" / "image")
    tasks = []
    render = rendering.render_pieces
    monkeypatch.setattr(
        "audionet.data.render.map_unordered",
        lambda pool, f, items, *_: ((tasks.append(task) or task, render(task)) for task in items),
    )
    render_folder(other, config)
    assert len(tasks) >= 3
    assert files_of(other.wav_dir, other.image_dir) == files_of(data.wav_dir, data.image_dir)


def test_damage_in_one_piece_is_passed_over(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    (data.audio_dir / "ann").mkdir(parents=True)
    path = data.audio_dir / "ann" / "x.flac"
    soundfile.write(path, np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 60), 16_000)
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 20_000] = bytes(20_000)
    path.write_bytes(content)
    whole = render_folder(data, SECOND)
    monkeypatch.setattr("audionet.data.render_tasks.PIECE_SECONDS", 10)
    monkeypatch.setattr("audionet.data.render.LARGE_BYTES", 1000)
    pieces = render_folder(dataclasses.replace(data, force=True), SECOND)
    assert chunks_of(pieces) == chunks_of(whole)
    for result in (whole, pieces):
        (remark,) = result.labels["ann"].remarks
        assert "damaged frames at 0:" in remark["reason"]
    assert len(list(data.image_dir.rglob("*.jpg"))) == whole.labels["ann"].chunks == 60


def test_a_file_cut_off_in_one_piece_ends_there(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_tone(data.audio_dir / "ann" / "x.wav", seconds=60)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 55 // 60])
    whole = render_folder(data, SECOND)
    monkeypatch.setattr("audionet.data.render_tasks.PIECE_SECONDS", 10)
    monkeypatch.setattr("audionet.data.render.LARGE_BYTES", 1000)
    pieces = render_folder(dataclasses.replace(data, force=True), SECOND)
    assert chunks_of(pieces) == chunks_of(whole)
    assert pieces.labels["ann"].remarks == whole.labels["ann"].remarks
    assert "cut short: its header promises 60.0 s, it holds 55.0 s" in whole.labels["ann"].remarks[0]["reason"]


def test_an_mp4_is_rendered_in_pieces(data: DataConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).uniform(-0.3, 0.3, 60 * 44_100)
    encode(data.audio_dir / "ann" / "x.m4a", noise, "alac", 44_100)
    render_folder(data, SECOND)
    images = files_of(data.image_dir)
    monkeypatch.setattr("audionet.data.render_tasks.PIECE_SECONDS", 10)
    monkeypatch.setattr("audionet.data.render.LARGE_BYTES", 1000)
    tasks = []
    split = rendering.pieces_of

    def count(*arguments: Any) -> Any:
        pieces, seconds = split(*arguments)
        tasks.extend(pieces)
        return pieces, seconds

    monkeypatch.setattr(rendering, "pieces_of", count)
    render_folder(dataclasses.replace(data, force=True), SECOND)
    assert len(tasks) == 6
    assert files_of(data.image_dir) == images


def test_a_new_modification_time_alone_renders_nothing(rendered: DataConfig) -> None:
    before = touched(rendered)
    for path in rendered.audio_dir.rglob("*.wav"):
        os.utime(path, (1, 1))
    result = render_folder(rendered, SECOND)
    assert (result.rendered, result.unchanged) == (0, 6)
    assert touched(rendered) == before
    assert render_folder(rendered, SECOND).unchanged == 6


def test_new_content_of_the_same_size_is_rendered(rendered: DataConfig) -> None:
    write_tone(rendered.audio_dir / "ann" / "0.wav", 999, seconds=2)
    assert render_folder(rendered, SECOND).rendered == 1


def test_a_recording_changed_or_deleted_during_a_run_is_tried_again(
    data: DataConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("changes", "goes", "stays"):
        write_tone(data.audio_dir / "ann" / f"{name}.wav", seconds=2)
    original = rendering.piece_batches

    def change_then_batch(sources):
        write_tone(data.audio_dir / "ann" / "changes.wav", 999, seconds=3)
        (data.audio_dir / "ann" / "goes.wav").unlink()
        return original(sources)

    monkeypatch.setattr("audionet.data.render.piece_batches", change_then_batch)
    assert chunks_of(render_folder(data, SECOND)) == {"ann": (1, 2)}
    said = capsys.readouterr().err
    assert "ann/changes.wav: changed while it was read: run again to render the new version; skipped" in said
    assert "ann/goes.wav: cannot be read: No such file or directory; skipped" in said
    assert len(list(data.image_dir.rglob("*.jpg"))) == len(list(data.wav_dir.rglob("*.wav"))) == 2
    monkeypatch.undo()
    result = render_folder(data, SECOND)
    assert chunks_of(result) == {"ann": (2, 5)}
    assert result.rendered == 1


def test_a_concurrent_run_over_the_same_folders_is_refused(data: DataConfig) -> None:
    write_tone(data.audio_dir / "ann" / "x.wav")
    for folder in (data.wav_dir, data.image_dir):
        folder.mkdir()
        with exclusive_lock(folder), pytest.raises(AudioNetError, match="another run is at work there"):
            render_folder(data, SECOND)
    render_folder(data, SECOND)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see other processes")
def test_a_killed_worker_changes_no_result(tmp_path: Path) -> None:
    for number in range(12):
        write_tone(tmp_path / "audio" / "ann" / f"{number}.wav", 200 + 10 * number, seconds=60)
    audio = tmp_path / "audio"
    here = DataConfig(audio, tmp_path / "here" / "wav", tmp_path / "here" / "image", workers=8)
    there = DataConfig(audio, tmp_path / "there" / "wav", tmp_path / "there" / "image", workers=2)
    undisturbed = render_folder(there, SECOND)

    def kill_one() -> None:
        while len(list(here.image_dir.rglob("*.jpg"))) < 50:
            time.sleep(0.01)
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    killer = threading.Thread(target=kill_one)
    killer.start()
    result = render_folder(here, SECOND)
    killer.join()
    assert result == undisturbed
    assert files_of(here.wav_dir, here.image_dir) == files_of(there.wav_dir, there.image_dir)


@pytest.mark.slow
def test_ten_hours_of_silence_in_a_small_file(data: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    (data.audio_dir / "ann").mkdir(parents=True)
    with soundfile.SoundFile(data.audio_dir / "ann" / "x.flac", "w", 16_000, 1, compression_level=1.0) as file:
        for _ in range(600):
            file.write(np.zeros(60 * 16_000, np.int16))
    assert (data.audio_dir / "ann" / "x.flac").stat().st_size < 2_000_000
    assert chunks_of(render_folder(data, SpectrogramConfig())) == {"ann": (0, 0)}
    assert "ann/x.flac: is silent from beginning to end; skipped" in capsys.readouterr().err


def damaged(content: bytes, generator: np.random.Generator) -> bytes:
    """Return a copy with some bits flipped, truncated, or both."""
    copy = np.frombuffer(content, np.uint8).copy()
    how = generator.integers(3)
    if how < 2:
        norm = len(copy) if generator.random() < 0.5 else min(len(copy), 200)
        for place in generator.integers(0, norm, generator.integers(1, 30)):
            copy[place] ^= 1 << generator.integers(8)
    return copy[: generator.integers(0, len(copy))].tobytes() if how else copy.tobytes()


def sndfile_kinds(folder: Path) -> dict[str, bytes]:
    """Make a file of each kind that libsndfile writes; return their contents by ending."""
    sound, rate = soundfile.read(SAMPLE_AUDIO / "flite-slt" / "harbour.mp3", frames=48_000)
    kinds = {"wav": {}, "flac": {}, "mp3": {}, "ogg": {}, "opus": {"format": "OGG", "subtype": "OPUS"}, "aiff": {}}
    kinds |= {"au": {}, "caf": {}, "w64": {}, "adpcm.wav": {"format": "WAV", "subtype": "MS_ADPCM"}}
    kinds |= {"float.wav": {"subtype": "FLOAT"}}
    for kind, options in kinds.items():
        soundfile.write(folder / f"x.{kind}", sound, rate, **options)
    return {kind: (folder / f"x.{kind}").read_bytes() for kind in kinds}


def container_kinds(folder: Path) -> dict[str, bytes]:
    """Make a file of each kind that FFmpeg decodes; return their contents by ending."""
    sound, _ = soundfile.read(SAMPLE_AUDIO / "flite-slt" / "harbour.mp3", frames=48_000)
    kinds = {"m4a": ("aac", None), "webm": ("libopus", None), "wma": ("wmav2", "asf"), "mka": ("flac", None)}
    kinds |= {"ogg": ("libopus", None), "ts": ("mp2", "mpegts"), "avi": ("mp3", None), "wv": ("wavpack", None)}
    kinds |= {"flv": ("libmp3lame", None), "mp4": ("alac", None)}
    for kind, (codec, container) in kinds.items():
        rate = 44_100 if kind in ("wma", "flv") else 48_000
        encode(folder / f"x.{kind}", soxr.resample(sound, 16_000, rate), codec, rate, container, {"b": "64k"})
    made = {kind: (folder / f"x.{kind}").read_bytes() for kind in kinds}
    return made | {"ogg": 2 * made["ogg"]}  # chained


@pytest.mark.slow
@pytest.mark.parametrize("kinds", [sndfile_kinds, container_kinds])
def test_two_thousand_damaged_recordings(
    data: DataConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str], kinds: Callable[[Path], dict[str, bytes]]
) -> None:
    originals = kinds(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(2000):
        kind = list(originals)[number % len(originals)]
        path = data.audio_dir / f"voice {number % 3}" / f"{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(damaged(originals[kind], generator))
    result = render_folder(dataclasses.replace(data, workers=8), SECOND)
    reasons = [item["reason"] for s in result.labels.values() for item in (*s.skipped, *s.remarks)]
    assert 200 < len(reasons) < 2000
    for reason in reasons:
        assert "\n" not in reason
        assert "ended the worker process" not in reason
    lines = [line for line in capsys.readouterr().err.replace("\r", "\n").splitlines() if "voice" in line]
    assert len(lines) == len(reasons)


def test_labelled_parts_become_chunks_of_their_labels(data: DataConfig, tmp_path: Path) -> None:
    write_tone(data.audio_dir / "call.wav", 500, seconds=6.0)
    write_tone(data.audio_dir / "other.wav", 900, seconds=2.0)
    table = tmp_path / "labels.csv"
    table.write_text("file,start,end,label\ncall.wav,0.5,2.5,ann\ncall.wav,3,4.6,bob\nother.wav,,,bob\n")
    data = dataclasses.replace(data, labels=table)
    assert chunks_of(render_folder(data, SECOND)) == {"ann": (1, 2), "bob": (2, 4)}
    samples, _ = soundfile.read(data.wav_dir / "ann" / "call.wav_nohash_0000.wav", dtype="int16")
    whole, _ = soundfile.read(data.audio_dir / "call.wav", dtype="int16")
    assert np.array_equal(samples, whole[8_000:24_000])
    assert render_folder(data, SECOND).unchanged == 3
    table.write_text("file,start,end,label\ncall.wav,0.5,2.5,ann\ncall.wav,3,4,bob\nother.wav,,,bob\n")
    again = render_folder(data, SECOND)
    assert (again.rendered, again.unchanged, again.removed) == (1, 2, 2)


def test_what_no_row_labels_can_be_background(data: DataConfig, tmp_path: Path) -> None:
    write_tone(data.audio_dir / "call.wav", seconds=5.0)
    table = tmp_path / "labels.csv"
    table.write_text("file,start,end,label\ncall.wav,1,3,ann\n")
    data = dataclasses.replace(data, labels=table, background=True)
    assert chunks_of(render_folder(data, SECOND)) == {"_background_": (1, 3), "ann": (1, 2)}


def test_labels_beyond_a_recording_are_said(data: DataConfig, tmp_path: Path) -> None:
    write_tone(data.audio_dir / "call.wav", seconds=2.0)
    table = tmp_path / "labels.csv"
    table.write_text("file,start,end,label\ncall.wav,1,9,ann\ncall.wav,20,21,bob\ncall.wav,0,1,cy\n")
    result = render_folder(dataclasses.replace(data, labels=table), SECOND)
    assert chunks_of(result) == {"ann": (1, 1), "bob": (0, 0), "cy": (1, 1)}
    assert result.labels["ann"].remarks == [
        {"file": "call.wav", "reason": "is labelled up to 9.0 s, and ends at 2.0 s"}
    ]
    assert [item["file"] for item in result.labels["bob"].skipped] == ["call.wav"]


def test_groups_and_sets_of_a_table_are_written_down(data: DataConfig, tmp_path: Path) -> None:
    write_tone(data.audio_dir / "day 1" / "call.wav", seconds=2.0)
    table = tmp_path / "labels.csv"
    table.write_text("file,start,end,label,session,split\ncall.wav,0,1,ann,s1,test\ncall.wav,1,2,bob,,\n")
    render_folder(dataclasses.replace(data, labels=table), SECOND)
    assert read_assigned(data.image_dir) == Assigned({"day 1%2Fcall.wav": "s1"}, {"day 1%2Fcall.wav": "test"})
    shutil.move(data.audio_dir / "day 1", data.audio_dir / "ann")
    render_folder(data, SECOND)
    assert read_assigned(data.image_dir) is None


def test_parts_are_numbered_and_measured_by_their_time(data: DataConfig, tmp_path: Path) -> None:
    write_tone(data.audio_dir / "call.wav", seconds=60.0)
    table = tmp_path / "labels.csv"
    table.write_text("file,start,end,label\ncall.wav,10,12,ann\ncall.wav,50,51,ann\ncall.wav,51.2,51.4,ann\n")
    result = render_folder(dataclasses.replace(data, labels=table), SECOND)
    names = sorted(path.name for path in (data.image_dir / "ann").glob("*.jpg"))
    assert [int(name.split("_")[-1][:4]) for name in names] == [10, 11, 50, 51]
    assert chunks_of(result) == {"ann": (1, 4)}
    assert result.labels["ann"].seconds == pytest.approx(3.2)
    assert render_folder(dataclasses.replace(data, labels=table), SECOND).unchanged == 1
