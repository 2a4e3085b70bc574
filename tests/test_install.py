"""The package as users install it: a wheel, in a virtual environment of its own, run in an empty folder."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.support.images import make_images
from tests.support.models import TONES
from tests.support.sounds import ROOT, tone, write_tone

pytestmark = pytest.mark.slow

BIN = Path("Scripts" if os.name == "nt" else "bin")
OFFLINE = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")


def run(*command: object, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONPATH", "AUDIONET_HOME", "AUDIONET_PROJECT")
    }
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=clean | environment, check=False, capture_output=True, text=True
    )


def succeed(*command: object, cwd: Path, **environment: str) -> str:
    done = run(*command, cwd=cwd, **environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves files behind in the folder it is made of."""
    source = tmp_path_factory.mktemp("source")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "scripts" / "audionet", source / "scripts" / "audionet", ignore=ignored)
    folder = tmp_path_factory.mktemp("wheel")
    succeed(sys.executable, "-m", "pip", "wheel", "--no-deps", "-w", folder, source, cwd=folder)
    (built,) = folder.glob("audionet-*.whl")
    return built


def install(folder: Path, wheel: Path, extra: str = "") -> Path:
    """A new virtual environment with the wheel and what it depends on; its folder of programs."""
    succeed(sys.executable, "-m", "venv", folder, cwd=folder)
    programs = folder / BIN
    wanted = (f"{wheel}{extra}", "-c", ROOT / "constraints.txt")
    succeed(programs / "python", "-m", "pip", "install", "--quiet", *wanted, cwd=folder)
    return programs


@pytest.fixture(scope="module")
def core(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Path:
    return install(tmp_path_factory.mktemp("core"), wheel)


def tracked() -> set[str]:
    """Files of the package that git has, from `scripts`."""
    listed = succeed("git", "ls-files", "-z", "scripts/audionet", cwd=ROOT)
    return {name.removeprefix("scripts/") for name in listed.split("\0") if name}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_the_wheel_holds_the_package_and_its_licence_and_nothing_else(wheel: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    inside = {name for name in names if ".dist-info/" not in name}
    assert inside == tracked()
    assert any(name.endswith("licenses/LICENSE") for name in names)


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no checkout")
def test_the_sdist_builds_the_same_package(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    archive = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x", "-C", str(source)], input=archive, check=True)
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    succeed(uv, "build", "--sdist", "--out-dir", tmp_path / "dist", source, cwd=tmp_path)
    (built,) = (tmp_path / "dist").glob("*.tar.gz")
    with tarfile.open(built) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    committed = succeed("git", "ls-tree", "-r", "-z", "--name-only", "HEAD", "scripts/audionet", cwd=ROOT)
    assert {"LICENSE", "README.md", "pyproject.toml", *filter(None, committed.split("\0"))} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tf_files")]


def write_clip(path: Path, frequency: float, seconds: float = 2.0) -> Path:
    """A tone as the model has learned them, in a little noise."""
    noise = np.random.default_rng(0).standard_normal(round(seconds * 16_000))
    soundfile.write(path, 0.49 * (tone(frequency, seconds) + 0.05 * noise), 16_000)
    return path


@pytest.fixture
def graph(tone_model: Path, tmp_path: Path) -> Path:
    for path in tone_model.parent.glob("retrained_*"):
        shutil.copy(path, tmp_path)
    return tmp_path / tone_model.name


def test_the_core_brings_no_tensorflow_and_is_imported_at_once(core: Path, tmp_path: Path) -> None:
    installed = json.loads(succeed(core / "python", "-m", "pip", "list", "--format=json", cwd=tmp_path))
    names = {package["name"].lower() for package in installed}
    assert "audionet" in names
    assert not names & {"tensorflow", "keras", "scipy", "matplotlib", "fastapi", "scikit-learn"}
    code = "import time; start = time.perf_counter(); import audionet; print(time.perf_counter() - start)"
    assert min(float(succeed(core / "python", "-c", code, cwd=tmp_path)) for _ in range(3)) < 0.05


def test_the_core_labels_and_enrols(core: Path, graph: Path, tmp_path: Path) -> None:
    clip, other = write_clip(tmp_path / "known.wav", 1200), write_clip(tmp_path / "other.wav", 850, 6.0)
    command = (core / "audionet", "label", "--graph", graph, "--json")
    assert json.loads(succeed(*command, clip, cwd=tmp_path))["labels"][0]["label"] == TONES[2]
    succeed(core / "audionet", "label", "--graph", graph, "--enrol", "zoe", other, cwd=tmp_path)
    assert json.loads(succeed(*command, other, cwd=tmp_path))["decision"] == "zoe"


def test_the_core_renders(core: Path, tmp_path: Path) -> None:
    for label in ("high", "low"):
        write_tone(tmp_path / "tf_files" / "data_audio" / label / "a.wav", seconds=7.0)
    succeed(core / "audionet", "data", cwd=tmp_path)
    assert len(list((tmp_path / "tf_files" / "data_image").rglob("*.jpg"))) >= 4


def test_the_core_writes_a_timeline_without_its_picture(core: Path, graph: Path, tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "known.wav", 1200)
    done = run(core / "audionet", "label", "--graph", graph, "--timeline", clip, cwd=tmp_path)
    assert done.returncode == 0
    assert "known.png is not written: matplotlib is not installed: pip install 'audionet[train]'" in done.stderr
    assert sorted(path.name for path in (tmp_path / "tf_files" / "timelines").iterdir()) == [
        "known.csv",
        "known.rttm",
        "known.selections.txt",
        "known.txt",
    ]


@pytest.mark.parametrize(
    ("command", "extra"), [("train", "train"), ("evaluate", "train"), ("probe", "train"), ("serve", "serve")]
)
def test_a_command_of_an_extra_names_it(core: Path, tmp_path: Path, command: str, extra: str) -> None:
    done = run(core / "audionet", command, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.endswith(f" is not installed: pip install 'audionet[{extra}]'\n")
    assert len(done.stderr.splitlines()) == 1


def test_with_train_it_trains_on_the_bundled_backbone_offline(
    wheel: Path, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    programs = install(tmp_path_factory.mktemp("train"), wheel, "[train]")
    make_images(tmp_path / "images", 5, 3, ("high", "low", "middle"))
    flags = ("--image_dir", tmp_path / "images", "--how_many_training_steps", 20)
    out = succeed(programs / "audionet", "train", *flags, cwd=tmp_path, **OFFLINE)
    assert "Converting" not in out
    assert (tmp_path / "tf_files" / "retrained_graph.tflite").is_file()
    image = next((tmp_path / "images" / "high").glob("*.jpg"))
    answer = json.loads(succeed(programs / "audionet", "label", "--json", image, cwd=tmp_path, **OFFLINE))
    assert {label["label"] for label in answer["labels"]} == {"high", "low", "middle"}
