"""A model's answers in words, and as objects for JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from audionet.inference.diarization import Diarization
from audionet.inference.predictor import Answer, Decision, Predictor
from audionet.inference.segmentation import Segment
from audionet.inference.timeline_files import format_segment
from audionet.inference.verification import Verification
from audionet.utils.text import escape, pluralise


def answer_json(path: Path, answer: Answer, predictor: Predictor, top_k: int, per_chunk: bool) -> dict[str, Any]:
    """All that is known of a clip."""
    content: dict[str, Any] = {"file": str(path), "seconds": _rounded(answer.seconds), "chunks": len(answer.chunks)}
    content |= decision_json(answer.decision, predictor)
    content["labels"] = predictor.ranked(answer.probabilities, top_k)
    if predictor.enrolled:
        scores = answer.scores[len(predictor.labels) :]
        content["enrolled"] = [
            {"name": name, "score": round(float(score), 6)}
            for name, score in zip(predictor.enrolled, scores, strict=True)
        ]
    if answer.remark:
        content["remark"] = answer.remark
    if per_chunk:
        content["per_chunk"] = [
            {
                "start": round(chunk.start, 3),
                **decision_json(predictor.decide(chunk.probabilities, chunk.scores), predictor),
                "labels": predictor.ranked(chunk.probabilities, top_k),
            }
            for chunk in answer.chunks
        ]
    return content


def decision_json(decision: Decision, predictor: Predictor) -> dict[str, Any]:
    """What a clip is taken for; an unknown voice has no label, as a label may be called "unknown"."""
    return {
        "decision": decision.label,
        "unknown": decision.label is None,
        "score": round(decision.score, 6),
        "threshold": predictor.threshold,
    }


def answer_text(path: Path, answer: Answer, predictor: Predictor, top_k: int, per_chunk: bool) -> str:
    """The decision, where it is not simply the most probable label, and the labels."""
    length = (
        "an image" if answer.seconds is None else f"{answer.seconds:.1f} s, {pluralise(len(answer.chunks), 'chunk')}"
    )
    lines = [f"{escape(path)} ({length})"]
    if answer.remark:
        lines.append(f"  only in part: {answer.remark}")
    ranked = predictor.ranked(answer.probabilities, top_k)
    decision = answer.decision
    unless = ""
    if decision.label is None:
        lines.append(f"  unknown  (likeness {decision.score:.2f}, known voices have {predictor.threshold:.2f} or more)")
        unless = " if it were one of these"
    elif decision.enrolled:
        lines.append(f"  {escape(decision.label)}  (enrolled, likeness {decision.score:.2f})")
        unless = " of those trained on"
    elif decision.label != predictor.ranked(answer.probabilities, 1)[0]["label"]:
        lines.append(f"  {escape(decision.label)}  (the least expected cost)")
    for entry in ranked:
        lines.append(f"  {entry['probability']:7.2%}  {escape(entry['label'])}{unless}")
        unless = ""
    if per_chunk:
        for chunk in answer.chunks:
            best = predictor.ranked(chunk.probabilities, 1)[0]
            given = predictor.decide(chunk.probabilities, chunk.scores).label
            name = "unknown" if given is None else escape(given)
            differs = "" if given == best["label"] else f", taken for {name}"
            lines.append(f"  at {chunk.start:7.1f} s  {best['probability']:7.2%}  {escape(best['label'])}{differs}")
    return "\n".join(lines)


def verification_json(path: Path, name: str, found: Verification) -> dict[str, Any]:
    """Whether a clip is the voice it is said to be."""
    return {
        "file": str(path),
        "claimed": name,
        "verified": found.accepted,
        "score": round(found.score, 6),
        "false_acceptance_rate": round(found.rate, 6),
        "trials": found.trials,
    }


def verification_text(path: Path, name: str, found: Verification) -> str:
    """The same in one line."""
    return (
        f"{escape(path)}: {'yes' if found.accepted else 'no'}, {'' if found.accepted else 'not '}{escape(name)} "
        f"(likeness {found.score:.2f}; {found.nearer} of {found.trials} trials with other voices came as near)"
    )


def timeline_json(path: Path, timeline: Diarization) -> dict[str, Any]:
    """Who speaks when."""
    content: dict[str, Any] = {"file": str(path), "seconds": _rounded(timeline.seconds)}
    content["segments"] = list(map(segment_json, timeline.segments))
    if timeline.remark:
        content["remark"] = timeline.remark
    return content | {"written": [str(path) for path in timeline.files]}


def segment_json(segment: Segment) -> dict[str, Any]:
    """A stretch in which one voice is heard."""
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "label": segment.label,
        "unknown": segment.label is None,
        "probability": None if segment.label is None else round(segment.probability, 6),
        "score": None if segment.score is None else round(segment.score, 6),
    }


def timeline_text(path: Path, timeline: Diarization) -> str:
    """The same, a segment a line."""
    lines = [f"{escape(path)} ({timeline.seconds:.1f} s, {pluralise(len(timeline.segments), 'segment')})"]
    if timeline.remark:
        lines.append(f"  only in part: {timeline.remark}")
    lines += map(format_segment, timeline.segments)
    return "\n".join([*lines, f"  written: {', '.join(map(escape, timeline.files))}"])


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
