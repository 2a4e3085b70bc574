from __future__ import annotations

import io

import numpy as np
from google.protobuf import text_format
from PIL import Image

from audionet.training.tensorboard_log import add_image, add_projector, principal_components
from audionet.utils import plots
from audionet.utils.plots import CurvePoint, confusion_matrix, confusion_plot, curves_plot


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
        image.load()
        assert image.format == "PNG"
        return image.size


def test_confusions_are_counted() -> None:
    counts = confusion_matrix(np.array([0, 0, 1, 2, 2]), np.array([0, 1, 1, 0, 0]), 3)
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [2, 0, 0]]


def test_any_label_can_be_plotted() -> None:
    labels = ["$x^", "анна", "日本 🎻", "a" * 300, "\\frac{1}{", "%s"]
    true = np.arange(60) % 6
    assert size(confusion_plot(true, (true + (np.arange(60) == 3)) % 6, labels))[0] > 300


def test_of_thousands_of_labels_those_mistaken_most_are_shown() -> None:
    labels = [f"label {number}" for number in range(5000)]
    true = np.repeat(np.arange(5000), 2)
    given = true.copy()
    given[4000:4100] = 7
    width, height = size(confusion_plot(true, given, labels))
    assert width < 2500
    assert height < 2500


def test_curves_of_one_point_and_of_none() -> None:
    assert size(curves_plot([CurvePoint("training", 1, 0.5, 0.5)], 1))[0] > 500
    assert size(curves_plot([], 0))[0] > 500


def test_tensorboard_finds_the_image_and_the_points(tmp_path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

    png = confusion_plot(np.array([0, 1]), np.array([0, 1]), ["a", "b"])
    add_image(tmp_path, "confusion", png)
    add_projector(tmp_path, np.eye(4, 9, dtype=np.float32), ["a", "a", "b\t", "b"], ["1", "2", "3", "4"])
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["images"] == ["confusion"]
    config = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), ProjectorConfig())
    rows = np.loadtxt(tmp_path / config.embeddings[0].tensor_path, delimiter="\t")
    lines = (tmp_path / config.embeddings[0].metadata_path).read_text().splitlines()
    assert len(rows) == 4
    assert lines == ["label\timage", "a\t1", "a\t2", "b\\t\t3", "b\t4"]


def test_principal_components_keep_the_distances() -> None:
    generator = np.random.default_rng(0)
    features = (generator.standard_normal((30, 3)) @ generator.standard_normal((3, 200))).astype(np.float32)
    seen = principal_components(features, 50)
    assert seen.shape == (30, 3)
    for one, other in ((0, 1), (5, 20)):
        np.testing.assert_allclose(
            np.linalg.norm(seen[one] - seen[other]), np.linalg.norm(features[one] - features[other]), rtol=1e-3
        )
    assert principal_components(np.zeros((3, 5), np.float32), 50).shape == (3, 1)


def test_labels_taken_for_each_other_stand_side_by_side_and_others_last(monkeypatch) -> None:
    figures: list = []
    monkeypatch.setattr(plots, "png", lambda figure: figures.append(figure) or b"")
    labels = [f"label {number}" for number in range(500)]
    true = np.concatenate([np.arange(500), [3, 7, 7, 250]])
    given = np.concatenate([np.arange(500), [400, 300, 500, 500]])
    confusion_plot(true, given, labels, others=["(unknown)"])
    (axes,) = figures[0].axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert sorted(names[:-1]) == ["label 250", "label 3", "label 300", "label 400", "label 7"]
    assert names[-1] == "(unknown)"
    assert abs(names.index("label 3") - names.index("label 400")) == 1
    assert abs(names.index("label 7") - names.index("label 300")) == 1
    assert "4 of 504 test chunks wrong, 5 of 500 labels" in axes.get_title(loc="left")
    counts = {text.get_position(): text.get_text() for text in axes.texts}
    assert counts[names.index("label 400"), names.index("label 3")] == "1"
    confusion_plot(np.arange(3), np.arange(3), ["b", "c", "a"])
    assert [text.get_text() for text in figures[1].axes[0].get_yticklabels()] == ["b", "c", "a"]


def test_a_matrix_fits_on_a_page_whatever_the_labels() -> None:
    true = np.repeat(np.arange(500), 2)
    width, height = size(confusion_plot(true, (true + np.arange(1000) % 2) % 500, ["x" * 40] * 500))
    assert max(width, height) / plots.DPI < 9
