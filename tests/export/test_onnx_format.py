"""ONNX files: the answers of the LiteRT file, in any program."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import shutil
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from audionet._paths import lite_path
from audionet.audio.config import SpectrogramConfig
from audionet.audio.network_input import image_features, model_inputs
from audionet.backbones.litert import Runner
from audionet.classifier.model_files import load_model_files
from audionet.data.dataset import dataset_json
from audionet.data.naming import DATASET_JSON
from audionet.errors import BackboneError, ModelError, UsageError
from audionet.export import formats
from audionet.export.formats import check_backbone, require_format
from audionet.export.hub_folder import export_model
from audionet.export.onnx_format import EMBEDDING_NAME, OPSET, convert_to_onnx, pack_onnx
from audionet.export.publish import publish
from audionet.inference.predictor import Predictor
from audionet.training.config import OTHER_NAMES, RetrainConfig
from audionet.training.trainer import train
from audionet.utils.files import write_json
from tests.support.sounds import ROOT, write_tone

pytestmark = pytest.mark.tensorflow  # which tf2onnx runs on

PAGE = (ROOT / "docs" / "onnx.md").read_text("utf-8")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, model_dir: Path) -> Path:
    """Three tones on the bundled backbone, whose weights are integers, with MFCC statistics."""
    from tests.support.images import make_images

    folder = tmp_path_factory.mktemp("onnx")
    images = make_images(folder / "data_image", 4, 2, ("high", "löw", "middle"), detuned=0.2)
    write_json(images / DATASET_JSON, dataset_json(SpectrogramConfig(chunk_seconds=0.5), {}, None, complete=True))
    folders = ("bottleneck_dir", "checkpoint_dir", "summaries_dir")
    config = RetrainConfig(
        image_dir=images,
        model_dir=model_dir,
        output_graph=folder / "model.onnx",
        output_labels=folder / "labels.txt",
        statistics="mfcc",
        **{name: folder / name for name in folders},  # type: ignore[arg-type]
    )
    publish(train(config, lambda backbone: check_backbone(config, backbone)), config)
    return config.output_graph


def metadata(session: Any) -> dict[str, Any]:
    return {name: json.loads(text) for name, text in session.get_modelmeta().custom_metadata_map.items()}


def test_it_answers_as_the_litert_file_does(model: Path) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    runner = Runner(lite_path(model))
    size = tuple(session.get_inputs()[0].shape[1:3])
    for jpg in sorted((model.parent / "data_image").rglob("*.jpg")):
        pixels, statistics = model_inputs(image_features(jpg.read_bytes(), size), "mfcc")
        found = session.run(["final_result", EMBEDDING_NAME], {"pixels": pixels, "statistics": statistics})
        expected = runner.run_all(pixels, statistics)
        np.testing.assert_allclose(found[0], expected[0], atol=0.02)
        assert found[0].argmax() == expected[0].argmax()
        lengths = np.linalg.norm(found[1]) * np.linalg.norm(expected[1])
        assert float((found[1] * expected[1]).sum()) / lengths > 0.999
    card = load_model_files(model).card["exports"][model.name]
    assert card["difference"] < 0.02
    assert card["cosine"] > 0.999
    assert card["same_labels"] == card["images"] == 16


def test_layers_with_integer_weights_round_their_inputs_as_litert_does(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without, the embedding is about ten times as far from LiteRT's: enough to turn close answers."""
    network = lite_path(model).read_bytes()
    rounded = pack_onnx(convert_to_onnx(network, "a"), {})
    monkeypatch.setattr("audionet.export.onnx_format.quantise_activations", lambda graph: None)
    not_rounded = pack_onnx(convert_to_onnx(network, "a"), {})
    runner = Runner(network)
    height, width = runner.input_shapes[0][1:3]
    jpgs = sorted((model.parent / "data_image").rglob("*.jpg"))[::5]
    inputs = [model_inputs(image_features(jpg.read_bytes(), (height, width)), "mfcc") for jpg in jpgs]
    apart = []
    for content in (rounded, not_rounded):
        session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
        outputs = [session.run(["embedding"], {"pixels": one, "statistics": other})[0] for one, other in inputs]
        expected = [runner.run_all(*values)[1] for values in inputs]
        apart.append(np.linalg.norm(np.concatenate(outputs) - np.concatenate(expected)))
    assert apart[0] < 0.7 * apart[1]


def test_its_form_is_as_documented(model: Path) -> None:
    content = onnx.load(model)
    onnx.checker.check_model(content, full_check=True)
    assert {item.domain: item.version for item in content.opset_import if item.domain == ""} == {"": OPSET}
    assert {node.domain for node in content.graph.node} == {""}
    assert f"| opset | {OPSET} of" in PAGE
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = {item.name: (item.type, item.shape) for item in session.get_inputs()}
    files = load_model_files(model)
    assert inputs == {
        "pixels": ("tensor(uint8)", [1, *files.card["backbone"]["input_size"], 3]),
        "statistics": ("tensor(float)", [1, 40]),
    }
    assert [item.name for item in session.get_outputs()] == ["final_result", "embedding"]
    found = metadata(session)
    assert found["labels"] == ["high", "löw", "middle"]
    assert SpectrogramConfig(**found["spectrogram"]) == files.spectrogram
    assert found["calibration"] == files.card["calibration"]
    assert found["graph_sha256"] == files.card["graph_sha256"]
    assert (found["statistics"], found["thresholds"], found["speech"]) == ("mfcc", None, False)
    assert all(f"`{name}`" in PAGE for name in [*found, *inputs, EMBEDDING_NAME])
    assert Predictor(model).labels == found["labels"]


def test_the_hubs_folder_holds_it_where_it_is_named(model: Path, tmp_path: Path) -> None:
    folder = export_model(model, tmp_path / "hub")
    assert (folder / model.name).read_bytes() == model.read_bytes()
    assert Predictor(folder / model.name).labels == Predictor(folder / "model.tflite").labels
    folder = export_model(lite_path(model), tmp_path / "hub_without")
    assert not (folder / model.name).exists()
    assert json.loads((folder / "model_model.json").read_text())["exports"] == {}


def test_an_image_of_another_size_is_refused(model: Path) -> None:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = {"pixels": np.zeros((1, 77, 90, 3), np.uint8), "statistics": np.zeros((1, 40), np.float32)}
    with pytest.raises(Exception, match="invalid dimensions"):
        session.run(None, inputs)


@pytest.mark.parametrize("block", [0, 1])
def test_the_pages_code_runs_and_answers_as_labelling_does(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int
) -> None:
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    assert len(code) == 2
    shutil.copy(model, tmp_path / "model.onnx")
    write_tone(tmp_path / "clip.wav", frequency=600, seconds=0.5)
    monkeypatch.chdir(tmp_path)
    with redirect_stdout(io.StringIO()) as printed:
        exec(code[block], {})
    files = load_model_files(model)
    (chunk,) = Predictor(model).answer(tmp_path / "clip.wav").chunks
    expected = Predictor(model).predict_image(render_chunk(tmp_path / "clip.wav", files.spectrogram)).probabilities
    order = np.argsort(-expected)
    lines = [line.split() for line in printed.getvalue().splitlines()]
    assert [label for _, label in lines] == [files.parsed.labels[i] for i in order]
    shares = [float(share.removesuffix("%")) / 100 for share, _ in lines]
    np.testing.assert_allclose(shares, expected[order], atol=0.02)
    assert files.parsed.labels[int(chunk.probabilities.argmax())] == lines[0][1]


def render_chunk(path: Path, config: SpectrogramConfig | None) -> bytes:
    from audionet.audio.image import render
    from audionet.audio.recording import Recording

    assert config is not None
    (chunk,) = Recording(path, config)
    return render(chunk.samples, config)


def test_several_labels_at_a_time(chord_images: Path, retrain_config: Callable[..., RetrainConfig]) -> None:
    config = retrain_config(chord_images, how_many_training_steps=None)
    config = dataclasses.replace(config, output_graph=config.output_graph.with_name("chords.onnx"))
    publish(train(config), config)
    session = onnxruntime.InferenceSession(config.output_graph, providers=["CPUExecutionProvider"])
    found = metadata(session)
    predictor = Predictor(config.output_graph)
    assert predictor.thresholds is not None
    assert found["thresholds"] == pytest.approx(predictor.thresholds.values.tolist())
    jpg = next((chord_images).glob("*;*;*/*.jpg")).read_bytes()
    pixels = image_features(jpg, predictor.input_size).pixels
    (probabilities,) = session.run(["final_result"], {"pixels": pixels})[0]
    assert probabilities.sum() > 1.5  # not shared out among the labels
    np.testing.assert_allclose(probabilities, predictor.predict_image(jpg).probabilities, atol=0.02)


@pytest.mark.parametrize("name", ["Cast", "tensor_0", "network", "concat", "Identity"])
def test_no_name_clashes_with_the_networks_own(model: Path, name: str) -> None:
    content = pack_onnx(convert_to_onnx(lite_path(model).read_bytes(), name), {})
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = {"pixels": np.zeros((1, 128, 96, 3), np.uint8), "statistics": np.zeros((1, 40), np.float32)}
    assert session.run([name], inputs)[0].shape == (1, 3)
    names = [output for node in onnx.load_model_from_string(content).graph.node for output in node.output]
    assert len(names) == len(set(names))


def test_what_cannot_be_written_is_refused_before_the_training(
    image_folder, retrain_config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "model.onnx")

    def fail(network: bytes) -> None:
        raise ValueError("Unsupported op:\nSOME_OP")

    monkeypatch.setattr("audionet.export.onnx_format._convert", fail)
    with pytest.raises(ModelError, match=r"cannot be written as ONNX \(Unsupported op:\): name a \.tflite file"):
        train(config, lambda backbone: check_backbone(config, backbone))
    assert not (tmp_path / "bottlenecks").exists()
    assert not list((tmp_path / "out").iterdir())


def test_a_format_that_does_not_hold_a_backbone_is_refused_before_the_training(
    image_folder, retrain_config, lite_backbone: Path, tmp_path: Path
) -> None:
    images = image_folder()
    cases: list[tuple[dict[str, str], str, type[Exception], str]] = [
        ({}, ".keras", ModelError, "is a SavedModel, which a .keras file cannot hold"),
        ({"architecture": str(lite_backbone)}, ".pb", BackboneError, "its original network cannot be loaded"),
        ({"architecture": str(lite_backbone)}, "", BackboneError, "name a .tflite or .onnx file"),
    ]
    for changes, suffix, error, words in cases:
        config = retrain_config(images, output_graph=tmp_path / "out" / f"model{suffix}", **changes)
        with pytest.raises(error, match=re.escape(words)):
            train(config, lambda backbone, config=config: check_backbone(config, backbone))
        assert not (tmp_path / "bottlenecks").exists()


def test_a_missing_extra_is_named_before_the_training(monkeypatch: pytest.MonkeyPatch, retrain_config) -> None:
    config = retrain_config(Path("nowhere"), output_graph=Path("model.onnx"))
    monkeypatch.setitem(__import__("sys").modules, "tf2onnx", None)
    with pytest.raises(UsageError, match=r"tf2onnx is not installed: pip install 'audionet\[onnx\]'"):
        require_format(config)


def test_a_file_that_answers_otherwise_is_not_published(
    image_folder, retrain_config, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = retrain_config(image_folder(), output_graph=tmp_path / "out" / "model.onnx", how_many_training_steps=3)
    trained = train(config)
    predict = formats.onnx_format.predict

    def turned(*arguments: Any) -> Any:
        found = predict(*arguments)
        return found._replace(embeddings=-found.embeddings)

    monkeypatch.setattr(formats.onnx_format, "predict", turned)
    with pytest.raises(ModelError, match=r"embeddings differ from the LiteRT file's \(cosine -1\.000\)"):
        publish(trained, config)
    assert not list((tmp_path / "out").iterdir())


@pytest.mark.parametrize("name", [*OTHER_NAMES, "JPEG"])
def test_names_of_the_models_other_tensors_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=f"final_tensor_name is {name}: it must be another name than"):
        RetrainConfig(final_tensor_name=name)


def test_all_names_that_the_head_takes_are_refused(model: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    names = [item["name"] for item in Interpreter(str(lite_path(model))).get_tensor_details()]
    own = {name for name in names[names.index("statistics") :] if name.isidentifier()}
    assert own - {"final_result"} <= set(OTHER_NAMES)
    assert {"statistics", "place", "logits", "bottleneck"} <= own
