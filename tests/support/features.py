"""Made-up bottlenecks."""

from __future__ import annotations

import numpy as np

from audionet.backbones.cache import Records
from audionet.training.datasets import FeatureExamples


class InMemory:
    def __init__(self, records: np.ndarray) -> None:
        self.records = records

    def __len__(self) -> int:
        return len(self.records)

    def take(self, field: str, rows: np.ndarray) -> np.ndarray:
        return self.records[field][rows]


def examples(features, labels) -> FeatureExamples:
    rows = np.zeros(len(features), [("network", "<f4", (features.shape[1],))])
    rows["network"] = features
    return FeatureExamples(
        Records([InMemory(rows)], np.zeros(len(rows), int), np.arange(len(rows))), labels, ["network"]
    )


def clusters(n: int, width: int, labels: int, seed: int, spread: float = 0.3) -> FeatureExamples:
    centres = np.random.default_rng(99).standard_normal((labels, width))
    generator = np.random.default_rng(seed)
    targets = generator.integers(0, labels, n)
    features = centres[targets] + spread * generator.standard_normal((n, width))
    return examples(features.astype(np.float32), targets)


def share_right(head, examples: FeatureExamples) -> float:
    return float((head.probabilities(examples.all()).argmax(axis=1) == examples.labels).mean())
