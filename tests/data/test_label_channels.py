"""Channels that label files name."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.data.config import DataConfig
from audionet.data.dataset import find_images
from audionet.data.label_table import read_label_table
from audionet.data.naming import BACKGROUND
from audionet.data.render import render_folder
from audionet.data.spans import WHOLE
from audionet.errors import DatasetError
from tests.support.sounds import tone

RTTM = "SPEAKER {} {} {} {} <NA> <NA> {} <NA> <NA>\n"


@pytest.fixture
def audio(tmp_path: Path) -> Path:
    """A call with a tone on each channel, and a recording in mono."""
    (tmp_path / "audio").mkdir()
    soundfile.write(tmp_path / "audio" / "call.wav", np.stack([tone(300, 2.0), tone(1200, 2.0)], axis=1), 16_000)
    soundfile.write(tmp_path / "audio" / "mono.wav", tone(600, 2.0), 16_000)
    return tmp_path / "audio"


def parts(audio: Path, text: str, **options) -> dict[str, dict[str, list[tuple[float, float]]]]:
    path = audio.parent / ("labels.rttm" if text.startswith("SPEAKER") else "labels.csv")
    path.write_text(text, "utf-8")
    return read_label_table(path, audio, **options).parts


def test_labels_of_a_channel_are_those_of_this_channel_alone(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = RTTM.format("call", 1, 0, 2, "ann") + RTTM.format("call", 2, 0, 2, "bob")
    rows += RTTM.format("mono", 1, 0, 1, "cy") + RTTM.format("mono", 2, 1, 1, "dan")
    assert parts(audio, rows) == {
        "ann": {"call.wav#1": [(0.0, 2.0)]},
        "bob": {"call.wav#2": [(0.0, 2.0)]},
        "cy": {"mono.wav": [(0.0, 1.0)]},
    }
    assert "mono.wav: has one channel: 1 row of channel 2 left out" in caplog.text


@pytest.mark.parametrize("channel", ["0", "1", "", "music"])
def test_a_channel_that_says_nothing_means_the_recording(audio: Path, channel: str) -> None:
    rows = f"file,channel,label\ncall.wav,{channel},ann\nmono.wav,{channel},ann\n"
    assert parts(audio, rows) == {"ann": {"call.wav": [WHOLE], "mono.wav": [WHOLE]}}


def test_the_second_channel_alone_is_meant(audio: Path) -> None:
    assert parts(audio, "file,channel,label\ncall.wav,2,bob\n") == {"bob": {"call.wav#2": [WHOLE]}}


def test_split_takes_every_channel_at_its_word(audio: Path) -> None:
    assert parts(audio, "file,channel,label\ncall.wav,1,ann\nmono.wav,1,cy\n", channel="split") == {
        "ann": {"call.wav#1": [WHOLE]},
        "cy": {"mono.wav": [WHOLE]},
    }
    both = {"call.wav#1": [WHOLE], "call.wav#2": [WHOLE]}
    assert parts(audio, "file,label\ncall.wav,ann\n", channel="split") == {"ann": both}


def test_a_row_without_a_channel_labels_all_of_them(audio: Path) -> None:
    rows = "file,channel,start,end,label\ncall.wav,,0,1,ann\ncall.wav,2,0.5,2,bob\nmono.wav,,0,1,ann\n"
    assert parts(audio, rows) == {
        "ann": {"call.wav#1": [(0.0, 1.0)], "call.wav#2": [(0.0, 0.5)], "mono.wav": [(0.0, 1.0)]},
        "bob": {"call.wav#2": [(1.0, 2.0)]},
    }


def test_a_chosen_channel_uses_its_rows_alone(audio: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = "file,channel,label\ncall.wav,1,ann\ncall.wav,2,bob\n"
    in_mono = "mono.wav,1,cy\nmono.wav,2,dan\n"
    assert parts(audio, rows + in_mono, channel=2) == {"bob": {"call.wav": [WHOLE]}, "cy": {"mono.wav": [WHOLE]}}
    assert "1 row of other channels than --channel 2 left out" in caplog.text
    assert "mono.wav: has one channel: 1 row of channel 2 left out" in caplog.text
    with pytest.raises(DatasetError, match="holds no usable row"):
        parts(audio, rows, channel=3)


def test_a_mix_has_the_labels_of_all_channels(audio: Path) -> None:
    rows = "file,channel,start,end,label\ncall.wav,1,0,1.5,ann\ncall.wav,2,1,2,bob\n"
    found = parts(audio, rows, channel="mean")
    assert found == {"ann": {"call.wav": [(0.0, 1.0)]}, "bob": {"call.wav": [(1.5, 2.0)]}}


def test_background_is_that_of_the_channel(audio: Path) -> None:
    rows = "file,channel,start,end,label\ncall.wav,1,0,1,ann\ncall.wav,2,1,2,bob\ncall.wav,2,0,0.5,a/b\n"
    found = parts(audio, rows, background=True)[BACKGROUND]
    assert found["call.wav#1"] == [(1.0, float("inf"))]
    assert found["call.wav#2"] == [(0.5, 1.0), (2.0, float("inf"))]


def test_each_channel_is_cut_from_its_own_sound(audio: Path, tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,channel,start,end,label\ncall.wav,1,0,2,ann\ncall.wav,2,0,1,bob\n", "utf-8")
    data = DataConfig(audio_dir=audio, wav_dir=tmp_path / "wav", image_dir=tmp_path / "image", labels=table, workers=1)
    result = render_folder(data, SpectrogramConfig(chunk_seconds=0.5))
    assert {label: found.chunks for label, found in result.labels.items()} == {"ann": 4, "bob": 2}
    assert {image.recording for image in find_images(tmp_path / "image")} == {"call.wav#1", "call.wav#2"}
    for label, frequency in (("ann", 300), ("bob", 1200)):
        samples, rate = soundfile.read(next((tmp_path / "wav" / label).glob("*.wav")))
        spectrum = np.abs(np.fft.rfft(samples))
        assert np.argmax(spectrum) * rate / len(samples) == pytest.approx(frequency, abs=2)
        assert spectrum[spectrum < spectrum.max() / 2].max() < spectrum.max() / 100
    again = render_folder(dataclasses.replace(data), SpectrogramConfig(chunk_seconds=0.5))
    assert (again.rendered, again.unchanged) == (0, 2)
