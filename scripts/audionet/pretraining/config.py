"""What pretrain.py makes a backbone from, and how."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import TF_FILES
from audionet.utils.parallel import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class PretrainConfig:
    """What pretrain.py makes a backbone from, how, and where it goes."""

    data_dir: Path = setting(TF_FILES / "pretraining_audio", "recordings, in the folders that the manifest names")
    manifest: Path = setting(
        TF_FILES / "pretraining.json", "datasets: their folders, how labels are read from names, their licences"
    )
    output_dir: Path = setting(TF_FILES / "models" / "pretrained", "the backbone to write: its name is the folder's")
    checkpoint_dir: Path = setting(
        TF_FILES / "checkpoints" / "pretraining", "where training that was interrupted goes on from; teachers' answers"
    )
    summaries_dir: Path = setting(TF_FILES / "training_summaries" / "pretraining", "TensorBoard's curves")
    teacher: Literal["resemblyzer", "none"] = setting(
        "resemblyzer", "published network to learn from too; takes audionet[pretrain]"
    )
    steps: int = setting(20_000, "training steps, at most")
    hours: float | None = setting(None, "end after so many hours, if the steps are not done by then")
    batch_size: int = setting(64, "images in one step")
    learning_rate: float = setting(
        1.5e-3, "rate at its highest; it rises over the first steps, then falls along a cosine"
    )
    weight_decay: float = setting(0.02, "AdamW's decay of the weights")
    average: float = setting(0.999, "share of the past in the running average of the weights, which is what is kept")
    input_height: int = setting(128, "height of the network's input, pixels")
    input_width: int = setting(96, "width of the network's input, pixels")
    endpoint: str = setting("mixed4", "the last block of Inception-v3 to keep; earlier is smaller and faster")
    pooling: Literal["average", "time", "statistics", "attentive"] = setting(
        "statistics", "how its maps become one vector"
    )
    embedding: int = setting(512, "width of the linear layer that follows, on which everything is learned")
    bottleneck: Literal["embedding", "average", "time", "statistics"] = setting(
        "time", "what the backbone gives in the end: that layer, or the maps before it, pooled so"
    )
    statistics: Literal["none", "bands", "mfcc"] = setting(
        "none", "statistics of the image that join the bottleneck: of its mel bands, of its MFCCs"
    )
    version: int = setting(1, "number of the backbone, for its card")
    margin: float = setting(0.2, "how much nearer its own direction than any other a speaker has to be, in cosines")
    disturbance: float = setting(
        0.7, "how much sound and images are changed at most, 0 to 1; less where there is less time to learn"
    )
    glimpses: int = setting(6, "images made of one stretch of sound before the next is drawn")
    shuffle: int = setting(4096, "images held to draw from, so that those of one stretch do not come together")
    look_every: int = setting(500, "steps from one look at recordings held out, and one checkpoint, to the next")
    workers: int = setting(available_cores(), "processes that make images")
    seed: int = setting(0, "seed of the initial weights and of all that is drawn")

    def __post_init__(self) -> None:
        for flag in ("steps", "batch_size", "glimpses", "shuffle", "look_every", "embedding", "version"):
            require(getattr(self, flag) >= 1, flag, getattr(self, flag), "1 or more")
        for flag in ("input_height", "input_width"):
            require(75 <= getattr(self, flag) <= 1024, flag, getattr(self, flag), "75 to 1024, as Inception-v3 takes")
        hours = self.hours
        require(hours is None or 0 < hours <= 10_000, "hours", hours, "above 0, to 10000")
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "above 0 and below 1")
        require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "0 to 1")
        require(0 <= self.average < 1, "average", self.average, "0 or more and below 1")
        require(0 <= self.disturbance <= 1, "disturbance", self.disturbance, "0 to 1")
        require(0 <= self.margin <= 0.5, "margin", self.margin, "0 to 0.5")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        require(self.output_dir.name != "", "output_dir", self.output_dir, "a folder with a name")
