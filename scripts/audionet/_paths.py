"""Where files lie by default, and how those beside a model are called."""

from __future__ import annotations

from pathlib import Path

TF_FILES = Path(__file__).resolve().parents[2] / "tf_files"

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
