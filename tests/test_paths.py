from __future__ import annotations

import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from audionet import _paths
from audionet._paths import PROJECT_VARIABLE, _home, project_name
from audionet.cli.early_flags import take_flag
from audionet.cli.main import check_project
from audionet.errors import UsageError
from tests.support.sounds import ROOT


@pytest.fixture(autouse=True)
def no_home(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("AUDIONET_HOME", PROJECT_VARIABLE):
        monkeypatch.delenv(name, raising=False)
    yield
    monkeypatch.undo()
    importlib.reload(_paths)


def test_a_checkouts_files_lie_in_it() -> None:
    assert importlib.reload(_paths).TF_FILES == ROOT / "tf_files"


def test_an_installed_packages_files_lie_in_the_current_folder(tmp_path: Path) -> None:
    assert _home(tmp_path / "lib" / "site-packages" / "audionet") == Path("tf_files")


def test_the_environment_names_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AUDIONET_HOME", str(tmp_path))
    found = importlib.reload(_paths).TF_FILES
    assert found == tmp_path
    monkeypatch.setenv("AUDIONET_HOME", "")
    assert importlib.reload(_paths).TF_FILES == ROOT / "tf_files"


def test_a_project_has_a_folder_of_its_own_and_shares_the_backbones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDIONET_HOME", str(tmp_path))
    monkeypatch.setenv(PROJECT_VARIABLE, "birds")
    found = importlib.reload(_paths)
    assert tmp_path / "projects" / "birds" == found.TF_FILES
    assert tmp_path == found.SHARED_FILES


@pytest.mark.parametrize("name", ["a/b", "..", ".hidden", "a\\b", "x" * 300, "a\nb"])
def test_a_project_is_named_as_a_folder_is(name: str) -> None:
    with pytest.raises(UsageError, match="it must be the name of a folder"):
        check_project(name)


@pytest.mark.parametrize(
    ("argv", "rest", "name"),
    [
        (["label", "a.wav"], ["label", "a.wav"], None),
        (["label", "--project", "birds", "a.wav"], ["label", "a.wav"], "birds"),
        (["label", "a.wav", "--project=birds"], ["label", "a.wav"], "birds"),
        (["label", "--project="], ["label"], ""),
        (["label", "--", "--project", "birds"], ["label", "--", "--project", "birds"], None),
        (["label", "--project"], ["label", "--project"], None),
    ],
)
def test_the_project_is_taken_out_of_a_command_line(argv: list[str], rest: list[str], name: str | None) -> None:
    assert take_flag(argv, "--project") == (rest, name)


def test_the_flag_changes_the_default_folders_of_every_command(tmp_path: Path) -> None:
    for command, missing in (("train", "data_image"), ("label", "retrained_graph.tflite"), ("data", "data_audio")):
        clip = ["clip.wav"] if command == "label" else []
        found = subprocess.run(
            [sys.executable, "-m", "audionet", command, "--project", "birds", *clip],
            env=os.environ | {"AUDIONET_HOME": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert str(tmp_path / "projects" / "birds" / missing) in found.stderr


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("/a/voices/tf_files/retrained_graph.tflite", "voices"),
        ("/a/tf_files/projects/birds/retrained_graph.tflite", "birds"),
        ("/a/demo/retrained_graph.tflite", "demo"),
        ("/retrained_graph.tflite", "retrained_graph"),
    ],
)
def test_a_project_has_the_name_of_its_folder(file: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert project_name(Path(file)) == name
    monkeypatch.setenv(PROJECT_VARIABLE, "owls")
    assert project_name(Path(file)) == "owls"
