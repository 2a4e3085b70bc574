"""Settings of evaluate.py: of tests on labelled recordings, and of verification trials."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import SHARED_FILES, TF_FILES
from audionet.audio.config import CHANNEL_HELP, parse_channel
from audionet.inference.config import EmbedConfig
from audionet.utils.process import available_cores
from audionet.utils.settings import require, setting


@dataclass(frozen=True)
class EvaluateConfig:
    """Settings for evaluating a model: test recordings, costs of mistakes and output."""

    graph: Path = setting(
        TF_FILES / "retrained_graph.tflite", "the model to evaluate, written by retrain.py", group="input"
    )
    test_dir: Path | None = setting(
        None, "held-out recordings, one folder per label (default: the test set of the training images)", group="input"
    )
    image_dir: Path = setting(TF_FILES / "data_image", "the images that the model was trained on")
    against: Path | None = setting(None, "another model, to compare with on the same recordings", group="input")
    report_dir: Path = setting(TF_FILES / "report", "folder for report.html, report.json and the plots", group="output")
    labels_dir: Path | None = setting(
        None,
        "folder for the predicted segments as CSV, RTTM, Audacity and Raven labels; default: none are written",
    )
    cost: tuple[str, ...] = setting(
        (),
        'cost of a mistake, true:predicted=number as in "voicemail:human=10"; other mistakes cost 1; may be repeated. '
        "none: remove the costs stored in the model",
        group="decision",
    )
    channel: str = setting("auto", CHANNEL_HELP, alias="channels")
    worst: int = setting(24, "number of mistakes to show, the most confident first")
    explain: bool = setting(
        False,
        "also show where in each of these mistakes the evidence for the wrong or missed label is, up to a second each",
        group="output",
    )
    workers: int = setting(available_cores(), "number of worker processes")

    def __post_init__(self) -> None:
        parse_channel(self.channel)
        require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")
        require(0 <= self.worst <= 1000, "worst", self.worst, "0 to 1000")
        require("none" not in self.cost or self.drops_rule, "cost", "none and more", "either none alone, or costs")
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")

    @property
    def drops_rule(self) -> bool:
        """Return whether the costs stored in the model are to be removed."""
        return self.cost == ("none",)


@dataclass(frozen=True)
class CompareConfig:
    """Settings of `audionet compare`."""

    to: Path | None = setting(
        None,
        "file for the answers of all models, a row for each recording (.csv); or for the list of trainings (or .html)",
        group="output",
    )
    worst: int = setting(10, "number of recordings to name that one model gets and the other does not", group="output")
    models_dir: Path = setting(
        TF_FILES, "folder of the trained models that are listed if no reports are named", group="input"
    )

    def __post_init__(self) -> None:
        require(self.worst >= 0, "worst", self.worst, "0 or more")


@dataclass(frozen=True)
class TrialConfig:
    """Settings for scoring a list of verification trials.

    Attributes
    ----------
    graph : Path or None
        Trained model to embed recordings with, instead of a backbone alone.
    workers : int
    report_dir : Path
    """

    audio_dir: Path | None = setting(
        None, "with --trials: folder of the recordings that the list names (default: the folder of the list)"
    )
    enrolments: Path | None = setting(
        None, "with --trials: table of models and their files, where a speaker is enrolled from several"
    )
    architecture: str = setting(
        "inception_v3_speech", "with --trials: backbone whose voice space compares speakers, unless --graph does"
    )
    model_dir: Path = setting(SHARED_FILES / "models", "with --trials: folder for downloaded and converted backbones")
    score_norm: Literal["none", "s", "as"] = setting(
        "none",
        "with --trials: also normalise scores by a cohort of speakers: by all (s), or by the most similar ones (as)",
    )
    cohort: Path | None = setting(
        None,
        "with --score_norm: folder of the cohort, one folder per speaker (default: the speakers that come with the "
        "backbone, or that --graph was trained on)",
    )
    plda: Path | None = setting(
        None,
        "with --trials: also score by PLDA, trained on this folder of other speakers, one folder per speaker",
    )
    graph: Path | None = None
    workers: int = available_cores()
    report_dir: Path = TF_FILES / "report"

    def __post_init__(self) -> None:
        require(
            self.cohort is None or self.score_norm != "none", "score_norm", self.score_norm, "s or as with --cohort"
        )
        require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")

    @property
    def embedding(self) -> EmbedConfig:
        """Settings of the embeddings."""
        return EmbedConfig(self.graph, self.architecture, self.model_dir, "voice", self.workers)
