"""A model's JSON is parsed whole, or is damaged: whatever value stands anywhere in it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from audionet.classifier.decision import Cost
from audionet.classifier.model_card import parse_card, parse_written
from audionet.errors import DamagedError, ModelError
from tests.support.stores import model_card

HOSTILE = (None, True, -1, 10**400, 1e308, -1e308, 0, "", "x", "1", [], ["x"], [[]], {}, {"x": {}}, {"sha256": 3})


def places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the path to every value of a JSON object."""
    children = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for name, value in children:
        yield (*path, name)
        yield from places(value, (*path, name))


def replaced(content: Any, path: tuple[Any, ...], value: Any) -> Any:
    if not path:
        return value
    copy = content.copy()
    copy[path[0]] = replaced(content[path[0]], path[1:], value)
    return copy


def test_the_parts_of_a_card() -> None:
    found = parse_card(model_card())
    assert found.labels == ["ann", "ben"]
    assert found.rule.costs.exceptions == (Cost(0, 1, 3.0),)
    assert found.rejection is not None
    assert (found.rejection.slope, found.calibration.score_weight) == (9.0, 6.0)
    assert (found.statistics, found.spoken, found.asked_rate) == ("mfcc", True, 0.05)
    assert parse_written(model_card()).exports["x.pb"]["sha256"] == "2" * 64
    nothing = parse_card(model_card(decision=None, test=None, cross_validation=None))
    assert nothing.rule.costs.exceptions == ()


@pytest.mark.parametrize("path", list(places(model_card())), ids=str)
def test_any_value_in_any_place(path: tuple[Any, ...]) -> None:
    for value in HOSTILE:
        card = replaced(model_card(), path, value)
        try:
            parse_written(card)
            found = parse_card(card)
        except (DamagedError, ModelError):
            continue
        assert len(set(found.labels)) == len(found.labels) > 0
        assert found.rejection is None or abs(found.rejection.several) < 1e7
        assert 0 < found.calibration.temperature < 1e4
        assert 0 <= found.asked_rate <= 1


@pytest.mark.parametrize("path", list(places(model_card())), ids=str)
def test_a_missing_field(path: tuple[Any, ...]) -> None:
    if not isinstance(path[-1], str):
        return
    card = model_card()
    parent: Any = card
    for name in path[:-1]:
        parent = parent[name]
    del parent[path[-1]]
    optional = {"cross_validation", "head", "spares_known", "stretches_needed", "format", "difference", "picture"}
    if path[-1] in optional or path in {("exports", "x.pb"), ("test", "leaky_split")}:
        parse_card(card)
        return
    with pytest.raises((DamagedError, ModelError)):
        parse_written(card)
        parse_card(card)
