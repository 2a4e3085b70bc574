from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.audio.live import LiveSound
from audionet.audio.samples import to_int16
from audionet.cli.listen import main as listen_command
from audionet.errors import RecordingError, UsageError
from audionet.inference.diarization import diarize
from audionet.inference.live import Now, collect_speech, listen
from audionet.inference.predictor import Predictor
from tests.inference.test_predictor import sound as tone_of
from tests.support.chords import chord

RATE = 16_000


@pytest.fixture
def graph(tone_model: Path, tmp_path: Path) -> Path:
    for path in tone_model.parent.glob("retrained_*"):
        shutil.copy(path, tmp_path)
    return tmp_path / tone_model.name


def live(samples: np.ndarray, block: int = 1600) -> LiveSound:
    whole = to_int16(samples)
    return LiveSound(RATE, iter(np.split(whole, range(block, len(whole), block))))


def test_segments_are_those_of_a_timeline(graph: Path, tmp_path: Path) -> None:
    talk = np.concatenate([tone_of(300, 4), np.zeros(2 * RATE), tone_of(4800, 4, seed=1)])
    soundfile.write(tmp_path / "talk.wav", talk, RATE)
    predictor = Predictor(graph)
    found = list(listen(predictor, live(talk), lambda now: None))
    wanted = diarize(predictor, tmp_path / "talk.wav").segments
    assert [segment.label for segment in wanted] == ["a300", "e4800"]
    assert [segment.label for segment in found] == ["a300", "e4800"]
    for one, other in zip(found, wanted, strict=True):
        assert (one.start, one.end) == pytest.approx((other.start, other.end), abs=0.3)


def test_each_moment_is_answered_before_the_next_block_is_heard(graph: Path) -> None:
    heard, said = 0.0, []
    talk = to_int16(np.concatenate([tone_of(600, 2), np.zeros(RATE), tone_of(600, 2)]))

    def blocks() -> Iterator[np.ndarray]:
        nonlocal heard
        for block in np.split(talk, range(1600, len(talk), 1600)):
            heard += len(block) / RATE
            yield block

    def note(now: Now) -> None:
        assert 0 <= heard - now.seconds < 0.1
        said.append(now)

    list(listen(Predictor(graph), LiveSound(RATE, blocks()), note))
    assert len(said) == 1 + (len(talk) - RATE // 2) // round(RATE / 6)
    assert said[0].decision is not None
    assert said[0].decision.label == "b600"
    assert said[0].probability > 0.5
    silent = [now for now in said if 2.5 < now.seconds < 3]
    assert all(now.decision is None and now.level is None for now in silent)


def test_a_segment_is_said_soon_after_its_end(graph: Path) -> None:
    heard = [0.0]
    talk = to_int16(np.concatenate([tone_of(600, 3), tone_of(2400, 6)]))

    def blocks() -> Iterator[np.ndarray]:
        for block in np.split(talk, range(1600, len(talk), 1600)):
            heard[0] += len(block) / RATE
            yield block

    first = next(listen(Predictor(graph), LiveSound(RATE, blocks()), lambda now: None))
    assert first.label == "b600"
    assert heard[0] - first.end < 3


def test_all_labels_that_are_present_are_said(chord_model: Path) -> None:
    said: list[Now] = []
    found = list(listen(Predictor(chord_model), live(chord(("high", "low"), 3, seed=9)), said.append))
    assert {frozenset(now.present or ()) for now in said} == {frozenset({"high", "low"})}
    assert {segment.label for segment in found} == {"high", "low"}


def test_speech_is_collected_until_there_is_enough(graph: Path) -> None:
    progress: list[float] = []
    talk = np.concatenate([np.zeros(RATE), tone_of(600, 4)])
    recorded = collect_speech(Predictor(graph), live(talk), 2.0, progress.append)
    assert progress == [0, 0, 0.5, 1, 1.5, 2]
    assert recorded.frames == 3 * RATE


def test_the_command_plays_a_recording(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "talk.wav", tone_of(600, 2), RATE)
    flags = [f"--graph={graph}", f"--play={tmp_path / 'talk.wav'}", "--speed=0"]
    listen_command(flags)
    assert capsys.readouterr().out.split()[-1] == "b600"
    listen_command([*flags, "--json"])
    *answers, segment = map(json.loads, capsys.readouterr().out.splitlines())
    assert {(answer["type"], answer["label"]) for answer in answers} == {("now", "b600")}
    assert (segment["type"], segment["label"]) == ("segment", "b600")


def test_a_speaker_is_enrolled_by_the_microphone(
    graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write(tmp_path / "ann.wav", tone_of(5000, 12), RATE)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(2 * RATE), RATE)
    flags = [f"--graph={graph}", "--speed=0", "--enrol=ann"]
    listen_command([*flags, f"--play={tmp_path / 'ann.wav'}"])
    said = capsys.readouterr().out
    assert "  1 s of speech, 9 s more" in said
    assert "Enrolled: ann, from 10.0 s" in said
    assert list(Predictor(graph).enrolled) == ["ann"]
    with pytest.raises(RecordingError, match="no speech was heard"):
        listen_command([*flags, f"--play={tmp_path / 'nothing.wav'}"])


def test_less_than_a_chunk_is_said(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write(tmp_path / "short.wav", tone_of(600, 0.3), RATE)
    listen_command([f"--graph={graph}", f"--play={tmp_path / 'short.wav'}", "--speed=0"])
    assert "less sound than a chunk of 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize("flag", [["--speed=-1"], ["--play=a.wav", "--device=3"]])
def test_wrong_flags_are_said(graph: Path, flag: list[str]) -> None:
    with pytest.raises(UsageError):
        listen_command([f"--graph={graph}", *flag])
