"""Stored arrays: what went in comes back, and damage is one error that allocates nothing."""

from __future__ import annotations

import io
import tracemalloc
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from audionet.errors import DamagedError
from audionet.utils.array_files import Expected, pack_npy, pack_npz, read_header, read_npy, read_npz

TYPES = st.sampled_from(["<f2", "<f4", ">f8", "|u1", "<i8", "|b1", "<U3", "<c8"])


@given(
    TYPES.flatmap(lambda name: hnp.arrays(name, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3))), st.booleans()
)
def test_arrays_come_back_as_they_went(array: np.ndarray, in_columns: bool) -> None:
    array = np.asfortranarray(array) if in_columns else array
    for found in (read_npy(pack_npy(array)), read_npz(pack_npz({"a": array}, compressed=in_columns))["a"]):
        assert (found.dtype, found.shape, found.tobytes()) == (array.dtype, array.shape, array.tobytes())


def test_records_come_back_and_are_read_at_their_offset() -> None:
    records = np.zeros(3, [("key", "V16"), ("size", "<u2", (2,)), ("network", "<f2", (0,)), ("activity", "<f4")])
    content = pack_npy(records)
    header = read_header(io.BytesIO(content))
    assert (header.shape, header.dtype, header.size) == ((3,), records.dtype, len(content) - records.nbytes)
    assert read_npy(content).tobytes() == records.tobytes()


def with_header(text: str, content: bytes = b"") -> bytes:
    data = text.ljust(117).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(data).to_bytes(2, "little") + data + content


@pytest.mark.parametrize(
    "content",
    [
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (2500000000000,), }"),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }", bytes(16)),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 99999999999999999999999999999999), }"),
        with_header("{'descr': '|V0', 'fortran_order': False, 'shape': (2500000000000,), }"),
        with_header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }", bytes(8)),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (3L,), }", bytes(12)),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': ((((((((", bytes(12)),
        with_header("{'descr': '<f3', 'fortran_order': False, 'shape': (4,), }", bytes(12)),
        with_header("{'descr': '<f4', 'fortran_order': False, 'shape': (-3,), }"),
        b"\x93NUMPY\x02\x00" + bytes(100),
        b"",
    ],
)
def test_a_header_that_lies_costs_no_memory(content: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError):
            read_npy(content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def bomb(name: str) -> bytes:
    """Make an archive that expands to much more than its size, or says otherwise."""
    buffer = io.BytesIO()
    kinds = {"bzip2": zipfile.ZIP_BZIP2, "lzma": zipfile.ZIP_LZMA}
    with zipfile.ZipFile(buffer, "w", kinds.get(name, zipfile.ZIP_DEFLATED)) as archive:
        for i in range(9 if name == "many" else 1):
            archive.writestr(f"{i or 'a'}.npy", bytes(1 << (24 if name == "many" else 27)))
    content = bytearray(buffer.getvalue())
    if name == "says it is small":
        place = content.rindex(b"PK\x01\x02") + 24
        content[place : place + 4] = (1000).to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize("name", ["one", "many", "says it is small", "bzip2", "lzma"])
def test_an_archive_that_expands_without_end_costs_no_memory(name: str) -> None:
    content = bomb(name)
    tracemalloc.start()
    try:
        with pytest.raises(DamagedError):
            read_npz(content, {"a": Expected(np.float32, ("n",))})
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_members_that_damage_hides_are_missed() -> None:
    """The length of a member's comment: what follows becomes the comment, and the archive looks like a shorter one."""
    content = bytearray(pack_npz({"a": np.ones(3), "b": np.ones(3), "c": np.ones(3)}))
    first = content.index(b"PK\x01\x02")
    content[first + 33] = 1
    with pytest.raises(DamagedError):
        read_npz(bytes(content))
    content[first + 32 : first + 34] = (content.index(b"PK\x05\x06") - first - 51).to_bytes(2, "little")
    with pytest.raises(DamagedError, match="its directory is damaged"):
        read_npz(bytes(content))


SCHEMA = {
    "centroids": Expected(np.float32, ("labels", "dimensions")),
    "counts": Expected(np.int64, ("labels",)),
    "baseline": Expected(np.float32, ("labels", 3), optional=True),
}


def arrays(**changes: Any) -> dict[str, Any]:
    return {"centroids": np.ones((2, 4), np.float32), "counts": np.array([1, 2])} | changes


def test_a_schema_names_lengths_and_converts_types() -> None:
    found = read_npz(pack_npz(arrays(centroids=np.ones((2, 4), np.float16), other=np.zeros(3))), SCHEMA)
    assert sorted(found) == ["centroids", "counts"]
    assert found["centroids"].dtype == np.float32
    assert "baseline" in read_npz(pack_npz(arrays(baseline=np.zeros((2, 3)))), SCHEMA, labels=2, dimensions=4)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda: arrays(counts=np.array([1, 2, 3])),
        lambda: arrays(counts=np.array([1.0, 2.0])),
        lambda: arrays(counts=np.array(["a", "b"])),
        lambda: arrays(counts=np.array([[1, 2]])),
        lambda: arrays(centroids=np.float32([[np.nan], [0]])),
        lambda: arrays(centroids=np.array([[1e300], [0]])),
        lambda: arrays(baseline=np.zeros((2, 4), np.float32)),
        lambda: {"centroids": np.ones((2, 4), np.float32)},
        lambda: arrays(centroids=np.ones((5, 4), np.float32), counts=np.ones(5, np.int64)),
    ],
)
def test_arrays_that_do_not_fit_the_schema_are_damage(spoil: Callable[[], dict[str, Any]]) -> None:
    with pytest.raises(DamagedError):
        read_npz(pack_npz(spoil()), SCHEMA, labels=2)
