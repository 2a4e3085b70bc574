"""Refusal of LiteRT networks that are not of the form that AudioNet writes, or too large to run."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from audionet.errors import ModelError

_LARGEST_SIDE = 4096  # pixels; --input_size takes no more
_LARGEST_WIDTH = 2**16
_LARGEST_TENSOR = 2**28  # elements, so 1 GiB of float32; VGG-16's first layer of 4096 units has 1e8 weights
_LARGEST_SUM = 2**31  # elements of all tensors, weights too; NASNet-large at 331 pixels has 2.8e8


def check_form(interpreter: Any) -> None:
    """Check a network's inputs, outputs and operations, before its tensors are allocated.

    Raises
    ------
    ModelError
        If it takes anything else than one image and perhaps statistics, returns anything else than vectors, has
        control flow, or computes the sizes of its tensors while it runs; the message says which.
    """
    if interpreter.num_subgraphs() != 1:
        raise ModelError("has control flow, whose time cannot be bounded")
    if not 1 <= len(inputs := interpreter.get_input_details()) <= 2:
        raise ModelError(f"has {len(inputs)} inputs")
    if not _is_image(inputs[0]):
        raise ModelError(f"takes {_describe(inputs[0])}, not one image of uint8 with sides of {_LARGEST_SIDE} at most")
    outputs = interpreter.get_output_details()
    if other := next((item for item in [*inputs[1:], *outputs] if not _is_vector(item)), None):
        raise ModelError(f"takes or returns {_describe(other)}, not one vector of float32")
    if not outputs:
        raise ModelError("returns nothing")
    # Sizes that are computed are of these types, and so is what has a size that depends on the image. Without
    # them, all sizes are known when the tensors are allocated.
    if any({np.int32, np.int64} & set(item["result_types"]) for item in interpreter._get_ops_details()):
        raise ModelError("computes the sizes of its tensors, which cannot be bounded then")


def check_size(interpreter: Any) -> None:
    """Check the size of a network's tensors: of those that it states before they are allocated, of all after it.

    Raises
    ------
    ModelError
        If they are too large to run.
    """
    sizes = [math.prod(map(int, item["shape"])) for item in interpreter.get_tensor_details()]
    if min(sizes) < 0 or max(sizes) > _LARGEST_TENSOR or sum(sizes) > _LARGEST_SUM:
        raise ModelError(f"is too large to run: its tensors have {sum(sizes)} elements, the largest {max(sizes)}")


def _is_image(item: dict[str, Any]) -> bool:
    shape = tuple(map(int, item["shape"]))
    is_one = len(shape) == 4 and (shape[0], shape[3]) == (1, 3)
    return is_one and all(1 <= side <= _LARGEST_SIDE for side in shape[1:3]) and item["dtype"] == np.uint8


def _is_vector(item: dict[str, Any]) -> bool:
    shape = tuple(map(int, item["shape"]))
    return len(shape) == 2 and shape[0] == 1 and 1 <= shape[1] <= _LARGEST_WIDTH and item["dtype"] == np.float32


def _describe(item: dict[str, Any]) -> str:
    return f"{np.dtype(item['dtype']).name} of {' x '.join(map(str, item['shape'])) or 'no dimension'}"
