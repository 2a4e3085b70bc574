"""The Python API as a researcher calls it, and the errors it raises."""

from __future__ import annotations

import doctest
import importlib
import json
import logging
import shutil
import subprocess
import sys
import warnings
import wave
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import audionet
from audionet.audio.resampling import resample_samples
from audionet.audio.samples import to_int16
from tests.inference.test_predictor import sound, write_sound
from tests.support.images import make_images
from tests.support.sounds import ROOT, link_voices, tone, write_tone
from tests.support.talk import write_talk
from tests.support.trials import write_trials


@pytest.fixture
def model(tone_model: Path, tmp_path: Path) -> audionet.Model:
    for path in tone_model.parent.glob("retrained_*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return audionet.load_model(str(tmp_path / tone_model.name))


@pytest.fixture
def unattended(console: None) -> None:
    """Take the command line's log handlers away again."""
    logging.getLogger("audionet").handlers.clear()


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_sound(tmp_path / "clip.wav", 300, 2.0)


def test_a_file_and_its_samples_get_the_same_prediction(model: audionet.Model, clip: Path) -> None:
    of_file, samples = model.predict(str(clip)), sound(300, 2.0)
    assert of_file.label == "a300"
    assert not of_file.is_unknown
    assert len(of_file.chunks) == 4
    assert of_file.seconds == pytest.approx(2.0)
    integers = np.rint(samples * 32768).astype(np.int16)
    for given in (samples, samples.astype(np.float32), integers, np.stack([integers, integers]), samples.tolist()):
        found = model.predict(given, sample_rate=16_000)
        assert found.label == "a300"
        np.testing.assert_allclose(list(found.probabilities.values()), list(of_file.probabilities.values()), atol=0.02)
    assert list(of_file.probabilities) == model.labels
    assert sum(of_file.probabilities.values()) == pytest.approx(1, abs=1e-5)


def test_integers_in_floats_are_recognised(model: audionet.Model) -> None:
    samples = np.rint(sound(300, 2.0) * 32768)
    found = model.predict(samples, sample_rate=16_000)
    expected = model.predict(samples.astype(np.int16), sample_rate=16_000)
    assert found.probabilities == expected.probabilities


def test_a_segment_of_pydub_is_a_clip(model: audionet.Model, clip: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pydub's own, of Python's audioop
        from pydub import AudioSegment
    with clip.open("rb") as file:
        segment = AudioSegment.from_file(file, format="wav")
    assert model.predict(segment).probabilities == model.predict(clip).probabilities
    assert model.predict(segment.set_channels(2)).label == "a300"
    with pytest.raises(TypeError, match="an AudioSegment has its own"):
        model.predict(segment, sample_rate=16_000)


def test_samples_of_another_rate_are_resampled(model: audionet.Model) -> None:
    twice = resample_samples(to_int16(sound(300, 2.0).astype(np.float32)), 16_000, 32_000)
    assert model.predict(twice, sample_rate=32_000).label == "a300"


def test_embeddings_are_of_the_clip_or_of_its_chunks(model: audionet.Model, clip: Path) -> None:
    chunks = model.embed(clip, per_chunk=True)
    assert chunks.shape == (4, model.predictor.dimensions)
    assert (np.linalg.norm(chunks, axis=1) <= 1 + 1e-5).all()
    np.testing.assert_allclose(model.embed(clip), chunks.mean(axis=0), rtol=1e-5)


def test_an_enrolled_speaker_is_predicted_verified_and_forgotten(model: audionet.Model, tmp_path: Path) -> None:
    other = write_tone(tmp_path / "other.wav", 1700, 3.0)
    model.enroll("zoe", [other])
    assert model.enrolled == ["zoe"]
    assert model.predict(other).label == "zoe"
    assert model.verify(other, "zoe").score > model.verify(other, "a300").score
    model.forget("zoe")
    assert model.enrolled == []


def test_diarization_gives_segments_and_writes_nothing(model: audionet.Model, tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    found = model.diarize(np.concatenate([sound(300, 6.0), sound(2400, 6.0)]), sample_rate=16_000)
    assert [segment.label for segment in found] == ["a300", "d2400"]
    assert found[0].end == pytest.approx(6, abs=1)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (("nowhere.wav",), audionet.RecordingError, r"nowhere\.wav: cannot be read"),
        (("",), ValueError, "the path is empty"),
        (("a.wav", 16_000), TypeError, "sample_rate goes with samples"),
        ((np.zeros(8000),), TypeError, "sample_rate is missing"),
        ((np.zeros(8000), "16k"), TypeError, "must be an integer"),
        ((np.zeros(8000), True), TypeError, "must be an integer"),
        ((np.zeros(8000), 10), ValueError, "1000 to 1000000 Hz"),
        ((np.zeros(0), 16_000), ValueError, "shape"),
        ((np.zeros((2, 2, 2)), 16_000), ValueError, "shape"),
        ((np.zeros((8000, 2)), 16_000), ValueError, "transpose"),
        ((np.full(8000, np.nan), 16_000), ValueError, "NaN"),
        ((np.zeros(8000, complex), 16_000), TypeError, "integers or floats"),
        ((["a", "b"], 16_000), TypeError, "integers or floats"),
        (([[1, 2], [3]], 16_000), ValueError, "differ in length"),
        (([1, 2, 3] * 1000, 16_000), TypeError, "int16, int32, uint8"),
        ((None,), TypeError, "must be a path, or an array"),
        ((b"RIFF",), TypeError, "must be a path, or an array"),
        ((np.zeros(16_000), 16_000), audionet.RecordingError, "silent"),
    ],
)
def test_bad_input_is_a_clear_error(model: audionet.Model, arguments: Any, error: type, words: str) -> None:
    for method in (model.predict, model.embed):
        with pytest.raises(error, match=words):
            method(*arguments)


def test_a_wrong_call_names_the_parameter(model: audionet.Model, tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="must be a string or a path"):
        audionet.load_model(3)  # type: ignore[arg-type]
    with pytest.raises(audionet.ModelError, match="is missing"):
        audionet.load_model(tmp_path / "no.tflite")
    with pytest.raises(TypeError, match="no parameter 'architectur': is it 'architecture'"):
        audionet.train(tmp_path, architectur="x")
    with pytest.raises(TypeError, match="seed is '1'"):
        audionet.train(tmp_path, seed="1")
    with pytest.raises(audionet.UsageError, match=r"^chunk_seconds is 0.01"):
        audionet.render(tmp_path, tmp_path / "out", chunk_seconds=0.01)
    with pytest.raises(audionet.UsageError, match=r"^verify bob: "):
        model.verify(tone(300, 1.0), "bob", sample_rate=16_000)
    with pytest.raises(audionet.UsageError, match=r"^enrol a300: "):
        model.enroll("a300", tone(300, 1.0), sample_rate=16_000)
    with pytest.raises(AttributeError, match="no attribute 'lode_model'"):
        _ = audionet.lode_model


@pytest.mark.usefixtures("unattended")
def test_the_library_prints_nothing_and_reports_progress(
    tmp_path: Path, averaging_backbone: Path, model_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for label, pitch in (("ann", 300), ("bob", 900)):
        for number in range(3):
            write_tone(tmp_path / "audio" / label / f"{number}.wav", pitch + 9 * number, 2.0)
    seen: list[tuple[str, float, float]] = []

    def progress(*report: Any) -> None:
        seen.append(report)

    result = audionet.render(tmp_path / "audio", tmp_path / "images", progress=progress, workers=1, chunk_seconds=0.5)
    assert {label: summary.chunks for label, summary in result.labels.items()} == {"ann": 12, "bob": 12}
    run = audionet.train(
        tmp_path / "images",
        progress,
        **quick(tmp_path, averaging_backbone, model_dir),
    )
    assert run.accuracy is not None
    assert run.accuracy.share == 1
    assert not list((tmp_path / "summaries").rglob(".*"))  # of a training that has not finished
    model = audionet.load_model(run.save(tmp_path / "out" / "m.tflite"))
    assert model.labels == ["ann", "bob"]
    found = audionet.evaluate(model, tmp_path / "audio", progress, workers=1)
    assert found.accuracy.total == 2  # the others took part in training
    assert found.eer is not None
    assert json.dumps(found.summary)
    assert {what for what, _, _ in seen} >= {"Rendering", "Bottlenecks", "Training"}
    assert all(0 <= done <= total * 1.001 for _, done, total in seen)
    assert capsys.readouterr() == ("", "")


def quick(folder: Path, backbone: Path, model_dir: Path) -> dict[str, Any]:
    names = ("bottleneck_dir", "checkpoint_dir", "summaries_dir")
    return {name: folder / name for name in names} | {
        "architecture": str(backbone),
        "model_dir": model_dir,
        "how_many_training_steps": 60,
        "output_graph": folder / "out" / "graph.tflite",
        "output_labels": folder / "out" / "labels.txt",
    }


@pytest.mark.usefixtures("unattended")
@pytest.mark.parametrize(
    "module",
    [
        *("inference.model", "export.run", "export.hub_folder", "evaluation.run", "data.render", "discovery.run"),
        "data.fetch",
    ],
)
def test_examples_run(
    module: str, model: audionet.Model, clip: Path, tmp_path: Path, averaging_backbone: Path, model_dir: Path
) -> None:
    for label, pitch in zip(model.labels, (300, 600, 1200, 2400, 4800), strict=True):
        write_tone(tmp_path / "test" / label / "1.wav", pitch, 1.0)
    for label in ("ann", "bob"):
        write_tone(tmp_path / "audio" / label / "1.wav", 500, 1.0)
    voices = link_voices(tmp_path / "voices", 2, 2)
    write_tone(tmp_path / "digits" / "0_george_0.wav")
    names = {
        "audionet": audionet,
        "talk_dir": write_talk(tmp_path / "talk", ("espeak-en-gb-scotland+f4", "flite-awb"), 1, 2, 6.0),
        "trial_list": write_trials(tmp_path / "trials.txt", voices),
        "voices_dir": voices,
        "fsdd_dir": tmp_path / "digits",
        "folder": tmp_path,
        "model_path": model.path,
        "clip_path": clip,
        "test_dir": tmp_path / "test",
        "audio_dir": tmp_path / "audio",
        "image_dir": make_images(tmp_path / "images", 4, 2, ("ann", "bob")),
        "quick_settings": quick(tmp_path, averaging_backbone, model_dir),
    }
    tests = doctest.DocTestFinder(recurse=True).find(importlib.import_module(f"audionet.{module}"), extraglobs=names)
    runner = doctest.DocTestRunner()
    examples = [test for test in tests if test.examples]
    assert examples
    for test in examples:
        assert runner.run(test).failed == 0


def test_importing_the_library_is_light_and_changes_nothing() -> None:
    code = (
        "import os, sys, time; before = dict(os.environ); start = time.perf_counter(); import audionet; "
        "assert time.perf_counter() - start < 0.5; assert dict(os.environ) == before; "
        "assert not {'numpy', 'tensorflow', 'tqdm'} & set(sys.modules); "
        "audionet.load_model; assert not {'tensorflow', 'keras', 'matplotlib', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT / "scripts")


def test_every_public_name_is_there() -> None:
    for name in audionet.__all__:
        assert getattr(audionet, name) is not None
        assert name in dir(audionet)


def test_unsigned_bytes_rest_at_half_of_their_range(model: audionet.Model, tmp_path: Path) -> None:
    samples = np.rint(tone(300, 2.0) * 127 + 128).astype(np.uint8)
    with wave.open(str(tmp_path / "bytes.wav"), "wb") as file:
        file.setparams((1, 1, 16_000, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    assert model.predict(samples, 16_000).probabilities == model.predict(tmp_path / "bytes.wav").probabilities


@pytest.mark.slow
@pytest.mark.usefixtures("unattended")
def test_the_notebook_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((ROOT / "docs" / "first_model.ipynb").read_text("utf-8"))["cells"]
    monkeypatch.chdir(ROOT)
    names: dict[str, Any] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            exec(compile(cell["source"], "first_model.ipynb", "exec"), names)
    shutil.rmtree(names["folder"])
    assert names["answer"].label == "flite-slt"
    assert names["found"].accuracy.right == 4
    assert "100.0%" in capsys.readouterr().out
