from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import Recording
from audionet.cli import discover as discover_command
from audionet.discovery import voice_folders
from audionet.discovery.clustering import ClusterConfig
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.discover import Discovered, find_voices
from audionet.discovery.voice_folders import write_voices
from audionet.errors import DatasetError, ModelError, UsageError
from tests.support.sounds import SAMPLE_AUDIO
from tests.support.talk import RATE, write_talk

SPEAKERS = ("espeak-en-gb-scotland+f4", "flite-awb")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings in which two voices take turns of about six seconds."""
    return write_talk(tmp_path_factory.mktemp("talk"), SPEAKERS, recordings=2, turns=2, seconds=6.0)


@pytest.fixture
def config(model_dir: Path, tmp_path: Path) -> DiscoverConfig:
    return DiscoverConfig(out=tmp_path / "out", model_dir=model_dir, workers=1)


def write(folder: Path, config: DiscoverConfig) -> Discovered:
    found = find_voices(folder, config, ClusterConfig())
    write_voices(found, config.out, 1)
    return found


def test_voices_keep_their_numbers_from_file_to_file(talk: Path, config: DiscoverConfig) -> None:
    found = write(talk, config)
    assert found.names == ["voice_01", "voice_02"]
    for number in range(2):
        turns = [turn for turn in found.turns if turn.file == f"part {number}.wav"]
        heard = np.full(2700, -1)
        for turn in turns:
            heard[round(100 * turn.start) : round(100 * turn.end)] = turn.voice
        for place in range(4):
            middle = heard[round(100 * (0.5 + 6.5 * place)) + 30 : round(100 * (6.5 + 6.5 * place)) - 30]
            assert (middle == place % 2).mean() > 0.85
    rows = list(csv.DictReader(io.StringIO((config.out / "labels.csv").read_text("utf-8"))))
    assert len(rows) == len(found.turns) == len((config.out / "labels.rttm").read_text().splitlines())
    for voice in found.names:
        assert (config.out / "voices" / f"{voice}.jpg").stat().st_size > 1000
        turns = [turn for turn in found.turns if found.names[turn.voice] == voice]
        sounds = sorted((config.out / "voices" / voice).glob("*.wav"))
        assert len(sounds) == len(turns)
        assert sum(soundfile.info(path).duration for path in sounds) == pytest.approx(
            sum(turn.seconds for turn in turns), abs=0.01
        )


def test_the_command_says_what_to_do_next(
    talk: Path, tmp_path: Path, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = [str(talk), f"--out={tmp_path / 'out'}", f"--model_dir={model_dir}", "--workers=1", "--suggest=2"]
    discover_command.main(flags)
    shown = capsys.readouterr().out
    assert shown.startswith("2 voices in 2 recordings:")
    assert shown.count("Label first: part ") == 2
    assert f"--labels {tmp_path / 'out' / 'labels.csv'}" in shown
    (tmp_path / "out" / "labels.csv").unlink()
    with pytest.raises(UsageError, match="earlier run"):
        discover_command.main(flags)


def test_an_interrupted_discovery_leaves_nothing_and_can_be_run_again(
    talk: Path, tmp_path: Path, model_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = [str(talk), f"--out={tmp_path / 'out'}", f"--model_dir={model_dir}", "--workers=1"]

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with (
        monkeypatch.context() as patch,
        pytest.raises(KeyboardInterrupt, match=r"nothing was written to .*out: run it"),
    ):
        patch.setattr(voice_folders, "write_contact_sheet", interrupt)
        discover_command.main(flags)
    assert list((tmp_path / "out").iterdir()) == []
    discover_command.main(flags)
    assert len(list((tmp_path / "out" / "voices").glob("*.jpg"))) == 2


@pytest.mark.parametrize("out", ["talk/out", "talk", "talk/a/../b"])
def test_turns_are_not_written_among_the_recordings(tmp_path: Path, out: str) -> None:
    (tmp_path / "talk").mkdir()
    with pytest.raises(UsageError, match="lies in the folder"):
        discover_command.main([str(tmp_path / "talk"), f"--out={tmp_path / out}"])
    assert list((tmp_path / "talk").iterdir()) == []


def test_what_cannot_work_is_said_before_the_work(talk: Path, tmp_path: Path, model_dir: Path) -> None:
    out = f"--out={tmp_path / 'out'}"
    for folder in (talk / "part 0.wav", tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="is not a folder"):
            discover_command.main([str(folder), out])
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelError, match="nowhere"):
        discover_command.main([str(talk), out, f"--graph={tmp_path / 'nowhere.tflite'}", f"--model_dir={model_dir}"])


def test_one_name_that_is_no_text_spoils_no_other_row(talk: Path, tmp_path: Path, config: DiscoverConfig) -> None:
    (tmp_path / "named").mkdir()
    for name in ("ü.wav", "n\udce9.wav"):
        (tmp_path / "named" / name).symlink_to(talk / "part 0.wav")
    found = write(tmp_path / "named", config)
    rows = list(csv.DictReader(io.StringIO((config.out / "labels.csv").read_text("utf-8"))))
    assert {row["file"] for row in rows} == {"ü.wav", "n\\udce9.wav"}
    assert len(list((config.out / "voices").glob("*/*.wav"))) == len(found.turns)


def test_a_model_names_the_voices_that_it_knows(
    talk: Path, config: DiscoverConfig, tone_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By most of a voice's surest turns; the others keep their numbers."""
    import dataclasses

    from audionet.discovery import discover as module

    found = find_voices(talk, config, ClusterConfig())
    second = [round(RATE * turn.seconds) for turn in found.turns if turn.voice == 1]

    class Answers:
        def predict(self, samples: Sequence[int], rate: int) -> object:
            is_second = any(abs(len(samples) - length) < 3 for length in second)
            return type("Answer", (), {"label": "Ann" if is_second else None})()

    monkeypatch.setattr(module, "load_model", lambda path: Answers())
    named = dataclasses.replace(config, graph=tone_model)
    assert find_voices(talk, named, ClusterConfig()).names == ["voice_01", "Ann"]


def test_where_nobody_speaks_one_line_says_so(tmp_path: Path, config: DiscoverConfig) -> None:
    for name, sound in (
        ("noise", 0.05 * np.random.default_rng(0).standard_normal(6 * RATE)),
        ("silence", np.zeros(4 * RATE)),
    ):
        folder = tmp_path / name
        folder.mkdir()
        soundfile.write(folder / "x.wav", sound, RATE)
        with pytest.raises(DatasetError, match=r"no speech|no recording could be used"):
            find_voices(folder, config, ClusterConfig())
    with pytest.raises(UsageError, match="holds no recordings"):
        (tmp_path / "empty").mkdir()
        find_voices(tmp_path / "empty", config, ClusterConfig())


def test_two_seconds_of_one_voice_are_one_voice(tmp_path: Path, config: DiscoverConfig) -> None:
    clip = next(iter(sorted((SAMPLE_AUDIO / "flite-awb").glob("*.mp3"))))
    (sound,) = Recording(clip, SpectrogramConfig()).excerpts([(1.0, 3.0)])
    (tmp_path / "short").mkdir()
    soundfile.write(tmp_path / "short" / "x.wav", sound, RATE)
    found = find_voices(tmp_path / "short", config, ClusterConfig())
    assert found.names == ["voice_01"]
    assert 1.0 < sum(turn.seconds for turn in found.turns) <= 2.0


def test_what_can_be_decoded_of_a_damaged_recording_is_used(
    talk: Path, tmp_path: Path, config: DiscoverConfig, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cut").mkdir()
    sound, _ = soundfile.read(talk / "part 0.wav")
    soundfile.write(tmp_path / "cut" / "x.flac", sound, RATE)
    content = (tmp_path / "cut" / "x.flac").read_bytes()
    (tmp_path / "cut" / "x.flac").write_bytes(content[: len(content) * 2 // 3])
    found = write(tmp_path / "cut", config)
    assert found.turns[-1].end < 20
    assert len(list((config.out / "voices").glob("*/*.wav"))) == len(found.turns)
    assert "x.flac" in caplog.text
