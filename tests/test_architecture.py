"""The house's rules: imports go one way, and labelling stays light."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

PACKAGE = ROOT / "scripts" / "audionet"
LEVELS = [
    {"errors", "config", "flags", "files", "console"},
    {"decoding", "audio", "spectrogram", "features", "augment", "dataset", "cache", "ledger", "gallery", "strip"}
    | {"pieces", "variants", "rendering", "executors", "cluster", "metrics", "results", "litert"}
    | {"examples", "checkpoints", "plots", "head", "arrays", "calibration", "voices", "openset"}
    | {"costs", "enrolment", "timeline", "verification", "report_plots"}
    | {"conditions", "probe_tasks", "clip_features", "probes"}
    | {"manifest", "glimpses", "teachers", "repitching"},
    {
        "tensorflow_runtime",
        "conversion",
        "backbones",
        "acceleration",
        "bottlenecks",
        "masking",
        "stepping",
        "fitting",
        "summaries",
    }
    | {"inception", "saved_models", "pretraining_network"}
    | {"top_training", "networks", "search", "export", "tensorflow_export"},
    {"prediction", "verifying", "tracking", "wording", "judging", "held_out", "evaluation", "report"}
    | {"preparation", "training", "publishing", "probing", "probe_card", "pretraining", "backbone_files"},
    {"instruments", "sandbox", "decoders", "batching", "service"},
    {"problems", "schemas", "uploads", "gate", "reference", "api", "server"},
]
LEVEL = {name: level for level, names in enumerate(LEVELS) for name in names}
MODULES = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "__init__")


def imports_of(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module:
            found.add(node.module)
        elif isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.removeprefix("audionet."))
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return found


def test_every_module_has_its_level() -> None:
    assert set(MODULES) == set(LEVEL)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    inside = imports_of(PACKAGE / f"{module}.py") & set(LEVEL)
    assert not {other for other in inside if LEVEL[other] > LEVEL[module]}


def test_no_circles() -> None:
    done: set[str] = set()
    waiting = {module: imports_of(PACKAGE / f"{module}.py") & set(LEVEL) for module in MODULES}
    while waiting:
        free = {module for module, needed in waiting.items() if needed <= done}
        assert free, f"these import each other: {sorted(waiting)}"
        done |= free
        waiting = {module: needed for module, needed in waiting.items() if module not in free}


def test_scripts_never_import_scripts() -> None:
    scripts = {path.stem for path in (ROOT / "scripts").glob("*.py")}
    for path in (ROOT / "scripts").glob("*.py"):
        assert not imports_of(path) & scripts
        assert len(path.read_text("utf-8").splitlines()) <= 150


@pytest.mark.parametrize("script", ["label_image", "data_maker", "audionet.serving.app"])
def test_labelling_and_serving_import_nothing_heavy(script: str) -> None:
    heavy = "{'tensorflow', 'keras', 'matplotlib', 'scipy', 'tensorflow_hub'}"
    code = (
        f"import sys; import {script}; sys.exit(str(set(sys.modules) & {heavy}) if set(sys.modules) & {heavy} else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "scripts")


def test_serving_imports_only_what_its_requirements_name() -> None:
    code = (
        "import sys, json, audionet.server, audionet.api, audionet.sandbox; from importlib.metadata import *; "
        "names = packages_distributions(); "
        "print(json.dumps(sorted({name for m in sys.modules for name in names.get(m.partition('.')[0], [])})))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, check=True, cwd=ROOT / "scripts", capture_output=True, text=True).stdout
    others = named_in("requirements.txt") | named_in("requirements-dev.txt")
    others -= named_in("requirements-serve.txt") | {"setuptools"}  # which every Python process loads a part of
    assert not {name.lower().replace("_", "-") for name in json.loads(found)} & others


def named_in(requirements: str) -> set[str]:
    lines = (ROOT / requirements).read_text().splitlines()
    return {re.split(r"[ ;<>=#]", line)[0] for line in lines if line and line[0].isalpha()}
