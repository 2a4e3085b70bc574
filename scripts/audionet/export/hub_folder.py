"""Folder of a trained model for the Hugging Face hub: its files, the weights as safetensors, and a model card."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audionet import __version__
from audionet._paths import arrays_path, enrolled_path, lite_path, model_json_path
from audionet.classifier.head import Layer
from audionet.classifier.model_files import ModelFiles, load_model_files
from audionet.errors import ModelError, UsageError
from audionet.export.config import ExportConfig
from audionet.export.hub_card import LIBRARY, CardContent, model_card
from audionet.export.litert import read_head
from audionet.export.model_metrics import Metric, card_metrics, part_of, report_metrics
from audionet.utils.extras import require_modules
from audionet.utils.files import PathLike, WriteBatch, atomic_path, make_folder, pack_json, read_json
from audionet.utils.settings import from_parameters
from audionet.utils.text import escape

log = logging.getLogger(__name__)

CARD_NAME = "README.md"
WEIGHTS_NAME = "model.safetensors"
_SEAL = "<!-- written by audionet export, {digest} -->\n"
_SEALED = re.compile(r"(.*)" + re.escape(_SEAL).replace(r"\{digest\}", "([0-9a-f]{16})"), re.DOTALL)


def export_model(graph: PathLike, folder: PathLike, **settings: Any) -> Path:
    """Write a folder with a trained model that is ready to be uploaded to the Hugging Face hub.

    It holds the model's files, so that it can be used as it is, its weights as ``model.safetensors``, and a model card,
    ``README.md``, with the metrics that the model's files have.

    Parameters
    ----------
    graph : str or path
        Model that `train` or retrain.py wrote. The folder holds its LiteRT file and, if this is one, the ONNX file.
    folder : str or path
        A new or empty folder, an earlier export, or a new clone of a repository of the hub.
    **settings
        Fields of `ExportConfig`, such as ``license``, ``report``.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    TypeError
        If there is no such setting, or it is of another type.
    UsageError
        If the folder holds other files, or the extra ``hub`` is not installed.
    ModelError
        If a file of the model is missing or damaged, or the report is that of another model.
    OSError
        If a file cannot be written.

    Examples
    --------
    >>> path = audionet.export_model(model_path, folder / "hub", license="cc-by-4.0")
    >>> "license: cc-by-4.0" in (path / "README.md").read_text("utf-8")
    True
    >>> audionet.load_model(path / model_path.name).labels == audionet.load_model(model_path).labels
    True
    """
    (config,) = from_parameters("export_model", {"graph": graph, "to": folder, **settings}, ExportConfig)
    return export_folder(config)


def export_folder(config: ExportConfig) -> Path:
    """Write a model's folder for the hub, as `export_model` does, and return it."""
    require_modules("huggingface_hub", "safetensors")
    folder = config.to.absolute()
    kept = _kept_files(folder)
    files = load_model_files(config.graph)
    content = _content(files, config)
    if enrolled_path(config.graph).exists():
        log.info(f"Speakers enrolled in {escape(config.graph)} stay out of the export.")
    if not kept:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(folder) as temporary:
            temporary.mkdir()
            for name, data in content.items():
                (temporary / name).write_bytes(data)
        return folder
    make_folder(folder)  # removes what an interrupted export left
    _set_aside_edited(folder / CARD_NAME)
    # All are on the disk before the first takes its place; a mixture does not load, as the JSON has the files' hashes.
    with WriteBatch() as batch:
        for name, data in content.items():
            batch.write(folder / name, data)
        batch.sync()
    return folder


def _kept_files(folder: Path) -> list[str]:
    """Return the names of the files in the folder, which stay.

    Raises
    ------
    UsageError
        If they are neither an earlier export nor hidden, as a new clone's are.
    """
    if not os.path.lexists(folder):
        return []
    names = os.listdir(folder) if folder.is_dir() else [""]
    card = folder / CARD_NAME
    is_ours = card.is_file() and f"\nlibrary_name: {LIBRARY}\n" in card.read_text("utf-8", "replace")
    if not is_ours and any(not name.startswith(".") for name in names):
        raise UsageError(f"--to {escape(folder)} holds files that no export wrote: name a new folder")
    return names


def _set_aside_edited(card: Path) -> None:
    """Rename a card that somebody has edited since it was written."""
    if not card.exists():
        return
    text = card.read_bytes()
    if (match := _SEALED.fullmatch(text.decode("utf-8", "replace"))) and _digest(match[1]) == match[2]:
        return
    other = card.with_name(f"{card.stem}-{hashlib.sha256(text).hexdigest()[:8]}{card.suffix}")
    card.replace(other)
    log.warning(f"{card}: was edited since its export: kept as {other.name}")


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def _content(files: ModelFiles, config: ExportConfig) -> dict[str, bytes]:
    """Return the content of the folder's files, by name; the card is the last."""
    graph = lite_path(config.graph)
    arrays = arrays_path(config.graph).read_bytes()
    if hashlib.sha256(arrays).hexdigest() != files.card["arrays_sha256"]:
        raise ModelError(f"{escape(config.graph)} was replaced meanwhile: export it again")
    others = {config.graph.name: config.graph.read_bytes()} if config.graph.suffix == ".onnx" else {}
    exports = {name: files.card["exports"][name] for name in others}
    if any(hashlib.sha256(data).hexdigest() != exports[name]["sha256"] for name, data in others.items()):
        raise ModelError(f"{escape(config.graph)} was replaced meanwhile: export it again")
    labels = "".join(f"{label}\n" for label in files.parsed.labels).encode("utf-8", "surrogateescape")
    metrics = _metrics(files, config)
    text = model_card(CardContent(config.to.absolute().name, graph.name, files, metrics, config))
    return {
        graph.name: files.network,
        **others,
        model_json_path(graph).name: pack_json(without_paths(files.card | {"exports": exports})),
        arrays_path(graph).name: arrays,
        f"{graph.stem.removesuffix('_graph')}_labels.txt": labels,
        WEIGHTS_NAME: pack_weights(files),
        CARD_NAME: (text + _SEAL.format(digest=_digest(text))).encode(),
    }


def without_paths(value: Any) -> Any:
    """Return JSON content with the names of files and folders for absolute paths, which are the user's own affair."""
    if isinstance(value, dict):
        return {name: without_paths(item) for name, item in value.items()}
    if isinstance(value, list):
        return [without_paths(item) for item in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _metrics(files: ModelFiles, config: ExportConfig) -> list[Metric]:
    own = card_metrics(files.card)
    if config.report is None:
        return own
    path = config.report / "report.json" if config.report.is_dir() else config.report
    report = read_json(path, ModelError, "name the report.json that evaluate.py wrote, or its folder")
    if part_of(report, "model").get("graph_sha256") != files.card["graph_sha256"]:
        raise ModelError(f"{escape(path)} is the report of another model: run evaluate.py with this --graph")
    if not part_of(report, "data").get("unseen"):
        raise ModelError(f"{escape(path)}: its recordings were seen in training: test the model on others")
    found = report_metrics(report)
    same = {(metric.kind, metric.name, metric.tested_on) for metric in found}
    return [metric for metric in own if (metric.kind, metric.name, metric.tested_on) not in same] + found


def pack_weights(files: ModelFiles) -> bytes:
    """Return the content of model.safetensors: head, embedding layer and speaker models, and what they mean."""
    from safetensors.numpy import save

    head, space = read_head(files.network)
    voices = files.arrays.voices
    tensors: dict[str, NDArray[Any]] = {"head.offset": head.offset, "head.scale": head.scale}
    for name, layer in (("head.hidden", head.hidden), ("head.last", head.last), ("embedding", space)):
        tensors |= {} if layer is None else _layer(name, layer)
    for name in ("centroids", "prototypes", "counts", "norms", "background", "cohort", "low", "high"):
        tensors[f"speakers.{name}"] = getattr(voices, name)
    tensors["speakers.voice_share"] = np.array([voices.voice_share], np.float32)
    card = files.card
    metadata = {
        "format": "pt",  # the loaders of other libraries ask for it: plain tensors
        "audionet_version": __version__,
        "graph_sha256": card["graph_sha256"],
        "labels": json.dumps(files.parsed.labels),
        "calibration": json.dumps(card["calibration"]),
        "backbone": json.dumps(without_paths(card["backbone"])),
        "unit_length": str(head.unit_length).lower(),
        "activation": "logistic" if head.independent else "softmax",
    }
    if files.parsed.thresholds is not None:
        metadata["thresholds"] = json.dumps(files.parsed.thresholds.values.tolist())
    return bytes(save({name: np.ascontiguousarray(array) for name, array in tensors.items()}, metadata))


def _layer(name: str, layer: Layer) -> dict[str, NDArray[Any]]:
    return {f"{name}.weight": layer.weights.T, f"{name}.bias": layer.biases}
