from __future__ import annotations

import pickle
import re

import pytest

from audionet.errors import DatasetError
from audionet.utils.expressions import Expression


@pytest.mark.parametrize("text", ["(", "[a", "*", r"(?P<x>a)(?P<x>b)", "(?R)", r"\p{L}"])
def test_what_python_does_not_take_is_no_expression(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Expression(text)


def test_an_expression_finds_what_it_names() -> None:
    expression = pickle.loads(pickle.dumps(Expression(r"(?P<label>\d+)-(?=x)")))
    assert expression.names == {"label"}
    found = expression.search("ab/12-x.wav", "label", DatasetError)
    assert found["label"] == "12"
    assert expression.search("ab/12-y.wav", "label", DatasetError) is None


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("x{d}", "ax{d}", "x{d}"),
        ("sp{e<=1}", "spx", None),
        ("speaker{id}", "speaker{id}", "speaker{id}"),
        ("a{2,3}b{,1}c{2}d{1,}{}", "aabccdd{}", "aabccdd{}"),
        (r"\{[{}]{2}[]{]", "{}{]", "{}{]"),
    ],
)
def test_braces_mean_what_they_mean_to_python(text: str, name: str, found: str | None) -> None:
    assert (match := re.search(text, name)) == found or (match is not None and match[0] == found)
    match = Expression(text).search(name, "label", DatasetError)
    assert (match if match is None else match[0]) == found
