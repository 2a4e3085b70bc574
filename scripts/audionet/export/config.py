"""Settings of `audionet export`: the model, the folder, and what its card says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class ExportConfig:
    """Model, folder for the hub, and what the model's files do not say about it."""

    graph: Path = setting(
        TF_FILES / "retrained_graph.tflite",
        "model that retrain.py wrote; an .onnx file goes along with its .tflite",
        group="input",
    )
    to: Path = setting(
        TF_FILES / "hub_model", "output folder, ready for `hf upload`: a new one, or an earlier export", group="output"
    )
    report: Path | None = setting(
        None,
        "report.json of evaluate.py, or its folder: its equal error rate and other metrics go into the card",
        group="input",
    )
    license: str | None = setting(
        None, "the model's licence, as the hub abbreviates it, such as cc-by-4.0", group="model card"
    )
    dataset: str | None = setting(
        None,
        "name of the dataset that it was trained on, for the card; OWNER/NAME if the hub has it",
        group="model card",
    )

    def __post_init__(self) -> None:
        for name in ("license", "dataset"):
            value = getattr(self, name)
            require(value is None or (value.strip() and value.isprintable()), name, value, "a name on one line")
        require(self.to.name != "", "to", self.to, "a folder's name")
