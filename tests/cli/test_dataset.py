"""The command ``audionet dataset``: its list, its lines, and the commands that it prints."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audionet.cli import data, dataset
from audionet.data.dataset import find_images, read_assigned
from audionet.data.named_datasets import DATASETS
from tests.support.archives import write_archive, write_files
from tests.support.file_server import serving
from tests.support.public_datasets import SHAPES, small_dataset
from tests.support.sounds import ROOT, write_tone


def test_without_a_name_all_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    dataset.main([])
    out = capsys.readouterr().out
    for name, known in DATASETS.items():
        (line,) = [line for line in out.splitlines() if line.startswith(f"{name} ")]
        assert known.title in line
        assert known.archive is None or known.archive.size_text in line
        assert known.licence in out
    assert "182.1 MB" in out
    assert max(map(len, out.splitlines())) <= 140


def test_the_guide_names_all(tmp_path: Path) -> None:
    guide = (ROOT / "docs" / "datasets.md").read_text("utf-8")
    for name, known in DATASETS.items():
        (row,) = [line for line in guide.splitlines() if line.startswith(f"| `{name}`")]
        assert all(f"`{by}`" in row for by in known.tables)
        assert "only what you have" in row or known.archive


@pytest.mark.parametrize("by", ["speaker", "digit"])
def test_the_printed_commands_work_as_printed(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    known, path = small_dataset("fsdd", tmp_path)
    monkeypatch.setitem(DATASETS, "fsdd", known)  # type: ignore[arg-type]
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("AUDIONET_PROJECT", raising=False)
    dataset.main(["fsdd", "--from", str(path), "--by", by, "--datasets_dir", "sets and more"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == known.title
    (line,) = [line.removeprefix("Next: ") for line in lines if line.startswith("Next: ")]
    words = shlex.split(line)
    start = words.index("--project")
    assert words[start : start + 2] == ["--project", f"fsdd_{by}"]
    rows = SHAPES["fsdd"].rows[by]
    data.main([*words[start + 2 :], "--image_dir", "images", "--wav_dir", "wav", "--workers", "1"])
    images = find_images(tmp_path / "images")
    assert {image.label for image in images} == {label for _, label, _, _ in rows}
    assigned = read_assigned(tmp_path / "images")
    assert assigned
    assert assigned.sets == {file: split for file, _, _, split in rows}
    assert assigned.groups == {file: group for file, _, group, _ in rows if group}
    official = "--split given" if by == "speaker" else "--split given --group .+"
    assert lines[-1].endswith(f"train --project fsdd_{by} {official}")


def test_a_project_of_the_users_own_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AUDIONET_PROJECT", "birds")
    source = write_files(tmp_path / "own", SHAPES["fsdd"].files)
    for _ in range(2):
        dataset.main(["fsdd", "--from", str(source), "--partial", "--datasets_dir", str(tmp_path / "sets")])
    out = capsys.readouterr().out
    assert "--project" not in out
    assert out.count("fsdd is ready: 12 recordings in ") == 1
    assert out.count("fsdd is there already, complete: nothing to do") == 1
    assert "To take it from elsewhere, remove " in out


def run(*flags: object, cwd: Path) -> subprocess.Popen[str]:
    code = "import sys; from audionet.cli.main import main; main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts"), "AUDIONET_HOME": str(cwd), "no_proxy": "127.0.0.1"}
    command = [sys.executable, "-c", code, "dataset", *map(str, flags)]
    return subprocess.Popen(
        command, cwd=cwd, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize(
    ("flags", "code", "line"),
    [
        (("fsd",), 2, "audionet dataset: there is no dataset fsd: is it fsdd?"),
        (("fsdd", "--by", "word"), 2, "audionet dataset: --by is word: it must be one of speaker, digit for fsdd"),
        (("voxceleb1",), 1, "audionet dataset: voxceleb1 cannot be downloaded without asking its authors"),
        (("fsdd", "--from", "nowhere.zip"), 1, "audionet dataset: --source "),
    ],
)
def test_a_failure_is_one_line(flags: tuple[str, ...], code: int, line: str, tmp_path: Path) -> None:
    process = run(*flags, cwd=tmp_path)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    assert err.startswith(line)
    assert len(err.splitlines()) == 1


def test_ctrl_c_keeps_what_has_arrived_and_says_so(tmp_path: Path) -> None:
    """A server that goes silent in the middle; the second run gets the rest, of another dataset, and says that."""
    archive = write_archive(tmp_path / "remote" / "set.zip", SHAPES["fsdd"].files)
    content = archive.read_bytes() + bytes(15_000_000)
    with serving(content) as server:
        server.stalls = [3_000_000]
        process = run("fsdd", "--url", server.url, cwd=tmp_path)
        part = tmp_path / "downloads" / "fsdd.zip.part"
        for _ in range(600):
            if part.exists() and part.stat().st_size >= 2_000_000:
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
        server.release.set()
        assert process.returncode == 130
        assert err.splitlines()[-1] == (
            "audionet dataset: interrupted; run it again to go on: what has been downloaded is kept"
        )
        kept = part.stat().st_size
        assert kept >= 2_000_000
        process = run("fsdd", "--url", server.url, cwd=tmp_path)
        _, err = process.communicate(timeout=60)
    assert server.requests[-1]["Range"] == f"bytes={kept}-"
    assert process.returncode == 1
    assert err.splitlines()[-1].startswith("audionet dataset: ")


def test_the_makefile_passes_the_name_on(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "-n", "-C", ROOT, "dataset", "NAME=fsdd", "ARGS=--by digit"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert 'audionet dataset "fsdd" --by digit' in done.stdout


def test_a_recording_that_is_no_part_of_it_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "own"
    write_files(source, SHAPES["fsdd"].files)
    write_tone(source / "mine.wav")
    dataset.main(["fsdd", "--from", str(source), "--partial", "--datasets_dir", str(tmp_path / "sets")])
    assert "12 recordings" in capsys.readouterr().out
    assert "mine" not in (tmp_path / "sets" / "fsdd" / "speaker.csv").read_text()
