from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.errors import DatasetError, UsageError
from audionet.inference.config import EmbedConfig
from audionet.inference.embeddings import ClipFile, embed_files, find_clips
from audionet.inference.model import load_model
from tests.support.sounds import link_voices, write_tone


@pytest.fixture
def config(model_dir: Path) -> EmbedConfig:
    return EmbedConfig(model_dir=model_dir, workers=1)


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return link_voices(tmp_path / "voices", 2, 2)


def test_voices_are_nearer_to_themselves_than_to_others(voices: Path, config: EmbedConfig) -> None:
    found = embed_files(list(find_clips([voices])), config, per="recording")
    assert len(found.files) == 4
    assert np.linalg.norm(found.vectors, axis=1) == pytest.approx(1, abs=1e-5)
    cosines = found.vectors @ found.vectors.T
    same = np.equal.outer(found.labels, found.labels)
    assert cosines[same & ~np.eye(4, dtype=bool)].min() > cosines[~same].max()


def test_a_recording_is_the_mean_of_its_chunks(voices: Path, config: EmbedConfig) -> None:
    clip = next(find_clips([voices]))
    chunks = embed_files([clip], config, per="chunk")
    assert len(chunks.files) > 2
    assert (np.diff(chunks.start) > 0).all()
    assert ((chunks.end - chunks.start) <= 3).all()
    (whole,) = embed_files([clip], config, per="recording").vectors
    mean = chunks.vectors.mean(axis=0)
    assert whole @ (mean / np.linalg.norm(mean)) > 0.99  # chunks with pauses weigh less


def test_bottlenecks_are_not_scaled(voices: Path, model_dir: Path) -> None:
    clips = list(find_clips([voices]))[:1]
    found = embed_files(clips, EmbedConfig(model_dir=model_dir, workers=1, kind="bottleneck"), per="recording")
    assert found.vectors.shape[1] > 1000
    assert np.linalg.norm(found.vectors) != pytest.approx(1, abs=0.1)


def test_a_trained_model_embeds_in_its_own_space(tone_model: Path, tmp_path: Path) -> None:
    clip = write_tone(tmp_path / "x.wav", 300, seconds=0.5)
    found = embed_files([ClipFile(clip, "x.wav", "")], EmbedConfig(graph=tone_model, workers=1), per="recording")
    own = load_model(tone_model).embed(clip)
    np.testing.assert_allclose(found.vectors[0], own / np.linalg.norm(own), atol=1e-5)


def test_recordings_that_cannot_be_used_are_named(
    voices: Path, config: EmbedConfig, caplog: pytest.LogCaptureFixture
) -> None:
    (voices / "broken.wav").write_text("words")
    assert len(set(embed_files(list(find_clips([voices])), config, per="recording").files)) == 4
    assert "broken.wav: " in caplog.text
    assert "; left out" in caplog.text
    with pytest.raises(DatasetError, match="no recording could be used"):
        embed_files([ClipFile(voices / "broken.wav", "broken.wav", "")], config, per="recording")
    (voices / "empty").mkdir()
    with pytest.raises(UsageError, match="empty holds no recordings"):
        list(find_clips([voices / "empty"]))


@pytest.mark.tensorflow
def test_a_backbone_without_voices_gives_bottlenecks(voices: Path, model_dir: Path, averaging_backbone: Path) -> None:
    config = EmbedConfig(architecture=str(averaging_backbone), model_dir=model_dir, workers=1)
    clips = list(find_clips([voices]))[:1]
    with pytest.raises(UsageError, match=r"has no voice space, .*graph\); audionet embed .*kind bottleneck"):
        embed_files(clips, config, per="recording")
    found = embed_files(clips, dataclasses.replace(config, kind="bottleneck"), per="recording")
    assert found.vectors.shape == (1, 64)


def test_pieces_are_what_lies_between_pauses(tmp_path: Path, config: EmbedConfig) -> None:
    sound = np.zeros(16_000 * 6)
    for start, end in ((1.0, 2.5), (3.5, 4.0)):
        sound[round(16_000 * start) : round(16_000 * end)] = 0.3 * np.sin(np.arange(round(16_000 * (end - start))) / 5)
    soundfile.write(tmp_path / "x.wav", sound, 16_000)
    found = embed_files([ClipFile(tmp_path / "x.wav", "x.wav", "")], config, "piece")
    np.testing.assert_allclose(found.start, [1.0, 3.5], atol=0.1)
    np.testing.assert_allclose(found.end, [2.5, 4.0], atol=0.1)
    assert not found.is_speech.any()  # two tones
    np.testing.assert_allclose(np.linalg.norm(found.vectors, axis=1), 1, atol=1e-4)
