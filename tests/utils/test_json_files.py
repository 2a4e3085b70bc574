"""Stored JSON: plain values of 64 bits, or one error; fields with their types."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.errors import DamagedError
from audionet.utils.json_files import (
    checked_real,
    field,
    file_name,
    nullable_field,
    objects,
    optional_field,
    parse_json,
    real,
    texts,
    whole,
)

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    # A lone surrogate stands for a byte of a file's name that is not UTF-8.
    | st.text(st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(), VALUES), st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-32-le"]))
def test_objects_come_back_as_they_went_whatever_editor_saved_them(content: dict[str, Any], encoding: str) -> None:
    assert parse_json(json.dumps(content).encode(encoding)) == content


@pytest.mark.parametrize(
    "content",
    [
        *("", "{", "3", "[]", "null", '{"a": NaN}', '{"a": -Infinity}', '{"a": 1e400}', '{"a": -1e999}'),
        *('{"a": 9223372036854775808}', f'{{"a": {10**400}}}', f'{{"a": {"1" * 5000}}}', '{"a": 1}}'),
        *("[" * 100_000, '{"a":' * 100_000, f'{{"a": {"[" * 40 + "]" * 40}}}'),
    ],
)
def test_what_is_no_plain_object_is_damage(content: str) -> None:
    with pytest.raises(DamagedError) as error:
        parse_json(content.encode())
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) <= 200


def test_bytes_that_are_no_text_are_damage() -> None:
    for content in (b'{"a": "\xff"}', b"\x00\x00\x00", b"\xff\xfe\x00", b'{"\x00": 1}'):
        with pytest.raises(DamagedError):
            parse_json(content)


def test_infinite_floats_where_they_are_wanted() -> None:
    found = parse_json(b'{"a": -Infinity, "b": NaN}', finite=False)
    assert found["a"] == -math.inf
    assert math.isnan(found["b"])
    assert real(found, "a") == -math.inf
    with pytest.raises(DamagedError):
        real(found, "b")


def test_fields_have_their_types_and_ranges() -> None:
    content = {"n": 3, "x": 2.5, "t": "a", "yes": True, "no": None, "list": ["a"], "part": {"b": {}}}
    assert (whole(content, "n", 1, 3), real(content, "n"), real(content, "x", 2.5)) == (3, 3.0, 2.5)
    assert (field(content, "t", str), field(content, "yes", bool), texts(content, "list")) == ("a", True, ["a"])
    assert (nullable_field(content, "no", str), optional_field(content, "gone", str)) == (None, None)
    assert objects(content, "part") == {"b": {}}
    for wrong in (
        lambda: whole(content, "n", 4),
        lambda: whole(content, "yes"),
        lambda: whole(content, "x"),
        lambda: real(content, "yes"),
        lambda: real(content, "x", 0, 2),
        lambda: real(content, "t"),
        lambda: field(content, "t", int),
        lambda: field(content, "yes", int),
        lambda: field([], "t", str),
        lambda: nullable_field(content, "gone", str),
        lambda: optional_field(content, "n", str),
        lambda: texts({"list": [1]}, "list"),
        lambda: objects({"part": {"b": 3}}, "part"),
        lambda: checked_real("3", "x"),
    ):
        with pytest.raises(DamagedError):
            wrong()


def test_a_file_name_names_no_other_folder() -> None:
    assert file_name({"a": "w-1.npz"}, "a") == "w-1.npz"
    for name in ("", ".", "..", "../x", "/etc/passwd", "a\\b", "a\0b", 3):
        with pytest.raises(DamagedError):
            file_name({"a": name}, "a")
