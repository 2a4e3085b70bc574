"""Made-up bottlenecks."""

from __future__ import annotations

import numpy as np

from audionet.backbones.cache import Records
from audionet.backbones.voice_space import VoiceSpace
from audionet.classifier.embedding import EmbeddingExamples
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


WIDTH = 30


def speakers(labels: int, chunks: int, seed: int = 0, first: int = 0) -> EmbeddingExamples:
    """Draw speakers that differ in ten dimensions, with larger within-speaker variance in ten others."""
    means = np.random.default_rng(99).standard_normal((1000, 10))[first : first + labels]
    generator = np.random.default_rng((seed, first))
    rows = np.repeat(means, chunks, axis=0)
    varying = 3 * generator.standard_normal((len(rows), 10))
    own = rows + 0.3 * generator.standard_normal(rows.shape)
    noise = 0.1 * generator.standard_normal(rows.shape)
    features = np.concatenate([own, varying, noise], axis=1).astype(np.float32)
    return EmbeddingExamples(features, np.repeat(np.arange(labels), chunks), [(seed, row) for row in range(len(rows))])


def voice_space(cohort: int = 40) -> VoiceSpace:
    """Voice space that sees the ten dimensions in which `speakers` differ, with other speakers as its cohort."""
    projection = np.zeros((WIDTH, 10), np.float32)
    projection[:10] = np.eye(10)
    others = np.random.default_rng(98).standard_normal((cohort, 10)).astype(np.float32)
    directions = others / np.linalg.norm(others, axis=1, keepdims=True)
    return VoiceSpace(projection, np.zeros(10, np.float32), directions, np.zeros(WIDTH, np.float32), 1.0)
