"""Which model label_image.py asks, and how it answers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.errors import UsageError
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class LabelConfig:
    """Which model label_image.py asks, and how it prints the answer."""

    graph: Path = setting(TF_FILES / "retrained_graph.tflite", "the model retrain.py wrote")
    labels: Path | None = setting(None, "the labels retrain.py wrote; default: those in the model's JSON")
    top_k: int = setting(5, "how many labels to print for a clip; 0 for all")
    per_chunk: bool = setting(False, "print every chunk's answer too, with its time")
    json: bool = setting(False, "print one JSON object a clip and line")
    timeline: bool = setting(False, "say who speaks when, for long recordings; also writes CSV, RTTM and a PNG")
    timeline_step: float | None = setting(
        None, "seconds between looks at the recording, at most a chunk; default: a third of one"
    )
    timeline_dir: Path = setting(TF_FILES / "timelines", "where timelines go, named after the recording")
    enrol: str | None = setting(None, "add a voice of this name from 10 to 30 seconds of it, without training")
    forget: str | None = setting(None, "take an enrolled voice out again")
    verify: str | None = setting(None, "say whether each clip is this voice, trained or enrolled")

    def __post_init__(self) -> None:
        require(self.top_k >= 0, "top_k", self.top_k, "0 or more")
        step = self.timeline_step
        require(step is None or 0.01 <= step <= 600, "timeline_step", step, "0.01 to 600 seconds")
        ways = ("timeline", "enrol", "forget", "verify")
        asked = [f"--{way}" for way in ways if getattr(self, way) not in (None, False)]
        if len(asked) > 1:
            raise UsageError(f"{' and '.join(asked)} are asked for at once: run label_image.py once for each")
        require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")
