"""Settings of probe.py."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import SHARED_FILES, TF_FILES
from audionet.augment.config import PROBE_CONDITIONS
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class ProbeConfig:
    """Settings for probing: recordings, backbones, conditions and output."""

    data_dir: Path = setting(
        TF_FILES / "data_audio",
        "folder of the recordings: one sub-folder per label, or fsdd/recordings, libri251, wakewords, speechocean and "
        "esc10",
        group="input",
    )
    backbone: tuple[str, ...] = setting(
        (),
        "bundled name, folder of a SavedModel, TF Hub handle, or random (untrained Inception-v3); "
        "name#endpoint#pooling selects its feature layer; may be repeated (default: inception_v3_speech)",
        group="input",
    )
    model_dir: Path = setting(SHARED_FILES / "models", "folder for downloaded and converted backbones")
    input_size: int | None = setting(
        None, "side of the backbone's input in pixels, if the backbone does not specify it"
    )
    float32: bool = setting(
        False, "also probe each backbone in 32-bit floats, to measure the loss by 8-bit quantisation"
    )
    conditions: str = setting(
        ",".join(PROBE_CONDITIONS),
        "distortions under which recordings are also tested, separated by commas; or none",
        group="test",
    )
    pairs: Path | None = setting(
        None,
        "text file of pairs of recordings to verify speakers on, a line each: 1 (same speaker) or 0, and two paths "
        "inside the folder; default: all pairs of the last readers' halves and of the last speakers of speechocean",
        group="test",
    )
    max_recordings: int = setting(
        100, "maximum number of recordings per label, if folders are labels", alias="most_recordings"
    )
    max_seconds: float = setting(
        30.0, "maximum seconds used of each whole recording, from its start", alias="most_seconds"
    )
    workers: int = setting(available_cores(), "number of worker processes for feature extraction")
    seed: int = setting(0, "random seed of the noise, of the folds and of the Gaussian mixtures")
    report: Path | None = setting(None, "JSON file to write all results to", group="output")
    card: Path | None = setting(
        None, "model card to write the result tables into: README.md beside a backbone's weights", group="output"
    )

    def __post_init__(self) -> None:
        side = self.input_size
        require(side is None or 8 <= side <= 4096, "input_size", side, "8 to 4096")
        known = self.conditions == "none" or (set(self.kinds) <= set(PROBE_CONDITIONS) and len(self.kinds) > 0)
        require(known, "conditions", self.conditions, f"none, or some of {', '.join(PROBE_CONDITIONS)}")
        require(self.max_recordings >= 2, "max_recordings", self.max_recordings, "2 or more")
        require(1 <= self.max_seconds <= 3600, "max_seconds", self.max_seconds, "1 to 3600")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")

    @property
    def backbones(self) -> tuple[str, ...]:
        """Backbones to probe, without duplicates."""
        return tuple(dict.fromkeys(self.backbone)) or ("inception_v3_speech",)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the test conditions besides clean, without duplicates."""
        if self.conditions == "none":
            return ()
        return tuple(dict.fromkeys(name.strip() for name in self.conditions.split(",") if name.strip()))
