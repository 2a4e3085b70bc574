from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audionet.data.dataset import ChunkImage
from audionet.data.folds import assign_folds
from audionet.data.grouping import group_recordings
from audionet.training.cross_validation import compare_speakers, cross_validate, leaky_accuracy_rows
from audionet.training.exact_head import ExactTrainer, FeatureSet
from audionet.training.objective import SingleLabel

WIDTH = 20


def recordings(
    labels: int, number: int, chunks: int, seed: int, between: float, copies: int = 0
) -> tuple[list[ChunkImage], np.ndarray, np.ndarray]:
    """Images, labels and features: labels are `between` apart, recordings differ by 1, and chunks by 0.1."""
    generator = np.random.default_rng(seed)
    images, targets, rows = [], [], []
    centres = between * generator.standard_normal((labels, WIDTH))
    for label in range(labels):
        for recording in range(number):
            own = centres[label] + generator.standard_normal(WIDTH)
            for index in range(chunks):
                for copy in range(copies + 1):
                    name = f"{recording}_{index}_{copy}.jpg"
                    images.append(ChunkImage(str(label), f"{recording}.wav", index, Path("x"), name, copy))
                    targets.append(label)
                    rows.append(own + 0.1 * generator.standard_normal(WIDTH))
    return images, np.array(targets, np.int64), np.array(rows, np.float32)


def trainer_of(images, targets, *values: np.ndarray, copies: str | None = "none", kinds=None) -> ExactTrainer:
    sets = [FeatureSet([str(i)], [part.shape[1]], part) for i, part in enumerate(values)]
    groups = group_recordings(images, None).groups
    objective = SingleLabel(targets, int(targets.max()) + 1)
    return ExactTrainer(images, objective, sets, groups, 2, kinds or {}, copies)


def share_right(found, targets) -> float:
    return float((found.probabilities.argmax(axis=1) == targets[found.rows]).mean())


def test_labels_that_mean_nothing_cannot_be_told_apart_but_a_leaky_split_claims_so() -> None:
    images, targets, rows = recordings(3, 12, 6, 1, between=0.0)
    trainer = trainer_of(images, targets, rows)
    found = cross_validate(trainer, assign_folds(images, trainer.groups, 4))
    assert 0.1 < share_right(found, targets) < 0.55
    leaky_rows, leaky = leaky_accuracy_rows(trainer, trainer.fit(np.arange(len(images))), 4, 0)
    assert (leaky.argmax(axis=1) == targets[leaky_rows]).mean() > 0.75


def test_useful_features_are_chosen_and_useless_ones_are_not() -> None:
    images, targets, rows = recordings(4, 8, 2, 3, between=0.4)
    clear = np.eye(4, dtype=np.float32)[targets] + np.random.default_rng(1).normal(0, 0.2, (len(rows), 4))
    noise = np.random.default_rng(2).standard_normal((len(rows), 200))
    every = np.arange(len(images))
    useful = trainer_of(images, targets, rows, np.concatenate([rows, clear], axis=1).astype(np.float32))
    useless = trainer_of(images, targets, rows, np.concatenate([rows, noise], axis=1).astype(np.float32))
    assert useful.fit(every).features == 1
    assert useless.fit(every).features == 0


def test_the_learning_curve_rises_with_the_recordings() -> None:
    images, targets, rows = recordings(5, 12, 2, 4, between=0.5)
    trainer = trainer_of(images, targets, rows)
    found = cross_validate(trainer, assign_folds(images, trainer.groups, 5), (0.25, 0.5))
    shares = [float((part.argmax(axis=1) == targets[found.rows]).mean()) for part in found.with_fewer]
    assert shares[0] < shares[1] < share_right(found, targets)


def test_copies_that_help_are_trained_on_and_never_tested() -> None:
    """Copies of the kind "good" are like new recordings of their label, those of the kind "bad" like another label."""
    images, targets, rows = recordings(4, 5, 2, 5, between=0.45, copies=2)
    generator = np.random.default_rng(0)
    centres = np.stack([rows[targets == label].mean(axis=0) for label in range(4)])
    kinds = {}
    for row, image in enumerate(images):
        if image.copy == 1:
            kinds[row] = frozenset({"good"})
            rows[row] = centres[targets[row]] + 0.3 * generator.standard_normal(WIDTH)
        elif image.copy == 2:
            kinds[row] = frozenset({"bad"})
            rows[row] = centres[(targets[row] + 1) % 4] + 0.1 * generator.standard_normal(WIDTH)
    trainer = trainer_of(images, targets, rows, copies=None, kinds=kinds)
    fitted = trainer.fit(np.arange(len(images)))
    assert fitted.copies == "good"
    assert {images[row].copy for row in fitted.rows} == {0, 1}
    found = cross_validate(trainer, assign_folds(images, trainer.groups, 5))
    assert {images[row].copy for row in found.rows} == {0}
    for wanted, copies in (("all", {0, 1, 2}), ("none", {0})):
        trainer = trainer_of(images, targets, rows, copies=wanted, kinds=kinds)
        assert {images[row].copy for row in trainer.fit(np.arange(len(images))).rows} == copies


def test_speaker_models_of_a_fold_know_nothing_of_its_test() -> None:
    images, targets, rows = recordings(3, 10, 4, 6, between=0.0)
    trainer = trainer_of(images, targets, rows)
    folds = assign_folds(images, trainer.groups, 5)
    found = cross_validate(trainer, folds)
    [compared] = compare_speakers(trainer, targets, folds, found, np.arange(len(images)), with_voices=False)
    assert compared.values.shape == found.probabilities.shape
    assert (compared.labels == targets[found.rows]).all()
    assert (compared.values.argmax(axis=1) == compared.labels).mean() < 0.6


@pytest.mark.parametrize("number", [1, 2])
def test_few_recordings_are_fitted_with_the_default_strength(number: int) -> None:
    images, targets, rows = recordings(3, number, 1, 7, between=2.0)
    trainer = trainer_of(images, targets, rows)
    fitted = trainer.fit(np.arange(len(images)))
    assert bool(fitted.trials) == (number > 1)
    assert (trainer.probabilities(fitted, fitted.rows).argmax(axis=1) == targets).all()
    found = cross_validate(trainer, assign_folds(images, trainer.groups, 5))
    assert len(found.rows) == (len(images) if number > 1 else 0)


def test_the_same_data_give_the_same_bytes() -> None:
    images, targets, rows = recordings(4, 6, 3, 8, between=0.5)
    first, second = (
        cross_validate(trainer := trainer_of(images, targets, rows), assign_folds(images, trainer.groups, 5))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
