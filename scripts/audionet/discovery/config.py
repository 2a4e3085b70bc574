"""Settings of ``audionet embed``, ``audionet search`` and ``audionet discover``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import SHARED_FILES, TF_FILES
from audionet.inference.config import EmbedConfig
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting

FILE_KINDS = (".npz", ".csv", ".parquet")
"""Endings of files that embeddings are written to."""


@dataclass(frozen=True)
class EmbedOutput:
    """Form of the output of ``audionet embed``."""

    to: Path = setting(TF_FILES / "embeddings.npz", "output file: .npz, .csv or .parquet", group="output")
    per: Literal["chunk", "piece", "recording"] = setting(
        "chunk",
        "one embedding for each chunk; for each piece of sound between pauses; or the mean of a recording's chunks",
        group="output",
    )
    map: Path | None = setting(None, "also draw the embeddings in two dimensions into this PNG file", group="output")

    def __post_init__(self) -> None:
        require(self.to.suffix.lower() in FILE_KINDS, "to", self.to, f"a file that ends in {', '.join(FILE_KINDS)}")
        require(self.map is None or self.map.suffix.lower() == ".png", "map", self.map, "a file that ends in .png")


@dataclass(frozen=True)
class SearchConfig:
    """Form of the output of ``audionet search``."""

    top_k: int = setting(10, "number of recordings to print; 0 for all", group="answer")
    json: bool = setting(False, "print one JSON object per recording, one per line", group="answer")

    def __post_init__(self) -> None:
        require(self.top_k >= 0, "top_k", self.top_k, "0 or more")


@dataclass(frozen=True)
class DiscoverConfig:
    """Settings of ``audionet discover`` besides those of the clustering."""

    out: Path = setting(
        TF_FILES / "discovered", "folder for the voices, the table of labels and the page", group="output"
    )
    architecture: str = setting("inception_v3_speech", "backbone in whose voice space voices are compared")
    model_dir: Path = setting(SHARED_FILES / "models", "folder for downloaded and converted backbones")
    graph: Path | None = setting(None, "trained model that names the voices it knows", group="voices")
    suggest: int = setting(
        0, "print so many turns whose labels would teach most, the least sure of each voice", group="output"
    )
    workers: int = setting(available_cores(), "number of processes")

    def __post_init__(self) -> None:
        require(self.suggest >= 0, "suggest", self.suggest, "0 or more")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")

    @property
    def embedding(self) -> EmbedConfig:
        """Settings of the embeddings."""
        return EmbedConfig(None, self.architecture, self.model_dir, "voice", self.workers)
