"""The same work on a real Dask cluster: a scheduler and two worker processes, started from another folder."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.backbones.bottlenecks import compute_bottlenecks
from audionet.backbones.registry import Backbone
from audionet.data.config import DataConfig
from audionet.data.dataset import find_images
from audionet.data.render import render_folder
from audionet.errors import AudioNetError
from audionet.utils.dask_pool import _prepare_workers
from tests.support.files import files_of
from tests.support.sounds import write_tone

SHORT = SpectrogramConfig(chunk_seconds=0.25)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def started(folder: Path, *command: object) -> Iterator[subprocess.Popen[bytes]]:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    process = subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        cwd=folder,
        env=environment,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@pytest.fixture
def scheduler(tmp_path: Path) -> Iterator[str]:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    port = free_port()
    flags = ("--host", "127.0.0.1", "--port", port, "--no-dashboard")
    with started(elsewhere, "distributed.cli.dask_scheduler", *flags):
        yield f"tcp://127.0.0.1:{port}"


def worker(folder: Path, scheduler: str) -> Any:
    flags = ("--nthreads", 1, "--no-dashboard", "--local-directory", folder / "scratch")
    return started(folder, "distributed.cli.dask_worker", scheduler, *flags)


def folders(path: Path, audio: Path, **changes: Any) -> DataConfig:
    return DataConfig(audio, path / "wav", path / "image", **({"workers": 2} | changes))


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    for label in range(4):
        for number in range(10):
            write_tone(tmp_path / "audio" / f"voice {label}" / f"{number}.wav", 200 + 37 * label, seconds=20)
    folder = tmp_path / "audio" / "voice 0"
    (folder / "empty.mp3").touch()
    (folder / "words.wav").write_bytes(b"no sound")
    (folder / "no film.mp4").write_bytes(b"no film")
    (folder / "cut.wav").write_bytes((folder / "0.wav").read_bytes()[:100_000])
    (folder / "away.wav").symlink_to("nowhere")
    (folder / "loop").symlink_to(folder)
    soundfile.write(folder / "silent.flac", np.zeros(16_000), 16_000)
    soundfile.write(folder / "nan.wav", np.full(16_000, np.nan), 16_000, subtype="FLOAT")
    return tmp_path / "audio"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:distributed", "ignore::DeprecationWarning:tornado")
def test_a_cluster_makes_the_same_bytes_even_when_a_worker_is_killed(
    tmp_path: Path, audio: Path, scheduler: str, backbone: Backbone
) -> None:
    here, there = folders(tmp_path / "here", audio), folders(tmp_path / "there", audio, scheduler=scheduler)
    recordings = files_of(audio)
    local = render_folder(here, SHORT)
    elsewhere = tmp_path / "elsewhere"
    with worker(elsewhere, scheduler), worker(elsewhere, scheduler) as victim:

        def kill_when_at_work() -> None:
            while len(list(there.image_dir.rglob("*.jpg"))) < 300:
                time.sleep(0.01)
            os.killpg(victim.pid, signal.SIGKILL)

        killer = threading.Thread(target=kill_when_at_work)
        killer.start()
        remote = render_folder(there, SHORT)
        killer.join()
        assert victim.wait() == -signal.SIGKILL
        assert remote.labels == local.labels
        assert len(local.labels["voice 0"].skipped) == 6
        assert files_of(there.wav_dir, there.image_dir) == files_of(here.wav_dir, here.image_dir)
        assert render_folder(there, SHORT).rendered == 0
        assert files_of(audio) == recordings

        images = find_images(there.image_dir)
        mine = compute_bottlenecks(images, backbone, tmp_path / "mine", workers=2)
        theirs = compute_bottlenecks(images, backbone, tmp_path / "theirs", workers=2, scheduler=scheduler)
        for field in ("size", "network", "bands", "mfcc"):
            assert theirs.records.take(field).tobytes() == mine.records.take(field).tobytes()


class OtherMachine:
    """Stands in for Dask's client: one worker, which does not see some of the folders or has other versions."""

    def __init__(self, hidden: Path | None = None, **versions: str) -> None:
        self.hidden, self.versions = hidden, versions

    def upload_file(self, name: str) -> None:
        assert name.endswith(".zip")

    def run(self, function: Any, digest: str, signs: list[Path]) -> dict[str, Any]:
        same, missing, versions = function(digest, signs)
        assert not missing
        unseen = [sign.parent for sign in signs if sign.parent == self.hidden]
        return {"tcp://other:1": (same, unseen, versions | self.versions)}


def test_what_another_machine_lacks_is_said(tmp_path: Path, audio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    writes = tmp_path / "out"
    writes.mkdir()
    for hidden in (audio, writes):
        with pytest.raises(AudioNetError, match=f"worker at tcp://other:1 does not see {hidden}: .* shared"):
            _prepare_workers(OtherMachine(hidden), [audio], [writes])
    before = files_of(audio)
    _prepare_workers(OtherMachine(pillow="9.0"), [audio], [writes])
    assert "tcp://other:1 has pillow 9.0 (here " in capsys.readouterr().err
    assert files_of(audio) == before
    assert not list(writes.iterdir())


@pytest.mark.slow
def test_an_address_without_scheduler_and_a_cluster_without_workers_are_said(
    tmp_path: Path, audio: Path, scheduler: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audionet.utils.dask_pool._TIMEOUT_SECONDS", 2.0)
    with pytest.raises(AudioNetError, match="has no workers: start some with"):
        render_folder(folders(tmp_path / "out", audio, scheduler=scheduler), SHORT)
    with pytest.raises(AudioNetError, match=r"no Dask scheduler answers at tcp://127\.0\.0\.1:1 "):
        render_folder(folders(tmp_path / "out", audio, scheduler="tcp://127.0.0.1:1"), SHORT)
    with pytest.raises(AudioNetError, match="no Dask scheduler answers at nonsense"):
        render_folder(folders(tmp_path / "out", audio, scheduler="nonsense://x"), SHORT)
