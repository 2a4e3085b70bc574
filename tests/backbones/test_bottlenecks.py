from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from audionet.audio.network_input import image_features
from audionet.backbones.bottlenecks import compute_bottlenecks
from audionet.backbones.cache import CACHE_FORMAT, Bottleneck, Cache, content_key
from audionet.backbones.conversion import SourceNetwork, convert
from audionet.backbones.litert import Runner
from audionet.backbones.registry import Backbone
from audionet.data.dataset import find_images
from audionet.errors import DatasetError


@pytest.fixture
def compute(backbone: Backbone, tmp_path: Path) -> Callable[..., object]:
    return lambda folder, workers=2: compute_bottlenecks(find_images(folder), backbone, tmp_path / "cache", workers)


def content(found) -> list[Bottleneck]:
    columns = (found.records.take(field) for field in ("size", "network", "bands", "mfcc", "activity"))
    return [Bottleneck(*row) for row in zip(*columns, strict=True)]


def assert_same(one: list[Bottleneck], other: list[Bottleneck]) -> None:
    assert [tuple(np.hstack(row)) for row in one] == [tuple(np.hstack(row)) for row in other]


def test_features_match_the_network_on_each_image(image_folder, compute, backbone: Backbone) -> None:
    found = compute(image_folder())
    runner = Runner(backbone.path)
    for row in (0, 7, 44):
        features = image_features(found.images[row].path.read_bytes(), (64, 48))
        np.testing.assert_allclose(found.records.take("network")[row], runner(features.pixels), rtol=1e-3)
        np.testing.assert_array_equal(found.records.take("bands")[row], features.band_statistics)
        np.testing.assert_array_equal(found.records.take("mfcc")[row], features.mfcc_statistics)
        assert found.records.take("activity")[row] == pytest.approx(features.activity)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 20])
def test_batched_outputs_are_bit_identical(backbone: Backbone, count: int) -> None:
    pixels = np.random.default_rng(count).integers(0, 256, (count, 64, 48, 3)).astype(np.uint8)
    alone = Runner(backbone.path)
    together = Runner(backbone.path).features(pixels, 8)
    np.testing.assert_array_equal(together, np.stack([alone(image[None]) for image in pixels]))


@pytest.mark.tensorflow
def test_a_network_of_fixed_batch_size_one(tmp_path: Path) -> None:
    import tensorflow as tf

    def flat(x):
        return tf.reshape(tf.reduce_mean(x, [1, 2]), [1, 3])

    samples = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 3)).astype(np.uint8)
    (tmp_path / "x.tflite").write_bytes(convert(SourceNetwork(flat, (8, 8), None), samples, "flat").network)
    features = Runner(tmp_path / "x.tflite").features(samples, 4)
    np.testing.assert_allclose(features, samples.mean(axis=(1, 2)), rtol=1e-5)


def test_each_image_is_computed_once(image_folder, compute) -> None:
    folder = image_folder()
    first, again = compute(folder), compute(folder)
    assert (first.computed, again.computed) == (45, 0)
    assert_same(content(first), content(again))


def test_only_new_images_are_computed(image_folder, compute) -> None:
    folder = image_folder()
    extra = sorted((folder / "low").glob("*.jpg"))[:10]
    aside = folder.parent / "aside"
    aside.mkdir()
    for path in extra:
        shutil.move(path, aside / path.name)
    assert compute(folder).computed == 35
    for path in extra:
        shutil.move(aside / path.name, path)
    assert compute(folder).computed == 10


def test_the_key_is_the_content_not_the_name(image_folder, compute) -> None:
    folder = image_folder()
    compute(folder)
    (folder / "low").rename(folder / "deep")
    assert compute(folder).computed == 0


def test_the_cache_is_compacted_after_many_runs(image_folder, compute, tmp_path: Path) -> None:
    folder = image_folder()
    images = sorted(folder.rglob("*.jpg"))
    hidden = [path.with_suffix(".hidden") for path in images]
    for path, aside in zip(images[2:], hidden[2:], strict=True):
        if path.parent.name != "middle":
            path.rename(aside)
    for path, aside in zip(images, hidden, strict=True):
        if aside.exists():
            aside.rename(path)
        compute(folder) if path.name.startswith("3") else None
    compute(folder)
    assert len(list((tmp_path / "cache").rglob("part-*.npy"))) == 1
    assert compute(folder).computed == 0


def test_bottlenecks_of_a_damaged_cache_file_are_computed_again(image_folder, compute, tmp_path: Path) -> None:
    folder = image_folder()
    first = content(compute(folder))
    (part,) = (tmp_path / "cache").rglob("part-*.npy")
    part.write_bytes(part.read_bytes()[:5000])
    (part.parent / "part-0.npy").write_bytes(b"")
    again = compute(folder)
    assert again.computed == 45
    assert_same(first, content(again))


def test_saved_parts_survive_a_kill_in_the_middle(image_folder, compute, backbone: Backbone, tmp_path: Path) -> None:
    folder = image_folder()
    whole = compute(folder)
    kept = content(whole)
    shutil.rmtree(tmp_path / "cache")
    name = f"{backbone.name}-{backbone.identity[:12]}-v{CACHE_FORMAT}"
    cache = Cache(tmp_path / "cache" / name, backbone.width)
    rows = [(content_key(p.path.read_bytes()), row) for p, row in zip(whole.images, kept, strict=True)]
    cache.add(rows[:20])
    cache.add(rows[10:30])  # the same image twice, as after a kill between joining files and removing them
    (tmp_path / "cache" / name / f".audionet-tmp-{os.getpid()}-9").write_bytes(b"half")
    resumed = compute(folder)
    assert resumed.computed == 15
    assert_same(content(resumed), kept)


def test_an_unreadable_image_is_logged_and_skipped(image_folder, compute, capsys) -> None:
    folder = image_folder()
    (folder / "low" / "bad.jpg").write_bytes(b"no image")
    (folder / "low" / "gone.jpg").symlink_to("nowhere")
    found = compute(folder)
    assert len(found.images) == len(found.records) == 45
    errors = capsys.readouterr().err
    assert "low/bad.jpg: is not a JPG image" in errors
    assert "low/gone.jpg: cannot be read" in errors


def test_nothing_readable_is_an_error(tmp_path: Path, compute) -> None:
    for label in ("a", "b"):
        (tmp_path / "images" / label).mkdir(parents=True)
        (tmp_path / "images" / label / "x.jpg").write_bytes(label.encode())
    with pytest.raises(DatasetError, match="none of the images can be read"):
        compute(tmp_path / "images")
