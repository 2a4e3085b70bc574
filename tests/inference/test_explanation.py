"""Explanations: evidence that was planted is found, for labels of all kinds of models."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import audionet
from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import colour, level_of, render
from audionet.audio.network_input import features_of
from audionet.cli.label import main as label
from audionet.data.dataset import dataset_json
from audionet.data.naming import DATASET_JSON
from audionet.errors import AudioNetError, DatasetError, RecordingError, UsageError
from audionet.export.publish import publish
from audionet.inference.clip import Clip
from audionet.inference.explanation import MOST_CHUNKS, Explanation, evidence, explain, explain_image
from audionet.inference.occlusion import occluded
from audionet.inference.predictor import Predictor
from audionet.inference.verification import enrol_from_clips
from audionet.training.config import RetrainConfig
from audionet.training.trainer import train
from audionet.utils.files import write_json
from tests.support.chords import chord
from tests.support.sounds import tone

SPECTROGRAM = SpectrogramConfig(chunk_seconds=1.0)
BEEP = (0.6, 0.75, 2400.0)  # start, end, Hz


def planted(beeps: bool, seed: int, seconds: int = 1) -> np.ndarray:
    """Four tones of any pitch in each second and, in the first one, a beep, which alone tells the two labels apart.

    The tones are the loudest in both: levels are relative to that.
    """
    generator = np.random.default_rng(seed)
    sound = 3e-4 * generator.standard_normal(16_000 * seconds)
    for place in range(4 * seconds):
        pitch = generator.choice([generator.uniform(200, 1500), generator.uniform(3500, 7000)])
        sound[4000 * place :][:4000] += faded(tone(pitch, 0.25, amplitude=generator.uniform(0.3, 0.6)))
    if beeps:
        start, end, pitch = BEEP
        sound[round(16_000 * start) : round(16_000 * end)] += faded(tone(pitch, end - start, amplitude=0.2))
    return sound


def faded(sound: np.ndarray) -> np.ndarray:
    """Fade 50 ms in and out: an abrupt end is heard at every pitch."""
    fade = 0.5 - 0.5 * np.cos(np.pi * np.arange(800) / 800)
    return sound * np.concatenate([fade, np.ones(len(sound) - 1600), fade[::-1]])


@pytest.fixture(scope="module")
def planted_model(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """A model of two labels, "beep" and "hum", on the bundled backbone."""
    folder = tmp_path_factory.mktemp("planted")
    images = folder / "data_image"
    for name, beeps in (("beep", True), ("hum", False)):
        (images / name).mkdir(parents=True)
        for number in range(20):
            jpg = render((32_767 * planted(beeps, number + 100 * beeps)).astype(np.int16), SPECTROGRAM)
            (images / name / f"{number}.wav_nohash_0000.jpg").write_bytes(jpg)
    write_json(images / DATASET_JSON, dataset_json(SPECTROGRAM, {}, None, complete=True))
    config = RetrainConfig(
        image_dir=images,
        bottleneck_dir=folder / "bottlenecks",
        model_dir=model_dir,
        checkpoint_dir=folder / "checkpoints",
        summaries_dir=folder / "summaries",
        output_graph=folder / "retrained_graph.tflite",
        output_labels=folder / "retrained_labels.txt",
    )
    publish(train(config), config)
    return config.output_graph


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    def write(name: str, sound: np.ndarray) -> Path:
        soundfile.write(tmp_path / name, sound, 16_000)
        return tmp_path / name

    return write


def mass_around_the_beep(found: Explanation) -> float:
    """Share of the evidence within a window's width of the planted beep."""
    assert found.frequencies is not None
    start, end, pitch = BEEP
    times = (found.times > start - 1 / 12) & (found.times < end + 1 / 12)
    rows = np.abs(found.frequencies - pitch) < 900
    mass = np.maximum(found.relevance, 0)
    return float(mass[np.ix_(rows, times)].sum() / mass.sum())


@pytest.mark.parametrize("seed", [999, 1000, 1001])
def test_planted_evidence_lights_up_where_it_is(planted_model: Path, clip: Callable[..., Path], seed: int) -> None:
    answer, found = explain(Predictor(planted_model), clip("new.wav", planted(True, seed)))
    assert answer.decision.label == found.label == "beep"
    assert found.frequencies is not None
    row, frame = np.unravel_index(found.relevance.argmax(), found.relevance.shape)
    assert BEEP[0] - 0.02 <= found.times[frame] <= BEEP[1] + 0.02
    assert found.frequencies[row] == pytest.approx(BEEP[2], rel=0.1)
    assert mass_around_the_beep(found) > 0.65  # of a twentieth of the area
    region = found.region
    assert region is not None
    assert (region.start, region.end) == (pytest.approx(BEEP[0], abs=0.08), pytest.approx(BEEP[1], abs=0.08))
    assert region.low is not None
    assert region.high is not None
    assert region.low <= BEEP[2] <= region.high
    assert found.summary().startswith("most of the evidence for beep: 0.6 to 0.")
    assert found.unit == "log-odds"


def test_the_same_sound_speaks_against_the_other_label(planted_model: Path, clip: Callable[..., Path]) -> None:
    path = clip("new.wav", planted(True, 999))
    model = audionet.load_model(planted_model)
    of_beep, of_hum = model.explain(path, "beep"), model.explain(path, label="hum")
    assert of_hum.label == "hum"
    np.testing.assert_allclose(of_hum.relevance, -of_beep.relevance, atol=1e-4)


def test_a_late_beep_is_found_on_the_clock_of_the_clip(planted_model: Path, clip: Callable[..., Path]) -> None:
    sound = np.concatenate([planted(False, 5, seconds=3), planted(True, 6)])
    found = audionet.load_model(planted_model).explain(sound, "beep", sample_rate=16_000)
    assert found.times.shape == (found.relevance.shape[1],)
    assert (np.diff(found.times) > 0).all()
    assert found.times[-1] == pytest.approx(4, abs=0.02)
    assert found.times[found.relevance.max(axis=0).argmax()] == pytest.approx(3 + sum(BEEP[:2]) / 2, abs=0.1)


def test_of_a_long_clip_the_chunks_with_most_evidence_are_explained(planted_model: Path) -> None:
    sound = np.concatenate([planted(number in (2, 17), number) for number in range(20)])
    found = audionet.load_model(planted_model).explain(sound, "beep", sample_rate=16_000)
    assert len(found.times) == MOST_CHUNKS * SPECTROGRAM.frames
    assert {2, 17} <= set(found.times.astype(int).tolist())
    found.png()


def test_chunks_that_overlap_are_joined_by_their_mean(planted_model: Path, clip: Callable[..., Path]) -> None:
    predictor = Predictor(planted_model)
    predictor.spectrogram = dataclasses.replace(SPECTROGRAM, overlap=0.5)
    _, found = explain(predictor, clip("long.wav", planted(True, 3, seconds=3)), "beep")
    assert len(found.times) == round(3 * SPECTROGRAM.frames)
    np.testing.assert_allclose(np.diff(found.times), 1 / SPECTROGRAM.frames, rtol=1e-6)
    assert mass_around_the_beep(found) > 0.65  # of a twentieth of the area


def test_an_occlusion_gives_the_same_in_a_batch_and_alone(planted_model: Path, clip: Callable[..., Path]) -> None:
    predictor = Predictor(planted_model)
    [chunk] = Clip(clip("new.wav", planted(True, 1)), predictor.spectrogram)
    assert chunk.jpg is not None
    level, output = predictor.predict_occluded(chunk.jpg)
    images = list(occluded(level))
    assert len(output.probabilities) == len(images)
    for number in (0, 1, 50, len(images) - 1):
        alone = predictor.predict_batch(features_of(images[number], predictor.input_size).pixels)
        np.testing.assert_array_equal(alone.probabilities[0], output.probabilities[number])
        np.testing.assert_array_equal(alone.embeddings[0], output.embeddings[number])


def test_a_constant_image_is_evidence_for_nothing(planted_model: Path) -> None:
    predictor = Predictor(planted_model)
    for level in (0.0, 0.5, 1.0):
        image = colour(np.full((SPECTROGRAM.rows, SPECTROGRAM.frames), level, np.float32))
        image.save(buffer := io.BytesIO(), "JPEG", quality=95)
        for index in (0, 1):
            chunk = explain_image(predictor, 0.0, buffer.getvalue(), index)
            assert np.isfinite(chunk.relevance).all()
            assert np.abs(chunk.relevance).sum() < 0.01


def test_evidence_is_finite_where_the_model_is_certain(tone_model: Path) -> None:
    predictor = Predictor(tone_model)
    predictor.calibration = predictor.calibration._replace(head_weight=5.0)
    image = render((16_000 * tone(1200, 0.5)).astype(np.int16), SpectrogramConfig(chunk_seconds=0.5))
    _, output = predictor.predict_occluded(image)
    certain = np.zeros_like(output.probabilities)
    certain[:, 2] = 1
    for index in range(5):
        values = evidence(predictor, output._replace(probabilities=certain), index)
        assert np.isfinite(values).all()
        assert (values > 0).all() == (index == 2)


def test_an_enrolled_speaker_is_explained_by_its_score(tone_model: Path, tmp_path: Path) -> None:
    for path in tone_model.parent.glob("retrained_*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    noise = 0.02 * np.random.default_rng(0).standard_normal(16_000 * 12)
    soundfile.write(tmp_path / "new.wav", 0.5 * tone(3400, 12) + noise, 16_000)
    enrol_from_clips(Predictor(tmp_path / tone_model.name), "zoe", [tmp_path / "new.wav"])
    model = audionet.load_model(tmp_path / tone_model.name)
    sound = 0.5 * tone(3400, 0.5) + noise[:8000]
    found = model.explain(sound, sample_rate=16_000)
    assert (found.label, found.unit) == ("zoe", "score")
    assert np.isfinite(found.relevance).all()
    assert found.relevance.sum() > 0
    assert model.explain(sound, "a300", sample_rate=16_000).unit == "log-odds"


def test_each_of_several_labels_is_explained_by_itself(chord_model: Path) -> None:
    model = audionet.load_model(chord_model)
    sound = chord(model.labels[:2], 1.0, seed=9)
    places = []
    for name in model.labels[:2]:
        found = model.explain(sound, name, sample_rate=16_000)
        assert found.frequencies is not None
        places.append(found.frequencies[found.relevance.sum(axis=1).argmax()])
    assert places[0] != pytest.approx(places[1], rel=0.2)
    assert model.explain(sound, sample_rate=16_000).label in model.labels[:2]


def test_the_drawing_has_the_evidence_in_orange(planted_model: Path, clip: Callable[..., Path], tmp_path: Path) -> None:
    path = clip("$a$ ü.wav", planted(True, 999))
    found = audionet.load_model(planted_model).explain(path)
    pixels = np.asarray(found.image()).astype(int)[::-1]
    assert pixels.shape == (*found.relevance.shape, 3)
    red, strong = pixels[..., 0] - pixels[..., 2], found.relevance > 0.5 * found.relevance.max()
    assert red[strong].min() > 30
    assert np.abs(red[found.relevance == 0]).max() == 0
    assert found.save(tmp_path / "drawn.png") == tmp_path / "drawn.png"
    with Image.open(tmp_path / "drawn.png") as drawn:
        assert drawn.format == "PNG"
        assert level_of(drawn.convert("RGB")).std() > 0


def test_label_image_draws_and_says_where(
    planted_model: Path, clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, folder = clip("a b.wav", planted(True, 999)), tmp_path / "drawings"
    flags = ["--graph", str(planted_model), "--explain", "--explain_dir", str(folder)]
    label([*flags, str(path), str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if "evidence" in line).startswith("  most of the evidence for beep: 0.6 to 0.")
    assert sorted(file.name for file in folder.iterdir()) == ["a_b-1.explain.png", "a_b.explain.png"]
    label([*flags, "--json", "--explain_label", "hum", str(path)])
    content = json.loads(capsys.readouterr().out)
    assert content["decision"] == "beep"
    explanation = content["explanation"]
    assert set(explanation) == {"label", "summary", "region", "written"}
    assert explanation["label"] == "hum"
    assert explanation["written"] == str(folder / "a_b.explain.png")


def test_what_cannot_be_explained_is_said_in_one_line(
    planted_model: Path, clip: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = audionet.load_model(planted_model)
    silent = clip("silent.wav", np.zeros(16_000))
    with pytest.raises(RecordingError, match=r"silent\.wav: is silent"):
        model.explain(silent)
    (tmp_path / "sound.jpg").write_bytes(clip("x.wav", planted(True, 1)).read_bytes())
    with pytest.raises(DatasetError, match=r"sound\.jpg: is not a JPG image"):
        model.explain(tmp_path / "sound.jpg")
    with pytest.raises(UsageError, match=r"^label no\\npe: the model has no such label, it has beep, hum$"):
        model.explain(silent, "no\npe")
    flags = ["--graph", str(planted_model), "--explain", "--explain_dir", str(tmp_path / "drawings")]
    with pytest.raises(AudioNetError, match="1 of 2 clips could not be judged"):
        label([*flags, str(silent), str(tmp_path / "x.wav")])
    assert "silent.wav: is silent" in capsys.readouterr().err
    assert [file.name for file in (tmp_path / "drawings").iterdir()] == ["x.explain.png"]
    for wrong in (["--explain_label", "hum"], ["--explain", "--timeline"]):
        with pytest.raises(UsageError, match="explain"):
            label(["--graph", str(planted_model), *wrong, str(silent)])
