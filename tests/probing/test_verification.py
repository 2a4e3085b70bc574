"""Verification in probes: materials, pairs and ways of comparing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audionet.errors import UsageError
from audionet.probing.config import ProbeConfig
from audionet.probing.features import ClipFeatures, Network
from audionet.probing.tasks import ACCENTED, Excerpt, VerificationMaterial, find_verification
from audionet.probing.verification import find_pairs, verify
from tests.support.features import WIDTH, speakers, voice_space

NETWORK = Network("network", Path(), (8, 8))


def material(of: list[str], pairs: list[tuple[int, int, bool]] | None = None) -> VerificationMaterial:
    excerpts = [Excerpt(Path(f"{i}.wav"), str(i), "testing") for i in range(len(of))]
    return VerificationMaterial("voices", "all pairs", excerpts, tuple(of), pairs)


def clips_of(vectors: np.ndarray) -> list[ClipFeatures]:
    return [ClipFeatures(i, "clean", 0.0, 3.0, {"network": row}) for i, row in enumerate(vectors)]


def test_all_pairs_are_compared_and_equal_voices_have_no_errors() -> None:
    vectors = np.repeat(np.eye(4, 6, dtype=np.float32), 3, axis=0)
    found = verify(material([str(i // 3) for i in range(12)]), clips_of(vectors), [NETWORK], [None], 0)
    assert found is not None
    assert (found.speakers, found.recordings, found.targets, found.nontargets) == (4, 12, 12, 54)
    (row,) = found.rows
    assert (row.comparison, row.equal_error_rate, row.low, row.high, row.min_dcf) == ("standardised cosine", 0, 0, 0, 0)


def test_a_voice_space_tells_voices_apart_that_the_features_hide() -> None:
    """Features differ between speakers in ten dimensions, and vary three times as much in the next ten."""
    sample = speakers(12, 6, seed=3, first=500)
    assert sample.features.shape[1] == WIDTH
    found = verify(material(list(map(str, sample.labels))), clips_of(sample.features), [NETWORK], [voice_space()], 0)
    assert found is not None
    rates = {row.comparison: row.equal_error_rate for row in found.rows}
    assert rates["voice space"] < 0.5 * rates["standardised cosine"]
    assert rates["voice space, cohort"] < 0.5 * rates["standardised cosine"]
    for row in found.rows:
        assert row.low <= row.equal_error_rate <= row.high


def test_a_voice_embedding_is_compared_as_it_is_too() -> None:
    network = NETWORK._replace(voice_width=3)
    voices = np.repeat(np.eye(3, dtype=np.float32), 4, axis=0)
    clips = [
        ClipFeatures(i, "clean", 0.0, 3.0, {"network, bottleneck": np.float32([i % 4, 1]), "network, voice": voice})
        for i, voice in enumerate(voices)
    ]
    found = verify(material([str(i // 4) for i in range(12)]), clips, [network], [None], 0)
    assert found is not None
    assert [(row.features, row.comparison) for row in found.rows] == [
        ("network", "standardised cosine"),
        ("network, voice", "cosine"),
    ]
    assert found.rows[1].equal_error_rate == 0


def test_listed_pairs_alone_are_compared_and_unusable_recordings_left_out() -> None:
    listed = [(0, 1, True), (1, 2, False), (2, 3, True)]
    pairs = find_pairs(material(["a", "a", "b", "b"], listed), [0, 1, 2], np.array([0, 0, 1]))
    assert (pairs.first.tolist(), pairs.second.tolist(), pairs.target.tolist()) == ([0, 1], [1, 2], [True, False])
    nothing = find_pairs(material(["a", "b"], listed), [3], np.array([0]))
    assert len(nothing.target) == 0
    assert verify(material(["a", "a"]), clips_of(np.eye(2, 3, dtype=np.float32)), [NETWORK], [None], 0) is None


def test_the_last_readers_halves_and_the_last_speakers_are_found(tmp_path: Path) -> None:
    for number in range(100, 160):
        (tmp_path / "libri251").mkdir(exist_ok=True)
        (tmp_path / "libri251" / f"{number}-1-0000.flac").touch()
    for number in range(30):
        for utterance in range(2):
            path = tmp_path / "speechocean" / f"s{number:02}" / f"{utterance}.opus"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    readers, accented = find_verification(ProbeConfig(data_dir=tmp_path))
    assert len(readers.excerpts) == 2 * 51
    assert {(excerpt.start, excerpt.stop) for excerpt in readers.excerpts} == {(0, 0.5), (0.5, 1)}
    assert set(accented.speakers) == {f"s{number:02}" for number in range(30 - ACCENTED, 30)}
    assert len(accented.excerpts) == 2 * ACCENTED


def test_listed_pairs_are_read_from_a_file(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(100), 16_000)
    listed = tmp_path / "pairs.txt"
    listed.write_text("1 a.wav b.wav\n\n0 b.wav c.wav\n")
    (found,) = find_verification(ProbeConfig(data_dir=tmp_path, pairs=listed))
    assert found.pairs == [(0, 1, True), (1, 2, False)]
    assert found.speakers[0] == found.speakers[1] != found.speakers[2]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("1 a.wav\n", "line 1: expected 0 or 1 and two paths"),
        ("1 a.wav b.wav\nyes a.wav b.wav\n", "line 2: expected"),
        ("0 a.wav nowhere.wav\n", r"line 1: .*nowhere\.wav does not exist"),
        ("1 a.wav b.wav\n", "must list pairs of one speaker and pairs of two"),
        ("", "must list pairs"),
    ],
)
def test_a_wrong_list_of_pairs_names_the_line(tmp_path: Path, content: str, complaint: str) -> None:
    for name in ("a", "b"):
        soundfile.write(tmp_path / f"{name}.wav", np.zeros(100), 16_000)
    listed = tmp_path / "pairs.txt"
    listed.write_text(content)
    config: Callable[[], ProbeConfig] = lambda: ProbeConfig(data_dir=tmp_path, pairs=listed)  # noqa: E731
    with pytest.raises(UsageError, match=complaint) as error:
        find_verification(config())
    assert len(str(error.value).splitlines()) == 1
    with pytest.raises(UsageError, match="cannot be read"):
        find_verification(ProbeConfig(data_dir=tmp_path, pairs=tmp_path / "missing.txt"))
