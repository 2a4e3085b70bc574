"""Numbers of verification trials, as ``report.json`` holds them."""

from __future__ import annotations

import math
from typing import Any

from audionet.evaluation.trial_scores import Estimate, TrialEvaluation, Variant
from audionet.evaluation.trial_verdict import trial_verdict


def summarise_trials(found: TrialEvaluation) -> dict[str, Any]:
    """Return every number of the report."""
    trials, config = found.trials, found.config
    content = {
        "trials": {
            "list": str(trials.path),
            "folder": str(trials.folder),
            "targets": trials.targets,
            "nontargets": trials.nontargets,
            "models": len(set(trials.pairs.first.tolist())),
            "recordings": len(set(trials.pairs.second.tolist()) | set(trials.enrolled_recording.tolist())),
            "several_files": int((trials.counts() > 1).sum()),
            "left_out": trials.left_out,
        },
        "speakers": {"number": found.speakers.number, "known_from": found.speakers.source},
        "embedding": config.architecture if config.graph is None else str(config.graph),
        "cohort": None
        if found.cohort_speakers is None
        else {"folder": None if config.cohort is None else str(config.cohort), "speakers": found.cohort_speakers},
        "plda": None
        if found.plda_trained_on is None
        else {
            "folder": str(config.plda),
            "speakers": found.plda_trained_on[0],
            "recordings": found.plda_trained_on[1],
        },
        "variants": [_summarise(variant) for variant in found.variants],
    }
    return {"verdict": trial_verdict(content).as_json(), **content}


def _summarise(variant: Variant) -> dict[str, Any]:
    costs = variant.min_dcf or {}
    return {
        "name": variant.name,
        "equal_error_rate": _numbers(variant.equal_error_rate),
        "min_dcf": {f"{prior:g}": _numbers(cost) for prior, cost in costs.items()},
        "cllr": variant.cllr,
        "min_cllr": variant.min_cllr,
    }


def _numbers(estimate: Estimate | None) -> dict[str, float | None] | None:
    if estimate is None:
        return None
    return {name: value if math.isfinite(value) else None for name, value in estimate._asdict().items()}
