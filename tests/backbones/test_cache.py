from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.network_input import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH
from audionet.backbones import cache as module
from audionet.backbones.cache import Bottleneck, Cache, Records
from audionet.errors import DatasetError


def rows(numbers: range, width: int = 3) -> list[tuple[bytes, Bottleneck]]:
    """Build bottlenecks filled with their own numbers."""
    return [
        (
            number.to_bytes(16, "big"),
            Bottleneck(
                (number, 1),
                np.full(width, number, np.float32),
                np.full(BAND_STATISTICS_WIDTH, number, np.float32),
                np.full(MFCC_STATISTICS_WIDTH, number, np.float32),
                float(number),
            ),
        )
        for number in numbers
    ]


def keys(numbers: list[int]) -> np.ndarray:
    return np.frombuffer(b"".join(number.to_bytes(16, "big") for number in numbers), "V16")


def test_records_are_in_the_order_of_their_keys(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3)
    cache.add(rows(range(0, 10)))
    cache.add(rows(range(10, 30)))
    wanted = [29, 0, 7, 10, 7, 13]
    records = cache.records(keys(wanted))
    assert records.take("network")[:, 0].tolist() == wanted
    assert records.take("size", np.array([2, 0]))[:, 0].tolist() == [7, 29]
    assert records[np.array([3, 3])].take("mfcc")[:, 5].tolist() == [10, 10]
    assert cache.missing(keys([5, 30, 29, 999])).tolist() == [False, True, False, True]
    with pytest.raises(KeyError):
        cache.records(keys([5, 30]))


@given(st.lists(st.integers(0, 39), max_size=80), st.integers(1, 50))
def test_any_rows_in_any_order(wanted: list[int], at_once: int) -> None:
    """Consecutive rows are read together, in blocks: none may be lost or moved."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_ROWS_AT_ONCE", at_once)
        cache = Cache(Path(folder), 3)
        for start in range(0, 40, 20):
            cache.add(rows(range(start, start + 20)))
        records = cache.records(keys(wanted))
        assert records.take("network").tolist() == [[number] * 3 for number in wanted]
        assert records.take("size").tolist() == [[number, 1] for number in wanted]


def test_a_file_truncated_in_use_is_one_line(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3)
    cache.add(rows(range(100)))
    records = cache.records(keys(list(range(100))))
    (path,) = tmp_path.glob("part-*.npy")
    with path.open("r+b") as stream:
        stream.truncate(5000)
    with pytest.raises(DatasetError, match="has changed while it was in use: run again"):
        records.take("network")
    assert Cache(tmp_path, 3).missing(keys([1])).all()


def test_an_empty_cache_lacks_everything(tmp_path: Path) -> None:
    cache = Cache(tmp_path, 3)
    assert cache.missing(keys([0, 1])).all()
    assert len(cache.records(keys([]))) == 0
    assert Records([], np.zeros(0, int), np.zeros(0, int)).take("network").shape == (0,)


def test_a_file_of_another_version_or_width_is_ignored(tmp_path: Path) -> None:
    Cache(tmp_path, 5).add(rows(range(3), 5))
    np.save(tmp_path / "part-old.npy", np.zeros(4, [("key", "V16"), ("network", "<f2", (3,))]))
    np.save(tmp_path / "part-pickle.npy", np.array([{}], object), allow_pickle=True)
    cache = Cache(tmp_path, 3)
    assert cache.missing(keys([0, 1, 2])).all()
    cache.add(rows(range(3)))
    cache.compact()
    assert not Cache(tmp_path, 3).missing(keys([0, 1, 2])).any()
    assert not Cache(tmp_path, 5).missing(keys([0, 1, 2])).any()


def test_joining_files_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(tmp_path, 3)
    for start in range(0, 50, 5):
        cache.add(rows(range(start, start + 5)))
    monkeypatch.setattr(module, "_LARGEST_FILE", 25 * cache.dtype.itemsize)
    before = cache.records(keys(list(range(50))))
    cache.compact()
    assert len(list(tmp_path.glob("part-*.npy"))) == 2
    for found in (before, cache.records(keys(list(range(50)))), Cache(tmp_path, 3).records(keys(list(range(50))))):
        assert found.take("bands")[:, 9].tolist() == list(range(50))


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 8
    path.write_bytes(content)


def test_a_damaged_row_is_computed_again_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cache = Cache(tmp_path, 3)
    cache.add(rows(range(40)))
    (path,) = tmp_path.glob("part-*.npy")
    size = cache.dtype.itemsize
    start = path.stat().st_size - 40 * size
    flip(path, start + 7 * size + 30)
    flip(path, start + 9 * size + size - 1)  # in the checksum itself
    flip(path, start + 11 * size + 3)  # in the key
    again = Cache(tmp_path, 3)
    missing = again.missing(keys(list(range(40))))
    assert np.flatnonzero(missing).tolist() == [7, 9, 11]
    assert capsys.readouterr().err.endswith("damaged and computed again: 2 bottlenecks of the cache\n")
    assert again.missing(keys([7, 8])).tolist() == [True, False]
    again.add(rows(range(7, 12)))
    assert not again.missing(keys(list(range(40)))).any()
    for cache in (again, Cache(tmp_path, 3)):
        assert not cache.missing(keys(list(range(40)))).any()
        assert cache.records(keys(list(range(40)))).take("network")[:, 2].tolist() == list(range(40))
    again.compact()
    (joined,) = tmp_path.glob("part-*.npy")
    assert joined.stat().st_size == start + (40 - 3 + 5) * size
    capsys.readouterr()
    assert not Cache(tmp_path, 3).missing(keys(list(range(40)))).any()
    assert not capsys.readouterr().err


def test_a_row_is_verified_once_and_only_if_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Cache(tmp_path, 3).add(rows(range(300)))
    verified: list[int] = []
    compute = module.checksums

    def count(records: np.ndarray) -> np.ndarray:
        verified.append(len(records))
        return compute(records)

    monkeypatch.setattr(module, "checksums", count)
    cache = Cache(tmp_path, 3)
    assert cache.missing(keys([1, 2, 299, 1, 500])).tolist() == [False] * 4 + [True]
    assert sorted(verified) == [1, 2]
    cache.missing(keys([2, 1, 3]))
    assert sum(verified) == 4
    cache.missing(keys(list(range(300))))
    assert sum(verified) == 300
    assert max(verified) <= module._ROWS_AT_ONCE


@given(st.sets(st.integers(0, 11)), st.sets(st.integers(0, 11)))
def test_a_good_copy_is_used_wherever_the_damaged_one_lies(first: set[int], second: set[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for damaged in (first, second):
            before = set(Path(folder).glob("part-*.npy"))
            cache = Cache(Path(folder), 3)
            cache.add(rows(range(12)))
            (path,) = set(Path(folder).glob("part-*.npy")) - before
            for row in damaged:
                flip(path, path.stat().st_size - (12 - row) * cache.dtype.itemsize + 100)
        cache = Cache(Path(folder), 3)
        missing = cache.missing(keys(list(range(12))))
        assert set(np.flatnonzero(missing).tolist()) == first & second
        whole = np.flatnonzero(~missing).tolist()
        assert cache.records(keys(whole)).take("bands")[:, 50].tolist() == whole
