from __future__ import annotations

import dataclasses
import hashlib
import io
import itertools
import json
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audionet.audio.network_input import MFCC_STATISTICS_WIDTH
from audionet.classifier.embedding import fit_embedding_spaces
from audionet.classifier.head import Head, Layer
from audionet.classifier.model_files import (
    ModelArrays,
    ModelFiles,
    load_model_files,
    pack_arrays,
    parse_arrays,
    read_labels_file,
    short_keys,
    thin_scores,
)
from audionet.errors import DamagedError, ModelError
from audionet.utils.array_files import pack_npz, read_npz
from audionet.utils.files import write_bytes
from tests.support.features import WIDTH, speakers, voice_space
from tests.support.stores import model_arrays, model_card


def some_arrays(baseline: bool = True) -> ModelArrays:
    sample, width = speakers(3, 12), MFCC_STATISTICS_WIDTH
    (comparison,) = fit_embedding_spaces(sample, [WIDTH], [voice_space()])
    last = Layer(np.eye(width, 3, dtype=np.float32), np.zeros(3, np.float32))
    head = Head(np.zeros(width, np.float32), np.ones(width, np.float32), None, False, last)
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
def test_arrays_come_back_as_they_went(baseline: bool) -> None:
    arrays = some_arrays(baseline)
    content = pack_arrays(arrays)
    found = parse_arrays(content)
    np.testing.assert_array_equal(found.voices.prototypes, arrays.voices.prototypes)
    np.testing.assert_allclose(found.voices.cohort, arrays.voices.cohort, atol=1e-3)
    assert found.voices.voice_share == pytest.approx(arrays.voices.voice_share)
    assert found.unknown.tolist() == pytest.approx([0.1, 0.2, 0.3])
    assert found.seen.dtype == np.uint64
    assert (found.baseline is not None) == baseline
    with pytest.raises(DamagedError):
        parse_arrays(content[:200])


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


def model(number: int) -> dict[str, bytes]:
    """Build the files of a small model; every file of another number differs."""
    network, arrays = bytes([number]) * 1000, model_arrays()
    packed = pack_arrays(dataclasses.replace(arrays, seen=np.full(5, number, np.uint64)))
    hashes = {"graph_sha256": sha256(network), "arrays_sha256": sha256(packed)}
    card = model_card(**hashes, exports={}, labels=[f"ann{number}", f"ben{number}"], decision=None)
    return {"x.tflite": network, "x_model.npz": packed, "x_model.json": json.dumps(card).encode()}


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def number_of(files: ModelFiles) -> int:
    """Return the number of a model, all of whose files are of the same one."""
    (number,) = {files.network[0], int(files.arrays.seen[0]), int(files.parsed.labels[0].removeprefix("ann"))}
    return number


@pytest.mark.parametrize("pause", [0.0, 0.003])
def test_a_model_read_while_another_is_published_is_one_of_the_two(tmp_path: Path, pause: float) -> None:
    """The files take their places one after the other; between them nothing fits together."""
    models = [model(1), model(2)]
    for name, content in models[0].items():
        (tmp_path / name).write_bytes(content)
    stop = threading.Event()

    def publish() -> None:
        for one in itertools.cycle(models):
            for name in ("x.tflite", "x_model.npz", "x_model.json"):
                write_bytes(tmp_path / name, one[name])
                time.sleep(pause)
            if stop.wait(0.1):
                return

    writer = threading.Thread(target=publish)
    writer.start()
    found: Counter[int] = Counter()
    end = time.monotonic() + 1.5
    try:
        while time.monotonic() < end:
            try:
                found[number_of(load_model_files(tmp_path / "x.tflite"))] += 1
            except ModelError as error:
                found[0] += 1
                mixed = error
    finally:
        stop.set()
        writer.join()
    assert found[1]
    assert found[2]
    assert found[0] <= 2, mixed  # every reading would have to fall into a publication


def test_a_model_that_stays_a_mix_is_one_error(tmp_path: Path) -> None:
    for name, content in (model(1) | {"x_model.npz": model(2)["x_model.npz"]}).items():
        (tmp_path / name).write_bytes(content)
    started = time.monotonic()
    with pytest.raises(ModelError, match=r"x_model\.json does not belong to x_model\.npz: run retrain"):
        load_model_files(tmp_path / "x.tflite")
    assert time.monotonic() - started < 5


def test_each_file_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, content in model(1).items():
        (tmp_path / name).write_bytes(content)
    opened: list[str] = []
    opens = io.open

    def count(path: Any, *arguments: Any, **settings: Any) -> Any:
        opened.append(Path(path).name)
        return opens(path, *arguments, **settings)

    monkeypatch.setattr(io, "open", count)
    load_model_files(tmp_path / "x.tflite")
    assert sorted(opened) == ["x.tflite", "x_model.json", "x_model.npz"]


@pytest.mark.parametrize(
    "spoil",
    [
        {"counts": np.array([3, 0])},
        {"counts": np.array([1, 1])},
        {"reaches": np.zeros(2, np.float32)},
        {"low": np.ones(2, np.float32)},
        {"voice_share": np.float32(2)},
        {"cohort": np.ones((1, 9), np.float16)},
        {"centroids": np.full((2, 3), np.nan, np.float32)},
        {"unknown": np.array(["a"])},
        {"baseline_scale": None},
        {"seen": None},
    ],
)
def test_arrays_that_do_not_fit_together_are_damage(spoil: dict[str, Any]) -> None:
    arrays = read_npz(pack_arrays(model_arrays())) | spoil
    with pytest.raises(DamagedError):
        parse_arrays(pack_npz({name: array for name, array in arrays.items() if array is not None}))
