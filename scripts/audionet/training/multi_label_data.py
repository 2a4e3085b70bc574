"""Training data of which recordings may have several labels at a time."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from audionet.data.dataset import ChunkImage
from audionet.data.folds import Folds, assign_multi_label_folds
from audionet.data.given_split import are_folds, given_folds
from audionet.data.grouping import Recording
from audionet.data.naming import BACKGROUND, SEPARATOR, separate_labels
from audionet.errors import DatasetError, UsageError
from audionet.training.config import RetrainConfig
from audionet.utils.arrays import BoolArray
from audionet.utils.text import escape

_SEVERAL = "recordings have several labels at a time"


def is_multi_label(folders: Collection[str], config: RetrainConfig) -> bool:
    """Return whether recordings may have several labels at a time.

    Raises
    ------
    UsageError
        If settings are given that go with one label only.
    DatasetError
        If no folder names a label, or a folder's name is separators only.
    """
    if config.multi_label == "off" or (config.multi_label == "auto" and not any(SEPARATOR in name for name in folders)):
        return False
    if not config.exact or config.wants_split:
        raise UsageError(
            f"{_SEVERAL}, and a top layer for several labels is fitted exactly and cross-validated: leave out --head, "
            "--how_many_training_steps, --fine_tune, --hyper_search, networks trained from scratch and the percentages "
            "of a split, or take the names of folders for labels of their own with --multi_label off"
        )
    for flag, unused in (
        ("repeats", config.repeats == 1),
        ("learning_curve", not config.learning_curve),
        ("unknown_fpr", config.unknown_fpr is None),
        ("class_weights", config.class_weights == "equal"),
    ):
        if not unused:
            raise UsageError(f"{_SEVERAL}, and --{flag} goes with one label only: leave it out")
    if blank := [name for name in folders if not name.strip(f"{SEPARATOR} ")]:
        raise DatasetError(
            f"{escape(config.image_dir)}: the folder '{escape(blank[0])}' names no label: rename the folder of its "
            f"recordings, to {BACKGROUND} if they have none of the labels, and run data_maker.py again"
        )
    if not any(map(separate_labels, folders)):
        raise DatasetError(
            f"{escape(config.image_dir)}: no recording has a label, as none is in a folder named after one"
        )
    return True


def read_labels(images: Sequence[ChunkImage]) -> tuple[list[str], BoolArray]:
    """Read the labels that the names of the images' folders join.

    Returns
    -------
    labels : list of str
        All of them, in code-point order.
    present : ndarray of bool, shape (images, labels)
    """
    labels = sorted({label for image in images for label in separate_labels(image.label)})
    number = {label: place for place, label in enumerate(labels)}
    present = np.zeros((len(images), len(labels)), bool)
    for row, image in enumerate(images):
        present[row, [number[label] for label in separate_labels(image.label)]] = True
    return labels, present


def require_folds(sets: Mapping[Recording, str]) -> None:
    """Raise UsageError if recordings come with training, validation and test sets, not with folds."""
    if not are_folds(sets):
        raise UsageError(
            "--split given: the recordings come with training and test sets, and a top layer for several labels is "
            "cross-validated: number folds in the table's column instead, or leave out --split given"
        )


def multi_label_folds(
    images: Sequence[ChunkImage], groups: Mapping[Recording, str], sets: Mapping[Recording, str] | None, folds: int
) -> Folds:
    """Assign images to folds, or to those that their recordings come with.

    Raises
    ------
    UsageError
        If they come with sets that are no folds.
    DatasetError
        If all recordings are in one group.
    """
    if sets is not None:
        require_folds(sets)
    if len(set(groups.values())) < 2:
        raise DatasetError("all recordings are in one group: a cross-validation needs two or more")
    if sets is not None:
        return given_folds(images, sets, groups, multi_label=True)
    return assign_multi_label_folds(images, groups, folds)
