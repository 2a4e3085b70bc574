"""What evaluate.py holds a model against."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.utils.parallel import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class EvaluateConfig:
    """What evaluate.py holds a model against, and where the report goes."""

    graph: Path = setting(TF_FILES / "retrained_graph.tflite", "the model retrain.py wrote")
    test_dir: Path | None = setting(
        None, "held-out recordings, one folder per label; default: the test part of the images it was trained with"
    )
    image_dir: Path = setting(TF_FILES / "data_image", "the images that the model was trained with")
    report_dir: Path = setting(TF_FILES / "report", "where report.html, report.json and the PNGs go")
    cost: tuple[str, ...] = setting(
        (),
        'what a mistake costs, true:predicted=number as in "voicemail:human=10"; others cost 1; may be repeated. '
        "none: all cost the same again",
    )
    worst: int = setting(24, "how many of the surest mistakes to show")
    workers: int = setting(available_cores(), "processes to judge with")

    def __post_init__(self) -> None:
        require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")
        require(0 <= self.worst <= 1000, "worst", self.worst, "0 to 1000")
        require("none" not in self.cost or self.drops_rule, "cost", "none and more", "none alone, or costs")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")

    @property
    def drops_rule(self) -> bool:
        """Whether the model is to forget what mistakes cost."""
        return self.cost == ("none",)
