"""Pretrained backbones: found by name, folder or TF Hub handle, and converted to LiteRT once."""

from __future__ import annotations

import dataclasses
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audionet.backbones.conversion import Converted, SourceNetwork, convert, read_converted, write_converted
from audionet.backbones.description import REMEDY, parse_description, read_weights
from audionet.backbones.inception import (
    POOLINGS,
    FeatureLayer,
    as_one_vector,
    inception_v3,
    set_weights,
    with_feature_layer,
)
from audionet.backbones.litert import CONVERT_AGAIN, Runner
from audionet.backbones.saved_model import fetch, load_saved_model
from audionet.backbones.tf_runtime import import_tensorflow
from audionet.backbones.voice_space import VoiceSpace, read_voice_space
from audionet.errors import BackboneError, UsageError
from audionet.utils.arrays import UInt8Array
from audionet.utils.files import content_hash, make_folder, read_json, write_bytes
from audionet.utils.json_files import damage_as
from audionet.utils.text import escape

log = logging.getLogger(__name__)

BUNDLED = Path(__file__).with_name("bundled")
"""Folder of the backbones that come with the package, one sub-folder each."""

_HUB = "https://tfhub.dev/google/imagenet/{}/feature_vector/5"
_HUB_NAME = re.compile(r"(inception_v[1-3]|inception_resnet_v2|mobilenet_v[123]_\w+|resnet_v[12]_\d+|nasnet_\w+)")
_CARD = ("name", "weights", "sha256", "input_size", "statistics")
_HANDLE = re.compile(r"https?://|gs://")


@dataclass(frozen=True)
class Backbone:
    """Backbone converted to LiteRT.

    Attributes
    ----------
    name : str
        Short, safe as a file name.
    source : str
        Backbone as the user named it: a bundled name, a folder or a handle.
    source_hash : str
        SHA-256 of the weights or of the SavedModel's files.
    path : Path
        The converted network: uint8 RGB (1, height, width, 3) in, features (1, width) out.
    identity : str
        SHA-256 of the file `path`; names the bottleneck cache.
    input_size : (int, int)
        Height and width, pixels.
    width : int
        Width of the network's features, the bottleneck and the voice embedding behind it.
    statistics : str or None
        Image statistics, "bands" or "mfcc", that the bottleneck appends to the network's features.
    arithmetic : str
        ``int8`` or ``float32``.
    cosine : float
        Mean cosine between the converted features and the original's.
    load : callable
        Loads the original network.
    endpoint, pooling : str or None
        Feature layer and its pooling; None: the network's own output, unpooled.
    voice_width : int
        Width of the voice embedding; 0: none.
    voice_space : VoiceSpace or None
        Space in which these features are compared as voices, if it was learned.
    """

    name: str
    source: str
    source_hash: str
    path: Path
    identity: str
    input_size: tuple[int, int]
    width: int
    statistics: str | None
    arithmetic: str
    cosine: float
    load: Callable[[], SourceNetwork] = dataclasses.field(compare=False, repr=False)
    endpoint: str | None = None
    pooling: str | None = None
    voice_width: int = 0
    voice_space: VoiceSpace | None = dataclasses.field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class _Origin:
    """Backbone before conversion, with a function that loads it."""

    name: str
    source: str
    source_hash: str
    statistics: str | None
    has_fixed_size: bool
    load: Callable[[], SourceNetwork]
    endpoint: str | None = None
    pooling: str | None = None
    shipped: Path | None = None
    """Path of the bundled conversion, which may be missing; None if the backbone never has one."""
    voice_width: int = 0
    voice_space: VoiceSpace | None = None


def prepare(
    architecture: str,
    model_dir: Path,
    input_side: int | None,
    samples: Callable[[tuple[int, int]], UInt8Array],
    endpoint: str | None = None,
    pooling: str | None = None,
    quantise: bool = True,
) -> Backbone:
    """Find a backbone and convert it to LiteRT, unless a conversion exists.

    Parameters
    ----------
    architecture : str
        A bundled name, a folder holding a SavedModel, a TF Hub handle, or a TF Hub network's short name.
    model_dir : Path
        Folder for downloaded and converted networks.
    input_side : int or None
        Input height and width, pixels, for a network that leaves them open.
    samples : callable
        Returns some of the user's images at an input size, uint8 (n, height, width, 3). If the quantised network
        does not agree with the original on them, float32 is used.
    endpoint : str, optional
        Layer to take features from; default: the backbone's own.
    pooling : str, optional
        Pooling of its maps to one vector; default: the backbone's own.
    quantise : bool
        Whether to try int8 weights.

    Raises
    ------
    UsageError
        If there is no such backbone or endpoint; the message lists the available ones.
    BackboneError
        If it cannot be downloaded, loaded or converted; the message names a remedy.
    """
    origin = _resolve(architecture, model_dir, input_side, endpoint, pooling)
    folder = model_dir / "converted"
    make_folder(folder)
    side = f"-{input_side}" if input_side and not origin.has_fixed_size else ""
    layer = "".join(f"-{re.sub(r'[^A-Za-z0-9_.]+', '_', part)}" for part in (endpoint, pooling) if part)
    arithmetic = "" if quantise else "-float32"
    path = folder / f"{origin.name}-{origin.source_hash[:12]}{side}{layer}{arithmetic}.tflite"
    converted = read_converted(path)
    if converted is None and origin.shipped and quantise and not layer:
        converted = _take_shipped(origin.shipped, path)
    if converted is None:
        log.info(f"Converting {origin.name} to LiteRT (once) ...")
        original = origin.load()
        pixels = samples(original.input_size)
        converted = convert(original, pixels, origin.name, quantise)
        write_converted(path, converted)
        log.info(
            f"Saved {escape(path)}: {converted.arithmetic}, cosine to the original's features {converted.cosine:.5f}"
        )
    runner = Runner(converted.network, name=escape(path), remedy=CONVERT_AGAIN)
    _, height, width, _ = runner.input_shapes[0]
    space = origin.voice_space
    if space is not None and len(space.projection) != runner.output_width:
        raise BackboneError(
            f"{escape(architecture)}: its voice space is another backbone's ({len(space.projection)} features, not "
            f"{runner.output_width}): learn it again with pretrain.py --voice_space"
        )
    return Backbone(
        name=origin.name,
        source=origin.source,
        source_hash=origin.source_hash,
        path=path,
        identity=converted.sha256,
        input_size=(height, width),
        width=runner.output_width,
        statistics=origin.statistics,
        arithmetic=converted.arithmetic,
        cosine=converted.cosine,
        load=origin.load,
        endpoint=endpoint or origin.endpoint,
        pooling=pooling or origin.pooling,
        voice_width=origin.voice_width,
        voice_space=space,
    )


def load_finished_model(architecture: str) -> Any:
    """Load a backbone that `pretrain.py` made as a Keras model, by the bundled one's name or its folder.

    Raises
    ------
    UsageError
        If there is no such backbone.
    BackboneError
        If its files are missing or damaged.
    """
    folder = BUNDLED / architecture if (BUNDLED / architecture).is_dir() else Path(architecture)
    if not (folder / "backbone.json").is_file():
        raise UsageError(
            f"no finished backbone '{escape(architecture)}': name the bundled one, or a folder of pretrain.py"
        )
    return _bundled(folder / "backbone.json", None, None).load().model


def convert_trained(model: Any, name: str, statistics: str | None, samples: UInt8Array, folder: Path) -> Backbone:
    """Convert a newly trained network to LiteRT.

    Parameters
    ----------
    model : keras.Model
        Maps pixels of 0 to 255 to features.
    name : str
    statistics : str or None
        Image statistics that are appended to the features.
    samples : ndarray of uint8, shape (n, height, width, 3)
        Images on which the converted network must agree with the original.
    folder : Path
        Output folder for the converted network.

    Raises
    ------
    BackboneError
        If it cannot be converted.
    """
    original = SourceNetwork(lambda pixels: model(pixels, training=False), samples.shape[1:3], model, model)
    converted = convert(original, samples, name)
    path = folder / f"{name}-{converted.sha256[:12]}.tflite"
    write_bytes(path, converted.network)
    return Backbone(
        name=name,
        source=name,
        source_hash=converted.sha256,
        path=path,
        identity=converted.sha256,
        input_size=original.input_size,
        width=Runner(converted.network, name=escape(path), remedy=CONVERT_AGAIN).output_width,
        statistics=statistics,
        arithmetic=converted.arithmetic,
        cosine=converted.cosine,
        load=lambda: original,
    )


def describe(backbone: Backbone) -> dict[str, Any]:
    """Describe a backbone for a model's JSON card."""
    names = [item.name for item in dataclasses.fields(backbone) if item.name not in ("path", "load", "voice_space")]
    return {name: getattr(backbone, name) for name in names}


def _take_shipped(shipped: Path, path: Path) -> Converted | None:
    """Copy a backbone's bundled conversion to the folder of converted networks, unless it is damaged."""
    converted = read_converted(shipped)
    if converted is not None:
        write_converted(path, converted)
    return converted


def _resolve(
    architecture: str, model_dir: Path, input_side: int | None, endpoint: str | None, pooling: str | None
) -> _Origin:
    named = [folder / architecture for folder in (BUNDLED, model_dir) if re.fullmatch(r"[\w.-]+", architecture)]
    for folder in (*named, Path(architecture)):
        if (folder / "backbone.json").is_file():
            return _bundled(folder / "backbone.json", endpoint, pooling)
    if (Path(architecture) / "saved_model.pb").is_file():
        folder = Path(architecture)
    elif _HANDLE.match(architecture):
        folder = fetch(architecture, model_dir)
    elif _HUB_NAME.fullmatch(architecture):
        folder = fetch(_HUB.format(architecture), model_dir)
    else:
        raise _unknown(architecture, model_dir)
    name = re.sub(r"\W+", "_", architecture.partition("?")[0].removesuffix(".tar.gz")).strip("_")[-60:]
    return _Origin(
        name,
        architecture,
        content_hash(folder),
        None,
        False,
        lambda: load_saved_model(folder, architecture, input_side, endpoint, pooling),
    )


def _unknown(architecture: str, model_dir: Path) -> UsageError:
    found = {path.parent.name for folder in (BUNDLED, model_dir) for path in folder.glob("*/backbone.json")}
    names = ", ".join(sorted(map(escape, found)))
    return UsageError(
        f"no backbone '{escape(architecture)}': name a bundled one ({names}), a folder that holds "
        "saved_model.pb, or a TF Hub handle (https://...)"
    )


def _bundled(card_path: Path, endpoint: str | None, pooling: str | None) -> _Origin:
    content = read_json(card_path, BackboneError, REMEDY)
    if missing := [name for name in _CARD if name not in content]:
        raise BackboneError(
            f"{escape(card_path)} is not of this version ('{missing[0]}' is missing): {REMEDY}, "
            "or make the backbone again with pretrain.py"
        )
    with damage_as(BackboneError, card_path, REMEDY):
        card = parse_description(content, card_path.parent)
    read_weights(card)
    layer = card.layer

    def load_bundled() -> SourceNetwork:
        import_tensorflow()
        model = inception_v3(card.input_size, layer, card.voice)
        with damage_as(BackboneError, card.weights, REMEDY):
            set_weights(model, read_weights(card))
        if endpoint or pooling:
            default = layer.pooling if layer.pooling in POOLINGS else "statistics"
            model = with_feature_layer(model, FeatureLayer(endpoint or layer.endpoint, pooling or default), card.voice)
        if card.voice:
            model = as_one_vector(model)
        width = card.voice.width if card.voice else 0
        return SourceNetwork(lambda pixels: model(pixels, training=False), card.input_size, model, model, width)

    # It was learned for the backbone's own feature layer.
    is_own = endpoint in (None, layer.endpoint) and pooling in (None, layer.pooling)
    return _Origin(
        name=card.name,
        source=card.name,
        source_hash=card.sha256,
        statistics=card.statistics,
        has_fixed_size=True,
        load=load_bundled,
        endpoint=layer.endpoint,
        pooling=layer.pooling,
        shipped=card.weights.with_suffix(".tflite"),
        voice_width=card.voice.width if card.voice else 0,
        voice_space=read_voice_space(*card.voice_space) if card.voice_space and is_own else None,
    )
