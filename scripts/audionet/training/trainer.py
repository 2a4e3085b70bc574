"""Training from a folder of images to a tested model: bottlenecks, split, head or network, calibration, test."""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np

from audionet._paths import lite_path
from audionet.audio.network_input import image_features
from audionet.backbones.bottlenecks import compute_bottlenecks
from audionet.backbones.registry import Backbone, convert_trained, prepare
from audionet.classifier.calibration import fit_calibration
from audionet.classifier.embedding import EmbeddingExamples
from audionet.classifier.head import Head
from audionet.classifier.model_files import read_written
from audionet.classifier.open_set import OpenSet, fit_open_set
from audionet.classifier.similarities import are_voices, compare_fold, segments_of
from audionet.data.dataset import ChunkImage, find_images, read_spectrogram_config
from audionet.data.split import SETS
from audionet.errors import DatasetError, UsageError
from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.training.checkpoint import Checkpoint
from audionet.training.config import AUTO, LEARNING_RATES, RetrainConfig, StepConfig
from audionet.training.data_module import Data, prepare_data
from audionet.training.datasets import FeatureExamples, ImageExamples
from audionet.training.exact_head import MAX_COST, ExactTrainer, fit_cost
from audionet.training.exact_run import choose_embedded, course, exact_trainer, train_cross_validated
from audionet.training.features import MFCC, head_fields, head_widths
from audionet.training.head_training import train_head
from audionet.training.hyper_search import search
from audionet.training.multi_label_run import train_multi_label
from audionet.training.networks import INPUT_SIZES, ImageNetwork, from_backbone, from_scratch
from audionet.training.results import TUNED, Candidate, Trained, test_result
from audionet.training.tensorboard_log import Curves, run_folder
from audionet.training.train_loop import Fit, fit
from audionet.utils.arrays import FloatArray, IntArray, UInt8Array, evenly
from audionet.utils.files import content_hash, make_folder, make_writable_folder
from audionet.utils.process import available_cores
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

_CONVERSION_SAMPLES = 16
_PROJECTOR_POINTS = 1000
_NORMALISATION_SAMPLES = 512
_ENDPOINTS = ("mixed2", "mixed4")  # an early one for many voices and words, or a later one; which, depends on the task
_WITHOUT_EFFECT_ON_WEIGHTS = {
    "final_tensor_name",
    "intermediate_store_frequency",
    "print_misclassified_test_images",
    "scheduler",
}


def train(config: RetrainConfig, check_backbone: Callable[[Backbone], None] = lambda _: None) -> Trained:
    """Train on the images of ``config.image_dir``, and test beside a baseline on MFCC statistics.

    The training's summaries are kept once `finish_run` is called.

    Parameters
    ----------
    config : RetrainConfig
    check_backbone : callable, optional
        Called with the converted backbone before the training, to raise an error if its model cannot be published.

    Raises
    ------
    DatasetError
        If the images cannot be trained on.
    BackboneError
        If the backbone cannot be found, fetched or converted.
    ModelError
        If the loss becomes NaN or infinite before the first validation.
    """
    _check_outputs(config)
    spectrogram_config = read_spectrogram_config(config.image_dir)
    images = find_images(config.image_dir)

    def prepared(endpoint: str | None) -> Backbone:
        samples = [images[i] for i in evenly(len(images), _CONVERSION_SAMPLES)]
        return prepare(
            config.architecture,
            config.model_dir,
            config.input_size,
            lambda size: _pixels(samples, size),
            endpoint,
            config.pooling,
        )

    automatic = config.endpoint == AUTO
    backbone = None if config.from_scratch else prepared(None if automatic else config.endpoint)
    if backbone is not None:
        check_backbone(backbone)
    data = prepare_data(spectrogram_config, images, backbone, config)
    with run_folder(config.summaries_dir) as folder:
        if backbone is not None and data.folds is not None:
            points = evenly(len(data.bottlenecks.images), _PROJECTOR_POINTS)
            others = [prepared(name) for name in _ENDPOINTS if name != backbone.endpoint] if automatic else []
            run = train_cross_validated if data.present is None else train_multi_label
            return run(data, [backbone, *others], config, points, folder)
        stepwise = _TrainingRun(data, config, folder)
        return stepwise.with_backbone(backbone) if backbone else stepwise.from_scratch()


class _TrainingRun:
    """State of one training run: data, settings, output folders, and the rows of images it samples."""

    def __init__(self, data: Data, config: RetrainConfig, folder: Path) -> None:
        self.data, self.config, self.folder = data, config, folder
        self.temporary_files: list[Path] = []
        images = data.bottlenecks.images
        self.point_rows = evenly(len(images), _PROJECTOR_POINTS)
        self.points = [images[i] for i in self.point_rows]
        self.open_set_rows = {name: self._select_open_set_rows(name) for name in SETS[:2]}

    def _select_open_set_rows(self, name: str) -> IntArray:
        """Select the images of a set that the open set is fitted on: no augmented copies, of labels and background."""
        return choose_embedded(self.data, np.concatenate([self.data.rows[name], self.data.background[name]]))

    def with_backbone(self, backbone: Backbone) -> Trained:
        """Train a head on a pretrained backbone, then fine-tune the backbone's last blocks if configured."""
        data, config = self.data, self.config
        fields, widths = head_fields(backbone), head_widths(backbone)
        if config.hyper_search:
            rows = np.concatenate([data.rows["training"], data.rows["validation"]])
            examples = FeatureExamples(data.bottlenecks.records[rows], data.targets[rows], fields)
            recordings = [(data.bottlenecks.images[i].label, data.bottlenecks.images[i].recording) for i in rows]
            config = search(examples, recordings, len(data.labels), widths, config)
        trainer = exact_trainer(data, fields, widths, config) if data.exact and config.exact else None
        head, fitted = self._head(backbone, config, trainer)
        validation, testing = (head.answers(data.features(name, fields).blocks()) for name in SETS[1:])
        points, others = (data.some_features(rows, fields) for rows in (self.point_rows, self._all_open_set_rows()))

        def blocks(name: str) -> Iterator[FloatArray]:
            return data.features(name, fields).blocks()

        candidate = Candidate(backbone, head, fitted, points, others, validation, testing, blocks)
        self._log_validation(candidate)
        if config.fine_tune:
            candidate = self._better_of(candidate, self._fine_tuned(backbone, head, config))
        leaky = self._leaky_accuracy(fields, widths, config, trainer) if len(candidate.testing) else None
        return self._calibrate_and_test(candidate, config, leaky)

    def _head(self, backbone: Backbone, config: RetrainConfig, trainer: ExactTrainer | None) -> tuple[Head, Fit]:
        """Fit the head exactly, or without an exact trainer train it in steps."""
        data, fields, widths = self.data, head_fields(backbone), head_widths(backbone)
        if trainer is not None:
            fitted = trainer.fit(data.rows["training"])
            return fitted.head, course(fitted)
        training, validation = (data.features(name, fields) for name in SETS[:2])
        curves = Curves(self.folder)
        checkpoint = self._checkpoint("head", config, backbone.identity)
        found = train_head(training, validation, len(data.labels), widths, config.stepping, curves, checkpoint)
        curves.close()
        return found

    def from_scratch(self) -> Trained:
        """Train a small network on the images, without a pretrained backbone."""
        data, config = self.data, self.config
        images = data.split.sets["training"]
        samples = _pixels(
            [images[i] for i in evenly(len(images), _NORMALISATION_SAMPLES)], INPUT_SIZES[config.architecture]
        )

        rate = config.stepping.learning_rate or LEARNING_RATES["from scratch"]
        stepping = dataclasses.replace(config.stepping, learning_rate=rate)

        def build(exact: bool) -> ImageNetwork:
            return from_scratch(config.architecture, samples, len(data.labels), stepping, exact)

        checkpoint = self._checkpoint(config.architecture, config, config.architecture)
        candidate = self._train_on_images(build, config.architecture, None, stepping, Curves(self.folder), checkpoint)
        return self._calibrate_and_test(candidate, config, None)

    def _fine_tuned(self, backbone: Backbone, head: Head, config: RetrainConfig) -> Candidate:
        stage = dataclasses.replace(
            config.stepping,
            how_many_training_steps=config.fine_tune_steps,
            learning_rate=config.fine_tune_learning_rate,
            train_batch_size=config.fine_tune_batch_size,
        )
        name, blocks = f"{backbone.name}{TUNED}", pluralise(config.fine_tune, "block")
        log.info(f"Fine-tuning the last {blocks} of {backbone.name} and the top layer:")

        def build(exact: bool) -> ImageNetwork:
            return from_backbone(backbone, head, config.fine_tune, stage, exact)

        curves, checkpoint = Curves(self.folder / "fine_tune"), self._checkpoint(name, config, backbone.identity)
        return self._train_on_images(build, name, backbone.statistics, stage, curves, checkpoint)

    def _better_of(self, frozen: Candidate, tuned: Candidate) -> Candidate:
        """Return the fine-tuned network if it is better on the validation set or there is none, else the frozen one."""
        labels = self.data.targets_of("validation")
        if not len(labels) or tuned.score(labels) > frozen.score(labels):
            return tuned
        log.info("Fine-tuning did not improve validation: the network from before it is kept.")
        return frozen

    def _train_on_images(
        self,
        build: Callable[[bool], ImageNetwork],
        name: str,
        statistics: str | None,
        config: StepConfig,
        curves: Curves,
        checkpoint: Checkpoint,
    ) -> Candidate:
        """Train a network on images, convert it to LiteRT, and compute the converted network's outputs."""
        data, points = self.data, self.points
        built = build(False)
        sets = [
            ImageExamples(data.split.sets[part], data.targets_of(part), built.input_size, statistics)
            for part in SETS[:2]
        ]
        fitted = fit(built.network, sets[0], sets[1], config, curves, checkpoint)
        curves.close()
        exact = build(True)
        exact.network.model.set_weights(built.network.model.get_weights())
        samples = _pixels([points[i] for i in evenly(len(points), _CONVERSION_SAMPLES)], built.input_size)
        backbone = convert_trained(exact.features, name, statistics, samples, self.config.checkpoint_dir)
        self.temporary_files.append(backbone.path)
        head = exact.head()
        open_set = [data.bottlenecks.images[i] for i in self._all_open_set_rows()]
        parts = [data.split.sets["validation"], data.split.sets["testing"], points, open_set]
        images = [image for part in parts for image in part]
        with tempfile.TemporaryDirectory() as folder:
            found = compute_bottlenecks(images, backbone, Path(folder), available_cores())
            if len(found.images) < len(images):
                raise DatasetError("images have changed since training started: run it again")
            outputs = FeatureExamples(found.records, np.zeros(len(images), np.int64), head_fields(backbone))
            rows = np.split(np.arange(len(images)), np.cumsum([len(part) for part in parts[:-1]]))
            validation, testing, some, others = map(outputs.some, rows)
            probabilities = head.answers(validation.blocks()), head.answers(testing.blocks())
            kept = {"validation": [validation.all()], "testing": [testing.all()]}  # the folder ends with this block
            candidate = Candidate(backbone, head, fitted, some.all(), others.all(), *probabilities, kept.__getitem__)
        self._log_validation(candidate)
        return candidate

    def _log_validation(self, candidate: Candidate) -> None:
        if len(candidate.validation):
            accuracy, _ = candidate.score(self.data.targets_of("validation"))
            chunks, step = pluralise(len(candidate.validation), "chunk"), candidate.fitted.best_step
            log.info(f"Validation: {accuracy:.1%} of {chunks} right, with the weights of step {step}")

    def _checkpoint(self, stage: str, config: RetrainConfig, start: str) -> Checkpoint:
        """Create the checkpoint of one training, identified by everything that its result depends on."""
        data = self.data
        digest = hashlib.sha256()
        for name in SETS[:2]:
            digest.update(data.bottlenecks.keys[data.rows[name]].tobytes() + data.targets_of(name).tobytes())
        settings = {
            name: value
            for name, value in dataclasses.asdict(config).items()
            if not isinstance(value, Path) and name not in _WITHOUT_EFFECT_ON_WEIGHTS
        }
        identity = {"settings": settings, "labels": data.labels, "data": digest.hexdigest(), "start": start}
        checkpoint = Checkpoint(config.checkpoint_dir, stage, identity, config.intermediate_store_frequency)
        self.temporary_files.append(checkpoint.path)
        return checkpoint

    def _calibrate_and_test(self, candidate: Candidate, config: RetrainConfig, leaky: Accuracy | None) -> Trained:
        """Calibrate the network, and test it beside the baseline."""
        data, validation = self.data, self.data.targets_of("validation")
        recordings = [(image.label, image.recording) for image in data.split.sets["validation"]]
        open_set = self._open_set(candidate)
        validation_scores, test_scores = (candidate.scores(name, open_set.comparison) for name in SETS[1:])
        calibration = fit_calibration(candidate.validation, validation_scores, validation, recordings)
        baseline = self._baseline()
        test = None
        if len(candidate.testing):
            baseline_probabilities = None
            if baseline is not None:
                baseline_probabilities = baseline.answers(data.features("testing", ["mfcc"]).blocks())
            test = test_result(
                calibration.apply(candidate.testing, test_scores),
                test_scores,
                open_set.rejection,
                baseline_probabilities,
                leaky,
                data.split.sets["testing"],
                data.activity[data.rows["testing"]],
                data.labels,
                None,
            )
        return Trained(
            data=data,
            backbone=candidate.backbone,
            head=candidate.head.with_temperature(calibration.temperature),
            calibration=calibration,
            open_set=open_set,
            baseline=baseline,
            fitted=candidate.fitted,
            config=config,
            validation_accuracy=candidate.score(validation)[0] if len(validation) else None,
            test=test,
            points=self.points,
            features=candidate.features,
            summaries=self.folder,
            temporary_files=self.temporary_files,
        )

    def _all_open_set_rows(self) -> IntArray:
        return np.concatenate(list(self.open_set_rows.values()))

    def _open_set(self, candidate: Candidate) -> OpenSet:
        """Fit speaker models, their scale and the rejection rule on bottlenecks."""
        data, widths, voice_space = self.data, head_widths(candidate.backbone), candidate.backbone.voice_space
        parts = np.split(candidate.open_set_features, [len(self.open_set_rows["training"])])
        training, validation = (
            EmbeddingExamples(features, data.targets[rows], segments_of([data.bottlenecks.images[i] for i in rows]))
            for features, rows in zip(parts, self.open_set_rows.values(), strict=True)
        )
        spaces = [None, voice_space] if data.speech and voice_space is not None else [None]
        compared = compare_fold(training, validation, len(data.labels), widths, spaces)
        voices = len(compared) > 1 and are_voices(*compared)
        held_out, chosen = (compared[1], voice_space) if voices else (compared[0], None)
        known = None if voice_space is None else voices
        return fit_open_set(training, held_out, widths, chosen, self.config.unknown_rate, known)

    def _leaky_accuracy(
        self, fields: list[str], widths: list[int], config: RetrainConfig, trainer: ExactTrainer | None
    ) -> Accuracy:
        """Train again on a random split by chunk, and return the accuracy that it would report."""
        data = self.data
        rows = np.random.default_rng(config.seed).permutation(np.concatenate(list(data.rows.values())))
        testing, validation = len(data.rows["testing"]), len(data.rows["validation"])
        parts = [rows[testing + validation :], rows[testing : testing + validation], rows[:testing]]
        sets = [FeatureExamples(data.bottlenecks.records[part], data.targets[part], fields) for part in parts]
        if trainer is not None:
            head = trainer.fit(parts[0]).head
        else:
            head, _ = train_head(sets[0], sets[1], len(data.labels), widths, config.stepping)
        return accuracy(head.answers(sets[2].blocks()).argmax(axis=1) == sets[2].labels)

    def _baseline(self) -> Head | None:
        """Train a head on MFCC statistics, if the images are mel spectrograms made by data_maker.py."""
        data = self.data
        if not data.has_mfcc:
            return None
        fields, widths = MFCC
        if fit_cost(len(data.rows["training"]), sum(widths), len(data.labels)) <= MAX_COST:
            return exact_trainer(data, fields, widths, self.config).fit(data.rows["training"]).head
        training, validation = (data.features(name, fields) for name in SETS[:2])
        head, _ = train_head(training, validation, len(data.labels), widths, StepConfig(seed=self.config.seed))
        return head


def _check_outputs(config: RetrainConfig) -> None:
    """Check that the results can be written before the training, not after it."""
    graph = config.output_graph
    for path in (graph, lite_path(graph), config.output_model, config.output_labels):
        make_folder(path.parent)
        if path.is_dir() and not (path == graph and not graph.suffix):
            raise UsageError(f"{escape(path)} is a folder: name a file to write to")
    written, _ = read_written(graph)
    exports = {} if written is None else written.exports
    if graph.is_dir() and content_hash(graph) != exports.get(graph.name, {}).get("sha256"):
        raise UsageError(
            f"{escape(graph)} exists, and is not as retrain.py wrote it: remove it, or name another folder"
        )
    make_folder(config.summaries_dir)
    make_folder(config.checkpoint_dir)
    for folder in {graph.parent, config.output_labels.parent}:
        make_writable_folder(folder)


def _pixels(images: Sequence[ChunkImage], size: tuple[int, int]) -> UInt8Array:
    """Read images at a network's input size, (n, height, width, 3), skipping unreadable ones."""
    pixels = []
    for image in images:
        try:
            pixels.append(image_features(image.path.read_bytes(), size).pixels[0])
        except (OSError, DatasetError):
            continue  # logged later, when its bottleneck is computed
    if not pixels:
        raise DatasetError("the images cannot be read: make them again with data_maker.py --force")
    return np.stack(pixels)
