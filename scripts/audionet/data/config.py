"""Where data_maker.py reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.utils.parallel import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class DataConfig:
    """Where data_maker.py reads and writes, and how many processes it uses."""

    audio_dir: Path = setting(TF_FILES / "data_audio", "recordings, one folder per label; never changed")
    wav_dir: Path = setting(TF_FILES / "data_wav", "where the WAV chunks go")
    image_dir: Path = setting(TF_FILES / "data_image", "where the images and dataset.json go")
    workers: int = setting(available_cores(), "processes to render with")
    scheduler: str | None = setting(None, "address of a Dask cluster that renders instead, such as tcp://host:8786")
    force: bool = setting(False, "render everything again, changed or not")
    gallery: bool = setting(False, "also write a contact sheet of each label's images")
    gallery_dir: Path = setting(TF_FILES / "gallery", "where contact sheets go")

    def __post_init__(self) -> None:
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
