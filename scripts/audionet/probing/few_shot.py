"""Accuracy with few recordings: probes of eight clips a label, over ten draws of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from audionet.augment.distortion import CLEAN
from audionet.metrics.accuracy import Groups
from audionet.probing.classifiers import ProbeExamples, fit_linear_probe
from audionet.probing.features import FRAMES, ClipFeatures
from audionet.probing.results import FeatureSet, FewShotRow
from audionet.probing.tasks import ProbeMaterial, ProbeTask
from audionet.utils.arrays import IntArray

SHOTS, DRAWS = 8, 10


def few_shot(
    material: ProbeMaterial, task: ProbeTask, clips: Sequence[ClipFeatures], sets: Sequence[FeatureSet], seed: int
) -> list[FewShotRow]:
    """Train on SHOTS clean clips of different recordings of each label, test on all other recordings, DRAWS times.

    Returns
    -------
    list of FewShotRow
        Empty if a label has no recordings left to test, or recordings are split in time.
    """
    labels = np.unique(task.labels, return_inverse=True)[1]
    recordings = Groups(excerpt.recording for excerpt in material.excerpts)
    counts = np.bincount(labels)
    if any(excerpt.use != "either" for excerpt in material.excerpts) or counts.min() <= SHOTS:
        return []
    of_clip = np.array([clip.excerpt for clip in clips])
    clean = np.array([clip.condition == CLEAN for clip in clips])
    draws = [_draw(labels, np.random.default_rng([seed, number])) for number in range(DRAWS)]
    rows = []
    for features in sets:
        if FRAMES in features.parts:
            continue  # a mixture of so few frames is no baseline
        parts = [np.stack([clip.features[part] for clip in clips]) for part in features.parts]
        values, widths = np.concatenate(parts, axis=1), [part.shape[1] for part in parts]
        found = []
        for chosen in draws:
            training = np.flatnonzero(clean & np.isin(of_clip, chosen)).tolist()
            testing = np.flatnonzero(~np.isin(of_clip, chosen)).tolist()
            examples = ProbeExamples(
                labels[of_clip[training]],
                recordings.member[of_clip[training]],
                np.array([clips[i].start for i in training]),
                np.array([clips[i].stop for i in training]),
            )
            probe = fit_linear_probe(values[training], widths, examples, len(counts))
            units = Groups((clips[i].condition, clips[i].excerpt) for i in testing)
            answers = units.mean(probe.probabilities(values[testing])).argmax(axis=1)
            right = answers == labels[[excerpt for _, excerpt in units.names]]
            conditions = np.array([condition for condition, _ in units.names])
            changed = [float(right[conditions == name].mean()) for name in sorted(set(conditions) - {CLEAN})]
            found.append((float(right[conditions == CLEAN].mean()), float(np.mean(changed)) if changed else np.nan))
        shares = np.array(found)
        rows.append(
            FewShotRow(features.name, float(shares[:, 0].mean()), float(shares[:, 0].std()), float(shares[:, 1].mean()))
        )
    return rows


def _draw(labels: IntArray, generator: np.random.Generator) -> IntArray:
    """Draw SHOTS recordings of each label; return their numbers."""
    drawn = [generator.permutation(np.flatnonzero(labels == label))[:SHOTS] for label in range(labels.max() + 1)]
    return np.concatenate(drawn)
