"""Files of embeddings, the search, and their commands."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from audionet.cli import embed as embed_command
from audionet.cli import search as search_command
from audionet.discovery.embedding_files import embedding_map, write_embeddings
from audionet.discovery.search import rank
from audionet.inference.embeddings import Embeddings
from tests.support.sounds import link_voices


@pytest.fixture
def voices(tmp_path: Path) -> Path:
    return link_voices(tmp_path / "voices", 2, 2)


def some_embeddings() -> Embeddings:
    vectors = np.random.default_rng(0).standard_normal((5, 3)).astype(np.float32)
    files = ["a/x.wav", "a/x.wav", "a/y, z.wav", "b/x.wav", "b/q\udcff.wav"]
    start = np.arange(5) * 1.5
    return Embeddings(files, [name[0] for name in files], start, start + 3, vectors, np.ones(5, bool))


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
