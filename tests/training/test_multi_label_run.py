"""A model for several labels at a time: trained, published, asked, evaluated and served."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import audionet
from audionet._paths import model_json_path
from audionet.cli.evaluate import main as evaluate
from audionet.cli.label import main as label
from audionet.cli.train import main as retrain
from audionet.data.dataset import ChunkImage
from audionet.data.folds import assign_multi_label_folds
from audionet.data.naming import BACKGROUND, DATASET_JSON
from audionet.errors import DatasetError, ModelError, UsageError
from audionet.export.publish import publish
from audionet.inference.predictor import Predictor
from audionet.training.config import RetrainConfig
from audionet.training.trainer import train
from tests.support.chords import PITCHES, chord, combinations


@pytest.fixture
def clip(tmp_path: Path) -> Callable[..., Path]:
    def make(*names: str, seconds: float = 2.0) -> Path:
        path = tmp_path / f"{'-'.join(names) or 'none'}.wav"
        soundfile.write(path, chord(names, seconds, seed=77), 16_000)
        return path

    return make


def test_every_combination_is_recognised(chord_model: Path, clip: Callable[..., Path]) -> None:
    model = audionet.load_model(chord_model)
    assert model.labels == sorted(PITCHES)
    for names in combinations():
        found = model.predict(clip(*names))
        assert sorted(found.present or ()) == list(names)
        assert found.label == (found.present[0] if found.present else None)
        assert found.is_unknown == (not names)
        assert {voice.label for voice in found.voices} == set(names)
        assert all(sorted(chunk.present or ()) == list(names) for chunk in found.chunks)


def test_the_card_holds_the_scores_of_the_cross_validation(chord_model: Path) -> None:
    card = json.loads(model_json_path(chord_model).read_text())
    found = card["multi_label"]
    assert len(found["thresholds"]) == len(PITCHES)
    assert found["test"]["recordings"] == 5 * 8
    assert found["test"]["mean_average_precision"] > 0.95
    assert 0 <= found["mfcc_statistics"] <= 1
    assert card["test"] is None


def test_segments_of_labels_may_overlap(chord_model: Path, tmp_path: Path) -> None:
    low, both = chord(("low",), 4), chord(("high", "low"), 4)
    soundfile.write(tmp_path / "talk.wav", np.concatenate([low, both, chord((), 4)]), 16_000)
    found = {segment.label: segment for segment in audionet.load_model(chord_model).diarize(tmp_path / "talk.wav")}
    assert set(found) == {"low", "high"}
    assert (found["low"].start, found["low"].end) == pytest.approx((0, 8), abs=0.4)
    assert (found["high"].start, found["high"].end) == pytest.approx((4, 8), abs=0.4)


def test_text_and_json_name_all_labels(
    chord_model: Path, clip: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    label([f"--graph={chord_model}", str(clip("high", "low")), str(clip())])
    lines = capsys.readouterr().out.splitlines()
    assert sorted(lines[1].strip().split(", ")) == ["high", "low"]
    assert lines[6].strip() == "none of the labels"
    label([f"--graph={chord_model}", "--json", "--per_chunk", str(clip("high", "low"))])
    answer = json.loads(capsys.readouterr().out)
    assert sorted(answer["present"]) == ["high", "low"]
    assert answer["decision"] in answer["present"]
    assert all(sorted(chunk["present"]) == ["high", "low"] for chunk in answer["per_chunk"])


def test_evaluation_repeats_what_training_said(
    chord_model: Path, chord_images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate([f"--graph={chord_model}", f"--image_dir={chord_images}", f"--report_dir={tmp_path / 'report'}"])
    said = json.loads((tmp_path / "report" / "report.json").read_text())["multi_label"]
    stored = json.loads(model_json_path(chord_model).read_text())["multi_label"]["test"]
    assert said["mean_average_precision"] == pytest.approx(stored["mean_average_precision"], abs=1e-3)
    assert said["all_right"] == stored["all_right"]
    assert "mean average precision" in capsys.readouterr().out
    page = (tmp_path / "report" / "report.html").read_text()
    assert "Mean average precision" in page
    assert (tmp_path / "report" / "precision_recall.png").stat().st_size > 5000


def test_evaluation_on_a_folder_of_recordings(
    chord_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    for folder, names in (("high;low", ("high", "low")), ("middle", ("middle",)), (BACKGROUND, ()), ("low;siren", ())):
        (tmp_path / "test" / folder).mkdir(parents=True)
        soundfile.write(tmp_path / "test" / folder / "a.wav", chord(names, 1, seed=5), 16_000)
    evaluate([f"--graph={chord_model}", f"--test_dir={tmp_path / 'test'}", f"--report_dir={tmp_path / 'report'}"])
    content = json.loads((tmp_path / "report" / "report.json").read_text())
    counts = {entry["label"]: entry["recordings"] for entry in content["multi_label"]["labels"]}
    assert counts == {"high": 1, "low": 2, "middle": 1}
    assert content["data"]["foreign_labels"] == ["siren"]
    (mistake,) = content["mistakes"]
    assert (mistake["labels"], mistake["missed"], mistake["wrong"]) == (["low", "siren"], ["low"], [])
    assert "the model has no label siren" in caplog.text
    assert "4 recordings" in capsys.readouterr().out


def test_the_api_evaluates_it_too(chord_model: Path, chord_images: Path, tmp_path: Path) -> None:
    result = audionet.evaluate(chord_model, image_dir=chord_images)
    assert result.mean_average_precision is not None
    assert result.mean_average_precision > 0.95
    assert result.write_report(tmp_path / "report").name == "report.html"


@pytest.mark.parametrize(
    "call", [lambda model, clip: model.verify(clip, "low"), lambda model, clip: model.enroll("ann", clip)]
)
def test_speakers_are_not_compared(
    chord_model: Path, clip: Callable[..., Path], call: Callable[[audionet.Model, Path], object]
) -> None:
    with pytest.raises(UsageError, match="several labels at a time"):
        call(audionet.load_model(chord_model), clip("low"))


@pytest.mark.parametrize(
    "flags", [{"head": "mlp"}, {"testing_percentage": 20.0}, {"repeats": 2}, {"unknown_fpr": 5.0}, {"fine_tune": 1}]
)
def test_settings_for_one_label_are_refused(
    chord_images: Path, retrain_config: Callable[..., RetrainConfig], flags: dict[str, Any]
) -> None:
    config = retrain_config(chord_images, how_many_training_steps=None, **flags)
    with pytest.raises(UsageError, match="several labels at a time"):
        train(config)
    assert not config.bottleneck_dir.exists()


@pytest.mark.parametrize(
    ("folders", "reason"), [(("high", ";"), "';' names no label"), ((BACKGROUND, f"{BACKGROUND};"), "has a label")]
)
def test_folders_without_a_label(
    chord_images: Path,
    retrain_config: Callable[..., RetrainConfig],
    tmp_path: Path,
    folders: tuple[str, str],
    reason: str,
) -> None:
    for folder in folders:
        shutil.copytree(chord_images / "high", tmp_path / "images" / folder)
    shutil.copy(chord_images / DATASET_JSON, tmp_path / "images")
    config = retrain_config(tmp_path / "images", how_many_training_steps=None, multi_label="on")
    with pytest.raises(DatasetError, match=reason):
        train(config)
    assert not config.bottleneck_dir.exists()


def test_training_and_test_sets_are_refused_before_the_bottlenecks(
    chord_images: Path, retrain_config: Callable[..., RetrainConfig], tmp_path: Path
) -> None:
    images = shutil.copytree(chord_images, tmp_path / "images")
    settings = json.loads((images / DATASET_JSON).read_text())
    settings["table"] = {"groups": {}, "sets": {f"{number}.wav": "test" if number else "train" for number in range(5)}}
    (images / DATASET_JSON).write_text(json.dumps(settings))
    config = retrain_config(images, how_many_training_steps=None, split="given")
    with pytest.raises(UsageError, match="leave out split given"):
        train(config)
    assert not config.bottleneck_dir.exists()


def test_copies_in_folders_of_different_labels_are_named(
    chord_images: Path,
    retrain_config: Callable[..., RetrainConfig],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = shutil.copytree(chord_images, tmp_path / "images")
    first = min((images / "high;low").iterdir())
    shutil.copy(first, images / "middle" / f"copy{first.suffix}")
    (images / "low;high").mkdir()
    shutil.copy(first, images / "low;high" / f"same{first.suffix}")
    train(retrain_config(images, how_many_training_steps=None))
    assert "middle/copy" in caplog.text
    assert "in the folder of all labels that it has, such as high;low;middle" in caplog.text
    assert "low;high/same" not in caplog.text


def test_joined_folders_are_labels_of_their_own_where_that_is_asked_for(
    chord_images: Path, retrain_config: Callable[..., RetrainConfig]
) -> None:
    trained = train(retrain_config(chord_images, how_many_training_steps=None, multi_label="off"))
    assert "high;low" in trained.data.labels
    assert trained.multi_label is None


def test_single_labels_may_be_independent_where_that_is_asked_for(
    image_folder: Callable[..., Path], retrain_config: Callable[..., RetrainConfig]
) -> None:
    trained = train(retrain_config(image_folder(), how_many_training_steps=None, multi_label="on"))
    assert trained.multi_label is not None
    assert trained.head.independent


@pytest.mark.parametrize("name", ["graph.pb", "graph.keras", "graph", "graph.onnx"])
def test_other_formats_answer_with_independent_labels(
    chord_images: Path, retrain_config: Callable[..., RetrainConfig], name: str
) -> None:
    config = retrain_config(chord_images, how_many_training_steps=None)
    config = dataclasses.replace(config, output_graph=config.output_graph.with_name(name))
    if name == "graph.keras":
        with pytest.raises(ModelError, match="is a SavedModel"):
            publish(train(config), config)
        return
    publish(train(config), config)  # compares its probabilities with the trained ones
    assert Predictor(config.output_graph).thresholds is not None


def test_thresholds_that_are_not_those_of_the_labels_are_damage(chord_model: Path, tmp_path: Path) -> None:
    for path in chord_model.parent.glob("chords_*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    graph = tmp_path / chord_model.name
    card = json.loads(model_json_path(graph).read_text())
    for thresholds in ([0.5], [0.5, 0.5, 2.0], "many", [0.5, None, 0.5]):
        card["multi_label"]["thresholds"] = thresholds
        model_json_path(graph).write_text(json.dumps(card))
        with pytest.raises(ModelError, match="is damaged"):
            Predictor(graph)


def test_folds_hold_every_label_evenly_and_keep_groups_together() -> None:
    names = [";".join(some) or BACKGROUND for some in combinations()]
    images = [
        ChunkImage(folder, f"{number}.wav", chunk, Path(), "")
        for folder in names
        for number in range(5)
        for chunk in (0, 1)
    ]
    groups = {(image.label, image.recording): f"{image.label} {image.recording}" for image in images}
    groups["low", "0.wav"] = groups["high", "0.wav"] = "together"
    folds = assign_multi_label_folds(images, groups, 5)
    assert sorted(np.concatenate(folds.tests).tolist()) == list(range(len(images)))
    for test, training in zip(folds.tests, folds.training, strict=True):
        assert not {groups[images[row].label, images[row].recording] for row in test} & {
            groups[images[row].label, images[row].recording] for row in training
        }
        for pitch in PITCHES:
            assert sum(pitch in images[row].label for row in test) == pytest.approx(8, abs=2)


def test_one_group_cannot_be_cross_validated(
    chord_images: Path, retrain_config: Callable[..., RetrainConfig], tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match="one group"):
        train(retrain_config(chord_images, how_many_training_steps=None, group="wav"))


def test_training_prints_the_scores(
    chord_images: Path, lite_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = ("bottleneck_dir", "checkpoint_dir", "summaries_dir")
    retrain(
        [
            f"--image_dir={chord_images}",
            f"--architecture={lite_backbone}",
            f"--output_graph={tmp_path / 'm.tflite'}",
            f"--output_labels={tmp_path / 'l.txt'}",
            *(f"--{name}={tmp_path / name}" for name in folders),
        ]
    )
    said = capsys.readouterr().out
    assert "each of 40 recordings was tested once" in said
    assert "MFCC statistics in the same folds: mean average precision" in said
