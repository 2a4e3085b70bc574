"""SavedModels as backbones: fetched from TF Hub, or on disk."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from audionet.backbones.conversion import SourceNetwork
from audionet.backbones.inception import POOLINGS, pool_maps
from audionet.backbones.tf_runtime import import_tensorflow_hub
from audionet.errors import BackboneError, UsageError
from audionet.utils.process import native_stderr_muted
from audionet.utils.text import escape, first_line

log = logging.getLogger(__name__)


def fetch(handle: str, model_dir: Path) -> Path:
    """Download a TF Hub module, or find it in the cache."""
    hub = import_tensorflow_hub(model_dir / "tfhub")
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(60)
    try:
        log.info(f"Fetching {handle} (kept in {escape(os.environ['TFHUB_CACHE_DIR'])}) ...")
        with native_stderr_muted():
            return Path(hub.resolve(handle))
    except Exception as error:  # whatever the network, the archive reader or the hub's own code raises
        raise BackboneError(
            f"{handle} cannot be fetched ({first_line(error)}): use the bundled backbone "
            "(--architecture inception_v3_speech), or download the SavedModel elsewhere and give its folder"
        ) from None
    finally:
        socket.setdefaulttimeout(timeout)


def load_saved_model(
    folder: Path, source: str, input_side: int | None, endpoint: str | None = None, pooling: str | None = None
) -> SourceNetwork:
    """A SavedModel as a backbone.

    Follows TF Hub's image convention: values of 0 to 1, batch x height x width x 3 in, batch x width out. Its layers
    are those that its signature gives beside that, as TF1's modules do, or its call with ``return_endpoints=True``.

    Parameters
    ----------
    folder : Path
    source : str
        What the user called it.
    input_side : int, optional
        Height and width of its input, pixels, where it does not say.
    endpoint : str, optional
        Layer to take features from.
    pooling : str, optional
        How maps become one vector; their average, if there are any and nothing is asked for.

    Raises
    ------
    BackboneError
        If it cannot be loaded or used.
    """
    hub = import_tensorflow_hub(folder.parent)  # nothing is fetched: the folder is here
    try:
        with native_stderr_muted():
            module = hub.load(str(folder))
    except Exception as error:  # a damaged or foreign SavedModel fails in many ways
        raise BackboneError(f"{escape(folder)} cannot be loaded as a SavedModel ({first_line(error)})") from None
    signatures = getattr(module, "signatures", {})
    signature = signatures.get("serving_default") or signatures.get("default")
    if signature is None and not callable(module):
        raise BackboneError(f"{escape(folder)} has neither a serving_default signature nor can it be called")
    shape = _input_shape(signature) if signature is not None else None
    if shape is not None:
        input_size = shape
    elif input_side is not None:
        input_size = (input_side, input_side)
    elif (size := _size_in_name(source)) is not None:
        input_size = (size, size)
    else:
        raise BackboneError(f"{escape(source)} does not say its input size: give it with --input_size")

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
            # TF1 hub modules call their feature vector so, beside every layer's output.
            output = output["default"] if isinstance(output, dict) and "default" in output else output
        is_maps = getattr(getattr(output, "shape", None), "rank", None) == 4
        if pooling is not None and not is_maps:
            raise UsageError(f"--pooling {pooling} takes maps, and {escape(source)} gives a vector: name --endpoint")
        return pool_maps(output, pooling or POOLINGS[0]) if is_maps and (pooling or endpoint) else output

    return SourceNetwork(features, input_size, module)


def _layer(call: Any, pixels: Any, endpoint: str, source: str) -> Any:
    """What one layer says.

    Raises
    ------
    UsageError
        If there is no such layer; the message lists those there are.
    """
    outputs = call(pixels)
    if not isinstance(outputs, Mapping):
        try:
            outputs = call(pixels, return_endpoints=True)
        except (TypeError, ValueError):  # as it says when it knows no such argument
            outputs = {}
    if endpoint not in outputs:
        names = ", ".join(sorted(map(str, outputs))) or "none: it gives its feature vector alone"
        raise UsageError(f"{escape(source)} has no endpoint '{endpoint}': there are {names}")
    return outputs[endpoint]


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
