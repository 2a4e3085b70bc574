"""What retrain.py learns from, how, and where the result goes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import GRAPH_SUFFIXES, TF_FILES, lite_path, model_json_path
from audionet.errors import UsageError
from audionet.utils.settings import require, setting

FROM_SCRATCH = ("simple_cnn", "deep_cnn")
"""Architectures that are trained as a whole."""

LEARNING_RATES = {"linear": 0.3, "mlp": 0.003, "cosine": 0.03, "from scratch": 0.001}
"""What suits each kind of training."""


def _refuse(value: object, flag: str, reason: str) -> None:
    if value:
        raise UsageError(f"--{flag} is refused: {reason}. data_maker.py --augment varies sound as sound varies")


@dataclass(frozen=True)
class RetrainConfig:
    """What retrain.py learns from, how, and where the result goes."""

    image_dir: Path = setting(TF_FILES / "data_image", "images, one folder per label, as data_maker.py makes them")
    bottleneck_dir: Path = setting(TF_FILES / "bottlenecks", "cache of bottleneck features")
    model_dir: Path = setting(TF_FILES / "models", "cache of fetched and converted backbones")
    checkpoint_dir: Path = setting(TF_FILES / "checkpoints", "where training that was interrupted goes on from")
    summaries_dir: Path = setting(TF_FILES / "training_summaries", "TensorBoard summaries and the curves as a PNG")
    output_graph: Path = setting(
        TF_FILES / "retrained_graph.tflite",
        "the model to write: .tflite, or also a frozen graph (.pb), a .keras file or, with no ending, a SavedModel",
    )
    output_labels: Path = setting(TF_FILES / "retrained_labels.txt", "the labels to write, one a line")
    architecture: str = setting(
        "inception_v3_speech",
        "backbone: a bundled name, a folder holding a SavedModel, a TF Hub handle, "
        "or inception_v3 / mobilenet_v2_100_224 and the like for TF Hub's; "
        f"or a network trained from scratch: {' or '.join(FROM_SCRATCH)}",
    )
    input_size: int | None = setting(None, "side of the backbone's input, pixels, where it does not say")
    endpoint: str | None = setting(
        None, "layer of the backbone to take bottlenecks from, such as mixed7; default: the backbone's own choice"
    )
    pooling: Literal["average", "time", "statistics"] | None = setting(
        None, "how that layer's maps become one vector: their average, their averages over time, or with deviations"
    )
    final_tensor_name: str = setting("final_result", "name of the output that holds the probabilities")
    head: Literal["linear", "mlp", "cosine"] = setting(
        "linear", "the new top: one layer, one hidden layer before it, or the cosine to each label's direction"
    )
    hidden_units: int = setting(256, "width of the mlp's hidden layer")
    how_many_training_steps: int = setting(500, "training steps, of the top layer or of a network from scratch")
    learning_rate: float | None = setting(
        None,
        f"learning rate of the first step; default: {', '.join(f'{r:g} ({n})' for n, r in LEARNING_RATES.items())}",
    )
    schedule: Literal["cosine", "plateau", "constant"] = setting(
        "cosine", "the rate falls along a cosine, to a third when validation gets no better, or never"
    )
    train_batch_size: int = setting(100, "images in one training step")
    eval_step_interval: int = setting(10, "steps from one look at the validation set to the next")
    validation_batch_size: int = setting(-1, "images that a look at the validation set takes, always the same; -1: all")
    test_batch_size: int = setting(-1, "-1: the test takes all its images; a part would prove less")
    early_stopping: int = setting(
        0, "stop after so many looks without a better one; 0: never. The best weights are kept"
    )
    weight_decay: float = setting(1e-4, "AdamW's decay of the weights")
    l1: float = setting(0.0, "penalty on the top's absolute weights")
    l2: float = setting(0.0, "penalty on the top's squared weights")
    dropout: float = setting(0.0, "share of the top's inputs left out in each step, 0 to 0.9")
    label_smoothing: float = setting(0.1, "share of each label's probability given to all labels, 0 to 0.9")
    class_weights: Literal["equal", "balanced"] = setting(
        "equal", "balanced: a label with few images counts as much as one with many"
    )
    clip_norm: float | None = setting(None, "longest gradient, over all weights together; none: any")
    hyper_search: int = setting(
        0, "first try so many settings of the top and its regularisation, by cross-validation on the cached features"
    )
    fine_tune: int = setting(0, "then also train the backbone's last so many blocks, at a low rate; Inception has 11")
    fine_tune_steps: int = setting(500, "training steps of --fine_tune")
    fine_tune_learning_rate: float = setting(1e-4, "learning rate of --fine_tune's first step")
    fine_tune_batch_size: int = setting(32, "images in one step of --fine_tune")
    spec_augment: int = setting(
        1, "bands and stretches masked in each image, where images are trained on (--fine_tune, from scratch)"
    )
    mixup: float = setting(
        0.0, "how much images are mixed there, two at a time: alpha of mixup, such as 0.2; 0: not at all"
    )
    unknown_fpr: float = setting(
        5.0, "share of unknown voices that may be taken for one of the labels, percent; 0: never answer unknown"
    )
    testing_percentage: float = setting(10.0, "share of each label kept for the test, percent of its duration")
    validation_percentage: float = setting(10.0, "share of each label kept for validation, percent of its duration")
    intermediate_store_frequency: int = setting(0, "steps from one checkpoint to the next; 0: about every 20 seconds")
    scheduler: str | None = setting(
        None, "address of a Dask cluster that computes bottlenecks, such as tcp://host:8786"
    )
    print_misclassified_test_images: bool = setting(False, "list the test images that got a wrong label")
    seed: int = setting(0, "seed of the initial weights and of the order of images")
    flip_left_right: bool = setting(False, "refused: it would play the sound backwards")
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
        looked_at = self.validation_batch_size
        require(looked_at == -1 or looked_at >= 1, "validation_batch_size", looked_at, "1 or more, or -1 for all")
        require(
            self.test_batch_size == -1,
            "test_batch_size",
            self.test_batch_size,
            "-1: the test takes all its images, because a part of them would prove less",
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
