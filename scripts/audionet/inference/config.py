"""Configuration of label_image.py and of the embedding of recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import SHARED_FILES, TF_FILES
from audionet.audio.config import CHANNEL_HELP, parse_channel
from audionet.errors import UsageError
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class LabelConfig:
    """Configuration of label_image.py: the model, and the form of the answer."""

    graph: Path = setting(TF_FILES / "retrained_graph.tflite", "model that retrain.py wrote", group="model")
    labels: Path | None = setting(None, "labels file that retrain.py wrote; default: the labels in the model's JSON")
    top_k: int = setting(5, "number of labels to print for each clip; 0 for all", group="answer")
    per_chunk: bool = setting(False, "also print the answer for each chunk, with its time")
    channel: str = setting("auto", CHANNEL_HELP, alias="channels")
    json: bool = setting(False, "print one JSON object per clip, one per line", group="answer")
    timeline: bool = setting(
        False,
        "diarize long recordings: print who speaks when; also write CSV, RTTM, Audacity and Raven labels, a PNG",
        group="answer",
    )
    timeline_step: float | None = setting(
        None, "hop of the sliding window in seconds, at most a chunk; default: a third of a chunk"
    )
    timeline_dir: Path = setting(
        TF_FILES / "timelines", "folder of the diarization files, which are named after the recording"
    )
    explain: bool = setting(
        False,
        "also say and draw where in time and frequency the evidence for the answer is; takes a second a chunk",
        group="answer",
    )
    explain_label: str | None = setting(None, "with --explain, the label or enrolled speaker to explain in its place")
    explain_dir: Path = setting(TF_FILES / "explanations", "folder of the drawings, <name>.explain.png for each clip")
    enrol: str | None = setting(
        None, "enrol a speaker of this name from 10 to 30 seconds of speech, without training", group="speakers"
    )
    forget: str | None = setting(None, "remove an enrolled speaker")
    verify: str | None = setting(
        None, "verify whether each clip is of this speaker, trained or enrolled", group="speakers"
    )

    def __post_init__(self) -> None:
        parse_channel(self.channel)
        require(self.top_k >= 0, "top_k", self.top_k, "0 or more")
        step = self.timeline_step
        require(step is None or 0.01 <= step <= 600, "timeline_step", step, "0.01 to 600 seconds")
        modes = ("explain", "timeline", "enrol", "forget", "verify")
        given = [f"--{mode}" for mode in modes if getattr(self, mode) not in (None, False)]
        if len(given) > 1:
            raise UsageError(f"{' and '.join(given)} cannot be combined: run label_image.py once for each")
        if self.explain_label is not None and not self.explain:
            raise UsageError("--explain_label goes with --explain")
        require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")


@dataclass(frozen=True)
class ListenConfig:
    """Configuration of `audionet listen`."""

    graph: Path = setting(TF_FILES / "retrained_graph.tflite", "model that retrain.py wrote", group="model")
    device: str | None = setting(
        None, "microphone: its number, or a part of its name; default: the system's", group="input"
    )
    play: Path | None = setting(None, "recording to listen to instead of a microphone", group="input")
    speed: float = setting(1.0, "speed of --play: 1 is real time, 0 as fast as possible")
    enrol: str | None = setting(None, "enrol a speaker of this name, who speaks into the microphone", group="speakers")
    json: bool = setting(False, "print one JSON object for each answer and each segment, one per line", group="answer")

    def __post_init__(self) -> None:
        require(0 <= self.speed <= 1000, "speed", self.speed, "0 to 1000")
        require(self.play is None or self.device is None, "play", self.play, "left out with --device")
        require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")


@dataclass(frozen=True)
class EmbedConfig:
    """Settings of the embeddings: the model or backbone that computes them, and their kind."""

    graph: Path | None = setting(
        None, "trained model to embed with; default: a backbone alone, --architecture", group="model"
    )
    architecture: str = setting("inception_v3_speech", "backbone to embed with, as for retrain.py", group="model")
    model_dir: Path = setting(SHARED_FILES / "models", "folder for downloaded and converted backbones")
    kind: Literal["voice", "bottleneck"] = setting(
        "voice",
        "voice: the space in which speakers are compared; bottleneck: all that the backbone gives, for any sound",
        group="model",
    )
    workers: int = setting(available_cores(), "number of processes")

    def __post_init__(self) -> None:
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        require(
            self.graph is None or self.kind == "voice",
            "kind",
            self.kind,
            "voice with --graph: a trained model gives embeddings in its own space alone",
        )
