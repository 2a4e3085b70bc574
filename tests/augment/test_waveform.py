from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import Recording
from audionet.audio.samples import to_int16
from audionet.augment.config import AUGMENT_KINDS, AugmentConfig
from audionet.augment.waveform import Recipe, augment_chunk, find_noise
from audionet.errors import UsageError
from tests.support.sounds import SAMPLE_AUDIO, tone, write_tone

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> np.ndarray:
    return next(iter(Recording(SAMPLE_AUDIO / "flite-slt" / "harbour.mp3", SpectrogramConfig()))).samples


def sine(frequency: float, seconds: float = 3, amplitude: float = 0.3) -> np.ndarray:
    return to_int16(tone(frequency, seconds, RATE, amplitude).astype(np.float32))


def pitch(samples: np.ndarray) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), 1 << 19))
    return float(spectrum.argmax() * RATE / (1 << 19))


def rms(samples: np.ndarray) -> float:
    return float(np.sqrt(np.square(samples.astype(float)).mean()))


def made(samples: np.ndarray, kind: str, name: str = "x", rate: int = RATE) -> np.ndarray:
    return augment_chunk(samples, rate, Recipe((kind,)), name)


@settings(max_examples=25, deadline=None)
@given(name=st.text(max_size=8), seed=st.integers(0, 3), kinds=st.sets(st.sampled_from(AUGMENT_KINDS), min_size=1))
def test_a_variant_has_one_sound_for_its_name_and_seed(speech, name: str, seed: int, kinds: set[str]) -> None:
    recipe = Recipe(tuple(sorted(kinds)), seed=seed)
    found = augment_chunk(speech, RATE, recipe, name)
    assert found.shape == speech.shape
    assert found.dtype == np.int16
    np.testing.assert_array_equal(augment_chunk(speech, RATE, recipe, name), found)
    assert not np.array_equal(augment_chunk(speech, RATE, Recipe(recipe.kinds, seed=seed + 10), name), found)
    assert not np.array_equal(augment_chunk(speech, RATE, recipe, name + "!"), found)


@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_stretching_keeps_the_pitch_and_shifting_moves_it(name: str) -> None:
    assert pitch(made(sine(440), "stretch", name)) == pytest.approx(440, abs=3)
    shifted = pitch(made(sine(440), "pitch", name))
    assert 440 * 2 ** (-2 / 12) - 3 < shifted < 440 * 2 ** (2 / 12) + 3
    assert abs(shifted - 440) > 1
    assert rms(made(sine(440), "stretch", name)[-4000:]) > 0.5 * rms(sine(440))  # no silence at the end


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_noise_is_5_to_30_db_below(speech: np.ndarray, name: str) -> None:
    noise = made(speech, "noise", name).astype(float) - speech
    assert 4.5 < 20 * np.log10(rms(speech) / rms(noise)) < 30.5


def test_recorded_noise_comes_from_the_folder(tmp_path: Path, speech: np.ndarray) -> None:
    write_tone(tmp_path / "hum.wav", 3000, 5, RATE)
    noisy = augment_chunk(speech, RATE, Recipe(("noise",), find_noise(tmp_path)), "x")
    assert pitch(noisy.astype(float) - speech) == pytest.approx(3000, abs=2)


def test_noise_cut_short_or_shorter_than_a_chunk_is_used_as_far_as_it_goes(tmp_path: Path, speech: np.ndarray) -> None:
    path = write_tone(tmp_path / "hum.flac", 3000, 20, RATE)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 20])
    noise = augment_chunk(speech, RATE, Recipe(("noise",), find_noise(tmp_path)), "x").astype(float) - speech
    assert pitch(noise) == pytest.approx(3000, abs=2)
    assert rms(noise[-RATE:]) > 0.5 * rms(noise[:RATE])


def test_another_noise_of_the_same_name_and_size_is_another_recipe(tmp_path: Path) -> None:
    found = set()
    for frequency in (400, 500):
        write_tone(tmp_path / "hum.wav", frequency, 60, RATE)
        found.add(Recipe(("noise",), find_noise(tmp_path)).described()["noise"])
    assert len(found) == 2


@pytest.mark.parametrize("name", ["a", "b", "c", "d"])
def test_gain_changes_the_level_alone(speech: np.ndarray, name: str) -> None:
    quiet = speech // 4
    louder = made(quiet, "gain", name)
    change = 20 * np.log10(rms(louder) / rms(quiet))
    assert -18.2 < change < 6.2
    assert np.corrcoef(louder, quiet)[0, 1] > 0.999


def test_a_telephone_carries_300_to_3400_hz() -> None:
    assert rms(made(sine(1000), "telephone")) > 0.2 * rms(sine(1000))
    for frequency in (60, 7000):
        assert rms(made(sine(frequency), "telephone")) < 0.05 * rms(sine(frequency))


def test_a_room_rings_after_the_sound_has_ended() -> None:
    burst = np.concatenate([sine(500, 1), np.zeros(2 * RATE, np.int16)])
    wet = made(burst, "room")
    ringing = [rms(wet[start : start + 800]) for start in (RATE + 200, RATE + 2400)]
    assert ringing[0] > 3 * ringing[1] >= 0
    assert ringing[0] > 20
    assert np.corrcoef(wet[:RATE], burst[:RATE])[0, 1] > 0.6  # the direct sound is not delayed


@pytest.mark.parametrize("rate", [1000, 8000, 16_000, 22_050, 37_123, 48_000, 96_000])
@pytest.mark.parametrize("name", ["a", "b", "c"])
def test_a_codec_loses_a_little_at_any_rate(rate: int, name: str) -> None:
    sound = to_int16(tone(200, 2, rate, 0.3).astype(np.float32))
    coded = made(sound, "codec", name, rate)
    assert not np.array_equal(coded, sound)
    assert np.corrcoef(coded, sound)[0, 1] > 0.98


def test_what_a_recipe_is_described_by(tmp_path: Path) -> None:
    plain = Recipe(("gain",), seed=3).described()
    assert plain == {"kinds": ["gain"], "noise": None, "seed": 3}
    write_tone(tmp_path / "a.wav")
    first = Recipe(("noise",), find_noise(tmp_path)).described()["noise"]
    write_tone(tmp_path / "b.wav")
    assert Recipe(("noise",), find_noise(tmp_path)).described()["noise"] != first


def test_noise_that_cannot_be_used_is_said_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no recordings"):
        find_noise(tmp_path)
    soundfile.write(tmp_path / "still.wav", np.zeros(1000), RATE)
    with pytest.raises(UsageError, match=r"still\.wav: is silent from beginning to end; remove it"):
        find_noise(tmp_path)
    (tmp_path / "still.wav").write_bytes(b"words")
    with pytest.raises(UsageError, match=r"still\.wav: cannot be decoded"):
        find_noise(tmp_path)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"augment": 51}, "augment is 51: it must be 0 to 50"),
        ({"augment_label": ("crow",)}, "augment_label is crow: it must be a label and 0 to 50"),
        ({"augment_label": ("=3",)}, "augment_label is =3"),
        ({"augment_kinds": "stretch,echo"}, "augment_kinds is stretch,echo: it must be some of stretch, pitch"),
        ({"augment_kinds": ","}, "augment_kinds is ,"),
    ],
)
def test_wrong_settings_are_named(flags, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AugmentConfig(**flags)


def test_a_label_may_hold_an_equals_sign() -> None:
    config = AugmentConfig(augment_label=("a=b=4", "crow=0"))
    assert config.by_label == {"a=b": 4, "crow": 0}
    assert config.wanted
