"""How fast do MP3s become WAV chunks and JPG spectrograms, compared with the ways people make them?

Bars, on MP3s, chunks of 3 s, a core each: at least 40 times the original recipe (pydub, plt.specgram, savefig, PIL),
at least 1.5 times librosa's melspectrogram and Pillow; two workers at least 1.8 times one.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from measuring import SAMPLE_AUDIO, arguments, machine, ratio

COPIES = 24  # of the bundled voices: enough that starting the processes does not count


def original_recipe(recordings: list[Path], folder: Path) -> int:
    """pydub to WAV, WAV chunks, a figure each, savefig, PIL."""
    import matplotlib as mpl
    from PIL import Image
    from pydub import AudioSegment
    from pydub.utils import make_chunks
    from scipy.io import wavfile

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    chunks = 0
    for path in recordings:
        AudioSegment.from_mp3(path).export(folder / "whole.wav", format="wav")
        for chunk in make_chunks(AudioSegment.from_wav(folder / "whole.wav"), 3000):
            wav = folder / f"{chunks}.wav"
            chunk.export(wav, format="wav")
            _, data = wavfile.read(wav)
            plt.specgram(data, 256, 256)
            plt.axis("off")
            plt.savefig(folder / "one.png", dpi=100, bbox_inches="tight", pad_inches=0)
            plt.close()
            Image.open(folder / "one.png", formats=["PNG"]).convert("RGB").save(folder / f"{chunks}.jpg")
            chunks += 1
    return chunks


def librosa_and_pillow(recordings: list[Path], folder: Path) -> int:
    """The usual modern way, one process: the same chunks, mel bands, colours and JPG quality as ours."""
    import librosa
    import numpy as np
    import soundfile
    from matplotlib import colormaps
    from PIL import Image

    chunks, rate = 0, 16_000
    for path in recordings:
        sound, _ = librosa.load(path, sr=rate)
        for start in range(0, len(sound) - rate, 3 * rate):
            chunk = librosa.util.fix_length(sound[start : start + 3 * rate], size=3 * rate)
            soundfile.write(folder / f"{chunks}.wav", chunk, rate, subtype="PCM_16")
            power = librosa.feature.melspectrogram(
                y=chunk, sr=rate, n_fft=512, win_length=400, hop_length=160, n_mels=128, fmin=20, fmax=7600
            )
            level = 1 + librosa.power_to_db(power, ref=np.max, top_db=80) / 80
            pixels = colormaps["viridis"](level[::-1], bytes=True)[:, :, :3]
            Image.fromarray(pixels).save(folder / f"{chunks}.jpg", quality=95)
            chunks += 1
    return chunks


def ours(audio: Path, folder: Path, workers: int) -> int:
    from audionet.audio.config import SpectrogramConfig
    from audionet.data.config import DataConfig
    from audionet.data.render import render_folder

    # A new folder each time: some file systems are slow to make files where many have just been removed.
    folder = Path(tempfile.mkdtemp(dir=folder))
    data = DataConfig(audio, folder / "wav", folder / "image", workers=workers)
    return sum(summary.chunks for summary in render_folder(data, SpectrogramConfig()).labels.values())


def per_chunk(work: Callable[[], int]) -> float:
    start = time.perf_counter()
    chunks = work()
    return (time.perf_counter() - start) / chunks


def main() -> None:
    options = arguments(__doc__)
    warnings.simplefilter("ignore")
    recordings = sorted(SAMPLE_AUDIO.glob("*/*.mp3"))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        audio = folder / "audio"
        for copy in range(COPIES):
            for voice in {path.parent for path in recordings}:
                shutil.copytree(voice, audio / f"{voice.name} {copy}")
        for scratch in ("original", "librosa", "ours"):
            (folder / scratch).mkdir()
        ways: dict[str, Callable[[], int]] = {
            "the original recipe, one process": lambda: original_recipe(recordings[:2], folder / "original"),
            "librosa and Pillow, one process": lambda: librosa_and_pillow(recordings, folder / "librosa"),
            "AudioNet, one worker": lambda: ours(audio, folder / "ours", 1),
            "AudioNet, two workers": lambda: ours(audio, folder / "ours", 2),
        }
        if shutil.which("ffmpeg") is None:
            print("the original recipe needs ffmpeg, which is not installed: left out")
            del ways["the original recipe, one process"]
        seconds: dict[str, list[float]] = {way: [] for way in ways}
        for work in ways.values():
            work()
        for _ in range(options.rounds):
            for way, work in ways.items():
                seconds[way].append(per_chunk(work))
    print(machine())
    for way, found in seconds.items():
        each = statistics.median(found)
        print(f"{way:<34} {1000 * each:8.2f} ms a chunk, {3 / 60 / each:7.2f} minutes of audio a second")
    one, two = seconds["AudioNet, one worker"], seconds["AudioNet, two workers"]
    for way, bar in (("the original recipe, one process", 40), ("librosa and Pillow, one process", 1.5)):
        if way in seconds:
            print(f"one worker / {way}: {ratio(seconds[way], one)}   bar {bar}")
    print(f"two workers / one: {ratio(one, two)}   bar 1.8")


if __name__ == "__main__":
    main()
