"""How long does a top layer take, how fast are bottlenecks read, and what does the way to the network cost?

Bars: 10,000 cached bottlenecks of 50 labels, 500 steps, under a third (aim: a twentieth) of Keras's `fit` on the same
arrays loaded from a text file each, as the 2018 recipe kept them, loading included; bottlenecks at 1 GB/s or more
from a warm file cache; fine-tuning steps within 10 % of the bare step on tensors that are there already.
"""

from __future__ import annotations

import dataclasses
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measuring import arguments, demo_model, in_turn, machine, ratio

from audionet._paths import TF_FILES
from audionet.audio.network_input import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH
from audionet.backbones.cache import Bottleneck, Cache
from audionet.backbones.registry import prepare
from audionet.classifier.head import Head, Layer
from audionet.data.dataset import find_images
from audionet.training.config import StepConfig
from audionet.training.datasets import FeatureExamples, ImageExamples
from audionet.training.head_training import train_head
from audionet.training.networks import from_backbone
from audionet.training.train_loop import fit
from audionet.training.train_step import TrainingSteps

ROWS, WIDTH, LABELS, STEPS, BATCH = 10_000, 2048, 50, 500, 100
NOTHING = np.zeros(0, np.int64)


def main() -> None:
    options = arguments(__doc__)
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        top_layer(Path(name), options.rounds)
    with tempfile.TemporaryDirectory() as name:
        fine_tuning(Path(name), options.rounds)


def top_layer(folder: Path, rounds: int) -> None:
    generator = np.random.default_rng(0)
    labels = generator.integers(0, LABELS, ROWS)
    features = (
        generator.standard_normal((LABELS, WIDTH))[labels] + 3 * generator.standard_normal((ROWS, WIDTH))
    ).astype("f4")
    keys = np.frombuffer(generator.bytes(16 * ROWS), "V16")
    bands, mfcc = np.zeros(BAND_STATISTICS_WIDTH, np.float32), np.zeros(MFCC_STATISTICS_WIDTH, np.float32)
    cache = Cache(folder / "cache", WIDTH)
    cache.add(
        [
            (key.tobytes(), Bottleneck((298, 128), row, bands, mfcc, 1.0))
            for key, row in zip(keys, features, strict=True)
        ]
    )
    (folder / "text").mkdir()
    for number, row in enumerate(features):
        (folder / "text" / f"{number}.txt").write_text(",".join(str(value) for value in row))
    config = StepConfig(how_many_training_steps=STEPS, train_batch_size=BATCH)

    def ours() -> None:
        records = Cache(folder / "cache", WIDTH).records(keys)
        nothing = FeatureExamples(records[NOTHING], NOTHING, ["network"])
        train_head(FeatureExamples(records, labels, ["network"]), nothing, LABELS, [WIDTH], config)

    def theirs() -> None:
        import keras

        texts = [(folder / "text" / f"{number}.txt").read_text() for number in range(ROWS)]
        loaded = np.array([[float(value) for value in text.split(",")] for text in texts], np.float32)
        model = keras.Sequential([keras.Input((WIDTH,)), keras.layers.Dense(LABELS, activation="softmax")])
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(loaded, labels, batch_size=BATCH, epochs=STEPS * BATCH // ROWS, verbose=0)

    times = in_turn(rounds, ours, theirs)
    print(f"top layer         {statistics.median(times[0]):6.2f} s")
    print(f"text files, fit   {statistics.median(times[1]):6.2f} s")
    print(f"ratio {ratio(*times)}   bar 0.333, aim 0.05")
    records = cache.records(keys)
    order = generator.permutation(ROWS)
    size = records.take("network").nbytes / 1e9
    straight, shuffled = in_turn(rounds, lambda: records.take("network"), lambda: records.take("network", order))
    print(f"bottlenecks read  {size / statistics.median(straight):6.2f} GB/s   bar 1")
    print(f"in random order   {size / statistics.median(shuffled):6.2f} GB/s")


def fine_tuning(folder: Path, rounds: int) -> None:
    """The loop on JPG files, decoded as they come, and the same steps on one batch of synthetic tensors."""
    demo_model(folder)
    images = find_images(folder / "image")
    names = sorted({image.label for image in images})
    labels = np.array([names.index(image.label) for image in images])
    backbone = prepare("inception_v3_speech", TF_FILES / "models", None, lambda size: np.zeros((1, *size, 3), np.uint8))
    width = backbone.width
    zeros = np.zeros((width, len(names)), np.float32)
    head = Head(zeros[:, 0], np.ones(width, np.float32), None, False, Layer(zeros, zeros[0]))
    config = StepConfig(how_many_training_steps=20, train_batch_size=32, learning_rate=1e-4)
    built = from_backbone(backbone, head, 2, config)
    steps = TrainingSteps(built.network, config, np.ones(len(names), np.float32))
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (1, 32, *backbone.input_size, 3)).astype(np.uint8)
    wanted, rate = labels[None, :32], np.array([1e-4], np.float32)
    nothing = ImageExamples([], NOTHING, backbone.input_size, backbone.statistics)

    def bare() -> None:
        for number in range(20):
            steps((pixels,), wanted, rate, np.array([number]))

    def loop(steps_asked: int) -> Callable[[], None]:
        asked = dataclasses.replace(config, how_many_training_steps=steps_asked, eval_step_interval=steps_asked)

        def run() -> None:
            fit(
                built.network,
                ImageExamples(images, labels, backbone.input_size, backbone.statistics),
                nothing,
                asked,
            )

        return run

    def seconds(work: Callable[[], None]) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    bare()
    rates = []
    for _ in range(rounds):
        # Twenty steps more: what both begin with, tracing above all, is no part of a step.
        whole = seconds(loop(25)) - seconds(loop(5))
        rates.append((seconds(bare), whole))
    ratios = sorted(whole / alone for alone, whole in rates)
    print(f"fine-tuning step  {statistics.median(whole for _, whole in rates) / 20 * 1000:.0f} ms, decoding included")
    print(f"bare step         {statistics.median(alone for alone, _ in rates) / 20 * 1000:.0f} ms")
    print(f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})   bar 1.10")


if __name__ == "__main__":
    main()
