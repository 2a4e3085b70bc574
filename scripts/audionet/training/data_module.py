"""From a folder of images to what can be trained on: bottlenecks, labels, split."""

from __future__ import annotations

import dataclasses
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.backbones.bottlenecks import Bottlenecks, compute_bottlenecks
from audionet.backbones.registry import Backbone
from audionet.data.dataset import ChunkImage
from audionet.data.naming import UNKNOWN
from audionet.data.split import SETS, Split, split_images, without_copies
from audionet.errors import DatasetError
from audionet.training.config import RetrainConfig
from audionet.training.datasets import FeatureExamples
from audionet.utils.arrays import FloatArray, IntArray
from audionet.utils.parallel import available_cores
from audionet.utils.text import escape, format_table, pluralise

log = logging.getLogger(__name__)


_MOST_LABELS_SHOWN = 40
_MOST_ODD_ONES_SHOWN = 5


@dataclass(frozen=True)
class Data:
    """The images, which set each is in, and what is known of them before any training.

    Attributes
    ----------
    spectrogram : SpectrogramConfig or None
        How the images were made, where data_maker.py made them.
    labels : list of str
    bottlenecks : Bottlenecks
    targets : ndarray of int64, shape (n,)
        Each image's label, as its place in `labels`; -1 for examples of what is none of them.
    split : Split
        Of the labels' images.
    rows : dict of str to ndarray of int64
        Under each name in SETS, which images are in it, in the split's order.
    background : dict of str to ndarray of int64
        The same for the examples of what is none of the labels.
    """

    spectrogram: SpectrogramConfig | None
    labels: list[str]
    bottlenecks: Bottlenecks
    targets: IntArray
    split: Split
    rows: dict[str, IntArray]
    background: dict[str, IntArray]

    def targets_of(self, name: str) -> IntArray:
        """The labels of one set."""
        return self.targets[self.rows[name]]

    def some_features(self, which: IntArray, fields: Sequence[str]) -> FloatArray:
        """These fields of some bottlenecks, joined, shape (len(which), width)."""
        return FeatureExamples(self.bottlenecks.records[which], self.targets[which], fields).all()

    def features(self, name: str, fields: Sequence[str]) -> FeatureExamples:
        """The bottlenecks of one set, of these fields."""
        return FeatureExamples(self.bottlenecks.records[self.rows[name]], self.targets_of(name), fields)


def prepare_data(
    spectrogram_config: SpectrogramConfig | None,
    images: list[ChunkImage],
    backbone: Backbone | None,
    config: RetrainConfig,
) -> Data:
    """Bottlenecks, labels and split, with what is to be said about them.

    Raises
    ------
    DatasetError
        If fewer than two labels have images that can be read.
    """
    bottlenecks = compute_bottlenecks(images, backbone, config.bottleneck_dir, available_cores(), config.scheduler)
    rate = f" at {bottlenecks.computed / bottlenecks.seconds:.0f} a second" if bottlenecks.computed else ""
    made = f"{bottlenecks.computed} computed{rate}, {bottlenecks.cached} from {escape(config.bottleneck_dir)}"
    log.info(f"Bottlenecks: {made}")
    bottlenecks = _of_one_size(bottlenecks, spectrogram_config)
    every = sorted({image.label for image in bottlenecks.images})
    labels = [label for label in every if label != UNKNOWN]
    if len(labels) < 2:
        raise DatasetError(f"{escape(config.image_dir)}: only '{escape(*labels)}' has readable images")
    apart = spectrogram_config.apart if spectrogram_config else 2
    split = split_images(bottlenecks.images, config.validation_percentage, config.testing_percentage, apart)
    keys = [key.tobytes() for key in bottlenecks.keys]
    split, copies = without_copies(split, dict(zip(bottlenecks.images, keys, strict=True)))
    log.info(split_table(every, split))
    if copies:
        log.info(f"Left out {pluralise(copies, 'image')} with copies in another set: they would prove nothing.")
    for here, there in sorted(_contradictions(bottlenecks.images, keys)):
        log.warning(f"{here}: lies under {there} too, so one of the two labels is wrong: remove it there")
    row = {image: i for i, image in enumerate(bottlenecks.images)}
    number = {label: i for i, label in enumerate(labels)}
    targets = np.array([number.get(image.label, -1) for image in bottlenecks.images], np.int64)
    every_row = {name: np.array([row[image] for image in split.sets[name]], np.int64) for name in SETS}
    rows, background = ({n: of[(targets[of] < 0) == other] for n, of in every_row.items()} for other in (False, True))
    split = Split(
        {name: [image for image in split.sets[name] if image.label != UNKNOWN] for name in SETS},
        [label for label in split.seen_in_training if label != UNKNOWN],
        split.dropped,
    )
    return Data(spectrogram_config, labels, bottlenecks, targets, split, rows, background)


def _of_one_size(bottlenecks: Bottlenecks, config: SpectrogramConfig | None) -> Bottlenecks:
    """Leave out images that data_maker.py cannot have made like the others."""
    sizes = bottlenecks.records.take("size")
    if config is None:
        kinds = len(np.unique(sizes, axis=0))
        if kinds > 1:
            log.warning(f"the images are of {kinds} sizes: each is resized to what the network takes")
        return bottlenecks
    fits = (sizes == (config.frames, config.rows)).all(axis=1)
    for i in np.flatnonzero(~fits)[:_MOST_ODD_ONES_SHOWN]:
        width, height = sizes[i]
        log.warning(
            f"{bottlenecks.images[i].path}: is {width} x {height}, the others are {config.frames} x {config.rows}; "
            "left out"
        )
    if (odd := int((~fits).sum())) > _MOST_ODD_ONES_SHOWN:
        log.warning(f"... and {odd - _MOST_ODD_ONES_SHOWN} more of another size")
    if odd == len(fits):
        raise DatasetError("no image has the size that dataset.json says: run data_maker.py --force")
    kept = np.flatnonzero(fits)
    images = [bottlenecks.images[i] for i in kept]
    return dataclasses.replace(
        bottlenecks, images=images, keys=bottlenecks.keys[kept], records=bottlenecks.records[kept]
    )


def _contradictions(images: Sequence[ChunkImage], keys: Sequence[bytes]) -> set[tuple[str, str]]:
    """Pairs of recordings, by label and name, that lie under two labels and share an image."""
    first: dict[bytes, ChunkImage] = {}
    pairs = set()
    for image, key in zip(images, keys, strict=True):
        other = first.setdefault(key, image)
        if other.label != image.label:
            pairs.add((f"{other.label}/{other.recording}", f"{image.label}/{image.recording}"))
    return pairs


def split_table(labels: Sequence[str], split: Split) -> str:
    """How many chunks of how many recordings are in each set; of many labels, the first and the sum."""
    chunks = {name: Counter(image.label for image in split.sets[name]) for name in SETS}
    recordings = {
        name: Counter(label for label, _ in {(p.label, p.recording) for p in split.sets[name]}) for name in SETS
    }
    shown = labels[:_MOST_LABELS_SHOWN]
    rows = [[label, *(f"{chunks[name][label]} ({recordings[name][label]})" for name in SETS)] for label in shown]
    if len(labels) > len(shown):
        rows.append([f"all {len(labels)} labels", *(f"{chunks[n].total()} ({recordings[n].total()})" for n in SETS)])
    return format_table(["chunks (recordings)", *SETS], rows)
