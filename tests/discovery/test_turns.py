from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from audionet.data.label_table import read_label_table
from audionet.discovery.clustering import Voices
from audionet.discovery.turns import Turn, join_pieces, labels_rttm, labels_table, labels_tracks, suggest, surest_first
from audionet.inference.embeddings import Embeddings
from tests.support.sounds import write_tone


def joined(pieces: list[tuple[str, float, float, int]]) -> list[tuple[str, float, float, int]]:
    files, starts, ends, labels = (list(column) for column in zip(*pieces, strict=True))
    number = len(pieces)
    embeddings = Embeddings(
        files, [""] * number, np.array(starts), np.array(ends), np.zeros((number, 2), np.float32), np.ones(number, bool)
    )
    turns = join_pieces(embeddings, Voices(np.array(labels), np.full(number, 0.5)))
    return [(turn.file, pytest.approx(turn.start), pytest.approx(turn.end), turn.voice) for turn in turns]


def test_pauses_of_one_voice_are_bridged_and_others_not() -> None:
    assert joined([("a", 1, 2, 0), ("a", 3, 4, 0), ("a", 6, 7, 0)]) == [("a", 0.9, 4.1, 0), ("a", 5.9, 7.0, 0)]
    assert joined([("a", 0, 2, 0), ("a", 2.1, 4, 1), ("a", 4.1, 5, 0)]) == [
        ("a", 0.0, 2.05, 0),
        ("a", 2.05, 4.05, 1),
        ("a", 4.05, 5.0, 0),
    ]
    assert joined([("a", 0, 2, 0), ("b", 2.1, 4, 0)]) == [("a", 0.0, 2.0, 0), ("b", 2.0, 4.0, 0)]


def test_a_monologue_is_cut_into_turns_of_half_a_minute() -> None:
    turns = joined([("a", 3 * i, 3 * i + 2.9, 0) for i in range(25)])
    assert [(start, end) for _, start, end, _ in turns] == [(0.0, 29.95), (29.95, 59.95), (59.95, 74.9)]


TURNS = [
    Turn("a, b.wav", 0.0, 2.0, 0, 0.9),
    Turn("a, b.wav", 2.0, 4.0, 1, 0.2),
    Turn("c d.wav", 0.0, 0.5, 1, 0.95),
    Turn("c d.wav", 1.0, 4.0, 0, 0.1),
    Turn("c d.wav", 5.0, 9.0, 0, 0.05),
]


def test_tables_hold_every_turn_that_has_a_name() -> None:
    names = ["Änn", "Bob, jr.", None, "Änn", "Änn"]
    rows = list(csv.DictReader(io.StringIO(labels_table(TURNS, names))))
    assert [(row["file"], row["start"], row["label"]) for row in rows] == [
        ("a, b.wav", "0.000", "Änn"),
        ("a, b.wav", "2.000", "Bob, jr."),
        ("c d.wav", "1.000", "Änn"),
        ("c d.wav", "5.000", "Änn"),
    ]
    assert labels_rttm(TURNS, names).splitlines()[1].split(" ")[:8] == [
        "SPEAKER", "a,%20b.wav", "1", "2.000", "2.000", "<NA>", "<NA>", "Bob,%20jr.",
    ]  # fmt: skip


def test_tracks_are_read_as_the_labels_of_their_recordings(tmp_path: Path) -> None:
    turns = [*TURNS, Turn("day 1/e.wav", 0.0, 2.0, 0, 0.9), Turn("f.wav", 0.0, 2.0, 0, 0.9)]
    for file in {turn.file for turn in turns}:
        write_tone(tmp_path / "audio" / file, seconds=0.1)
    tracks = labels_tracks(turns, ["Änn", "Bob, jr.", None, "Änn", "Änn", "Cy", None])
    assert len(tracks) == 8
    for kind in (".txt", ".selections.txt"):
        folder = tmp_path / kind
        folder.mkdir()
        for name, text in tracks.items():
            if name.endswith(".selections.txt") == (kind == ".selections.txt"):
                (folder / name).write_text(text, "utf-8")
        assert read_label_table(folder, tmp_path / "audio").parts == {
            "Bob, jr.": {"a, b.wav": [(2.0, 4.0)]},
            "Cy": {"day 1/e.wav": [(0.0, 2.0)]},
            "Änn": {"a, b.wav": [(0.0, 2.0)], "c d.wav": [(1.0, 4.0), (5.0, 9.0)]},
        }


def test_the_least_sure_of_every_voice_are_to_be_labelled_first() -> None:
    assert suggest(TURNS, 3) == [TURNS[4], TURNS[1], TURNS[3]]
    assert suggest(TURNS, 0) == []
    assert len(suggest(TURNS, 99)) == 4  # what lasts half a second teaches nothing
    assert surest_first(TURNS)[0] == TURNS[0]
    assert surest_first(TURNS)[-1] == TURNS[2]
