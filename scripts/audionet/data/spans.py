"""Labelled times of a recording: joined, without overlaps, or with all the labels that apply."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from audionet.data.naming import join_labels, label_cell_problem

Span = tuple[float, float]
"""Start and end, seconds; the end is infinity where it is the recording's."""

WHOLE: Span = (0.0, math.inf)

_SLIVER_SECONDS = 0.3  # what is left between labels, or beside an overlap, and shorter is no sound of its own


def join_spans(spans: Iterable[Span]) -> list[Span]:
    """Sort spans, and join those that overlap or touch."""
    joined: list[Span] = []
    for start, end in sorted(spans):
        if joined and start <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((start, end))
    return joined


def without_overlaps(labels: Mapping[str, Sequence[Span]]) -> tuple[dict[str, list[Span]], float]:
    """Leave out the times at which several labels apply.

    Parameters
    ----------
    labels : mapping of str to sequence of Span
        Joined spans of each label.

    Returns
    -------
    alone : dict of str to list of Span
        Parts of each label where no other applies, without slivers.
    lost : float
        Seconds with several labels; those up to the unknown end of a recording count as none.
    """
    alone: dict[str, list[Span]] = {label: [] for label in labels}
    lost = 0.0
    for span, active in _constant_parts(labels):
        if len(active) == 1:
            alone[next(iter(active))].append(span)
        elif span[1] < math.inf:
            lost += span[1] - span[0]
    return _without_slivers(alone, labels), lost


def with_joined_labels(labels: Mapping[str, Sequence[Span]]) -> tuple[dict[str, list[Span]], float]:
    """Join the labels of the times at which several apply: ``dog;rain``.

    Parameters
    ----------
    labels : mapping of str to sequence of Span
        Joined spans of each label.

    Returns
    -------
    parts : dict of str to list of Span
        Parts of each label, or several, where no other applies, without slivers.
    lost : float
        Seconds with so many labels that their names together are no folder's name.
    """
    parts: dict[str, list[Span]] = defaultdict(list)
    lost = 0.0
    for span, active in _constant_parts(labels):
        joined = join_labels(active)
        if label_cell_problem(joined) is None:
            parts[joined].append(span)
        elif span[1] < math.inf:
            lost += span[1] - span[0]
    return _without_slivers(parts, labels), lost


def _constant_parts(labels: Mapping[str, Sequence[Span]]) -> Iterator[tuple[Span, frozenset[str]]]:
    """Yield the times between two changes at which labels apply, with these labels."""
    edges = sorted(
        (time, change, label)
        for label, spans in labels.items()
        for span in spans
        for time, change in zip(span, (1, -1), strict=True)
    )
    active: set[str] = set()
    before = 0.0
    for time, change, label in edges:
        if time > before and active:
            yield (before, time), frozenset(active)
        before = time
        (active.add if change > 0 else active.discard)(label)


def _without_slivers(
    parts: Mapping[str, Sequence[Span]], labels: Mapping[str, Sequence[Span]]
) -> dict[str, list[Span]]:
    """Join parts, and leave out what is shorter than a sound and was not labelled so."""
    whole = {span for spans in labels.values() for span in spans}
    return {
        label: [span for span in join_spans(spans) if span in whole or span[1] - span[0] >= _SLIVER_SECONDS]
        for label, spans in parts.items()
    }


def complement(spans: Sequence[Span]) -> list[Span]:
    """Return the times from 0 to the end of the recording that are in no span, but for slivers."""
    free: list[Span] = []
    before = 0.0
    for start, end in join_spans(spans):
        if start - before >= _SLIVER_SECONDS:
            free.append((before, start))
        before = end
    return free if before == math.inf else [*free, (before, math.inf)]
