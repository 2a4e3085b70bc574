"""Settings of data_maker.py: folders and processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import TF_FILES
from audionet.audio.config import CHANNEL_HELP, parse_channel
from audionet.audio.sound import ChannelSetting
from audionet.data.label_columns import COLUMNS
from audionet.data.naming import BACKGROUND
from audionet.errors import UsageError
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting
from audionet.utils.text import escape


@dataclass(frozen=True)
class DataConfig:
    """Input and output folders of data_maker.py, and its number of processes."""

    audio_dir: Path = setting(
        TF_FILES / "data_audio", "folder of recordings, one folder per label; never changed", group="input"
    )
    wav_dir: Path = setting(TF_FILES / "data_wav", "output folder for the WAV chunks")
    image_dir: Path = setting(
        TF_FILES / "data_image", "output folder for the spectrogram images and dataset.json", group="output"
    )
    labels: Path | None = setting(
        None,
        "label file, or folder of label files named after their recordings, instead of one folder per label: CSV, TSV "
        "or JSON lines with columns for file, channel, start, end, label, group and split; RTTM; Audacity label "
        "tracks; Raven selection tables; ELAN's tab-delimited export",
        group="input",
    )
    dataset: str | None = setting(
        None,
        "Hugging Face dataset instead of a folder of recordings: a folder on disk (an audio folder, Parquet files, or "
        "what save_to_disk wrote) or a name of the hub, OWNER/NAME; either with :CONFIG",
        group="input",
    )
    dataset_dir: Path = setting(
        TF_FILES / "data_hub", "output folder for the recordings of --dataset, each dataset in one of its own"
    )
    label_columns: str | None = setting(
        None,
        "names of its columns, or of those of --dataset, where they are not found by their usual ones, such as "
        "label=who,file=sound",
    )
    background: bool = setting(False, f"whether what no row labels becomes images of a label {BACKGROUND}")
    multi_label: Literal["auto", "on", "off"] = setting(
        "auto",
        "several labels at a time, in rows such as dog;rain or in rows that overlap. on: images of both, in a folder "
        "dog;rain; off: such times are left out; auto: on if a row joins labels with a semicolon",
    )
    channel: str = setting("auto", CHANNEL_HELP, alias="channels")
    workers: int = setting(available_cores(), "number of rendering processes")
    scheduler: str | None = setting(None, "address of a Dask cluster to render on instead, such as tcp://host:8786")
    force: bool = setting(False, "render every recording again, changed or not")
    gallery: bool = setting(False, "also write a contact sheet of each label's images", group="output")
    gallery_dir: Path = setting(TF_FILES / "gallery", "output folder for the contact sheets")

    def __post_init__(self) -> None:
        parse_channel(self.channel)
        parse_columns(self.label_columns)
        has_table = self.labels is not None or self.dataset is not None
        for name in ("label_columns", "background"):
            value = getattr(self, name)
            require(has_table or not value, name, value, "given with --labels or --dataset")
        several = self.multi_label
        require(has_table or several == "auto", "multi_label", several, "given with --labels or --dataset")
        if self.dataset is not None:
            require(self.channel != "split", "channel", self.channel, "another one with --dataset")
            require(self.labels is None, "labels", self.labels, "left out with --dataset, which has its own")
            place = "left out with --dataset, whose recordings go to --dataset_dir"
            require(self.audio_dir == type(self).audio_dir, "audio_dir", self.audio_dir, place)
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")

    @property
    def channel_setting(self) -> ChannelSetting:
        """Channel to use, parsed."""
        return parse_channel(self.channel)


def parse_columns(text: str | None) -> dict[str, str]:
    """Parse ``label=who,file=sound``: a label table's columns, by their usual names.

    Raises
    ------
    UsageError
        If it is in another form, or names a column that label tables do not have.
    """
    pairs = [part.partition("=") for part in text.split(",")] if text else []
    for name, equals, column in pairs:
        if name.strip() not in COLUMNS or not equals or not column.strip():
            raise UsageError(
                f"--label_columns is {escape(text or '')}: it must be NAME=COLUMN, separated by commas, with a NAME of "
                f"{', '.join(COLUMNS)}"
            )
    return {name.strip(): column.strip() for name, _, column in pairs}
