"""Damaged stores: read as they were, passed over, or the one error of their reader; never another exception."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import pytest

from tests.support.stores import KINDS, Store, damages, flips, same, stores


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Store]:
    return stores(tmp_path_factory.mktemp("stores"))


def read_all(store: Store, contents: Iterable[bytes]) -> dict[str, int]:
    """Read damaged versions of a store; return how many were read as they were, as something else, or not at all."""
    right = store.read()
    counts = {"right": 0, "other": 0, "none": 0, "error": 0}
    try:
        for content in contents:
            store.path.write_bytes(content)
            try:
                found = store.read()
            except store.errors:
                counts["error"] += 1
                continue
            counts["none" if found is None else "right" if same(right, found) else "other"] += 1
    finally:
        store.path.write_bytes(store.content)
    return counts


def test_every_kind_is_tried(written: dict[str, Store]) -> None:
    assert set(written) == set(KINDS)
    assert all(store.read() is not None for store in written.values())


@pytest.mark.parametrize("kind", KINDS)
def test_a_flipped_bit(written: dict[str, Store], kind: str) -> None:
    store = written[kind]
    every = max(1, 8 * len(store.content) // 300) | 1  # odd, so that all bits of a byte have their turn
    counts = read_all(store, flips(store.content, every))
    assert counts["other"] == 0 or not store.checked
    assert counts["none"] + counts["error"] + counts["other"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_every_flipped_bit(written: dict[str, Store], kind: str) -> None:
    counts = read_all(written[kind], flips(written[kind].content))
    assert counts["other"] == 0 or not written[kind].checked


@pytest.mark.parametrize("kind", KINDS)
def test_cut_overwritten_and_hostile_content(written: dict[str, Store], kind: str) -> None:
    store = written[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counts = read_all(store, damages(store.content, 150, seed=1))
    assert counts["other"] == 0 or not store.checked
    assert counts["none"] + counts["error"] + counts["other"] > 75


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_very_many_damages(written: dict[str, Store], kind: str) -> None:
    counts = read_all(written[kind], damages(written[kind].content, 1200, seed=2))
    assert counts["other"] == 0 or not written[kind].checked
