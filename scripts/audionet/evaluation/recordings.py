"""Recordings kept out of training: finding them, asking the model, and making sure that it never heard them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from audionet.config import EvaluateConfig
from audionet.data.dataset import UNKNOWN, Picture, find_pictures, split_pictures
from audionet.errors import DatasetError
from audionet.evaluation.batch_inference import Judged, Recorded, judged, recordings_below, recordings_of
from audionet.inference.predictor import Predictor
from audionet.utils.console import count, warn
from audionet.utils.files import printable

_MOST_NAMED = 10


@dataclass(frozen=True)
class Heard:
    """The held-out recordings that could be judged, and those that could not.

    Attributes
    ----------
    source : str
        Where they come from, for people.
    recordings : list of Judged
        Of labels that the model knows, by label and name.
    unknown : list of Judged
        Of none of the labels.
    skipped : list of (Recorded, str)
        With the reason.
    seen : int
        How many recordings were left out because training had heard them; if all had, none was left out.
    all_seen : bool
    missing_labels : list of str
        The model's labels without a recording.
    foreign_labels : list of str
        Folders that are no label of the model's; their recordings are unknown voices.
    """

    source: str
    recordings: list[Judged]
    unknown: list[Judged]
    skipped: list[tuple[Recorded, str]]
    seen: int
    all_seen: bool
    missing_labels: list[str]
    foreign_labels: list[str]


def held_out(predictor: Predictor, config: EvaluateConfig) -> tuple[str, list[Recorded]]:
    """The recordings to evaluate on, and where they come from: a folder of labels, or the test part of the split.

    Raises
    ------
    DatasetError
        If there are none.
    """
    if config.test_dir is not None:
        found = recordings_below(config.test_dir, _step_seconds(predictor))
        source = printable(config.test_dir)
        remedy = "give it one folder of recordings per label"
    else:
        found = part_of_split(predictor, config, "testing")
        source = f"the test part of {printable(config.image_dir)}"
        remedy = "train with --testing_percentage above 0, or name a folder of other recordings with --test_dir"
    if not found:
        raise DatasetError(f"{source} holds no recordings: {remedy}")
    return source, found


def part_of_split(predictor: Predictor, config: EvaluateConfig, name: str) -> list[Recorded]:
    """One set of the split that the model was trained with, from the pictures that it was made of."""
    training = predictor.card["training"]
    pictures: list[Picture] = find_pictures(config.image_dir)
    apart = predictor.picture.apart if predictor.picture else 2
    split = split_pictures(pictures, training["validation_percentage"], training["testing_percentage"], apart)
    return recordings_of(split.sets[name], _step_seconds(predictor))


def listen(predictor: Predictor, config: EvaluateConfig) -> Heard:
    """Ask the model about the held-out recordings. Those that it was trained on are left out.

    Raises
    ------
    DatasetError
        If none can be judged.
    """
    source, recordings = held_out(predictor, config)
    found, skipped = ask(predictor, config, recordings)
    if not found:
        raise DatasetError(f"{source}: none of {count(len(recordings), 'recording')} could be judged")
    unseen = [one for one in found if not one.seen]
    seen, all_seen = len(found) - len(unseen), not unseen
    if all_seen:
        warn("every one of these recordings took part in training: the numbers say what the model remembers")
    elif seen:
        warn(f"{count(seen, 'recording')} of {len(found)} took part in training or validation; left out")
    kept = found if all_seen else unseen
    known = set(predictor.labels)
    folders = {one.recorded.label for one in kept}
    foreign = sorted(folders - known - {UNKNOWN})
    if foreign:
        some = ", ".join(map(printable, foreign[:_MOST_NAMED])) + (", ..." if len(foreign) > _MOST_NAMED else "")
        warn(f"the model has no label {some}: counted as unknown voices")
    return Heard(
        source,
        [one for one in kept if one.recorded.label in known],
        [one for one in kept if one.recorded.label not in known],
        skipped,
        seen,
        all_seen,
        [label for label in predictor.labels if label not in folders],
        foreign,
    )


def ask(
    predictor: Predictor, config: EvaluateConfig, recordings: Sequence[Recorded]
) -> tuple[list[Judged], list[tuple[Recorded, str]]]:
    """What the model makes of recordings, by label and name, and those that could not be judged, which are said."""
    found: list[Judged] = []
    skipped: list[tuple[Recorded, str]] = []
    for result in judged(predictor.graph, recordings, config.workers):
        if isinstance(result, Judged):
            found.append(result)
        else:
            skipped.append(result)
    for recorded, reason in skipped:
        warn(f"{recorded.paths[0]}: {reason}; left out")
    for one in found:
        if one.remark:
            warn(f"{one.recorded.paths[0]}: {one.remark}; judged by what came before")
    found.sort(key=lambda one: (one.recorded.label, one.recorded.name))
    return found, skipped


def _step_seconds(predictor: Predictor) -> float:
    picture = predictor.picture
    return picture.step_length / picture.sample_rate if picture else 0.0
