"""Are voices found in recordings without labels? Made conversations, their number of voices unknown.

Twelve of speechocean's last 25 speakers, twelve utterances each, and ten of libri251's last 51 readers, in pieces of
two to five seconds, take turns at random in four files; each speaks in two of them. Nobody of them has been heard in
the backbone's training. The two constants of the clustering's model were chosen on such draws, from half of the
speakers, and checked on the other half. Bars: the number of voices right within one in 8 of 10 draws, a diarization
error of at most 12 % (pyannote.metrics, collar 0.25 s), and at most 4 ms of a core for a second of sound. Beside it,
Resemblyzer's embeddings of the same pieces in the same clustering, if it is installed. Needs --data, a folder with
speechocean and libri251.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import soundfile
from bench_decisions import RATE, Sound, samples
from measuring import arguments, machine

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import Recording
from audionet.backbones.resemblyzer import embedding, has_resemblyzer
from audionet.classifier.prototypes import unit_length
from audionet.discovery.clustering import ClusterConfig, cluster_voices
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.discover import find_voices
from audionet.discovery.turns import Turn, join_pieces
from audionet.inference.embeddings import embed_files, find_clips
from audionet.metrics.accuracy import Groups
from audionet.utils.arrays import FloatArray

FILES, VOICES = 4, 22
Reference = list[tuple[float, float, str]]


def read(path: Path) -> Sound:
    """A recording without its silent ends, all of them as loud."""
    sound = samples(path)
    frames = len(sound) // 320
    power = np.square(sound[: frames * 320].reshape(frames, 320)).mean(axis=1)
    loud = np.flatnonzero(power > power.max() / 1000)
    trimmed: Sound = sound[loud[0] * 320 : (loud[-1] + 1) * 320]
    levelled: Sound = trimmed * np.float32(0.06 / np.sqrt(np.square(trimmed).mean()))
    return levelled


def turns_of(data: Path, generator: np.random.Generator) -> dict[str, list[Sound]]:
    speakers = sorted(path for path in (data / "speechocean").iterdir() if path.is_dir())[-25:]
    readers = sorted((data / "libri251").glob("*.flac"))[-51:]
    turns: dict[str, list[Sound]] = {}
    for index in generator.choice(25, 12, replace=False):
        utterances = sorted(speakers[index].iterdir())
        chosen = [utterances[i] for i in generator.permutation(len(utterances))[:12]]
        turns[speakers[index].name] = [read(path) for path in chosen]
    for index in generator.choice(51, 10, replace=False):
        sound, place, parts = read(readers[index]), 0, []
        while place < len(sound) - RATE:
            length = int(generator.uniform(2, 5) * RATE)
            parts.append(sound[place : place + length])
            place += length
        turns[readers[index].stem] = parts
    return turns


def make(data: Path, folder: Path, seed: int) -> list[Reference]:
    """Write the conversations of a draw, and return who speaks when in each."""
    generator = np.random.default_rng(seed)
    files: list[list[tuple[str, Sound]]] = [[] for _ in range(FILES)]
    for voice, sounds in turns_of(data, generator).items():
        chosen = generator.choice(FILES, 2, replace=False)
        for number, sound in enumerate(sounds):
            files[chosen[number % 2]].append((voice, sound))
    references: list[Reference] = []
    for number, file in enumerate(files):
        place, parts, reference = 0, [], []
        for index in generator.permutation(len(file)):
            voice, sound = file[index]
            pause = int(generator.uniform(0.1, 0.6) * RATE)
            parts += [np.zeros(pause, np.float32), sound]
            reference.append(((place + pause) / RATE, (place + pause + len(sound)) / RATE, voice))
            place += pause + len(sound)
        whole = np.concatenate(parts) + 3e-4 * generator.standard_normal(place).astype(np.float32)
        soundfile.write(folder / f"{number}.wav", np.clip(whole, -1, 1), RATE)
        references.append(reference)
    return references


def diarization_error(turns: Sequence[Turn], references: Sequence[Reference]) -> float:
    """Share of the time that is missed, or said to be somebody else's, over all files with one numbering of voices."""
    from pyannote.core import Annotation
    from pyannote.core import Segment as Stretch
    from pyannote.metrics.diarization import DiarizationErrorRate

    reference, found, offset = Annotation(), Annotation(), 0.0
    for number, stretches in enumerate(references):
        for place, (start, end, voice) in enumerate(stretches):
            reference[Stretch(offset + start, offset + end), place] = voice
        for place, turn in enumerate(turns):
            if turn.file == f"{number}.wav":
                found[Stretch(offset + turn.start, offset + turn.end), place] = str(turn.voice)
        offset += stretches[-1][1] + 10.0
    return float(DiarizationErrorRate(collar=0.25)(reference, found))


def other_turns(folder: Path, config: DiscoverConfig) -> list[Turn]:
    """Turns from Resemblyzer's embeddings of the same pieces, centred over them, which suits the same clustering."""
    pieces = embed_files(list(find_clips([folder])), config.embedding, "piece")
    speech = pieces.where(pieces.is_speech)
    vectors: list[FloatArray] = []
    for file in dict.fromkeys(speech.files):
        rows = [row for row, name in enumerate(speech.files) if name == file]
        parts = [(float(speech.start[row]), float(speech.end[row])) for row in rows]
        vectors += map(embedding, Recording(folder / file, SpectrogramConfig()).excerpts(parts))
    centred = (np.stack(vectors) - np.mean(vectors, axis=0)).astype(np.float32)
    recordings = Groups(speech.files).member
    found = cluster_voices(unit_length(centred), speech.start, speech.end, recordings, ClusterConfig())
    return join_pieces(speech, found)


def main() -> None:
    options = arguments(__doc__, draws=10)
    if options.data is None or not all((options.data / name).is_dir() for name in ("speechocean", "libri251")):
        print("left out: --data names no folder with speechocean and libri251 (make bench DATA=folder)")
        return
    print(machine())
    errors, counts, costs = [], [], []
    for seed in range(round(options.draws)):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            references = make(options.data, folder, seed)
            config = DiscoverConfig(model_dir=folder / "models", workers=1)
            before = processor_seconds()
            found = find_voices(folder, config, ClusterConfig())
            spent = processor_seconds() - before
            length = sum(reference[-1][1] for reference in references)
            costs.append(1000 * spent / length)
            errors.append(diarization_error(found.turns, references))
            counts.append(len(found.names))
            beside = beside_it(other_turns(folder, config), references) if has_resemblyzer() else ""
            print(f"draw {seed}: {counts[-1]} of {VOICES} voices, error {errors[-1]:.1%}{beside}", flush=True)
    within = sum(abs(count - VOICES) <= 1 for count in counts)
    print(f"number within one in {within} of {len(counts)} draws   bar 8 of 10")
    print(f"diarization error {statistics.mean(errors):.1%} on average, {max(errors):.1%} at most   bar 12 %")
    print(f"{statistics.median(costs):.1f} ms of a core for a second of sound   bar 4")


def processor_seconds() -> float:
    """Seconds of this process and of the worker processes that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def beside_it(turns: Sequence[Turn], references: Sequence[Reference]) -> str:
    voices = len({turn.voice for turn in turns})
    return f"; Resemblyzer's embeddings: {voices} voices, {diarization_error(turns, references):.1%}"


if __name__ == "__main__":
    main()
