from __future__ import annotations

import csv
import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.cli import embed as embed_command
from audionet.cli import search as search_command
from audionet.discovery.config import EmbedConfig
from audionet.discovery.embedding_files import embedding_map, write_embeddings
from audionet.discovery.embeddings import ClipFile, Embeddings, embed_files, find_clips
from audionet.discovery.search import rank
from audionet.errors import DatasetError, UsageError
from audionet.inference.model import load_model
from tests.support.sounds import SAMPLE_AUDIO, write_tone


@pytest.fixture
def config(model_dir: Path) -> EmbedConfig:
    return EmbedConfig(model_dir=model_dir, workers=1)


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    """Two bundled voices, two recordings each."""
    for voice in sorted(path for path in SAMPLE_AUDIO.iterdir() if path.is_dir())[:2]:
        for recording in sorted(voice.iterdir())[:2]:
            target = tmp_path / "voices" / voice.name / recording.name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.symlink_to(recording)
    return tmp_path / "voices"


def some_embeddings() -> Embeddings:
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    files = ["a/x.wav", "a/x.wav", "a/y, z.wav", "b/x.wav", "b/q\udcff.wav"]
    start = np.arange(5) * 1.5
    return Embeddings(files, [name[0] for name in files], start, start + 3, vectors, np.ones(5, bool))


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
    with pytest.raises(UsageError, match=r"has no voice space, .*kind bottleneck"):
        embed_files(clips, config, per="recording")
    found = embed_files(clips, dataclasses.replace(config, kind="bottleneck"), per="recording")
    assert found.vectors.shape == (1, 64)


@pytest.mark.parametrize("kind", ["npz", "csv", "parquet"])
def test_every_form_holds_the_same(tmp_path: Path, kind: str) -> None:
    found = some_embeddings()
    path = tmp_path / f"out.{kind}"
    write_embeddings(path, found)
    if kind == "npz":
        content = np.load(path)
        files, labels, start, vectors = (content[name] for name in ("recording", "label", "start", "embedding"))
    elif kind == "csv":
        header, *rows = csv.reader(path.read_text("utf-8", "surrogateescape").splitlines())
        assert header == ["recording", "start", "end", "label", "e0", "e1", "e2"]
        files, labels = [row[0] for row in rows], [row[3] for row in rows]
        start, vectors = [float(row[1]) for row in rows], [[float(value) for value in row[4:]] for row in rows]
    else:
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(path).to_pydict()
        files, labels, start, vectors = (table[name] for name in ("recording", "label", "start", "embedding"))
    assert list(files)[:4] == found.files[:4]
    assert list(labels) == found.labels
    np.testing.assert_allclose(start, found.start)
    np.testing.assert_allclose(vectors, found.vectors, rtol=1e-5)


def test_a_map_of_embeddings_is_an_image() -> None:
    assert embedding_map(some_embeddings()).startswith(b"\x89PNG")


def test_the_most_similar_recording_is_first() -> None:
    vectors = np.array([[1, 0], [0, 1], [2, 1], [0, 2]], np.float32)
    found = Embeddings(
        ["a", "a", "b", "c"], ["", "", "", ""], np.arange(4.0), np.arange(4.0) + 3, vectors, np.ones(4, bool)
    )
    matches = rank(np.array([0, 3], np.float32), found)
    assert [match.file for match in matches] == ["c", "a", "b"]
    assert matches[1].start == 1
    assert matches[1].best == pytest.approx(1)
    assert [match.likeness for match in matches] == pytest.approx([1, 0.5**0.5, 0.2**0.5])


def test_the_commands(voices: Path, tmp_path: Path, model_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out" / "voices.csv"
    common = [f"--model_dir={model_dir}", "--workers=1"]
    embed_command.main([str(voices), f"--to={out}", "--per=recording", f"--map={tmp_path / 'map.png'}", *common])
    assert len(out.read_text().splitlines()) == 5
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert "4 embeddings of 128 dimensions, 4 recordings" in capsys.readouterr().out
    clip = next(path for path in sorted(voices.rglob("*")) if path.is_file())
    search_command.main([str(clip), str(voices), "--json", "--top_k=2", *common])
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first["file"] == str(clip.relative_to(voices))
    assert first["likeness"] == pytest.approx(1, abs=1e-3)
    assert Path(second["file"]).parent == Path(first["file"]).parent
    search_command.main([str(clip), str(voices), *common])
    assert "likeness" in capsys.readouterr().out


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
