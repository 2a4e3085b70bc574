"""Pretrained networks: found by name, folder or TF Hub handle, and converted to LiteRT once."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .config import TF_FILES
from .console import native_stderr_muted
from .conversion import FeatureFunction, convert
from .errors import BackboneError, UsageError
from .files import content_hash, first_line, make_folder, printable, read_json, sha256, write_bytes, write_json
from .litert import Runner
from .spectrogram import UInt8Array
from .tensorflow_runtime import import_tensorflow, import_tensorflow_hub

BUNDLED = TF_FILES / "models"
_HUB = "https://tfhub.dev/google/imagenet/{}/feature_vector/5"
_HUB_NAME = re.compile(r"(inception_v[1-3]|inception_resnet_v2|mobilenet_v[123]_\w+|resnet_v[12]_\d+|nasnet_\w+)")
_HANDLE = re.compile(r"https?://|gs://")


@dataclass(frozen=True)
class Backbone:
    """A backbone ready to run as LiteRT.

    Attributes
    ----------
    name : str
        Short, safe as a file name.
    source : str
        What the user asked for: a bundled name, a folder or a handle.
    source_hash : str
        SHA-256 of the weights or of the SavedModel's files.
    path : Path
        The converted network: uint8 RGB (1, height, width, 3) in, features (1, width) out.
    identity : str
        SHA-256 of `path`: bottlenecks made by the same bytes are the same.
    input_size : (int, int)
        Height and width, pixels.
    width : int
        Numbers in the network's features.
    band_statistics : bool
        Whether the bottleneck joins the picture's band statistics to the network's features.
    arithmetic : str
        ``int8`` or ``float32``.
    cosine : float
        Mean cosine between the converted features and the original's.
    load : callable
        Gives the original network.
    """

    name: str
    source: str
    source_hash: str
    path: Path
    identity: str
    input_size: tuple[int, int]
    width: int
    band_statistics: bool
    arithmetic: str
    cosine: float
    load: Callable[[], Original] = dataclasses.field(compare=False, repr=False)


@dataclass(frozen=True)
class Original:
    """A backbone as TensorFlow runs it.

    Attributes
    ----------
    function : callable
        Pictures, float32 (n, height, width, 3) of 0 to 255, to features, (n, width).
    input_size : (int, int)
        Height and width, pixels.
    owner : object
        What holds its weights, and has to live as long as the function.
    model : keras.Model or None
        The same as layers, where it is made of them.
    """

    function: FeatureFunction
    input_size: tuple[int, int]
    owner: Any
    model: Any = None


@dataclass(frozen=True)
class _Origin:
    """A backbone before conversion: where it lies and how to load it."""

    name: str
    source: str
    source_hash: str
    band_statistics: bool
    says_size: bool
    load: Callable[[], Original]


def prepare(
    architecture: str, model_dir: Path, input_side: int | None, samples: Callable[[tuple[int, int]], UInt8Array]
) -> Backbone:
    """Find a backbone and convert it to LiteRT, unless that has been done before.

    Parameters
    ----------
    architecture : str
        A bundled name, a folder holding a SavedModel, a TF Hub handle, or a TF Hub network's short name.
    model_dir : Path
        Where fetched and converted networks are kept.
    input_side : int or None
        Input height and width for a network that does not say.
    samples : callable
        Gives some of the user's pictures at an input size, uint8 (n, height, width, 3): the quantised network
        must agree with the original on them, else it stays in float32.

    Raises
    ------
    UsageError
        If there is no backbone of this name.
    BackboneError
        If it cannot be fetched, loaded or converted; the message says what to do.
    """
    origin = _resolve(architecture, model_dir, input_side)
    folder = model_dir / "converted"
    make_folder(folder)
    side = f"-{input_side}" if input_side and not origin.says_size else ""
    path = folder / f"{origin.name}-{origin.source_hash[:12]}{side}.tflite"
    card_path = path.with_suffix(".json")
    card = _read_card(path, card_path)
    if card is None:
        print(f"Converting {origin.name} to LiteRT (once) ...", flush=True)
        original = origin.load()
        pixels = samples(original.input_size)
        model, arithmetic, cosine = convert(original.function, original.input_size, pixels, origin.name)
        write_bytes(path, model)
        card = {"sha256": hashlib.sha256(model).hexdigest(), "arithmetic": arithmetic, "cosine": cosine}
        write_json(card_path, card)
        print(f"Kept as {printable(path)}: {arithmetic}, cosine to the original's features {cosine:.5f}")
    runner = Runner(path)
    _, height, width, _ = runner.input_shapes[0]
    return Backbone(
        name=origin.name,
        source=origin.source,
        source_hash=origin.source_hash,
        path=path,
        identity=card["sha256"],
        input_size=(height, width),
        width=runner.output_width,
        band_statistics=origin.band_statistics,
        arithmetic=card["arithmetic"],
        cosine=card["cosine"],
        load=origin.load,
    )


def from_model(model: Any, name: str, band_statistics: bool, samples: UInt8Array, folder: Path) -> Backbone:
    """A network that was trained here, converted to LiteRT.

    Parameters
    ----------
    model : keras.Model
        Pixels of 0 to 255 to features.
    name : str
    band_statistics : bool
        Whether the top is given these too.
    samples : ndarray of uint8, shape (n, height, width, 3)
        Pictures on which the converted network must agree with the original.
    folder : Path
        Where the converted network goes.

    Raises
    ------
    BackboneError
        If it cannot be converted.
    """
    original = Original(lambda pixels: model(pixels, training=False), samples.shape[1:3], model, model)
    content, arithmetic, cosine = convert(original.function, original.input_size, samples, name)
    fingerprint = hashlib.sha256(content).hexdigest()
    path = folder / f"{name}-{fingerprint[:12]}.tflite"
    write_bytes(path, content)
    return Backbone(
        name=name,
        source=name,
        source_hash=fingerprint,
        path=path,
        identity=fingerprint,
        input_size=original.input_size,
        width=Runner(path).output_width,
        band_statistics=band_statistics,
        arithmetic=arithmetic,
        cosine=cosine,
        load=lambda: original,
    )


def description(backbone: Backbone) -> dict[str, Any]:
    """What a model's JSON says of its backbone."""
    names = [item.name for item in dataclasses.fields(backbone) if item.name not in ("path", "load")]
    return {name: getattr(backbone, name) for name in names}


def _read_card(path: Path, card_path: Path) -> dict[str, Any] | None:
    """The card of a converted network, if both are there and belong together."""
    try:
        card: dict[str, Any] = json.loads(card_path.read_bytes())
        return card if sha256(path) == card["sha256"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _resolve(architecture: str, model_dir: Path, input_side: int | None) -> _Origin:
    bundled = BUNDLED / architecture / "backbone.json"
    if re.fullmatch(r"[\w.-]+", architecture) and bundled.is_file():
        return _bundled(bundled)
    if (Path(architecture) / "saved_model.pb").is_file():
        return _saved_model(Path(architecture), architecture, input_side)
    if _HANDLE.match(architecture):
        return _saved_model(_fetch(architecture, model_dir), architecture, input_side)
    if _HUB_NAME.fullmatch(architecture):
        return _saved_model(_fetch(_HUB.format(architecture), model_dir), architecture, input_side)
    names = ", ".join(sorted(path.parent.name for path in BUNDLED.glob("*/backbone.json")))
    raise UsageError(
        f"no backbone '{printable(architecture)}': name a bundled one ({names}), a folder that holds "
        "saved_model.pb, or a TF Hub handle (https://...)"
    )


def _bundled(card_path: Path) -> _Origin:
    remedy = "restore it with: git checkout -- tf_files/models"
    card = read_json(card_path, BackboneError, remedy)
    weights = card_path.with_name(card["weights"])
    if not weights.is_file():
        raise BackboneError(f"{printable(weights)} is missing: {remedy}")
    if sha256(weights) != card["sha256"]:
        raise BackboneError(
            f"{printable(weights)} is damaged (its SHA-256 is not the one in {card_path.name}): {remedy}"
        )

    def load() -> Original:
        model = inception_v3(weights, tuple(card["input_size"]))
        return Original(lambda pixels: model(pixels, training=False), tuple(card["input_size"]), model, model)

    return _Origin(card["name"], card["name"], card["sha256"], card["band_statistics"], True, load)


def inception_v3(weights: Path, input_size: tuple[int, int]) -> Any:
    """Keras's Inception-v3 from pixels of 0 to 255 to its global average.

    Parameters
    ----------
    weights : Path
        An .npz (``w000``, ``w001``, ...).
    input_size : (int, int)
    """
    import_tensorflow()
    import keras

    pixels = keras.Input((*input_size, 3), name="pixels")
    scaled = keras.layers.Rescaling(1 / 127.5, -1, name="scale")(pixels)
    model = keras.applications.InceptionV3(weights=None, include_top=False, pooling="avg", input_tensor=scaled)
    with np.load(weights, allow_pickle=False) as arrays:
        model.set_weights([arrays[f"w{i:03d}"].astype(np.float32) for i in range(len(model.weights))])
    return model


def _saved_model(folder: Path, source: str, input_side: int | None) -> _Origin:
    name = re.sub(r"\W+", "_", source.partition("?")[0].removesuffix(".tar.gz")).strip("_")[-60:]
    return _Origin(
        name, source, content_hash(folder), False, False, lambda: _load_saved_model(folder, source, input_side)
    )


def _fetch(handle: str, model_dir: Path) -> Path:
    """Download a TF Hub module, or find it in the cache."""
    hub = import_tensorflow_hub(model_dir / "tfhub")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        print(f"Fetching {handle} (kept in {printable(os.environ['TFHUB_CACHE_DIR'])}) ...", flush=True)
        with native_stderr_muted():
            return Path(hub.resolve(handle))
    except Exception as error:  # whatever the network, the archive reader or the hub's own code raises
        raise BackboneError(
            f"{handle} cannot be fetched ({first_line(error)}): use the bundled backbone "
            "(--architecture inception_v3_speech), or download the SavedModel elsewhere and give its folder"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def _load_saved_model(folder: Path, source: str, input_side: int | None) -> Original:
    """A SavedModel as a backbone.

    Follows TF Hub's image convention: values of 0 to 1, batch x height x width x 3 in, batch x width out.
    """
    hub = import_tensorflow_hub(folder.parent)  # nothing is fetched: the folder is here
    try:
        with native_stderr_muted():
            module = hub.load(str(folder))
    except Exception as error:  # a damaged or foreign SavedModel fails in many ways
        raise BackboneError(f"{printable(folder)} cannot be loaded as a SavedModel ({first_line(error)})") from None
    signatures = getattr(module, "signatures", {})
    signature = signatures.get("serving_default") or signatures.get("default")
    if signature is None and not callable(module):
        raise BackboneError(f"{printable(folder)} has neither a serving_default signature nor can it be called")
    shape = _input_shape(signature) if signature is not None else None
    if shape is not None:
        input_size = shape
    elif input_side is not None:
        input_size = (input_side, input_side)
    elif (size := _size_in_name(source)) is not None:
        input_size = (size, size)
    else:
        raise BackboneError(f"{printable(source)} does not say its input size: give it with --input_size")

    def features(pixels: Any) -> Any:
        scaled = pixels / 255.0
        if signature is None or callable(module):
            output = module(scaled)
        else:
            name = next(iter(signature.structured_input_signature[1]))
            output = signature(**{name: scaled})
        # TF1 hub modules call their feature vector so, beside every layer's output.
        return output["default"] if isinstance(output, dict) and "default" in output else output

    return Original(features, input_size, module)


def _input_shape(signature: Any) -> tuple[int, int] | None:
    specs = list(signature.structured_input_signature[1].values())
    shape = specs[0].shape if len(specs) == 1 else None
    if shape is None or shape.rank != 4 or shape[1] is None or shape[2] is None:
        return None
    return int(shape[1]), int(shape[2])


def _size_in_name(source: str) -> int | None:
    """TF Hub's names say the size (mobilenet_v2_100_224); Inception's do not, it is 299."""
    if "inception" in source:
        return 224 if re.search(r"inception_v[12]\b", source) else 299
    sizes = re.findall(r"(?<!\d)(96|128|160|192|224|240|260|300|331|380|456|528|600)(?!\d)", source)
    return int(sizes[-1]) if sizes else None
