"""Synthetic sounds: in range, different, the same from run to run, and a dataset of the corpus."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile
from hypothesis import example, given, settings
from hypothesis import strategies as st

from audionet.pretraining.manifest import Corpus, ManifestDataset, Utterance
from audionet.pretraining.synthetic_sounds import add_synthetic_sounds, course, filtered, synthesize
from audionet.utils.expressions import Expression


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_sounds_are_in_range_and_not_silent(seed: int) -> None:
    sound = synthesize(np.random.default_rng(seed))
    assert (sound.shape, sound.dtype) == ((80_000,), np.float32)
    assert np.abs(sound).max() == np.float32(0.5)
    np.testing.assert_array_equal(sound, synthesize(np.random.default_rng(seed)))


@given(seed=st.integers(0, 2**32 - 1))
@example(seed=67108864)  # one event, drawn before the beginning
@settings(max_examples=30, deadline=None)
def test_a_course_is_a_level_of_0_to_1(seed: int) -> None:
    level = course(np.random.default_rng(seed))
    assert level.shape == (80_000,)
    assert level.min() >= 0
    assert 0.3 < level.max() <= 1


def test_sounds_differ_in_spectrum_and_course() -> None:
    sounds = np.stack([synthesize(np.random.default_rng([0, number])) for number in range(40)])
    spectra = np.log(
        np.abs(np.fft.rfft(sounds, axis=1)).reshape(40, -1, 1).mean(axis=2)[:, :39_000].reshape(40, 30, -1).mean(axis=2)
    )
    powers = np.square(sounds).reshape(40, 50, -1).mean(axis=2)
    for features in (spectra - spectra.mean(axis=1, keepdims=True), powers / powers.max(axis=1, keepdims=True)):
        distances = np.linalg.norm(features[:, None] - features, axis=2)
        assert np.median(distances[np.triu_indices(40, 1)]) > 1


def test_a_filter_shapes_and_adds_nothing() -> None:
    generator = np.random.default_rng(0)
    assert not filtered(np.zeros(80_000), generator).any()
    tone = np.sin(2 * np.pi * 1000 * np.arange(80_000) / 16_000)
    spectrum = np.abs(np.fft.rfft(filtered(tone, generator)))
    assert int(spectrum.argmax()) == 5000


def test_they_join_the_sounds_of_a_corpus_and_are_made_once(tmp_path: Path) -> None:
    dogs = ManifestDataset("dogs", "dogs", "sound", Expression("(?P<label>.+)"), "CC0", "https://example.org")
    corpus = Corpus([dogs], {"sound": ["a", "b"]}, [Utterance(Path("a.wav"), 0, 0)], [])
    found = add_synthetic_sounds(corpus, tmp_path, 3, 1)
    assert found.labels["sound"] == ["a", "b", "synthetic 0", "synthetic 1", "synthetic 2"]
    assert [utterance.label for utterance in found.training] == [0, 2, 3, 4]
    assert [dataset.task for dataset in found.datasets] == ["sound", "sound"]
    paths = [utterance.path for utterance in found.training[1:]]
    before = [path.stat().st_mtime_ns for path in paths]
    assert {soundfile.info(path).frames for path in paths} == {80_000}
    add_synthetic_sounds(corpus, tmp_path, 3, 1)
    assert [path.stat().st_mtime_ns for path in paths] == before
    assert add_synthetic_sounds(corpus, tmp_path, 0, 1) == corpus
