"""Probes of eight recordings a label."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from audionet.probing.features import FRAMES, ClipFeatures
from audionet.probing.few_shot import SHOTS, few_shot
from audionet.probing.results import FeatureSet
from audionet.probing.tasks import Excerpt, ProbeMaterial, ProbeTask


def made(each: int, spread: float) -> tuple[ProbeMaterial, ProbeTask, list[ClipFeatures]]:
    """Three labels, `each` recordings a label of two clips, clean and noisy."""
    generator = np.random.default_rng(0)
    excerpts = [Excerpt(Path(f"{i}.wav"), str(i), "either") for i in range(3 * each)]
    task = ProbeTask("three", tuple("abc"[i // each] for i in range(3 * each)), (0,) * (3 * each))
    clips = [
        ClipFeatures(
            i,
            condition,
            start,
            start + 3,
            {"network": (np.eye(3)[i // each] + generator.normal(0, noise, 3)).astype(np.float32)},
        )
        for i in range(3 * each)
        for condition, noise in (("clean", spread), ("noise", 4 * spread))
        for start in (0.0, 3.0)
    ]
    return ProbeMaterial(excerpts, [task], ""), task, clips


def test_accuracy_is_the_mean_over_draws_clean_and_changed() -> None:
    sets = [FeatureSet("network", ("network",)), FeatureSet("mixtures", (FRAMES,))]
    (row,) = few_shot(*made(20, 0.45), sets, seed=0)
    assert row.features == "network"
    assert 0.75 < row.clean < 1
    assert 0 < row.deviation < 0.1
    assert row.changed < row.clean - 0.1
    assert few_shot(*made(20, 0.45), sets, seed=0) == [row]
    (clear,) = few_shot(*made(20, 0.01), sets, seed=0)
    assert (clear.clean, clear.deviation) == (1, 0)


def test_too_few_recordings_have_no_row() -> None:
    assert few_shot(*made(SHOTS, 0.1), [FeatureSet("network", ("network",))], seed=0) == []
