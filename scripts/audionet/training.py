"""From a folder of pictures to a trained model: split, bottlenecks, training one way or another, test."""

from __future__ import annotations

import dataclasses
import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .backbones import Backbone, from_model, prepare
from .bottlenecks import Bottlenecks, bottlenecks_of
from .cache import IntArray
from .checkpoints import Checkpoint
from .config import PictureConfig, RetrainConfig, available_cores, lite_path
from .console import count, table, warn
from .dataset import (
    SETS,
    Picture,
    Split,
    find_pictures,
    read_picture_config,
    split_pictures,
    without_copies,
)
from .errors import DatasetError, UsageError
from .examples import FeatureExamples, PictureExamples
from .features import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH, picture_features
from .files import make_folder, printable
from .fitting import Fit, fit
from .head import Head, train_head
from .networks import INPUT_SIZES, PictureNetwork, from_backbone, from_scratch
from .results import Test, test_result
from .search import search
from .spectrogram import FloatArray, UInt8Array
from .summaries import Curves

_SAMPLES = 16
_POINTS = 1000
_ADAPTED_TO = 512
_MOST_LABELS_SHOWN = 40
_MOST_ODD_ONES_SHOWN = 5
_NO_PART_IN_TRAINING = {
    "final_tensor_name",
    "intermediate_store_frequency",
    "print_misclassified_test_images",
    "scheduler",
}


@dataclass(frozen=True)
class Data:
    """The pictures, which set each is in, and what is known of them before any training.

    Attributes
    ----------
    picture : PictureConfig or None
        How the pictures were made, where data_maker.py made them.
    labels : list of str
    bottlenecks : Bottlenecks
    targets : ndarray of int64, shape (n,)
        Each picture's label, as its place in `labels`.
    split : Split
    rows : dict of str to ndarray of int64
        Under each name in SETS, which pictures are in it, in the split's order.
    """

    picture: PictureConfig | None
    labels: list[str]
    bottlenecks: Bottlenecks
    targets: IntArray
    split: Split
    rows: dict[str, IntArray]

    def features(self, name: str, fields: Sequence[str]) -> FeatureExamples:
        """The bottlenecks of one set, of these fields."""
        rows = self.rows[name]
        return FeatureExamples(self.bottlenecks.records[rows], self.targets[rows], fields)


@dataclass(frozen=True)
class Trained:
    """All that a training came to.

    Attributes
    ----------
    data : Data
    backbone : Backbone
        The network up to the top, as LiteRT.
    head : Head
    fitted : Fit
        How the last training went.
    config : RetrainConfig
        As asked, or as --hyper_search found better.
    test : Test or None
    points : list of Picture
        Some of the pictures, evenly from the first to the last.
    features : ndarray of float32, shape (len(points), width)
        What the top is given of them.
    summaries : Path
        Where this training's curves went.
    leftovers : list of Path
        What is needed until the model is published, and to go on if that does not happen.
    """

    data: Data
    backbone: Backbone
    head: Head
    fitted: Fit
    config: RetrainConfig
    test: Test | None
    points: list[Picture]
    features: FloatArray
    summaries: Path
    leftovers: list[Path]


def train(config: RetrainConfig) -> Trained:
    """Train on the pictures of ``config.image_dir`` and test, beside the MFCC-statistics baseline.

    Raises
    ------
    DatasetError
        If the pictures cannot be trained on.
    BackboneError
        If the backbone cannot be had.
    ModelError
        If training came to nothing.
    """
    _check_outputs(config)
    picture_config = read_picture_config(config.image_dir)
    pictures = find_pictures(config.image_dir)
    backbone = None
    if not config.from_scratch:
        backbone = prepare(
            config.architecture,
            config.model_dir,
            config.input_size,
            lambda size: _pixels([pictures[i] for i in _places(len(pictures), _SAMPLES)], size),
        )
    data = _data(picture_config, pictures, backbone, config)
    folder = config.summaries_dir / time.strftime("%Y%m%d-%H%M%S")
    run = _Run(data, config, folder)
    return run.with_backbone(backbone) if backbone else run.from_scratch()


class _Run:
    """One training: where its curves and checkpoints go, and what is common to all ways of training."""

    def __init__(self, data: Data, config: RetrainConfig, folder: Path) -> None:
        self.data, self.config, self.folder = data, config, folder
        self.leftovers: list[Path] = []

    def with_backbone(self, backbone: Backbone) -> Trained:
        """A top layer on a pretrained network, whose last blocks may be trained after it."""
        data, config = self.data, self.config
        fields = ["network", "bands"] if backbone.band_statistics else ["network"]
        widths = [backbone.width, BAND_STATISTICS_WIDTH][: len(fields)]
        if config.hyper_search:
            known = np.concatenate([data.rows["training"], data.rows["validation"]])
            examples = FeatureExamples(data.bottlenecks.records[known], data.targets[known], fields)
            recordings = [(data.bottlenecks.pictures[i].label, data.bottlenecks.pictures[i].recording) for i in known]
            config = search(examples, recordings, len(data.labels), widths, config)
        training, validation = (data.features(name, fields) for name in SETS[:2])
        curves = Curves(self.folder)
        checkpoint = self._checkpoint("head", config, backbone.identity)
        head, fitted = train_head(training, validation, len(data.labels), widths, config, curves, checkpoint)
        curves.close()
        _say(fitted)
        if config.fine_tune:
            return self._tuned(backbone, head, config)
        chosen, points = self._points()
        features = FeatureExamples(data.bottlenecks.records[chosen], data.targets[chosen], fields).all()
        probabilities = head.probabilities(data.features("testing", fields).all())
        return self._result(backbone, head, fitted, config, probabilities, points, features)

    def _tuned(self, backbone: Backbone, head: Head, config: RetrainConfig) -> Trained:
        config = dataclasses.replace(
            config,
            how_many_training_steps=config.fine_tune_steps,
            learning_rate=config.fine_tune_learning_rate,
            train_batch_size=config.fine_tune_batch_size,
        )
        blocks = count(config.fine_tune, "block")
        print(f"Fine-tuning the last {blocks} of {backbone.name}, and the top:", flush=True)

        def build(exact: bool) -> PictureNetwork:
            return from_backbone(backbone, head, config, exact)

        return self._whole(build, f"{backbone.name}_tuned", backbone.band_statistics, config, backbone.identity)

    def from_scratch(self) -> Trained:
        """A small network on the pictures alone."""
        data, config = self.data, self.config
        pictures = data.split.sets["training"]
        samples = _pixels([pictures[i] for i in _places(len(pictures), _ADAPTED_TO)], INPUT_SIZES[config.architecture])

        def build(exact: bool) -> PictureNetwork:
            return from_scratch(samples, len(data.labels), config, exact)

        return self._whole(build, config.architecture, False, config, config.architecture)

    def _whole(
        self,
        build: Callable[[bool], PictureNetwork],
        name: str,
        band_statistics: bool,
        config: RetrainConfig,
        start: str,
    ) -> Trained:
        """Train a network that takes pictures, and from then on go by what its LiteRT version answers."""
        data = self.data
        built = build(False)
        size = built.input_size
        training, validation = (
            PictureExamples(data.split.sets[part], data.targets[data.rows[part]], size, band_statistics)
            for part in SETS[:2]
        )
        curves = Curves(self.folder / "fine_tune" if config.fine_tune else self.folder)
        fitted = fit(built.network, training, validation, config, curves, self._checkpoint(name, config, start))
        curves.close()
        _say(fitted)
        exact = build(True)
        exact.network.model.set_weights(built.network.model.get_weights())
        points = self._points()[1]
        samples = _pixels([points[i] for i in _places(len(points), _SAMPLES)], size)
        backbone = from_model(exact.features, name, band_statistics, samples, config.checkpoint_dir)
        self.leftovers.append(backbone.path)
        head = exact.head()
        tested = data.split.sets["testing"]
        pictures = [*tested, *points]
        fields = ["network", "bands"] if band_statistics else ["network"]
        with tempfile.TemporaryDirectory() as folder:
            found = bottlenecks_of(pictures, backbone, Path(folder), available_cores(), config.scheduler)
            if len(found.pictures) < len(pictures):
                raise DatasetError("pictures have changed since training began: run it again")
            features = FeatureExamples(found.records, np.zeros(len(pictures), np.int64), fields).all()
        probabilities = head.probabilities(features[: len(tested)])
        return self._result(backbone, head, fitted, config, probabilities, points, features[len(tested) :])

    def _points(self) -> tuple[IntArray, list[Picture]]:
        """Some of all pictures, to look at and to check the exported model on."""
        known = self.data.bottlenecks.pictures
        chosen = _places(len(known), _POINTS)
        return chosen, [known[i] for i in chosen]

    def _checkpoint(self, stage: str, config: RetrainConfig, start: str) -> Checkpoint:
        """Where a training's state is kept: one for all that its result depends on."""
        data = self.data
        digest = hashlib.sha256()
        for name in SETS[:2]:
            digest.update(data.bottlenecks.keys[data.rows[name]].tobytes() + data.targets[data.rows[name]].tobytes())
        settings = {
            name: value
            for name, value in dataclasses.asdict(config).items()
            if not isinstance(value, Path) and name not in _NO_PART_IN_TRAINING
        }
        identity = {"settings": settings, "labels": data.labels, "data": digest.hexdigest(), "start": start}
        checkpoint = Checkpoint(config.checkpoint_dir, stage, identity, config.intermediate_store_frequency)
        self.leftovers.append(checkpoint.path)
        return checkpoint

    def _result(
        self,
        backbone: Backbone,
        head: Head,
        fitted: Fit,
        config: RetrainConfig,
        probabilities: FloatArray,
        points: list[Picture],
        features: FloatArray,
    ) -> Trained:
        """Hold the network against the test set, and beside the baseline."""
        data = self.data
        test = None
        if len(probabilities):
            test = test_result(probabilities, self._baseline(), data.split.sets["testing"], data.labels)
        return Trained(data, backbone, head, fitted, config, test, points, features, self.folder, self.leftovers)

    def _baseline(self) -> FloatArray | None:
        """Test probabilities of the MFCC statistics, where pictures have them."""
        data = self.data
        if data.picture is None or data.picture.representation != "mel":
            return None
        training, validation, testing = (data.features(name, ["mfcc"]) for name in SETS)
        plain = RetrainConfig(
            how_many_training_steps=self.config.how_many_training_steps if not self.config.from_scratch else 500,
            seed=self.config.seed,
        )
        head, _ = train_head(training, validation, len(data.labels), [MFCC_STATISTICS_WIDTH], plain)
        return head.probabilities(testing.all())


def _data(
    picture_config: PictureConfig | None, pictures: list[Picture], backbone: Backbone | None, config: RetrainConfig
) -> Data:
    """Bottlenecks, labels and split, with what is to be said about them."""
    bottlenecks = bottlenecks_of(pictures, backbone, config.bottleneck_dir, available_cores(), config.scheduler)
    rate = f" at {bottlenecks.computed / bottlenecks.seconds:.0f} a second" if bottlenecks.computed else ""
    made = f"{bottlenecks.computed} computed{rate}, {bottlenecks.cached} from {printable(config.bottleneck_dir)}"
    print(f"Bottlenecks: {made}")
    bottlenecks = _of_one_size(bottlenecks, picture_config)
    labels = sorted({picture.label for picture in bottlenecks.pictures})
    if len(labels) < 2:
        raise DatasetError(f"{printable(config.image_dir)}: only '{printable(labels[0])}' has readable pictures")
    apart = picture_config.apart if picture_config else 2
    split = split_pictures(bottlenecks.pictures, config.validation_percentage, config.testing_percentage, apart)
    keys = [key.tobytes() for key in bottlenecks.keys]
    split, copies = without_copies(split, dict(zip(bottlenecks.pictures, keys, strict=True)))
    print(_split_table(labels, split))
    if copies:
        print(f"Left out {count(copies, 'picture')} with copies in another set: they would prove nothing.")
    for here, there in sorted(_contradictions(bottlenecks.pictures, keys)):
        warn(f"{here}: lies under {there} too, so one of the two labels is wrong: remove it there")
    row = {picture: i for i, picture in enumerate(bottlenecks.pictures)}
    number = {label: i for i, label in enumerate(labels)}
    rows = {name: np.array([row[picture] for picture in split.sets[name]], np.int64) for name in SETS}
    targets = np.array([number[picture.label] for picture in bottlenecks.pictures], np.int64)
    return Data(picture_config, labels, bottlenecks, targets, split, rows)


def _of_one_size(bottlenecks: Bottlenecks, config: PictureConfig | None) -> Bottlenecks:
    """Leave out pictures that data_maker.py cannot have made like the others."""
    sizes = bottlenecks.records.take("size")
    if config is None:
        kinds = len(np.unique(sizes, axis=0))
        if kinds > 1:
            warn(f"the pictures are of {kinds} sizes: each is resized to what the network takes")
        return bottlenecks
    fits = (sizes == (config.frames, config.rows)).all(axis=1)
    for i in np.flatnonzero(~fits)[:_MOST_ODD_ONES_SHOWN]:
        width, height = sizes[i]
        warn(
            f"{bottlenecks.pictures[i].path}: is {width} x {height}, the others are {config.frames} x {config.rows}; "
            "left out"
        )
    if (odd := int((~fits).sum())) > _MOST_ODD_ONES_SHOWN:
        warn(f"... and {odd - _MOST_ODD_ONES_SHOWN} more of another size")
    if odd == len(fits):
        raise DatasetError("no picture has the size that dataset.json says: run data_maker.py --force")
    kept = np.flatnonzero(fits)
    pictures = [bottlenecks.pictures[i] for i in kept]
    return dataclasses.replace(
        bottlenecks, pictures=pictures, keys=bottlenecks.keys[kept], records=bottlenecks.records[kept]
    )


def _check_outputs(config: RetrainConfig) -> None:
    """Find out before the work, not after it, that its result cannot be written."""
    graph = config.output_graph
    for path in (graph, lite_path(graph), config.output_model, config.output_labels):
        make_folder(path.parent)
        if path.is_dir() and not (path == graph and not graph.suffix):
            raise UsageError(f"{printable(path)} is a folder: name a file to write to")
    if not graph.suffix and graph.exists() and not (graph / "saved_model.pb").is_file():
        raise UsageError(f"{printable(graph)} exists and is no SavedModel: name another folder, or a .tflite file")
    make_folder(config.summaries_dir)
    make_folder(config.checkpoint_dir)


def _say(fitted: Fit) -> None:
    if fitted.validation_accuracy is not None:
        print(f"Best validation: {fitted.validation_accuracy:.1%} of chunks at step {fitted.best_step}")


def _contradictions(pictures: Sequence[Picture], keys: Sequence[bytes]) -> set[tuple[str, str]]:
    """Pairs of recordings, by label and name, that lie under two labels and share a picture."""
    first: dict[bytes, Picture] = {}
    pairs = set()
    for picture, key in zip(pictures, keys, strict=True):
        other = first.setdefault(key, picture)
        if other.label != picture.label:
            pairs.add((f"{other.label}/{other.recording}", f"{picture.label}/{picture.recording}"))
    return pairs


def _places(total: int, most: int) -> IntArray:
    """A few places among `total`, evenly from the first to the last."""
    return np.unique(np.linspace(0, total - 1, most).astype(np.int64))


def _pixels(pictures: Sequence[Picture], size: tuple[int, int]) -> UInt8Array:
    """Pictures at a network's input size, (n, height, width, 3); those that cannot be read are passed over."""
    pixels = []
    for picture in pictures:
        try:
            pixels.append(picture_features(picture.path.read_bytes(), size).pixels[0])
        except (OSError, DatasetError):
            continue  # said later, when its bottleneck is wanted
    if not pixels:
        raise DatasetError("the pictures cannot be read: make them again with data_maker.py --force")
    return np.stack(pixels)


def _split_table(labels: Sequence[str], split: Split) -> str:
    chunks = {name: Counter(picture.label for picture in split.sets[name]) for name in SETS}
    recordings = {
        name: Counter(label for label, _ in {(p.label, p.recording) for p in split.sets[name]}) for name in SETS
    }
    shown = labels[:_MOST_LABELS_SHOWN]
    rows = [[label, *(f"{chunks[name][label]} ({recordings[name][label]})" for name in SETS)] for label in shown]
    if len(labels) > len(shown):
        rows.append([f"all {len(labels)} labels", *(f"{chunks[n].total()} ({recordings[n].total()})" for n in SETS)])
    return table(["chunks (recordings)", *SETS], rows)
