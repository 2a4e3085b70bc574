"""Numbers of an evaluation, as stored in report.json."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.evaluation.batch_inference import HeldOutPredictions, RecordingPrediction
from audionet.evaluation.comparison import answers_json
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.costs import mean_cost
from audionet.evaluation.evaluate import Evaluation
from audionet.evaluation.label_verdict import label_verdict
from audionet.inference.predictor import Predictor
from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.metrics.bootstrap import bootstrap, bootstrap_ratio
from audionet.metrics.classification import Reliability, brier_score, class_scores, cllr, top_k
from audionet.metrics.detection import Detection, detection
from audionet.utils.arrays import FloatArray, IntArray

_KS = (1, 2, 3, 5, 10)
_LEFT_OUT = "labels left out at training"
_LEFT_OUT_SEEN = f"{_LEFT_OUT}, too favourable: this network was trained on them"


def summarise(found: Evaluation, predictor: Predictor, config: EvaluateConfig) -> dict[str, Any]:
    """Build the content of report.json: every number with the number of recordings, or chunks, that it is based on."""
    card, predictions = predictor.card, found.predictions
    content = {
        "model": describe_model(predictor, len(found.labels)),
        "data": describe_data(predictions, predictor, config),
        "accuracy": {
            "recordings": _share(found.most_probable == found.true, found.folds),
            "chunks": _chunks([one.given for one in predictions.recordings], found.true, found.folds),
        },
        "mfcc_statistics": _baseline(predictions.recordings, found.true, found.folds),
        "leaky_split": (card["test"] or {}).get("leaky_split"),
        "learning_curve": (card.get("cross_validation") or {}).get("learning_curve", []),
        "answers": _answers(found, predictor),
        "top_k": {
            "recordings": len(found.true),
            "right": top_k(found.probabilities, found.true, [k for k in _KS if k <= len(found.labels)]),
        },
        "confusion": _confusion(found),
        "labels": _labels(found),
        "verification": {
            "pooled": _detected(found.detection()),
            "pooled_by_probability": _detected(found.detection_by_probability()),
            "labels": [
                {"label": label, **(_detected(found.detection(place)) or {})}
                for place, label in enumerate(found.labels)
            ],
        },
        "calibration": {
            **card["calibration"],
            "before": _reliable(found.reliability(calibrated=False), found.uncalibrated, found.true),
            "after": _reliable(found.reliability(calibrated=True), found.probabilities, found.true),
        },
        "length": [{"clip": name, **_accurate(share)} for name, share in found.lengths()],
        "open_set": _open_set(found, predictor),
        "costs": _costs(found),
        "mistakes": [_mistake(found, *place) for place in found.mistakes(config.worst)],
        "label_names": found.labels,
        "recordings": answers_json(
            [one.recorded for one in predictions.recordings],
            [found.labels[place] for place in found.most_probable],
            (found.most_probable == found.true).tolist(),
        ),
    }
    return {"verdict": label_verdict(content).as_json(), **content}


def describe_model(predictor: Predictor, labels: int) -> dict[str, Any]:
    """Build the part of report.json that says which model it is about, and how many labels it has."""
    card = predictor.card
    return {
        "graph": predictor.graph.name,
        "graph_sha256": card["graph_sha256"],
        "labels": labels,
        "backbone": card["backbone"]["name"],
        "trained_on": card["split"]["training"],
        "cross_validated": bool(card.get("cross_validation")),
    }


def describe_data(predictions: HeldOutPredictions, predictor: Predictor, config: EvaluateConfig) -> dict[str, Any]:
    """Build the part of report.json that says which recordings it is about."""
    in_training = predictor.card["split"]["heard_in_training"]
    return {
        "source": predictions.source,
        "recordings": len(predictions.recordings),
        "chunks": sum(len(one.given) for one in predictions.recordings),
        "unknown_recordings": len(predictions.unknown),
        "unseen": not predictions.all_seen,
        "cross_validated": predictions.cross_validated,
        "left_out_as_seen": 0 if predictions.all_seen else predictions.seen,
        "recordings_also_heard_in_training": in_training if config.test_dir is None else [],
        "missing_labels": predictions.missing_labels,
        "foreign_labels": predictions.foreign_labels,
        "judged_in_part": [
            {"file": str(one.recorded.paths[0]), "reason": one.remark}
            for one in (*predictions.recordings, *predictions.unknown)
            if one.remark
        ],
        "skipped": [{"file": str(recorded.paths[0]), "reason": reason} for recorded, reason in predictions.skipped],
    }


def open_set_scores(found: Evaluation, predictor: Predictor) -> tuple[FloatArray, FloatArray, bool]:
    """Return the best scores of known and unknown voices; True if the unknown ones are labels left out at training."""
    known = found.scores.max(axis=1, initial=-2)
    if len(found.unknown_scores):
        return known, found.unknown_scores.max(axis=1), False
    return known, predictor.arrays.unknown, True


def _accurate(share: Accuracy) -> dict[str, Any]:
    return {"right": share.right, "total": share.total, "low": share.low, "high": share.high}


def _share(right: NDArray[np.bool_], folds: int | None) -> dict[str, Any]:
    low, high = bootstrap(right.astype(float))
    return {**_accurate(accuracy(right, folds=folds)), "bootstrap": [_finite(low), _finite(high)]}


def _chunks(given: Sequence[IntArray], true: IntArray, folds: int | None) -> dict[str, Any]:
    """Compute the accuracy per chunk; its intervals resample whole recordings."""
    right = [chunks == label for chunks, label in zip(given, true, strict=True)]
    groups = [place for place, chunks in enumerate(given) for _ in chunks]
    share = accuracy(np.concatenate([np.zeros(0, bool), *right]), groups, folds)
    low, high = bootstrap_ratio(np.array([float(r.sum()) for r in right]), np.array([float(len(r)) for r in right]))
    return {**_accurate(share), "bootstrap": [_finite(low), _finite(high)]}


def _baseline(recordings: Sequence[RecordingPrediction], true: IntArray, folds: int | None) -> dict[str, Any] | None:
    answers = [one.baseline for one in recordings if one.baseline is not None]
    if not answers or len(answers) < len(recordings):
        return None
    whole = np.array([answer[-1] for answer in answers])
    chunks = _chunks([answer[:-1] for answer in answers], true, folds)
    return {"recordings": _share(whole == true, folds), "chunks": chunks}


def _answers(found: Evaluation, predictor: Predictor) -> dict[str, Any]:
    """Count the answers of label_image.py, unknown included."""
    refused, wrong = found.decided < 0, (found.decided >= 0) & (found.decided != found.true)
    return {
        "recordings": len(found.true),
        "right": int((found.decided == found.true).sum()),
        "wrong": int(wrong.sum()),
        "unknown": int(refused.sum()),
        "threshold": predictor.several_threshold,
    }


def _confusion(found: Evaluation) -> dict[str, Any]:
    """Count every pair of true label and answer that occurs; None is unknown."""
    pairs = np.stack(
        [
            np.concatenate([found.true, np.full(len(found.unknown_decided), -1)]),
            np.concatenate([found.decided, found.unknown_decided]),
        ]
    )
    kinds, counts = np.unique(pairs, axis=1, return_counts=True)
    names = [*found.labels, None]  # -1 is the last
    return {
        "recordings": int(counts.sum()),
        "pairs": [
            {"true": names[true], "answer": names[given], "count": int(number)}
            for (true, given), number in zip(kinds.T.tolist(), counts, strict=True)
        ],
    }


def _labels(found: Evaluation) -> dict[str, Any]:
    scores = class_scores(found.true, found.decided, len(found.labels))
    accepted = found.decided >= 0
    answered, refused = (
        np.bincount(numbers, minlength=len(found.labels))
        for numbers in (found.decided[accepted], found.true[~accepted])
    )
    columns = (scores.precision, scores.recall, scores.f1, scores.support, answered, refused)
    return {
        "recordings": len(found.true),
        "macro": {
            "labels": scores.tested,
            **{name: _finite(getattr(scores, f"macro_{name}")) for name in ("precision", "recall", "f1")},
        },
        "labels": [
            {
                "label": label,
                "precision": float(p) if a else None,
                "recall": float(r) if n else None,
                "f1": float(f) if n else None,
                "recordings": int(n),
                "answered": int(a),
                "refused": int(u),
            }
            for label, p, r, f, n, a, u in zip(found.labels, *columns, strict=True)
        ],
    }


def _detected(found: Detection | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "equal_error_rate": found.equal_error_rate,
        "min_dcf": found.min_dcf(),
        "area": found.area,
        "targets": found.targets,
        "nontargets": found.nontargets,
    }


def _reliable(found: Reliability, probabilities: FloatArray, true: IntArray) -> dict[str, Any]:
    return {
        "calibration_error": _finite(found.error),
        "brier": _finite(brier_score(probabilities, true)),
        "cllr": _finite(cllr(probabilities, true)),
        "recordings": found.n,
        "bins": [
            {"from": float(low), "to": float(high), "confidence": float(c), "accuracy": float(a), "recordings": int(n)}
            for low, high, c, a, n in zip(
                found.edges[:-1], found.edges[1:], found.confidence, found.accuracy, found.counts, strict=True
            )
            if n
        ],
    }


def _open_set(found: Evaluation, predictor: Predictor) -> dict[str, Any]:
    known, unknown, left_out = open_set_scores(found, predictor)
    area = detection(np.concatenate([known, unknown]), np.arange(len(known) + len(unknown)) < len(known))
    of_training = predictor.card["open_set"]
    refused, accepted, clips = None, None, len(unknown)
    if predictor.rejection is not None:
        refused, accepted = int((found.decided < 0).sum()), int((found.unknown_decided >= 0).sum())
        if left_out:
            accepted = int((unknown >= predictor.rejection.several).sum())  # as far as an earlier version's model tells
            if (counted := of_training.get("stretches_accepted")) is not None:
                clips, accepted = of_training["stretches_left_out"], counted
    seen_in_training = of_training["network_had_heard_those_left_out"]
    return {
        "threshold": predictor.several_threshold,
        "threshold_of_a_chunk": None if predictor.rejection is None else predictor.rejection.single,
        "asked_rate": of_training["asked_rate"],
        "stretches_left_out_at_training": of_training["stretches_left_out"],
        "area": None if area is None else area.area,
        "known": {"recordings": len(known), "refused": refused},
        "unknown": {
            "clips": clips,
            "accepted": accepted,
            "of": (_LEFT_OUT_SEEN if seen_in_training else _LEFT_OUT) if left_out else "test recordings of no label",
        },
    }


def _costs(found: Evaluation) -> dict[str, Any] | None:
    """Compute the mean cost on the test recordings, of the decision rule and of the most probable label."""
    if found.picked is None and not found.rule.costs.exceptions:
        return None
    rule = found.rule if found.picked is None else found.picked.rule
    by_rule = mean_cost(rule.costs, found.by_rule, found.true)
    plain = mean_cost(rule.costs, found.most_probable, found.true)
    picked = found.picked
    return {
        "rule": rule.as_json(found.labels),
        "threshold": rule.threshold,
        "not_used": None if found.check is None else found.check.problem,
        "recordings": by_rule.recordings,
        "mean_cost": _finite(by_rule.mean),
        "mean_cost_of_most_probable": _finite(plain.mean),
        "validation": None
        if picked is None
        else {
            "recordings": picked.recordings,
            "mean_cost": _finite(picked.chosen),
            "mean_cost_of_most_probable": _finite(picked.most_probable),
            "mean_cost_of_bayes": _finite(picked.bayes),
        },
    }


def _mistake(found: Evaluation, place: int, chunk: int) -> dict[str, Any]:
    one, given = found.predictions.recordings[place], int(found.given[place])
    recorded = one.recorded
    return {
        "file": str(recorded.paths[min(chunk, len(recorded.paths) - 1)]),
        "recording": recorded.name,
        "start": float(one.starts[chunk]),
        "true": recorded.label,
        "given": found.labels[given],
        "probability": float(found.probabilities[place, given]),
        "chunks": len(one.given),
    }


def _finite(value: float) -> float | None:
    """Replace NaN and infinities by None: JSON has no NaN."""
    return float(value) if math.isfinite(value) else None
