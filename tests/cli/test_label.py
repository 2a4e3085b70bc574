"""label_image.py with unusual names and files."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from PIL import Image

from tests.support.scripts import run_script
from tests.support.sounds import write_tone

C_LOCALE = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
C_LOCALE.pop("PYTHONIOENCODING", None)


@pytest.fixture
def graph(tone_model: Path, tmp_path: Path) -> Path:
    for path in tone_model.parent.glob("retrained_*"):
        shutil.copy(path, tmp_path)
    return tmp_path / tone_model.name


@pytest.mark.parametrize("form", ["PNG", "WebP", "GIF"])
def test_an_image_of_another_format_is_refused_as_such(graph: Path, tmp_path: Path, form: str) -> None:
    path = tmp_path / f"x.{form.lower()}"
    Image.new("RGB", (47, 128)).save(path, form)
    for flags in ([path], ["--image", path], ["--timeline", path], ["--enrol", "zoe", path]):
        done = run_script("label_image.py", "--graph", graph, *flags)
        assert done.returncode == 1
        assert (
            f"is a {form} image: of images, only JPG spectrograms that data_maker.py rendered are read" in done.stderr
        )
        assert "damaged" not in done.stderr


def test_a_jpg_named_otherwise_is_refused_as_such(graph: Path, tmp_path: Path) -> None:
    Image.new("RGB", (47, 128)).save(tmp_path / "x.wav", "JPEG")
    done = run_script("label_image.py", "--graph", graph, tmp_path / "x.wav")
    assert "is a JPG image" in done.stderr
    assert "with the ending .jpg" in done.stderr


@pytest.mark.parametrize("name", [" ann", "ann ", "\u00a0ann", "ann\u3000"])
def test_a_name_with_blanks_around_it_is_refused(graph: Path, tmp_path: Path, name: str) -> None:
    clip = write_tone(tmp_path / "clip.wav", 850, 6.0)
    assert run_script("label_image.py", "--graph", graph, "--enrol", "ann", clip).returncode == 0
    done = run_script("label_image.py", "--graph", graph, "--enrol", name, clip)
    assert done.returncode == 2
    assert "the name begins or ends with a blank, which nobody sees: leave it out" in done.stderr
    assert done.stderr.count("\n") == 1
    assert list(json.loads((tmp_path / "retrained_enrolled.json").read_text())["voices"]) == ["ann"]


@pytest.mark.parametrize("environment", [C_LOCALE, {**os.environ, "PYTHONIOENCODING": "latin-1"}], ids=["C", "latin-1"])
def test_json_and_names_are_the_same_in_every_locale(graph: Path, tmp_path: Path, environment: dict[str, str]) -> None:
    clip = write_tone(tmp_path / "clié.wav", 850, 6.0)
    missing = tmp_path / "nó.wav"
    assert run_script("label_image.py", "--graph", graph, "--enrol", "zoë", clip).returncode == 0
    done = run_script("label_image.py", "--graph", graph, "--json", clip, missing, env=environment, encoding="latin-1")
    assert "Traceback" not in done.stderr
    answer, error = (json.loads(line) for line in done.stdout.splitlines())
    assert (answer["file"], answer["decision"]) == (str(clip), "zoë")
    assert error["file"] == str(missing)
    again = run_script("label_image.py", "--graph", graph, "--enrol", "zoë", clip, env=environment, encoding="latin-1")
    assert "in place of the previous one" in again.stdout
    verified = run_script(
        "label_image.py", "--graph", graph, "--json", "--verify", "zoë", clip, env=environment, encoding="latin-1"
    )
    assert json.loads(verified.stdout)["claimed"] == "zoë"
    forgotten = run_script("label_image.py", "--graph", graph, "--forget", "zoë", env=environment, encoding="latin-1")
    assert forgotten.returncode == 0, forgotten.stderr
