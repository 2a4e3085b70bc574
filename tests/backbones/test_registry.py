from __future__ import annotations

import gc
import hashlib
import http.server
import json
import shutil
import socket
import subprocess
import sys
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from audionet.backbones import registry as backbones
from audionet.backbones import saved_model as saved_models
from audionet.backbones.conversion import Converted, SourceNetwork, convert, mean_cosine
from audionet.backbones.litert import Runner
from audionet.backbones.registry import BUNDLED, load_finished_model, prepare
from audionet.backbones.voice_space import write_voice_space
from audionet.errors import BackboneError, UsageError
from audionet.utils.files import sha256
from tests.support.features import voice_space
from tests.support.models import save_backbone
from tests.support.sounds import ROOT

WEIGHTS = BUNDLED / "inception_v3_speech" / "inception_v3_speech.npz"
VERSIONS = {
    "inception_v3_speech": "9d618b210e09b832969f1ee26271ead05d2826a7d1da4853bbb3514f17d1d790",
    "inception_v3_speech_v2": "f8205060e458361898c4c5355326be3f2c127a24186eecd5685cfbeb06f78369",
}
"""SHA-256 of the bundled weights, by name."""

CONVERTED = f"{WEIGHTS.stem}-{VERSIONS[WEIGHTS.stem][:12]}"


def random_images(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, *size, 3)).astype(np.uint8)


def check_of(name: str) -> tuple[np.ndarray, list[np.ndarray]]:
    """Images that lie with a bundled backbone's weights, and its bottlenecks and voice embeddings of them."""
    with np.load(BUNDLED / name / f"{name}.npz") as arrays:
        return arrays["check_picture"], [arrays[key] for key in ("check_features", "check_voices") if key in arrays]


@pytest.mark.tensorflow
@pytest.mark.parametrize("name", VERSIONS)
def test_the_bundled_weights_are_loaded_in_their_order(name: str) -> None:
    images, expected = check_of(name)
    joined = np.asarray(load_finished_model(name)(images.astype(np.float32)))
    edges = np.cumsum([part.shape[1] for part in expected])[:-1]
    for part, wanted in zip(np.split(joined, edges, axis=1), expected, strict=True):
        assert mean_cosine(part, wanted) > 0.9999


@pytest.mark.parametrize("name", VERSIONS)
def test_the_bundled_conversion_agrees_with_the_weights(name: str) -> None:
    images, expected = check_of(name)
    path = BUNDLED / name / f"{name}.tflite"
    runner = Runner(path)
    features = np.stack([runner(image[None]) for image in images])
    edges = np.cumsum([part.shape[1] for part in expected])[:-1]
    for part, wanted in zip(np.split(features, edges, axis=1), expected, strict=True):
        assert mean_cosine(part, wanted) >= 0.99
    card = json.loads(path.with_suffix(".json").read_text())
    assert card["sha256"] == sha256(path)
    assert (card["arithmetic"], card["cosine"] >= 0.99) == ("int8", True)
    assert path.stat().st_size < 12_000_000


def test_the_bundled_weights_are_those_of_their_version() -> None:
    assert {path.parent.name: sha256(path) for path in BUNDLED.glob("*/inception*.npz")} == VERSIONS


def test_the_bundled_backbone_needs_no_tensorflow(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from audionet.backbones.registry import prepare; "
        "prepare('inception_v3_speech', Path(sys.argv[1]), None, None); "
        "print(sorted(set(sys.modules) & {'tensorflow', 'keras', 'matplotlib', 'scipy'}))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT / "scripts", check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
    kept = sorted(path.name for path in (tmp_path / "converted").iterdir())
    assert kept == [f"{CONVERTED}.json", f"{CONVERTED}.tflite"]


def test_a_conversion_of_an_earlier_version_is_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "converted" / f"{CONVERTED}.tflite"
    path.parent.mkdir()
    earlier = WEIGHTS.with_suffix(".tflite").read_bytes() + bytes(8)
    path.write_bytes(earlier)
    card = {"sha256": hashlib.sha256(earlier).hexdigest(), "arithmetic": "int8", "cosine": 0.995}
    path.with_suffix(".json").write_text(json.dumps(card))
    backbone = prepare("inception_v3_speech", tmp_path, None, random_images)
    assert (backbone.identity, backbone.cosine) == (card["sha256"], 0.995)
    assert path.read_bytes() == earlier
    assert not capsys.readouterr().out


@pytest.mark.tensorflow
@pytest.mark.parametrize("damage", ["flip", "missing", "card"])
def test_a_damaged_bundled_conversion_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(backbones, "BUNDLED", tmp_path)
    shipped = shutil.copytree(WEIGHTS.parent, tmp_path / WEIGHTS.stem) / f"{WEIGHTS.stem}.tflite"
    if damage == "flip":
        shipped.write_bytes(shipped.read_bytes()[:-1] + b"x")
    else:
        (shipped if damage == "missing" else shipped.with_suffix(".json")).unlink()
    monkeypatch.setattr(
        backbones, "convert", lambda *_: Converted(WEIGHTS.with_suffix(".tflite").read_bytes(), "int8", 0.996)
    )
    monkeypatch.setattr(backbones, "inception_v3", lambda *_: None)
    monkeypatch.setattr(backbones, "as_one_vector", lambda model: model)
    monkeypatch.setattr(backbones, "set_weights", lambda *_: None)
    assert prepare(WEIGHTS.stem, tmp_path / "models", None, random_images).cosine == 0.996


def test_a_backbone_is_found_by_name_in_the_model_folder(tmp_path: Path) -> None:
    shutil.copytree(WEIGHTS.parent, tmp_path / "mine")
    backbone = prepare("mine", tmp_path, None, random_images)
    assert backbone.name == WEIGHTS.stem
    with pytest.raises(UsageError, match=r"inception_v3_speech, inception_v3_speech_v2, mine"):
        prepare("yours", tmp_path, None, random_images)


@pytest.mark.tensorflow
def test_another_feature_layer_or_arithmetic_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise BackboneError("converted")

    monkeypatch.setattr(backbones, "convert", refuse)
    for options in ({"endpoint": "mixed1"}, {"pooling": "average"}, {"quantise": False}):
        with pytest.raises(BackboneError, match="converted"):
            prepare(WEIGHTS.stem, tmp_path, None, random_images, **options)


@pytest.mark.parametrize(("name", "width", "voice"), [(WEIGHTS.stem, 13 * 288, 192), (f"{WEIGHTS.stem}_v2", 4608, 0)])
def test_the_bundled_backbone_as_litert(model_dir: Path, name: str, width: int, voice: int) -> None:
    images, expected = check_of(name)
    backbone = prepare(name, model_dir, None, lambda size: images)
    assert (backbone.input_size, backbone.width, backbone.statistics) == ((128, 96), width + voice, None)
    assert (backbone.arithmetic, backbone.voice_width) == ("int8", voice)
    runner = Runner(backbone.path)
    features = np.stack([runner(image[None]) for image in images])
    assert mean_cosine(features[:, :width], expected[0]) >= 0.99
    assert backbone.cosine >= 0.99


def test_a_backbone_is_converted_once(
    averaging_backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(str(averaging_backbone), tmp_path, None, random_images)
    monkeypatch.setattr(backbones, "convert", None)
    assert prepare(str(averaging_backbone), tmp_path, None, random_images) == first


def test_a_half_written_conversion_is_done_again(averaging_backbone: Path, tmp_path: Path) -> None:
    first = prepare(str(averaging_backbone), tmp_path, None, random_images)
    first.path.write_bytes(first.path.read_bytes()[:100])
    assert prepare(str(averaging_backbone), tmp_path, None, random_images).identity == first.identity
    first.path.with_suffix(".json").unlink()
    assert prepare(str(averaging_backbone), tmp_path, None, random_images).identity == first.identity


def test_a_saved_model_gets_values_of_0_to_1(averaging_backbone: Path, tmp_path: Path) -> None:
    backbone = prepare(str(averaging_backbone), tmp_path, None, random_images)
    assert (backbone.input_size, backbone.width, backbone.statistics) == ((64, 48), 64, None)
    pixels = random_images((64, 48))[:1]
    np.testing.assert_allclose(Runner(backbone.path)(pixels), (pixels / 255).mean(axis=(2, 3))[0], rtol=1e-4)


@pytest.mark.parametrize("damage", ["flip", "missing", "card", "version"])
def test_damaged_bundled_weights_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    shutil.copytree(BUNDLED / "inception_v3_speech", tmp_path / "inception_v3_speech")
    monkeypatch.setattr(backbones, "BUNDLED", tmp_path)
    weights = tmp_path / "inception_v3_speech" / WEIGHTS.name
    if damage == "missing":
        weights.unlink()
    elif damage == "version":
        card = json.loads((weights.parent / "backbone.json").read_text())
        del card["statistics"]
        (weights.parent / "backbone.json").write_text(json.dumps(card))
    elif damage == "card":
        (tmp_path / "inception_v3_speech" / "backbone.json").write_text("{")
    else:
        data = bytearray(weights.read_bytes())
        data[1_000_000] ^= 1
        weights.write_bytes(data)
    with pytest.raises(BackboneError, match=r"reinstall AudioNet, or restore it with git checkout"):
        prepare("inception_v3_speech", tmp_path / "models", None, random_images)


def test_an_unknown_name_lists_the_alternatives(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"inception_v3_speech.*saved_model\.pb.*https://"):
        prepare("no_such_backbone", tmp_path, None, random_images)


@pytest.fixture
def hub_server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """Serve .tar.gz files like TF Hub, on loopback, and record the requests."""
    folder = tmp_path / "hub"
    folder.mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args: object) -> None:
            super().__init__(*args, directory=str(folder))

        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", folder, asked
        server.shutdown()


def test_a_hub_handle_is_fetched_unpacked_and_kept(hub_server, averaging_backbone: Path, tmp_path: Path) -> None:
    address, folder, asked = hub_server
    with tarfile.open(folder / "rows_64.tar.gz", "w:gz") as archive:
        archive.add(averaging_backbone, ".")
    handle = f"{address}/rows_64.tar.gz"
    first = prepare(handle, tmp_path / "models", None, random_images)
    assert (first.source, first.width) == (handle, 64)
    assert asked == ["/rows_64.tar.gz?tf-hub-format=compressed"]
    assert prepare(handle, tmp_path / "models", None, random_images) == first
    assert len(asked) == 1
    assert list((tmp_path / "models" / "tfhub").rglob("saved_model.pb"))


@pytest.mark.tensorflow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # tensorflow-hub leaves its response open
@pytest.mark.parametrize("answer", ["refused", "missing", "no archive"])
def test_an_unreachable_hub_names_both_alternatives(hub_server, tmp_path: Path, answer: str) -> None:
    address, folder, _ = hub_server
    if answer == "refused":
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            address = f"http://127.0.0.1:{closed.getsockname()[1]}"
    elif answer == "no archive":
        (folder / "x.tar.gz").write_bytes(b"<html>sign in</html>")
    with pytest.raises(BackboneError, match=r"cannot be fetched .*inception_v3_speech.*or download") as error:
        prepare(f"{address}/x.tar.gz", tmp_path, None, random_images)
    assert len(str(error.value).splitlines()) == 1
    gc.collect()


def test_a_short_name_is_tf_hubs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []

    def fetch(handle: str, model_dir: Path) -> Path:
        asked.append(handle)
        raise BackboneError("no network here")

    monkeypatch.setattr(backbones, "fetch", fetch)
    for name in ("inception_v3", "mobilenet_v2_100_224"):
        with pytest.raises(BackboneError):
            prepare(name, tmp_path, None, random_images)
    assert asked == [
        "https://tfhub.dev/google/imagenet/inception_v3/feature_vector/5",
        "https://tfhub.dev/google/imagenet/mobilenet_v2_100_224/feature_vector/5",
    ]


@pytest.mark.parametrize(
    ("source", "size"),
    [
        ("https://tfhub.dev/google/imagenet/inception_v3/feature_vector/5", 299),
        ("https://tfhub.dev/google/imagenet/inception_v1/feature_vector/5", 224),
        ("https://tfhub.dev/google/imagenet/mobilenet_v2_100_224/feature_vector/5", 224),
        ("https://tfhub.dev/google/imagenet/mobilenet_v2_035_96/feature_vector/5", 96),
        ("http://models-224.example:8000/mine/1", None),
        ("/some/folder", None),
        ("/runs/inception_v3/pytest-260/folder", None),
        ("/runs/pytest-260/mobilenet_96", 96),
    ],
)
def test_the_input_size_in_a_name(source: str, size: int | None) -> None:
    assert saved_models._size_in_name(source) == size


@pytest.mark.tensorflow
def test_an_unknown_input_size_must_be_set(tmp_path: Path) -> None:
    folder = save_backbone(tmp_path / "free", lambda tf, x: tf.reduce_mean(x, [1, 2]), (None, None, None, 3))
    with pytest.raises(BackboneError, match="input_size"):
        prepare(str(folder), tmp_path / "models", None, random_images)
    backbone = prepare(str(folder), tmp_path / "models", 40, random_images)
    assert (backbone.input_size, backbone.width) == ((40, 40), 3)


@pytest.mark.tensorflow
@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda tf, x: x, "is no feature-vector backbone"),
        (lambda tf, x: tf.reduce_mean(x), "is no feature-vector backbone"),
        (lambda tf, x: {"a": tf.reduce_mean(x, [1, 2]), "b": x}, "is no feature-vector backbone"),
        (lambda tf, x: {"only": tf.reduce_mean(x, [1, 2])}, None),
        (lambda tf, x: {"default": tf.reduce_mean(x, [1, 2]), "a_layer": x}, None),
    ],
)
def test_the_wrong_output_rank_is_refused(tmp_path: Path, function, message: str | None) -> None:
    folder = save_backbone(tmp_path / "odd", function)
    if message is None:
        assert prepare(str(folder), tmp_path / "models", None, random_images).width == 3
        return
    with pytest.raises(BackboneError, match=message):
        prepare(str(folder), tmp_path / "models", None, random_images)


def test_a_damaged_saved_model_is_one_line(averaging_backbone: Path, tmp_path: Path) -> None:
    shutil.copytree(averaging_backbone, tmp_path / "bad")
    (tmp_path / "bad" / "saved_model.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(BackboneError, match="cannot be loaded as a SavedModel") as error:
        prepare(str(tmp_path / "bad"), tmp_path / "models", None, random_images)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.tensorflow
def test_quantisation_that_spoils_the_features_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    from audionet.backbones import conversion

    measured = iter([0.5, 1.0])
    monkeypatch.setattr(conversion, "_agreement", lambda *_: next(measured))
    import tensorflow as tf

    mean = SourceNetwork(lambda x: tf.reduce_mean(x, [1, 2]), (16, 16), None)
    found = convert(mean, random_images((16, 16)), "x")
    assert (found.arithmetic, found.cosine) == ("float32", 1.0)


@pytest.mark.tensorflow
def test_the_cosine_of_two_outputs_is_that_of_the_worse_one() -> None:
    import tensorflow as tf

    from audionet.backbones.conversion import _agreement

    samples = random_images((16, 16))
    both = SourceNetwork(lambda x: tf.concat([100 * tf.reduce_mean(x, [1, 2]), x[:, 0, 0]], 1), (16, 16), None)
    found = convert(both, samples, "x", quantise=False)
    reference = np.concatenate([100 * samples.mean(axis=(1, 2)), -samples[:, 0, 0].astype(np.float32)], axis=1)
    assert _agreement(found.network, samples, reference, 0) > 0.99
    assert _agreement(found.network, samples, reference, 3) == pytest.approx(-1)


def test_the_card_names_a_file_that_is_there() -> None:
    for name in VERSIONS:
        card = json.loads((BUNDLED / name / "backbone.json").read_text())
        assert (card["name"], card["weights"]) == (name, f"{name}.npz")


def test_a_voice_space_of_another_backbone_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    shutil.copytree(BUNDLED / "inception_v3_speech", folder)
    space = voice_space()
    write_voice_space(folder / "voice_space.npz", space)
    card = json.loads((folder / "backbone.json").read_text())
    card["voice_space"]["sha256"] = hashlib.sha256((folder / "voice_space.npz").read_bytes()).hexdigest()
    (folder / "backbone.json").write_text(json.dumps(card))
    with pytest.raises(BackboneError, match="its voice space is another backbone's") as error:
        prepare(str(folder), tmp_path / "models", None, random_images)
    assert len(str(error.value).splitlines()) == 1
