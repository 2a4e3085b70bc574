"""What a probe found, as the part of a model card that says how good the features are."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from audionet.augment.distortion import CLEAN
from audionet.probing.probe import Probed, Probing, TaskResult
from audionet.utils.files import printable, write_bytes

HEADING = "## Probes"


def as_markdown(run: Probing, results: Sequence[TaskResult], speeds: Sequence[float]) -> str:
    """Every row of every task, clean and away from clean, and what the networks cost; tables in Markdown."""
    features = [row.features for row in results[0].rows]
    titles = [f"{result.title} ({len(result.recordings[CLEAN])} {result.unit}s)" for result in results]
    shares = [
        [name, str(results[0].rows[place].width), *(shares_of(result, result.rows[place]) for result in results)]
        for place, name in enumerate(features)
    ]
    costs = [
        [
            backbone.name,
            *(backbone.endpoint or "-", backbone.pooling or "-", str(backbone.width), backbone.arithmetic),
            *(f"{backbone.path.stat().st_size / 1e6:.1f}", f"{speed:.0f}"),
        ]
        for backbone, speed in zip(run.backbones, speeds, strict=True)
    ]
    conditions = ", ".join(results[0].changed)
    described = f", then the mean of {len(results[0].changed)} other conditions ({conditions})" if conditions else ""
    parts = [
        HEADING,
        f"By `scripts/probe.py`: a linear layer on frozen features, share of right answers on clean sound{described}.",
        in_markdown(["features", "width", *titles], shares),
        in_markdown(["network", "endpoint", "pooling", "width", "arithmetic", "MB", "pictures/s, one thread"], costs),
    ]
    return "\n\n".join(parts) + "\n"


def shares_of(result: TaskResult, row: Probed) -> str:
    """``0.983, 0.565``: the share right on clean sound, and the mean of the other conditions where there are any."""
    clean = f"{row.right[CLEAN].mean():.3f}"
    return f"{clean}, {result.mean_share(row):.3f}" if result.changed else clean


def in_markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(
        f"| {' | '.join(printable(cell).replace('|', chr(92) + '|') for cell in line)} |" for line in lines
    )


def put_into_card(card: Path, section: str) -> None:
    """Put a section into a model card, in place of the one of before if there is one, else at its end.

    Raises
    ------
    OSError
        If the card cannot be read or written.
    """
    text = card.read_bytes().decode("utf-8", "surrogateescape")
    if found := re.search(rf"^{HEADING}\n.*?(?=^## |\Z)", text, re.MULTILINE | re.DOTALL):
        before, after = text[: found.start()], text[found.end() :]
    else:
        before, after = text.rstrip("\n") + "\n\n", ""
    text = before + section + (f"\n{after}" if after else "")
    write_bytes(card, text.encode("utf-8", "surrogateescape"))
