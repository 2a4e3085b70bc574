"""What probe.py compares, on which recordings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from audionet._paths import TF_FILES
from audionet.augment.config import PROBE_CONDITIONS
from audionet.utils.parallel import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class ProbeConfig:
    """What probe.py compares, on which recordings."""

    data_dir: Path = setting(
        TF_FILES / "data_audio", "recordings: one folder per label, or fsdd/recordings, libri251 and wakewords"
    )
    backbone: tuple[str, ...] = setting(
        (),
        "a bundled name, a folder holding a SavedModel, a TF Hub handle, or random: Inception-v3 that has learned "
        "nothing; name#endpoint#pooling taps it there; may be repeated (default: inception_v3_speech)",
    )
    model_dir: Path = setting(TF_FILES / "models", "cache of fetched and converted backbones")
    input_size: int | None = setting(None, "side of the backbone's input, pixels, where it does not say")
    float32: bool = setting(False, "probe backbones in 32 bits as well: what 8 cost")
    conditions: str = setting(
        ",".join(PROBE_CONDITIONS), "what test recordings are also heard with, separated by commas; or none"
    )
    most_recordings: int = setting(100, "recordings of a label, where folders are labels; more are left out")
    most_seconds: float = setting(30.0, "how much of each of them is heard, seconds from its beginning")
    workers: int = setting(available_cores(), "processes that compute features")
    seed: int = setting(0, "seed of the noise, of folds and of mixtures")
    report: Path | None = setting(None, "a JSON file to write every number to")
    card: Path | None = setting(None, "a model card, README.md beside a backbone's weights, to write the tables into")

    def __post_init__(self) -> None:
        side = self.input_size
        require(side is None or 8 <= side <= 4096, "input_size", side, "8 to 4096")
        known = self.conditions == "none" or (set(self.kinds) <= set(PROBE_CONDITIONS) and len(self.kinds) > 0)
        require(known, "conditions", self.conditions, f"none, or some of {', '.join(PROBE_CONDITIONS)}")
        require(self.most_recordings >= 2, "most_recordings", self.most_recordings, "2 or more")
        require(1 <= self.most_seconds <= 3600, "most_seconds", self.most_seconds, "1 to 3600")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")

    @property
    def backbones(self) -> tuple[str, ...]:
        """The backbones asked for, each once."""
        return tuple(dict.fromkeys(self.backbone)) or ("inception_v3_speech",)

    @property
    def kinds(self) -> tuple[str, ...]:
        """The conditions by name, each once."""
        if self.conditions == "none":
            return ()
        return tuple(dict.fromkeys(name.strip() for name in self.conditions.split(",") if name.strip()))
