"""Are the answers what a user would want? Known and unknown voices, rare labels, pauses, conversations, timelines.

Bars: of what is right by label, 0.93 answered right, with one to ten recordings a label and all of them; at most 10 of
100 clips of two rare labels refused; with one, two and four recordings a speaker, as good as the better of bottleneck
and nearest centroid, within a point; area under the curve of unknown voices 0.98; with noise or silence around them
46 of 48 clips right; timelines right for 97 % of the time; diarization error of a conversation at most 8 %.

Needs --data with fsdd, libri251, speechocean and esc10; the error rate of the conversation needs pyannote.metrics.
"""

from __future__ import annotations

import argparse
import importlib.util
import itertools
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from measuring import SAMPLE_AUDIO, machine
from numpy.typing import NDArray

import audionet
from audionet.audio.decoding import open_sound
from audionet.audio.resampling import resampled
from audionet.inference.clip import Clip, process_images
from audionet.inference.model import Model
from audionet.inference.segmentation import Segment
from audionet.training.results import Trained

RATE = 16_000
Sound = NDArray[np.float32]
Labelled = Sequence[tuple[str, Path]]

KEPT_READERS = 51
READER_SECONDS = 10.0


def samples(path: Path) -> Sound:
    with open_sound(path) as sound:
        return np.concatenate(list(resampled(sound, RATE)))


class Bench:
    """A folder for models, with one bottleneck cache for all of them."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.number = folder, data, 0

    def train(self, recordings: Labelled, **settings: Any) -> tuple[Model, Trained]:
        self.number += 1
        place = self.folder / str(self.number)
        for number, (label, path) in enumerate(recordings):
            (place / "audio" / label).mkdir(parents=True, exist_ok=True)
            (place / "audio" / label / f"{number:04d}_{path.name}").symlink_to(path.resolve())
        audionet.render(place / "audio", place / "image", place / "wav")
        run = audionet.train(
            place / "image",
            bottleneck_dir=self.folder / "bottlenecks",
            model_dir=self.folder / "models",
            checkpoint_dir=place / "checkpoints",
            summaries_dir=place / "summaries",
            **settings,
        )
        model = audionet.load_model(run.save(place / "m.tflite"))
        for name in ("image", "wav", "audio"):
            shutil.rmtree(place / name)
        return model, run.trained

    def write(self, sound: Sound, name: str) -> Path:
        path = self.folder / "sounds" / f"{name}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, sound, RATE)
        return path


class Score:
    """Counts of answers: right by label, right, wrong and unknown as answered."""

    def __init__(self) -> None:
        self.by_label = self.right = self.unknown = self.total = 0

    def add(self, model: Model, path: Path, label: str) -> None:
        answer = model.predict(path)
        self.total += 1
        self.by_label += max(answer.probabilities, key=lambda name: answer.probabilities[name]) == label
        self.right += answer.label == label
        self.unknown += answer.label is None

    def __str__(self) -> str:
        share = self.right / max(1, self.by_label)
        return (
            f"by label {self.by_label} of {self.total}, answered right {self.right} ({share:.3f} of those), "
            f"unknown {self.unknown}"
        )


def score(model: Model, clips: Labelled) -> Score:
    found = Score()
    for label, path in clips:
        found.add(model, path, label)
    return found


def digits(data: Path) -> tuple[list[tuple[str, Path]], list[tuple[str, Path]]]:
    """Training and official test recordings of the six speakers."""
    every = [(path.stem.split("_")[1], path) for path in sorted((data / "fsdd" / "recordings").glob("*_*_*.wav"))]
    is_test = [int(path.stem.split("_")[2]) < 5 for _, path in every]
    return (
        [pair for pair, test in zip(every, is_test, strict=True) if not test],
        [pair for pair, test in zip(every, is_test, strict=True) if test],
    )


def drawn(recordings: Labelled, number: int, seed: int = 0) -> list[tuple[str, Path]]:
    """So many recordings of each label, drawn at random."""
    generator = np.random.default_rng(seed)
    by_label: dict[str, list[tuple[str, Path]]] = {}
    for pair in recordings:
        by_label.setdefault(pair[0], []).append(pair)
    return [of[i] for of in by_label.values() for i in generator.permutation(len(of))[:number]]


def few_and_all(bench: Bench) -> None:
    training, test = digits(bench.data)
    for number in (1, 2, 3, 4, 6, 8, 10, 450):
        model, _ = bench.train(drawn(training, number))
        print(f"digits' speakers, {number:3d} recordings a label: {score(model, test)}")


def readers(bench: Bench) -> dict[str, Sound]:
    """Sounds of the kept readers, the last in order of their paths."""
    paths = sorted((bench.data / "libri251").glob("*.flac"))[-KEPT_READERS:]
    return {path.name.split("-")[0]: samples(path) for path in paths}


def kept_readers(bench: Bench) -> None:
    sounds = readers(bench)
    training, test = [], []
    for name, sound in sounds.items():
        training.append((name, bench.write(sound[: int(0.6 * len(sound))], f"{name}_first")))
        test.append((name, bench.write(sound[int(0.7 * len(sound)) :], f"{name}_last")))
    model, _ = bench.train(training)
    print(f"51 readers, the last 30 % of a file asked: {score(model, test)}")


def imbalance(bench: Bench) -> None:
    training, test = digits(bench.data)
    names = sorted({label for label, _ in training})[:3]
    numbers = dict(zip(names, (400, 10, 10), strict=True))
    chosen = [pair for name in names for pair in drawn([p for p in training if p[0] == name], numbers[name])]
    model, _ = bench.train(chosen)
    rare = score(model, [pair for pair in test if pair[0] in names[1:]])
    print(f"400, 10 and 10 recordings, clips of the two rare labels: {rare} (bar: unknown at most 10 of 100)")


def few_speakers(bench: Bench, draws: int) -> None:
    folders = sorted(path for path in (bench.data / "speechocean").iterdir() if path.is_dir())[-25:]
    recordings = [(folder.name, path) for folder in folders for path in sorted(folder.iterdir())]
    for number in (1, 2, 4):
        shares = []
        for seed in range(draws):
            training = drawn(recordings, number, seed)
            model, trained = bench.train(training)
            asked = [pair for pair in drawn(recordings, 20, seed) if pair not in set(training)][::2]
            shares.append(_by_each(model, trained, asked))
        bottleneck, centroid, joined, answered = np.mean(shares, axis=0)
        print(
            f"25 speakers, {number} recordings each: right by label {joined:.1%} "
            f"(bottleneck alone {bottleneck:.1%}, nearest centroid {centroid:.1%}), answered right {answered:.1%}"
        )


def _by_each(model: Model, trained: Trained, clips: Labelled) -> tuple[float, float, float, float]:
    """Share of clips that are right by the bottleneck's head, by the nearest centroid, joined, and as answered."""
    right = np.zeros(4)
    predictor = model.predictor
    voices = trained.backbone.voice_space
    assert voices is not None
    dimensions = len(voices.offset)
    centroids = predictor.arrays.voices.centroids[:, -dimensions:]
    has_voices = predictor.labels_are_voices
    for label, path in clips:
        outputs, _, _ = process_images(
            Clip(path, predictor.spectrogram), lambda chunk, jpg: (chunk, predictor.predict_image(jpg))
        )
        answer = predictor.combine_chunks([predictor.chunk_answer(*one) for one in outputs], [], 1.0, None)
        head = np.mean([one.probabilities for _, one in outputs], axis=0)
        directions = np.mean([one.embedding[-dimensions:] for _, one in outputs], axis=0)
        number = predictor.labels.index(label)
        right[0] += head.argmax() == number
        right[1] += has_voices and (centroids @ directions).argmax() == number
        right[2] += answer.probabilities.argmax() == number
        right[3] += answer.decision.label == label
    return tuple(right / len(clips))


def pairs(bench: Bench) -> None:
    training, test = digits(bench.data)
    names = sorted({label for label, _ in training})
    areas, answered, refused = [], [], []
    for unknown in itertools.combinations(names, 2):
        model, _ = bench.train([pair for pair in training if pair[0] not in unknown])
        found = [(label, model.predict(path)) for label, path in test]
        known = np.array([label not in unknown for label, _ in found])
        scores = np.array([answer.score for _, answer in found])
        is_unknown = np.array([answer.is_unknown for _, answer in found])
        order = np.searchsorted(np.sort(scores[~known]), scores[known])
        areas.append(order.mean() / (~known).sum())
        answered.append(1 - is_unknown[known].mean())
        refused.append(is_unknown[~known].mean())
    print(
        f"digits, 15 pairs left out: area {np.mean(areas):.3f} ({min(areas):.3f} to {max(areas):.3f}; bar 0.98), known "
        f"answered {np.mean(answered):.1%} ({min(answered):.1%}; bar 95 %), unknown refused {np.mean(refused):.1%}"
    )


def demo(bench: Bench) -> tuple[Model, dict[str, Sound]]:
    """Model of the bundled voices, and what was kept of them."""
    voices = sorted(path for path in SAMPLE_AUDIO.iterdir() if path.is_dir())
    training = [(voice.name, path) for voice in voices for path in sorted(voice.glob("*.mp3")) if path.stem != "unseen"]
    model, _ = bench.train(training)
    return model, {voice.name: samples(voice / "unseen.mp3") for voice in voices}


def noise_and_silence(bench: Bench, model: Model, unseen: dict[str, Sound]) -> None:
    generator = np.random.default_rng(0)
    pieces = [
        (label, sound[start : start + 4 * RATE])
        for label, sound in unseen.items()
        for start in np.linspace(0, len(sound) - 4 * RATE, 6).astype(int)
    ]
    conditions = {"alone": None, "noise before": "noise", "noise after": "noise", "silence after": "silence"}
    for condition, kind in conditions.items():
        clips = []
        for number, (label, piece) in enumerate(pieces):
            power = float(np.sqrt(np.mean(piece**2))) * 1e-3 if kind == "noise" else 0.0
            around = power * generator.standard_normal(10 * RATE).astype(np.float32)
            parts = [piece] if kind is None else [around, piece] if condition.endswith("before") else [piece, around]
            clips.append((label, bench.write(np.concatenate(parts), f"piece_{number}")))
        found = score(model, clips)
        print(f"48 clips of 4 s, {condition}: {found}")


def time_right(segments: Iterable[Segment], spans: Sequence[tuple[float, float, str | None]]) -> float:
    """Share of the spans' time in which the timeline names their speaker."""
    found = list(segments)
    right = sum(
        max(0.0, min(one.end, end) - max(one.start, start))
        for start, end, label in spans
        for one in found
        if one.label == label
    )
    return right / sum(end - start for start, end, _ in spans)


def ordered_pairs(bench: Bench, model: Model, unseen: dict[str, Sound]) -> None:
    shares, both, several = [], 0, 0
    for one, other in itertools.permutations(unseen, 2):
        first, second = unseen[one][: 12 * RATE], unseen[other][: 12 * RATE]
        path = bench.write(np.concatenate([first, second]), "pair")
        segments = model.diarize(path)
        shares.append(time_right(segments, [(0, 12, one), (12, 24, other)]))
        both += {one, other} <= {segment.label for segment in segments}
        several += {voice.label for voice in model.predict(path).voices} == {one, other}
    print(
        f"56 ordered pairs of voices: timeline right {np.mean(shares):.1%} of the time (bar 97 %), both found in "
        f"{both} of 56; both named in the answer for the clip, and no other, in {several} of 56"
    )


def sounds_over_silence(bench: Bench) -> None:
    every = [(path.parent.name, path) for path in sorted((bench.data / "esc10").glob("*/*")) if path.is_file()]
    training = [(label, path) for label, path in every if not path.name.startswith("5")]
    test = [(label, path) for label, path in every if path.name.startswith("5")]
    model, trained = bench.train(training)
    off, _ = bench.train(training, speech="off")
    print(f"sounds (labels spoken: {trained.data.speech}): {score(model, test)}; with --speech off: {score(off, test)}")
    shares, named = [], []
    whole = [pair for pair in test if model.predict(pair[1]).remark is None]
    for _, path in whole[::2]:
        sound = samples(path)[: 5 * RATE]
        quiet = 1e-4 * np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32)
        place = bench.write(np.concatenate([quiet, sound, quiet]), "sound")
        alone = model.predict(path).label
        found = max(model.diarize(place), key=lambda one: one.end - one.start, default=None)
        shares.append(found is not None and found.label == alone)
        named.append(model.predict(place).label == alone)
    print(
        f"sounds over silence: the timeline's longest segment is as the clip alone in {sum(shares)} of {len(shares)}, "
        f"the answer in {sum(named)}"
    )


def conversation(bench: Bench) -> None:
    """Turns of four known and two unknown readers for eight minutes."""
    sounds = {name: sound for name, sound in readers(bench).items() if len(sound) > READER_SECONDS * RATE}
    names = list(sounds)
    training = [(name, bench.write(sounds[name][: int(0.5 * len(sounds[name]))], f"{name}_half")) for name in names[:4]]
    model, _ = bench.train(training)
    generator, turns, parts, at, last = np.random.default_rng(1), [], [], 0.0, None
    pools = {name: sounds[name][int(0.5 * len(sounds[name])) :] for name in names[:6]}
    while at < 480:
        name = str(generator.choice([name for name in names[:6] if name != last]))
        pool, length = pools[name], int(generator.uniform(2, 8) * RATE)
        start = int(generator.integers(max(1, len(pool) - length)))
        parts.append(pool[start : start + length])
        end = at + len(parts[-1]) / RATE
        turns.append((at, end, name if name in names[:4] else None))
        at, last = end, name
    path = bench.write(np.concatenate(parts), "conversation")
    ours = [(one.start, one.end, one.label) for one in model.diarize(path)]
    print(f"conversation of {at:.0f} s, 4 known and 2 unknown: {error_rates(turns, ours)} (bar: 8 %)")
    if importlib.util.find_spec("resemblyzer") is not None:
        theirs = _by_resemblyzer(training, np.concatenate(parts))
        print(f"  Resemblyzer's nearest centroid, second by second: {error_rates(turns, theirs)}")


def error_rates(
    turns: Sequence[tuple[float, float, str | None]], found: Sequence[tuple[float, float, str | None]]
) -> str:
    if importlib.util.find_spec("pyannote.metrics") is None:
        return "not measured: pyannote.metrics is not installed"
    from pyannote.core import Annotation
    from pyannote.core import Segment as Span
    from pyannote.metrics.identification import IdentificationErrorRate

    reference, hypothesis = Annotation(), Annotation()
    for annotation, spans in ((reference, turns), (hypothesis, found)):
        for start, end, label in spans:
            annotation[Span(start, end)] = "unknown" if label is None else label
    rate = IdentificationErrorRate(collar=0.5)(reference, hypothesis)  # pyannote's collar is a boundary's whole width
    edges = [end for _, end, _ in turns[:-1]]
    met = sum(any(abs(start - edge) <= 0.5 for start, _, _ in found) for edge in edges)
    return f"error rate {rate:.1%}, {met} of {len(edges)} boundaries within 0.5 s"


def _by_resemblyzer(training: Labelled, sound: Sound) -> list[tuple[float, float, str | None]]:
    from audionet.backbones.resemblyzer import voice_encoder

    encoder = voice_encoder()
    names = [label for label, _ in training]
    known = np.stack([encoder.embed_utterance(samples(path)) for _, path in training])
    found: list[tuple[float, float, str | None]] = []
    for second in range(len(sound) // RATE):
        window = sound[max(0, second - 1) * RATE : (second + 2) * RATE]
        similarities = known @ encoder.embed_utterance(window)
        label = names[int(similarities.argmax())] if similarities.max() >= 0.7 else None
        found.append((float(second), second + 1.0, label))
    return found


PARTS = ("few", "readers", "imbalance", "speakers", "pairs", "demo", "sounds", "conversation")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder with public recordings")
    parser.add_argument("--draws", type=int, default=10, help="draws of a few recordings")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    if options.data is None:
        print("left out: --data names no folder with recordings (make bench DATA=folder)")
        return
    print(machine())
    with tempfile.TemporaryDirectory() as name:
        bench = Bench(Path(name), options.data)
        parts = {
            "few": few_and_all,
            "readers": kept_readers,
            "imbalance": imbalance,
            "pairs": pairs,
            "sounds": sounds_over_silence,
            "conversation": conversation,
        }
        for part in options.only:
            if part == "demo":
                model, unseen = demo(bench)
                noise_and_silence(bench, model, unseen)
                ordered_pairs(bench, model, unseen)
            elif part == "speakers":
                few_speakers(bench, options.draws)
            else:
                parts[part](bench)


if __name__ == "__main__":
    main()
