"""Every setting and its default, once. The scripts' flags are read off these dataclasses."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from .errors import UsageError

TF_FILES = Path(__file__).resolve().parents[2] / "tf_files"

CHROMA_ROWS = 8
"""Pixel rows of a pitch class: a JPG keeps blocks of eight apart."""

AUGMENT_KINDS = ("stretch", "pitch", "room", "noise", "gain", "telephone", "codec")
"""What variants are made by, in the order in which it happens to a voice."""

MOST_VARIANTS = 50
"""Variants of one chunk, at most: more of the same teaches nothing."""


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _flag(default: Any, text: str, bare: Any = None) -> Any:
    """A setting with its default and help; `bare` is what the flag means when no value follows it."""
    return field(default=default, metadata={"help": text, "bare": bare})


def _require(condition: bool, flag: str, value: object, rule: str) -> None:
    if not condition:
        raise UsageError(f"--{flag} is {value}: it must be {rule}")


@dataclass(frozen=True)
class PictureConfig:
    """How sound becomes a picture. Stored with every model, so that labelling renders alike.

    Raises
    ------
    UsageError
        If a value makes no picture; the message names the flag, the value and the rule.
    """

    representation: Literal["mel", "linear", "chroma"] = _flag(
        "mel", "what the rows are: mel bands, the FFT's own bins, or the twelve pitch classes (try --window_ms 128)"
    )
    sample_rate: int = _flag(16_000, "samples a second that recordings are resampled to, Hz")
    chunk_seconds: float = _flag(3.0, "length of one chunk, and so of one picture, seconds")
    overlap: float = _flag(0.0, "share of a chunk that the next one begins with again, 0 to 0.95")
    loudness: float | None = _flag(
        None, "RMS level that each recording is brought to, dBFS, as far as its peak allows; none leaves it as it is"
    )
    trim_silence: float | None = _flag(
        None,
        "leave out a recording's beginning and end where they are this many dB below its loudest moment (bare: 40)",
        bare=40.0,
    )
    window_ms: float = _flag(25.0, "length of the Hann window, milliseconds")
    hop_ms: float = _flag(10.0, "step between windows, milliseconds")
    n_mels: int = _flag(128, "mel bands, one pixel row each")
    min_frequency: float = _flag(20.0, "lower edge of the picture (of the lowest mel band), Hz")
    max_frequency: float = _flag(7600.0, "upper edge of the picture (of the highest mel band), Hz")
    dynamic_range_db: float = _flag(80.0, "how far below the chunk's maximum the picture reaches, dB")
    jpeg_quality: int = _flag(95, "quality of the JPG pictures, 1 to 100")

    def __post_init__(self) -> None:
        _require(1_000 <= self.sample_rate <= 384_000, "sample_rate", self.sample_rate, "1000 to 384000")
        _require(0.1 <= self.chunk_seconds <= 600, "chunk_seconds", self.chunk_seconds, "0.1 to 600")
        _require(0 <= self.overlap <= 0.95, "overlap", self.overlap, "0 to 0.95, a share of the chunk")
        for flag, low, high in (("loudness", -70, 0), ("trim_silence", 1, 120)):
            value = getattr(self, flag)
            _require(value is None or low <= value <= high, flag, value, f"{low} to {high} dB, or none")
        _require(2 <= self.window_ms <= 1000, "window_ms", self.window_ms, "2 to 1000")
        _require(
            0.5 <= self.hop_ms <= self.window_ms,
            "hop_ms",
            self.hop_ms,
            f"0.5 to the window's length, {self.window_ms:g}",
        )
        _require(
            self.fft_length <= self.chunk_length,
            "chunk_seconds",
            self.chunk_seconds,
            f"{self.fft_length / self.sample_rate:g} or more, the length of one FFT",
        )
        _require(8 <= self.n_mels <= 512, "n_mels", self.n_mels, "8 to 512")
        _require(0 < self.max_frequency <= 1e6, "max_frequency", self.max_frequency, "above 0, to 1000000")
        _require(
            0 <= self.min_frequency < self.top_frequency,
            "min_frequency",
            self.min_frequency,
            f"0 to the upper edge, {self.top_frequency:g}",
        )
        _require(
            len(self.bins) >= {"mel": 0, "linear": 8, "chroma": 1}[self.representation],
            "max_frequency",
            self.max_frequency,
            "further above --min_frequency: there have to be FFT bins between them, and a linear picture needs 8",
        )
        _require(10 <= self.dynamic_range_db <= 200, "dynamic_range_db", self.dynamic_range_db, "10 to 200")
        _require(1 <= self.jpeg_quality <= 100, "jpeg_quality", self.jpeg_quality, "1 to 100")

    @property
    def chunk_length(self) -> int:
        """Samples in a chunk."""
        return round(self.chunk_seconds * self.sample_rate)

    @property
    def step_length(self) -> int:
        """Samples from the beginning of one chunk to that of the next."""
        return max(1, round(self.chunk_length * (1 - self.overlap)))

    @property
    def apart(self) -> int:
        """How many chunks further on the next one is that begins a whole chunk's length after this one's end."""
        return -(-2 * self.chunk_length // self.step_length)

    @property
    def window_length(self) -> int:
        """Samples in a window."""
        return round(self.window_ms * self.sample_rate / 1000)

    @property
    def hop_length(self) -> int:
        """Samples from one window to the next."""
        return max(1, round(self.hop_ms * self.sample_rate / 1000))

    @property
    def fft_length(self) -> int:
        """Samples in an FFT: the window rounded up to a power of two."""
        return 1 << (self.window_length - 1).bit_length()

    @property
    def top_frequency(self) -> float:
        """Upper edge of the highest band in Hz, never above half the sample rate."""
        return min(self.max_frequency, self.sample_rate / 2)

    @property
    def frames(self) -> int:
        """Pixel columns in a picture."""
        return 1 + max(0, self.chunk_length - self.fft_length) // self.hop_length

    @property
    def bins(self) -> range:
        """The FFT's bins from the lower to the upper frequency."""
        width = self.sample_rate / self.fft_length
        return range(math.ceil(self.min_frequency / width), math.floor(self.top_frequency / width) + 1)

    @property
    def rows(self) -> int:
        """Pixel rows in a picture."""
        return {"mel": self.n_mels, "linear": len(self.bins), "chroma": 12 * CHROMA_ROWS}[self.representation]


@dataclass(frozen=True)
class DataConfig:
    """Where data_maker.py reads and writes, and how many processes it uses."""

    audio_dir: Path = _flag(TF_FILES / "data_audio", "recordings, one folder per label; never changed")
    wav_dir: Path = _flag(TF_FILES / "data_wav", "where the WAV chunks go")
    image_dir: Path = _flag(TF_FILES / "data_image", "where the pictures and dataset.json go")
    workers: int = _flag(available_cores(), "processes to render with")
    scheduler: str | None = _flag(None, "address of a Dask cluster that renders instead, such as tcp://host:8786")
    force: bool = _flag(False, "render everything again, changed or not")
    gallery: bool = _flag(False, "also write a contact sheet of each label's pictures")
    gallery_dir: Path = _flag(TF_FILES / "gallery", "where contact sheets go")

    def __post_init__(self) -> None:
        _require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")


@dataclass(frozen=True)
class AugmentConfig:
    """Which variants of chunks are rendered beside them, for training only."""

    augment: int = _flag(0, "variants of each chunk, for training only")
    augment_label: tuple[str, ...] = _flag((), 'variants of each chunk of one label, as in "crow=4"; may be repeated')
    balance: bool = _flag(False, "variants for labels that have less, until all have as much as the largest")
    augment_kinds: str = _flag(",".join(AUGMENT_KINDS), "what variants are made by, separated by commas")
    noise_dir: Path | None = _flag(None, "recordings of background noise; default: generated noise")
    augment_seed: int = _flag(0, "seed that variants are drawn with")

    def __post_init__(self) -> None:
        _require(0 <= self.augment <= MOST_VARIANTS, "augment", self.augment, f"0 to {MOST_VARIANTS}")
        _require(0 <= self.augment_seed < 2**32, "augment_seed", self.augment_seed, "0 to 4294967295")
        known = set(self.kinds) <= set(AUGMENT_KINDS) and len(self.kinds) > 0
        _require(known, "augment_kinds", self.augment_kinds, f"some of {', '.join(AUGMENT_KINDS)}")
        for entry in self.augment_label:
            label, _, number = entry.rpartition("=")
            valid = bool(label) and number.isdecimal() and len(number) < 5 and int(number) <= MOST_VARIANTS
            _require(valid, "augment_label", entry, f"a label and 0 to {MOST_VARIANTS}, as in crow=4")

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds by name, each once."""
        return tuple(dict.fromkeys(name.strip() for name in self.augment_kinds.split(",") if name.strip()))

    @property
    def by_label(self) -> dict[str, int]:
        """Variants of each chunk, of the labels that have a number of their own."""
        return {label: int(number) for label, _, number in (entry.rpartition("=") for entry in self.augment_label)}

    @property
    def wanted(self) -> bool:
        """Whether any variants are asked for."""
        return self.augment > 0 or self.balance or any(self.by_label.values())


@dataclass(frozen=True)
class RetrainConfig:
    """What retrain.py learns from, how, and where the result goes."""

    image_dir: Path = _flag(TF_FILES / "data_image", "pictures, one folder per label, as data_maker.py makes them")
    bottleneck_dir: Path = _flag(TF_FILES / "bottlenecks", "cache of bottleneck features")
    model_dir: Path = _flag(TF_FILES / "models", "cache of fetched and converted backbones")
    summaries_dir: Path = _flag(TF_FILES / "training_summaries", "TensorBoard summaries")
    output_graph: Path = _flag(TF_FILES / "retrained_graph.tflite", "the model to write, a .tflite file")
    output_labels: Path = _flag(TF_FILES / "retrained_labels.txt", "the labels to write, one a line")
    architecture: str = _flag(
        "inception_v3_speech",
        "backbone: a bundled name, a folder holding a SavedModel, a TF Hub handle, "
        "or inception_v3 / mobilenet_v2_100_224 and the like for TF Hub's",
    )
    input_size: int | None = _flag(None, "side of the backbone's input, pixels, where it does not say")
    final_tensor_name: str = _flag("final_result", "name of the output that holds the probabilities")
    how_many_training_steps: int = _flag(500, "training steps")
    learning_rate: float = _flag(0.3, "learning rate of the first step; it falls to zero along a cosine")
    train_batch_size: int = _flag(100, "pictures in one training step")
    eval_step_interval: int = _flag(10, "steps from one look at the validation set to the next")
    testing_percentage: float = _flag(10.0, "share of each label kept for the test, percent of its duration")
    validation_percentage: float = _flag(10.0, "share of each label kept for validation, percent of its duration")
    scheduler: str | None = _flag(None, "address of a Dask cluster that computes bottlenecks, such as tcp://host:8786")
    print_misclassified_test_images: bool = _flag(False, "list the test pictures that got a wrong label")
    seed: int = _flag(0, "seed of the initial weights and of the order of pictures")

    def __post_init__(self) -> None:
        _require(
            self.how_many_training_steps >= 1, "how_many_training_steps", self.how_many_training_steps, "1 or more"
        )
        _require(0 < self.learning_rate < 10, "learning_rate", self.learning_rate, "above 0 and below 10")
        _require(self.train_batch_size >= 1, "train_batch_size", self.train_batch_size, "1 or more")
        _require(self.eval_step_interval >= 1, "eval_step_interval", self.eval_step_interval, "1 or more")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        side = self.input_size
        _require(side is None or 8 <= side <= 4096, "input_size", side, "8 to 4096")
        for flag in ("testing_percentage", "validation_percentage"):
            _require(0 <= getattr(self, flag) < 100, flag, getattr(self, flag), "0 or more and below 100")
        kept = self.testing_percentage + self.validation_percentage
        _require(kept < 100, "testing_percentage plus --validation_percentage", kept, "below 100")
        _require(
            self.output_graph.suffix == ".tflite",
            "output_graph",
            self.output_graph,
            "a file name that ends in .tflite",
        )
        _require(
            self.output_labels not in (self.output_graph, self.output_model),
            "output_labels",
            self.output_labels,
            "another file than the model and its JSON",
        )

    @property
    def output_model(self) -> Path:
        """The JSON that describes ``output_graph``."""
        return model_json_path(self.output_graph)


@dataclass(frozen=True)
class LabelConfig:
    """Which model label_image.py asks, and how it prints the answer."""

    graph: Path = _flag(TF_FILES / "retrained_graph.tflite", "the model retrain.py wrote")
    labels: Path | None = _flag(None, "the labels retrain.py wrote; default: those in the model's JSON")
    top_k: int = _flag(5, "how many labels to print for a clip; 0 for all")
    per_chunk: bool = _flag(False, "print every chunk's answer too, with its time")
    json: bool = _flag(False, "print one JSON object a clip and line")

    def __post_init__(self) -> None:
        _require(self.top_k >= 0, "top_k", self.top_k, "0 or more")


def model_json_path(graph: Path) -> Path:
    """The JSON beside a model: ``retrained_graph.tflite`` has ``retrained_model.json``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_model.json")
