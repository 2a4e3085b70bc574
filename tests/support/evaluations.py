"""Evaluations of made-up predictions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.classifier.decision import Costs, Rule
from audionet.classifier.rejection import RejectionRule
from audionet.evaluation.batch_inference import HeldOutPredictions, RecordingPrediction
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.costs import parse_costs, select_rule
from audionet.evaluation.evaluate import Evaluation
from audionet.evaluation.recordings import HeldOutRecording
from audionet.evaluation.summary import summarise


def make_prediction(
    path: Path, label: str, probabilities: np.ndarray, scores: np.ndarray, **changes: Any
) -> RecordingPrediction:
    chunks = np.full(2, probabilities.argmax())
    values: dict[str, Any] = {
        "recorded": HeldOutRecording(label, path.name, (path,)),
        "starts": np.array([0.0, 3.0], np.float32),
        "given": chunks,
        "sure": np.array([0.5, 0.9], np.float32),
        "probabilities": probabilities,
        "uncalibrated": probabilities,
        "scores": scores,
        "by_length": {1: chunks, 2: chunks[:1], 4: chunks[:0]},
        "baseline": np.append(chunks, chunks[0]),
        "seen": False,
    }
    return RecordingPrediction(**(values | changes))


def evaluated(
    labels: list[str],
    each: int = 4,
    unknown: int = 3,
    wrong: int | range = 2,
    threshold: float | None = 0.2,
    costs: list[str] | None = None,
    tested: int | None = None,
    **changes: Any,
) -> tuple[Evaluation, dict[str, Any], Any]:
    """An evaluation of recordings of the first labels, some of them taken for the label that comes next."""
    generator = np.random.default_rng(0)
    count = len(labels)
    true = np.repeat(np.arange(count if tested is None else tested), each)
    likely = true.copy()
    mistaken = [place for place in (range(wrong) if isinstance(wrong, int) else wrong) if place < len(true)]
    likely[mistaken] = (likely[mistaken] + 1) % count
    probabilities = generator.dirichlet(np.full(count, 0.3), len(true)).astype(np.float32) * 0.3
    probabilities[np.arange(len(true)), likely] += 0.7
    scores = generator.normal(0, 0.1, (len(true) + unknown, count)).astype(np.float32)
    scores[np.arange(len(true)), true] += 0.5
    baseline = {} if changes.pop("baseline", True) else {"baseline": None}
    recordings = [
        make_prediction(Path(f"/nowhere/{label}/{place}.wav"), labels[label], p, s, **baseline)
        for place, (label, p, s) in enumerate(zip(true.tolist(), probabilities, scores, strict=False))
    ]
    uniform = np.full(count, 1 / count, np.float32)
    others = [make_prediction(Path(f"/nowhere/x/{i}.wav"), "x", uniform, scores[len(true) + i]) for i in range(unknown)]
    missing = labels[count if tested is None else tested :] if each else labels
    predictions = HeldOutPredictions("/nowhere", recordings, others, [], 0, False, missing, ["x"] if unknown else [])
    for name in list(changes):
        if name in HeldOutPredictions.__dataclass_fields__:
            object.__setattr__(predictions, name, changes.pop(name))
    picked, check = None, changes.pop("check", None)
    rule = Rule(Costs(count))
    if costs is not None:
        picked = select_rule(probabilities, true, parse_costs(costs, labels))
        rule = picked.rule
    least = -9 if threshold is None else threshold
    unknown_scores = scores[len(true) :]
    found = Evaluation(
        labels=labels,
        predictions=predictions,
        true=true,
        given=rule.decide(probabilities),
        most_probable=probabilities.argmax(axis=1),
        decided=np.where(scores[: len(true)].max(axis=1, initial=-2) < least, -1, rule.decide(probabilities)),
        unknown_decided=np.where(unknown_scores.max(axis=1, initial=-2) < least, -1, 0),
        probabilities=probabilities,
        uncalibrated=probabilities,
        scores=scores[: len(true)],
        unknown_scores=unknown_scores,
        rule=rule,
        picked=picked,
        check=check,
        by_rule=rule.decide(probabilities),
    )
    card = {
        "graph_sha256": "ab" * 32,
        "backbone": {"name": "inception_v3_speech"},
        "split": {"training": {"chunks": 70, "recordings": 9}, "heard_in_training": []},
        "test": {"leaky_split": {"right": 68, "total": 69, "low": 0.91, "high": 0.99}},
        "calibration": {"temperature": 0.5, "recordings": 7},
        "open_set": {
            "asked_rate": 0.05,
            "stretches_left_out": 31,
            "network_had_heard_those_left_out": False,
            "stretches_needed": 59,
        },
    }
    for name in list(changes):
        place = card["split"] if name == "heard_in_training" else card["open_set"] if name == "asked_rate" else card
        place[name] = changes.pop(name)
    arrays = SimpleNamespace(unknown=np.linspace(-0.3, 0.1, 31).astype(np.float32))
    predictor = SimpleNamespace(graph=Path("/m/voices.tflite"), card=card, several_threshold=threshold, arrays=arrays)
    predictor.spectrogram = SpectrogramConfig()
    predictor.rejection = None if threshold is None else RejectionRule(threshold, threshold, threshold, 10.0)
    return found, summarise(found, predictor, EvaluateConfig()), predictor
