"""Training data from a folder of images: bottlenecks, labels and split."""

from __future__ import annotations

import dataclasses
import functools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.audio.network_input import LEAST_ACTIVITY, MFCC_STATISTICS_WIDTH
from audionet.backbones.bottlenecks import Bottlenecks, compute_bottlenecks
from audionet.backbones.registry import Backbone
from audionet.data.dataset import Assigned, ChunkImage, read_assigned
from audionet.data.folds import Folds, assign_folds
from audionet.data.given_split import are_folds, given_folds, given_sets, given_split
from audionet.data.grouping import Recording, group_recordings, join_copies
from audionet.data.naming import UNKNOWN, join_labels, separate_labels
from audionet.data.split import SETS, Split, split_images, without_copies
from audionet.errors import DatasetError, UsageError
from audionet.training.config import RetrainConfig
from audionet.training.data_tables import folds_table, multi_label_table, split_table
from audionet.training.datasets import FeatureExamples
from audionet.training.exact_head import MAX_COST, MAX_NUMBERS, fit_cost
from audionet.training.multi_label_data import is_multi_label, multi_label_folds, read_labels, require_folds
from audionet.training.speech import without_pauses
from audionet.utils.arrays import BoolArray, FloatArray, IntArray
from audionet.utils.process import available_cores
from audionet.utils.text import escape, pluralise

log = logging.getLogger(__name__)

_APART = 2  # chunks, where the images' overlap is not known
_MAX_ODD_SIZES_SHOWN = 5


@dataclass(frozen=True)
class Data:
    """Images with their labels, bottlenecks and split.

    Attributes
    ----------
    spectrogram : SpectrogramConfig or None
        Spectrogram settings of the images; None where data_maker.py did not make them.
    labels : list of str
    bottlenecks : Bottlenecks
    targets : ndarray of int64, shape (n,)
        Index of each image's label in `labels`; -1 for background images, which belong to none of them.
    split : Split
        Split of the labels' images.
    rows : dict of str to ndarray of int64
        Row numbers of each set's images, in the split's order; the keys are the names in SETS.
    background : dict of str to ndarray of int64
        The same for the background images.
    groups : dict of (str, str) to str
        Group of each recording; copies of each other are in one group.
    folds : Folds or None
        Folds of all images, background included; None for a classic split.
    exact : bool
        Whether the head is fitted exactly, not trained in steps.
    speech : bool
        Whether the labels are spoken; chunks without speech have been left out then.
    present : ndarray of bool, shape (n, labels), or None
        Labels of each image, where an image may have several; `targets` then are the first of them, and images of
        none are no background but examples of that.
    """

    spectrogram: SpectrogramConfig | None
    labels: list[str]
    bottlenecks: Bottlenecks
    targets: IntArray
    split: Split
    rows: dict[str, IntArray]
    background: dict[str, IntArray]
    groups: dict[Recording, str]
    folds: Folds | None
    exact: bool
    speech: bool = False
    present: BoolArray | None = None

    @functools.cached_property
    def activity(self) -> FloatArray:
        """Weight of each image within its recording: the share of its frames with sound, shape (n,)."""
        activity: FloatArray = np.maximum(self.bottlenecks.records.take("activity"), np.float32(LEAST_ACTIVITY))
        return activity

    @property
    def apart(self) -> int:
        """Distance in chunks between training and test chunks of one recording."""
        return self.spectrogram.apart if self.spectrogram else _APART

    @property
    def has_mfcc(self) -> bool:
        """True if the images are mel spectrograms of data_maker.py's, from which MFCC statistics can be computed."""
        return self.spectrogram is not None and self.spectrogram.representation == "mel"

    def targets_of(self, name: str) -> IntArray:
        """Return the label numbers of one set, shape (n,)."""
        return self.targets[self.rows[name]]

    def some_features(self, rows: IntArray, fields: Sequence[str]) -> FloatArray:
        """Return these fields of some bottlenecks, joined, shape (len(rows), width)."""
        return FeatureExamples(self.bottlenecks.records[rows], self.targets[rows], fields).all()

    def features(self, name: str, fields: Sequence[str]) -> FeatureExamples:
        """Return these fields of the bottlenecks of one set."""
        return FeatureExamples(self.bottlenecks.records[self.rows[name]], self.targets_of(name), fields)


def prepare_data(
    spectrogram_config: SpectrogramConfig | None,
    images: list[ChunkImage],
    backbone: Backbone | None,
    config: RetrainConfig,
) -> Data:
    """Compute bottlenecks, labels and split, and log their statistics and faults.

    Raises
    ------
    DatasetError
        If fewer than two labels have readable images.
    """
    assigned = read_assigned(config.image_dir)
    multi_label = is_multi_label({image.label for image in images}, config)
    if config.split == "given":  # before the bottlenecks, which may take hours
        found = given_sets(images, assigned)
        if multi_label:
            require_folds(found)
    bottlenecks = compute_bottlenecks(images, backbone, config.bottleneck_dir, available_cores(), config.scheduler)
    rate = f" at {bottlenecks.computed / bottlenecks.seconds:.0f} a second" if bottlenecks.computed else ""
    counts = f"{bottlenecks.computed} computed{rate}, {bottlenecks.cached} from {escape(config.bottleneck_dir)}"
    log.info(f"Bottlenecks: {counts}")
    bottlenecks = _drop_odd_sizes(bottlenecks, spectrogram_config)
    voice_space = None if backbone is None else backbone.voice_space
    if voice_space is None and config.speech == "on":
        raise UsageError("--speech on needs a backbone with a speech detector, such as the bundled one")
    bottlenecks, speech = without_pauses(bottlenecks, voice_space, config.speech)
    all_labels = sorted({image.label for image in bottlenecks.images})
    labels = [label for label in all_labels if label != UNKNOWN]
    if len(labels) < 2:
        raise DatasetError(f"{escape(config.image_dir)}: only '{escape(*labels or [UNKNOWN])}' has readable images")
    apart = spectrogram_config.apart if spectrogram_config else _APART
    keys = [key.tobytes() for key in bottlenecks.keys]
    grouping = group_recordings(bottlenecks.images, config.group, assigned)
    if grouping.speakers:
        log.info(
            f"Groups: {pluralise(grouping.speakers, 'recording')} named as in Speech Commands; those of one speaker "
            "are kept together"
        )
    if multi_label:
        if _numbers(bottlenecks, backbone) > MAX_NUMBERS:
            raise DatasetError(f"{len(images)} images are too many to fit a top layer for several labels exactly")
        return _multi_label_data(spectrogram_config, bottlenecks, grouping.groups, assigned, config, speech)
    exact = config.exact and not _too_large(bottlenecks, len(labels), backbone)
    groups, folds, copies = join_copies(grouping.groups, bottlenecks.images, keys), None, 0
    sets = given_sets(bottlenecks.images, assigned) if config.split == "given" else None
    if sets is not None and not are_folds(sets):
        split = given_split(bottlenecks.images, sets, groups)
        split, copies = without_copies(split, dict(zip(bottlenecks.images, keys, strict=True)))
        log.info(split_table(all_labels, split))
    elif exact and not config.wants_split:
        folds = (
            given_folds(bottlenecks.images, sets, groups)
            if sets is not None
            else assign_folds(bottlenecks.images, groups, config.folds, apart)
        )
        split = Split({"training": bottlenecks.images, "validation": [], "testing": []}, folds.cut_in_time, 0)
        log.info(folds_table(all_labels, bottlenecks.images, folds))
    elif sets is not None:
        raise UsageError(
            "--split given: the recordings come with folds, in which only a top layer that is fitted exactly is "
            "cross-validated: leave out --head, --how_many_training_steps, --fine_tune and --hyper_search"
        )
    else:
        split = split_images(bottlenecks.images, *config.percentages, apart, grouping.groups)
        split, copies = without_copies(split, dict(zip(bottlenecks.images, keys, strict=True)))
        log.info(split_table(all_labels, split))
    if sets is not None:
        _log_given(bottlenecks.images, sets, split)
    if copies:
        log.info(f"Left out {pluralise(copies, 'image')} with copies in another set: they would leak between the sets.")
    _log_conflicts(bottlenecks.images, keys)
    row_of = {image: i for i, image in enumerate(bottlenecks.images)}
    number_of = {label: i for i, label in enumerate(labels)}
    targets = np.array([number_of.get(image.label, -1) for image in bottlenecks.images], np.int64)
    all_rows = {name: np.array([row_of[image] for image in split.sets[name]], np.int64) for name in SETS}
    rows, background = (
        {name: of[(targets[of] < 0) == unlabelled] for name, of in all_rows.items()} for unlabelled in (False, True)
    )
    split = Split(
        {name: [image for image in split.sets[name] if image.label != UNKNOWN] for name in SETS},
        [label for label in split.seen_in_training if label != UNKNOWN],
        split.dropped,
    )
    return Data(spectrogram_config, labels, bottlenecks, targets, split, rows, background, groups, folds, exact, speech)


def _multi_label_data(
    spectrogram_config: SpectrogramConfig | None,
    bottlenecks: Bottlenecks,
    groups: dict[Recording, str],
    assigned: Assigned | None,
    config: RetrainConfig,
    speech: bool,
) -> Data:
    """Read the labels that the names of folders join, and assign folds that hold each of them evenly."""
    images, keys = bottlenecks.images, [key.tobytes() for key in bottlenecks.keys]
    labels, present = read_labels(images)
    for place in np.flatnonzero(present.all(axis=0)).tolist():
        log.warning(f"every recording has the label {labels[place]}, so that it will always be answered")
    groups = join_copies(groups, images, keys)
    sets = given_sets(images, assigned) if config.split == "given" else None
    folds = multi_label_folds(images, groups, sets, config.folds)
    log.info(multi_label_table(labels, images, folds))
    _log_conflicts(images, keys, several=True)
    split = Split({"training": images, "validation": [], "testing": []}, [], 0)
    none = np.zeros(0, np.int64)
    rows = dict.fromkeys(SETS, none) | {"training": np.arange(len(images))}
    targets = np.where(present.any(axis=1), present.argmax(axis=1), -1)
    background = dict.fromkeys(SETS, none)
    return Data(
        spectrogram_config, labels, bottlenecks, targets, split, rows, background, groups, folds, True, speech, present
    )


def _log_given(images: Sequence[ChunkImage], sets: Mapping[Recording, str], split: Split) -> None:
    """Log the recordings that come without a set, and the images left out to keep groups on one side."""
    without = len({(image.label, image.recording) for image in images} - set(sets))
    if without:
        role = "trained on only" if are_folds(sets) else "left out"
        log.info(f"{pluralise(without, 'recording')} without a set: {role}.")
    if split.dropped:
        log.info(f"{pluralise(split.dropped, 'image')} left out, of those or of groups that are in a set after it.")


def _too_large(bottlenecks: Bottlenecks, labels: int, backbone: Backbone | None) -> bool:
    """Return whether the exact fit would take too long, and log that the head is trained in steps instead."""
    chunks = sum(not image.copy for image in bottlenecks.images)
    width = _width(backbone)
    too_large = fit_cost(chunks, width, labels) > MAX_COST or _numbers(bottlenecks, backbone) > MAX_NUMBERS
    if too_large:
        log.info(
            f"{chunks} chunks of {labels} labels are too many to fit the top layer exactly and to cross-validate it: "
            "it is trained in steps, and tested on a part of the recordings"
        )
    return too_large


def _width(backbone: Backbone | None) -> int:
    return backbone.width if backbone else MFCC_STATISTICS_WIDTH


def _numbers(bottlenecks: Bottlenecks, backbone: Backbone | None) -> int:
    """Return the number of features of all images."""
    return len(bottlenecks.images) * _width(backbone)


def _drop_odd_sizes(bottlenecks: Bottlenecks, config: SpectrogramConfig | None) -> Bottlenecks:
    """Leave out images of another size than dataset.json states; without dataset.json, warn of several sizes."""
    sizes = bottlenecks.records.take("size")
    if config is None:
        kinds = len(np.unique(sizes, axis=0))
        if kinds > 1:
            log.warning(f"the images have {kinds} sizes: each is resized to the network's input size")
        return bottlenecks
    matching = (sizes == (config.frames, config.rows)).all(axis=1)
    for i in np.flatnonzero(~matching)[:_MAX_ODD_SIZES_SHOWN]:
        width, height = sizes[i]
        log.warning(
            f"{bottlenecks.images[i].path}: is {width} x {height}, the others are {config.frames} x {config.rows}; "
            "left out"
        )
    if (odd := int((~matching).sum())) > _MAX_ODD_SIZES_SHOWN:
        log.warning(f"... and {odd - _MAX_ODD_SIZES_SHOWN} more of another size")
    if odd == len(matching):
        raise DatasetError("no image has the size that dataset.json states: run data_maker.py --force")
    kept = np.flatnonzero(matching)
    images = [bottlenecks.images[i] for i in kept]
    return dataclasses.replace(
        bottlenecks, images=images, keys=bottlenecks.keys[kept], records=bottlenecks.records[kept]
    )


def _log_conflicts(images: Sequence[ChunkImage], keys: Sequence[bytes], several: bool = False) -> None:
    """Warn of recordings with different labels that share an identical image; `several`: they may have both."""
    for one, other in sorted(_conflicting_labels(images, keys)):
        way_out = ", so one of the two labels is wrong: remove the wrong copy"
        if several:
            labels = [separate_labels(folder) for folder, _ in (one, other)]
            if labels[0] == labels[1]:
                continue
            both = join_labels([*labels[0], *labels[1]])
            way_out = f": keep one, in the folder of all labels that it has, such as {both}"
        log.warning(f"{'/'.join(one)}: has the same sound as {'/'.join(other)}{way_out}")


def _conflicting_labels(images: Sequence[ChunkImage], keys: Sequence[bytes]) -> set[tuple[Recording, Recording]]:
    """Find pairs of recordings, label and name, that have different labels and share an identical image."""
    first: dict[bytes, ChunkImage] = {}
    pairs = set()
    for image, key in zip(images, keys, strict=True):
        other = first.setdefault(key, image)
        if other.label != image.label:
            pairs.add(((other.label, other.recording), (image.label, image.recording)))
    return pairs
