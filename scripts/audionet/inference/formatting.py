"""Formatting of predictions as text and as objects for JSON."""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any

from audionet.audio.decoding import FileSource
from audionet.inference.answer import Answer, Decision
from audionet.inference.diarization import Diarization
from audionet.inference.explanation import Explanation
from audionet.inference.predictor import Predictor
from audionet.inference.segmentation import Segment
from audionet.inference.timeline_files import format_segment
from audionet.inference.verification import RELIABLE_NORM, RELIABLE_SECONDS, Enrolment, Verification
from audionet.utils.text import escape, pluralise, utf8_name

NONE_PRESENT = "none of the labels"
"""Answer of a model for several labels at a time where none of them is present."""


def answer_json(
    source: FileSource, answer: Answer, predictor: Predictor, top_k: int, per_chunk: bool
) -> dict[str, Any]:
    """Format the answer for a clip for JSON."""
    content: dict[str, Any] = {**name_source(source), "seconds": _rounded(answer.seconds), "chunks": len(answer.chunks)}
    content |= decision_json(answer.decision)
    content["voices"] = [
        {"label": voice.label, "unknown": voice.label is None, "seconds": round(voice.seconds, 3)}
        for voice in answer.voices
    ]
    if answer.present is not None:
        content["present"] = answer.present
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
        decider = predictor.decider
        content["per_chunk"] = [
            {
                "start": round(chunk.start, 3),
                **decision_json(decider.decide(chunk.probabilities, chunk.scores, 1)),
                **({} if decider.thresholds is None else {"present": decider.present(chunk.probabilities)}),
                "labels": predictor.ranked(chunk.probabilities, top_k),
            }
            for chunk in answer.chunks
        ]
        content["pauses"] = [round(start, 3) for start in answer.pauses]
    return content


def decision_json(decision: Decision) -> dict[str, Any]:
    """Format a decision for JSON; unknown is a field of its own, as a label may be named "unknown"."""
    return {
        "decision": decision.label,
        "unknown": decision.label is None,
        "score": round(decision.score, 6),
        "threshold": None if decision.threshold is None else round(decision.threshold, 6),
    }


def answer_text(source: FileSource, answer: Answer, predictor: Predictor, top_k: int, per_chunk: bool) -> str:
    """Format the answer as text: the decision, if it is not simply the most probable label, and the labels."""
    length = "an image"
    if answer.seconds is not None:
        pauses = f", {pluralise(len(answer.pauses), 'pause')}" if answer.pauses else ""
        length = f"{answer.seconds:.1f} s, {pluralise(len(answer.chunks), 'chunk')}{pauses}"
    lines = [f"{escape(str(source))} ({length})"]
    if answer.remark:
        lines.append(f"  note: {answer.remark}")
    decision = answer.decision
    lines += _decision_lines(answer, predictor)
    qualifier = ""
    if answer.present is not None:
        qualifier = ""
    elif len(answer.voices) > 1:
        qualifier = " over the whole clip"
    elif decision.label is None:
        qualifier = " if it were one of the labels"
    elif decision.enrolled:
        qualifier = " among the trained labels"
    for entry in predictor.ranked(answer.probabilities, top_k):
        lines.append(f"  {entry['probability']:7.2%}  {escape(entry['label'])}{qualifier}")
        qualifier = ""
    if per_chunk:
        lines += _chunk_lines(answer, predictor)
    return "\n".join(lines)


def _decision_lines(answer: Answer, predictor: Predictor) -> list[str]:
    decision = answer.decision
    if answer.present is not None:
        return [f"  {_names(answer.present)}"]
    if len(answer.voices) > 1:
        named = ", ".join(f"{_name(voice.label)} {voice.seconds:.0f} s" for voice in answer.voices)
        kind = "voices" if predictor.spoken else "sounds"
        return [f"  {len(answer.voices)} {kind}: {named}"]
    if decision.label is None and decision.threshold is not None and decision.score < decision.threshold:
        return [f"  unknown  (likeness {decision.score:.2f}, threshold {decision.threshold:.2f})"]
    if decision.label is None:
        return ["  unknown"]
    if decision.enrolled:
        return [f"  {escape(decision.label)}  (enrolled, likeness {decision.score:.2f})"]
    if decision.label != predictor.ranked(answer.probabilities, 1)[0]["label"]:
        return [f"  {escape(decision.label)}  (least expected cost)"]
    return []


def _chunk_lines(answer: Answer, predictor: Predictor) -> list[str]:
    lines = [(start, f"  at {start:7.1f} s  pause") for start in answer.pauses]
    decider = predictor.decider
    for chunk in answer.chunks:
        best = predictor.ranked(chunk.probabilities, 1)[0]
        given = decider.decide(chunk.probabilities, chunk.scores, 1).label
        note = "" if given == best["label"] else f", decided {_name(given)}"
        if decider.thresholds is not None:
            note = f", decided {_names(decider.present(chunk.probabilities))}"
        line = f"  at {chunk.start:7.1f} s  {best['probability']:7.2%}  {escape(best['label'])}{note}"
        lines.append((chunk.start, line))
    return [line for _, line in sorted(lines)]


def _names(present: Sequence[str]) -> str:
    """Name the labels that are present."""
    return ", ".join(map(escape, present)) or NONE_PRESENT


def _name(label: str | None) -> str:
    return "unknown" if label is None else escape(label)


def verification_json(source: FileSource, name: str, found: Verification) -> dict[str, Any]:
    """Format a verification result for JSON."""
    return {
        **name_source(source),
        "claimed": name,
        "verified": found.accepted,
        "score": round(found.score, 6),
        "false_acceptance_rate": round(found.rate, 6),
        "trials": found.trials,
    }


def verification_text(source: FileSource, name: str, found: Verification) -> str:
    """Format a verification result as one line of text."""
    return (
        f"{escape(str(source))}: {'yes' if found.accepted else 'no'}, {'' if found.accepted else 'not '}{escape(name)} "
        f"(likeness {found.score:.2f}; {found.nearer} of {found.trials} impostor trials scored as high)"
    )


def enrolment_json(done: Enrolment, enrolled: Container[str]) -> dict[str, Any]:
    """Format the result of an enrolment for JSON; `enrolled` are the speakers who were enrolled before."""
    return {
        "seconds": round(done.seconds, 3),
        "norm": round(done.norm, 6),
        "resembles": done.resembles,
        "accepted": done.accepted,
        "several": done.several,
        "replaced": done.replaced,
        "advice": enrolment_advice(done, enrolled),
    }


def enrolment_advice(done: Enrolment, enrolled: Container[str]) -> list[str]:
    """Say in a sentence each what makes an enrolment unreliable.

    Parameters
    ----------
    done : Enrolment
    enrolled : container of str
        Names of the speakers who were enrolled before.
    """
    advice = []
    if done.seconds < RELIABLE_SECONDS:
        advice.append(
            f"{done.seconds:.1f} s of sound are few: enrol again with {RELIABLE_SECONDS:.0f} to 30 s of this speaker"
        )
    if done.norm < RELIABLE_NORM:
        advice.append(
            "this speaker is unlike all training data: others recorded in the same way may be accepted as this one"
        )
    if done.resembles is not None:
        like = escape(done.resembles)
        advice.append(
            f"this speaker sounds like {like}, who is enrolled: one speaker under two names?"
            if done.resembles in enrolled
            else f"this speaker is similar to the label {like}: its clips may now be answered with the new name"
        )
    if done.several:
        advice.append("the clips seem to hold several speakers: enrol each from clips without the others")
    elif not done.accepted:
        advice.append(
            "one half of these clips is not recognised by the other: new clips of this speaker may be unknown"
        )
    return advice


def explanation_json(explanation: Explanation, path: Path) -> dict[str, Any]:
    """Format an explanation for JSON: the region with half of the evidence, null where there is none."""
    region = explanation.region
    place = None
    if region is not None:
        low, high = (None if hz is None else round(hz, 1) for hz in (region.low, region.high))
        place = {"start": round(region.start, 3), "end": round(region.end, 3), "low": low, "high": high}
        place["area"] = round(region.share, 4)
    return {"label": explanation.label, "summary": explanation.summary(), "region": place, "written": str(path)}


def explanation_text(explanation: Explanation, path: Path) -> str:
    """Format an explanation as text."""
    return f"  {explanation.summary()}\n  written: {escape(path)}"


def diarization_json(source: FileSource, diarization: Diarization) -> dict[str, Any]:
    """Format a diarization for JSON."""
    content: dict[str, Any] = {**name_source(source), "seconds": _rounded(diarization.seconds)}
    content["segments"] = list(map(segment_json, diarization.segments))
    if diarization.remark:
        content["remark"] = diarization.remark
    return content | {"written": [str(path) for path in diarization.files]}


def segment_json(segment: Segment) -> dict[str, Any]:
    """Format a segment for JSON."""
    return {
        "start": round(segment.start, 3),
        "end": round(segment.end, 3),
        "label": segment.label,
        "unknown": segment.label is None,
        "probability": None if segment.label is None else round(segment.probability, 6),
        "score": None if segment.score is None else round(segment.score, 6),
    }


def diarization_text(source: FileSource, diarization: Diarization) -> str:
    """Format a diarization as text, one segment per line."""
    lines = [f"{escape(str(source))} ({diarization.seconds:.1f} s, {pluralise(len(diarization.segments), 'segment')})"]
    if diarization.remark:
        lines.append(f"  note: {diarization.remark}")
    lines += map(format_segment, diarization.segments)
    return "\n".join([*lines, f"  written: {', '.join(map(escape, diarization.files))}"])


def name_source(source: FileSource) -> dict[str, Any]:
    """Name a source for JSON: the file, and the channel if one was chosen."""
    if isinstance(source, Path):
        return {"file": utf8_name(str(source))}
    return {"file": utf8_name(str(source.path)), "channel": source.channel}


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
