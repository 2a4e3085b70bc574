from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from audionet._paths import enrolled_path
from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from audionet.audio.network_input import image_features, model_inputs
from audionet.backbones.litert import Runner
from audionet.backbones.registry import prepare
from audionet.classifier.enrolment import enrol
from audionet.classifier.head import Layer
from audionet.data.dataset import Assigned, dataset_json
from audionet.data.split import SETS
from audionet.errors import DatasetError, ModelError, UsageError
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.recordings import HeldOutRecording, held_out_recordings
from audionet.export import publish as publishing
from audionet.export.publish import publish, summarise
from audionet.inference.predictor import Predictor
from audionet.metrics.accuracy import accuracy
from audionet.training import data_module
from audionet.training.config import RetrainConfig
from audionet.training.trainer import train
from audionet.utils.files import write_json
from tests.support.read_only import read_only
from tests.support.sounds import ROOT, tone


def made_by_data_maker(folder: Path) -> Path:
    write_json(folder / "dataset.json", dataset_json(SpectrogramConfig(chunk_seconds=0.5), {}, None, complete=True))
    return folder


def test_computed_bottlenecks_may_be_read_only(image_folder, retrain_config, model_dir: Path, tmp_path: Path) -> None:
    folder = made_by_data_maker(image_folder())
    config = retrain_config(folder)
    train(config)
    with read_only(folder, config.bottleneck_dir, model_dir):
        trained = train(config)
        publish(trained, config)
    assert trained.data.bottlenecks.computed == 0


def test_trains_tests_and_publishes(image_folder, retrain_config) -> None:
    folder = made_by_data_maker(image_folder())
    config = retrain_config(folder)
    trained = train(config)
    assert trained.test is not None
    assert trained.test.network.chunks.share == 1
    assert trained.test.network.recordings.total == 3
    assert trained.test.baseline is not None
    assert trained.test.baseline.chunks.total == trained.test.network.chunks.total == 9
    publish(trained, config)

    card = json.loads(config.output_model.read_text())
    assert card["labels"] == ["high", "low", "middle"]
    assert config.output_labels.read_text() == "high\nlow\nmiddle\n"
    assert card["picture"]["chunk_seconds"] == 0.5
    assert card["split"]["testing"] == {"chunks": 9, "recordings": 3}
    assert card["test"]["network"]["chunks"]["right"] == 9
    assert card["export_difference"] < 0.01
    assert {path.name for path in config.output_graph.parent.iterdir()} == {
        "retrained_graph.tflite",
        "retrained_labels.txt",
        "retrained_model.json",
        "retrained_model.npz",
    }


def test_the_default_is_cross_validated_and_fitted_on_everything(image_folder, retrain_config, capsys) -> None:
    config = retrain_config(made_by_data_maker(image_folder()), how_many_training_steps=None)
    trained = train(config)
    assert "tested" in capsys.readouterr().out
    assert trained.test is not None
    assert trained.test.network.recordings.total == trained.test.baseline.recordings.total == 15
    assert trained.test.network.chunks.share == 1
    assert len(trained.data.rows["training"]) == 45
    publish(trained, config)
    card = json.loads(config.output_model.read_text())
    assert card["split"]["training"] == {"chunks": 45, "recordings": 15}
    assert card["split"]["testing"] == {"chunks": 0, "recordings": 0}
    assert card["cross_validation"]["folds"] == 5
    assert [one["share"] for one in card["cross_validation"]["learning_curve"]] == [0.25, 0.5, 1.0]
    assert card["calibration"]["recordings"] == 15
    assert (config.output_graph.parent / "retrained_out_of_fold.npz").exists()
    answer = Predictor(config.output_graph).answer(trained.data.split.sets["training"][0].path)
    assert card["labels"][answer.probabilities.argmax()] == "high"
    publish(train(dataclasses.replace(config, testing_percentage=20.0)), config)
    assert not (config.output_graph.parent / "retrained_out_of_fold.npz").exists()


def test_tensorflow_is_not_imported_by_the_default(image_folder, retrain_config) -> None:
    config = retrain_config(made_by_data_maker(image_folder()), how_many_training_steps=None)
    prepare(config.architecture, config.model_dir, None, lambda size: np.zeros((1, *size, 3), np.uint8))
    code = f"""
import sys
from pathlib import PosixPath, WindowsPath
from audionet.training.config import RetrainConfig, StepConfig
from audionet.training.trainer import train
from audionet.export.publish import publish, summarise
config = {config!r}
trained = train(config)
publish(trained, config)
assert len(summarise(trained)) == 2
assert "tensorflow" not in sys.modules, "imported TensorFlow"
assert "sklearn" not in sys.modules, "imported scikit-learn"
"""
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONPATH": str(ROOT / "scripts")})


def test_the_same_seed_gives_the_same_files(image_folder, retrain_config, tmp_path: Path) -> None:
    config = retrain_config(made_by_data_maker(image_folder()), how_many_training_steps=None, repeats=2)
    found = []
    for name in ("one", "two"):
        asked = dataclasses.replace(
            config, output_graph=tmp_path / name / "m.tflite", output_labels=tmp_path / name / "labels.txt"
        )
        publish(train(asked), asked)
        found.append({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()})
    assert found[0] == found[1]
    assert len(json.loads(found[0]["m_model.json"])["cross_validation"]["repeats"]) == 2


@pytest.mark.slow
def test_the_endpoint_is_chosen_by_cross_validation_on_request(image_folder, retrain_config, capsys) -> None:
    folder = made_by_data_maker(image_folder())
    config = retrain_config(folder, architecture="inception_v3_speech", endpoint="auto", how_many_training_steps=None)
    trained = train(config)
    assert trained.backbone.endpoint in ("mixed2", "mixed4")
    assert trained.test.network.recordings.total == 15
    publish(trained, config)
    assert Predictor(config.output_graph).answer(trained.points[0].path).chunks
    with pytest.raises(UsageError, match="endpoint is auto: it must be a layer where the head is not cross-validated"):
        retrain_config(folder, endpoint="auto", fine_tune=1)


@pytest.mark.parametrize("flag", ["testing_percentage", "validation_percentage"])
def test_a_percentage_asks_for_the_classic_split(image_folder, retrain_config, flag: str) -> None:
    config = retrain_config(image_folder(recordings=10), how_many_training_steps=None, **{flag: 20.0})
    trained = train(config)
    assert trained.cross_validation is None
    assert trained.data.exact
    summarise(trained)
    assert list((trained.summaries / "validation").glob("events.*"))
    assert not list(trained.summaries.glob(".*"))  # it is finished
    sizes = {name: len({(p.label, p.recording) for p in of}) for name, of in trained.data.split.sets.items()}
    other = "testing" if flag.startswith("validation") else "validation"
    assert sizes == {"training": 21, flag.partition("_")[0]: 6, other: 3}


def test_a_set_too_large_for_exact_fits_takes_steps_and_says_so(
    image_folder, retrain_config, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setattr(data_module, "MAX_COST", 100)
    trained = train(retrain_config(image_folder(), how_many_training_steps=None))
    assert trained.cross_validation is None
    assert not trained.data.exact
    assert "45 chunks of 3 labels are too many to fit the top layer exactly" in capsys.readouterr().out


def test_a_label_with_one_recording_is_cut_in_time_beside_full_ones(image_folder, retrain_config) -> None:
    folder = made_by_data_maker(image_folder(recordings=6, chunks=8))
    for path in (folder / "low").glob("*.jpg"):
        if not path.name.startswith("0.wav"):
            path.unlink()
    trained = train(retrain_config(folder, how_many_training_steps=None))
    assert trained.data.split.seen_in_training == ["low"]
    assert trained.test.network.recordings.total == 13


def test_recordings_that_all_are_copies_of_each_other_cannot_be_tested(image_folder, retrain_config) -> None:
    folder = made_by_data_maker(image_folder(recordings=4, chunks=3))
    contents = {path.name.rpartition("_")[2]: path.read_bytes() for path in (folder / "low").glob("0.wav*")}
    for path in (folder / "low").glob("*.jpg"):
        path.write_bytes(contents[path.name.rpartition("_")[2]])
    trained = train(retrain_config(folder, how_many_training_steps=None))
    assert trained.data.folds.untested == ["low"]
    assert trained.test.network.recordings.total == 8
    assert trained.data.labels == ["high", "low", "middle"]


def test_groups_are_kept_together_in_folds_and_splits(image_folder, retrain_config) -> None:
    folder = image_folder(recordings=9)
    expression = r"^([0-9])"  # of 0.wav to 8.wav in every label: nine groups across the labels
    trained = train(retrain_config(folder, group=expression, how_many_training_steps=None))
    assert len(set(trained.data.groups.values())) == 9
    for training, test in zip(trained.data.folds.training, trained.data.folds.tests, strict=True):
        names = [{trained.data.bottlenecks.images[row].recording for row in rows} for rows in (training, test)]
        assert not names[0] & names[1]
    split = train(retrain_config(folder, group=expression, testing_percentage=30.0)).data.split
    names = {name: {image.recording for image in of} for name, of in split.sets.items()}
    assert not names["training"] & names["testing"]
    with pytest.raises(UsageError, match=r"group x\\d: matches none of 27 recordings, such as 0\.wav"):
        train(retrain_config(folder, group=r"x\d"))


def test_the_exported_file_is_the_trained_model(image_folder, retrain_config) -> None:
    config = retrain_config(image_folder(), how_many_training_steps=3, learning_rate=0.1)
    trained = train(config)
    publish(trained, config)
    runner = Runner(config.output_graph)
    assert runner._outputs[0]["name"] == "final_result"
    network = trained.data.bottlenecks.records.take("network").astype(np.float32)
    for row, image in enumerate(trained.data.bottlenecks.images):
        features = image_features(image.path.read_bytes(), trained.backbone.input_size)
        answer = runner(*model_inputs(features, trained.backbone.statistics))
        expected = trained.head.probabilities(network[row : row + 1])[0]
        assert expected.max() < 0.95  # where all answers are sure, a wrong slope does not show
        np.testing.assert_allclose(answer, expected, atol=0.005 / trained.calibration.temperature)


def test_no_recording_is_in_two_sets(image_folder, retrain_config) -> None:
    trained = train(retrain_config(image_folder(recordings=7)))
    heard = [{(p.label, p.recording) for p in trained.data.split.sets[name]} for name in SETS]
    assert heard[0].isdisjoint(heard[1])
    assert heard[0].isdisjoint(heard[2])
    assert heard[1].isdisjoint(heard[2])


def test_labels_that_mean_nothing_cannot_be_told_apart(image_folder, retrain_config, tmp_path: Path) -> None:
    """The leak test: three labels with the same sounds must come out at chance, not above."""
    folder = image_folder(recordings=20, chunks=2)
    contents = [path.read_bytes() for path in sorted(folder.rglob("*.jpg"))]
    right: list[bool] = []
    for seed in range(6):
        generator = np.random.default_rng(seed)
        noise = tmp_path / f"noise{seed}"
        for label in ("a", "b", "c"):
            (noise / label).mkdir(parents=True)
            for recording in range(20):
                jpg = contents[generator.integers(len(contents))]
                for chunk in range(4):  # a recording's chunks resemble each other: what a leaky split would exploit
                    (noise / label / f"{recording}_nohash_{chunk:04d}.jpg").write_bytes(jpg)
        trained = train(retrain_config(noise, testing_percentage=40.0))
        assert trained.test is not None
        found = trained.test.network.recordings
        right += [True] * found.right + [False] * (found.total - found.right)
    pooled = accuracy(np.array(right))
    assert pooled.total > 100
    assert pooled.low < 1 / 3 < pooled.high


def test_a_copy_of_a_training_recording_is_no_test(
    image_folder, retrain_config, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image_folder(recordings=6, chunks=2)
    for path in sorted((folder / "low").glob("*.jpg")):
        path.with_name(f"copy of {path.name}").write_bytes(path.read_bytes())
    trained = train(retrain_config(folder, testing_percentage=30.0))
    content = {name: {p.path.read_bytes() for p in trained.data.split.sets[name]} for name in SETS}
    assert not content["training"] & content["testing"]
    assert not content["training"] & content["validation"]
    assert not content["validation"] & content["testing"]
    assert "with copies in another set" in capsys.readouterr().out


def test_one_recording_under_two_labels_is_said(
    image_folder, retrain_config, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = image_folder()
    for path in (folder / "high").glob("0.wav*"):
        (folder / "low" / path.name.replace("0.wav", "again.wav")).write_bytes(path.read_bytes())
    train(retrain_config(folder))
    assert capsys.readouterr().err.count("high/0.wav: has the same sound as low/again.wav") == 1


@pytest.mark.parametrize("output", ["output_graph", "output_labels", "summaries_dir"])
def test_outputs_that_cannot_be_written_are_found_before_the_work(
    image_folder, retrain_config, tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    place = tmp_path / "taken.tflite"
    place.touch() if output == "summaries_dir" else place.mkdir()
    with pytest.raises((UsageError, NotADirectoryError), match=r"taken\.tflite"):
        train(retrain_config(image_folder(), **{output: place}))
    assert capsys.readouterr().out == ""


def test_images_of_unknown_making_have_no_baseline(image_folder, retrain_config) -> None:
    config = retrain_config(image_folder())
    trained = train(config)
    assert trained.data.spectrogram is None
    assert trained.test is not None
    assert trained.test.baseline is None


def test_labels_with_one_recording_are_said(image_folder, retrain_config) -> None:
    trained = train(retrain_config(image_folder(recordings=1, chunks=12)))
    assert trained.data.split.seen_in_training == ["high", "low", "middle"]
    assert trained.test is not None


def test_too_little_for_a_test_still_trains(image_folder, retrain_config) -> None:
    config = retrain_config(image_folder(recordings=1, chunks=2))
    trained = train(config)
    assert trained.test is None
    publish(trained, config)
    assert json.loads(config.output_model.read_text())["test"] is None


def test_misclassified_images_are_listed(image_folder, retrain_config) -> None:
    folder = image_folder()
    for path in (folder / "low").glob("*.jpg"):  # the same sound under two names, a little differently packed
        path.write_bytes((folder / "high" / path.name).read_bytes() + b"\0")
    trained = train(retrain_config(folder))
    assert trained.test is not None
    wrong = trained.test.misclassified
    assert len(wrong) == trained.test.network.chunks.total - trained.test.network.chunks.right > 0
    assert all(image.label != given for image, given in wrong)


def test_one_label_is_refused(image_folder, retrain_config) -> None:
    with pytest.raises(DatasetError, match="only 'high' has images"):
        train(retrain_config(image_folder(labels=("high",))))


def test_a_label_whose_images_are_all_damaged(image_folder, retrain_config) -> None:
    folder = image_folder(labels=("high", "low"))
    for path in (folder / "low").glob("*.jpg"):
        path.write_bytes(path.name.encode())
    with pytest.raises(DatasetError, match="only 'high' has readable images"):
        train(retrain_config(folder))


def test_unfinished_images_are_refused(image_folder, retrain_config) -> None:
    folder = image_folder()
    (folder / "dataset.json").write_text('{"complete": false}')
    with pytest.raises(DatasetError, match=r"run data_maker\.py again"):
        train(retrain_config(folder))


def test_a_model_that_answers_otherwise_is_not_published(
    image_folder, retrain_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = retrain_config(image_folder())
    trained = train(config)
    publish(trained, config)
    before = config.output_graph.read_bytes(), config.output_model.read_bytes()

    last = trained.head.last
    other = dataclasses.replace(trained.head, last=Layer(-last.weights, last.biases))
    join = publishing.join_head
    monkeypatch.setattr(publishing, "join_head", lambda backbone, _, *rest: join(backbone, other, *rest))
    with pytest.raises(ModelError, match="nothing was published"):
        publish(trained, config)
    assert (config.output_graph.read_bytes(), config.output_model.read_bytes()) == before


@pytest.fixture
def published(image_folder, retrain_config):
    config = retrain_config(made_by_data_maker(image_folder()))
    publish(train(config), config)
    return config


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda c: c.output_graph.unlink(), r"is missing: run retrain\.py first"),
        (lambda c: c.output_model.unlink(), "model.json is missing"),
        (lambda c: c.output_model.write_text("{"), "cannot be read"),
        (lambda c: c.output_model.write_text('{"format": 99}'), "was written by another version"),
        (lambda c: c.output_graph.write_bytes(c.output_graph.read_bytes()[:-1] + b"x"), "does not belong to"),
        (lambda c: c.output_labels.write_text("high\nlow\n"), "lists other labels"),
        (lambda c: c.output_labels.unlink(), "cannot be read"),
    ],
)
def test_model_files_that_do_not_belong_together(published, damage, message: str) -> None:
    Predictor(published.output_graph, published.output_labels)
    damage(published)
    with pytest.raises(ModelError, match=message) as error:
        Predictor(published.output_graph, published.output_labels)
    assert len(str(error.value).splitlines()) == 1


def test_an_image_of_another_size_is_refused(published, tmp_path: Path) -> None:
    from PIL import Image

    Image.new("RGB", (640, 480)).save(tmp_path / "x.jpg")
    predictor = Predictor(published.output_graph)
    with pytest.raises(DatasetError, match=r"640 x 480, but this model's are 47 x 128: give the recording"):
        predictor.answer(tmp_path / "x.jpg")


def test_labelling_a_training_image(published) -> None:
    predictor = Predictor(published.output_graph)
    for label in predictor.labels:
        path = next((published.image_dir / label).glob("*.jpg"))
        assert predictor.ranked(predictor.answer(path).probabilities, 1)[0]["label"] == label


def test_images_of_another_size_are_left_out_and_named(image_folder, retrain_config, capsys) -> None:
    from PIL import Image

    folder = made_by_data_maker(image_folder())
    odd = [folder / "low" / f"9.wav_nohash_{index:04d}.jpg" for index in range(7)]
    for shade, path in enumerate(odd):
        Image.new("RGB", (60, 128), (shade, 0, 0)).save(path)
    trained = train(retrain_config(folder))
    assert not {image.path for image in trained.data.bottlenecks.images} & set(odd)
    errors = capsys.readouterr().err
    assert "9.wav_nohash_0004.jpg: is 60 x 128, the others are 47 x 128; left out" in errors
    assert "... and 2 more of another size" in errors


def test_images_of_other_sizes_than_dataset_json_says(image_folder, retrain_config) -> None:
    folder = image_folder()
    write_json(folder / "dataset.json", dataset_json(SpectrogramConfig(), {}, None, complete=True))
    with pytest.raises(DatasetError, match=r"no image has the size that dataset\.json states"):
        train(retrain_config(folder))


def test_foreign_images_of_several_sizes_are_resized(image_folder, retrain_config, capsys) -> None:
    from PIL import Image

    folder = image_folder()
    for path in (folder / "low").glob("*.jpg"):
        with Image.open(path, formats=["JPEG"]) as image:
            image.resize((100, 70)).save(path)
    trained = train(retrain_config(folder))
    assert len(trained.data.bottlenecks.images) == 45
    assert "the images have 2 sizes" in capsys.readouterr().err


@pytest.mark.parametrize("architecture", ["", "simple_cnn"])
def test_a_jpg_that_is_none_is_named_and_left_out(image_folder, retrain_config, capsys, architecture: str) -> None:
    folder = image_folder()
    (folder / "low" / "7.wav_nohash_0000.jpg").write_text("words")
    changes = {"architecture": architecture} if architecture else {}
    trained = train(retrain_config(folder, how_many_training_steps=3, **changes))
    assert len(trained.data.bottlenecks.images) == 45
    assert "7.wav_nohash_0000.jpg: is not a JPG image" in capsys.readouterr().err


def test_a_label_that_appears_between_runs_is_learned(image_folder, retrain_config) -> None:
    folder = image_folder()
    aside = folder.parent / "aside"
    (folder / "low").rename(aside)
    config = retrain_config(folder)
    publish(train(config), config)
    assert Predictor(config.output_graph).labels == ["high", "middle"]
    aside.rename(folder / "low")
    trained = train(config)
    assert trained.data.bottlenecks.computed == 15
    publish(trained, config)
    assert Predictor(config.output_graph).labels == ["high", "low", "middle"]


def test_percentages_never_take_the_last_recording_from_training(image_folder, retrain_config) -> None:
    trained = train(retrain_config(image_folder(), testing_percentage=90.0, validation_percentage=9.9))
    assert {image.label for image in trained.data.split.sets["training"]} == {"high", "low", "middle"}
    assert trained.test is not None


def test_one_test_recording_is_a_test_with_a_wide_interval(image_folder, retrain_config) -> None:
    folder = image_folder(labels=("high", "low"))
    for path in (folder / "low").glob("*.jpg"):
        if not path.name.startswith("0.wav_nohash_0000"):
            path.unlink()
    trained = train(retrain_config(folder))
    assert trained.test is not None
    result = trained.test.network.recordings
    assert (result.right, result.total) == (1, 1)
    assert result.low < 0.25


def test_a_search_is_part_of_the_training_and_said(image_folder, retrain_config, capsys) -> None:
    config = retrain_config(made_by_data_maker(image_folder()), hyper_search=3, how_many_training_steps=20)
    trained = train(config)
    publish(trained, config)
    assert "best of 3 settings" in capsys.readouterr().out
    card = json.loads(config.output_model.read_text())
    assert card["training"]["hyper_search"] == 3
    assert card["training"]["head"] == trained.config.head == trained.head.kind
    width = len(trained.head.offset)
    assert card["training"]["learning_rate"] == pytest.approx(trained.config.stepping.rate(width))


@pytest.mark.slow
def test_thousands_of_labels(capsys) -> None:
    """Learned from features alone: five thousand folders of images would take longer to write than to learn."""
    from audionet.data.dataset import ChunkImage
    from audionet.data.split import split_images
    from audionet.training.config import StepConfig
    from audionet.training.data_module import split_table
    from audionet.training.head_training import train_head
    from tests.support.features import clusters, examples, share_right

    images = [ChunkImage(f"{n // 4:05d}", f"{n}.wav", 0, Path("x"), f"{n}.jpg") for n in range(20_000)]
    split = split_images(images, 10, 10)
    print(split_table(sorted({image.label for image in images}), split))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 42
    assert lines[-1].split() == ["all", "5000", "labels", "10000", "(10000)", "5000", "(5000)", "5000", "(5000)"]

    data = clusters(20_000, 64, 5000, 1, 0.1)
    nothing = examples(np.zeros((0, 64), np.float32), np.zeros(0, np.int64))
    config = StepConfig(how_many_training_steps=200, train_batch_size=500)
    head, _ = train_head(data, nothing, 5000, [64], config)
    assert share_right(head, clusters(1000, 64, 5000, 2, 0.1)) > 0.9


def test_examples_of_nobody_are_no_label_but_help(image_folder, retrain_config, capsys) -> None:
    """With two labels, nothing is known of unknown voices without them."""
    config = retrain_config(made_by_data_maker(image_folder(8, 3, ("high", "low"))), unknown_fpr=25.0)
    alone = train(config)
    assert alone.open_set.trials is None
    shutil.rmtree(config.image_dir)
    folder = made_by_data_maker(image_folder(8, 3, ("high", "low", "_unknown_")))
    trained = train(config)
    assert trained.data.labels == ["high", "low"]
    assert "_unknown_" in capsys.readouterr().out
    assert not any(image.label == "_unknown_" for part in trained.data.split.sets.values() for image in part)
    assert {name: len(rows) for name, rows in trained.data.background.items()} == {
        "training": 18, "validation": 3, "testing": 3,
    }  # fmt: skip
    assert trained.open_set.rejection is not None
    publish(trained, config)
    card = json.loads(config.output_model.read_text())
    assert card["labels"] == ["high", "low"]
    assert card["open_set"]["background_recordings"] == 8
    nobody = next((folder / "_unknown_").glob("*.jpg"))
    assert Predictor(config.output_graph).answer(nobody).decision.label is None


def test_calibration_is_part_of_every_number_and_of_the_model(image_folder, retrain_config) -> None:
    config = retrain_config(made_by_data_maker(image_folder(recordings=8)))
    trained = train(config)
    publish(trained, config)
    card = json.loads(config.output_model.read_text())
    assert card["calibration"] == trained.calibration._asdict() | {"recordings": 3}
    assert card["test"]["leaky_split"]["total"] == card["test"]["network"]["chunks"]["total"]
    image = trained.data.split.sets["validation"][0]
    [probabilities] = Predictor(config.output_graph).answer(image.path).chunks[0].probabilities[None]
    assert 0.8 < probabilities.max() < 0.998  # three right of three: Laplace says 4/5, and three prove little of that


def test_voices_enrolled_in_the_earlier_model_are_put_aside(image_folder, retrain_config, capsys) -> None:
    config = retrain_config(made_by_data_maker(image_folder()))
    publish(train(config), config)
    enrolled = enrolled_path(config.output_graph)
    card = json.loads(config.output_model.read_text())
    embeddings = np.eye(3, Predictor(config.output_graph).dimensions, dtype=np.float32)
    enrol(enrolled, card["graph_sha256"], "ann", embeddings, 9.0)
    publish(train(config), config)
    assert enrolled.exists()  # the same model again
    config = dataclasses.replace(config, steps=dataclasses.replace(config.steps, train_batch_size=7))
    publish(train(config), config)
    assert not enrolled.exists()
    [kept] = enrolled.parent.glob("retrained_enrolled-*.json")
    assert "ann" in kept.read_text()
    assert f"kept as {kept.name}, enrol them again" in capsys.readouterr().err


def test_a_split_by_chunk_claims_more_where_recordings_are_all_there_is_to_know(tmp_path: Path, retrain_config) -> None:
    """Recordings differ, labels do not: a true test finds chance, a leaky one recognises the recordings."""
    generator = np.random.default_rng(0)
    config = SpectrogramConfig(chunk_seconds=0.5)
    for label in ("a", "b"):
        (tmp_path / "data_image" / label).mkdir(parents=True)
        for recording in range(10):
            pitch = generator.uniform(300, 5000)
            for chunk in range(6):
                sound = tone(pitch, 0.5) + 0.05 * generator.standard_normal(8000)
                jpg = render((sound * 16_000).astype(np.int16), config)
                (tmp_path / "data_image" / label / f"{recording}.wav_nohash_{chunk:04d}.jpg").write_bytes(jpg)
    trained = train(retrain_config(made_by_data_maker(tmp_path / "data_image"), testing_percentage=30))
    assert trained.test is not None
    assert trained.test.leaky is not None
    assert trained.test.leaky.share > 0.8
    assert trained.test.network.chunks.share < 0.65


def test_the_sets_that_recordings_come_with_are_obeyed(image_folder, retrain_config, capsys) -> None:
    folder = image_folder(recordings=6)
    sets = {f"{i}.wav": ("train", "train", "train", "dev", "test", "test")[i] for i in range(6)}
    content = dataset_json(SpectrogramConfig(chunk_seconds=0.5), {}, None, True, Assigned({}, sets))
    write_json(folder / "dataset.json", content)
    config = retrain_config(folder, split="given", how_many_training_steps=None)
    trained = train(config)
    names = {name: {image.recording for image in found} for name, found in trained.data.split.sets.items()}
    assert names == {"training": {"0.wav", "1.wav", "2.wav"}, "validation": {"3.wav"}, "testing": {"4.wav", "5.wav"}}
    assert trained.test is not None
    assert trained.test.network.recordings.total == 6
    publish(trained, config)
    found = held_out_of(config)
    assert {recording.name for recording in found} == {"4.wav", "5.wav"}


def test_the_folds_that_recordings_come_with_are_obeyed(image_folder, retrain_config) -> None:
    folder = image_folder(recordings=6)
    sets = {f"{i}.wav": f"fold{i % 2}" for i in range(6)}
    content = dataset_json(SpectrogramConfig(chunk_seconds=0.5), {}, None, True, Assigned({}, sets))
    write_json(folder / "dataset.json", content)
    trained = train(retrain_config(folder, split="given", how_many_training_steps=None))
    assert trained.data.folds is not None
    found = {
        frozenset(trained.data.bottlenecks.images[row].recording for row in rows) for rows in trained.data.folds.tests
    }
    assert found == {frozenset({"0.wav", "2.wav", "4.wav"}), frozenset({"1.wav", "3.wav", "5.wav"})}
    with pytest.raises(UsageError, match="only a top layer that is fitted exactly"):
        train(retrain_config(folder, split="given"))
    with pytest.raises(UsageError, match="split is given: it must be auto where percentages are given"):
        retrain_config(folder, split="given", testing_percentage=10)


def test_evaluation_keeps_groups_together_as_training_did(image_folder, retrain_config) -> None:
    folder = made_by_data_maker(image_folder(recordings=9))
    config = retrain_config(folder, testing_percentage=34, validation_percentage=0, group=r"^([012])|^([345])|^[678]")
    trained = train(config)
    publish(trained, config)
    tested = {(image.label, image.recording) for image in trained.data.split.sets["testing"]}
    assert {(recording.label, recording.name) for recording in held_out_of(config)} == tested


def held_out_of(config: RetrainConfig) -> list[HeldOutRecording]:
    evaluate = EvaluateConfig(graph=config.output_graph, image_dir=config.image_dir)
    return held_out_recordings(Predictor(config.output_graph), evaluate)[1]
