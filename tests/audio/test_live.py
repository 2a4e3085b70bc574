from __future__ import annotations

import builtins
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.live import cut_windows, open_microphone, play_file
from audionet.errors import RecordingError, UnavailableError, UsageError
from tests.support.sounds import write_tone

RATE = 100


@given(st.lists(st.integers(0, 70), max_size=12), st.integers(1, 60), st.integers(1, 60))
def test_windows_are_those_of_the_whole_sound_whatever_blocks_it_comes_in(
    lengths: list[int], window: int, step: int
) -> None:
    sound = np.arange(sum(lengths), dtype=np.int16)
    blocks = np.split(sound, np.cumsum(lengths))
    found = list(cut_windows(blocks, RATE, window / RATE, min(step, window) / RATE))
    starts = range(0, len(sound) - window + 1, min(step, window))
    assert [start for start, _ in found] == [place / RATE for place in starts]
    for (_, samples), place in zip(found, starts, strict=True):
        assert (samples == sound[place : place + window]).all()


def test_a_window_comes_as_soon_as_its_last_sample_has_arrived() -> None:
    arrived = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal arrived
        for _ in range(30):
            arrived += 10
            yield np.zeros(10, np.int16)

    for start, samples in cut_windows(blocks(), RATE, 1.0, 0.5):
        assert 0 <= arrived - (start * RATE + len(samples)) < 10


def test_a_file_is_played_whole_in_blocks_of_a_tenth_of_a_second(tmp_path: Path) -> None:
    path = write_tone(tmp_path / "a.wav", seconds=1.23)
    with play_file(path, 0) as sound:
        blocks = list(sound.blocks)
    assert sound.rate == 16_000
    assert {len(block) for block in blocks[:9]} == {1600}
    assert sum(map(len, blocks)) == round(1.23 * 16_000)
    (tmp_path / "no.wav").write_bytes(b"nothing")
    with pytest.raises(RecordingError), play_file(tmp_path / "no.wav", 0):
        pass


class FakePortAudio(SimpleNamespace):
    """Microphone that hears three blocks, or none that there is."""

    class PortAudioError(Exception):
        pass

    def query_devices(self, device: object, kind: str) -> dict[str, float]:
        if device not in (None, 3, "desk"):
            raise ValueError(f"No input device matching {device!r}")
        if not self.present:
            raise self.PortAudioError("Error querying device -1")
        return {"default_samplerate": 48_000.0}

    def InputStream(self, rate: int, block: int, device: object, callback: Any, **format: Any) -> Any:  # noqa: N802
        assert (rate, block, format) == (48_000, 4800, {"channels": 1, "dtype": "int16"})
        for value in (1, 2, 3):
            callback(np.full((4800, 1), value, np.int16), 4800, None, None)
        return self

    def __enter__(self) -> FakePortAudio:
        return self

    def __exit__(self, *_: object) -> None:
        self.present = False


@pytest.mark.parametrize("device", [None, "3", "desk"])
def test_a_microphone_is_heard(device: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakePortAudio(present=True))
    monkeypatch.setattr("audionet.audio.live._SILENT_SECONDS", 0.01)
    heard = []
    with pytest.raises(UnavailableError, match="still connected"), open_microphone(device) as sound:
        for block in sound.blocks:
            heard.append(int(block[0]))
    assert heard == [1, 2, 3]


@pytest.mark.parametrize(
    ("device", "message"), [(None, "no microphone was found"), ("kitchen", "device kitchen is no microphone")]
)
def test_no_microphone_is_said_with_the_way_out(
    device: str | None, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", FakePortAudio(present=False))
    with pytest.raises(UsageError, match=f"{message}.*play"), open_microphone(device):
        pass


@pytest.mark.parametrize(
    ("error", "message"),
    [(ModuleNotFoundError("sounddevice"), r"audionet\[listen\]"), (OSError("PortAudio"), "libportaudio2")],
)
def test_what_to_install_is_said(error: Exception, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name == "sounddevice":
            raise error
        return real(name, *rest, **more)

    monkeypatch.delitem(sys.modules, "sounddevice", raising=False)
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=message), open_microphone(None):
        pass
