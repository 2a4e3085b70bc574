"""Text of the scores of a model that answers with several labels at a time."""

from __future__ import annotations

from collections.abc import Sequence

from audionet.metrics.multi_label import MultiLabelScores
from audionet.utils.text import escape, format_table

_NAMED = 5
_MAX_LABELS_SHOWN = 40


def name_some(labels: Sequence[str]) -> str:
    """Name the first of some labels."""
    return ", ".join(map(escape, labels[:_NAMED])) + (", ..." if len(labels) > _NAMED else "")


def format_multi_label(found: MultiLabelScores, labels: Sequence[str]) -> str:
    """Format the scores as text: those of all labels, and a row for each; of many, the worst."""
    lines = []
    if found.mean_average_precision is not None:
        # Where no label is ranked wrongly, every resample is the same, and the interval proves nothing.
        interval = f"95 % interval {found.low:.3f} to {found.high:.3f}, " if found.low < found.high else ""
        chance = f"by chance {found.chance:.3f}"
        lines.append(f"  {'mean average precision':<22} {found.mean_average_precision:.3f}  ({interval}{chance})")
    if found.macro_f1 is not None:
        lines.append(f"  {'mean F1':<22} {found.macro_f1:.3f}")
    lines.append(f"  {'exactly their labels':<22} {found.all_right}")
    scored = sorted(
        zip(labels, found.labels, strict=True),
        key=lambda pair: 2.0 if pair[1].average_precision is None else pair[1].average_precision,
    )
    rows = [
        [
            escape(label),
            str(score.recordings),
            "–" if score.average_precision is None else f"{score.average_precision:.3f}",
            *("–" if share is None else f"{share:.0%}" for share in (score.precision, score.recall)),
        ]
        for label, score in (scored[:_MAX_LABELS_SHOWN] if len(scored) > _MAX_LABELS_SHOWN else sorted(scored))
    ]
    lines.append(format_table(["label", "recordings", "average precision", "precision", "recall"], rows))
    if len(scored) > len(rows):
        lines.append(f"and {len(scored) - len(rows)} labels more, with a higher average precision")
    return "\n".join(lines)
