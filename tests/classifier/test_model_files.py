from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audionet.classifier.embedding import fit_embedding_spaces
from audionet.classifier.head import Head, Layer
from audionet.classifier.model_files import (
    ModelArrays,
    read_arrays,
    read_labels_file,
    short_keys,
    thin_scores,
    write_arrays,
)
from audionet.errors import ModelError
from tests.support.features import WIDTH, speakers, voice_space


def some_arrays(baseline: bool = True) -> ModelArrays:
    sample = speakers(3, 12)
    (comparison,) = fit_embedding_spaces(sample, [WIDTH], [voice_space()])
    last = Layer(np.eye(4, 3, dtype=np.float32), np.zeros(3, np.float32))
    head = Head(np.zeros(4, np.float32), np.ones(4, np.float32), None, False, last)
    scores = np.float32([0.3, 0.1, 0.2])
    return ModelArrays(
        comparison.voices,
        thin_scores(scores),
        thin_scores(scores),
        thin_scores(scores[:0]),
        np.arange(5, dtype=np.uint64),
        head if baseline else None,
    )


@pytest.mark.parametrize("baseline", [True, False])
def test_arrays_come_back_as_they_went(tmp_path: Path, baseline: bool) -> None:
    arrays, path = some_arrays(baseline), tmp_path / "x.npz"
    write_arrays(path, arrays)
    found = read_arrays(path, "run it again")
    np.testing.assert_array_equal(found.voices.prototypes, arrays.voices.prototypes)
    np.testing.assert_allclose(found.voices.cohort, arrays.voices.cohort, atol=1e-3)
    assert found.voices.voice_share == pytest.approx(arrays.voices.voice_share)
    assert found.unknown.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.seen.dtype == np.uint64
    assert (found.baseline is not None) == baseline
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(ModelError, match=r"x\.npz is damaged: run it again"):
        read_arrays(path, "run it again")


def test_seen_images_are_recognised() -> None:
    arrays = some_arrays()
    for keys, expected in (([3], True), ([9, 0], True), ([5, 2**63], False), ([], False)):
        assert arrays.has_seen(np.array(keys, np.uint64)) == expected


def test_very_many_scores_are_thinned_from_the_lowest_to_the_highest() -> None:
    kept = thin_scores(np.random.default_rng(0).permutation(50_000).astype(np.float32))
    assert (len(kept), kept[0], kept[-1]) == (2000, 0, 49_999)
    assert (np.diff(kept) > 0).all()


def test_short_keys_are_the_keys_beginnings() -> None:
    keys = np.frombuffer(bytes(range(32)), "V16")
    assert short_keys(keys).tobytes() == bytes(range(8)) + bytes(range(16, 24))


@pytest.mark.parametrize(
    "content",
    ["ann\nJos\u00e9\n", "ann\r\nJos\u00e9\r\n", "\ufeffann\nJos\u00e9\n", "\ufeffann\r\nJos\u00e9", "ann\nJos\u00e9"],
)
def test_a_labels_file_as_any_editor_saves_it(tmp_path: Path, content: str) -> None:
    (tmp_path / "labels.txt").write_bytes(content.encode())
    assert read_labels_file(tmp_path / "labels.txt") == ["ann", "Jos\u00e9"]


def test_an_empty_labels_file(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").touch()
    assert read_labels_file(tmp_path / "labels.txt") == []
