"""Settings of ``audionet doctor``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.utils.settings import setting


@dataclass(frozen=True)
class DoctorConfig:
    """Model to check, and form of the answer."""

    graph: Path = setting(TF_FILES / "retrained_graph.tflite", "model to check, written by retrain.py", group="checks")
    online: bool = setting(False, "also ask the hubs of datasets and backbones whether they answer", group="checks")
    json: bool = setting(False, "print one JSON object for all checks", group="answer")
