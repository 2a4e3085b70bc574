"""Contestants of the benchmark: the commands that train them and that label clips."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmark_protocol import Trial
from host import ROOT

# One thread of BLAS and PyTorch, as AudioNet sets itself: on cores that others use too, two may take ten times as long.
_OF_PEERS = {
    "PYTHONPATH": str(Path(__file__).resolve().parent),
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}

Command = list[str]


@dataclass(frozen=True)
class Job:
    """One training of one contestant.

    Attributes
    ----------
    trial : Trial
    folder : Path
        Folder of its own. What labelling needs goes into `model`, the clips to label lie in a folder each.
    python : str
        Interpreter of a peer.
    """

    trial: Trial
    folder: Path
    python: str = sys.executable

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.folder / "model"


@dataclass(frozen=True)
class Contestant:
    """A way from recordings to labels.

    Attributes
    ----------
    title : str
    train : callable
        Returns the commands of a training, which run one after the other.
    label : callable
        Returns the command that prints the answer for each clip in a folder, as ``label_image.py --json`` does.
    environment : mapping of str to str
    """

    title: str
    train: Callable[[Job], list[Command]]
    label: Callable[[Job, Path], Command]
    environment: Mapping[str, str] = field(default_factory=dict)


def _ours(title: str, *flags: str, before: Callable[[Job], list[Command]] = lambda job: []) -> Contestant:
    def train(job: Job) -> list[Command]:
        grouped = link_training(job.trial, job.folder / "audio")
        group = ["--group", "parent"] if grouped else []
        own = [flag.format(folder=job.folder) for flag in flags]
        return [
            *before(job),
            _script("data_maker.py", *_folders(job, "audio", "wav", "image")),
            _script(
                "retrain.py",
                *_folders(job, "image", "bottleneck", "model", "checkpoint"),
                f"--summaries_dir={job.folder / 'summaries'}",
                f"--output_graph={job.model / 'graph.tflite'}",
                f"--output_labels={job.model / 'labels.txt'}",
                *group,
                *own,
            ),
        ]

    def label(job: Job, clips: Path) -> Command:
        return _script(
            "label_image.py", "--json", "--top_k", "0", "--graph", str(job.model / "graph.tflite"), str(clips)
        )

    return Contestant(title, train, label)


def _folders(job: Job, *names: str) -> list[str]:
    """Return the flags of folders in the job's own, so that nothing is there before."""
    return [f"--{name}_dir={job.folder / ('backbones' if name == 'model' else name)}" for name in names]


def _script(name: str, *flags: str) -> Command:
    return [sys.executable, str(ROOT / "scripts" / name), *flags]


def link_training(trial: Trial, folder: Path) -> bool:
    """Link the training recordings as a user would lay them out: a folder for each label, and in it one for each group.

    Returns
    -------
    bool
        Whether there are groups of several recordings; without, they lie in their label's folder.
    """
    groups = {name: place for place, name in enumerate(dict.fromkeys(r.group for r in trial.training))}
    grouped = len(groups) < len(trial.training)
    for place, recording in enumerate(trial.training):
        inside = folder / recording.label / (f"{groups[recording.group]:05d}" if grouped else "")
        inside.mkdir(parents=True, exist_ok=True)
        (inside / f"{place:05d}{recording.path.suffix}").symlink_to(recording.path.resolve())
    return grouped


def peer(title: str, name: str) -> Contestant:
    """Return the contestant of a module in `peers`."""

    def train(job: Job) -> list[Command]:
        listed = job.folder / "recordings.json"
        listed.write_text(json.dumps([[str(r.path.resolve()), r.label] for r in job.trial.training]), "utf-8")
        return [[job.python, "-m", "peers.run", "train", name, str(listed), str(job.model / "model.pickle")]]

    def label(job: Job, clips: Path) -> Command:
        return [job.python, "-m", "peers.run", "label", str(job.model / "model.pickle"), str(clips)]

    return Contestant(title, train, label, _OF_PEERS)


_RECIPE = ("--testing_percentage=10", "--validation_percentage=10", "--statistics=none")
_STEPS = (*_RECIPE, "--how_many_training_steps=500", "--learning_rate=0.01")

CONTESTANTS: Mapping[str, Contestant] = {
    "default": _ours("AudioNet"),
    "endpoint_auto": _ours("AudioNet, `--endpoint auto`", "--endpoint=auto"),
    "fine_tuned": _ours(
        "AudioNet, `--fine_tune 2`, 100 steps", "--fine_tune=2", "--clip_norm=1", "--fine_tune_steps=100"
    ),
    "simple_cnn": _ours("AudioNet, `simple_cnn`", "--architecture=simple_cnn"),
    "recipe_2018": _ours("recipe of 2018 (ImageNet Inception-v3, 500 steps)", "--architecture=inception_v3", *_STEPS),
    "recipe_untrained": _ours(
        "recipe of 2018 on random weights",
        "--architecture={folder}/inception",
        *_STEPS,
        before=lambda job: [
            [
                sys.executable,
                str(ROOT / "tests" / "benchmarks" / "peers" / "untrained_inception.py"),
                str(job.folder / "inception"),
            ]
        ],
    ),
    "mfcc_gmm": peer("MFCC + Gaussian mixtures", "mfcc_gmm"),
    "mfcc_svm": peer("MFCC statistics + SVM", "mfcc_svm"),
    "resemblyzer_logistic": peer("Resemblyzer + logistic", "resemblyzer_logistic"),
    "imagenet_logistic": peer("ImageNet EfficientNet-Lite0 + logistic", "imagenet_logistic"),
    "keras_speaker_cnn": peer("Keras example's speaker CNN", "keras_speaker_cnn"),
}
"""Contestants by name, in the order of the table."""
