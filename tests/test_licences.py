"""The core depends on permissive licences alone, but for the packages that are explained."""

from __future__ import annotations

import pytest

from tests.support.licences import COPYLEFT, EXTRAS, PERMISSIVE, WEAK_COPYLEFT, packages_of, page
from tests.support.sounds import ROOT

CORE = {package.name.lower(): package.licence for package in packages_of()}


def test_the_core_is_the_whole_closure() -> None:
    assert {"numpy", "soundfile", "av", "cffi", "pycparser", "flatbuffers"} <= set(CORE)


@pytest.mark.parametrize("name", CORE)
def test_a_package_of_the_core_is_permissive_or_explained(name: str) -> None:
    licence = CORE[name]
    assert PERMISSIVE.search(licence) or name in WEAK_COPYLEFT, f"{name}: {licence}"
    assert not COPYLEFT.search(licence) or name in WEAK_COPYLEFT, f"{name}: {licence}"


@pytest.mark.parametrize("name", WEAK_COPYLEFT)
def test_explained_packages_are_there_and_need_it(name: str) -> None:
    assert COPYLEFT.search(CORE[name])


def test_no_package_of_an_extra_is_under_the_gpl_itself() -> None:
    licences = {package.name: package.licence for package in packages_of(EXTRAS)}
    strong = {name for name, licence in licences.items() if "GPL" in licence and "LGPL" not in licence}
    assert not strong


def test_the_page_names_every_package_of_the_core_and_what_wheels_bring() -> None:
    written = (ROOT / "docs" / "licences.md").read_text("utf-8").lower()
    assert all(f"| {name} |" in written for name in CORE)
    assert all(word in written for word in ("libsndfile", "x264", "lgpl"))
    assert page().lower().startswith(written.partition("\n## ")[0])
