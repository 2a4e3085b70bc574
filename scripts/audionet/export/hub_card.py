"""Card of a model on the Hugging Face hub: front matter that the hub reads, and a page for people."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.classifier.model_files import ModelFiles
from audionet.export.config import ExportConfig
from audionet.export.model_metrics import CROSS_VALIDATION, HELD_OUT, TEST_SET, Metric, card_metrics
from audionet.utils.text import escape, pluralise

LIBRARY = "audionet"
_TASK = "audio-classification"
_TEMPLATE = Path(__file__).with_name("templates") / "model_card.md"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+", re.ASCII)
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+\-.!|~&@:$])")
_MOST_LABELS = 100
_TESTED_ON = {
    CROSS_VALIDATION: "Cross-validated, each recording tested by a model that was not trained on it",
    TEST_SET: "On recordings of the same collection that were kept out of training",
    HELD_OUT: "On recordings of a separate collection",
}


@dataclass(frozen=True)
class CardContent:
    """Content of a card.

    Attributes
    ----------
    name : str
        Name of the model.
    graph : str
        Name of its LiteRT file.
    files : ModelFiles
    metrics : list of Metric
    config : ExportConfig
    """

    name: str
    graph: str
    files: ModelFiles
    metrics: list[Metric]
    config: ExportConfig


def model_card(content: CardContent) -> str:
    """Return the text of README.md."""
    card, parsed = content.files.card, content.files.parsed
    filled = {
        "front_matter": front_matter(content),
        "name": markdown(content.name),
        "graph": content.graph,
        "purpose": _purpose(content.files),
        "answer": "label" if parsed.thresholds is None else "present",
        "calibrated": ", before calibration" if parsed.thresholds is None else "",
        "labels": _labels(parsed.labels),
        "unknown": _unknown(content.files),
        "results": _results(content.metrics, card_metrics(card, "mfcc_statistics"), card),
        "trained_on": _trained_on(card, content.config.dataset),
        "backbone": markdown(Path(card["backbone"]["name"]).name),
        "settings": "" if content.files.spectrogram is None else _spectrogram(card),
        "graph_sha256": card["graph_sha256"],
    }
    return string.Template(_TEMPLATE.read_text("utf-8")).substitute(filled)


def front_matter(content: CardContent) -> str:
    """Return the card's metadata in YAML, as the hub reads it."""
    from huggingface_hub import EvalResult, ModelCardData

    dataset = content.config.dataset
    results = [
        EvalResult(
            task_type=_TASK,
            task_name="Audio classification",
            **_tested_on(metric, dataset),
            metric_type=metric.kind,
            metric_name=metric.name,
            metric_value=metric.value,
            metric_args={**metric.counts} | ({} if metric.interval is None else {"interval_95": [*metric.interval]}),
        )
        for metric in content.metrics
    ]
    data = ModelCardData(
        license=content.config.license,
        library_name=LIBRARY,
        pipeline_tag=_TASK,
        tags=["audio", _TASK, LIBRARY, "litert"],
        datasets=[dataset] if dataset is not None and _HUB_NAME.fullmatch(dataset) else None,
        labels=list(map(escape, content.files.parsed.labels)),
        model_name=content.name,
        eval_results=results or None,
    )
    return str(data.to_yaml(line_break="\n"))


def _tested_on(metric: Metric, dataset: str | None) -> dict[str, str]:
    """Return the fields that say what a metric was measured on; a separate collection is not the training's dataset."""
    name = None if metric.tested_on == HELD_OUT else dataset
    return {
        "dataset_type": name or "recordings",
        "dataset_name": f"{name or 'own recordings'} ({metric.tested_on})",
        "dataset_split": metric.tested_on,  # metrics are grouped by type and split, not by name
    }


def markdown(text: str) -> str:
    """Escape a text so that Markdown shows it as it is, on one line."""
    return _MARKDOWN.sub(r"\\\1", escape(text))


def _labels(labels: Sequence[str]) -> str:
    shown = ", ".join(markdown(label) for label in labels[:_MOST_LABELS])
    more = len(labels) - _MOST_LABELS
    return f"{shown} and {more} more, in the front matter" if more > 0 else shown


def _purpose(files: ModelFiles) -> str:
    """Say what the model does with how many labels."""
    labels = pluralise(len(files.parsed.labels), "label")
    if files.parsed.thresholds is not None:
        return f"This model answers which of {labels}, any number of them at a time, recordings of sound have:"
    return f"This model tells {labels} apart in recordings of sound:"


def _unknown(files: ModelFiles) -> str:
    if files.parsed.thresholds is not None:
        return "A sound may have none of them."
    return (
        "It always answers with one of them."
        if files.parsed.rejection is None
        else "A sound that is like none of them is answered `unknown`."
    )


def _results(metrics: Sequence[Metric], baseline: Sequence[Metric], card: Mapping[str, Any]) -> str:
    """Format the metrics by what they were tested on; the baseline's are those of the model's own test."""
    if not metrics:
        return "The model's files hold no test result."
    own = CROSS_VALIDATION if card.get("cross_validation") else TEST_SET
    parts = []
    for tested_on in dict.fromkeys(metric.tested_on for metric in metrics):
        lines = [f"- {metric}" for metric in metrics if metric.tested_on == tested_on]
        if tested_on == own:
            lines += [f"- for comparison, MFCC statistics on the same recordings: {metric}" for metric in baseline]
        parts.append("\n".join([f"{_TESTED_ON[tested_on]}:\n", *lines]))
    cut = card["split"]["heard_in_training"]
    if cut:
        named = ", ".join(map(markdown, cut[:5])) + (f" and {len(cut) - 5} more" if len(cut) > 5 else "")
        parts.append(f"Of these labels only other segments of the training recordings could be tested: {named}.")
    return "\n\n".join(parts)


def _trained_on(card: Mapping[str, Any], dataset: str | None) -> str:
    training = card["split"]["training"]
    amount = f"{pluralise(training['recordings'], 'recording')} ({pluralise(training['chunks'], 'chunk')})"
    return amount if dataset is None else f"{amount} of {markdown(dataset)}"


def _spectrogram(card: Mapping[str, Any]) -> str:
    return f"\nSpectrogram settings: `{json.dumps(card['picture'], sort_keys=True)}`.\n"
