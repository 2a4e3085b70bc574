"""Which recordings a backbone is made from."""

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


def written(folder: Path, *datasets: Any) -> Path:
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


def test_labels_come_from_names_and_the_last_are_kept_for_probing(data_dir: Path, tmp_path: Path) -> None:
    corpus = find_utterances(read_manifest(written(tmp_path, SPEAKERS, WORDS)), data_dir)
    assert corpus.labels == {"speaker": [f"readers/{n}" for n in range(1, 9)], "word": ["alexa", "computer"]}
    lessons = corpus.training + corpus.held_out
    names = {lesson.path.relative_to(data_dir).as_posix() for lesson in lessons}
    # In the order of names, which "unnumbered" ends; it counts, but has no label.
    assert {"readers/8-4.flac", "readers/unnumbered.flac", "readers/README.md"}.isdisjoint(names)
    assert "readers/8-3.flac" in names
    assert len(lessons) == 39 + 80
    for lesson in lessons:
        task = corpus.sources[lesson.source].task
        label = corpus.labels[task][lesson.label]
        assert label.rpartition("/")[2] in lesson.path.as_posix()


def test_what_is_held_out_stays_so_whatever_else_is_there(data_dir: Path, tmp_path: Path) -> None:
    alone = find_utterances(read_manifest(written(tmp_path, WORDS)), data_dir)
    beside = find_utterances(read_manifest(written(tmp_path, SPEAKERS, WORDS)), data_dir)
    words = [lesson.path for lesson in beside.held_out if beside.sources[lesson.source].task == "word"]
    assert [lesson.path for lesson in alone.held_out] == words
    assert 0 < len(words) < 20


def test_a_missing_folder_and_a_task_of_one_label_are_said_and_left_out(
    data_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = WORDS | {"label": "(?P<label>words|alexa)", "folder": "words/alexa", "name": "one word"}
    missing = WORDS | {"folder": "nowhere", "name": "not here"}
    one["label"] = r"(?P<label>\.mp3)"
    corpus = find_utterances(read_manifest(written(tmp_path, SPEAKERS, missing, one)), data_dir)
    assert list(corpus.labels) == ["speaker"]
    assert [source.name for source in corpus.sources] == ["readers"]
    said = capsys.readouterr().err
    assert "nowhere holds no recordings of 'not here'" in said
    assert "the task 'word' has 1 label: left out" in said


def test_nothing_to_learn_from_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds nothing that the manifest names: give data_dir"):
        find_utterances(read_manifest(written(tmp_path, WORDS)), tmp_path / "empty")


@pytest.mark.parametrize(
    ("entry", "complaint"),
    [
        (7, "is no dataset"),
        (WORDS | {"licence": ""}, "'licence' is missing"),
        (WORDS | {"task": "mood"}, "'mood' is none of speaker, word, sound"),
        (WORDS | {"label": "("}, "is no regular expression"),
        (WORDS | {"label": "x"}, "has no group"),
        (WORDS | {"leave_out_last": -1}, "leave_out_last is -1"),
        (WORDS | {"pitches": 1.2}, r"pitches is 1\.2: it must list"),
        (WORDS | {"pitches": [0.9, 1]}, "pitches is .*1 left out"),
        (WORDS | {"pitches": [0.9, "high"]}, "pitches is .*high"),
    ],
)
def test_a_manifest_that_says_something_else_is_refused(tmp_path: Path, entry: Any, complaint: str) -> None:
    with pytest.raises(DatasetError, match=complaint) as error:
        read_manifest(written(tmp_path, entry))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"datasets": []}'])
def test_a_damaged_manifest_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "manifest.json"
    path.write_text(content)
    with pytest.raises(DatasetError, match=r"manifest\.json"):
        read_manifest(path)


def test_the_manifest_that_comes_along_is_one() -> None:
    sources = read_manifest(ROOT / "tf_files" / "pretraining.json")
    assert {source.task for source in sources} == {"speaker", "word"}
    assert sources[0].leave_out_last == 51
