"""Networks that are not of the form that AudioNet writes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from audionet.backbones.litert import Runner
from audionet.backbones.registry import Backbone
from audionet.errors import ModelError
from tests.support.networks import FLOAT32, INT32, add, constant, edit_network


def shape_input(*shape: int) -> Callable[[Any, Any], None]:
    def change(model: Any, graph: Any) -> None:
        graph.tensors[graph.inputs[0]].shape = np.array(shape, np.int32)

    return change


def take_floats(model: Any, graph: Any) -> None:
    graph.tensors[graph.inputs[0]].type = schema.TensorType.FLOAT32


def take_three(model: Any, graph: Any) -> None:
    graph.inputs = np.repeat(graph.inputs, 3)


def take_two_images(model: Any, graph: Any) -> None:
    graph.inputs = np.repeat(graph.inputs, 2)


def return_the_image(model: Any, graph: Any) -> None:
    graph.outputs = np.array([graph.inputs[0]], np.int32)


def branch(model: Any, graph: Any) -> None:
    model.subgraphs.append(copy.deepcopy(graph))


def state_a_large_tensor(model: Any, graph: Any) -> None:
    constant(model, graph, FLOAT32, (20_000, 20_000, 3))


def state_many_tensors(model: Any, graph: Any) -> None:
    for _ in range(20):
        constant(model, graph, FLOAT32, (128, 1024, 1024))


def fill_a_large_tensor(model: Any, graph: Any) -> None:
    size = constant(model, graph, INT32, (3,), [20_000, 20_000, 3])
    value = constant(model, graph, FLOAT32, (), np.int32(1))
    add(model, graph, "FILL", [size, value], (FLOAT32, (1, 1, 1)))


def compute_a_size(model: Any, graph: Any) -> None:
    part = constant(model, graph, INT32, (3,), [20_000, 20_000, 3])
    add(model, graph, "ABS", [part], (INT32, (3,)))
    value = constant(model, graph, FLOAT32, (), np.int32(1))
    add(model, graph, "FILL", [np.int32(len(graph.tensors) - 2), value], (FLOAT32, (1, 1, 1)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shape_input(1, 20_000, 20_000, 3), "takes uint8 of 1 x 20000 x 20000 x 3, not one image"),
        (shape_input(1, 64, 48, 1), "takes uint8 of 1 x 64 x 48 x 1, not one image"),
        (shape_input(2, 64, 48, 3), "takes uint8 of 2 x 64 x 48 x 3, not one image"),
        (shape_input(1, 0, 48, 3), "takes uint8 of 1 x 0 x 48 x 3, not one image"),
        (shape_input(), "takes uint8 of no dimension, not one image"),
        (shape_input(5), "takes uint8 of 5, not one image"),
        (take_floats, "takes float32 of 1 x 64 x 48 x 3, not one image"),
        (take_three, "has 3 inputs"),
        (take_two_images, "takes or returns uint8 of 1 x 64 x 48 x 3, not one vector of float32"),
        (return_the_image, "takes or returns uint8 of 1 x 64 x 48 x 3, not one vector of float32"),
        (branch, "has control flow"),
        (state_a_large_tensor, r"is too large to run: its tensors have 12\d+ elements, the largest 1200000000"),
        (state_many_tensors, r"is too large to run: its tensors have 26\d+ elements"),
        (fill_a_large_tensor, r"is too large to run: .* the largest 1200000000"),
        (compute_a_size, "computes the sizes of its tensors"),
    ],
)
def test_a_network_of_another_form_is_refused(
    backbone: Backbone, tmp_path: Path, change: Callable[[Any, Any], object], message: str
) -> None:
    path = edit_network(backbone.path, tmp_path / "hostile.tflite", change)
    with pytest.raises(ModelError, match=rf"hostile\.tflite {message}.*: name another") as error:
        Runner(path, remedy="name another")
    assert len(str(error.value).splitlines()) == 1


def test_a_network_that_fails_while_it_runs_is_one_line(backbone: Backbone, tmp_path: Path) -> None:
    def read_nothing(model: Any, graph: Any) -> None:
        values = constant(model, graph, FLOAT32, (1, 64))
        add(model, graph, "ABS", [values], (FLOAT32, (1, 64)))
        graph.outputs = np.array([len(graph.tensors) - 1], np.int32)

    runner = Runner(edit_network(backbone.path, tmp_path / "hostile.tflite", read_nothing), remedy="name another")
    with pytest.raises(ModelError, match=r"hostile\.tflite cannot be run: name another"):
        runner(np.zeros((1, 64, 48, 3), np.uint8))


def test_a_network_of_the_largest_input_size_is_taken(backbone: Backbone, tmp_path: Path) -> None:
    path = edit_network(backbone.path, tmp_path / "large.tflite", shape_input(1, 4096, 8, 3))
    assert Runner(path).input_shapes == [(1, 4096, 8, 3)]
    with pytest.raises(ModelError, match="not one image"):
        Runner(edit_network(backbone.path, tmp_path / "larger.tflite", shape_input(1, 4097, 8, 3)))


def test_a_network_that_is_only_copied_is_run(backbone: Backbone, tmp_path: Path) -> None:
    path = edit_network(backbone.path, tmp_path / "plain.tflite", lambda model, graph: None)
    pixels = np.full((1, 64, 48, 3), 100, np.uint8)
    np.testing.assert_array_equal(Runner(path)(pixels), Runner(backbone.path)(pixels))
