"""SavedModels as backbones, downloaded from TF Hub or read from disk."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from audionet.backbones.conversion import SourceNetwork
from audionet.backbones.inception import POOLINGS, pool_maps
from audionet.backbones.saved_model_check import check_saved_model
from audionet.backbones.tf_runtime import import_tensorflow_hub
from audionet.errors import BackboneError, UsageError
from audionet.utils.process import native_stderr_muted
from audionet.utils.text import escape, first_line

log = logging.getLogger(__name__)


def fetch(handle: str, model_dir: Path) -> Path:
    """Download a TF Hub module, unless it is cached; return its folder."""
    hub = import_tensorflow_hub(model_dir / "tfhub")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        log.info(f"Downloading {handle} (kept in {escape(os.environ['TFHUB_CACHE_DIR'])}) ...")
        with native_stderr_muted():
            return Path(hub.resolve(handle))
    except Exception as error:  # network, archive reader and hub library share no base class
        raise BackboneError(
            f"{handle} cannot be fetched ({first_line(error)}): use the bundled backbone "
            "(--architecture inception_v3_speech), or download the SavedModel elsewhere and name its folder"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def load_saved_model(
    folder: Path, source: str, input_side: int | None, endpoint: str | None = None, pooling: str | None = None
) -> SourceNetwork:
    """Load a SavedModel as a backbone.

    The model follows TF Hub's image convention: values of 0 to 1, (batch, height, width, 3) in, (batch, width) out. Its
    endpoints are the further outputs of its signature, as in TF1 modules, or the outputs of a call with
    ``return_endpoints=True``.

    Parameters
    ----------
    folder : Path
    source : str
        Name or handle that the user gave.
    input_side : int, optional
        Height and width of its input, pixels, if the model leaves them open.
    endpoint : str, optional
        Layer to take features from.
    pooling : str, optional
        Pooling of maps to one vector; default with an endpoint: their average.

    Raises
    ------
    BackboneError
        If it could reach outside of the network, or cannot be loaded or used.
    """
    check_saved_model(folder)
    hub = import_tensorflow_hub(folder.parent)  # nothing is downloaded: the folder exists
    try:
        with native_stderr_muted():
            module = hub.load(str(folder))
    except Exception as error:  # a damaged or foreign SavedModel may raise any error
        raise BackboneError(f"{escape(folder)} cannot be loaded as a SavedModel ({first_line(error)})") from None
    signatures = getattr(module, "signatures", {})
    signature = signatures.get("serving_default") or signatures.get("default")
    if signature is None and not callable(module):
        raise BackboneError(
            f"{escape(folder)} has no serving_default signature and is not callable: name another backbone"
        )
    shape = _input_shape(signature) if signature is not None else None
    if shape is not None:
        input_size = shape
    elif input_side is not None:
        input_size = (input_side, input_side)
    elif (size := _size_in_name(source)) is not None:
        input_size = (size, size)
    else:
        raise BackboneError(f"{escape(source)} does not state its input size: set --input_size")

    def call(pixels: Any, **options: Any) -> Any:
        if signature is None or callable(module):
            return module(pixels, **options)
        name = next(iter(signature.structured_input_signature[1]))
        return signature(**{name: pixels})

    def features(pixels: Any) -> Any:
        if endpoint is not None:
            output = _layer(call, pixels / 255.0, endpoint, source)
        else:
            output = call(pixels / 255.0)
            # TF1 hub modules name their feature vector "default", among the outputs of all layers.
            output = output["default"] if isinstance(output, dict) and "default" in output else output
        is_maps = getattr(getattr(output, "shape", None), "rank", None) == 4
        if pooling is not None and not is_maps:
            raise UsageError(f"--pooling {pooling} needs maps, and {escape(source)} returns a vector: name --endpoint")
        return pool_maps(output, pooling or POOLINGS[0]) if is_maps and (pooling or endpoint) else output

    return SourceNetwork(features, input_size, module)


def _layer(call: Any, pixels: Any, endpoint: str, source: str) -> Any:
    """Compute the output of one layer.

    Raises
    ------
    UsageError
        If there is no such layer; the message lists the layers.
    """
    outputs = call(pixels)
    if not isinstance(outputs, Mapping):
        try:
            outputs = call(pixels, return_endpoints=True)
        except (TypeError, ValueError):  # the module has no such argument
            outputs = {}
    if endpoint not in outputs:
        names = ", ".join(sorted(map(str, outputs))) or "none: it returns its feature vector only"
        raise UsageError(f"{escape(source)} has no endpoint '{endpoint}': there are {names}")
    return outputs[endpoint]


def _input_shape(signature: Any) -> tuple[int, int] | None:
    specs = list(signature.structured_input_signature[1].values())
    shape = specs[0].shape if len(specs) == 1 else None
    if shape is None or shape.rank != 4 or shape[1] is None or shape[2] is None:
        return None
    return int(shape[1]), int(shape[2])


def _size_in_name(source: str) -> int | None:
    """Read the input size from a TF Hub name (mobilenet_v2_100_224); Inception-v3's names omit it, it is 299.

    Only a handle's path counts, and of a folder its own name: a number above it (/data/run-260) states no size.
    """
    name = urlsplit(source).path if "://" in source else Path(source).name
    if "inception" in name:
        return 224 if re.search(r"inception_v[12]\b", name) else 299
    sizes = re.findall(r"(?<!\d)(96|128|160|192|224|240|260|300|331|380|456|528|600)(?!\d)", name)
    return int(sizes[-1]) if sizes else None
