"""Does evaluate.py spend its time on the recordings? 3,000 clips of six speakers, report and all.

Bar: at least 80 % of the processor time goes into decoding, rendering and the network. Held against a bare loop over
the same clips that does nothing else. Needs --data, a folder that holds fsdd/recordings/{digit}_{speaker}_{index}.wav.
"""

from __future__ import annotations

import multiprocessing
import os
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from bench_real_voices import two_trees
from measuring import arguments, digits, machine, model_flags, ratio, script
from threadpoolctl import threadpool_limits


def processor_seconds(who: int) -> float:
    used = resource.getrusage(who)
    return used.ru_utime + used.ru_stime


def bare(graph: Path, clips: list[Path]) -> float:
    """Processor seconds of decoding, rendering and the network."""
    from audionet.inference.clip import Clip
    from audionet.inference.predictor import Predictor

    predictor = Predictor(graph, threads=1)

    def look(clip: Path) -> None:
        for chunk in Clip(clip, predictor.spectrogram):
            if chunk.jpg is not None:
                predictor.predict_image(chunk.jpg)

    with threadpool_limits(1):  # waiting threads of the linear algebra would count as work
        for clip in clips[:20]:
            look(clip)
        start = processor_seconds(resource.RUSAGE_SELF)
        for clip in clips:
            look(clip)
        return processor_seconds(resource.RUSAGE_SELF) - start


def on_all_cores(graph: Path, clips: list[Path]) -> float:
    """The same in as many processes at once as evaluate.py uses: cores that are all busy are slower each."""
    workers = os.cpu_count() or 1
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(bare, [graph] * workers, [clips[place::workers] for place in range(workers)]))


def main() -> None:
    options = arguments(__doc__)
    recordings = digits(options)
    if recordings is None:
        return
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        two_trees(recordings, folder, 1)
        audio, images = f"--audio_dir={folder / 'test'}", f"--image_dir={folder / 'image'}"
        script("data_maker.py", audio, f"--wav_dir={folder / 'wav'}", images)
        script("retrain.py", *model_flags(folder))
        for path in (folder / "test").rglob("*.wav"):
            (folder / "train" / path.parent.name / path.name).symlink_to(path.resolve())
        graph, clips = folder / "retrained_graph.tflite", sorted((folder / "train").rglob("*.wav"))
        flags = [f"--graph={graph}", f"--test_dir={folder / 'train'}", images, f"--report_dir={folder / 'report'}"]
        whole, loop, seconds = [], [], []
        for _ in range(options.rounds):
            before, start = processor_seconds(resource.RUSAGE_CHILDREN), time.perf_counter()
            script("evaluate.py", *flags)
            seconds.append(time.perf_counter() - start)
            whole.append(processor_seconds(resource.RUSAGE_CHILDREN) - before)
            loop.append(on_all_cores(graph, clips))
    wall, used = (sum(values) / len(values) for values in (seconds, whole))
    print(f"{len(clips)} clips: evaluate.py takes {wall:.1f} s, and {used:.1f} s of processor time")
    print(f"decoding, rendering and the network: {ratio(loop, whole)} of the processor time (bar: 0.8 or more)")


if __name__ == "__main__":
    main()
