"""Evaluation of a model on recordings: every number, and the count it is based on."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audionet._paths import model_json_path, out_of_fold_path
from audionet.audio.config import SpectrogramConfig
from audionet.classifier.decision import Costs
from audionet.cli.evaluate import main as evaluate_main
from audionet.cli.label import main as label_main
from audionet.data.dataset import dataset_json
from audionet.data.naming import DATASET_JSON
from audionet.errors import DatasetError, ModelError, UsageError
from audionet.evaluation.batch_inference import DURATIONS_IN_CHUNKS
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.costs import mean_cost
from audionet.evaluation.evaluate import Evaluation, evaluate, store_rule
from audionet.evaluation.recordings import find_test_recordings
from audionet.evaluation.summary import summarise
from audionet.export.publish import publish
from audionet.inference.predictor import Predictor
from audionet.training.trainer import train
from audionet.utils.files import content_hash, write_json
from tests.inference.test_predictor import sound
from tests.support.models import TONES
from tests.support.read_only import read_only


def pitch(label: str) -> int:
    return int(label[1:])


@pytest.fixture
def test_folder(tmp_path: Path) -> Path:
    """Three recordings of two tones that the model knows and one that it does not, of 1, 2 and 3 seconds."""
    for label in ("a300", "c1200", "x6500"):
        (tmp_path / "test" / label).mkdir(parents=True)
        for seconds in (1, 2, 3):
            soundfile.write(tmp_path / "test" / label / f"{seconds}.wav", sound(pitch(label), seconds, seconds), 16_000)
    return tmp_path / "test"


def evaluated(graph: Path, tmp_path: Path, **settings: Any) -> tuple[Evaluation, dict[str, Any], Predictor]:
    images = graph.parent / "data_image"
    config = EvaluateConfig(**({"graph": graph, "image_dir": images, "report_dir": tmp_path, "workers": 2} | settings))
    predictor = Predictor(graph, with_enrolled=False)
    found = evaluate(predictor, config)
    content = summarise(found, predictor, config)
    json.dumps(content, allow_nan=False)
    return found, content, predictor


def test_reads_a_model_that_cannot_be_written(tone_model: Path, test_folder: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    with read_only(tone_model.parent, test_folder):
        evaluate_main([f"--graph={tone_model}", f"--test_dir={test_folder}", f"--report_dir={report}", "--workers=1"])
        label_main([f"--graph={tone_model}", str(test_folder / "a300" / "2.wav")])
    assert (report / "report.html").exists()


def test_every_number_has_its_count(tone_model: Path, test_folder: Path, tmp_path: Path, capsys) -> None:
    found, content, predictor = evaluated(tone_model, tmp_path, test_dir=test_folder)
    assert "the model has no label x6500: counted as unknown voices" in capsys.readouterr().err
    data = content["data"]
    assert (data["recordings"], data["chunks"], data["unknown_recordings"]) == (6, 24, 3)
    assert data["missing_labels"] == ["b600", "d2400", "e4800"]
    assert data["foreign_labels"] == ["x6500"]
    assert data["unseen"]
    assert content["accuracy"]["recordings"]["total"] == 6
    assert content["accuracy"]["chunks"]["right"] == content["accuracy"]["chunks"]["total"] == 24
    assert content["mfcc_statistics"]["recordings"]["total"] == 6
    assert content["answers"] == {
        "recordings": 6, "right": 6, "wrong": 0, "unknown": 0, "threshold": predictor.several_threshold,
    }  # fmt: skip
    open_set = content["open_set"]
    assert open_set["area"] == 1.0
    assert open_set["unknown"] == {"clips": 3, "accepted": 0, "of": "test recordings of no label"}
    assert {(p["true"], p["answer"], p["count"]) for p in content["confusion"]["pairs"]} == {
        ("a300", "a300", 3), ("c1200", "c1200", 3), (None, None, 3),
    }  # fmt: skip
    assert content["top_k"] == {"recordings": 6, "right": {1: 6, 2: 6, 3: 6, 5: 6}}
    assert [label["recordings"] for label in content["labels"]["labels"]] == [3, 0, 3, 0, 0]
    assert content["labels"]["macro"]["labels"] == 2
    pooled = content["verification"]["pooled"]
    assert (pooled["targets"], pooled["nontargets"]) == (6, 6 * 4 + 3 * 5)
    assert content["verification"]["labels"][1] == {"label": "b600"}
    assert content["verification"]["labels"][2]["targets"] == 3
    lengths = [(point["clip"], point["total"]) for point in content["length"]]
    assert lengths == [("1 chunk", 24), ("2 chunks", 12), ("4 chunks", 4), ("whole", 6)]
    assert DURATIONS_IN_CHUNKS == (1, 2, 4)
    for when in ("before", "after"):
        assert sum(found["recordings"] for found in content["calibration"][when]["bins"]) == 6
    assert content["leaky_split"]["total"] == 30
    assert content["costs"] is None
    assert content["mistakes"] == []
    assert found.mistakes(5) == []


def test_the_test_part_of_the_split_is_what_training_kept_aside(tone_model: Path, tmp_path: Path) -> None:
    found, content, predictor = evaluated(tone_model, tmp_path)
    split = predictor.card["split"]["testing"]
    assert (content["data"]["recordings"], content["data"]["chunks"]) == (split["recordings"], split["chunks"])
    assert content["accuracy"]["chunks"]["right"] == predictor.card["test"]["network"]["chunks"]["right"]
    assert content["mfcc_statistics"]["chunks"]["right"] == predictor.card["test"]["mfcc_statistics"]["chunks"]["right"]
    assert content["data"]["left_out_as_seen"] == 0
    assert content["open_set"]["unknown"]["of"] == "labels left out at training"
    assert [one.recorded.starts for one in found.predictions.recordings] == [(0.0, 0.5, 1.0)] * 10


def test_recordings_that_training_heard_are_found_out(tone_model: Path, tmp_path: Path, capsys) -> None:
    images = tone_model.parent / "data_image"
    _, content, _ = evaluated(tone_model, tmp_path, test_dir=images)
    assert content["data"]["left_out_as_seen"] == 40
    assert content["data"]["recordings"] == 10
    assert "40 recordings of 50 took part in training or validation; left out" in capsys.readouterr().err
    for label in TONES:
        for path in sorted((images / label).glob("[4-9].wav*")):
            (tmp_path / "heard" / label).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "heard" / label / f"copy of {path.name}")
    everything = {path.name for path in images.rglob("*.jpg")}
    assert everything
    seen = [one for one in find_test_recordings(tmp_path / "heard", 0.5) if one.label == "a300"]
    assert len(seen) == 6


def test_when_all_were_heard_that_is_said_instead(tone_model: Path, tmp_path: Path, capsys) -> None:
    predictor = Predictor(tone_model)
    found, _, _ = evaluated(tone_model, tmp_path)
    kept_aside = {(one.recorded.label, one.recorded.name) for one in found.predictions.recordings}
    images = tone_model.parent / "data_image"
    for recorded in find_test_recordings(images, 0.5):
        if (recorded.label, recorded.name) not in kept_aside:
            for path in recorded.paths:
                (tmp_path / "heard" / recorded.label).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / "heard" / recorded.label)
    _, content, _ = evaluated(tone_model, tmp_path, test_dir=tmp_path / "heard")
    assert not content["data"]["unseen"]
    assert content["data"]["recordings"] == 40
    assert "all of these recordings took part in training" in capsys.readouterr().err
    assert predictor.labels == list(TONES)


def test_mistakes_come_surest_first_with_the_chunk_to_listen_to(tone_model: Path, tmp_path: Path) -> None:
    (tmp_path / "test" / "a300").mkdir(parents=True)
    (tmp_path / "test" / "b600").mkdir()
    wrong = np.concatenate([sound(300, 0.5), sound(1200, 2.0)])
    soundfile.write(tmp_path / "test" / "a300" / "really c.wav", wrong, 16_000)
    soundfile.write(tmp_path / "test" / "b600" / "fine.wav", sound(600, 1.0), 16_000)
    found, content, _ = evaluated(tone_model, tmp_path, test_dir=tmp_path / "test")
    [mistake] = content["mistakes"]
    assert (mistake["true"], mistake["given"]) == ("a300", "c1200")
    assert mistake["start"] >= 0.5
    assert mistake["file"].endswith("really c.wav")
    assert 0.5 < mistake["probability"] < 1
    assert content["accuracy"]["recordings"]["right"] == 1
    assert content["accuracy"]["chunks"]["right"] == 3
    assert found.most_probable.tolist() == [2, 1]


def test_costs_change_the_rule_which_the_model_keeps(tone_model: Path, test_folder: Path, tmp_path: Path) -> None:
    for name in ("retrained_graph.tflite", "retrained_model.json", "retrained_model.npz"):
        shutil.copy(tone_model.with_name(name), tmp_path / name)
    graph = tmp_path / tone_model.name
    images = tone_model.parent / "data_image"
    asked = {"image_dir": images, "test_dir": test_folder, "cost": ("c1200:a300=3",)}
    found, content, predictor = evaluated(graph, tmp_path, **asked)
    costs = content["costs"]
    assert costs["rule"]["costs"] == [{"true": "c1200", "predicted": "a300", "cost": 3.0}]
    assert costs["recordings"] == 6
    assert costs["validation"]["recordings"] == 10
    assert costs["mean_cost"] == 0
    assert found.picked is not None
    # Where no mistake is made, no rule makes fewer.
    assert found.rule.costs.exceptions == ()
    assert "costs 0 a recording, and the most probable label 0" in content["costs"]["not_used"]
    store_rule(predictor, found.picked.rule)
    assert Predictor(graph).rule == found.picked.rule
    store_rule(predictor, type(found.rule)(Costs(5)))
    assert json.loads(model_json_path(graph).read_text())["decision"] is None
    store_rule(predictor, found.picked.rule)
    dropped, content, _ = evaluated(graph, tmp_path, **(asked | {"cost": ("none",)}))
    assert content["costs"] is None
    assert dropped.rule.costs.exceptions == ()
    with pytest.raises(UsageError, match="there is no label 'zoe'"):
        evaluated(graph, tmp_path, **(asked | {"cost": ("zoe:a300=2",)}))


def test_a_model_that_was_trained_again_meanwhile_stays_whole(tone_model: Path, tmp_path: Path) -> None:
    for name in ("retrained_graph.tflite", "retrained_model.json", "retrained_model.npz"):
        shutil.copy(tone_model.with_name(name), tmp_path / name)
    predictor = Predictor(tmp_path / tone_model.name)
    card = json.loads(predictor.card_path.read_text())
    predictor.card_path.write_text(json.dumps(card | {"graph_sha256": "of another"}))
    with pytest.raises(ModelError, match="was trained again meanwhile"):
        store_rule(predictor, predictor.rule)
    assert json.loads(predictor.card_path.read_text())["graph_sha256"] == "of another"


def test_chunks_are_gathered_by_recording(tone_model: Path, tmp_path: Path) -> None:
    (tmp_path / "wav" / "a300").mkdir(parents=True)
    for name in ("x.mp3_nohash_0000", "x.mp3_nohash_0001", "x.mp3_nohash_0001_aug1", "whole"):
        soundfile.write(tmp_path / "wav" / "a300" / f"{name}.wav", sound(300, 0.5, len(name)), 16_000)
    found, _, _ = evaluated(tone_model, tmp_path, test_dir=tmp_path / "wav")
    assert {one.recorded.name: one.starts.tolist() for one in found.predictions.recordings} == {
        "x.mp3": [0.0, 0.5], "whole.wav": [0.0],
    }  # fmt: skip


def test_files_that_cannot_be_judged_are_named(tone_model: Path, test_folder: Path, tmp_path: Path, capsys) -> None:
    (test_folder / "a300" / "text.wav").write_text("words")
    (test_folder / "a300" / "notes.txt").write_text("words")
    soundfile.write(test_folder / "a300" / "silent.wav", np.zeros(16_000), 16_000)
    _, content, _ = evaluated(tone_model, tmp_path, test_dir=test_folder)
    assert content["data"]["recordings"] == 6
    assert {Path(skipped["file"]).name for skipped in content["data"]["skipped"]} == {"text.wav", "silent.wav"}
    assert "silent.wav: is silent from beginning to end; left out" in capsys.readouterr().err


@pytest.mark.parametrize("labels", [["a300"], ["x6500"]])
def test_one_label_alone_and_none_at_all(tone_model: Path, test_folder: Path, tmp_path: Path, labels) -> None:
    for label in ("a300", "c1200", "x6500"):
        if label not in labels:
            shutil.rmtree(test_folder / label)
    _, content, _ = evaluated(tone_model, tmp_path, test_dir=test_folder)
    assert content["accuracy"]["recordings"]["total"] == (3 if labels == ["a300"] else 0)
    assert content["data"]["unknown_recordings"] == (0 if labels == ["a300"] else 3)


def test_nothing_to_evaluate_on_is_an_error(tone_model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty" / "a300").mkdir(parents=True)
    with pytest.raises(DatasetError, match="holds no recordings: give it one folder of recordings per label"):
        evaluated(tone_model, tmp_path, test_dir=tmp_path / "empty")
    (tmp_path / "empty" / "a300" / "x.wav").write_text("words")
    with pytest.raises(DatasetError, match="none of 1 recording could be used"):
        evaluated(tone_model, tmp_path, test_dir=tmp_path / "empty")
    with pytest.raises(DatasetError, match="gone is not a folder"):
        evaluated(tone_model, tmp_path, test_dir=tmp_path / "gone")


@pytest.fixture
def cross_validated(image_folder, retrain_config) -> Path:
    """A model of the default training, with the images that it was cross-validated on."""
    images = image_folder(recordings=6)
    write_json(images / DATASET_JSON, dataset_json(SpectrogramConfig(chunk_seconds=0.5), {}, None, complete=True))
    config = retrain_config(images, how_many_training_steps=None)
    publish(train(config), config)
    return config.output_graph


def test_a_cross_validation_is_evaluated_as_training_told_it(cross_validated: Path, tmp_path: Path) -> None:
    images = tmp_path / "data_image"
    found, content, predictor = evaluated(cross_validated, tmp_path, image_dir=images)
    card = predictor.card
    assert content["data"]["cross_validated"]
    assert content["data"]["recordings"] == card["test"]["network"]["recordings"]["total"] == 18
    for unit in ("recordings", "chunks"):
        assert content["accuracy"][unit]["right"] == card["test"]["network"][unit]["right"]
        assert content["mfcc_statistics"][unit]["right"] == card["test"]["mfcc_statistics"][unit]["right"]
    assert content["calibration"]["recordings"] == 18
    assert {one.fold for one in found.predictions.recordings} == set(range(5))
    known = np.sort(found.scores.max(axis=1))
    assert len(known) == 18
    assert (np.diff(known) >= 0).all()


def test_costs_are_judged_on_other_folds_than_they_were_chosen_on(cross_validated: Path, tmp_path: Path) -> None:
    images = tmp_path / "data_image"
    asked = {"image_dir": images, "cost": ("low:high=20",)}
    found, content, _ = evaluated(cross_validated, tmp_path, **asked)
    assert content["costs"]["validation"]["recordings"] == content["costs"]["recordings"] == 18
    assert found.picked is not None
    assert found.given.shape == found.true.shape
    assert mean_cost(found.picked.rule.costs, found.by_rule, found.true).mean == content["costs"]["mean_cost"]


def test_other_recordings_are_judged_by_the_published_model(
    cross_validated: Path, test_folder: Path, tmp_path: Path
) -> None:
    _, content, _ = evaluated(cross_validated, tmp_path, test_dir=test_folder, image_dir=tmp_path / "data_image")
    assert not content["data"]["cross_validated"]
    assert content["data"]["unknown_recordings"] == 9


def test_images_that_took_no_part_in_the_cross_validation_are_named(
    cross_validated: Path, tmp_path: Path, capsys
) -> None:
    images = tmp_path / "data_image"
    shutil.copy(next((images / "low").glob("0.wav*")), images / "high" / "new.jpg")
    (images / "low" / "other.jpg").write_bytes(next((images / "low").glob("1.wav*")).read_bytes() + b"0")
    evaluated(cross_validated, tmp_path, image_dir=images)
    assert "1 image of 56 took no part in the cross-validation; left out" in capsys.readouterr().err
    empty = tmp_path / "others"
    for label in ("a", "b"):
        (empty / label).mkdir(parents=True)
        (empty / label / "x.jpg").write_bytes(label.encode())
    with pytest.raises(DatasetError, match="holds none of the images that the model was tested on"):
        evaluated(cross_validated, tmp_path, image_dir=empty)


@pytest.mark.parametrize("damage", ["missing", "cut", "another"])
def test_stored_answers_that_cannot_be_used_are_one_line(cross_validated: Path, tmp_path: Path, damage: str) -> None:
    path = out_of_fold_path(cross_validated)
    content = path.read_bytes()
    path.unlink()
    if damage != "missing":
        path.write_bytes(content[:200] if damage == "cut" else content + b"0")
    card = json.loads(model_json_path(cross_validated).read_text())
    if damage == "cut":
        card["cross_validation"]["sha256"] = content_hash(path)
        model_json_path(cross_validated).write_text(json.dumps(card))
    reason = {"missing": "is missing", "cut": "is damaged", "another": "is of another training"}[damage]
    with pytest.raises(ModelError, match=f"retrained_out_of_fold.npz {reason}: run retrain.py again, or evaluate with"):
        evaluated(cross_validated, tmp_path, image_dir=tmp_path / "data_image")
