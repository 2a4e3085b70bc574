"""How many images a second pretraining takes, and where its time goes: views, network, batch normalisation.

The training itself is timed with its worker processes, then each part alone; Keras's own batch normalisation in turn
with the fused operation. No bar: the parts say what to make faster next.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
from measuring import SAMPLE_AUDIO, arguments, in_turn, machine, ratio

STEPS = 12


def main() -> None:
    options = arguments(__doc__)
    from audionet.backbones.tf_runtime import import_keras
    from audionet.pretraining import network
    from audionet.pretraining.batches import BatchSource, prepare_material
    from audionet.pretraining.config import PretrainConfig
    from audionet.pretraining.manifest import ManifestDataset, find_utterances
    from audionet.pretraining.views import ViewTask, make_views
    from audionet.utils.expressions import Expression
    from audionet.utils.parallel import local_processes

    import_keras()
    voices = ManifestDataset("voices", ".", "speaker", Expression("^(?P<label>[^/]+)/"), "CC0", "bundled")
    with tempfile.TemporaryDirectory() as folder:
        config = PretrainConfig(teacher="none", checkpoint_dir=Path(folder), shuffle_buffer=512)
        material = prepare_material(find_utterances([voices], SAMPLE_AUDIO), config)
        classes = {"speaker": len(material.corpus.labels["speaker"])}
        size = (config.input_height, config.input_width)

        sounds = material.sounds[:16]
        task = ViewTask(sounds, [None] * 16, [1.0] * 16, list(range(16)), config.views, size, [(0, 0)] * 16)
        (view_seconds,) = in_turn(options.rounds, lambda: make_views(task))
        views = 16 * config.views / statistics.median(view_seconds)

        students = [network.build(config, classes, 0)]
        with_fused, network.with_fused_batch_norm = network.with_fused_batch_norm, lambda model: model
        students.append(network.build(config, classes, 0))
        network.with_fused_batch_norm = with_fused
        pixels = np.random.default_rng(0).integers(0, 256, (config.batch_size, *size, 3)).astype(np.float32)
        targets = {
            name: np.zeros((config.batch_size, *output.shape[1:])) for name, output in students[0].model.output.items()
        }
        targets["speaker"] = np.zeros(config.batch_size, np.int64)
        fused, plain = in_turn(
            options.rounds, *(lambda model=student.model: model.train_on_batch(pixels, targets) for student in students)
        )

        with local_processes(config.workers) as pool:
            batches = BatchSource(material, config, pool).endless(0)
            for _ in range(3):
                students[0].model.train_on_batch(next(batches).pixels.astype(np.float32), targets)
            start = time.perf_counter()
            waited = 0.0
            for _ in range(STEPS):
                asked = time.perf_counter()
                batch = next(batches)
                waited += time.perf_counter() - asked
                students[0].model.train_on_batch(batch.pixels.astype(np.float32), targets)
            whole = time.perf_counter() - start
            batches.close()
    print(machine())
    rates = {
        "training, views included": STEPS * config.batch_size / whole,
        "network alone, fused normalisation": config.batch_size / statistics.median(fused),
        "network alone, Keras's normalisation": config.batch_size / statistics.median(plain),
        "views alone, one process": views,
    }
    for name, rate in rates.items():
        print(f"{name:38s}{rate:6.0f} images/s")
    print(f"training waits for views {waited / whole:.0%} of its time")
    print(f"seconds with Keras's normalisation over those with the fused one {ratio(plain, fused)}")


if __name__ == "__main__":
    main()
