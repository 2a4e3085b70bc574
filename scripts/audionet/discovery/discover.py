"""Discovery of voices in recordings without labels."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

from audionet.audio.config import SpectrogramConfig
from audionet.audio.recording import Recording
from audionet.discovery.clustering import ClusterConfig, cluster_voices
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.turns import Turn, by_file, join_pieces, surest_first, voice_name
from audionet.errors import DatasetError, RecordingError, UsageError
from audionet.inference.embeddings import embed_files, find_clips
from audionet.inference.model import Model, load_model
from audionet.metrics.accuracy import Groups
from audionet.utils.text import escape, pluralise

_NAMING_TURNS = 5  # of a voice, by which a model names it


@dataclass(frozen=True)
class Discovered:
    """Voices found in recordings.

    Attributes
    ----------
    folder : Path
        Folder of the recordings.
    turns : list of Turn
        By recording and time.
    names : list of str
        Name of each voice; several may have one name, by which a model knows them.
    """

    folder: Path
    turns: list[Turn]
    names: list[str]


def find_voices(folder: Path, config: DiscoverConfig, clustering: ClusterConfig) -> Discovered:
    """Find the voices in a folder of recordings: who speaks when, the same voice with one name in all of them.

    Raises
    ------
    DatasetError
        If there is no speech in any recording.
    UsageError, BackboneError, ModelError
        If there is no such folder, no recording in it, no such model, or no voice space.
    """
    if not folder.is_dir():
        raise UsageError(f"{escape(folder)} is not a folder: name a folder of recordings")
    model = None if config.graph is None else load_model(config.graph)
    pieces = embed_files(list(find_clips([folder])), config.embedding, "piece")
    if not pieces.is_speech.any():
        raise DatasetError(f"{escape(folder)}: no speech was found in {pluralise(len(set(pieces.files)), 'recording')}")
    speech = pieces.where(pieces.is_speech)
    recordings = Groups(speech.files).member
    voices = cluster_voices(speech.vectors, speech.start, speech.end, recordings, clustering)
    turns = join_pieces(speech, voices)
    names = [voice_name(voice) for voice in range(int(voices.labels.max()) + 1)]
    return Discovered(folder, turns, names if model is None else _named_by(model, folder, turns, names))


def _named_by(model: Model, folder: Path, turns: list[Turn], names: list[str]) -> list[str]:
    """Name the voices of which a model knows most turns, of those that are surest."""
    config = SpectrogramConfig()
    answers: list[list[str | None]] = [[] for _ in names]
    chosen: list[Turn] = []
    for voice in range(len(names)):
        chosen += surest_first(turn for turn in turns if turn.voice == voice)[:_NAMING_TURNS]
    for file, of_file in by_file(sorted(chosen)).items():
        excerpts = Recording(folder / file, config).excerpts([(turn.start, turn.end) for turn in of_file])
        with contextlib.suppress(RecordingError):  # it has been reported
            for turn, samples in zip(of_file, excerpts, strict=False):
                answers[turn.voice].append(model.predict(samples, config.sample_rate).label)
    found = list(names)
    for voice, given in enumerate(answers):
        for label in {answer for answer in given if answer is not None}:
            if 2 * given.count(label) > len(given):
                found[voice] = label
    return found
