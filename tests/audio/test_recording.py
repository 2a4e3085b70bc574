from __future__ import annotations

import io
import os
import re
import struct
import tracemalloc
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from hypothesis import given, settings
from hypothesis import strategies as st

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import Chunk, Recording, measure, span_of
from audionet.audio.resampling import SECTION_SECONDS, resample
from audionet.audio.samples import active_part, is_silent, peak_level, to_int16, wav_bytes
from audionet.errors import RecordingError
from tests.support.sounds import SAMPLE_AUDIO, tone, write_tone

SECOND = SpectrogramConfig(chunk_seconds=1.0)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 70_000), seconds=st.sampled_from([0.1, 0.5, 1.0, 1.7]))
def test_chunks_are_the_recording_cut_up(tmp_path_factory, length: int, seconds: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.wav"
    samples = np.random.default_rng(length).integers(-30_000, 30_000, length).astype(np.int16)
    soundfile.write(path, samples, 16_000)
    config = SpectrogramConfig(chunk_seconds=seconds)
    n = config.chunk_length

    recording = Recording(path, config)
    chunks = list(recording)

    joined = np.concatenate([chunk.samples for chunk in chunks])
    rest = length % n
    kept = length - rest if length >= n and 2 * rest < n else length
    np.testing.assert_array_equal(joined[:kept], samples[:kept])
    assert not joined[kept:].any()
    assert len(joined) == n * max(1, -(-kept // n))
    assert [chunk.start for chunk in chunks] == [i * n / 16_000 for i in range(len(chunks))]
    assert recording.seconds == pytest.approx(length / 16_000)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("x.wav", {}),
        ("x.flac", {}),
        ("x.ogg", {}),
        ("x.mp3", {}),
        ("x.aiff", {}),
        ("x.wav", {"subtype": "PCM_24"}),
        ("x.wav", {"subtype": "FLOAT"}),
        ("x.wav", {"subtype": "PCM_U8"}),
    ],
)
@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
def test_any_format_and_rate_keeps_the_pitch(tmp_path: Path, name: str, options: dict[str, str], rate: int) -> None:
    write_tone(tmp_path / name, 1000, 2.2, rate, **options)
    chunks = list(Recording(tmp_path / name, SECOND))
    assert len(chunks) == 2
    spectrum = np.abs(np.fft.rfft(chunks[1].samples * np.hanning(16_000)))
    assert spectrum.argmax() == 1000  # one second: a bin a hertz
    assert spectrum.max() / (16_000 / 4) == pytest.approx(16_384, rel=0.03)  # Hann halves, a real tone has two halves


@pytest.mark.parametrize("name", ["x.mp3", "x.ogg", "x.flac"])
def test_reading_in_blocks_equals_reading_at_once(tmp_path: Path, name: str) -> None:
    write_tone(tmp_path / name, 1000, 5)
    whole, _ = soundfile.read(tmp_path / name, dtype="float32")
    blocks = np.concatenate([chunk.samples for chunk in Recording(tmp_path / name, SECOND)])
    np.testing.assert_allclose(blocks[: len(whole)], to_int16(whole)[: len(blocks)], atol=1)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(1, 70_000), overlap=st.sampled_from([0.25, 0.5, 0.75, 0.9]))
def test_overlapping_chunks_begin_a_step_apart(tmp_path_factory, length: int, overlap: float) -> None:
    path = tmp_path_factory.mktemp("cut") / "x.wav"
    samples = np.random.default_rng(length).integers(-30_000, 30_000, length).astype(np.int16)
    soundfile.write(path, samples, 16_000)
    config = SpectrogramConfig(chunk_seconds=0.5, overlap=overlap)
    step = round(8000 * (1 - overlap))
    padded = np.concatenate([samples, np.zeros(8000, np.int16)])
    chunks = list(Recording(path, config))
    for number, chunk in enumerate(chunks):
        assert (chunk.index, chunk.start) == (number, number * step / 16_000)
        np.testing.assert_array_equal(chunk.samples, padded[number * step : number * step + 8000])
    left_out = length - ((len(chunks) - 1) * step + 8000)
    assert len(chunks) == 1 or -step / 2 <= left_out < step / 2
    assert left_out < step / 2


def speech_with_silence(path: Path, loudness: float = 0.1) -> np.ndarray:
    generator = np.random.default_rng(0)
    sound = np.concatenate([np.zeros(16_000), loudness * generator.standard_normal(48_000), np.zeros(32_000)])
    soundfile.write(path, sound + 1e-5 * generator.standard_normal(96_000), 16_000, subtype="FLOAT")
    return sound


def rms_dbfs(samples: np.ndarray) -> float:
    return 20 * np.log10(np.sqrt(np.square(samples / 32768).mean()))


@pytest.mark.parametrize("level", [-40, -26, -20])
@pytest.mark.parametrize("recorded", [0.003, 0.03, 0.2])
@pytest.mark.parametrize("rate", [16_000, 11_025])
def test_loudness_brings_recordings_to_one_level(tmp_path: Path, level: float, recorded: float, rate: int) -> None:
    sound = recorded * np.random.default_rng(0).standard_normal(rate * 25)
    soundfile.write(tmp_path / "x.wav", np.clip(sound, -1, 1), rate, subtype="FLOAT")
    config = SpectrogramConfig(chunk_seconds=1, loudness=level)
    found = np.concatenate([chunk.samples for chunk in Recording(tmp_path / "x.wav", config)])
    assert rms_dbfs(found) == pytest.approx(level, abs=0.1)


def test_a_peak_limits_the_loudness(tmp_path: Path) -> None:
    sound = 0.01 * np.random.default_rng(0).standard_normal(32_000)
    sound[5000] = 0.5
    soundfile.write(tmp_path / "x.wav", sound, 16_000, subtype="FLOAT")
    config = SpectrogramConfig(chunk_seconds=1, loudness=-3)
    found = np.concatenate([chunk.samples for chunk in Recording(tmp_path / "x.wav", config)])
    assert abs(found).max() == pytest.approx(32768 * 10 ** (-1 / 20), abs=2)
    assert np.corrcoef(found, sound)[0, 1] > 0.9999  # turned up, not compressed


def test_trimming_leaves_out_both_ends_and_keeps_the_time(tmp_path: Path) -> None:
    sound = speech_with_silence(tmp_path / "x.wav")
    chunks = list(Recording(tmp_path / "x.wav", SpectrogramConfig(chunk_seconds=1, trim_silence=40)))
    assert [chunk.start for chunk in chunks] == [1.0, 2.0, 3.0]
    found = np.concatenate([chunk.samples for chunk in chunks])
    np.testing.assert_allclose(found, to_int16(sound[16_000:64_000].astype(np.float32)), atol=2)
    recording = Recording(tmp_path / "x.wav", SpectrogramConfig(chunk_seconds=1, trim_silence=120))
    assert len(list(recording)) == 6
    assert recording.seconds == 6


def test_loudness_is_that_of_what_trimming_leaves(tmp_path: Path) -> None:
    speech_with_silence(tmp_path / "x.wav")
    config = SpectrogramConfig(chunk_seconds=1, trim_silence=40, loudness=-30)
    found = np.concatenate([chunk.samples for chunk in Recording(tmp_path / "x.wav", config)])
    assert rms_dbfs(found) == pytest.approx(-30, abs=0.1)


def test_silence_stays_silence_at_any_loudness(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.full(32_000, 4 / 32768), 16_000)
    config = SpectrogramConfig(chunk_seconds=1, trim_silence=40, loudness=-20)
    assert all(is_silent(chunk.samples) for chunk in Recording(tmp_path / "x.wav", config))


@pytest.mark.parametrize(
    "levelling", [{"loudness": -20.0}, {"trim_silence": 40.0}, {"loudness": -3.0, "trim_silence": 9.0}]
)
def test_levels_measured_in_stretches_are_those_of_the_whole(tmp_path: Path, levelling: dict[str, float]) -> None:
    generator = np.random.default_rng(0)
    sound = 0.1 * generator.standard_normal(22_050 * 35) * np.repeat([0.0, 1, 0.3, 1, 0], 22_050 * 7)
    soundfile.write(tmp_path / "x.flac", sound, 22_050)
    config = SpectrogramConfig(chunk_seconds=1, sample_rate=11_025, **levelling)
    whole = span_of([measure(tmp_path / "x.flac", config)], config)
    for sections in (1, 2, 3):
        stretches = [measure(tmp_path / "x.flac", config, first, sections) for first in range(0, 4, sections)]
        span = span_of(stretches, config)
        assert (span.start, span.stop) == (whole.start, whole.stop)
        assert span.gain == pytest.approx(whole.gain, rel=1e-12)
    pieces = [c for a, b in ((0, 9), (9, None)) for c in Recording(tmp_path / "x.flac", config, whole).chunks(a, b)]
    for piece, chunk in zip(pieces, Recording(tmp_path / "x.flac", config), strict=True):
        np.testing.assert_array_equal(piece.samples, chunk.samples)


def test_damage_is_said_after_measuring_too(tmp_path: Path) -> None:
    lying_wav(tmp_path / "x.wav")
    found = []
    with pytest.raises(RecordingError, match="cut short"):
        for chunk in Recording(tmp_path / "x.wav", SpectrogramConfig(chunk_seconds=1, loudness=-30)):
            found.append(chunk)
    assert len(found) == 2


@pytest.mark.parametrize("offset", [0.005, 0.3, -0.3])
def test_a_constant_is_no_sound(tmp_path: Path, offset: float) -> None:
    quiet = np.random.default_rng(0).uniform(-1e-4, 1e-4, 16_000 * 4)
    sound = np.concatenate([quiet, tone(500, 4, amplitude=0.3), quiet])
    soundfile.write(tmp_path / "x.wav", sound, 16_000)
    soundfile.write(tmp_path / "y.wav", sound + offset, 16_000)
    for config in (
        SpectrogramConfig(chunk_seconds=1, trim_silence=40.0),
        SpectrogramConfig(chunk_seconds=1, loudness=-30),
    ):
        spans = [span_of([measure(tmp_path / name, config)], config) for name in ("x.wav", "y.wav")]
        assert (spans[0].start, spans[0].stop) == (spans[1].start, spans[1].stop)
        assert spans[1].gain == pytest.approx(spans[0].gain, rel=1e-3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
@pytest.mark.parametrize("level", [8 / 32768, 256 / 32768, -0.3])
def test_an_idle_code_is_silent(tmp_path: Path, rate: int, level: float) -> None:
    sound = np.concatenate([np.full(6 * rate, level), level + tone(500, 3, rate, 0.1), np.full(6 * rate, level)])
    soundfile.write(tmp_path / "x.wav", sound, rate)
    silent = [is_silent(chunk.samples) for chunk in Recording(tmp_path / "x.wav", SECOND)]
    # The resampler's filter rings some milliseconds before and after the tone.
    assert (silent[:5], silent[6:9], silent[10:]) == ([True] * 5, [False] * 3, [True] * 5)


def test_channels_are_averaged(tmp_path: Path) -> None:
    stereo = np.stack([tone(500, 1), tone(500, 1) * 0.5, np.zeros(16_000)], axis=1)
    soundfile.write(tmp_path / "x.wav", stereo, 16_000)
    (chunk,) = Recording(tmp_path / "x.wav", SECOND)
    np.testing.assert_allclose(chunk.samples, tone(500, 1) * 0.5 * 32768, atol=1.5)


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 5000), min_size=1, max_size=12),
    rates=st.sampled_from([(8_000, 16_000), (44_100, 16_000), (48_000, 16_000), (11_025, 16_000)]),
)
def test_resampling_a_stream_leaves_no_trace_of_its_blocks(sizes: list[int], rates: tuple[int, int]) -> None:
    signal = np.random.default_rng(0).standard_normal(sum(sizes)).astype(np.float32)
    blocks = np.split(signal, np.cumsum(sizes)[:-1])
    streamed = np.concatenate(list(resample(blocks, *rates)))
    whole = np.concatenate(list(resample([signal], *rates)))
    np.testing.assert_allclose(streamed, whole, atol=1e-5)
    assert abs(len(whole) - len(signal) * rates[1] / rates[0]) <= 1


@pytest.mark.parametrize("rates", [(44_100, 16_000), (8_000, 16_000), (11_025, 16_000)])
def test_sections_leave_no_trace_either(rates: tuple[int, int]) -> None:
    signal = np.random.default_rng(0).standard_normal(rates[0] * 35).astype(np.float32)
    sections = list(resample(np.array_split(signal, 50), *rates))
    assert [len(section) for section in sections[:-1]] == [SECTION_SECONDS * rates[1]] * 3
    np.testing.assert_allclose(np.concatenate(sections), soxr.resample(signal, *rates), atol=1e-4)


def test_a_chunk_read_back_is_the_same_chunk(tmp_path: Path) -> None:
    samples = np.random.default_rng(1).integers(-32_768, 32_768, 16_000).astype(np.int16)
    (tmp_path / "x.wav").write_bytes(wav_bytes(samples, 16_000))
    (chunk,) = Recording(tmp_path / "x.wav", SECOND)
    np.testing.assert_array_equal(chunk.samples, samples)
    with wave.open(str(tmp_path / "x.wav")) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, 16_000)


def test_too_loud_is_clipped_not_wrapped() -> None:
    np.testing.assert_array_equal(to_int16(np.array([2.0, -2.0, 0.5], np.float32)), [32767, -32768, 16384])


def test_absurdly_loud_samples_are_levelled_without_a_word(tmp_path: Path) -> None:
    loud = np.full((16_000, 2), 3e38, np.float32) * np.array([1, 0.5], np.float32)
    soundfile.write(tmp_path / "x.wav", loud, 44_100, subtype="FLOAT")
    (chunk,) = Recording(tmp_path / "x.wav", SpectrogramConfig(chunk_seconds=0.3))
    assert chunk.samples[2000] == pytest.approx(32_768 * 10 ** (-1 / 20), abs=1)


def test_silence_is_three_bits_or_less() -> None:
    assert is_silent(np.array([8, -8, 0], np.int16))
    assert is_silent(np.array([1008, 992, 1000], np.int16))  # a constant is no sound
    assert not is_silent(np.array([17, 0, 0], np.int16))
    assert not is_silent(np.array([-32768, 0, 0], np.int16))


def test_a_name_that_is_not_utf8(tmp_path: Path) -> None:
    path = Path(os.fsdecode(bytes(tmp_path) + b"/caf\xe9 \n.flac"))
    write_tone(path, seconds=1.0)
    assert len(list(Recording(path, SECOND))) == 1


def damaged_flac(path: Path) -> None:
    # Noise compresses evenly, so the damage lands where the place in the file says.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000 * 6)
    soundfile.write(path, noise, 16_000, format="FLAC")
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 20_000] = bytes(20_000)
    path.write_bytes(data)


def cut_mp3(path: Path) -> None:
    data = (SAMPLE_AUDIO / "flite-slt" / "harbour.mp3").read_bytes()
    path.write_bytes(data[: len(data) // 2])


def lying_wav(path: Path) -> None:
    write_tone(path, seconds=2.0, format="WAV")
    data = bytearray(path.read_bytes())
    place = data.find(b"data")
    data[place + 4 : place + 8] = struct.pack("<I", 16_000 * 2 * 10)
    path.write_bytes(data)


def cut_aiff(path: Path) -> None:
    write_tone(path, seconds=4.0, format="AIFF")
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 4])


def piped_wav(path: Path) -> None:
    lying_wav(path)
    data = bytearray(path.read_bytes())
    place = data.find(b"data")
    data[place + 4 : place + 8] = b"\xff\xff\xff\xff"
    path.write_bytes(data)


def nan_wav(path: Path) -> None:
    samples = tone(440, 3.0)
    samples[40_000] = np.nan
    soundfile.write(path, samples, 16_000, format="WAV", subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "chunks", "message"),
    [
        (lambda path: path.write_bytes(b""), 0, "the file is empty"),
        (lambda path: path.write_text("not sound\n" * 100), 0, "cannot be decoded"),
        (lambda path: path.write_bytes(wav_bytes(np.zeros(0, np.int16), 16_000)), 0, "its length is zero"),
        (lambda path: None, 0, "cannot be read: No such file"),
        (lambda path: path.mkdir(), 0, "is a folder"),
        (lambda path: os.mkfifo(path), 0, "is a pipe"),
        (cut_aiff, 1, r"cut short: its header promises 4\.0 s, it holds 1\.0 s"),
        (cut_mp3, 14, r"cut short: its header promises 29\.\d s, it holds 14\.\d s"),
        (lying_wav, 2, r"cut short: its header promises 10\.0 s, it holds 2\.0 s"),
        (nan_wav, 2, r"not numbers .* after 2\.\d s"),
    ],
)
def test_damage_is_one_clear_line_after_the_sound_before_it(
    tmp_path: Path, make, chunks: int, message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.mp3"
    make(path)
    found: list[Chunk] = []
    with pytest.raises(RecordingError, match=message) as error:
        for chunk in Recording(path, SECOND):
            found.append(chunk)
    assert len(found) == chunks
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""  # mpg123 and libsndfile keep quiet


def test_a_wav_written_to_a_pipe_is_whole(tmp_path: Path) -> None:
    piped_wav(tmp_path / "x.wav")
    assert len(list(Recording(tmp_path / "x.wav", SECOND))) == 2


def test_damage_in_the_middle_is_counted_and_the_rest_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    damaged_flac(tmp_path / "x.flac")
    recording = Recording(tmp_path / "x.flac", SECOND)
    assert [chunk.index for chunk in recording] == list(range(6))
    (remark,) = recording.remarks
    assert re.fullmatch(r"\d+ damaged frames? at 0:0[23]", remark)
    assert capfd.readouterr().err == ""


def test_a_damaged_beginning_is_not_taken_for_a_short_recording(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, 16_000)
    soundfile.write(tmp_path / "x.flac", noise, 16_000)
    data = bytearray((tmp_path / "x.flac").read_bytes())
    data[len(data) * 6 // 10 :] = bytes(len(data) - len(data) * 6 // 10)
    (tmp_path / "x.flac").write_bytes(data)
    with pytest.raises(RecordingError, match=r"cut short: its header promises 1\.0 s, it holds 0\.\d s"):
        for _ in Recording(tmp_path / "x.flac", SpectrogramConfig(chunk_seconds=3)):
            pytest.fail("half a second was padded to three")


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    def peak(seconds: int) -> int:
        path = tmp_path / f"{seconds}.flac"
        with soundfile.SoundFile(path, "w", 44_100, 2) as file:
            second = np.stack([tone(440, 1, 44_100)] * 2, axis=1)
            for _ in range(seconds):
                file.write(second)
        tracemalloc.start()
        for _ in Recording(path, SpectrogramConfig()):
            pass
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    short = peak(60)
    assert peak(600) < 1.2 * short


def test_wav_bytes_need_no_seeking() -> None:
    data, rate = soundfile.read(io.BytesIO(wav_bytes(np.array([1, -1], np.int16), 8_000)), dtype="int16")
    assert rate == 8_000
    np.testing.assert_array_equal(data, [1, -1])


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 70_000), max_size=12, unique=True))
def test_excerpts_are_the_samples_of_parts_as_they_are(tmp_path_factory, edges: list[int]) -> None:
    path = tmp_path_factory.mktemp("excerpts") / "x.wav"
    samples = np.random.default_rng(0).integers(-30_000, 30_000, 60_000).astype(np.int16)
    soundfile.write(path, samples, 16_000)
    times = sorted(edges)[: len(edges) // 2 * 2]
    parts = list(zip(times[::2], times[1::2], strict=True))
    found = list(Recording(path, SECOND).excerpts([(begin / 16_000, end / 16_000) for begin, end in parts]))
    inside = [part for part in parts if part[0] < len(samples)]
    assert len(found) == len(inside)
    for excerpt, (begin, end) in zip(found, inside, strict=True):
        np.testing.assert_array_equal(excerpt, samples[begin:end])


def test_a_clip_to_judge_begins_with_its_sound(tmp_path: Path) -> None:
    """Faint noise, a tone, a long pause and the tone again: whole chunks of sound, at their times."""
    faint = 1e-4 * np.random.default_rng(0).standard_normal(160_000)
    sound = np.concatenate([faint, tone(440, 2), np.zeros(90_000), tone(440, 2)])
    soundfile.write(tmp_path / "x.wav", sound, 16_000)
    config = SpectrogramConfig(chunk_seconds=2.0)
    aligned = [
        chunk for chunk in Recording(tmp_path / "x.wav", config, aligned=True) if np.abs(chunk.samples).max() > 999
    ]
    assert [chunk.start for chunk in aligned] == pytest.approx([10.0, 12 + 90_000 / 16_000], abs=0.051)
    for chunk in aligned:
        begin, end = active_part(chunk.samples, 16_000)
        assert begin <= 1600
        assert end >= 0.95 * len(chunk.samples)
    grid = [chunk.start for chunk in Recording(tmp_path / "x.wav", config)]
    assert grid == [2.0 * i for i in range(len(grid))]


def test_levels_and_the_active_part_are_the_sounds() -> None:
    samples = np.zeros(48_000, np.int16)
    samples[16_000:24_000] = (32767 * tone(440, 0.5)).astype(np.int16)
    assert peak_level(samples, 16_000) == pytest.approx(10 * np.log10(0.5**2 / 2), abs=0.1)
    assert active_part(samples, 16_000) == (16_000, 24_000)
    assert active_part(np.zeros(100, np.int16), 16_000) == (0, 100)
    assert peak_level(np.zeros(100, np.int16), 16_000) == -100
