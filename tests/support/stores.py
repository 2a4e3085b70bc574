"""Small stored files of every kind, how each is read, and how they get damaged."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from audionet.audio.config import SpectrogramConfig
from audionet.audio.network_input import BAND_STATISTICS_WIDTH, MFCC_STATISTICS_WIDTH
from audionet.augment.waveform import Recipe
from audionet.backbones.cache import Bottleneck, Cache
from audionet.backbones.conversion import Converted, read_converted, write_converted
from audionet.backbones.description import parse_description
from audionet.backbones.inception import set_weights
from audionet.backbones.voice_space import VoiceSpace, read_voice_space, write_voice_space
from audionet.classifier.enrolment import enrol, read_enrolled
from audionet.classifier.head import Head, Layer
from audionet.classifier.model_card import parse_card, parse_written
from audionet.classifier.model_files import ModelArrays, pack_arrays, parse_arrays
from audionet.classifier.out_of_fold import OutOfFoldAnswers, pack_out_of_fold, read_out_of_fold
from audionet.classifier.prototypes import SpeakerModels
from audionet.data.dataset import dataset_json, read_augmentation, read_spectrogram_config
from audionet.data.journal import Outcome, RecordingFile, _line, read_journal
from audionet.data.naming import DATASET_JSON
from audionet.data.render import _read_dataset_json
from audionet.errors import BackboneError, DamagedError, DatasetError, ModelError
from audionet.pretraining.manifest import read_manifest
from audionet.pretraining.sounds import _read_bounds
from audionet.pretraining.teachers import _read_cache
from audionet.training.checkpoint import Checkpoint, State
from audionet.training.train_loop import _parse_progress
from audionet.utils.array_files import Expected, pack_npy, pack_npz, read_npy, read_npz
from audionet.utils.files import read_json
from audionet.utils.json_files import parse_json


class Store(NamedTuple):
    """A stored file.

    Attributes
    ----------
    path : Path
    content : bytes
    read : callable
        Returns what the program reads from the file as it is now; None where it is passed over.
    errors : tuple of type
        The one error that reading may end in; none where damaged content is passed over.
    checked : bool
        Whether the file has checksums, so that damage cannot give other content.
    """

    path: Path
    content: bytes
    read: Callable[[], Any]
    errors: tuple[type[Exception], ...]
    checked: bool


def model_card(**changes: Any) -> dict[str, Any]:
    """Build the JSON of a model of two labels."""
    return {
        "format": 4,
        "graph_sha256": "0" * 64,
        "arrays_sha256": "1" * 64,
        "exports": {"x.pb": {"sha256": "2" * 64, "difference": 0.001}},
        "labels": ["ann", "ben"],
        "picture": None,
        "backbone": {"name": "small", "statistics": "mfcc"},
        "split": {"training": {"chunks": 9, "recordings": 3}, "heard_in_training": ["ann"]},
        "training": {"validation_percentage": 10.0, "testing_percentage": 10, "head": "linear"},
        "cross_validation": {"sha256": "3" * 64},
        "test": {"leaky_split": {"right": 3, "total": 4, "low": 0.3, "high": 0.9}},
        "calibration": {"temperature": 1.5, "head_weight": 0.3, "score_weight": 6.0, "recordings": 9},
        "speech": True,
        "open_set": {
            "rejection": {"several": 0.4, "single": 0.3, "window": 0.5, "slope": 9.0},
            "asked_rate": 0.05,
            "spares_known": True,
            "stretches_left_out": 7,
            "stretches_needed": None,
            "network_had_heard_those_left_out": False,
        },
        "decision": {"costs": [{"true": "ann", "predicted": "ben", "cost": 3}], "caution": 1},
    } | changes


def model_arrays() -> ModelArrays:
    """Build the arrays of a model of two labels."""
    unit = np.eye(3, dtype=np.float32)
    ones, scores = np.ones(2, np.float32), np.float32([0.1, 0.2])
    counts = np.array([2, 1], np.int64)
    voices = SpeakerModels(unit[:2], unit, counts, ones, unit[:1], np.float32([[1]]), 0.5, 0 * ones, ones)
    width = MFCC_STATISTICS_WIDTH
    last = Layer(np.ones((width, 2), np.float32), ones)
    head = Head(np.zeros(width, np.float32), np.ones(width, np.float32), None, False, last)
    return ModelArrays(voices, scores, scores, scores, np.arange(3, dtype=np.uint64), head)


class _Network:
    """Weights of a network without a framework."""

    def __init__(self) -> None:
        self.weights = [np.zeros((2, 3), np.float32), np.zeros(3, np.float32)]

    def set_weights(self, weights: list[np.ndarray]) -> None:
        self.weights = weights


def stores(folder: Path) -> dict[str, Store]:
    """Write one store of every kind into a folder."""
    found: dict[str, Store] = {}

    def add(
        name: str,
        path: Path,
        read: Callable[[bytes], Any],
        content: bytes | None = None,
        errors: tuple[type[Exception], ...] = (),
        checked: bool = False,
    ) -> None:
        if content is not None:
            path.write_bytes(content)
        found[name] = Store(path, path.read_bytes(), lambda: read(path.read_bytes()), errors, checked)

    def sha256(content: bytes) -> str:
        return hashlib.sha256(content).hexdigest()

    vector = np.arange(4, dtype=np.float32)
    expected = Expected(np.float32, ("n",))
    add("npy", folder / "a.npy", lambda data: read_npy(data, expected), pack_npy(vector), (DamagedError,))
    packed, schema = pack_npz({"a": vector}), {"a": expected}
    add("npz", folder / "a.npz", lambda data: read_npz(data, schema), packed, (DamagedError,), True)

    cache = Cache(folder / "cache", 3)
    statistics = np.ones(BAND_STATISTICS_WIDTH, np.float32), np.ones(MFCC_STATISTICS_WIDTH, np.float32)
    cache.add([(bytes([number] * 16), Bottleneck((1, 2), vector[:3], *statistics, 0.5)) for number in (1, 2)])
    (part,) = (folder / "cache").glob("part-*.npy")
    keys = np.frombuffer(bytes([2] * 16), "V16")

    def read_cache(_: bytes) -> Any:
        cache = Cache(folder / "cache", 3)
        if cache.missing(keys)[0]:
            return None
        return [cache.records(keys).take(field) for field in cache.dtype.names]

    add("bottlenecks", part, read_cache, checked=True)

    checkpoint = Checkpoint(folder / "checkpoints", "head", 1)
    progress = {"score": [0.5, -1.5], "best_step": 1, "looks_since_best": 0, "factor": 1.0}
    points = [["training", 1, 0.5, 0.5], ["validation", 1, float("inf"), 0.5]]
    checkpoint.save(State(2, [vector, vector], [vector], progress | {"points": points}))
    like = [((4,), "float32")] * 2
    read_state = lambda _: checkpoint.load(like, 1, lambda state: _parse_progress(5, state))  # noqa: E731
    add("checkpoint", checkpoint.path, read_state, checked=True)

    def read_model_json(data: bytes) -> Any:
        card = parse_json(data)
        parse_written(card)
        return parse_card(card)

    text = json.dumps(model_card()).encode()
    add("model JSON", folder / "x_model.json", read_model_json, text, (DamagedError, ModelError))
    add("model arrays", folder / "x_model.npz", parse_arrays, pack_arrays(model_arrays()), (DamagedError,), True)

    both = np.full((3, 2), 0.5, np.float32)
    fold = np.zeros(3, np.int64)
    answers = OutOfFoldAnswers(np.arange(3, dtype=np.uint64), vector[:3], fold, both, both, None)
    path = folder / "x_out_of_fold.npz"
    read_answers = lambda data: read_out_of_fold(folder / "x_out_of_fold.npz", sha256(data), 2)  # noqa: E731
    add("out-of-fold answers", path, read_answers, pack_out_of_fold(answers), (ModelError,), True)

    space = VoiceSpace(np.ones((4, 2), np.float32), vector[:2], np.ones((3, 2), np.float32), vector, 0.5)
    write_voice_space(folder / "voices.npz", space)
    read_space = lambda data: read_voice_space(folder / "voices.npz", sha256(data))  # noqa: E731
    add("voice space", folder / "voices.npz", read_space, None, (BackboneError,), True)

    def read_network(data: bytes) -> Any:
        network = _Network()
        set_weights(network, data)
        return network.weights

    weights = pack_npz({"w000": np.ones((2, 3), np.float16), "w001": vector[:3]}, compressed=True)
    add("weights", folder / "w.npz", read_network, weights, (DamagedError,), True)

    teacher = pack_npy(np.ones((1, 2, 3), np.float16))
    add("teacher embeddings", folder / "t.npy", lambda _: _read_cache(folder / "t.npy", (1, 2, 3)), teacher)
    (folder / "s.int16").write_bytes(bytes(40))
    bounds = pack_npy(np.array([[0, 5], [5, 20]], np.int64))
    add("bounds of sounds", folder / "s.npy", lambda _: _read_bounds(folder / "s.int16", folder / "s.npy", 2), bounds)

    enrol(folder / "x_enrolled.json", "hash", "ann", np.eye(2, 3, dtype=np.float32), 9.0)
    read_voices = lambda _: read_enrolled(folder / "x_enrolled.json", "hash", 3)  # noqa: E731
    add("enrolled speakers", folder / "x_enrolled.json", read_voices, None, (ModelError,))

    outcome = Outcome(3.5, 4, [1, 2], "a note", "digest")
    lines = "".join(_line(RecordingFile(name, 9, 10), "settings", outcome) for name in ("a.wav", "b.wav")).encode()
    add("journal", folder / ".recordings.jsonl", lambda _: read_journal(folder / ".recordings.jsonl"), lines)

    described = dataset_json(SpectrogramConfig(), {"ann": {}}, Recipe(("gain",), (), 1).described(), complete=True)

    def read_dataset(_: bytes) -> Any:
        return _read_dataset_json(folder), read_augmentation(folder), read_spectrogram_config(folder)

    add("dataset JSON", folder / DATASET_JSON, read_dataset, json.dumps(described).encode(), (DatasetError,))

    write_converted(folder / "c.tflite", Converted(b"network", "int8", 0.99))
    add("card of a conversion", folder / "c.json", lambda _: read_converted(folder / "c.tflite"))

    card = {
        "name": "small",
        "weights": "w.npz",
        "sha256": "0",
        "input_size": [64, 48],
        "statistics": None,
        "endpoint": "mixed4",
        "pooling": "time",
        "embedding": 0,
        "voice_space": {"file": "voices.npz", "sha256": "1"},
    }
    description = json.dumps(card).encode()
    parse = lambda data: parse_description(parse_json(data), folder)  # noqa: E731
    add("description of a backbone", folder / "backbone.json", parse, description, (DamagedError,))

    dataset = {name: name for name in ("name", "folder", "licence", "url")}
    dataset |= {"task": "word", "label": "(?P<label>a)", "pitches": [0.8], "leave_out_last": 2}
    manifest = json.dumps({"datasets": [dataset]}).encode()
    add("manifest", folder / "m.json", lambda _: read_manifest(folder / "m.json"), manifest, (DatasetError,))
    read_any = lambda _: read_json(folder / "report.json", DatasetError, "")  # noqa: E731
    add("JSON", folder / "report.json", read_any, b'{"a": [1, 2.5, {"b": null}]}', (DatasetError,))
    return found


KINDS = (
    *("npy", "npz", "bottlenecks", "checkpoint", "model JSON", "model arrays", "out-of-fold answers", "voice space"),
    *(
        "weights",
        "teacher embeddings",
        "bounds of sounds",
        "enrolled speakers",
        "journal",
        "dataset JSON",
        "card of a conversion",
    ),
    *("description of a backbone", "manifest", "JSON"),
)


def flips(content: bytes, every: int = 1, start: int = 0) -> Iterator[bytes]:
    """Yield the content with each single bit flipped, or each of every so many."""
    for bit in range(start, 8 * len(content), every):
        damaged = bytearray(content)
        damaged[bit // 8] ^= 1 << bit % 8
        yield bytes(damaged)


_TOKENS = (
    b"1e999",
    b"-1",
    b"NaN",
    b"null",
    b'"x"',
    b"[]",
    b"{}",
    b"true",
    b"1" * 400,
    b"[" * 4000,
    b"\\ud800",
    b"9" * 19,
)


def damages(content: bytes, number: int, seed: int) -> Iterator[bytes]:
    """Yield the content cut, overwritten, extended, or with another value in the place of one of its values."""
    generator = random.Random(seed)
    for _ in range(number):
        start = generator.randrange(len(content))
        end = min(len(content), start + generator.randrange(1, 20))
        kind = generator.randrange(6)
        if kind == 0:
            yield content[:start]
        elif kind == 1:
            yield content[:start] + generator.randbytes(end - start) + content[end:]
        elif kind == 2:
            yield content[:start] + content[end:]
        elif kind == 3:
            yield content[:start] + generator.randbytes(end - start) + content[start:]
        elif kind == 4:
            yield generator.randbytes(end)
        else:
            starts = [i + 1 for i, byte in enumerate(content[:-1]) if byte in b": ,["]
            place = generator.choice(starts) if starts else 0
            ends = [i for i in range(place, len(content)) if content[i] in b",]}"]
            yield content[:place] + generator.choice(_TOKENS) + content[ends[0] if ends else place :]


def same(one: Any, other: Any) -> bool:
    """Return whether two results of reading are equal, arrays by their content."""
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other)
    if hasattr(one, "__dataclass_fields__"):
        return same(vars(one), vars(other))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)
