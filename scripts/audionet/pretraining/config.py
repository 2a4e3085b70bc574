"""Settings of pretrain.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import SHARED_FILES
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class PretrainConfig:
    """Settings for pretraining a backbone: data, network, optimizer, augmentation and output."""

    data_dir: Path = setting(
        SHARED_FILES / "pretraining_audio",
        "folder of the recordings, in the sub-folders that the manifest names",
        group="input",
    )
    manifest: Path = setting(
        SHARED_FILES / "pretraining.json",
        "JSON file that lists the datasets: folder, task, pattern of labels in file names, licence",
        group="input",
    )
    output_dir: Path = setting(
        SHARED_FILES / "models" / "pretrained",
        "folder for the finished backbone; its name becomes the backbone's name",
        group="output",
    )
    checkpoint_dir: Path = setting(
        SHARED_FILES / "checkpoints" / "pretraining",
        "folder for checkpoints, from which interrupted training resumes, and for cached teacher embeddings",
    )
    summaries_dir: Path = setting(SHARED_FILES / "training_summaries" / "pretraining", "folder for TensorBoard logs")
    teacher: Literal["campplus", "none"] = setting(
        "campplus",
        "published network whose speaker embeddings are distilled; needs audionet[pretrain]",
        group="training",
    )
    initial: str | None = setting(
        None,
        "finished backbone to start from, a folder or the bundled one's name; default: random weights",
    )
    synthetic_sounds: int = setting(
        2000, "number of sounds of a synthesizer with random settings to train on as well; 0: none"
    )
    voice_space: str | None = setting(
        None,
        "learn no backbone, but the voice space of this finished one, a folder or the bundled one's name, from the "
        "manifest's datasets of speakers, words and other sounds",
        group="training",
    )
    steps: int = setting(20_000, "maximum number of training steps", group="training")
    hours: float | None = setting(None, "stop after this many hours, even if steps remain", group="training")
    batch_size: int = setting(128, "images per training step")
    learning_rate: float = setting(1.5e-3, "peak learning rate; linear warm-up over the first steps, then cosine decay")
    weight_decay: float = setting(0.02, "weight decay of AdamW")
    ema_decay: float = setting(
        0.999,
        "decay of the exponential moving average of the weights, which the backbone keeps; 0: no average",
        alias="average",
    )
    input_height: int = setting(128, "height of the network's input in pixels")
    input_width: int = setting(96, "width of the network's input in pixels")
    endpoint: str = setting(
        "mixed2", "block of Inception-v3 that bottlenecks are taken from; an earlier one is smaller and faster"
    )
    voice_endpoint: str = setting("mixed4", "block that the voice embedding is computed from")
    voice_width: int = setting(192, "dimensions of the voice embedding, the network's second output; 0: none")
    pooling: Literal["average", "time", "statistics", "attentive"] = setting(
        "time", "pooling of the bottleneck block's feature maps in training"
    )
    embedding: int = setting(
        512, "dimensions of the linear layer after the pooling, the input of all training heads but the voice's"
    )
    bottleneck: Literal["embedding", "average", "time", "statistics"] = setting(
        "time", "output of the finished backbone: that linear layer, or the feature maps before it with this pooling"
    )
    statistics: Literal["none", "bands", "mfcc"] = setting(
        "none", "statistics of the image appended to the bottleneck: of its mel bands or of its MFCCs"
    )
    version: int = setting(1, "version number of the backbone, for its model card")
    margin: float = setting(0.2, "additive cosine margin of the speaker loss (CosFace)")
    augmentation_strength: float = setting(
        0.7,
        "maximum augmentation strength of sound and images, 0 to 1; lower it for a short training",
        alias="disturbance",
    )
    views: int = setting(4, "augmented views of each segment of sound", alias="glimpses")
    shuffle_buffer: int = setting(
        4096,
        "images in the shuffle buffer, which spreads the views of a segment over many batches",
        alias="shuffle",
    )
    eval_interval: int = setting(
        500, "steps between validations on held-out recordings; each also saves a checkpoint", alias="look_every"
    )
    workers: int = setting(available_cores(), "worker processes that render images")
    seed: int = setting(0, "seed of the initial weights and of all random choices")

    def __post_init__(self) -> None:
        for flag in ("steps", "batch_size", "views", "shuffle_buffer", "eval_interval", "embedding", "version"):
            require(getattr(self, flag) >= 1, flag, getattr(self, flag), "1 or more")
        for flag in ("input_height", "input_width"):
            require(75 <= getattr(self, flag) <= 1024, flag, getattr(self, flag), "75 to 1024, as Inception-v3 takes")
        require(0 <= self.synthetic_sounds <= 1_000_000, "synthetic_sounds", self.synthetic_sounds, "0 to 1000000")
        require(0 <= self.voice_width <= 1024, "voice_width", self.voice_width, "0 to 1024")
        hours = self.hours
        require(hours is None or 0 < hours <= 10_000, "hours", hours, "above 0, to 10000")
        require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "above 0 and below 1")
        require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "0 to 1")
        require(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "0 or more and below 1")
        require(0 <= self.augmentation_strength <= 1, "augmentation_strength", self.augmentation_strength, "0 to 1")
        require(0 <= self.margin <= 0.5, "margin", self.margin, "0 to 0.5")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        require(self.output_dir.name != "", "output_dir", self.output_dir, "a folder with a name")
