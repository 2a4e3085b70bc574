from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from audionet.audio.resampling import perturb_speed, resample_samples
from audionet.audio.samples import to_float, to_int16
from audionet.augment.config import PROBE_CONDITIONS
from audionet.augment.distortion import (
    TITLES,
    active_samples,
    add_noise,
    apply_condition,
    mu_law,
    pink_noise,
    simulate_telephone,
)
from audionet.utils.arrays import Int16Array
from tests.support.sounds import tone

RATE = 16_000
TOP = RATE / 2


def sound_of(values: NDArray[np.floating]) -> Int16Array:
    return to_int16(values.astype(np.float32))


def decibels(power: float, of: float) -> float:
    return 10 * np.log10(power / of)


def power_between(samples: Int16Array, low: float, high: float) -> float:
    frequencies = np.fft.rfftfreq(len(samples), 1 / RATE)
    power = np.abs(np.fft.rfft(samples / 32768)) ** 2
    return float(power[(frequencies >= low) & (frequencies < high)].sum())


def white(seconds: float, level: float = 0.1) -> Int16Array:
    return sound_of(level * np.random.default_rng(1).standard_normal(round(seconds * RATE)))


@pytest.mark.parametrize("snr", [10.0, 0.0])
def test_the_noise_is_as_far_below_the_sounding_part_as_asked(snr: float) -> None:
    voice = sound_of(np.concatenate([np.zeros(RATE), tone(500, 1, amplitude=0.2), np.zeros(2 * RATE)]))
    noisy = add_noise(voice, RATE, snr, np.random.default_rng(0))
    heard = slice(RATE, 2 * RATE)
    noise = noisy.astype(float) - voice
    measured = decibels(np.square(voice[heard], dtype=float).mean(), np.square(noise[heard]).mean())
    assert measured == pytest.approx(snr, abs=0.05)
    assert np.square(noise[:RATE]).mean() > 0  # also where nobody speaks


def test_loud_sound_with_noise_is_made_quieter_and_not_clipped() -> None:
    voice = sound_of(tone(500, 1, amplitude=1.0))
    noisy = add_noise(voice, RATE, 10, np.random.default_rng(0)).astype(float)
    gain = noisy @ voice / (voice.astype(float) @ voice)
    noise = noisy - gain * voice
    assert gain < 0.9
    assert decibels(gain**2 * np.square(voice, dtype=float).mean(), np.square(noise).mean()) == pytest.approx(
        10, abs=0.2
    )
    assert np.sum(np.abs(noisy) >= 32767) <= 1


@pytest.mark.parametrize("condition", ["noise", "faster", "telephone"])
def test_nothing_is_heard_that_the_recording_cannot_hold(condition: str) -> None:
    sound = np.random.default_rng(1).standard_normal(8000)
    changed = resample_samples(apply_condition(condition, sound_of(0.1 * sound), 8000, 0, "a"), 8000, RATE)
    assert decibels(power_between(changed, 4100, TOP), power_between(changed, 2000, 3000)) < -30


def test_noise_is_pink() -> None:
    noise = pink_noise(20 * RATE, RATE, np.random.default_rng(0))
    octaves = [power_between(noise * 1000, low, 2 * low) for low in (62.5, 250, 1000, 2000)]
    assert max(octaves) < 1.3 * min(octaves)


def test_each_recording_has_its_own_noise_always_the_same() -> None:
    voice = sound_of(tone(500, 0.5))
    once, again, other, seeded = (
        apply_condition("noise", voice, RATE, seed, name) for seed, name in ((0, "a"), (0, "a"), (0, "b"), (1, "a"))
    )
    np.testing.assert_array_equal(once, again)
    assert not np.array_equal(once, other)
    assert not np.array_equal(once, seeded)


def test_what_is_outside_the_telephone_band_falls_by_20_db() -> None:
    sound = white(4)
    heard = to_int16(simulate_telephone(to_float(sound), RATE))
    assert len(heard) == len(sound)
    for low, high in ((0, 300), (3400, TOP)):
        assert decibels(power_between(heard, low, high), power_between(sound, low, high)) < -20
    assert abs(decibels(power_between(heard, 400, 3200), power_between(sound, 400, 3200))) < 1


def test_a_telephone_has_eight_bits() -> None:
    heard = to_int16(simulate_telephone(tone(1000, 1, amplitude=0.3), RATE))
    settled = heard[RATE // 2 :]
    total, at_tone = power_between(settled, 0, TOP), power_between(settled, 980, 1020)
    assert 30 < decibels(at_tone, total - at_tone) < 45  # mu-law's 38 dB or so; the filter alone leaves 60 and more


@pytest.mark.parametrize("factor", [1.1, 0.9])
def test_speed_moves_pitch_and_length(factor: float) -> None:
    changed = perturb_speed(sound_of(tone(1000, 2)), factor)
    assert abs(len(changed) - 2 * RATE / factor) <= 1
    spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed))))
    pitch = spectrum.argmax() * RATE / len(changed)
    assert pitch == pytest.approx(1000 * factor, abs=RATE / len(changed))


def test_pauses_do_not_sound() -> None:
    voice = sound_of(np.concatenate([tone(500, 1), 0.001 * tone(500, 1)]))
    assert active_samples(voice, RATE).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("condition", TITLES)
@pytest.mark.parametrize("samples", [np.zeros(4000, np.int16), np.ones(1, np.int16), np.full(999, -32768, np.int16)])
def test_odd_sounds_are_taken(condition: str, samples: Int16Array) -> None:
    changed = apply_condition(condition, samples, RATE, 0, "a")
    assert changed.dtype == np.int16
    assert not changed.any() or samples.any()


def test_every_condition_has_a_title_and_changes_something() -> None:
    assert set(TITLES) == {"clean", *PROBE_CONDITIONS}
    voice = white(0.5)
    np.testing.assert_array_equal(apply_condition("clean", voice, RATE, 0, "a"), voice)
    for condition in PROBE_CONDITIONS:
        assert not np.array_equal(apply_condition(condition, voice, RATE, 0, "a"), voice)


@given(st.floats(-1, 1, width=32))
def test_mu_law_keeps_six_bits_of_whatever_is_loud_enough(value: float) -> None:
    (kept,) = mu_law(np.array([value], np.float32))
    assert abs(kept - value) <= 0.025 * abs(value) + 1e-4


def test_mu_law_has_255_levels() -> None:
    assert len(np.unique(mu_law(np.linspace(-1, 1, 200_001, dtype=np.float32)))) == 255
