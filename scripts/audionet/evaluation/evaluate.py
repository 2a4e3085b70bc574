"""A model held against recordings that it has not heard: every number of the report, with what it was counted on."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet.audio.spectrogram import FloatArray
from audionet.backbones.cache import IntArray
from audionet.classifier.decision import Costs, Picked, Rule, mean_cost, parse_costs, pick_rule
from audionet.config import EvaluateConfig
from audionet.errors import ModelError
from audionet.evaluation.batch_inference import LENGTHS, Judged
from audionet.evaluation.recordings import Heard, ask, listen, part_of_split
from audionet.inference.predictor import Predictor
from audionet.metrics.accuracy import Accuracy, accuracy
from audionet.metrics.detection import (
    Detection,
    Reliability,
    bootstrap,
    bootstrap_ratio,
    detection,
    label_scores,
    reliability,
    top_k,
    trials,
)
from audionet.utils.console import warn
from audionet.utils.files import printable, read_json, write_json

_KS = (1, 2, 3, 5, 10)
_LEFT_OUT = "labels left out at training"
_LEFT_OUT_HEARD = f"{_LEFT_OUT}, too favourable: this network had heard them"


@dataclass(frozen=True)
class Evaluation:
    """What the model made of the held-out recordings, each one answer.

    Attributes
    ----------
    labels : list of str
    heard : Heard
    true, given : ndarray of int64, shape (n,)
        The label of each recording of a known label, and the one that the decision rule gives.
    most_probable : ndarray of int64, shape (n,)
        The label that is given where all mistakes cost the same.
    decided : ndarray of int64, shape (n,)
        As `given`, but -1 where the voice was taken for unknown.
    unknown_decided : ndarray of int64, shape (m,)
        The same of recordings of none of the labels.
    probabilities, uncalibrated : ndarray of float32, shape (n, labels)
    scores, unknown_scores : ndarray of float32, shapes (n, labels) and (m, labels)
        How much recordings are like each voice.
    rule : Rule
        The one that decides.
    picked : Picked or None
        How it was found, if costs were given.
    """

    labels: list[str]
    heard: Heard
    true: IntArray
    given: IntArray
    most_probable: IntArray
    decided: IntArray
    unknown_decided: IntArray
    probabilities: FloatArray
    uncalibrated: FloatArray
    scores: FloatArray
    unknown_scores: FloatArray
    rule: Rule
    picked: Picked | None

    def detection(self, label: int | None = None) -> Detection | None:
        """The verification view of one label, or of every recording held against every label."""
        found = trials(*self._every, label)
        return detection(found.scores, found.target)

    @functools.cached_property
    def _every(self) -> tuple[FloatArray, IntArray]:
        """Scores and labels of all recordings, known and unknown."""
        true = np.concatenate([self.true, np.full(len(self.unknown_scores), -1)])
        return np.concatenate([self.scores, self.unknown_scores]), true

    def detection_by_probability(self) -> Detection | None:
        """The same by log-probability, over recordings of known labels."""
        found = trials(np.log(np.maximum(self.probabilities, 1e-30)), self.true)
        return detection(found.scores, found.target)

    def reliability(self, calibrated: bool) -> Reliability:
        """How far the most probable label's probability can be believed."""
        probabilities = self.probabilities if calibrated else self.uncalibrated
        return reliability(probabilities.max(axis=1, initial=0), probabilities.argmax(axis=1) == self.true)

    def lengths(self) -> list[tuple[str, Accuracy]]:
        """Accuracy on clips of so many chunks, and on whole recordings."""
        points = []
        for length in LENGTHS:
            clips = [one.by_length[length] for one in self.heard.recordings]
            right = [given == true for given, true in zip(clips, self.true, strict=True)]
            groups = [place for place, clip in enumerate(clips) for _ in clip]
            if groups:
                name = f"{length} chunk{'s' if length > 1 else ''}"
                points.append((name, accuracy(np.concatenate(right), groups)))
        return [*points, ("whole", accuracy(self.most_probable == self.true))]

    def mistakes(self, most: int) -> list[tuple[int, int]]:
        """The surest mistakes: which recording, and which of its chunks was surest of the label that was given."""
        wrong = np.flatnonzero(self.given != self.true)
        surest = wrong[np.argsort(-self.probabilities[wrong, self.given[wrong]], kind="stable")][:most]
        places = []
        for place in surest.tolist():
            one = self.heard.recordings[place]
            chunks = np.where(one.given == self.given[place], one.sure, -1)
            places.append((place, int(chunks.argmax())))
        return places


def evaluate(predictor: Predictor, config: EvaluateConfig) -> Evaluation:
    """Judge the held-out recordings, and decide what they are taken for.

    Raises
    ------
    DatasetError
        If there are none, or none can be judged.
    UsageError
        If a cost is given for a label that the model lacks.
    """
    labels = predictor.labels
    number = {label: place for place, label in enumerate(labels)}
    picked, rule = None, predictor.rule
    if config.drops_rule:
        rule = Rule(Costs(len(labels)))
    elif config.cost:
        picked = _pick(predictor, config, parse_costs(config.cost, labels), number)
        rule = picked.rule
    heard = listen(predictor, config)
    true = np.array([number[one.recorded.label] for one in heard.recordings], np.int64)
    probabilities, uncalibrated, scores = (
        _stacked([getattr(one, name) for one in heard.recordings], len(labels))
        for name in ("probabilities", "uncalibrated", "scores")
    )
    unknown_scores = _stacked([one.scores for one in heard.unknown], len(labels))
    given = rule.decide(probabilities)
    unknown_given = rule.decide(_stacked([one.probabilities for one in heard.unknown], len(labels)))
    least = -math.inf if predictor.threshold is None else predictor.threshold
    return Evaluation(
        labels=labels,
        heard=heard,
        true=true,
        given=given,
        most_probable=probabilities.argmax(axis=1).astype(np.int64),
        decided=np.where(scores.max(axis=1, initial=-2) < least, -1, given),
        unknown_decided=np.where(unknown_scores.max(axis=1, initial=-2) < least, -1, unknown_given),
        probabilities=probabilities,
        uncalibrated=uncalibrated,
        scores=scores,
        unknown_scores=unknown_scores,
        rule=rule,
        picked=picked,
    )


def _pick(predictor: Predictor, config: EvaluateConfig, costs: Costs, number: dict[str, int]) -> Picked:
    """The rule under which mistakes cost least on the validation recordings."""
    judged, _ = ask(predictor, config, part_of_split(predictor, config, "validation"))
    known = [one for one in judged if one.recorded.label in number]
    present = {number[one.recorded.label] for one in known}
    concerned = dict.fromkeys(place for cost in costs.exceptions for place in (cost.true, cost.predicted))
    if missing := [predictor.labels[place] for place in concerned if place not in present]:
        warn(f"no validation recording is of {', '.join(map(printable, missing))}: the rule rests on theory there")
    true = np.array([number[one.recorded.label] for one in known], np.int64)
    return pick_rule(_stacked([one.probabilities for one in known], len(number)), true, costs)


def as_json(found: Evaluation, predictor: Predictor, config: EvaluateConfig) -> dict[str, Any]:
    """What report.json says: every number with the number of recordings, or chunks, that it was counted on."""
    card, heard = predictor.card, found.heard
    return {
        "model": {
            "graph": predictor.graph.name,
            "graph_sha256": card["graph_sha256"],
            "labels": len(found.labels),
            "backbone": card["backbone"]["name"],
            "trained_on": card["split"]["training"],
        },
        "data": {
            "source": heard.source,
            "recordings": len(heard.recordings),
            "chunks": sum(len(one.given) for one in heard.recordings),
            "unknown_recordings": len(heard.unknown),
            "unseen": not heard.all_seen,
            "left_out_as_seen": 0 if heard.all_seen else heard.seen,
            "recordings_also_heard_in_training": card["split"]["heard_in_training"] if config.test_dir is None else [],
            "missing_labels": heard.missing_labels,
            "foreign_labels": heard.foreign_labels,
            "judged_in_part": [
                {"file": str(one.recorded.paths[0]), "reason": one.remark}
                for one in (*heard.recordings, *heard.unknown)
                if one.remark
            ],
            "skipped": [{"file": str(recorded.paths[0]), "reason": reason} for recorded, reason in heard.skipped],
        },
        "accuracy": {
            "recordings": _share(found.most_probable == found.true),
            "chunks": _chunks([one.given for one in heard.recordings], found.true),
        },
        "mfcc_statistics": _baseline(heard.recordings, found.true),
        "leaky_split": (card["test"] or {}).get("leaky_split"),
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
            "before": _reliable(found.reliability(calibrated=False)),
            "after": _reliable(found.reliability(calibrated=True)),
        },
        "length": [{"clip": name, **_accurate(share)} for name, share in found.lengths()],
        "open_set": _open_set(found, predictor),
        "costs": _costs(found),
        "mistakes": [_mistake(found, *place) for place in found.mistakes(config.worst)],
    }


def store_rule(predictor: Predictor, rule: Rule) -> None:
    """Have the model decide by a rule from now on.

    Raises
    ------
    ModelError
        If the model has been trained again since it was loaded.
    """
    card = read_json(predictor.card_path, ModelError, "run retrain.py again")
    if any(card.get(name) != predictor.card[name] for name in ("graph_sha256", "arrays_sha256")):
        raise ModelError(f"{printable(predictor.card_path)}: was trained again meanwhile: run evaluate.py again")
    stored = rule.as_json(predictor.labels) if rule.costs.exceptions else None
    write_json(predictor.card_path, card | {"decision": stored})


def known_and_unknown(found: Evaluation, predictor: Predictor) -> tuple[FloatArray, FloatArray, bool]:
    """Best scores of known and unknown voices, and whether the unknown ones are labels left out at training."""
    known = found.scores.max(axis=1, initial=-2)
    if len(found.unknown_scores):
        return known, found.unknown_scores.max(axis=1), False
    return known, predictor.arrays.unknown, True


def _stacked(rows: Sequence[FloatArray], width: int) -> FloatArray:
    return np.stack(rows) if rows else np.zeros((0, width), np.float32)


def _accurate(share: Accuracy) -> dict[str, Any]:
    return {"right": share.right, "total": share.total, "low": share.low, "high": share.high}


def _share(right: NDArray[np.bool_]) -> dict[str, Any]:
    low, high = bootstrap(right.astype(float))
    return {**_accurate(accuracy(right)), "bootstrap": [_finite(low), _finite(high)]}


def _chunks(given: Sequence[IntArray], true: IntArray) -> dict[str, Any]:
    """Accuracy by chunk, its intervals by recording."""
    right = [chunks == label for chunks, label in zip(given, true, strict=True)]
    groups = [place for place, chunks in enumerate(given) for _ in chunks]
    share = accuracy(np.concatenate([np.zeros(0, bool), *right]), groups)
    low, high = bootstrap_ratio(np.array([float(r.sum()) for r in right]), np.array([float(len(r)) for r in right]))
    return {**_accurate(share), "bootstrap": [_finite(low), _finite(high)]}


def _baseline(recordings: Sequence[Judged], true: IntArray) -> dict[str, Any] | None:
    answers = [one.baseline for one in recordings if one.baseline is not None]
    if not answers or len(answers) < len(recordings):
        return None
    whole = np.array([answer[-1] for answer in answers])
    return {"recordings": _share(whole == true), "chunks": _chunks([answer[:-1] for answer in answers], true)}


def _answers(found: Evaluation, predictor: Predictor) -> dict[str, Any]:
    """What label_image.py says, unknown included."""
    refused, wrong = found.decided < 0, (found.decided >= 0) & (found.decided != found.true)
    return {
        "recordings": len(found.true),
        "right": int((found.decided == found.true).sum()),
        "wrong": int(wrong.sum()),
        "unknown": int(refused.sum()),
        "threshold": predictor.threshold,
    }


def _confusion(found: Evaluation) -> dict[str, Any]:
    """Counts of every pair of true label and answer that occurred; None is unknown."""
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
    scores = label_scores(found.true, found.given, len(found.labels))
    answered = np.bincount(found.given, minlength=len(found.labels))
    columns = (scores.precision, scores.recall, scores.f1, scores.support, answered)
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
            }
            for label, p, r, f, n, a in zip(found.labels, *columns, strict=True)
        ],
    }


def _detected(found: Detection | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {
        "equal_error_rate": found.equal_error_rate,
        "min_dcf": found.least_cost(),
        "area": found.area,
        "targets": found.targets,
        "nontargets": found.nontargets,
    }


def _reliable(found: Reliability) -> dict[str, Any]:
    return {
        "calibration_error": _finite(found.error),
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
    known, unknown, left_out = known_and_unknown(found, predictor)
    area = detection(np.concatenate([known, unknown]), np.arange(len(known) + len(unknown)) < len(known))
    accepted = None if predictor.threshold is None else int((unknown >= predictor.threshold).sum())
    refused = None if predictor.threshold is None else int((known < predictor.threshold).sum())
    heard = predictor.card["open_set"]["network_had_heard_those_left_out"]
    return {
        "threshold": predictor.threshold,
        "asked_rate": predictor.card["open_set"]["asked_rate"],
        "stretches_left_out_at_training": predictor.card["open_set"]["stretches_left_out"],
        "area": None if area is None else area.area,
        "known": {"recordings": len(known), "refused": refused},
        "unknown": {
            "clips": len(unknown),
            "accepted": accepted,
            "of": (_LEFT_OUT_HEARD if heard else _LEFT_OUT) if left_out else "test recordings of no label",
        },
    }


def _costs(found: Evaluation) -> dict[str, Any] | None:
    """What mistakes cost: on the test recordings, by the rule and by the most probable label."""
    if found.picked is None and not found.rule.costs.exceptions:
        return None
    by_rule = mean_cost(found.rule.costs, found.given, found.true)
    plain = mean_cost(found.rule.costs, found.most_probable, found.true)
    picked = found.picked
    return {
        "rule": found.rule.as_json(found.labels),
        "threshold": found.rule.threshold,
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
    one, given = found.heard.recordings[place], int(found.given[place])
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
    """A number for JSON, which has no NaN."""
    return float(value) if math.isfinite(value) else None
