"""Tables of the training data, as they are logged: recordings and chunks of each label."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from audionet.data.dataset import ChunkImage
from audionet.data.folds import Folds
from audionet.data.grouping import Recording
from audionet.data.naming import separate_labels
from audionet.data.split import SETS, Split
from audionet.utils.text import format_table

_MAX_LABELS_SHOWN = 40
_NO_LABEL = "(none)"


def folds_table(labels: Sequence[str], images: Sequence[ChunkImage], folds: Folds) -> str:
    """Format the numbers of recordings, chunks and tested chunks of each label; of many, the first and the sum."""
    originals = [image for image in images if not image.copy]
    recordings = Counter(label for label, _ in {(image.label, image.recording) for image in originals})
    chunks = Counter(image.label for image in originals)
    tested = Counter(images[row].label for row in folds.tested.tolist())
    shown = labels[:_MAX_LABELS_SHOWN]
    rows = [[label, str(recordings[label]), str(chunks[label]), str(tested[label])] for label in shown]
    if len(labels) > len(shown):
        totals = (recordings.total(), chunks.total(), tested.total())
        rows.append([f"all {len(labels)} labels", *map(str, totals)])
    return format_table(["label", "recordings", "chunks", "tested"], rows)


def split_table(labels: Sequence[str], split: Split) -> str:
    """Format the numbers of chunks and recordings of each label and set; of many labels, the first and the sum."""
    chunks = {name: Counter(image.label for image in split.sets[name]) for name in SETS}
    recordings = {
        name: Counter(label for label, _ in {(p.label, p.recording) for p in split.sets[name]}) for name in SETS
    }
    shown = labels[:_MAX_LABELS_SHOWN]
    rows = [[label, *(f"{chunks[name][label]} ({recordings[name][label]})" for name in SETS)] for label in shown]
    if len(labels) > len(shown):
        rows.append([f"all {len(labels)} labels", *(f"{chunks[n].total()} ({recordings[n].total()})" for n in SETS)])
    return format_table(["chunks (recordings)", *SETS], rows)


def multi_label_table(labels: Sequence[str], images: Sequence[ChunkImage], folds: Folds) -> str:
    """Format the numbers of recordings, chunks and tested chunks with each label, and without any."""
    named = [*labels[:_MAX_LABELS_SHOWN], _NO_LABEL]
    counts = {label: (set[Recording](), Counter[str]()) for label in (*labels, _NO_LABEL)}
    tested = set(folds.tested.tolist())
    for row, image in enumerate(images):
        if image.copy:
            continue
        for label in separate_labels(image.label) or (_NO_LABEL,):
            recordings, chunks = counts[label]
            recordings.add((image.label, image.recording))
            chunks["all"] += 1
            chunks["tested"] += row in tested
    rows = [
        [label, str(len(recordings)), str(chunks["all"]), str(chunks["tested"])]
        for label, (recordings, chunks) in counts.items()
        if label in named and recordings
    ]
    more = [f"and {len(labels) - _MAX_LABELS_SHOWN} more", "", "", ""]
    return format_table(
        ["label", "recordings", "chunks", "tested"], [*rows, more] if len(labels) > _MAX_LABELS_SHOWN else rows
    )
