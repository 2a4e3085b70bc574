"""Chunks that training leaves out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audionet.backbones.bottlenecks import Bottlenecks
from audionet.backbones.cache import Records
from audionet.backbones.voice_space import VoiceSpace
from audionet.data.dataset import ChunkImage
from audionet.training.speech import without_pauses
from tests.support.features import InMemory

NONE = np.zeros((0, 0), np.float32)
LISTENER = VoiceSpace(NONE, NONE[:, 0:], NONE, np.float32([1.0]), 0.0)
"""Hears speech where the only feature is above 0."""


def bottlenecks(rows: list[tuple[str, str, int, float, float, int]]) -> Bottlenecks:
    """Make images of label, recording, index, speech, activity and number of the augmented copy."""
    records = np.zeros(len(rows), [("network", "<f4", (1,)), ("activity", "<f4")])
    records["network"] = np.array([[speech] for *_, speech, _, _ in rows])
    records["activity"] = [activity for *_, activity, _ in rows]
    images = [
        ChunkImage(label, name, index, Path("x"), f"{i}.jpg", copy)
        for i, (label, name, index, _, _, copy) in enumerate(rows)
    ]
    keys = np.zeros(len(rows), "V16")
    found = Records([InMemory(records)], np.zeros(len(rows), int), np.arange(len(rows)))
    return Bottlenecks(images, keys, found, len(rows), 0, 0.0, "LiteRT")


TALKS = [
    (label, f"r{r}", i, -1.0 if i == 2 else 1.0, 1.0, 0) for label in ("ann", "ben") for r in range(3) for i in range(4)
]
"""Talks of four chunks, of which the third is a pause."""


def kept(found: Bottlenecks) -> list[tuple[str, str, int, int]]:
    return [(image.label, image.recording, image.index, image.copy) for image in found.images]


@pytest.mark.parametrize(("speech", "spoken"), [("auto", True), ("on", True), ("off", False)])
def test_pauses_of_spoken_labels_are_left_out(speech: str, spoken: bool, caplog: pytest.LogCaptureFixture) -> None:
    found, is_spoken = without_pauses(bottlenecks(TALKS), LISTENER, speech)
    assert is_spoken == spoken
    assert len(found.images) == (18 if spoken else 24)
    assert len(found.keys) == len(found.records) == len(found.images)
    assert ("6 chunks without speech of 24 left out" in caplog.text) == spoken


def test_labels_that_are_not_spoken_keep_every_chunk() -> None:
    sounds = [(label, f"r{r}", 0, -1.0 if r else 1.0, 1.0, 0) for label in ("rain", "dog") for r in range(5)]
    found, spoken = without_pauses(bottlenecks(sounds), LISTENER, "auto")
    assert not spoken
    assert len(found.images) == 10
    assert without_pauses(bottlenecks(TALKS), None, "auto")[1] is False


def test_recordings_without_speech_and_the_background_stay_whole() -> None:
    rows = [*TALKS, *(("ann", "whisper", i, -1.0, 1.0, 0) for i in range(3)), ("_unknown_", "noise", 0, -1.0, 1.0, 0)]
    found, spoken = without_pauses(bottlenecks(rows), LISTENER, "on")
    assert spoken
    names = kept(found)
    assert sum(name == "whisper" for _, name, _, _ in names) == 3
    assert ("_unknown_", "noise", 0, 0) in names


def test_copies_follow_their_chunk() -> None:
    rows = [*TALKS, ("ann", "r0", 2, 1.0, 1.0, 1), ("ann", "r0", 1, -1.0, 1.0, 1)]
    names = kept(without_pauses(bottlenecks(rows), LISTENER, "on")[0])
    assert ("ann", "r0", 2, 1) not in names
    assert ("ann", "r0", 1, 1) in names


def test_a_nearly_empty_last_chunk_is_left_out() -> None:
    rows = [("rain", "a", 0, -1.0, 0.9, 0), ("rain", "a", 1, -1.0, 0.3, 0), ("dog", "b", 0, -1.0, 0.1, 0)]
    assert kept(without_pauses(bottlenecks(rows), LISTENER, "auto")[0]) == [("rain", "a", 0, 0), ("dog", "b", 0, 0)]
