"""Where files lie by default, and how those beside a model are called."""

from __future__ import annotations

import os
from pathlib import Path


def _tf_files(package: Path) -> Path:
    """Folder of recordings, models and caches: ``$AUDIONET_HOME``, else a checkout's own, else the current folder's.

    Parameters
    ----------
    package : Path
        Where this package lies.
    """
    if home := os.environ.get("AUDIONET_HOME"):
        return Path(home)
    checkout = package.parents[1]
    return (checkout if (checkout / "pyproject.toml").is_file() else Path()) / "tf_files"


TF_FILES = _tf_files(Path(__file__).resolve().parent)

GRAPH_SUFFIXES = (".tflite", ".pb", ".keras", "")
"""What a model can be written as; a SavedModel is a folder."""


def lite_path(graph: Path) -> Path:
    """The LiteRT file that label_image.py asks, written beside a model of another kind."""
    return graph.with_name((graph.stem if graph.suffix in GRAPH_SUFFIXES else graph.name) + ".tflite")


def arrays_path(graph: Path) -> Path:
    """The numbers beside a model: ``retrained_graph.tflite`` has ``retrained_model.npz``."""
    return model_json_path(graph).with_suffix(".npz")


def enrolled_path(graph: Path) -> Path:
    """The voices that were enrolled in a model: ``retrained_graph.tflite`` has ``retrained_enrolled.json``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_enrolled.json")


def model_json_path(graph: Path) -> Path:
    """The JSON beside a model: ``retrained_graph.tflite`` has ``retrained_model.json``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_model.json")
