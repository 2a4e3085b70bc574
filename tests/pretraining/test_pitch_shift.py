"""Voices at other pitches."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.pretraining import pitch_shift as repitching
from audionet.pretraining.manifest import Corpus, ManifestDataset, Utterance
from audionet.pretraining.pitch_shift import add_pitch_shifted_speakers, has_rubberband, shift_pitch
from audionet.utils.arrays import Int16Array

RATE = 16000

takes_rubberband = pytest.mark.skipif(not has_rubberband(), reason="takes ffmpeg with the rubberband filter")


def vowel(pitch: float, formant: float, seconds: float = 1.0) -> Int16Array:
    """Pulses at `pitch` Hz through a resonance at `formant` Hz."""
    pulses = np.zeros(round(seconds * RATE))
    pulses[np.arange(0, len(pulses), RATE / pitch).astype(int)] = 1
    times = np.arange(400) / RATE
    ringing = np.exp(-times * np.pi * 120) * np.sin(2 * np.pi * formant * times)
    sound = np.convolve(pulses, ringing)[: len(pulses)]
    return (sound / np.abs(sound).max() * 12000).astype(np.int16)


def formant_of(sound: Int16Array) -> float:
    """The centre of the sound's energy, Hz."""
    middle = sound[RATE // 4 : RATE * 3 // 4].astype(float) * np.hanning(RATE // 2)
    energy = np.square(np.abs(np.fft.rfft(middle)))
    return float(np.fft.rfftfreq(len(middle), 1 / RATE) @ energy / energy.sum())


def pitch_of(sound: Int16Array) -> float:
    """The lag at which sound is most like itself, as a frequency."""
    middle = sound[RATE // 4 : RATE * 3 // 4].astype(float)
    likeness = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    lags = slice(RATE // 400, RATE // 70)
    return RATE / (lags.start + int(likeness[lags].argmax()))


@takes_rubberband
@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_pitch_moves_and_formants_hold_back(ratio: float) -> None:
    sound = vowel(160, 1500)
    moved = shift_pitch(sound, RATE, ratio)
    assert abs(len(moved) - RATE) < RATE / 20
    assert pitch_of(moved) == pytest.approx(160 * ratio, rel=0.03)
    # Played faster they would move as far as the pitch does.
    assert abs(np.log(formant_of(moved) / formant_of(sound))) < 0.75 * abs(np.log(ratio))


def corpus_of(folder: Path, task: str) -> Corpus:
    """Two labels of two recordings each to learn from and one that is held out, and a dataset that asks for nothing."""
    folder.mkdir()
    lessons = []
    for number in range(6):
        path = folder / f"{number}.wav"
        soundfile.write(path, vowel(120 + 20 * number, 900), RATE)
        lessons.append(Utterance(path, 0 if number < 5 else 1, number % 2))
    asking = ManifestDataset("readers", "readers", task, re.compile("(?P<label>.)"), "CC0", "-", pitches=(0.9, 1.25))
    plain = ManifestDataset("others", "others", task, re.compile("(?P<label>.)"), "CC0", "-")
    return Corpus([asking, plain], {task: ["a", "b"]}, [*lessons[:4], lessons[5]], [lessons[4]])


@takes_rubberband
def test_readers_become_others_and_what_is_held_out_stays_unheard(tmp_path: Path) -> None:
    before = corpus_of(tmp_path / "readers", "speaker")
    after = add_pitch_shifted_speakers(before, tmp_path / "kept", 1)
    assert [source.name for source in after.sources] == ["readers", "others", "readers, at other pitches"]
    assert after.labels["speaker"] == ["a", "b", "a at 0.9", "a at 1.25", "b at 0.9", "b at 1.25"]
    assert after.training[: len(before.training)] == before.training
    assert after.held_out == before.held_out
    added = after.training[len(before.training) :]
    assert [(lesson.source, lesson.label) for lesson in added] == [(2, 2), (2, 3), (2, 4), (2, 5)] * 2
    assert not {lesson.path.name for lesson in added if lesson.path.name.startswith(("4-", "5-"))}
    for lesson in added:
        assert soundfile.info(lesson.path).samplerate == RATE
    made = {lesson.path: lesson.path.stat().st_mtime_ns for lesson in added}
    assert add_pitch_shifted_speakers(before, tmp_path / "kept", 1) == after
    assert {path: path.stat().st_mtime_ns for path in made} == made


@takes_rubberband
def test_words_stay_the_words_they_are(tmp_path: Path) -> None:
    after = add_pitch_shifted_speakers(corpus_of(tmp_path / "words", "word"), tmp_path / "kept", 1)
    assert after.labels["word"] == ["a", "b"]
    assert [lesson.label for lesson in after.training[-8:]] == [0, 0, 1, 1, 0, 0, 1, 1]


@takes_rubberband
def test_what_cannot_be_decoded_is_said_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = corpus_of(tmp_path / "readers", "speaker")
    broken = before.training[1].path
    broken.write_bytes(b"no sound")
    after = add_pitch_shifted_speakers(before, tmp_path / "kept", 1)
    assert len(after.training) == len(before.training) + 6
    assert str(broken) in capsys.readouterr().err


def test_without_the_filter_the_corpus_stays_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(repitching, "has_rubberband", lambda: False)
    before = corpus_of(tmp_path / "readers", "speaker")
    assert add_pitch_shifted_speakers(before, tmp_path / "kept", 1) is before
    assert "rubberband" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()
