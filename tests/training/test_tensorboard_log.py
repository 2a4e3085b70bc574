"""The folders that TensorBoard reads: one for each training that finished or still runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from audionet.training import tensorboard_log
from audionet.training.tensorboard_log import Curves, finish_run, run_folder
from audionet.utils.plots import CurvePoint
from tests.support.sounds import ROOT

POINT = CurvePoint(1, "training", 0.5, 0.9)
TRAINING = """
import sys, time
from pathlib import Path
from audionet.training.tensorboard_log import Curves, run_folder
from audionet.utils.plots import CurvePoint
with run_folder(Path(sys.argv[1])) as folder:
    Curves(folder).add(CurvePoint(1, "training", 0.5, 0.9))
    print(folder, flush=True)
    time.sleep(600)
"""


def log(folder: Path) -> None:
    curves = Curves(folder)
    curves.add(POINT)
    curves.close()


def finished(parent: Path) -> Path:
    with run_folder(parent) as folder:
        log(folder)
    finish_run(folder)
    return folder


def test_a_killed_trainings_folder_goes_with_the_next_training(tmp_path: Path) -> None:
    kept = finished(tmp_path)
    environment = os.environ | {"PYTHONPATH": str(ROOT / "scripts")}
    with subprocess.Popen(
        [sys.executable, "-c", TRAINING, tmp_path], stdout=subprocess.PIPE, text=True, env=environment
    ) as training:
        assert training.stdout is not None
        running = Path(training.stdout.readline().strip())
        other = finished(tmp_path)
        assert list(running.glob("training/events.*"))  # TensorBoard shows it live
        training.send_signal(signal.SIGKILL)
    assert set(tmp_path.iterdir()) == {kept, other, running}
    last = finished(tmp_path)
    assert set(tmp_path.iterdir()) == {kept, other, last}
    assert {path.name for path in last.iterdir()} == {"training", "validation"}


def test_a_failed_trainings_folder_goes_at_once(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), run_folder(tmp_path) as folder:
        log(folder)
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_two_trainings_of_one_process_keep_their_folders(tmp_path: Path) -> None:
    with run_folder(tmp_path) as one, run_folder(tmp_path) as other:
        log(one)
        log(other)
    finish_run(one)
    finish_run(other)
    assert set(tmp_path.iterdir()) == {one, other}


def test_nothing_logged_leaves_no_folder(tmp_path: Path) -> None:
    with run_folder(tmp_path) as folder:
        assert folder.is_dir()
    finish_run(folder)
    assert list(tmp_path.iterdir()) == []


def test_a_training_of_another_machine_is_killed_when_it_logs_no_more(tmp_path: Path) -> None:
    day = 24 * 3600
    for name, age in (("live", 0), ("killed", day)):
        folder = tmp_path / name / "training"
        folder.mkdir(parents=True)
        (tmp_path / name / f"{tensorboard_log._MARK_PREFIX}other-host-1-0").touch()
        (folder / "events.out").touch()
        for path in (*(tmp_path / name).rglob("*"),):
            os.utime(path, (time.time() - 2 * day,) * 2)
        os.utime(folder / "events.out", (time.time() - age - 60,) * 2)
    kept = finished(tmp_path)
    assert set(tmp_path.iterdir()) == {kept, tmp_path / "live"}
