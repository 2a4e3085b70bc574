"""Ctrl-C, sent to a command and its processes as a terminal does: one line, exit code 130, a clean state."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.images import make_images
from tests.support.sounds import ROOT, SAMPLE_AUDIO

IMPORT = "import time:"


def interrupt(
    arguments: list[str], cwd: Path, module: str = "audionet.cli.console", delay: float = 0.0, times: int = 1
) -> tuple[int, list[str]]:
    """Run a command, interrupt it `delay` seconds after a module was imported; its exit code and lines on stderr."""
    process = subprocess.Popen(
        [sys.executable, "-X", "importtime", "-m", "audionet", *arguments],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stderr is not None
    lines = []
    for line in process.stderr:
        lines.append(line)
        if line.startswith(IMPORT) and line.split("|")[-1].strip() == module:
            break
    time.sleep(delay)
    for _ in range(times):
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    try:
        _, errors = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # of one that did not stop, too
    lines += (errors or "").replace("\r", "\n").splitlines()
    # Python itself ends with the signal where code that it ran from a string was interrupted; to a shell, both are 130.
    code = 128 - process.returncode if process.returncode < 0 else process.returncode
    return code, [line.strip() for line in lines if line.strip() and not line.startswith(IMPORT)]


@pytest.mark.parametrize("command", ["data", "train", "evaluate", "label", "serve", "discover", "probe"])
@pytest.mark.parametrize("module", ["audionet.cli.interrupts", "audionet.cli.console", "numpy.version"])
def test_during_imports(command: str, module: str, tmp_path: Path) -> None:
    if module == "audionet.cli.interrupts":
        code, lines = interrupt([command], tmp_path, module, delay=0.002)
    else:
        code, lines = interrupt([command], tmp_path, module)
    assert (code, len(lines)) == (130, 1)
    assert lines[0].startswith(f"audionet {command}: interrupted")


def test_as_json_during_imports(tmp_path: Path) -> None:
    code, lines = interrupt(["label", "--log_json"], tmp_path, "numpy.version")
    assert code == 130
    assert json.loads(lines[0])["message"] == "interrupted"


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.2, 0.4])
def test_while_recordings_are_rendered(tmp_path: Path, delay: float) -> None:
    for voice in ("flite-slt", "flite-rms"):
        shutil.copytree(SAMPLE_AUDIO / voice, tmp_path / "tf_files" / "data_audio" / voice)
    folders = [f"--{name}={tmp_path / name}" for name in ("wav_dir", "image_dir")]
    flags = [*folders, f"--audio_dir={tmp_path / 'tf_files' / 'data_audio'}"]
    code, lines = interrupt(["data", *flags], tmp_path, "concurrent.futures.process", delay)
    if code == 0:
        pytest.skip("the machine was faster")
    assert code == 130
    assert len(lines) == 1
    assert lines[0].startswith("audionet data: interrupted")
    again = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "data_maker.py"), *flags], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stderr
    # Workers are stopped in the middle of a file, and its remains are removed by the next run.
    assert not list(tmp_path.rglob(".audionet-tmp-*"))


@pytest.mark.tensorflow
@pytest.mark.parametrize("delay", [0.1, 0.5, 1.0, 2.0, 3.0])
def test_while_tensorflow_is_imported(tmp_path: Path, model_dir: Path, delay: float) -> None:
    make_images(tmp_path / "images", 5, 3, ("high", "low"))
    flags = [f"--{name}={tmp_path / name}" for name in ("bottleneck_dir", "checkpoint_dir", "summaries_dir")]
    flags += [f"--image_dir={tmp_path / 'images'}", f"--output_graph={tmp_path / 'retrained_graph.tflite'}"]
    flags += ["--architecture=simple_cnn", f"--output_labels={tmp_path / 'labels.txt'}", f"--model_dir={model_dir}"]
    code, lines = interrupt(["train", *flags], tmp_path, "audionet.training.trainer", delay)
    assert code == 130
    assert lines[-1].startswith("audionet train: interrupted")
    assert not any("Traceback" in line for line in lines)
    assert not list(tmp_path.rglob(".audionet-tmp-*"))


def test_twice(tmp_path: Path) -> None:
    shutil.copytree(SAMPLE_AUDIO / "flite-slt", tmp_path / "audio" / "ann")
    flags = [f"--audio_dir={tmp_path / 'audio'}", f"--wav_dir={tmp_path / 'w'}", f"--image_dir={tmp_path / 'i'}"]
    code, lines = interrupt(["data", *flags], tmp_path, "concurrent.futures.process", 0.1, times=2)
    assert code == 130
    assert len(lines) <= 1


@pytest.mark.parametrize("module", ["fastapi", "uvicorn.server", "audionet.serving.app"])
def test_a_service_that_is_not_ready(tone_model: Path, tmp_path: Path, module: str) -> None:
    code, lines = interrupt(["serve", "--port=0", f"--graph={tone_model}"], tmp_path, module)
    assert code == 130
    assert len(lines) == 1
    assert lines[0] in (f"audionet serve: interrupted{end}" for end in ("", "; stopped before it was ready"))
