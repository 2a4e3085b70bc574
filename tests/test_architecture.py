"""Imports go down the packages only, and labelling stays light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from audionet.utils.extras import EXTRA_OF
from tests.support.sounds import ROOT

PACKAGE = ROOT / "scripts" / "audionet"
LAYERS = "errors _paths < utils < audio metrics < augment < data < backbones < classifier < training inference"
LAYERS += " < export evaluation probing pretraining discovery serving diagnostics < cli"
LEVEL = {name: level for level, names in enumerate(LAYERS.split("<")) for name in names.split()}
MODULES = {path.relative_to(PACKAGE): path for path in PACKAGE.rglob("*.py")}


def imports_of(path: Path) -> set[str]:
    """Full names of the package's modules that a file imports, wherever in it."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(node, ast.ImportFrom)]
    assert not [node for node in nodes if node.level], f"{path}: relative import"
    return {node.module for node in nodes if node.module and node.module.startswith("audionet.")}


@pytest.mark.parametrize("module", MODULES, ids=str)
def test_packages_import_only_packages_below_them(module: Path) -> None:
    own = module.parts[0].removesuffix(".py")
    if own in ("__init__", "__main__"):
        return
    others = {name.split(".")[1] for name in imports_of(MODULES[module])} - {own}
    assert not {other for other in others if LEVEL[other] >= LEVEL[own]}


def test_modules_of_a_package_do_not_import_each_other_in_a_circle() -> None:
    waiting = {".".join(("audionet", *m.with_suffix("").parts)): imports_of(path) for m, path in MODULES.items()}
    while free := {module for module, needed in waiting.items() if not needed & set(waiting)}:
        waiting = {module: needed for module, needed in waiting.items() if module not in free}
    assert not waiting


@pytest.mark.parametrize("script", ["audionet.cli.label", "audionet.cli.data", "audionet.serving.app"])
def test_labelling_and_serving_import_nothing_heavy(script: str) -> None:
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'scipy', 'tensorflow_hub'}"
    code = (
        f"import sys; import {script}; sys.exit(str(set(sys.modules) & {heavy}) if set(sys.modules) & {heavy} else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "scripts")


def test_serving_imports_only_what_its_extra_names() -> None:
    code = (
        "import sys, json, audionet.serving.server, audionet.serving.app, audionet.serving.worker; "
        "from importlib.metadata import *; "
        "names = packages_distributions(); "
        "print(json.dumps(sorted({name for m in sys.modules for name in names.get(m.partition('.')[0], [])})))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, cwd=ROOT / "scripts", capture_output=True, text=True).stdout
    named = named_in_project()
    allowed = named[""] | named["serve"] | {"setuptools"}  # which every Python process loads a part of
    others = set().union(*named.values()) - allowed
    assert not {name.lower().replace("_", "-") for name in json.loads(found)} & others


@pytest.mark.parametrize("script", ["audionet.cli.label", "audionet.cli.data"])
def test_labelling_and_rendering_import_only_what_the_package_depends_on(script: str) -> None:
    named = named_in_project()
    serving = {"fastapi", "uvicorn", "h11", "jinja2", "prometheus_client", "starlette"}
    code = f"import sys; import {script}; print(sorted(set(sys.modules) & {serving | {'distributed', 'sklearn'}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, cwd=ROOT / "scripts", capture_output=True, text=True
    )
    assert done.stdout == "[]\n"
    assert not named[""] & {"tensorflow", "scipy", "matplotlib"}


def test_every_module_of_an_extra_names_it() -> None:
    imported = set()
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add((node.module or "").partition(".")[0])
            elif isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
    core = {"PIL", "ai_edge_litert", "av", "flatbuffers", "numpy", "pydub", "soundfile", "soxr", "tqdm"}
    others = imported - set(sys.stdlib_module_names) - core - {"audionet", "jax"}
    assert others <= set(EXTRA_OF)
    assert set(EXTRA_OF.values()) <= set(named_in_project())


def named_in_project() -> dict[str, set[str]]:
    """Packages that pyproject.toml names: for each extra, and under "" for the package itself."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = {"": project["dependencies"], **project["optional-dependencies"]}
    return {extra: {re.split(r"[ ;<>=\[]", item)[0] for item in items} - {"audionet"} for extra, items in lists.items()}
