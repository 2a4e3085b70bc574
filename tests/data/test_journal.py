"""Which recordings a run renders: those of before that are read as then are kept."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.augment.config import AugmentConfig
from audionet.data.config import DataConfig
from audionet.data.journal import JOURNAL_NAME, Outcome, join_pieces, read_journal
from audionet.data.render import Result, render_folder
from tests.support.encoding import encode
from tests.support.sounds import SAMPLE_AUDIO, tone, write_tone

SECOND = SpectrogramConfig(chunk_seconds=1.0)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    return DataConfig(tmp_path / "audio", tmp_path / "wav", tmp_path / "image", workers=1)


def forget_decoding(data: DataConfig) -> None:
    """Take from the journals what the version before did not write."""
    for path in data.image_dir.glob(f"*/{JOURNAL_NAME}"):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in e.items() if k != "decoding"}) + "\n" for e in lines))


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.jpg")}


def test_what_is_read_as_before_is_kept(data: DataConfig) -> None:
    write_tone(data.audio_dir / "ann" / "a.wav", seconds=2)
    (data.audio_dir / "ann" / "b.mp3").write_bytes((SAMPLE_AUDIO / "flite-slt" / "harbour.mp3").read_bytes())
    soundfile.write(data.audio_dir / "ann" / "c.flac", np.stack([tone(500, 2), tone(700, 2)], axis=1), 16_000)
    soundfile.write(data.audio_dir / "ann" / "d.wav", tone(500, 2), 16_000, subtype="FLOAT")
    render_folder(data, SECOND, AugmentConfig(augment=1))
    before = times(data.image_dir)
    forget_decoding(data)
    result = render_folder(data, SECOND, AugmentConfig(augment=1))
    assert (result.rendered, result.unchanged, result.varied, result.removed) == (0, 4, 0, 0)
    assert times(data.image_dir) == before
    assert render_folder(data, SECOND, AugmentConfig(augment=1)).unchanged == 4


def test_what_is_read_otherwise_is_rendered_again(data: DataConfig) -> None:
    write_tone(data.audio_dir / "ann" / "same.wav", seconds=2)
    soundfile.write(data.audio_dir / "ann" / "loud.wav", tone(500, 2, amplitude=3), 16_000, subtype="FLOAT")
    left = tone(500, 2)
    soundfile.write(data.audio_dir / "ann" / "inverted.wav", np.stack([left, -left], axis=1), 16_000)
    encode(data.audio_dir / "ann" / "talk.m4a", left, "aac")
    render_folder(data, SECOND)
    forget_decoding(data)
    result = render_folder(data, SECOND)
    assert (result.rendered, result.unchanged) == (3, 1)
    assert render_folder(data, SECOND).unchanged == 4


def test_with_levels_what_has_a_constant_is_rendered_again(data: DataConfig) -> None:
    config = dataclasses.replace(SECOND, trim_silence=40.0)
    (data.audio_dir / "ann").mkdir(parents=True)
    soundfile.write(data.audio_dir / "ann" / "plain.wav", tone(500, 2), 16_000)
    soundfile.write(data.audio_dir / "ann" / "offset.wav", tone(500, 2) + 0.1, 16_000)
    render_folder(data, config)
    forget_decoding(data)
    result = render_folder(data, config)
    assert (result.rendered, result.unchanged) == (1, 1)


def stereo(data: DataConfig) -> None:
    (data.audio_dir / "ann").mkdir(parents=True)
    soundfile.write(
        data.audio_dir / "ann" / "call.wav", np.stack([tone(500, 2), tone(900, 3)[:32_000]], axis=1), 16_000
    )
    write_tone(data.audio_dir / "ann" / "mono.wav", seconds=2)


def loudest(path: Path) -> int:
    samples, _ = soundfile.read(path)
    return int(np.abs(np.fft.rfft(samples)).argmax())


def test_channels_become_recordings_of_their_own(data: DataConfig) -> None:
    stereo(data)
    split = dataclasses.replace(data, channel="split")
    result = render_folder(split, SECOND)
    assert (result.labels["ann"].recordings, result.labels["ann"].chunks) == (3, 6)
    assert loudest(data.wav_dir / "ann" / "call.wav#1_nohash_0000.wav") == 500
    assert loudest(data.wav_dir / "ann" / "call.wav#2_nohash_0001.wav") == 900
    assert render_folder(split, SECOND).unchanged == 3
    assert render_folder(data, SECOND).labels["ann"].recordings == 2  # and the channels are removed
    assert not list(data.wav_dir.rglob("*#*"))


@pytest.mark.parametrize(("channel", "frequency"), [("1", 500), ("2", 900)])
def test_one_channel_of_each_recording(data: DataConfig, channel: str, frequency: int) -> None:
    stereo(data)
    result = render_folder(dataclasses.replace(data, channel=channel), SECOND)
    assert result.labels["ann"].chunks == 4
    assert loudest(data.wav_dir / "ann" / "call.wav_nohash_0000.wav") == frequency
    assert loudest(data.wav_dir / "ann" / "mono.wav_nohash_0000.wav") == 440


def test_a_channel_that_a_recording_lacks_is_named(data: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    stereo(data)
    result = render_folder(dataclasses.replace(data, channel="3"), SECOND)
    (skipped,) = result.labels["ann"].skipped
    assert skipped == {"file": "call.wav", "reason": "has 2 channels, so none with the number 3"}


def test_another_channel_is_another_picture(data: DataConfig) -> None:
    stereo(data)
    render_folder(data, SECOND)
    assert render_folder(dataclasses.replace(data, channel="2"), SECOND).rendered == 2


MAC, OTHERS = "Jose\u0301", "Jos\u00e9"


def counts(result: Result) -> dict[str, int]:
    return {label: summary.recordings for label, summary in result.labels.items()}


def test_one_name_in_two_encodings_is_one_label(data: DataConfig, capsys: pytest.CaptureFixture[str]) -> None:
    for label, file in ((MAC, "a.wav"), (OTHERS, "a.wav"), (OTHERS, "b.wav"), ("ann", "a.wav")):
        write_tone(data.audio_dir / label / file, 300 + len(label) * 50, seconds=2)
    result = render_folder(data, SECOND)
    assert counts(result) == {"ann": 1, MAC: 3}
    assert "2 folders are named" in capsys.readouterr().err
    assert sorted(path.name for path in data.image_dir.iterdir() if path.is_dir()) == [MAC, "ann"]
    assert len(list(data.image_dir.rglob("*.jpg"))) == 8
    assert render_folder(data, SECOND).unchanged == 4
    (data.audio_dir / OTHERS / "b.wav").unlink()
    assert counts(render_folder(data, SECOND)) == {"ann": 1, MAC: 2}
    assert len(list(data.image_dir.rglob("*.jpg"))) == 6


def test_a_label_of_before_in_the_other_encoding_goes(data: DataConfig) -> None:
    write_tone(data.audio_dir / MAC / "a.wav", seconds=2)
    render_folder(data, SECOND)
    write_tone(data.audio_dir / OTHERS / "a.wav", 900, seconds=2)
    (data.audio_dir / MAC / "a.wav").unlink()
    (data.audio_dir / MAC).rmdir()
    assert counts(render_folder(data, SECOND)) == {OTHERS: 1}
    assert [path.name for path in data.image_dir.iterdir() if path.is_dir()] == [OTHERS]


def test_files_that_are_no_recordings_are_counted(data: DataConfig) -> None:
    write_tone(data.audio_dir / "ann" / "a.wav", seconds=2)
    for number in range(5):
        (data.audio_dir / "ann" / f"{number}.txt").write_text("x")
    (data.audio_dir / "ann" / "cover.png").write_text("x")
    result = render_folder(data, SECOND)
    assert result.labels["ann"].skipped == [
        {
            "file": "",
            "reason": "6 files of other kinds than recordings (5 .txt, 1 .png): convert any that hold sound to WAV",
        }
    ]


def test_pieces_are_joined_past_remarks_up_to_damage() -> None:
    pieces = [
        Outcome(10, 5, [1], "track 1 of 2", "digest"),
        Outcome(20, 5, [], "2 damaged frames at 0:12"),
        Outcome(25, 2, [], "cut short", ended=True),
        Outcome(40, 5, []),
    ]
    joined = join_pieces(pieces)
    assert (joined.seconds, joined.chunks, joined.silent, joined.digest) == (25, 12, [1], "digest")
    assert joined.note == "track 1 of 2; 2 damaged frames at 0:12; cut short"
    assert join_pieces(pieces[:2]).chunks == 10


def test_damage_to_a_line_is_damage_to_that_line(data: DataConfig) -> None:
    for name in ("a", "b", "c"):
        write_tone(data.audio_dir / "ann" / f"{name}.wav", 440, 2.0)
    assert render_folder(data, SECOND).rendered == 3
    path = data.image_dir / "ann" / JOURNAL_NAME
    entries, begun = read_journal(path)
    assert set(entries) == begun == {"a.wav", "b.wav", "c.wav"}
    first, second, third = path.read_bytes().splitlines(keepends=True)
    for damaged in (
        *(b"\xff" + second[1:], second[:30] + b"\n", b"[" * 9000 + b"\n", b"\0" + second),
        *(second.replace(b'"chunks": 2', b'"chunks": ' + value) for value in (b"-1", b'"2"', b"1e999", b"9" * 400)),
        *(second.replace(b'"silent": []', b'"silent": ' + value) for value in (b"[2]", b"[-1]", b"[0.5]", b"{}")),
    ):
        path.write_bytes(first + damaged + third)
        assert set(read_journal(path)[0]) == {"a.wav", "c.wav"}
    assert render_folder(data, SECOND).rendered == 1
