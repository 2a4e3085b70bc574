"""What a command prints: with --quiet, --verbose, --log_json, on a terminal and elsewhere."""

from __future__ import annotations

import datetime
import fcntl
import json
import logging
import os
import pty
import shutil
import struct
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audionet.cli import console
from audionet.cli.log_output import ConsoleHandler, JsonHandler, json_line, log_as_service
from tests.support.scripts import run_script
from tests.support.sounds import ROOT, SAMPLE_AUDIO, write_tone

SKIPPED = "ann/broken.mp3: cannot be decoded: damaged, or there is no sound in it; skipped"


@pytest.fixture
def folders(tmp_path: Path) -> list[str]:
    shutil.copytree(SAMPLE_AUDIO / "flite-slt", tmp_path / "audio" / "ann")
    (tmp_path / "audio" / "ann" / "broken.mp3").write_text("words")
    write_tone(tmp_path / "audio" / "bob" / "tone.wav", 440, 4)
    return [
        f"--{name}={tmp_path / folder}"
        for name, folder in (("audio_dir", "audio"), ("wav_dir", "wav"), ("image_dir", "img"))
    ]


def test_json_lines_are_objects_with_time_level_and_message(folders: list[str], tmp_path: Path) -> None:
    done = run_script("data_maker.py", "--log_json", "--verbose", *folders)
    assert done.returncode == 0
    records = [json.loads(line) for line in done.stderr.splitlines()]
    assert {"debug"} <= {record["level"] for record in records} <= {"debug", "info", "warning"}
    assert all(record["logger"].startswith("audionet.") for record in records)
    times = [datetime.datetime.fromisoformat(record["time"]) for record in records]
    assert all(time.tzinfo == datetime.UTC for time in times)
    assert times == sorted(times)
    messages = [record["message"] for record in records]
    assert f"wrote {tmp_path / 'img' / 'dataset.json'}" in messages
    assert messages[-1].startswith("finished in ")


def test_an_error_is_a_json_line_too(tmp_path: Path) -> None:
    done = run_script("data_maker.py", "--log_json", "--quiet", f"--audio_dir={tmp_path / 'none'}")
    assert done.returncode != 0
    (record,) = map(json.loads, done.stderr.splitlines())
    assert record["level"] == "error"
    assert "none" in record["message"]


def test_verbose_adds_lines_on_stderr_alone(folders: list[str]) -> None:
    plain = run_script("data_maker.py", *folders)
    assert plain.stderr == f"{SKIPPED}\n"
    verbose = run_script("data_maker.py", "--verbose", "--force", *folders)
    assert verbose.stdout == plain.stdout
    assert all(line[9:12] == " s " or line == SKIPPED for line in verbose.stderr.splitlines())
    assert "--audio_dir" in verbose.stderr
    assert " finished in " in verbose.stderr.splitlines()[-1]


def test_quiet_leaves_results_and_errors(folders: list[str]) -> None:
    quiet = run_script("data_maker.py", "--quiet", *folders)
    assert (quiet.returncode, quiet.stderr) == (0, f"{SKIPPED}\n")
    assert "Rendered " in quiet.stdout
    assert "workers" not in quiet.stdout
    both = run_script("data_maker.py", "--quiet", "--verbose", *folders)
    assert both.returncode == 2
    assert both.stderr == "data_maker.py: --quiet and --verbose exclude each other: give one of them\n"


def test_a_key_is_not_logged(tmp_path: Path) -> None:
    key = "0123456789abcdef"
    done = run_script("serve.py", "--verbose", f"--api_key={key}", f"--graph={tmp_path / 'none.tflite'}")
    assert done.returncode == 1
    assert "--api_key ..." in done.stderr
    assert key not in done.stderr


def test_switches_after_a_double_dash_are_names(tmp_path: Path) -> None:
    done = run_script("label_image.py", f"--graph={tmp_path / 'none.tflite'}", "--", "--log_json")
    assert done.stderr.startswith("label_image.py: ")


def in_terminal(arguments: list[str], **environment: str) -> str:
    """What a process writes to its terminal."""
    process, master = pty.fork()
    if process == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        os.execve(sys.executable, [sys.executable, *arguments], os.environ | {"TERM": "xterm"} | environment)
    written = b""
    while True:
        try:
            piece = os.read(master, 4096)
        except OSError:  # the process has closed the terminal
            break
        if not piece:
            break
        written += piece
    os.waitpid(process, 0)
    os.close(master)
    return written.decode()


def test_bars_are_for_terminals_alone(folders: list[str]) -> None:
    script = str(ROOT / "scripts" / "data_maker.py")
    assert "Rendering:" in in_terminal([script, *folders])
    assert "Rendering:" not in in_terminal([script, "--force", "--quiet", *folders])


def test_progress_in_a_file_is_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = iter((0.0, 1.0, 16.0, 20.0, 40.0, 41.0, 41.0))
    monkeypatch.setattr(console.time, "monotonic", lambda: next(now))
    with console.progress_lines("Rendering", "recordings", 40) as advance:
        for _ in range(4):
            advance(10)
    assert capsys.readouterr().err == "Rendering: 20 of 40 recordings, 16 s left\n"


@pytest.fixture
def record() -> Callable[..., logging.LogRecord]:
    def make(message: str, level: int = logging.INFO, **extra: object) -> logging.LogRecord:
        made = logging.getLogger("audionet.test").makeRecord("audionet.test", level, "", 0, message, (), None)
        made.__dict__.update(extra)
        return made

    return make


@pytest.fixture
def handlers() -> Iterator[None]:
    root, own = logging.getLogger(), logging.getLogger("audionet")
    before, own_before = root.handlers[:], own.handlers[:]
    yield
    root.handlers[:], own.handlers[:] = before, own_before


def test_messages_go_where_they_belong(record, capsys: pytest.CaptureFixture[str]) -> None:
    handler = ConsoleHandler()
    handler.emit(record("a table\nof results"))
    handler.emit(record("a line\x1b[31m of a name", logging.WARNING))
    handler.emit(record("half done", progress={"done": 1}))
    written = capsys.readouterr()
    assert written.out == "a table\nof results\n"
    assert written.err == "a line\\x1b[31m of a name\nhalf done\n"


def test_a_record_as_json_keeps_its_progress_and_its_traceback(record) -> None:
    assert json.loads(json_line(record("x", progress={"done": 1})))["progress"] == {"done": 1}
    try:
        raise ValueError("no")
    except ValueError:
        failed = record("x", logging.ERROR, exc_info=sys.exc_info())
    content = json.loads(json_line(failed))
    assert (content["level"], content["logger"]) == ("error", "audionet.test")
    assert content["traceback"].endswith("ValueError: no")


def test_a_service_logs_other_packages_in_the_same_form(
    handlers: None, record, capsys: pytest.CaptureFixture[str]
) -> None:
    own = logging.getLogger("audionet")
    logging.getLogger().handlers[:] = []
    own.handlers[:] = [JsonHandler()]
    log_as_service("serve.py")
    logging.getLogger("uvicorn.error").warning("something else")
    own.warning("something of ours")
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [line["logger"] for line in lines] == ["uvicorn.error", "audionet"]
