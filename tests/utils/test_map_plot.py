from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from audionet.utils import map_plot as module
from audionet.utils.map_plot import map_plot, most_frequent, project


def around(centres: int, each: int) -> np.ndarray:
    generator = np.random.default_rng(0)
    places = np.repeat(generator.standard_normal((centres, 5)), each, axis=0)
    return (places + 0.1 * generator.standard_normal(places.shape)).astype(np.float32)


def drawn(monkeypatch: pytest.MonkeyPatch, *arguments: Any, **options: Any) -> Any:
    """The axes of a map."""
    monkeypatch.setattr(module, "png", lambda figure: figure)
    (axes,) = module.map_plot(*arguments, **options).axes  # type: ignore[attr-defined]
    return axes


def legend(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_legend().get_texts()]


def test_a_map_keeps_distances_as_far_as_a_plane_can() -> None:
    flat = np.random.default_rng(1).standard_normal((30, 2)).astype(np.float32)
    turned = flat @ np.linalg.qr(np.random.default_rng(2).standard_normal((8, 2)))[0].T.astype(np.float32)
    points, method = project(turned[:10])
    assert method == "principal components"
    distances, expected = (np.linalg.norm(one[:, None] - one[None], axis=-1) for one in (points, flat[:10]))
    np.testing.assert_allclose(distances, expected, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 1), (3, 4), (1, 4)])
def test_equal_vectors_are_one_point(shape: tuple[int, int]) -> None:
    points, _ = project(np.ones(shape, np.float32))
    assert points.tolist() == shape[0] * [[0.0, 0.0]]


def test_names_come_by_their_number() -> None:
    assert most_frequent(["b", "c", None, "a", "c", None, None]) == ["c", "a", "b"]


def test_unknown_voices_and_wrong_answers_have_marks_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [*"aabb", None]
    wrong = np.array([False, True, False, False, True])
    axes = drawn(monkeypatch, around(1, 5), names, "recordings", ["b", "a"], wrong)
    assert legend(axes) == ["b", "a", "unknown voice", "wrong answer"]
    assert [len(some.get_offsets()) for some in axes.collections] == [2, 2, 1, 2]
    assert axes.collections[-1].get_facecolor().size == 0
    assert axes.get_title(loc="left") == "5 recordings, principal components"


@pytest.mark.parametrize("labels", [2, 20, 50])
def test_the_first_names_are_distinguished_and_the_others_counted(labels: int, monkeypatch: pytest.MonkeyPatch) -> None:
    order = [f"label {number:02d}" for number in range(labels)]
    axes = drawn(monkeypatch, around(labels, 2), [name for name in order for _ in range(2)], "recordings", order)
    others = ["30 others"] if labels == 50 else []
    assert legend(axes) == [*order[:20], *others]
    marks = {(some.get_facecolor().tobytes(), some.get_paths()[0].vertices.tobytes()) for some in axes.collections}
    assert len(marks) == len(legend(axes))


def test_any_name_can_be_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["$x^", "_hidden", "日本 🎻", "a" * 300, "\\frac{1}{", "%s", "br\udcffken", ""]
    with Image.open(io.BytesIO(map_plot(around(8, 1), names, "recordings", names)), formats=["PNG"]) as image:
        assert image.size == (1066, 780)
    axes = drawn(monkeypatch, around(8, 1), names, "recordings", names)
    assert legend(axes)[:4] == ["$x^", "_hidden", "日本 \U0001f3bb", "a" * 23 + "…"]
    assert legend(axes)[-2:] == ["br\\udcffken", "no label"]
