"""Prepared sounds: one level, one rate, one file, and what happens to recordings that cannot be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.pretraining import sounds
from audionet.pretraining.sounds import LONGEST_SECONDS, prepare_sounds, to_one_level
from tests.support.sounds import tone, write_tone


def spectrum_peak(samples: np.ndarray) -> float:
    power = np.abs(np.fft.rfft(samples.astype(np.float64) * np.hanning(len(samples))))
    return float(power.argmax() * 16_000 / len(samples))


def test_recordings_are_resampled_to_one_rate_and_level(tmp_path: Path) -> None:
    quiet = tmp_path / "quiet.wav"
    soundfile.write(quiet, 0.01 * tone(440, 1.0), 16_000)
    long = tmp_path / "long.wav"
    soundfile.write(long, np.tile(tone(200, 1.0), LONGEST_SECONDS + 2), 16_000)
    paths = [write_tone(tmp_path / "high.wav", 1000, 2, rate=44_100), quiet, long]
    high, raised, cut = (sound.samples() for sound in prepare_sounds(paths, tmp_path / "prepared", 1))
    assert len(high) == pytest.approx(32_000, abs=2)
    assert spectrum_peak(high) == pytest.approx(1000, abs=2)
    assert spectrum_peak(raised) == pytest.approx(440, abs=2)
    assert {int(np.abs(samples).max()) for samples in (high, raised, cut)} == {16_384}
    assert len(cut) == LONGEST_SECONDS * 16_000


def test_silence_stays_silence() -> None:
    assert not to_one_level(np.zeros(10, np.int16)).any()
    assert to_one_level(np.array([-32768, 16384], np.int16)).tolist() == [-16384, 8192]


def test_they_are_prepared_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    damaged = tmp_path / "damaged.flac"
    damaged.write_bytes(b"fLaC" + bytes(100))
    paths = [write_tone(tmp_path / "a.wav"), damaged]
    first = prepare_sounds(paths, tmp_path / "prepared", 1)
    assert "damaged.flac: cannot be decoded; left out" in capsys.readouterr().err
    assert len(first[1].samples()) == 0
    assert not first[0].samples().flags.writeable
    monkeypatch.setattr(sounds, "_prepare", lambda *_: pytest.fail("prepared again"))
    assert prepare_sounds(paths, tmp_path / "prepared", 1) == first


def test_a_damaged_or_cut_off_file_is_prepared_again(tmp_path: Path) -> None:
    paths = [write_tone(tmp_path / "a.wav"), write_tone(tmp_path / "b.wav", 300)]
    first = prepare_sounds(paths, tmp_path / "prepared", 1)
    (edges,) = (tmp_path / "prepared").glob("*.npy")
    for damage in (lambda: edges.write_bytes(b"x"), lambda: first[0].file.write_bytes(bytes(10))):
        damage()
        sounds._mapped.cache_clear()
        again = prepare_sounds(paths, tmp_path / "prepared", 1)
        assert again[1].stop - again[1].start == len(again[1].samples()) > 0


def test_a_crashed_worker_leaves_nothing_to_be_taken_for_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    died = sounds.WorkerDied()
    monkeypatch.setattr(sounds, "map_unordered", lambda pool, f, items, split: ((item, died) for item in items))
    path = write_tone(tmp_path / "a.wav")
    assert len(prepare_sounds([path], tmp_path / "prepared", 1)[0].samples()) == 0
    assert "a.wav: crashed the process that read it; left out" in capsys.readouterr().err
    monkeypatch.undo()
    assert len(prepare_sounds([path], tmp_path / "prepared", 1)[0].samples()) > 0
