"""Description of a bundled backbone (backbone.json), parsed, and its weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from audionet.audio.network_input import STATISTICS_WIDTHS
from audionet.backbones.inception import FeatureLayer, VoiceLayer, feature_layer_from_card, voice_layer_from_card
from audionet.errors import BackboneError, DamagedError
from audionet.utils.json_files import checked_whole, field, file_name, nullable_field, optional_field
from audionet.utils.text import escape

_LARGEST_SIDE = 10_000  # pixels
REMEDY = "reinstall AudioNet, or restore it with git checkout"


class Description(NamedTuple):
    """Description of a bundled backbone.

    Attributes
    ----------
    name : str
        Safe as a file name.
    weights : Path
    sha256 : str
        Of the weights.
    input_size : (int, int)
        Height and width, pixels.
    statistics : str or None
        Image statistics that the bottleneck appends to the network's features.
    layer : FeatureLayer
    voice : VoiceLayer or None
    voice_space : (Path, str) or None
        File of the voice space, and its SHA-256.
    """

    name: str
    weights: Path
    sha256: str
    input_size: tuple[int, int]
    statistics: str | None
    layer: FeatureLayer
    voice: VoiceLayer | None
    voice_space: tuple[Path, str] | None


def parse_description(card: dict[str, Any], folder: Path) -> Description:
    """Parse the content of backbone.json, whose files lie in `folder`.

    Raises
    ------
    DamagedError
        If a field is missing, of another type, or out of its range.
    """
    height, width = (checked_whole(side, "input_size", 1, _LARGEST_SIDE) for side in _pair(card))
    statistics, voices = nullable_field(card, "statistics", str), optional_field(card, "voice_space", dict)
    if statistics is not None and statistics not in STATISTICS_WIDTHS:
        raise DamagedError("'statistics' are unknown")
    return Description(
        file_name(card, "name"),
        folder / file_name(card, "weights"),
        field(card, "sha256", str),
        (height, width),
        statistics,
        feature_layer_from_card(card),
        voice_layer_from_card(card),
        None if voices is None else (folder / file_name(voices, "file"), field(voices, "sha256", str)),
    )


def _pair(card: dict[str, Any]) -> list[Any]:
    values = field(card, "input_size", list)
    if len(values) != 2:
        raise DamagedError("'input_size' is no height and width")
    return values


def read_weights(card: Description) -> bytes:
    """Read the weights' file.

    Raises
    ------
    BackboneError
        If it is missing, or is not the file that the description names.
    """
    try:
        content = card.weights.read_bytes()
    except OSError:
        raise BackboneError(f"{escape(card.weights)} is missing: {REMEDY}") from None
    if hashlib.sha256(content).hexdigest() != card.sha256:
        raise BackboneError(
            f"{escape(card.weights)} is damaged (its SHA-256 differs from that in backbone.json): {REMEDY}"
        )
    return content
