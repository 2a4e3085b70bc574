"""Learning of a voice space, on made-up speakers and on tones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.backbones.registry import Backbone
from audionet.backbones.voice_space import read_voice_space
from audionet.errors import DatasetError
from audionet.metrics.accuracy import accuracy
from audionet.pretraining.card import add_voice_space
from audionet.pretraining.manifest import ManifestDataset, find_utterances
from audionet.pretraining.voice_space import (
    FALSE_ALARMS,
    SPECTROGRAM,
    VoiceSpaceScores,
    discriminant_projection,
    fit_speech_detector,
    learn_voice_space,
    pause_of,
    short_part,
)
from audionet.utils.expressions import Expression
from tests.support.features import WIDTH, speakers, voice_space
from tests.support.sounds import tone


def test_the_projection_keeps_what_differs_between_speakers() -> None:
    """Speakers differ in the first ten dimensions and vary three times as much in the next ten."""
    sample, test = speakers(200, 6), speakers(20, 10, seed=1, first=500)
    projection, offset = discriminant_projection(sample.features, sample.labels, 10)
    assert projection.shape == (WIDTH, 10)
    power = np.square(projection).sum(axis=1)
    assert power[10:20].sum() < 0.1 * power[:10].sum()
    projected = test.features @ projection + offset
    directions = projected / np.linalg.norm(projected, axis=1, keepdims=True)
    cosines = directions @ directions.T
    same = test.labels[:, None] == test.labels
    assert cosines[same].mean() > 0.8 > 0.3 > cosines[~same].mean()


def test_every_speaker_counts_the_same() -> None:
    sample = speakers(40, 4)
    repeated = np.concatenate([np.arange(160), np.tile(np.arange(4), 50)])  # the first speaker, fifty times more
    one, _ = discriminant_projection(sample.features, sample.labels, 3)
    other, _ = discriminant_projection(sample.features[repeated], sample.labels[repeated], 3)
    overlap = np.linalg.svd(np.linalg.qr(one)[0].T @ np.linalg.qr(other)[0])[1]
    assert overlap.mean() > 0.8


def test_the_detectors_offset_lets_a_few_other_windows_pass() -> None:
    generator = np.random.default_rng(0)
    speech, other = (generator.normal(mean, 1, (2000, 8)) for mean in (0.8, -0.8))
    weights, offset = fit_speech_detector(speech, other)
    assert ((other @ weights + offset) > 0).mean() == pytest.approx(FALSE_ALARMS, abs=0.01)
    assert ((speech @ weights + offset) > 0).mean() > 0.99


def test_a_pause_is_the_quietest_part_and_a_short_part_is_padded() -> None:
    rate = SPECTROGRAM.sample_rate
    chunk = np.concatenate([tone(440, 1.0), 0.01 * tone(880, 0.5), tone(440, 1.5)])
    samples = (32767 * chunk).astype(np.int16)
    pause = pause_of([samples])
    assert len(pause) == SPECTROGRAM.chunk_length
    assert 50 < np.abs(pause).max() < 400
    assert not pause_of([]).any()
    part = short_part([samples], np.random.default_rng(0))
    assert len(part) == SPECTROGRAM.chunk_length
    sounding = np.flatnonzero(part)
    assert 0.2 * rate < sounding[-1] < 1.3 * rate
    assert not short_part([], np.random.default_rng(0)).any()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    generator = np.random.default_rng(0)
    for number, frequency in enumerate((300, 700, 1500, 3000)):
        for utterance in range(8):
            path = tmp_path / "people" / f"p{number}" / f"{utterance}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            sound = tone(frequency * (1 + 0.02 * generator.standard_normal()), 3.5)
            soundfile.write(path, sound + 0.01 * generator.standard_normal(len(sound)), 16_000)
    for number in range(6):
        path = tmp_path / "sounds" / "hiss" / f"{number}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * generator.standard_normal(64_000), 16_000)
        soundfile.write(path.with_name(f"b{number}.wav"), 0.1 * generator.standard_normal(64_000), 16_000)
    (tmp_path / "sounds" / "hum").mkdir()
    for number in range(4):
        soundfile.write(tmp_path / "sounds" / "hum" / f"{number}.wav", tone(60, 4.0), 16_000)
    return tmp_path


def dataset(folder: str, task: str) -> ManifestDataset:
    return ManifestDataset(folder, folder, task, Expression("^(?P<label>[^/]+)/"), "CC0", "https://example.org")


def test_a_voice_space_is_learned_from_recordings(data_dir: Path, backbone: Backbone) -> None:
    corpus = find_utterances([dataset("people", "speaker"), dataset("sounds", "sound")], data_dir)
    space, scores = learn_voice_space(corpus, backbone, workers=1)
    assert space.cohort.shape == (4, space.projection.shape[1])
    np.testing.assert_allclose(np.linalg.norm(space.cohort, axis=1), 1, atol=1e-5)
    assert scores.speech.total > 0
    assert scores.other.total > 300
    with pytest.raises(DatasetError, match="needs datasets of speakers and of other sounds"):
        learn_voice_space(find_utterances([dataset("people", "speaker")], data_dir), backbone, workers=1)


def test_it_is_stored_beside_the_backbone_and_described_in_its_card(data_dir: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "backbone.json").write_text('{"name": "mine"}')
    (folder / "README.md").write_text("# mine\n\nMade here.\n")
    corpus = find_utterances([dataset("people", "speaker"), dataset("sounds", "sound")], data_dir)
    right = accuracy(np.arange(10) < 9)
    for rate in (0.25, 0.125):
        add_voice_space(folder, voice_space(), VoiceSpaceScores(3, 5, rate, right, right), corpus)
    card = (folder / "README.md").read_text()
    assert card.startswith("# mine\n\nMade here.\n\n## Voice space\n")
    assert card.count("## Voice space") == 1
    assert "equal error rate 12.5%" in card
    assert "- people (CC0, https://example.org): 32 recordings" in card
    stored = json.loads((folder / "backbone.json").read_text())
    assert stored["name"] == "mine"
    found = read_voice_space(folder / stored["voice_space"]["file"], stored["voice_space"]["sha256"])
    np.testing.assert_allclose(found.projection, voice_space().projection, atol=1e-3)
