from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from audionet.probing.classifiers import (
    ProbeExamples,
    fit_linear_probe,
    fit_mixtures,
    inner_folds,
    row_space,
    select_strongest,
)

RANDOM = np.random.default_rng(0)


def examples(labels: list[int], recordings: list[int], starts: list[float] | None = None) -> ProbeExamples:
    begin = np.array(starts if starts is not None else [0.0] * len(labels))
    return ProbeExamples(np.array(labels), np.array(recordings), begin, begin + 1)


def clusters(labels: int, each: int, width: int, apart: float) -> tuple[np.ndarray, ProbeExamples]:
    centres = apart * RANDOM.standard_normal((labels, width))
    of = np.repeat(np.arange(labels), each)
    values = (centres[of] + RANDOM.standard_normal((len(of), width))).astype(np.float32)
    return values, examples(of.tolist(), list(range(len(of))))


def test_a_linear_model_is_the_same_in_the_space_of_its_rows() -> None:
    values, known = clusters(3, 10, 200, 0.3)
    basis = row_space(values)
    assert basis.shape == (200, 30)
    np.testing.assert_allclose(basis.T @ basis, np.eye(30), atol=1e-4)
    other = RANDOM.standard_normal((20, 200)).astype(np.float32)
    plain = LogisticRegression(C=0.1, tol=1e-6).fit(values, known.labels).predict_proba(other)
    turned = LogisticRegression(C=0.1, tol=1e-6).fit(values @ basis, known.labels).predict_proba(other @ basis)
    np.testing.assert_allclose(turned, plain, atol=1e-3)


@pytest.mark.parametrize("width", [8, 300])
def test_a_probe_tells_what_can_be_told(width: int) -> None:
    values, known = clusters(4, 30, width, 1.5)
    half = np.arange(0, 120, 2)
    some = ProbeExamples(*(part[half] for part in (known.labels, known.recordings, known.starts, known.stops)))
    probe = fit_linear_probe(values[half], [width - 2, 2], some, 5)
    given = probe.probabilities(values[1::2])
    np.testing.assert_allclose(given.sum(axis=1), 1, atol=1e-5)
    assert np.mean(given.argmax(axis=1) == known.labels[1::2]) > 0.9
    assert not given[:, 4].any()  # a label without training examples
    assert probe.converged


def test_a_label_that_was_not_learned_keeps_its_place() -> None:
    values = np.array([[0.0], [0.1], [1.0], [1.1]], np.float32)
    given = fit_linear_probe(values, [1], examples([0, 0, 2, 2], [0, 1, 2, 3]), 3).probabilities(values)
    assert given.argmax(axis=1).tolist() == [0, 0, 2, 2]


def test_what_tells_nothing_is_regularised_away() -> None:
    values, known = clusters(2, 40, 60, 0)
    probe = fit_linear_probe(values, [60], known, 2)
    assert probe.at_edge
    told, same = clusters(2, 40, 60, 1.5)
    other = fit_linear_probe(told, [60], same, 2)
    assert other.c > probe.c
    assert (other.c, probe.c) == (other.model.C, probe.model.C)


def test_where_losses_are_level_the_stronger_regularisation_is_taken() -> None:
    assert select_strongest([9.0, 5.0, 4.02, 4.0, 4.1]) == 2
    assert select_strongest([4.0, 5.0]) == 0
    assert select_strongest([9.0, 8.0, 4.0]) == 2


def test_each_part_weighs_the_same_however_large_its_numbers() -> None:
    values, known = clusters(3, 30, 20, 0.7)
    scaled = values * np.where(np.arange(20) < 10, 1, 1e4).astype(np.float32) + 5
    one, other = fit_linear_probe(values, [10, 10], known, 3), fit_linear_probe(scaled, [10, 10], known, 3)
    assert one.c == other.c
    np.testing.assert_allclose(one.probabilities(values), other.probabilities(scaled), atol=0.01)


def test_inner_folds_keep_recordings_together() -> None:
    known = examples([0] * 8 + [1] * 8, [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7])
    seen: list[int] = []
    for training, held_out in inner_folds(known):
        assert not set(known.recordings[training]) & set(known.recordings[held_out])
        assert set(known.labels[training]) == {0, 1}
        assert len(training) + len(held_out) == 16
        seen += held_out.tolist()
    assert sorted(seen) == list(range(16))


def test_a_single_recording_is_cut_in_time_without_overlap() -> None:
    starts = [0.5 * i for i in range(9)]  # a second each: neighbours overlap
    known = examples([0] * 9 + [1] * 9, [0] * 9 + [1] * 9, starts * 2)
    folds = list(inner_folds(known))
    assert len(folds) == 3
    for training, held_out in folds:
        for one in training:
            for other in held_out:
                apart = abs(known.starts[one] - known.starts[other])
                assert known.recordings[one] != known.recordings[other] or apart >= 1
        assert len(training) >= 8


def test_a_label_of_one_clip_leaves_the_folds_usable() -> None:
    values = np.array([[0.0], [0.1], [1.0], [1.1], [5.0]], np.float32)
    probe = fit_linear_probe(values, [1], examples([0, 0, 1, 1, 2], [0, 1, 2, 3, 4]), 3)
    assert probe.probabilities(values).argmax(axis=1)[[0, 4]].tolist() == [0, 2]


def test_two_clips_are_enough_to_fit() -> None:
    values = np.array([[0.0], [1.0]], np.float32)
    probe = fit_linear_probe(values, [1], examples([0, 1], [0, 1]), 2)
    assert probe.probabilities(values).argmax(axis=1).tolist() == [0, 1]


def test_mixtures_tell_distributions_with_the_same_mean() -> None:
    def frames(label: int, length: int) -> np.ndarray:
        spread = 4.0 if label else 0.5
        return (10 + spread * RANDOM.standard_normal((length, 3))).astype(np.float32)

    labels = np.repeat([0, 2], 6)
    fitted = fit_mixtures([frames(int(label), 50) for label in labels], labels, 3, seed=0)
    scores = fitted.scores([frames(0, 20), frames(2, 70), frames(2, 1)])
    assert scores[:2].argmax(axis=1).tolist() == [0, 2]
    assert np.isneginf(scores[:, 1]).all()
    lone = frames(0, 1)
    np.testing.assert_allclose(
        fitted.scores([np.repeat(lone, 9, axis=0)]), fitted.scores([lone]), rtol=1e-5
    )  # a mean over frames, not a sum


def test_few_frames_make_few_components() -> None:
    fitted = fit_mixtures([np.eye(3, dtype=np.float32), 2 * np.ones((2, 3), np.float32)], np.array([0, 1]), 2, seed=0)
    assert fitted.models[0].n_components == 1
