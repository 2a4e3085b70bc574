"""Every form a model is written in answers the same."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from audionet._paths import GRAPH_SUFFIXES, enrolled_path, lite_path
from audionet.audio.config import SpectrogramConfig
from audionet.audio.network_input import STATISTICS_WIDTHS, image_features
from audionet.backbones import bottlenecks
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.classifier.enrolment import enrol
from audionet.classifier.head import Head, Layer
from audionet.classifier.model_files import load_model_files
from audionet.data.dataset import dataset_json
from audionet.data.naming import DATASET_JSON
from audionet.errors import DatasetError, ModelError, UsageError
from audionet.export import formats
from audionet.export import publish as publishing
from audionet.export.publish import publish
from audionet.export.tf_formats import load_graph
from audionet.inference.predictor import Predictor
from audionet.training.results import Trained
from audionet.training.trainer import train
from audionet.utils.files import LOCK_NAME, write_json
from tests.support.models import save_backbone
from tests.support.scripts import run_script
from tests.support.sounds import ROOT, SAMPLE_AUDIO

VOICE = np.eye(3, 7, dtype=np.float32)


def probabilities(path: Path, jpgs: list[bytes], trained: Trained) -> np.ndarray:
    """What somebody else's program would get from the file, without a line of ours but for a frozen graph's loading."""
    tf = import_tensorflow()
    import keras

    if path.suffix == ".tflite":
        predictor = Predictor(path)
        return np.stack([predictor.predict_image(jpg).probabilities for jpg in jpgs])
    if path.suffix == ".pb":
        return np.concatenate([load_graph(path, "final_result")(tf.constant([jpg])).numpy() for jpg in jpgs])
    if path.suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        kind = json.loads(session.get_modelmeta().custom_metadata_map["statistics"])
        images = [image_features(jpg, tuple(session.get_inputs()[0].shape[1:3])) for jpg in jpgs]
        values = [{"pixels": image.pixels} for image in images]
        for value, image in zip(values, images, strict=True):
            value |= {} if kind is None else {"statistics": image.statistics(kind)[None]}
        return np.concatenate([session.run(["final_result"], value)[0] for value in values])
    if path.suffix == ".keras":
        images = [image_features(jpg, trained.backbone.input_size) for jpg in jpgs]
        inputs = [np.concatenate([image.pixels for image in images]).astype(np.float32)]
        if trained.backbone.statistics is not None:
            inputs.append(np.stack([image.statistics(trained.backbone.statistics) for image in images]))
        return keras.models.load_model(path).predict(inputs, verbose=0)
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    return serve(jpeg=tf.constant(jpgs))["final_result"].numpy()


@pytest.mark.slow
def test_every_export_of_the_bundled_backbone_answers_the_same(image_folder, retrain_config, tmp_path: Path) -> None:
    quick = {"how_many_training_steps": 10, "learning_rate": 0.002}
    config = retrain_config(image_folder(), architecture="inception_v3_speech", **quick)
    trained = train(config)
    jpgs = [image.path.read_bytes() for image in trained.points[::5]]
    found = {}
    for suffix in GRAPH_SUFFIXES:
        asked = dataclasses.replace(config, output_graph=tmp_path / "out" / f"model{suffix}")
        publish(trained, asked)
        found[suffix] = probabilities(asked.output_graph, jpgs, trained)
        Predictor(asked.output_graph)
    for suffix, answers in found.items():
        np.testing.assert_allclose(answers, found[".tflite"], atol=0.02, err_msg=suffix)
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-4)
    assert found[".tflite"].max() < 0.98  # where all answers are sure, a difference does not show
    np.testing.assert_allclose(found[".pb"], found[""], atol=1e-5)


@pytest.mark.parametrize("head", ["linear", "mlp", "cosine"])
@pytest.mark.parametrize("suffix", [".pb", "", ".onnx"])
def test_every_head_survives_every_export(image_folder, retrain_config, head: str, suffix: str) -> None:
    config = retrain_config(image_folder(), head=head, how_many_training_steps=30)
    config = dataclasses.replace(config, output_graph=config.output_graph.with_name(f"model{suffix}"))
    trained = train(config)
    publish(trained, config)
    jpgs = [image.path.read_bytes() for image in trained.points]
    found = probabilities(config.output_graph, jpgs, trained)
    np.testing.assert_allclose(found, trained.head.probabilities(trained.features), atol=0.05)  # the cache is fp16
    np.testing.assert_allclose(found, probabilities(lite_path(config.output_graph), jpgs, trained), atol=0.05)
    card = json.loads(config.output_model.read_text())
    assert card["exports"][config.output_graph.name]["difference"] < 0.05
    assert card["training"]["head"] == head


def test_a_network_from_scratch_as_keras(image_folder, retrain_config, tmp_path: Path) -> None:
    graph = tmp_path / "out" / "model.keras"
    config = retrain_config(
        image_folder(), architecture="simple_cnn", head="mlp", how_many_training_steps=5, output_graph=graph
    )
    trained = train(config)
    publish(trained, config)
    jpgs = [image.path.read_bytes() for image in trained.points[::7]]
    expected = trained.head.probabilities(trained.features[::7])
    np.testing.assert_allclose(probabilities(graph, jpgs, trained), expected, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["bands", "mfcc"])
def test_images_of_another_height_are_read_alike(kind: str, image_folder, retrain_config, tmp_path: Path) -> None:
    """Rows are not bands there: both sides resize before they take statistics."""
    folder = image_folder()
    for path in folder.rglob("*.jpg"):
        with Image.open(path, formats=["JPEG"]) as image:
            image.resize((90, 77)).save(path, quality=95)
    config = retrain_config(folder, output_graph=tmp_path / "out" / "model.pb", how_many_training_steps=5)
    trained = train(config)
    trained = dataclasses.replace(trained, backbone=dataclasses.replace(trained.backbone, statistics=kind))
    generator = np.random.default_rng(0)
    width = trained.backbone.width + STATISTICS_WIDTHS[kind]
    weights = Layer(generator.standard_normal((width, 3)).astype(np.float32), np.zeros(3, np.float32))
    head = Head(np.zeros(width, np.float32), np.ones(width, np.float32), None, False, weights)
    jpgs = [image.path.read_bytes() for image in trained.points]
    images = [image_features(jpg, trained.backbone.input_size) for jpg in jpgs]
    features = np.concatenate([trained.features, np.stack([p.statistics(kind) for p in images])], axis=1)
    comparison = trained.open_set.comparison
    wider = np.pad(comparison.own.weights, ((0, STATISTICS_WIDTHS[kind]), (0, 0)))
    comparison = dataclasses.replace(comparison, own=Layer(wider, comparison.own.biases))
    open_set = dataclasses.replace(trained.open_set, comparison=comparison)
    publish(dataclasses.replace(trained, head=head, features=features, open_set=open_set), config)
    np.testing.assert_allclose(
        probabilities(config.output_graph, jpgs, trained), head.probabilities(features), atol=0.01
    )


def test_a_saved_model_backbone_is_no_keras_file(image_folder, retrain_config, tmp_path: Path) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "model.keras")
    with pytest.raises(
        ModelError, match=r"which a \.keras file cannot hold: name a \.tflite, \.onnx or \.pb file, or a folder"
    ):
        publish(train(config), config)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", ["map", "concat", "Identity", "network"])
def test_the_frozen_graphs_output_has_its_name_whatever_the_networks_nodes_have(
    image_folder, retrain_config, tmp_path: Path, name: str
) -> None:
    config = retrain_config(
        image_folder(),
        output_graph=tmp_path / "out" / "model.pb",
        how_many_training_steps=3,
        final_tensor_name=name,
    )
    publish(train(config), config)
    tf = import_tensorflow()
    nodes = tf.compat.v1.GraphDef.FromString(config.output_graph.read_bytes()).node
    operations = {node.name: node.op for node in nodes}
    assert (operations[name], operations["jpeg"]) == ("Softmax", "Placeholder")
    assert json.loads(config.output_model.read_text())["exports"]["model.pb"]["difference"] < 0.05


@pytest.mark.parametrize("name", ["last", "features", "standardise"])
def test_a_keras_files_output_may_be_named_like_a_layer(
    image_folder, retrain_config, tmp_path: Path, name: str
) -> None:
    graph = tmp_path / "out" / "model.keras"
    config = retrain_config(image_folder(), architecture="simple_cnn", how_many_training_steps=3, output_graph=graph)
    config = dataclasses.replace(config, final_tensor_name=name)
    publish(train(config), config)
    import keras

    model = keras.models.load_model(graph)
    assert model.layers[-1].name == name
    with pytest.raises(ValueError, match="shape"):
        model.predict(np.zeros((1, 77, 90, 3), np.float32), verbose=0)


@pytest.mark.parametrize("suffix", [".pb", ""])
def test_images_of_another_size_are_refused_as_in_labelling(
    image_folder, retrain_config, tmp_path: Path, suffix: str
) -> None:
    folder = image_folder()
    settings = SpectrogramConfig(chunk_seconds=0.5)
    write_json(folder / DATASET_JSON, dataset_json(settings, {}, None, complete=True))
    config = retrain_config(folder, output_graph=tmp_path / "out" / f"model{suffix}", how_many_training_steps=3)
    trained = train(config)
    publish(trained, config)
    right = trained.points[0].path
    buffer = io.BytesIO()
    with Image.open(right) as image:
        image.resize((90, 77)).save(buffer, "JPEG")
    (tmp_path / "other.jpg").write_bytes(buffer.getvalue())
    size = f"are {settings.frames} x {settings.rows}"
    assert probabilities(config.output_graph, [right.read_bytes()], trained).shape == (1, 3)
    with pytest.raises(import_tensorflow().errors.InvalidArgumentError, match=size):
        probabilities(config.output_graph, [right.read_bytes(), buffer.getvalue()], trained)
    with pytest.raises(DatasetError, match=size):
        Predictor(config.output_graph).answer(tmp_path / "other.jpg")


def test_a_saved_model_is_replaced_and_nothing_else_is(image_folder, retrain_config, tmp_path: Path) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "served", how_many_training_steps=3)
    trained = train(config)
    publish(trained, config)
    first = (config.output_graph / "saved_model.pb").stat().st_mtime_ns
    publish(trained, config)
    assert (config.output_graph / "saved_model.pb").stat().st_mtime_ns > first
    assert sorted(path.name for path in config.output_graph.parent.iterdir()) == [
        "retrained_labels.txt",
        "served",
        "served.tflite",
        "served_model.json",
        "served_model.npz",
    ]
    precious = tmp_path / "holiday"
    precious.mkdir()
    for folder in (precious, config.output_graph):
        (folder / "photo.raw").touch()
        with pytest.raises(UsageError, match=r"exists, and is not as retrain\.py wrote it: remove it"):
            train(dataclasses.replace(config, output_graph=folder))
        assert (folder / "photo.raw").exists()


def test_other_forms_of_the_same_model_stay_good_and_of_another_are_named(
    image_folder, retrain_config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "model.pb", how_many_training_steps=3)
    publish(train(config), config)
    folder = dataclasses.replace(config, output_graph=tmp_path / "out" / "model")
    publish(train(folder), folder)
    assert Predictor(config.output_graph).labels == Predictor(folder.output_graph).labels
    assert capsys.readouterr().err.count("earlier training") == 0
    other = dataclasses.replace(config, output_graph=tmp_path / "out" / "model.tflite", seed=3, head="mlp")
    publish(train(other), other)
    errors = capsys.readouterr().err
    assert errors.count("is of an earlier training and can no longer be used") == 2
    with pytest.raises(ModelError, match=r"does not belong to model\.pb"):
        Predictor(config.output_graph)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda graph: graph.unlink(), r"model\.pb is missing: run retrain\.py first"),
        (lambda graph: graph.write_bytes(b"other"), r"does not belong to model\.pb"),
        (lambda graph: lite_path(graph).unlink(), r"model\.tflite, which belongs to model\.pb, is missing"),
        (lambda graph: lite_path(graph).write_bytes(b"other"), r"does not belong to model\.tflite"),
    ],
)
def test_a_graph_and_its_twin_belong_together(image_folder, retrain_config, tmp_path: Path, damage, message) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "model.pb", how_many_training_steps=3)
    publish(train(config), config)
    Predictor(config.output_graph)
    damage(config.output_graph)
    with pytest.raises(ModelError, match=message):
        Predictor(config.output_graph)


def test_a_model_stays_whole_while_the_next_one_is_written(
    image_folder, retrain_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "model.pb", how_many_training_steps=3)
    trained = train(config)
    publish(trained, config)
    earlier = load_model_files(config.output_graph).network
    enrol(enrolled_path(config.output_graph), Predictor(config.output_graph).card["graph_sha256"], "zoe", VOICE, 9.0)
    difference, replace = publishing.difference, os.replace
    moments: list[str] = []

    def compare(*arguments: Any) -> float:
        assert Predictor(config.output_graph, with_enrolled=False)._runner._model == earlier
        moments.append("written")
        return difference(*arguments)

    def rename(source: Path, target: Path) -> None:
        replace(source, target)
        if Path(target).parent == config.output_graph.parent and not Path(target).name.startswith("."):
            moments.append(re.sub(r"-\w{8}", "", Path(target).name))

    for module in (publishing, formats):
        monkeypatch.setattr(module, "difference", compare)
    monkeypatch.setattr(os, "replace", rename)
    publish(dataclasses.replace(trained, head=trained.head.with_temperature(1.1)), config)
    names = ["model.pb", "model.tflite", "model_model.npz", "model_model.json", "retrained_labels.txt"]
    assert moments == ["written", "written", "model_enrolled.json", *names]
    assert load_model_files(config.output_graph).network != earlier
    assert not Predictor(config.output_graph).enrolled
    monkeypatch.undo()
    monkeypatch.setattr(publishing, "_card", lambda *_: {"labels": {1, 2}})
    with pytest.raises(TypeError):
        publish(trained, config)
    assert load_model_files(config.output_graph).network != earlier
    assert not list(config.output_graph.parent.glob(".audionet-tmp-*"))


def test_a_disk_that_is_full_is_said_of_the_file_that_is_written(
    image_folder, retrain_config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "model.tflite", how_many_training_steps=3)
    trained = train(config)
    write = Path.write_bytes

    def full(path: Path, content: bytes) -> int:
        if content.startswith(b"PK"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OSError, match="No space left") as error:
        publish(trained, config)
    assert Path(error.value.filename).name == "model_model.npz"


def test_where_there_is_a_gpu_it_computes_the_bottlenecks(
    image_folder, retrain_config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This CPU stands in for it: the same code, through TensorFlow."""
    config = retrain_config(image_folder())
    on_cores = train(config)
    monkeypatch.setattr(bottlenecks, "gpus", lambda: ["a GPU"])
    (config.image_dir / "low" / "bad.jpg").write_bytes(b"no image")
    on_gpu = train(config)
    assert on_gpu.data.bottlenecks.computed == 46
    assert on_gpu.data.bottlenecks.engine == "GPU"
    assert on_gpu.data.bottlenecks.images == on_cores.data.bottlenecks.images
    found = [run.data.bottlenecks.records.take("network") for run in (on_gpu, on_cores)]
    np.testing.assert_allclose(found[0], found[1], rtol=0.01, atol=1e-3)
    assert train(config).data.bottlenecks.computed == 1
    publish(on_gpu, config)


RETRAIN = (
    "--bottleneck_dir=../tf_files/bottlenecks --how_many_training_steps=500 --model_dir=../tf_files/models/ "
    "--summaries_dir=../tf_files/training_summaries/inception_v3 --output_graph=../tf_files/retrained_graph.pb "
    "--output_labels=../tf_files/retrained_labels.txt --architecture=inception_v3 --image_dir=../tf_files/data_image"
)
LABEL = "--graph=../tf_files/retrained_graph.pb --labels=../tf_files/retrained_labels.txt --image=spectrogram.jpg"


@pytest.mark.slow
def test_the_published_commands_run_unchanged(tmp_path: Path) -> None:
    """The 2018 recipe's own two lines, in a copy of this tree. Only the module that TF Hub would send is a stand-in."""
    shutil.copytree(ROOT / "scripts", tmp_path / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)  # which makes it a checkout, with its own tf_files/
    voices = ("flite-slt", "flite-rms")
    for voice in voices:
        shutil.copytree(SAMPLE_AUDIO / voice, tmp_path / "tf_files" / "data_audio" / voice)
    handle = "https://tfhub.dev/google/imagenet/inception_v3/feature_vector/5"
    kept = tmp_path / "tf_files" / "models" / "tfhub" / hashlib.sha1(handle.encode()).hexdigest()
    save_backbone(kept, lambda tf, x: tf.reduce_mean(x, [2, 3]), (None, 299, 299, 3))
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}

    def command(script: str, flags: str) -> subprocess.CompletedProcess[str]:
        words: list[Any] = [sys.executable, script, *flags.split()]
        return subprocess.run(
            words, cwd=tmp_path / "scripts", env=environment, capture_output=True, text=True, check=False
        )

    assert command("data_maker.py", "").returncode == 0
    done = command("retrain.py", RETRAIN)
    assert done.returncode == 0, done.stderr
    image = next((tmp_path / "tf_files" / "data_image" / voices[1]).glob("unseen*0002.jpg"))
    shutil.copy(image, tmp_path / "scripts" / "spectrogram.jpg")
    done = command("label_image.py", LABEL)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1].split()[-1] == voices[1]


@pytest.mark.slow
def test_killed_at_any_moment_the_same_command_goes_on(
    tmp_path: Path, image_folder, averaging_backbone, model_dir
) -> None:
    folder = image_folder(recordings=8)
    flags = {
        name: [
            f"--image_dir={folder}",
            f"--bottleneck_dir={tmp_path / 'bottlenecks'}",
            f"--model_dir={model_dir}",
            f"--architecture={averaging_backbone}",
            f"--checkpoint_dir={tmp_path / name / 'checkpoints'}",
            f"--summaries_dir={tmp_path / name / 'summaries'}",
            f"--output_graph={tmp_path / name / 'model.tflite'}",
            f"--output_labels={tmp_path / name / 'labels.txt'}",
            "--how_many_training_steps=3000",
            "--intermediate_store_frequency=100",
            "--head=mlp",
            "--dropout=0.3",
        ]
        for name in ("whole", "killed")
    }
    assert run_script("retrain.py", *flags["whole"]).returncode == 0
    command = [sys.executable, str(ROOT / "scripts" / "retrain.py"), *flags["killed"]]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not list((tmp_path / "killed" / "checkpoints").glob("*.npz")):
            assert process.poll() is None
        process.kill()
    done = run_script("retrain.py", *flags["killed"])
    assert done.returncode == 0, done.stderr
    assert "Training resumes from step" in done.stdout
    models = [(tmp_path / name / "model.tflite").read_bytes() for name in flags]
    assert models[0] == models[1]
    assert [path.name for path in (tmp_path / "killed" / "checkpoints").iterdir()] == [LOCK_NAME]
