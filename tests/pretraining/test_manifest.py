"""Training manifests: parsing, labels, held-out recordings and errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from audionet.errors import DatasetError
from audionet.pretraining.manifest import find_utterances, read_manifest
from tests.support.sounds import ROOT

SPEAKERS = {
    "name": "readers",
    "folder": "readers",
    "task": "speaker",
    "label": r"^(?P<label>\d+)-",
    "licence": "CC BY 4.0",
    "url": "https://example.org",
    "leave_out_last": 2,
}
WORDS = SPEAKERS | {"name": "words", "folder": "words", "task": "word", "label": "^(?P<label>[^/]+)/"}
del WORDS["leave_out_last"]


def write_manifest(folder: Path, *datasets: Any) -> Path:
    path = folder / "manifest.json"
    path.write_text(json.dumps({"datasets": list(datasets)}))
    return path


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    names = [f"readers/{speaker}-{utterance}.flac" for speaker in range(1, 9) for utterance in range(5)]
    names += [f"words/{word}/{number}.mp3" for word in ("alexa", "computer") for number in range(40)]
    for name in [*names, "readers/README.md", "readers/unnumbered.flac"]:
        path = tmp_path / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path / "data"


def test_labels_come_from_paths_and_the_last_recordings_are_reserved(data_dir: Path, tmp_path: Path) -> None:
    corpus = find_utterances(read_manifest(write_manifest(tmp_path, SPEAKERS, WORDS)), data_dir)
    assert corpus.labels == {"speaker": [f"readers/{n}" for n in range(1, 9)], "word": ["alexa", "computer"]}
    utterances = corpus.training + corpus.held_out
    names = {utterance.path.relative_to(data_dir).as_posix() for utterance in utterances}
    # "unnumbered" is the last in order of paths: it is one of the reserved two, and has no label.
    assert {"readers/8-4.flac", "readers/unnumbered.flac", "readers/README.md"}.isdisjoint(names)
    assert "readers/8-3.flac" in names
    assert len(utterances) == 39 + 80
    for utterance in utterances:
        task = corpus.datasets[utterance.dataset].task
        label = corpus.labels[task][utterance.label]
        assert label.rpartition("/")[2] in utterance.path.as_posix()


def test_a_dataset_without_labels_and_weights(data_dir: Path, tmp_path: Path) -> None:
    voices = {name: WORDS[name] for name in ("licence", "url")} | {"name": "v", "folder": "words", "weight": 0.5}
    datasets = read_manifest(write_manifest(tmp_path, SPEAKERS, voices | {"task": "unlabelled"}))
    assert [dataset.weight for dataset in datasets] == [1, 0.5]
    corpus = find_utterances(datasets, data_dir)
    assert corpus.labels.keys() == {"speaker"}
    unlabelled = [utterance for utterance in corpus.training + corpus.held_out if utterance.dataset == 1]
    assert len(unlabelled) == 80
    assert {utterance.label for utterance in unlabelled} == {0}


def test_a_single_recording_of_each_speaker_is_said(
    data_dir: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    single = SPEAKERS | {"label": r"(?P<label>\d+-\d+)", "leave_out_last": 0}
    with caplog.at_level("INFO"):
        find_utterances(read_manifest(write_manifest(tmp_path, single)), data_dir)
    assert "readers: one recording of each speaker, so no pairs of one voice come from it" in caplog.text


def test_held_out_recordings_do_not_depend_on_other_datasets(data_dir: Path, tmp_path: Path) -> None:
    alone = find_utterances(read_manifest(write_manifest(tmp_path, WORDS)), data_dir)
    beside = find_utterances(read_manifest(write_manifest(tmp_path, SPEAKERS, WORDS)), data_dir)
    words = [utterance.path for utterance in beside.held_out if beside.datasets[utterance.dataset].task == "word"]
    assert [utterance.path for utterance in alone.held_out] == words
    assert 0 < len(words) < 20


def test_a_missing_folder_and_a_task_of_one_label_are_logged_and_left_out(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = WORDS | {"label": "(?P<label>words|alexa)", "folder": "words/alexa", "name": "one word"}
    missing = WORDS | {"folder": "nowhere", "name": "not here"}
    one["label"] = r"(?P<label>\.mp3)"
    corpus = find_utterances(read_manifest(write_manifest(tmp_path, SPEAKERS, missing, one)), data_dir)
    assert list(corpus.labels) == ["speaker"]
    assert [dataset.name for dataset in corpus.datasets] == ["readers"]
    logged = capsys.readouterr().err
    assert "nowhere has no recordings of 'not here'" in logged
    assert "the task 'word' has only 1 label; left out" in logged


def test_a_corpus_without_recordings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"has no recordings that the manifest lists: set data_dir"):
        find_utterances(read_manifest(write_manifest(tmp_path, WORDS)), tmp_path / "empty")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (7, "is not a dataset"),
        (WORDS | {"licence": ""}, "'licence' is missing"),
        (WORDS | {"task": "mood"}, "'mood' must be one of speaker, word, sound, unlabelled"),
        (WORDS | {"label": "("}, "is not a regular expression"),
        (WORDS | {"label": "x"}, "has no group"),
        (WORDS | {"leave_out_last": -1}, "leave_out_last is -1"),
        (WORDS | {"pitches": 1.2}, r"pitches is 1\.2: it must be a list"),
        (WORDS | {"pitches": [0.9, 1]}, "pitches is .*other than 1"),
        (WORDS | {"pitches": [0.9, "high"]}, "pitches is .*high"),
        (WORDS | {"weight": 0}, "weight is 0: it must be above 0"),
        (WORDS | {"weight": "much"}, "weight is 'much'"),
    ],
)
def test_an_invalid_manifest_is_refused(tmp_path: Path, entry: Any, complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint) as error:
        read_manifest(write_manifest(tmp_path, entry))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"datasets": []}'])
def test_the_error_for_a_damaged_manifest_names_the_file(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        read_manifest(path)


def test_the_bundled_manifest_is_valid() -> None:
    datasets = read_manifest(ROOT / "tf_files" / "pretraining.json")
    assert {dataset.task for dataset in datasets} == {"speaker", "word", "sound", "unlabelled"}
    assert [dataset.leave_out_last for dataset in datasets] == [51, 500, 0, 0, 0]


def test_an_expression_without_end_is_stopped(tmp_path: Path) -> None:
    (tmp_path / "data" / "readers").mkdir(parents=True)
    name = "a" * 60 + ".wav"
    (tmp_path / "data" / "readers" / name).touch()
    entry = SPEAKERS | {"label": r"(?P<label>(a|aa)+)$", "leave_out_last": 0}
    datasets = read_manifest(write_manifest(tmp_path, entry))
    with pytest.raises(DatasetError, match=rf"'readers': label \(\?P.* in {name} takes for ever: simplify"):
        find_utterances(datasets, tmp_path / "data")
