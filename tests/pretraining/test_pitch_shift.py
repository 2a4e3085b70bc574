"""Pitch-shifted training speakers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.pretraining import pitch_shift
from audionet.pretraining.manifest import Corpus, ManifestDataset, Utterance
from audionet.pretraining.pitch_shift import add_pitch_shifted_speakers, has_rubberband, shift_pitch
from audionet.utils.arrays import Int16Array
from audionet.utils.expressions import Expression

RATE = 16000

needs_rubberband = pytest.mark.skipif(not has_rubberband(), reason="needs ffmpeg with the rubberband filter")


def vowel(pitch: float, formant: float, seconds: float = 1.0) -> Int16Array:
    """Synthesize pulses at `pitch` Hz through a resonance at `formant` Hz."""
    pulses = np.zeros(round(seconds * RATE))
    pulses[np.arange(0, len(pulses), RATE / pitch).astype(int)] = 1
    times = np.arange(400) / RATE
    resonance = np.exp(-times * np.pi * 120) * np.sin(2 * np.pi * formant * times)
    sound = np.convolve(pulses, resonance)[: len(pulses)]
    return (sound / np.abs(sound).max() * 12000).astype(np.int16)


def formant_of(sound: Int16Array) -> float:
    """Return the spectral centroid in Hz."""
    middle = sound[RATE // 4 : RATE * 3 // 4].astype(float) * np.hanning(RATE // 2)
    energy = np.square(np.abs(np.fft.rfft(middle)))
    return float(np.fft.rfftfreq(len(middle), 1 / RATE) @ energy / energy.sum())


def pitch_of(sound: Int16Array) -> float:
    """Return the lag of the autocorrelation's maximum, as a frequency in Hz."""
    middle = sound[RATE // 4 : RATE * 3 // 4].astype(float)
    correlation = np.correlate(middle, middle, "full")[len(middle) - 1 :]
    lags = slice(RATE // 400, RATE // 70)
    return RATE / (lags.start + int(correlation[lags].argmax()))


@needs_rubberband
@pytest.mark.parametrize("ratio", [0.8, 1.25])
def test_formants_move_less_than_the_pitch(ratio: float) -> None:
    sound = vowel(160, 1500)
    shifted = shift_pitch(sound, RATE, ratio)
    assert abs(len(shifted) - RATE) < RATE / 20
    assert pitch_of(shifted) == pytest.approx(160 * ratio, rel=0.03)
    # Speed perturbation would move them as far as the pitch.
    assert abs(np.log(formant_of(shifted) / formant_of(sound))) < 0.75 * abs(np.log(ratio))


def corpus_of(folder: Path, task: str) -> Corpus:
    """Create a corpus of two datasets, with one held-out recording; only the first dataset asks for pitch shifts."""
    folder.mkdir()
    utterances = []
    for number in range(6):
        path = folder / f"{number}.wav"
        soundfile.write(path, vowel(120 + 20 * number, 900), RATE)
        utterances.append(Utterance(path, 0 if number < 5 else 1, number % 2))
    asking = ManifestDataset("readers", "readers", task, Expression("(?P<label>.)"), "CC0", "-", pitches=(0.9, 1.25))
    plain = ManifestDataset("others", "others", task, Expression("(?P<label>.)"), "CC0", "-")
    return Corpus([asking, plain], {task: ["a", "b"]}, [*utterances[:4], utterances[5]], [utterances[4]])


@needs_rubberband
def test_copies_are_new_speakers_and_held_out_recordings_have_none(tmp_path: Path) -> None:
    before = corpus_of(tmp_path / "readers", "speaker")
    after = add_pitch_shifted_speakers(before, tmp_path / "kept", 1)
    assert [dataset.name for dataset in after.datasets] == ["readers", "others", "readers, at other pitches"]
    assert after.labels["speaker"] == ["a", "b", "a at 0.9", "a at 1.25", "b at 0.9", "b at 1.25"]
    assert after.training[: len(before.training)] == before.training
    assert after.held_out == before.held_out
    added = after.training[len(before.training) :]
    assert [(utterance.dataset, utterance.label) for utterance in added] == [(2, 2), (2, 3), (2, 4), (2, 5)] * 2
    assert not {utterance.path.name for utterance in added if utterance.path.name.startswith(("4-", "5-"))}
    for utterance in added:
        assert soundfile.info(utterance.path).samplerate == RATE
    times = {utterance.path: utterance.path.stat().st_mtime_ns for utterance in added}
    assert add_pitch_shifted_speakers(before, tmp_path / "kept", 1) == after
    assert {path: path.stat().st_mtime_ns for path in times} == times


@needs_rubberband
def test_copies_of_words_keep_their_label(tmp_path: Path) -> None:
    after = add_pitch_shifted_speakers(corpus_of(tmp_path / "words", "word"), tmp_path / "kept", 1)
    assert after.labels["word"] == ["a", "b"]
    assert [utterance.label for utterance in after.training[-8:]] == [0, 0, 1, 1, 0, 0, 1, 1]


@needs_rubberband
def test_undecodable_recordings_are_logged_and_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = corpus_of(tmp_path / "readers", "speaker")
    broken = before.training[1].path
    broken.write_bytes(b"no sound")
    after = add_pitch_shifted_speakers(before, tmp_path / "kept", 1)
    assert len(after.training) == len(before.training) + 6
    assert str(broken) in capsys.readouterr().err


def test_without_the_filter_the_corpus_is_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(pitch_shift, "has_rubberband", lambda: False)
    before = corpus_of(tmp_path / "readers", "speaker")
    assert add_pitch_shifted_speakers(before, tmp_path / "kept", 1) is before
    assert "rubberband" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()
