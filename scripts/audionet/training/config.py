"""Settings of training."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from audionet._paths import GRAPH_SUFFIXES, SHARED_FILES, TF_FILES, lite_path, model_json_path
from audionet.errors import UsageError
from audionet.utils.expressions import Expression
from audionet.utils.settings import require, setting

FROM_SCRATCH = ("simple_cnn", "deep_cnn")
"""Architectures trained from scratch, without a pretrained backbone."""

LEARNING_RATES = {"linear": 0.08, "mlp": 0.003, "cosine": 0.03, "from scratch": 0.001}
"""Default learning rate of each kind of head, and of training from scratch."""

AUTO = "auto"

_INPUTS = ("jpeg", "pixels", "statistics")
_HEAD = ("bottleneck", "place", "embedding", "centred", "standardised", "hidden", "unit_length", "logits")
OTHER_NAMES = (*_INPUTS, *_HEAD)
"""Names of a model's other inputs and outputs, and of the tensors of its head, in one format or another."""

_HIGHEST_RATE = 0.3  # of a linear head on few features

REFERENCE_WIDTH = 768
"""Width of the features that the linear head's learning rate is given for."""


def _refuse(value: object, flag: str, reason: str) -> None:
    if value:
        raise UsageError(f"--{flag} is refused: {reason}. data_maker.py --augment augments the waveform instead")


def _is_expression(text: str | None) -> bool:
    try:
        return text is None or bool(Expression(text))
    except ValueError:
        return False


@dataclass(frozen=True)
class StepConfig:
    """Settings of a training in steps: optimizer, schedule and regularisation.

    Attributes
    ----------
    head, spec_augment, mixup, intermediate_store_frequency, class_weights, seed
        As `RetrainConfig.stepping` copies them.
    """

    hidden_units: int = setting(256, "width of the mlp's hidden layer")
    how_many_training_steps: int = setting(500, "training steps of the top layer, or of a network trained from scratch")
    learning_rate: float | None = setting(
        None,
        f"initial learning rate; default: {', '.join(f'{r:g} ({n})' for n, r in LEARNING_RATES.items())}, the linear "
        f"one for {REFERENCE_WIDTH} features and by the inverse square root of their number",
    )
    schedule: Literal["cosine", "plateau", "constant"] = setting(
        "cosine", "learning rate schedule: cosine decay, divided by 3 when validation stops improving, or constant"
    )
    train_batch_size: int = setting(100, "batch size, images")
    eval_step_interval: int = setting(10, "training steps between validations")
    validation_batch_size: int = setting(-1, "images per validation, a fixed random subset; -1: all")
    early_stopping: int = setting(
        0, "stop after this many validations without improvement; 0: never. The best weights are always kept"
    )
    weight_decay: float = setting(1e-4, "weight decay of AdamW")
    l1: float = setting(0.0, "L1 penalty on the top layer's weights")
    l2: float = setting(0.0, "L2 penalty on the top layer's weights")
    dropout: float = setting(0.0, "dropout rate of the top layer's inputs, 0 to 0.9")
    label_smoothing: float = setting(0.1, "share of the target probability spread evenly over all labels, 0 to 0.9")
    clip_norm: float | None = setting(
        None, "maximum norm of the gradient over all weights together; default: no clipping"
    )
    head: str = "linear"
    spec_augment: int = 1
    mixup: float = 0.0
    intermediate_store_frequency: int = 0
    class_weights: str = "equal"
    seed: int = 0

    def __post_init__(self) -> None:
        for flag, low in (
            ("how_many_training_steps", 1),
            ("train_batch_size", 1),
            ("eval_step_interval", 1),
            ("early_stopping", 0),
            ("hidden_units", 1),
        ):
            require(getattr(self, flag) >= low, flag, getattr(self, flag), f"{low} or more")
        for flag, high in (("learning_rate", 10), ("clip_norm", 1e6)):
            value = getattr(self, flag)
            require(value is None or 0 < value < high, flag, value, f"above 0 and below {high:g}")
        for flag, most in (("weight_decay", 1), ("l1", 1), ("l2", 1)):
            require(0 <= getattr(self, flag) <= most, flag, getattr(self, flag), f"0 to {most}")
        for flag in ("dropout", "label_smoothing"):
            require(0 <= getattr(self, flag) <= 0.9, flag, getattr(self, flag), "0 to 0.9")
        validated = self.validation_batch_size
        require(validated == -1 or validated >= 1, "validation_batch_size", validated, "1 or more, or -1 for all")

    def rate(self, width: int) -> float:
        """Return the initial learning rate for a head on features of this width.

        The standardised features have norm 1 whatever their number, and AdamW moves every weight by about the rate:
        the wider the features, the farther a step moves the logits.
        """
        if self.learning_rate is not None:
            return self.learning_rate
        rate = LEARNING_RATES[self.head]
        return min(_HIGHEST_RATE, rate * math.sqrt(REFERENCE_WIDTH / width)) if self.head == "linear" else rate


@dataclass(frozen=True)
class RetrainConfig:
    """Settings of retrain.py: training data, network, optimisation and output files."""

    image_dir: Path = setting(
        TF_FILES / "data_image", "spectrogram images, one folder per label, as data_maker.py writes them", group="input"
    )
    bottleneck_dir: Path = setting(TF_FILES / "bottlenecks", "cache of bottleneck features")
    model_dir: Path = setting(SHARED_FILES / "models", "cache of fetched and converted backbones")
    checkpoint_dir: Path = setting(TF_FILES / "checkpoints", "checkpoints, from which interrupted training resumes")
    summaries_dir: Path = setting(TF_FILES / "training_summaries", "TensorBoard summaries and the curves as a PNG")
    output_graph: Path = setting(
        TF_FILES / "retrained_graph.tflite",
        "model to write: .tflite, or in addition an ONNX file (.onnx), a frozen graph (.pb), a .keras file or, with no "
        "ending, a SavedModel",
        group="output",
    )
    output_labels: Path = setting(TF_FILES / "retrained_labels.txt", "label file to write, one label per line")
    architecture: str = setting(
        "inception_v3_speech",
        "backbone: a bundled name, a folder holding a SavedModel that you trust, a TF Hub handle, "
        "or inception_v3 / mobilenet_v2_100_224 and the like for TF Hub's; "
        f"or a network trained from scratch: {' or '.join(FROM_SCRATCH)}",
        group="network",
    )
    input_size: int | None = setting(
        None, "side of the backbone's square input, pixels; needed if its model file does not state it"
    )
    endpoint: str | None = setting(
        None,
        "layer of the backbone to compute bottlenecks from, such as mixed7; default: the backbone's own; auto: that, "
        "mixed2 or mixed4, by cross-validation",
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
    class_weights: Literal["equal", "balanced"] = setting(
        "equal", "balanced: every label counts the same in the loss, however many images it has"
    )
    test_batch_size: int = setting(-1, "only -1: the test uses all its images; a subset would prove less")
    hyper_search: int = setting(
        0,
        "number of settings of the top layer and its regularisation to try first, by cross-validation on the cached "
        "bottlenecks; 0: none",
    )
    fine_tune: int = setting(
        0,
        "then also train this many of the backbone's last blocks, at a low learning rate; Inception v3 has 11",
        group="network",
    )
    fine_tune_steps: int = setting(500, "training steps of --fine_tune")
    fine_tune_learning_rate: float = setting(1e-4, "initial learning rate of --fine_tune")
    fine_tune_batch_size: int = setting(32, "batch size of --fine_tune, images")
    spec_augment: int = setting(
        1, "SpecAugment: frequency masks and time masks per image, as many of each (--fine_tune, from scratch)"
    )
    mixup: float = setting(0.0, "alpha of mixup, such as 0.2 (--fine_tune, from scratch); 0: no mixup")
    intermediate_store_frequency: int = setting(0, "training steps between checkpoints; 0: about every 20 seconds")
    unknown_fpr: float | None = setting(
        None,
        "share of unknown speakers that may be taken for one of the labels, percent (default: as many as let 5 % of "
        "known clips be refused at most); 0: never answer unknown",
        group="evaluation",
    )
    speech: Literal["auto", "on", "off"] = setting(
        "auto",
        "leave out chunks without speech, in training and in labelling; auto: if nearly all recordings have speech",
    )
    multi_label: Literal["auto", "on", "off"] = setting(
        "auto",
        "whether recordings may have several labels, those of a folder dog;rain; the model then answers with any "
        "number of labels; auto: if a folder's name has a semicolon",
    )
    folds: int = setting(
        5,
        "folds of the cross-validation, by recording; fewer where all labels have fewer recordings",
        group="evaluation",
    )
    repeats: int = setting(
        1, "cross-validations, each with other folds; prints the mean and deviation of their results"
    )
    group: str | None = setting(
        None,
        "recordings to keep together in every fold: parent (those of one folder), "
        "or a regular expression whose match in the file's path inside its label folder names the group",
        group="evaluation",
    )
    split: Literal["auto", "given"] = setting(
        "auto",
        "given: the sets or folds that recordings come with, in a label table or the file names of Speech Commands and "
        "ESC-50; auto: AudioNet's own",
    )
    testing_percentage: float | None = setting(
        None,
        "share of each label held out for the test, percent of its recordings, instead of cross-validation; 10 where "
        "only --validation_percentage is given",
    )
    validation_percentage: float | None = setting(
        None, "share of each label held out for validation, percent of its recordings; as --testing_percentage"
    )
    statistics: Literal["auto", "none", "mfcc"] = setting(
        "auto",
        "whether the image's MFCC statistics join the bottleneck: auto asks the cross-validation",
    )
    augmented: Literal["auto", "all", "none"] = setting(
        "auto", "augmented copies to train on: auto takes the kinds that help by cross-validation"
    )
    learning_curve: bool = setting(False, "also plot accuracy over the number of recordings per label")
    scheduler: str | None = setting(
        None, "address of a Dask cluster that computes bottlenecks, such as tcp://host:8786"
    )
    print_misclassified_test_images: bool = setting(False, "list the misclassified test images")
    seed: int = setting(0, "random seed of the initial weights and of the order of images")
    flip_left_right: bool = setting(False, "refused: it would reverse the sound in time")
    random_crop: float = setting(0.0, "refused: it would change pitch and speed at random; see data_maker.py --augment")
    random_scale: float = setting(0.0, "refused, for the same reason")
    random_brightness: float = setting(0.0, "refused: an image's brightness is relative to its own loudest moment")
    steps: StepConfig | None = None

    def __post_init__(self) -> None:
        for flag, low in (
            ("hyper_search", 0),
            ("fine_tune", 0),
            ("fine_tune_steps", 1),
            ("fine_tune_batch_size", 1),
            ("intermediate_store_frequency", 0),
        ):
            require(getattr(self, flag) >= low, flag, getattr(self, flag), f"{low} or more")
        require(0 <= self.spec_augment <= 8, "spec_augment", self.spec_augment, "0 to 8")
        require(0 <= self.mixup <= 10, "mixup", self.mixup, "0 to 10")
        rate = self.fine_tune_learning_rate
        require(0 < rate < 10, "fine_tune_learning_rate", rate, "above 0 and below 10")
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
            share = getattr(self, flag)
            require(share is None or 0 <= share < 100, flag, share, "0 or more and below 100")
        require(2 <= self.folds <= 100, "folds", self.folds, "2 to 100")
        require(1 <= self.repeats <= 100, "repeats", self.repeats, "1 to 100")
        require(self.unknown_fpr is None or 0 <= self.unknown_fpr <= 50, "unknown_fpr", self.unknown_fpr, "0 to 50")
        shares = (self.testing_percentage, self.validation_percentage)
        require(self.split == "auto" or shares == (None, None), "split", self.split, "auto where percentages are given")
        require(_is_expression(self.group), "group", self.group, "parent, or a regular expression")
        kept = sum(self.percentages)
        require(kept < 100, "testing_percentage plus --validation_percentage", kept, "below 100")
        require(
            re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]*", self.final_tensor_name) is not None,
            "final_tensor_name",
            repr(self.final_tensor_name),
            "a letter, then letters, digits, dots, dashes and underscores",
        )
        require(  # TensorFlow takes names that differ only in case for the same
            self.final_tensor_name.lower() not in OTHER_NAMES,
            "final_tensor_name",
            self.final_tensor_name,
            f"another name than {', '.join(OTHER_NAMES)}, which are tensors of the model",
        )
        require(
            self.output_graph.suffix in GRAPH_SUFFIXES and self.output_graph.name != "",
            "output_graph",
            self.output_graph,
            "a file name that ends in .tflite, .onnx, .pb or .keras, or a folder's name without an ending",
        )
        require(
            self.output_labels not in (self.output_graph, lite_path(self.output_graph), self.output_model),
            "output_labels",
            self.output_labels,
            "another file than the model and its JSON",
        )
        require(
            self.endpoint != AUTO or not self.wants_split,
            "endpoint",
            self.endpoint,
            "a layer where the head is not cross-validated (steps, fine-tuning, a classic split)",
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
    def percentages(self) -> tuple[float, float]:
        """Shares of each label held out for validation and for the test in a classic split, percent."""
        validation, testing = self.validation_percentage, self.testing_percentage
        return 10.0 if validation is None else validation, 10.0 if testing is None else testing

    @property
    def wants_split(self) -> bool:
        """True if a classic split into training, validation and test set is asked for, or needed."""
        given = (self.testing_percentage, self.validation_percentage) != (None, None)
        return given or not self.exact or self.fine_tune > 0 or self.hyper_search > 0

    @property
    def exact(self) -> bool:
        """True if the head is fitted exactly, not trained in steps."""
        return self.head == "linear" and self.steps is None and not self.from_scratch

    @property
    def stepping(self) -> StepConfig:
        """Settings of training in steps, with this config's seed and class weights."""
        return dataclasses.replace(
            self.steps or StepConfig(),
            head=self.head,
            spec_augment=self.spec_augment,
            mixup=self.mixup,
            intermediate_store_frequency=self.intermediate_store_frequency,
            class_weights=self.class_weights,
            seed=self.seed,
        )

    @property
    def unknown_rate(self) -> float | None:
        """Share of unknown speakers that may be accepted, 0 to 1; None to spare the known ones instead."""
        return None if self.unknown_fpr is None else self.unknown_fpr / 100

    @property
    def output_model(self) -> Path:
        """Path of the JSON that describes ``output_graph``."""
        return model_json_path(self.output_graph)
