"""One way in and out for stored arrays: .npy and .npz content that is as expected, or one error.

NumPy's own readers evaluate whatever a header says, allocate what it asks for, and fail with a dozen kinds of
exceptions. Here a header has the form in which NumPy writes it, and says neither more nor less than the file holds.
"""

from __future__ import annotations

import io
import math
import re
import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from audionet.errors import DamagedError
from audionet.utils.text import first_line

_SHAPE = r"\((?:\d+,|\d+(?:, \d+)+)?\)"
_SIMPLE = r"'[<>|=][a-zA-Z]\d+'"
_RECORD_FIELD = rf"\('\w+', {_SIMPLE}(?:, {_SHAPE})?\)"
_HEADER = re.compile(
    rf"{{'descr': (?:{_SIMPLE}|\[{_RECORD_FIELD}(?:, {_RECORD_FIELD})*\]), "
    rf"'fortran_order': (?:True|False), 'shape': {_SHAPE}, }} *\n",
    re.ASCII,
)
_MAGIC_BYTES = 8  # and the version; the length of the header follows in two bytes
_LEAST_EXPANDED = 1 << 26  # bytes
_MOST_TIMES_EXPANDED = 8  # weights compress little, and zeros a thousandfold
_ENCRYPTED = 1
_COUNT_FROM_END = 12  # bytes: where an archive without a comment has the number of its members


class Expected(NamedTuple):
    """An array that a file is expected to hold.

    Attributes
    ----------
    dtype : dtype
        The array is returned in this type; a stored one of the same kind (float, int, ...) is converted.
    shape : tuple of int and str
        Lengths, or names of lengths that are the same wherever they occur.
    optional : bool
        Whether the file may lack the array.
    """

    dtype: DTypeLike
    shape: tuple[int | str, ...] = ()
    optional: bool = False


Schema = Mapping[str, Expected]


class Header(NamedTuple):
    """Header of an .npy file, and its own size in bytes."""

    shape: tuple[int, ...]
    fortran_order: bool
    dtype: np.dtype[Any]
    size: int


def pack_npz(arrays: Mapping[str, ArrayLike], compressed: bool = False) -> bytes:
    """Return the content of an .npz file."""
    buffer = io.BytesIO()
    write_npz(buffer, arrays, compressed)
    return buffer.getvalue()


def write_npz(stream: BinaryIO, arrays: Mapping[str, ArrayLike], compressed: bool = False) -> None:
    """Write the content of an .npz file to a stream. The arrays must be of plain types, or they could not be read."""
    # Without allow_pickle=False, which NumPy 1 takes for one more array.
    (np.savez_compressed if compressed else np.savez)(stream, **arrays)  # type: ignore[arg-type]


def pack_npy(array: NDArray[Any]) -> bytes:
    """Return the content of an .npy file."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def read_header(stream: BinaryIO) -> Header:
    """Read the header of an .npy file from a stream that stands at its beginning.

    Raises
    ------
    DamagedError
        If it does not have the form in which NumPy writes one, in version 1.0, for plain types or records of them.
    """
    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise DamagedError("another version of the .npy format")
        length = stream.read(2)
        text = stream.read(int.from_bytes(length, "little"))
        if not _HEADER.fullmatch(text.decode("ascii")):
            raise DamagedError("its .npy header is damaged")
        shape, fortran_order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(length + text))
    except (DamagedError, MemoryError):
        raise
    except Exception as why:  # the errors of NumPy's and Python's parsers share no base class
        raise DamagedError(first_line(why)) from None
    return Header(shape, fortran_order, dtype, _MAGIC_BYTES + len(length) + len(text))


def read_npy(data: bytes, expected: Expected | None = None) -> NDArray[Any]:
    """Return the array of an .npy file's content, read-only.

    Raises
    ------
    DamagedError
        If it is truncated or damaged, or not as expected.
    """
    header = read_header(io.BytesIO(data))
    size = math.prod(header.shape) * header.dtype.itemsize
    if size != len(data) - header.size or not header.dtype.itemsize:
        raise DamagedError("its .npy header does not fit its content")
    try:
        values = np.frombuffer(data, header.dtype, offset=header.size) if size else np.empty(0, header.dtype)
        array = values.reshape(header.shape, order="F" if header.fortran_order else "C")
    except (ValueError, OverflowError) as why:  # dimensions beside a zero may be any number
        raise DamagedError(first_line(why)) from None
    return array if expected is None else check_arrays({"array": array}, {"array": expected})["array"]


def read_npz(source: bytes | BinaryIO, schema: Schema | None = None, **lengths: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of an .npz file's content, by name, read-only.

    Parameters
    ----------
    source : bytes or stream
        A stream must be seekable.
    schema : mapping of str to Expected, optional
        Arrays to return; default: all, as they are.
    **lengths : int
        Lengths that shapes of the schema name.

    Raises
    ------
    DamagedError
        If it is truncated or damaged, expands to many times its size, or an array is missing or not as expected.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source) as archive:
            _check_members(archive)
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            wanted = members if schema is None else [name for name in schema if name in members]
            arrays = {name: read_npy(_content(archive, members[name])) for name in wanted}
    except (DamagedError, MemoryError):
        raise
    except Exception as why:  # zipfile raises nine kinds of exceptions for damaged archives
        raise DamagedError(first_line(why)) from None
    return arrays if schema is None else check_arrays(arrays, schema, **lengths)


def _check_members(archive: zipfile.ZipFile) -> None:
    members, stream = archive.infolist(), archive.fp
    assert stream is not None
    size = stream.seek(0, io.SEEK_END)
    # A damaged length of a comment hides the members after it, which zipfile does not count.
    stream.seek(size - _COUNT_FROM_END)
    if int.from_bytes(stream.read(2), "little") != len(members):
        raise DamagedError("its directory is damaged")
    if any(member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for member in members):
        raise DamagedError("its compression is unknown")
    if any(member.flag_bits & _ENCRYPTED for member in members):
        raise DamagedError("it is encrypted")
    if sum(member.file_size for member in members) > max(_LEAST_EXPANDED, _MOST_TIMES_EXPANDED * size):
        raise DamagedError("it expands to many times its size")


def _content(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> bytes:
    with archive.open(member) as stream:
        # The size is given: without it, zipfile expands 2 GB at once, whatever the archive says.
        content = stream.read(member.file_size)
    if len(content) != member.file_size:
        raise DamagedError("it is truncated")
    return content


def check_arrays(arrays: Mapping[str, NDArray[Any]], schema: Schema, **lengths: int) -> dict[str, NDArray[Any]]:
    """Return the arrays of a schema, in its types.

    Raises
    ------
    DamagedError
        If one is missing, of another kind or shape, or holds NaN or infinite values.
    """
    found: dict[str, NDArray[Any]] = {}
    known = dict(lengths)
    for name, expected in schema.items():
        array, wanted = arrays.get(name), np.dtype(expected.dtype)
        if array is None and expected.optional:
            continue
        if array is None or array.dtype.kind != wanted.kind or len(array.shape) != len(expected.shape):
            raise DamagedError(f"its array '{name}' is missing or of another kind")
        for length, dimension in zip(array.shape, expected.shape, strict=True):
            if length != (known.setdefault(dimension, length) if isinstance(dimension, str) else dimension):
                raise DamagedError(f"its array '{name}' has the shape {array.shape}")
        with np.errstate(over="ignore"):
            found[name] = array.astype(wanted, copy=False)
        if wanted.kind == "f" and not np.isfinite(found[name]).all():
            raise DamagedError(f"its array '{name}' contains NaN or infinite values")
    return found
