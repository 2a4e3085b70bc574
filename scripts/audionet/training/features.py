"""Composition of a head's input: the backbone's features, and statistics of the image."""

from __future__ import annotations

import dataclasses

from audionet.audio.network_input import MFCC_STATISTICS_WIDTH, STATISTICS_WIDTHS
from audionet.backbones.registry import Backbone

MFCC = (["mfcc"], [MFCC_STATISTICS_WIDTH])
"""Fields and widths of the baseline's input: MFCC statistics alone."""


def head_fields(backbone: Backbone) -> list[str]:
    """Return the fields of the bottleneck cache that form a head's input."""
    return ["network"] if backbone.statistics is None else ["network", backbone.statistics]


def head_widths(backbone: Backbone) -> list[int]:
    """Return the widths of a head's parts: bottleneck, voice embedding and statistics, as far as there are."""
    statistics = 0 if backbone.statistics is None else STATISTICS_WIDTHS[backbone.statistics]
    parts = [backbone.width - backbone.voice_width, backbone.voice_width, statistics]
    return [width for width in parts if width]


def with_statistics(backbone: Backbone, kind: str) -> Backbone:
    """Return the same network with image statistics appended to its features."""
    return dataclasses.replace(backbone, statistics=kind)
