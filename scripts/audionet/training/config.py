"""Settings of training."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import GRAPH_SUFFIXES, TF_FILES, lite_path, model_json_path
from audionet.errors import UsageError
from audionet.utils.settings import require, setting

FROM_SCRATCH = ("simple_cnn", "deep_cnn")
"""Architectures trained from scratch, without a pretrained backbone."""

LEARNING_RATES = {"linear": 0.3, "mlp": 0.003, "cosine": 0.03, "from scratch": 0.001}
"""Default learning rate of each kind of head, and of training from scratch."""


def _refuse(value: object, flag: str, reason: str) -> None:
    if value:
        raise UsageError(f"--{flag} is refused: {reason}. data_maker.py --augment augments the waveform instead")


@dataclass(frozen=True)
class RetrainConfig:
    """Settings of retrain.py: training data, network, optimisation and output files."""

    image_dir: Path = setting(
        TF_FILES / "data_image", "spectrogram images, one folder per label, as data_maker.py writes them"
    )
    bottleneck_dir: Path = setting(TF_FILES / "bottlenecks", "cache of bottleneck features")
    model_dir: Path = setting(TF_FILES / "models", "cache of fetched and converted backbones")
    checkpoint_dir: Path = setting(TF_FILES / "checkpoints", "checkpoints, from which interrupted training resumes")
    summaries_dir: Path = setting(TF_FILES / "training_summaries", "TensorBoard summaries and the curves as a PNG")
    output_graph: Path = setting(
        TF_FILES / "retrained_graph.tflite",
        "model to write: .tflite, or in addition a frozen graph (.pb), a .keras file or, with no ending, a SavedModel",
    )
    output_labels: Path = setting(TF_FILES / "retrained_labels.txt", "label file to write, one label per line")
    architecture: str = setting(
        "inception_v3_speech",
        "backbone: a bundled name, a folder holding a SavedModel, a TF Hub handle, "
        "or inception_v3 / mobilenet_v2_100_224 and the like for TF Hub's; "
        f"or a network trained from scratch: {' or '.join(FROM_SCRATCH)}",
    )
    input_size: int | None = setting(
        None, "side of the backbone's square input, pixels; needed if its model file does not state it"
    )
    endpoint: str | None = setting(
        None, "layer of the backbone to compute bottlenecks from, such as mixed7; default: the backbone's own"
    )
    pooling: Literal["average", "time", "statistics"] | None = setting(
        None,
        "pooling of that layer's maps: average, average over time per frequency row, or that and deviations",
    )
    final_tensor_name: str = setting("final_result", "name of the output tensor of probabilities")
    head: Literal["linear", "mlp", "cosine"] = setting(
        "linear",
        "top layer: linear, with a hidden layer before it (mlp), or the cosine similarity to one direction per label",
    )
    hidden_units: int = setting(256, "width of the mlp's hidden layer")
    how_many_training_steps: int = setting(500, "training steps of the top layer, or of a network trained from scratch")
    learning_rate: float | None = setting(
        None,
        f"initial learning rate; default: {', '.join(f'{r:g} ({n})' for n, r in LEARNING_RATES.items())}",
    )
    schedule: Literal["cosine", "plateau", "constant"] = setting(
        "cosine", "learning rate schedule: cosine decay, divided by 3 when validation stops improving, or constant"
    )
    train_batch_size: int = setting(100, "batch size, images")
    eval_step_interval: int = setting(10, "training steps between validations")
    validation_batch_size: int = setting(-1, "images per validation, a fixed random subset; -1: all")
    test_batch_size: int = setting(-1, "only -1: the test uses all its images; a subset would prove less")
    early_stopping: int = setting(
        0, "stop after this many validations without improvement; 0: never. The best weights are always kept"
    )
    weight_decay: float = setting(1e-4, "weight decay of AdamW")
    l1: float = setting(0.0, "L1 penalty on the top layer's weights")
    l2: float = setting(0.0, "L2 penalty on the top layer's weights")
    dropout: float = setting(0.0, "dropout rate of the top layer's inputs, 0 to 0.9")
    label_smoothing: float = setting(0.1, "share of the target probability spread evenly over all labels, 0 to 0.9")
    class_weights: Literal["equal", "balanced"] = setting(
        "equal", "balanced: every label counts the same in the loss, however many images it has"
    )
    clip_norm: float | None = setting(
        None, "maximum norm of the gradient over all weights together; default: no clipping"
    )
    hyper_search: int = setting(
        0,
        "number of settings of the top layer and its regularisation to try first, by cross-validation on the cached "
        "bottlenecks; 0: none",
    )
    fine_tune: int = setting(
        0, "then also train this many of the backbone's last blocks, at a low learning rate; Inception v3 has 11"
    )
    fine_tune_steps: int = setting(500, "training steps of --fine_tune")
    fine_tune_learning_rate: float = setting(1e-4, "initial learning rate of --fine_tune")
    fine_tune_batch_size: int = setting(32, "batch size of --fine_tune, images")
    spec_augment: int = setting(
        1, "SpecAugment: frequency masks and time masks per image, as many of each (--fine_tune, from scratch)"
    )
    mixup: float = setting(0.0, "alpha of mixup, such as 0.2 (--fine_tune, from scratch); 0: no mixup")
    unknown_fpr: float = setting(
        5.0, "share of unknown speakers that may be taken for one of the labels, percent; 0: never answer unknown"
    )
    testing_percentage: float = setting(10.0, "share of each label held out for the test, percent of its duration")
    validation_percentage: float = setting(10.0, "share of each label held out for validation, percent of its duration")
    intermediate_store_frequency: int = setting(0, "training steps between checkpoints; 0: about every 20 seconds")
    scheduler: str | None = setting(
        None, "address of a Dask cluster that computes bottlenecks, such as tcp://host:8786"
    )
    print_misclassified_test_images: bool = setting(False, "list the misclassified test images")
    seed: int = setting(0, "random seed of the initial weights and of the order of images")
    flip_left_right: bool = setting(False, "refused: it would reverse the sound in time")
    random_crop: float = setting(0.0, "refused: it would change pitch and speed at random; see data_maker.py --augment")
    random_scale: float = setting(0.0, "refused, for the same reason")
    random_brightness: float = setting(0.0, "refused: an image's brightness is relative to its own loudest moment")

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
            require(getattr(self, flag) >= low, flag, getattr(self, flag), f"{low} or more")
        require(0 <= self.spec_augment <= 8, "spec_augment", self.spec_augment, "0 to 8")
        for flag in ("learning_rate", "fine_tune_learning_rate", "clip_norm"):
            value, high = getattr(self, flag), 1e6 if flag == "clip_norm" else 10
            require(value is None or 0 < value < high, flag, value, f"above 0 and below {high:g}")
        for flag, most in (("weight_decay", 1), ("l1", 1), ("l2", 1), ("mixup", 10)):
            require(0 <= getattr(self, flag) <= most, flag, getattr(self, flag), f"0 to {most}")
        for flag in ("dropout", "label_smoothing"):
            require(0 <= getattr(self, flag) <= 0.9, flag, getattr(self, flag), "0 to 0.9")
        validated = self.validation_batch_size
        require(validated == -1 or validated >= 1, "validation_batch_size", validated, "1 or more, or -1 for all")
        require(
            self.test_batch_size == -1,
            "test_batch_size",
            self.test_batch_size,
            "-1: the test takes all its images, because a subset would prove less",
        )
        _refuse(self.flip_left_right, "flip_left_right", "a flipped image is sound played backwards")
        for flag in ("random_crop", "random_scale"):
            _refuse(getattr(self, flag), flag, "an image scaled or cut is another pitch at another speed")
        _refuse(self.random_brightness, "random_brightness", "brightness is relative to the loudest moment")
        require(0 <= self.seed < 2**32, "seed", self.seed, "0 to 4294967295")
        side = self.input_size
        require(side is None or 8 <= side <= 4096, "input_size", side, "8 to 4096")
        for flag in ("testing_percentage", "validation_percentage"):
            require(0 <= getattr(self, flag) < 100, flag, getattr(self, flag), "0 or more and below 100")
        require(0 <= self.unknown_fpr <= 50, "unknown_fpr", self.unknown_fpr, "0 to 50")
        kept = self.testing_percentage + self.validation_percentage
        require(kept < 100, "testing_percentage plus --validation_percentage", kept, "below 100")
        require(
            re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", self.final_tensor_name) is not None,
            "final_tensor_name",
            repr(self.final_tensor_name),
            "a letter, then letters, digits, dots, dashes and underscores",
        )
        require(
            self.output_graph.suffix in GRAPH_SUFFIXES and self.output_graph.name != "",
            "output_graph",
            self.output_graph,
            "a file name that ends in .tflite, .pb or .keras, or a folder's name without an ending",
        )
        require(
            self.output_labels not in (self.output_graph, lite_path(self.output_graph), self.output_model),
            "output_labels",
            self.output_labels,
            "another file than the model and its JSON",
        )
        for flag, value in (("fine_tune", self.fine_tune), ("hyper_search", self.hyper_search)):
            require(
                not (value and self.from_scratch),
                flag,
                value,
                f"0: {self.architecture} is trained from scratch, so that there is no backbone to start from",
            )

    @property
    def from_scratch(self) -> bool:
        """True if the whole network is trained, not a top layer on a pretrained backbone."""
        return self.architecture in FROM_SCRATCH

    @property
    def rate(self) -> float:
        """Initial learning rate."""
        if self.learning_rate is not None:
            return self.learning_rate
        return LEARNING_RATES["from scratch" if self.from_scratch else self.head]

    @property
    def output_model(self) -> Path:
        """Path of the JSON that describes ``output_graph``."""
        return model_json_path(self.output_graph)
