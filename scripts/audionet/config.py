"""Every setting and its default, once. The scripts' flags are read off these dataclasses."""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audionet.errors import UsageError

TF_FILES = Path(__file__).resolve().parents[2] / "tf_files"

CHROMA_ROWS = 8
"""Pixel rows of a pitch class: a JPG keeps blocks of eight apart."""

AUGMENT_KINDS = ("stretch", "pitch", "room", "noise", "gain", "telephone", "codec")
"""What variants are made by, in the order in which it happens to a voice."""

PROBE_CONDITIONS = ("noise", "telephone", "slower", "faster")
"""What test recordings are changed by when features are probed."""

FROM_SCRATCH = ("simple_cnn", "deep_cnn")
"""Architectures that are trained as a whole."""

LEARNING_RATES = {"linear": 0.3, "mlp": 0.003, "cosine": 0.03, "from scratch": 0.001}
"""What suits each kind of training."""

GRAPH_SUFFIXES = (".tflite", ".pb", ".keras", "")
"""What a model can be written as; a SavedModel is a folder."""

API_KEY_VARIABLE = "AUDIONET_API_KEY"
SHORTEST_API_KEY = 16

POOLINGS = ("average", "time", "statistics")
"""How maps over frequency and time become one vector."""

MOST_VARIANTS = 50
"""Variants of one chunk, at most: more of the same teaches nothing."""


def available_cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _flag(default: Any, text: str, bare: Any = None) -> Any:
    """A setting with its default and help; `bare` is what the flag means when no value follows it."""
    return field(default=default, metadata={"help": text, "bare": bare})


def _refuse(value: object, flag: str, reason: str) -> None:
    if value:
        raise UsageError(f"--{flag} is refused: {reason}. data_maker.py --augment varies sound as sound varies")


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
    checkpoint_dir: Path = _flag(TF_FILES / "checkpoints", "where training that was interrupted goes on from")
    summaries_dir: Path = _flag(TF_FILES / "training_summaries", "TensorBoard summaries and the curves as a PNG")
    output_graph: Path = _flag(
        TF_FILES / "retrained_graph.tflite",
        "the model to write: .tflite, or also a frozen graph (.pb), a .keras file or, with no ending, a SavedModel",
    )
    output_labels: Path = _flag(TF_FILES / "retrained_labels.txt", "the labels to write, one a line")
    architecture: str = _flag(
        "inception_v3_speech",
        "backbone: a bundled name, a folder holding a SavedModel, a TF Hub handle, "
        "or inception_v3 / mobilenet_v2_100_224 and the like for TF Hub's; "
        f"or a network trained from scratch: {' or '.join(FROM_SCRATCH)}",
    )
    input_size: int | None = _flag(None, "side of the backbone's input, pixels, where it does not say")
    endpoint: str | None = _flag(
        None, "layer of the backbone to take bottlenecks from, such as mixed7; default: the backbone's own choice"
    )
    pooling: Literal["average", "time", "statistics"] | None = _flag(
        None, "how that layer's maps become one vector: their average, their averages over time, or with deviations"
    )
    final_tensor_name: str = _flag("final_result", "name of the output that holds the probabilities")
    head: Literal["linear", "mlp", "cosine"] = _flag(
        "linear", "the new top: one layer, one hidden layer before it, or the cosine to each label's direction"
    )
    hidden_units: int = _flag(256, "width of the mlp's hidden layer")
    how_many_training_steps: int = _flag(500, "training steps, of the top layer or of a network from scratch")
    learning_rate: float | None = _flag(
        None,
        f"learning rate of the first step; default: {', '.join(f'{r:g} ({n})' for n, r in LEARNING_RATES.items())}",
    )
    schedule: Literal["cosine", "plateau", "constant"] = _flag(
        "cosine", "the rate falls along a cosine, to a third when validation gets no better, or never"
    )
    train_batch_size: int = _flag(100, "pictures in one training step")
    eval_step_interval: int = _flag(10, "steps from one look at the validation set to the next")
    validation_batch_size: int = _flag(-1, "pictures that a look at the validation set takes, always the same; -1: all")
    test_batch_size: int = _flag(-1, "-1: the test takes all its pictures; a part would prove less")
    early_stopping: int = _flag(0, "stop after so many looks without a better one; 0: never. The best weights are kept")
    weight_decay: float = _flag(1e-4, "AdamW's decay of the weights")
    l1: float = _flag(0.0, "penalty on the top's absolute weights")
    l2: float = _flag(0.0, "penalty on the top's squared weights")
    dropout: float = _flag(0.0, "share of the top's inputs left out in each step, 0 to 0.9")
    label_smoothing: float = _flag(0.1, "share of each label's probability given to all labels, 0 to 0.9")
    class_weights: Literal["equal", "balanced"] = _flag(
        "equal", "balanced: a label with few pictures counts as much as one with many"
    )
    clip_norm: float | None = _flag(None, "longest gradient, over all weights together; none: any")
    hyper_search: int = _flag(
        0, "first try so many settings of the top and its regularisation, by cross-validation on the cached features"
    )
    fine_tune: int = _flag(0, "then also train the backbone's last so many blocks, at a low rate; Inception has 11")
    fine_tune_steps: int = _flag(500, "training steps of --fine_tune")
    fine_tune_learning_rate: float = _flag(1e-4, "learning rate of --fine_tune's first step")
    fine_tune_batch_size: int = _flag(32, "pictures in one step of --fine_tune")
    spec_augment: int = _flag(
        1, "bands and stretches masked in each picture, where pictures are trained on (--fine_tune, from scratch)"
    )
    mixup: float = _flag(
        0.0, "how much pictures are mixed there, two at a time: alpha of mixup, such as 0.2; 0: not at all"
    )
    unknown_fpr: float = _flag(
        5.0, "share of unknown voices that may be taken for one of the labels, percent; 0: never answer unknown"
    )
    testing_percentage: float = _flag(10.0, "share of each label kept for the test, percent of its duration")
    validation_percentage: float = _flag(10.0, "share of each label kept for validation, percent of its duration")
    intermediate_store_frequency: int = _flag(0, "steps from one checkpoint to the next; 0: about every 20 seconds")
    scheduler: str | None = _flag(None, "address of a Dask cluster that computes bottlenecks, such as tcp://host:8786")
    print_misclassified_test_images: bool = _flag(False, "list the test pictures that got a wrong label")
    seed: int = _flag(0, "seed of the initial weights and of the order of pictures")
    flip_left_right: bool = _flag(False, "refused: it would play the sound backwards")
    random_crop: float = _flag(0.0, "refused: it would change pitch and speed at random; see data_maker.py --augment")
    random_scale: float = _flag(0.0, "refused, for the same reason")
    random_brightness: float = _flag(0.0, "refused: a picture's brightness is relative to its own loudest moment")

    def __post_init__(self) -> None:
        for flag, low in (
            ("how_many_training_steps", 1),
            ("train_batch_size", 1),
            ("eval_step_interval", 1),
            ("early_stopping", 0),
            ("hidden_units", 1),
            ("hyper_search", 0),
            ("fine_tune", 0),
            ("fine_tune_steps", 1),
            ("fine_tune_batch_size", 1),
            ("intermediate_store_frequency", 0),
        ):
            _require(getattr(self, flag) >= low, flag, getattr(self, flag), f"{low} or more")
        _require(0 <= self.spec_augment <= 8, "spec_augment", self.spec_augment, "0 to 8")
        for flag in ("learning_rate", "fine_tune_learning_rate", "clip_norm"):
            value, high = getattr(self, flag), 1e6 if flag == "clip_norm" else 10
            _require(value is None or 0 < value < high, flag, value, f"above 0 and below {high:g}")
        for flag, most in (("weight_decay", 1), ("l1", 1), ("l2", 1), ("mixup", 10)):
            _require(0 <= getattr(self, flag) <= most, flag, getattr(self, flag), f"0 to {most}")
        for flag in ("dropout", "label_smoothing"):
            _require(0 <= getattr(self, flag) <= 0.9, flag, getattr(self, flag), "0 to 0.9")
        looked_at = self.validation_batch_size
        _require(looked_at == -1 or looked_at >= 1, "validation_batch_size", looked_at, "1 or more, or -1 for all")
        _require(
            self.test_batch_size == -1,
            "test_batch_size",
            self.test_batch_size,
            "-1: the test takes all its pictures, because a part of them would prove less",
        )
        _refuse(self.flip_left_right, "flip_left_right", "a flipped picture is sound played backwards")
        for flag in ("random_crop", "random_scale"):
            _refuse(getattr(self, flag), flag, "a picture scaled or cut is another pitch at another speed")
        _refuse(self.random_brightness, "random_brightness", "brightness is relative to the loudest moment")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        side = self.input_size
        _require(side is None or 8 <= side <= 4096, "input_size", side, "8 to 4096")
        for flag in ("testing_percentage", "validation_percentage"):
            _require(0 <= getattr(self, flag) < 100, flag, getattr(self, flag), "0 or more and below 100")
        _require(0 <= self.unknown_fpr <= 50, "unknown_fpr", self.unknown_fpr, "0 to 50")
        kept = self.testing_percentage + self.validation_percentage
        _require(kept < 100, "testing_percentage plus --validation_percentage", kept, "below 100")
        _require(
            re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", self.final_tensor_name) is not None,
            "final_tensor_name",
            repr(self.final_tensor_name),
            "a letter, then letters, digits, dots, dashes and underscores",
        )
        _require(
            self.output_graph.suffix in GRAPH_SUFFIXES and self.output_graph.name != "",
            "output_graph",
            self.output_graph,
            "a file name that ends in .tflite, .pb or .keras, or a folder's name without an ending",
        )
        _require(
            self.output_labels not in (self.output_graph, lite_path(self.output_graph), self.output_model),
            "output_labels",
            self.output_labels,
            "another file than the model and its JSON",
        )
        for flag, value in (("fine_tune", self.fine_tune), ("hyper_search", self.hyper_search)):
            _require(
                not (value and self.from_scratch),
                flag,
                value,
                f"0: {self.architecture} is trained from scratch, so that there is no backbone to start from",
            )

    @property
    def from_scratch(self) -> bool:
        """Whether the whole network is trained, not a top layer on a pretrained one."""
        return self.architecture in FROM_SCRATCH

    @property
    def rate(self) -> float:
        """Learning rate of the first step."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES["from scratch" if self.from_scratch else self.head]

    @property
    def output_model(self) -> Path:
        """The JSON that describes ``output_graph``."""
        return model_json_path(self.output_graph)


@dataclass(frozen=True)
class EvaluateConfig:
    """What evaluate.py holds a model against, and where the report goes."""

    graph: Path = _flag(TF_FILES / "retrained_graph.tflite", "the model retrain.py wrote")
    test_dir: Path | None = _flag(
        None, "held-out recordings, one folder per label; default: the test part of the pictures it was trained with"
    )
    image_dir: Path = _flag(TF_FILES / "data_image", "the pictures that the model was trained with")
    report_dir: Path = _flag(TF_FILES / "report", "where report.html, report.json and the PNGs go")
    cost: tuple[str, ...] = _flag(
        (),
        'what a mistake costs, true:predicted=number as in "voicemail:human=10"; others cost 1; may be repeated. '
        "none: all cost the same again",
    )
    worst: int = _flag(24, "how many of the surest mistakes to show")
    workers: int = _flag(available_cores(), "processes to judge with")

    def __post_init__(self) -> None:
        _require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")
        _require(0 <= self.worst <= 1000, "worst", self.worst, "0 to 1000")
        _require("none" not in self.cost or self.drops_rule, "cost", "none and more", "none alone, or costs")
        _require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")

    @property
    def drops_rule(self) -> bool:
        """Whether the model is to forget what mistakes cost."""
        return self.cost == ("none",)


@dataclass(frozen=True)
class LabelConfig:
    """Which model label_image.py asks, and how it prints the answer."""

    graph: Path = _flag(TF_FILES / "retrained_graph.tflite", "the model retrain.py wrote")
    labels: Path | None = _flag(None, "the labels retrain.py wrote; default: those in the model's JSON")
    top_k: int = _flag(5, "how many labels to print for a clip; 0 for all")
    per_chunk: bool = _flag(False, "print every chunk's answer too, with its time")
    json: bool = _flag(False, "print one JSON object a clip and line")
    timeline: bool = _flag(False, "say who speaks when, for long recordings; also writes CSV, RTTM and a PNG")
    timeline_step: float | None = _flag(
        None, "seconds between looks at the recording, at most a chunk; default: a third of one"
    )
    timeline_dir: Path = _flag(TF_FILES / "timelines", "where timelines go, named after the recording")
    enrol: str | None = _flag(None, "add a voice of this name from 10 to 30 seconds of it, without training")
    forget: str | None = _flag(None, "take an enrolled voice out again")
    verify: str | None = _flag(None, "say whether each clip is this voice, trained or enrolled")

    def __post_init__(self) -> None:
        _require(self.top_k >= 0, "top_k", self.top_k, "0 or more")
        step = self.timeline_step
        _require(step is None or 0.01 <= step <= 600, "timeline_step", step, "0.01 to 600 seconds")
        ways = ("timeline", "enrol", "forget", "verify")
        asked = [f"--{way}" for way in ways if getattr(self, way) not in (None, False)]
        if len(asked) > 1:
            raise UsageError(f"{' and '.join(asked)} are asked for at once: run label_image.py once for each")
        _require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")


@dataclass(frozen=True)
class ServeConfig:
    """Where serve.py listens, whom it answers, and how much it takes from them."""

    graph: Path = _flag(TF_FILES / "retrained_graph.tflite", "the model retrain.py wrote")
    host: str = _flag("127.0.0.1", "address to listen on; any but this machine's own takes an API key")
    port: int = _flag(8000, "port to listen on; 0: any that is free")
    api_key: str | None = _flag(
        None, f"what clients have to send as a bearer token; better given in the environment, as {API_KEY_VARIABLE}"
    )
    cors_origin: tuple[str, ...] = _flag(
        (), 'another site whose pages may ask, as in "https://example.org"; may be repeated'
    )
    max_megabytes: float = _flag(100.0, "largest upload, MB")
    max_seconds: float = _flag(3600.0, "longest recording, seconds")
    max_channels: int = _flag(32, "most channels of a recording")
    max_rate: int = _flag(384_000, "highest sample rate of a recording, Hz")
    time_limit: float = _flag(60.0, "seconds that an upload may take, and after it the answer")
    queue: int = _flag(64, "requests that may be in the house at a time; more are told to come back")
    batch: int = _flag(8, "pictures shown to the network at a time, at most")
    workers: int = _flag(available_cores(), "processes that decode recordings")
    worker_megabytes: int = _flag(1024, "memory that such a process may map, MB; a file that takes more is refused")

    def __post_init__(self) -> None:
        _require(self.graph.name != "", "graph", self.graph, "a model that retrain.py wrote")
        _require(0 <= self.port <= 65535, "port", self.port, "0 to 65535")
        _require(self.host != "", "host", repr(self.host), "a name or an address")
        key = self.api_key
        _require(
            key is None or (len(key) >= SHORTEST_API_KEY and key.isascii() and key.isprintable() and " " not in key),
            "api_key",
            "too short or holds blanks or other than ASCII",
            f"{SHORTEST_API_KEY} characters or more, such as `openssl rand -hex 16` prints",
        )
        for origin in self.cors_origin:
            is_origin = re.fullmatch(r"https?://[^/\s*]+", origin) is not None
            _require(is_origin, "cors_origin", origin, "a scheme and a host, as in https://example.org")
        _require(0.001 <= self.max_megabytes <= 100_000, "max_megabytes", self.max_megabytes, "0.001 to 100000")
        _require(1 <= self.max_seconds <= 864_000, "max_seconds", self.max_seconds, "1 to 864000")
        _require(1 <= self.max_channels <= 1024, "max_channels", self.max_channels, "1 to 1024")
        _require(1000 <= self.max_rate <= 1_000_000, "max_rate", self.max_rate, "1000 to 1000000")
        _require(0.1 <= self.time_limit <= 86_400, "time_limit", self.time_limit, "0.1 to 86400")
        _require(1 <= self.queue <= 10_000, "queue", self.queue, "1 to 10000")
        _require(1 <= self.batch <= 256, "batch", self.batch, "1 to 256")
        _require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        _require(512 <= self.worker_megabytes <= 1 << 20, "worker_megabytes", self.worker_megabytes, "512 or more")


@dataclass(frozen=True)
class ProbeConfig:
    """What probe.py compares, on which recordings."""

    data_dir: Path = _flag(
        TF_FILES / "data_audio", "recordings: one folder per label, or fsdd/recordings, libri251 and wakewords"
    )
    backbone: tuple[str, ...] = _flag(
        (),
        "a bundled name, a folder holding a SavedModel, a TF Hub handle, or random: Inception-v3 that has learned "
        "nothing; name#endpoint#pooling taps it there; may be repeated (default: inception_v3_speech)",
    )
    model_dir: Path = _flag(TF_FILES / "models", "cache of fetched and converted backbones")
    input_size: int | None = _flag(None, "side of the backbone's input, pixels, where it does not say")
    float32: bool = _flag(False, "probe backbones in 32 bits as well: what 8 cost")
    conditions: str = _flag(
        ",".join(PROBE_CONDITIONS), "what test recordings are also heard with, separated by commas; or none"
    )
    most_recordings: int = _flag(100, "recordings of a label, where folders are labels; more are left out")
    most_seconds: float = _flag(30.0, "how much of each of them is heard, seconds from its beginning")
    workers: int = _flag(available_cores(), "processes that compute features")
    seed: int = _flag(0, "seed of the noise, of folds and of mixtures")
    report: Path | None = _flag(None, "a JSON file to write every number to")
    card: Path | None = _flag(None, "a model card, README.md beside a backbone's weights, to write the tables into")

    def __post_init__(self) -> None:
        side = self.input_size
        _require(side is None or 8 <= side <= 4096, "input_size", side, "8 to 4096")
        known = self.conditions == "none" or (set(self.kinds) <= set(PROBE_CONDITIONS) and len(self.kinds) > 0)
        _require(known, "conditions", self.conditions, f"none, or some of {', '.join(PROBE_CONDITIONS)}")
        _require(self.most_recordings >= 2, "most_recordings", self.most_recordings, "2 or more")
        _require(1 <= self.most_seconds <= 3600, "most_seconds", self.most_seconds, "1 to 3600")
        _require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")

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


def lite_path(graph: Path) -> Path:
    """The LiteRT file that label_image.py asks, written beside a model of another kind."""
    return graph.with_name((graph.stem if graph.suffix in GRAPH_SUFFIXES else graph.name) + ".tflite")


def arrays_path(graph: Path) -> Path:
    """The numbers beside a model: ``retrained_graph.tflite`` has ``retrained_model.npz``."""
    return model_json_path(graph).with_suffix(".npz")


def enrolled_path(graph: Path) -> Path:
    """The voices that were enrolled in a model: ``retrained_graph.tflite`` has ``retrained_enrolled.json``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_enrolled.json")


def model_json_path(graph: Path) -> Path:
    """The JSON beside a model: ``retrained_graph.tflite`` has ``retrained_model.json``."""
    return graph.with_name(graph.stem.removesuffix("_graph") + "_model.json")


@dataclass(frozen=True)
class PretrainConfig:
    """What pretrain.py makes a backbone from, how, and where it goes."""

    data_dir: Path = _flag(TF_FILES / "pretraining_audio", "recordings, in the folders that the manifest names")
    manifest: Path = _flag(
        TF_FILES / "pretraining.json", "datasets: their folders, how labels are read from names, their licences"
    )
    output_dir: Path = _flag(TF_FILES / "models" / "pretrained", "the backbone to write: its name is the folder's")
    checkpoint_dir: Path = _flag(
        TF_FILES / "checkpoints" / "pretraining", "where training that was interrupted goes on from; teachers' answers"
    )
    summaries_dir: Path = _flag(TF_FILES / "training_summaries" / "pretraining", "TensorBoard's curves")
    teacher: Literal["resemblyzer", "none"] = _flag(
        "resemblyzer", "published network to learn from too; takes requirements-pretrain.txt"
    )
    steps: int = _flag(20_000, "training steps, at most")
    hours: float | None = _flag(None, "end after so many hours, if the steps are not done by then")
    batch_size: int = _flag(64, "pictures in one step")
    learning_rate: float = _flag(
        1.5e-3, "rate at its highest; it rises over the first steps, then falls along a cosine"
    )
    weight_decay: float = _flag(0.02, "AdamW's decay of the weights")
    average: float = _flag(0.999, "share of the past in the running average of the weights, which is what is kept")
    input_height: int = _flag(128, "height of the network's input, pixels")
    input_width: int = _flag(96, "width of the network's input, pixels")
    endpoint: str = _flag("mixed4", "the last block of Inception-v3 to keep; earlier is smaller and faster")
    pooling: Literal["average", "time", "statistics", "attentive"] = _flag(
        "statistics", "how its maps become one vector"
    )
    embedding: int = _flag(512, "width of the linear layer that follows, on which everything is learned")
    bottleneck: Literal["embedding", "average", "time", "statistics"] = _flag(
        "time", "what the backbone gives in the end: that layer, or the maps before it, pooled so"
    )
    statistics: Literal["none", "bands", "mfcc"] = _flag(
        "none", "statistics of the picture that join the bottleneck: of its mel bands, of its MFCCs"
    )
    version: int = _flag(1, "number of the backbone, for its card")
    margin: float = _flag(0.2, "how much nearer its own direction than any other a speaker has to be, in cosines")
    disturbance: float = _flag(
        0.7, "how much sound and pictures are changed at most, 0 to 1; less where there is less time to learn"
    )
    glimpses: int = _flag(6, "pictures made of one stretch of sound before the next is drawn")
    shuffle: int = _flag(4096, "pictures held to draw from, so that those of one stretch do not come together")
    look_every: int = _flag(500, "steps from one look at recordings held out, and one checkpoint, to the next")
    workers: int = _flag(available_cores(), "processes that make pictures")
    seed: int = _flag(0, "seed of the initial weights and of all that is drawn")

    def __post_init__(self) -> None:
        for flag in ("steps", "batch_size", "glimpses", "shuffle", "look_every", "embedding", "version"):
            _require(getattr(self, flag) >= 1, flag, getattr(self, flag), "1 or more")
        for flag in ("input_height", "input_width"):
            _require(75 <= getattr(self, flag) <= 1024, flag, getattr(self, flag), "75 to 1024, as Inception-v3 takes")
        hours = self.hours
        _require(hours is None or 0 < hours <= 10_000, "hours", hours, "above 0, to 10000")
        _require(0 < self.learning_rate < 1, "learning_rate", self.learning_rate, "above 0 and below 1")
        _require(0 <= self.weight_decay <= 1, "weight_decay", self.weight_decay, "0 to 1")
        _require(0 <= self.average < 1, "average", self.average, "0 or more and below 1")
        _require(0 <= self.disturbance <= 1, "disturbance", self.disturbance, "0 to 1")
        _require(0 <= self.margin <= 0.5, "margin", self.margin, "0 to 0.5")
        _require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        _require(1 <= self.workers <= 1024, "workers", self.workers, "1 to 1024")
        _require(self.output_dir.name != "", "output_dir", self.output_dir, "a folder with a name")
