"""Default folders, and the names of the files beside a model."""

from __future__ import annotations

import os
from pathlib import Path

PROJECT_VARIABLE = "AUDIONET_PROJECT"
"""Environment variable that names the project, which worker processes inherit; the flag ``--project`` sets it."""


def _home(package: Path) -> Path:
    """Return the folder of recordings, models and caches: ``$AUDIONET_HOME``, else a checkout's or the current.

    Parameters
    ----------
    package : Path
        Folder of this package.
    """
    if home := os.environ.get("AUDIONET_HOME"):
        return Path(home)
    checkout = package.parents[1]
    return (checkout if (checkout / "pyproject.toml").is_file() else Path()) / "tf_files"


SHARED_FILES = _home(Path(__file__).resolve().parent)
"""Folder of what all projects share: fetched and converted backbones."""

_project = os.environ.get(PROJECT_VARIABLE)

TF_FILES = SHARED_FILES / "projects" / _project if _project else SHARED_FILES
"""Folder of one project's recordings, images, bottlenecks, models and reports."""


def project_name(file: Path) -> str:
    """Return the name of the project that a model or list belongs to, for titles.

    It is the one of ``--project`` or ``$AUDIONET_PROJECT``; else the folder's, and of ``tf_files`` that of the folder
    around it.
    """
    if name := os.environ.get(PROJECT_VARIABLE):
        return name
    folder = file.resolve().parent
    return (folder.parent.name if folder.name == "tf_files" else folder.name) or file.stem


GRAPH_SUFFIXES = (".tflite", ".onnx", ".pb", ".keras", "")
"""Suffixes of the formats that a model can be written in; a SavedModel is a folder, without a suffix."""


def lite_path(graph: Path) -> Path:
    """Return the path of the LiteRT file that label_image.py runs, written beside a model of another format."""
    return graph.with_name((graph.stem if graph.suffix in GRAPH_SUFFIXES else graph.name) + ".tflite")


def arrays_path(graph: Path) -> Path:
    """Return the path of the arrays beside a model: ``retrained_graph.tflite`` has ``retrained_model.npz``."""
    return model_json_path(graph).with_suffix(".npz")


def out_of_fold_path(graph: Path) -> Path:
    """Return the path of a cross-validation's predictions: beside ``retrained_model.json``, ``..._out_of_fold.npz``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_out_of_fold.npz")


def enrolled_path(graph: Path) -> Path:
    """Return the path of a model's enrolled speakers: ``retrained_graph.tflite`` has ``retrained_enrolled.json``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_enrolled.json")


def model_json_path(graph: Path) -> Path:
    """Return the path of the JSON beside a model: ``retrained_graph.tflite`` has ``retrained_model.json``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_model.json")
