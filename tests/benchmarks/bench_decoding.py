"""How fast are files of every kind read, compared with starting ffprobe and ffmpeg for each?

Bars: short clips in m4a, webm and wma at least 8 times as fast as by the programs; the walk over the frames of an MP3
less than 3 % of decoding it; ten hours of m4a in constant memory, two workers at least 1.6 times one. --hours 0 leaves
the last one out.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import av
import numpy as np
import psutil
import soundfile
import soxr
from measuring import ROOT, SAMPLE_AUDIO, arguments, in_turn, machine, ratio

from audionet.audio.array_sound import ArraySound
from audionet.audio.config import SpectrogramConfig
from audionet.audio.decoding import Source, open_sound
from audionet.audio.frame_walk import walk_mp3
from audionet.audio.image import render
from audionet.audio.recording import Recording
from audionet.audio.samples import wav_bytes
from audionet.data.config import DataConfig
from audionet.data.render import render_folder

sys.path.insert(0, str(ROOT))
from tests.support.encoding import encode

CLIPS = 24
CONFIG = SpectrogramConfig()
KINDS = {
    "m4a": ("aac", 44_100, "ipod"),
    "webm": ("libopus", 48_000, "webm"),
    "wma": ("wmav2", 44_100, "asf"),
}


def speech(seconds: float, rate: int) -> np.ndarray:
    """Join the bundled recordings to a sound of this length."""
    parts = [soundfile.read(path, dtype="float32")[0] for path in sorted(SAMPLE_AUDIO.glob("*/*.mp3"))]
    sound = np.concatenate(parts)
    sound = np.tile(sound, -(-round(seconds * 16_000) // len(sound)))[: round(seconds * 16_000)]
    resampled: np.ndarray = soxr.resample(sound, 16_000, rate)
    return resampled


def decode_by_programs(path: Path) -> ArraySound:
    """Decode a file as AudioNet did when it started the programs for every file."""
    probe = ["ffprobe", "-v", "info", "-show_format", "-show_streams", "-of", "json", str(path)]
    found = json.loads(subprocess.run(probe, capture_output=True, check=True).stdout)
    rate = int(next(stream for stream in found["streams"] if stream["codec_type"] == "audio")["sample_rate"])
    command = ["ffmpeg", "-nostdin", "-v", "error", "-i", str(path), "-map", "0:a:0", "-ac", "1", "-f", "f32le"]
    raw = subprocess.run([*command, "pipe:1"], capture_output=True, check=True, stdin=subprocess.DEVNULL).stdout
    return ArraySound(np.frombuffer(raw, "<f4"), rate)


def read_in_process(paths: Sequence[Path]) -> None:
    for path in paths:
        with open_sound(path) as sound:
            collections.deque(sound.mono(), maxlen=0)


def read_by_programs(paths: Sequence[Path]) -> None:
    for path in paths:
        decode_by_programs(path)


def render_in_process(paths: Sequence[Path], folder: Path) -> None:
    for path in paths:
        write_chunks(path, folder / path.name)


def render_by_programs(paths: Sequence[Path], folder: Path) -> None:
    for path in paths:
        write_chunks(decode_by_programs(path), folder / path.name)


def write_chunks(source: Source, target: Path) -> None:
    """Write the chunks and images of a source, as data_maker.py does."""
    for chunk in Recording(source, CONFIG):
        target.with_suffix(f".{chunk.index}.wav").write_bytes(wav_bytes(chunk.samples, CONFIG.sample_rate))
        target.with_suffix(f".{chunk.index}.jpg").write_bytes(render(chunk.samples, CONFIG))


def containers(folder: Path, seconds: float, rounds: int) -> None:
    """Compare the reading and the rendering of clips of this length."""
    for kind, (codec, rate, container) in KINDS.items():
        scratch = folder / f"{seconds:g} {kind} chunks"
        scratch.mkdir()
        first = folder / f"{seconds:g} {kind}" / f"0.{kind}"
        encode(first, speech(seconds, rate), codec, rate, container, {"b": "96k"})
        for number in range(1, CLIPS):
            shutil.copy(first, first.with_name(f"{number}.{kind}"))
        paths = sorted(first.parent.iterdir())
        times = in_turn(
            rounds,
            functools.partial(read_in_process, paths),
            functools.partial(read_by_programs, paths),
            functools.partial(render_in_process, paths, scratch),
            functools.partial(render_by_programs, paths, scratch),
        )
        for what, new, old in (("read", times[0], times[1]), ("rendered", times[2], times[3])):
            each, before = (1000 * statistics.median(found) / CLIPS for found in (new, old))
            print(
                f"{kind:<5} of {seconds:>2g} s {what:<9} {each:6.1f} ms in process, {before:6.1f} by ffprobe and "
                f"ffmpeg: {ratio(old, new)}   bar 8"
            )


def mp3_walk(folder: Path, rounds: int) -> None:
    """Compare the decoding of MP3s with and without the walk over their frames before it."""

    def decode(path: Path) -> None:
        soundfile.read(path, dtype="float32")

    def walk_and_decode(path: Path) -> None:
        with path.open("rb") as file:
            assert walk_mp3(file)
        decode(path)

    for rate in (44_100, 16_000):
        path = folder / f"{rate}.mp3"
        soundfile.write(path, speech(60, rate), rate, format="MP3")
        both, alone = in_turn(20 * rounds, functools.partial(walk_and_decode, path), functools.partial(decode, path))
        share = statistics.median(a / b for a, b in zip(both, alone, strict=True)) - 1
        print(f"walk over an MP3 of {rate} Hz: {share:.1%} of decoding it   bar 3%")


def repeat(source: Path, target: Path, hours: float) -> Path:
    """Write the packets of an m4a again and again, which is faster than to encode as much."""
    with av.open(str(source)) as container:
        sound = container.streams.audio[0]
        assert sound.time_base is not None
        packets = [bytes(packet) for packet in container.demux(sound) if packet.size]
        with av.open(str(target), "w", format="ipod") as output:
            stream = output.add_stream_from_template(sound)
            place = 0
            while place < hours * 3600 / sound.time_base:
                for content in packets:
                    packet = av.Packet(content)
                    packet.stream, packet.time_base = stream, sound.time_base
                    packet.pts = packet.dts = place
                    packet.duration = sound.codec_context.frame_size  # also of the last one
                    output.mux(packet)
                    place += packet.duration
    return target


@contextlib.contextmanager
def watched_memory() -> Iterator[list[float]]:
    """Watch this process and its children; the list holds the largest resident size of any of them, bytes."""
    peak, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.wait(0.2):
            me = psutil.Process()
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    peak[0] = max(peak[0], process.memory_info().rss)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def long_recording(folder: Path, hours: float) -> None:
    """Render a long m4a by one worker and by two."""
    minute = encode(folder / "minute.m4a", speech(60, 44_100), "aac", 44_100, "ipod", {"b": "96k"})
    (folder / "long" / "label").mkdir(parents=True)
    path = repeat(minute, folder / "long" / "label" / "x.m4a", hours)
    print(f"{hours:g} hours of m4a, {path.stat().st_size / 1e6:.0f} MB")
    seconds = {}
    for workers in (1, 2):
        outputs = Path(tempfile.mkdtemp(dir=folder))
        data = DataConfig(folder / "long", outputs / "wav", outputs / "image", workers=workers)
        with watched_memory() as peak:
            start = time.perf_counter()
            render_folder(data, CONFIG)
            seconds[workers] = time.perf_counter() - start
        shutil.rmtree(outputs)
        print(f"  workers: {workers}, {seconds[workers]:.1f} s, at most {peak[0] / 1e6:.0f} MB in any process")
    print(f"  two workers / one: {seconds[1] / seconds[2]:.2f}   bar 1.6")


def main() -> None:
    options = arguments(__doc__, hours=10.0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(machine())
        if shutil.which("ffmpeg"):
            for seconds in (4, 12):
                containers(folder, seconds, options.rounds)
        else:
            print("the comparison with ffmpeg needs it installed: left out")
        mp3_walk(folder, options.rounds)
        if options.hours:
            long_recording(folder, options.hours)


if __name__ == "__main__":
    main()
