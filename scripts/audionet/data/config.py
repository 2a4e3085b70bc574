"""Settings of data_maker.py: folders and processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.audio.config import CHANNEL_HELP, parse_channel
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class DataConfig:
    """Input and output folders of data_maker.py, and its number of processes."""

    audio_dir: Path = setting(TF_FILES / "data_audio", "folder of recordings, one folder per label; never changed")
    wav_dir: Path = setting(TF_FILES / "data_wav", "output folder for the WAV chunks")
    image_dir: Path = setting(TF_FILES / "data_image", "output folder for the spectrogram images and dataset.json")
    channel: str = setting("auto", CHANNEL_HELP, alias="channels")
    workers: int = setting(available_cores(), "number of rendering processes")
    scheduler: str | None = setting(None, "address of a Dask cluster to render on instead, such as tcp://host:8786")
    force: bool = setting(False, "render every recording again, changed or not")
    gallery: bool = setting(False, "also write a contact sheet of each label's images")
    gallery_dir: Path = setting(TF_FILES / "gallery", "output folder for the contact sheets")

    def __post_init__(self) -> None:
        parse_channel(self.channel)
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
