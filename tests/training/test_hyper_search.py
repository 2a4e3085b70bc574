from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from audionet.errors import DatasetError
from audionet.training import hyper_search as module
from audionet.training.config import RetrainConfig, StepConfig
from audionet.training.hyper_search import search
from tests.support.features import clusters, examples

STEPS = StepConfig(how_many_training_steps=30, train_batch_size=20)
QUICK = RetrainConfig(steps=STEPS, hyper_search=3)


def test_recordings_stay_together_and_every_row_is_judged_once(monkeypatch) -> None:
    labels = np.repeat([0, 1], 60)
    recordings = [("ab"[label], str(row // 5)) for row, label in enumerate(labels)]
    folds = module._folds(labels, recordings)
    assert len(folds) == 4
    assert sorted(np.concatenate([judged for _, judged in folds])) == list(range(120))
    for training, judged in folds:
        assert not {recordings[i] for i in training} & {recordings[i] for i in judged}
        assert set(labels[judged]) == {0, 1}


@pytest.mark.slow
def test_the_better_setting_is_kept(monkeypatch, capsys) -> None:
    """A rate of next to nothing learns nothing: what was asked for loses against anything else."""
    data = clusters(160, 8, 3, 1)
    recordings = [(str(label), str(row // 4)) for row, label in enumerate(data.labels)]
    asked = dataclasses.replace(QUICK, steps=dataclasses.replace(STEPS, learning_rate=1e-9, l1=0.001))
    found = search(data, recordings, 3, [8], asked)
    assert found.stepping.rate(8) > 1e-6
    assert (found.stepping.l1, found.stepping.how_many_training_steps) == (0.001, 30)
    assert "best of 3 settings" in capsys.readouterr().out
    assert search(data, recordings, 3, [8], asked) == found


@pytest.mark.tensorflow
def test_what_was_asked_for_is_tried_too() -> None:
    data = clusters(100, 8, 3, 1)
    recordings = [(str(label), str(row // 4)) for row, label in enumerate(data.labels)]
    asked = dataclasses.replace(QUICK, hyper_search=1)
    assert search(data, recordings, 3, [8], asked) == asked


def test_every_drawn_setting_is_a_valid_one() -> None:
    generator = np.random.default_rng(0)
    drawn = [module._draw(generator) for _ in range(300)]
    assert {setting["head"] for setting in drawn} == {"mlp", "cosine"}
    for setting in drawn:
        module.with_settings(QUICK, setting)


def test_the_exact_fit_is_kept_where_no_other_head_is_better() -> None:
    data = clusters(160, 8, 3, 1)
    recordings = [(str(label), str(row // 4)) for row, label in enumerate(data.labels)]
    asked = RetrainConfig(hyper_search=1)
    assert search(data, recordings, 3, [8], asked).exact


def test_one_recording_of_a_label_cannot_be_judged() -> None:
    data = examples(np.zeros((9, 2), np.float32), np.array([0, 0, 0, 1, 1, 1, 1, 1, 1]))
    recordings = [("ann", "1")] * 3 + [("bob", str(row)) for row in range(6)]
    with pytest.raises(DatasetError, match="'ann' has only one outside the test set: record more of it"):
        search(data, recordings, 2, [2], QUICK)
