from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from audionet import _paths
from audionet._paths import _tf_files
from tests.support.sounds import ROOT


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("AUDIONET_HOME", raising=False)
    yield
    monkeypatch.undo()
    importlib.reload(_paths)


def test_a_checkouts_files_lie_in_it() -> None:
    assert importlib.reload(_paths).TF_FILES == ROOT / "tf_files"


def test_an_installed_packages_files_lie_in_the_current_folder(tmp_path: Path) -> None:
    assert _tf_files(tmp_path / "lib" / "site-packages" / "audionet") == Path("tf_files")


def test_the_environment_names_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIONET_HOME", str(tmp_path))
    found = importlib.reload(_paths).TF_FILES
    assert found == tmp_path
    monkeypatch.setenv("AUDIONET_HOME", "")
    assert importlib.reload(_paths).TF_FILES == ROOT / "tf_files"
