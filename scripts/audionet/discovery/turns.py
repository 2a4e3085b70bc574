"""Turns: stretches of a recording in which one voice speaks."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from audionet.data.naming import recording_name
from audionet.discovery.clustering import Voices
from audionet.inference.embeddings import Embeddings
from audionet.inference.segmentation import Segment
from audionet.inference.timeline_files import label_tracks, segment_to_rttm

LABELS_CSV, LABELS_RTTM, TRACKS, VOICES = "labels.csv", "labels.rttm", "tracks", "voices"
LABELS_HEADER = ("file", "start", "end", "label", "certainty")

_BRIDGED_SECONDS = 1.5  # pauses of a voice that nobody else interrupts
_MARGIN_SECONDS = 0.1  # around a turn, for the quiet sounds at its ends
_LONGEST_SECONDS = 30.0  # a longer turn is cut between two pieces


class Turn(NamedTuple):
    """Stretch of a recording in which one voice speaks.

    Attributes
    ----------
    file : str
        Recording, as its name is written to tables.
    start, end : float
        Seconds on the recording's clock.
    voice : int
        From 0.
    certainty : float
        By how much it is more like its own voice than like the most similar other one, -2 to 2.
    """

    file: str
    start: float
    end: float
    voice: int
    certainty: float

    @property
    def seconds(self) -> float:
        """Length."""
        return self.end - self.start


def join_pieces(pieces: Embeddings, voices: Voices) -> list[Turn]:
    """Join consecutive pieces of one voice to turns, with the short pauses between them.

    Parameters
    ----------
    pieces : Embeddings
        Of pieces of speech; those of a recording consecutive, and in the order of time.
    voices : Voices
        Of these pieces.
    """
    turns: list[Turn] = []
    first = 0
    files, labels = pieces.files, voices.labels
    for place in range(1, len(files) + 1):
        if place < len(files):
            same = files[place] == files[place - 1] and labels[place] == labels[place - 1]
            pause = pieces.start[place] - pieces.end[place - 1]
            if same and pause <= _BRIDGED_SECONDS and pieces.end[place] - pieces.start[first] <= _LONGEST_SECONDS:
                continue
        start, end = float(pieces.start[first]), float(pieces.end[place - 1])
        if first and files[first - 1] == files[first]:
            start -= min(_MARGIN_SECONDS, float(pieces.start[first] - pieces.end[first - 1]) / 2)
        else:
            start = max(0.0, start - _MARGIN_SECONDS)
        if place < len(files) and files[place] == files[place - 1]:
            end += min(_MARGIN_SECONDS, float(pieces.start[place] - pieces.end[place - 1]) / 2)
        of_turn = slice(first, place)
        certainty = np.average(voices.certainty[of_turn], weights=(pieces.end - pieces.start)[of_turn])
        turns.append(Turn(files[first], start, end, int(labels[first]), float(certainty)))
        first = place
    return turns


def voice_name(voice: int) -> str:
    """Return the name of a voice that has none yet: voice_01, voice_02 ..."""
    return f"voice_{voice + 1:02d}"


def turn_path(turn: Turn) -> str:
    """Return a turn's sound file inside the output folder."""
    return f"{VOICES}/{voice_name(turn.voice)}/{recording_name(f'{turn.file}_{turn.start:09.3f}')}.wav"


def by_file(turns: Iterable[Turn]) -> dict[str, list[Turn]]:
    """Return the turns of each recording."""
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        found.setdefault(turn.file, []).append(turn)
    return found


def surest_first(turns: Iterable[Turn]) -> list[Turn]:
    """Sort turns by their certainty; a turn of less than a second says little, whatever its certainty."""
    return sorted(turns, key=lambda turn: (turn.seconds < 1, -turn.certainty))


def labels_table(turns: Sequence[Turn], names: Sequence[str | None]) -> str:
    """Return turns as CSV in the columns of `LABELS_HEADER`, which data_maker.py --labels reads; times in seconds.

    Parameters
    ----------
    turns : sequence of Turn
    names : sequence of str or None
        Label of each turn; those with None are left out.
    """
    writer = csv.writer(buffer := io.StringIO(), lineterminator="\r\n")
    writer.writerow(LABELS_HEADER)
    for turn, name in zip(turns, names, strict=True):
        if name is not None:
            writer.writerow([turn.file, f"{turn.start:.3f}", f"{turn.end:.3f}", name, f"{turn.certainty:.3f}"])
    return buffer.getvalue()


def labels_rttm(turns: Sequence[Turn], names: Sequence[str | None]) -> str:
    """Return turns in NIST's Rich Transcription Time Marked format; those with None for a name are left out."""
    return "".join(
        segment_to_rttm(Segment(turn.start, turn.end, name, 1.0, None), turn.file) + "\n"
        for turn, name in zip(turns, names, strict=True)
        if name is not None
    )


def labels_tracks(turns: Sequence[Turn], names: Sequence[str | None]) -> dict[str, str]:
    """Return each recording's turns as a label track of Audacity and a selection table of Raven.

    Returns
    -------
    dict of str to str
        Content of each file by its name; a recording whose turns all have None for a name has files without labels.
    """
    segments: dict[str, list[Segment]] = {turn.file: [] for turn in turns}
    for turn, name in zip(turns, names, strict=True):
        if name is not None:
            segments[turn.file].append(Segment(turn.start, turn.end, name, 1.0, None))
    return {
        f"{recording_name(file)}{ending}": text
        for file, some in segments.items()
        for ending, text in label_tracks(some).items()
    }


def pack_table(text: str) -> bytes:
    """Encode a table in UTF-8; bytes of a file name that are no text are escaped, so that they spoil no other row."""
    return text.encode("utf-8", "backslashreplace")


def suggest(turns: Sequence[Turn], number: int) -> list[Turn]:
    """Choose the turns whose labels would teach most: those least sure, spread over the voices.

    Returns
    -------
    list of Turn
        `number` or fewer, taken from every voice in turn, its least sure first.
    """
    of_voice: dict[int, list[Turn]] = {}
    for turn in sorted(turns, key=lambda turn: turn.certainty):
        if turn.seconds >= 1:
            of_voice.setdefault(turn.voice, []).append(turn)
    rounds = ((place, turn.certainty, turn) for some in of_voice.values() for place, turn in enumerate(some))
    return [turn for *_, turn in sorted(rounds)[:number]]
