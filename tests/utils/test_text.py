from __future__ import annotations

import unicodedata

from hypothesis import given
from hypothesis import strategies as st

from audionet.utils.text import composed, find_name


@given(name=st.text())
def test_a_name_is_found_in_either_encoding(name: str) -> None:
    for form in ("NFC", "NFD"):
        written = unicodedata.normalize(form, name)
        assert find_name(name, ["", written]) in ("", written)
        assert composed(written) == composed(name)


def test_a_name_is_spelled_as_it_was_found() -> None:
    assert find_name("Jos\u00e9", ["ann", "Jose\u0301"]) == "Jose\u0301"
    assert find_name("Jose", ["Jos\u00e9"]) is None
    assert find_name("\udce9", ["\udce9"]) == "\udce9"  # a name that is not UTF-8
