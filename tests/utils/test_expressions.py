from __future__ import annotations

import pickle

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
