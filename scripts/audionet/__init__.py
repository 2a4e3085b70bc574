"""AudioNet classifies sound as images: recordings to spectrograms, to bottlenecks, to labels."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from audionet.audio.config import SpectrogramConfig
    from audionet.data.fetch import FetchedDataset, fetch_dataset
    from audionet.data.render import render
    from audionet.discovery.discover import Discovered
    from audionet.discovery.run import discover
    from audionet.errors import (
        AudioNetError,
        BackboneError,
        DatasetError,
        ModelError,
        RecordingError,
        UsageError,
    )
    from audionet.evaluation.run import EvaluationResult, MultiLabelResult, TrialResult, evaluate, evaluate_trials
    from audionet.export.hub_folder import export_model
    from audionet.export.run import Run, train
    from audionet.inference.explanation import Explanation
    from audionet.inference.model import Model, Prediction, load_model

__version__ = "0.2.0"

__all__ = [
    "AudioNetError",
    "BackboneError",
    "DatasetError",
    "Discovered",
    "EvaluationResult",
    "Explanation",
    "FetchedDataset",
    "Model",
    "ModelError",
    "MultiLabelResult",
    "Prediction",
    "RecordingError",
    "Run",
    "SpectrogramConfig",
    "TrialResult",
    "UsageError",
    "discover",
    "evaluate",
    "evaluate_trials",
    "export_model",
    "fetch_dataset",
    "load_model",
    "render",
    "train",
]

_HOMES = {
    "audionet.audio.config": ("SpectrogramConfig",),
    "audionet.data.fetch": ("FetchedDataset", "fetch_dataset"),
    "audionet.data.render": ("render",),
    "audionet.discovery.discover": ("Discovered",),
    "audionet.discovery.run": ("discover",),
    "audionet.errors": tuple(name for name in __all__ if name.endswith("Error")),
    "audionet.evaluation.run": ("EvaluationResult", "MultiLabelResult", "TrialResult", "evaluate", "evaluate_trials"),
    "audionet.export.hub_folder": ("export_model",),
    "audionet.export.run": ("Run", "train"),
    "audionet.inference.explanation": ("Explanation",),
    "audionet.inference.model": ("Model", "Prediction", "load_model"),
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: loading a model must not import what training takes."""
    for module, names in _HOMES.items():
        if name in names:
            value = globals()[name] = getattr(importlib.import_module(module), name)
            return value
    raise AttributeError(f"module 'audionet' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
