"""Datasets on disk in the Hugging Face hub's forms, read without the network."""

from __future__ import annotations

import csv
import io
import socket
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audionet.audio.config import SpectrogramConfig
from audionet.data.config import DataConfig
from audionet.data.hub_columns import choose_hub_columns, label_text
from audionet.data.hub_dataset import TABLE_NAME, write_recordings
from audionet.data.hub_sound import safe_name, sound_of
from audionet.data.hub_splits import HubName, open_splits, parse_hub_name
from audionet.data.render import Result, render_folder
from audionet.errors import DatasetError, UsageError
from tests.support.files import files_of
from tests.support.sounds import tone, write_tone

datasets = pytest.importorskip("datasets")
pq = pytest.importorskip("pyarrow.parquet")
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # files datasets leaves open

PARTS = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[Any]:
    """Refuse every connection and look-up of a name; at the end none was tried, not even in vain."""
    tried: list[Any] = []

    def refuse(*arguments: Any, **_: Any) -> Any:
        tried.append(arguments)
        raise OSError("no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    datasets.disable_progress_bars()
    yield tried
    assert not tried


def wav(frequency: float, seconds: float = 1.0) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, tone(frequency, seconds), 16_000, format="WAV")
    return buffer.getvalue()


def dataset(rows: list[dict[str, Any]], **features: Any) -> Any:
    """A dataset whose sounds are in its rows."""
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    types = datasets.Features({"audio": PARTS, **features})
    return datasets.Dataset.from_dict(columns, types).cast_column("audio", datasets.Audio(decode=False))


def sound(frequency: float, path: str | None = "x.wav") -> dict[str, Any]:
    return {"bytes": wav(frequency), "path": path}


def parquet(folder: Path, **splits: Any) -> Path:
    folder.mkdir()
    for name, rows in splits.items():
        rows.to_parquet(folder / f"{name}-00000-of-00001.parquet")
    return folder


def read(folder: Path, tmp_path: Path, **columns: str) -> list[dict[str, str]]:
    with write_recordings(parse_hub_name(str(folder)), tmp_path / "out", columns).open(newline="") as table:
        return list(csv.DictReader(table))


def render(folder: Path, tmp_path: Path, **settings: Any) -> Result:
    folders = {name: tmp_path / name for name in ("dataset_dir", "image_dir", "wav_dir")}
    config = DataConfig(dataset=str(folder), workers=1, **folders, **settings)
    return render_folder(config, SpectrogramConfig(chunk_seconds=0.5))


CLASSES = datasets.ClassLabel(names=["cat", "dog"])
ANIMALS = [{"audio": sound(300), "label": 1}, {"audio": sound(600), "label": 0}, {"audio": sound(900), "label": 1}]


@pytest.mark.parametrize("form", ["parquet", "saved", "saved split"])
def test_embedded_sounds_are_rendered_once(form: str, tmp_path: Path) -> None:
    train, test = dataset(ANIMALS[:2], label=CLASSES), dataset(ANIMALS[2:], label=CLASSES)
    folder = tmp_path / "animals"
    if form == "parquet":
        parquet(folder, train=train, test=test)
    elif form == "saved":
        datasets.DatasetDict(train=train, test=test).save_to_disk(folder)
    else:
        datasets.concatenate_datasets([train, test]).save_to_disk(folder)
    first = render(folder, tmp_path)
    assert {label: summary.recordings for label, summary in first.labels.items()} == {"cat": 1, "dog": 2}
    before = files_of(tmp_path / "dataset_dir", tmp_path / "image_dir")
    again = render(folder, tmp_path)
    assert (again.rendered, again.unchanged, again.removed) == (0, 3, 0)
    assert files_of(tmp_path / "dataset_dir", tmp_path / "image_dir") == before
    assert len(list((tmp_path / "dataset_dir" / "animals").rglob("*.wav"))) == 3
    assert not list((tmp_path / "cache").rglob("*.arrow"))


def test_a_new_row_alone_is_rendered_and_a_deleted_one_removed(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "animals", train=dataset(ANIMALS, label=CLASSES))
    render(folder, tmp_path)
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset_dir").rglob("*.wav")}
    rows = [{"audio": sound(1200), "label": 0}, *ANIMALS[1:]]
    dataset(rows, label=CLASSES).to_parquet(next(folder.iterdir()))
    result = render(folder, tmp_path)
    assert (result.rendered, result.unchanged) == (1, 2)
    now = {path: path.stat().st_mtime_ns for path in (tmp_path / "dataset_dir").rglob("*.wav")}
    assert len(now) == 3
    assert len(now.items() & kept.items()) == 2


def test_a_damaged_copy_is_written_again(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "animals", train=dataset(ANIMALS, label=CLASSES))
    (row, *_) = read(folder, tmp_path)
    copy = tmp_path / "out" / row["file"]
    copy.write_bytes(copy.read_bytes()[:-1] + b"x")
    read(folder, tmp_path)
    assert copy.read_bytes() == wav(300)


def test_splits_become_sets_and_the_folders_of_an_audio_folder_labels(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for number, label in enumerate(("cat", "dog")):
            write_tone(tmp_path / "folder" / split / label / "a.wav", 300 * (number + 1))
    rows = read(tmp_path / "folder", tmp_path)
    assert sorted((row["split"], row["label"]) for row in rows) == [
        (split, label) for split in ("test", "train") for label in ("cat", "dog")
    ]
    links = [tmp_path / "out" / row["file"] for row in rows]
    assert all(link.is_symlink() and link.resolve().is_relative_to(tmp_path / "folder") for link in links)
    assert len(set(links)) == 4
    render(tmp_path / "folder", tmp_path)
    assert len(list((tmp_path / "image_dir").rglob("*.jpg"))) == 8


def test_metadata_of_an_audio_folder_gives_labels_groups_and_parts(tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_tone(tmp_path / "folder" / f"{name}.wav", seconds=2.0)
    (tmp_path / "folder" / "metadata.csv").write_text(
        "file_name,species,speaker_id,start_ms,end_ms\na.wav,dog,7,0,500\na.wav,cat,7,500,2000\nb.wav,cat,8,0,2000\n"
    )
    rows = read(tmp_path / "folder", tmp_path)
    assert [(row["label"], row["group"], row["start"], row["end"]) for row in rows] == [
        ("dog", "7", "0.0", "0.5"),
        ("cat", "7", "0.5", "2.0"),
        ("cat", "8", "0.0", "2.0"),
    ]
    assert rows[0]["file"] == rows[1]["file"] != rows[2]["file"]
    result = render(tmp_path / "folder", tmp_path)
    assert {label: summary.chunks for label, summary in result.labels.items()} == {"cat": 7, "dog": 1}


def test_times_of_a_source_that_sounds_were_cut_from_are_not_used(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [{"audio": sound(300 + n), "label": 0, "begin": 10.0 * n, "end": 10.0 * n + 1} for n in range(4)]
    value = datasets.Value("float64")
    folder = parquet(tmp_path / "cut", train=dataset(rows, label=CLASSES, begin=value, end=value))
    assert not {"start", "end"} & set(read(folder, tmp_path)[0])
    assert "those of a source" in caplog.text
    assert render(folder, tmp_path).labels["cat"].chunks == 8


@pytest.mark.parametrize(
    "path", ["../../evil.wav", "/etc/evil.wav", "C:\\evil.wav", "..", "", None, "a\0b.wav", ".hidden.wav", "#x\n.mp3"]
)
def test_no_path_of_a_row_leaves_the_folder(path: str | None, tmp_path: Path) -> None:
    rows = [{"audio": sound(300, path), "label": 0}, {"audio": sound(600, path), "label": 1}]
    folder = parquet(tmp_path / "evil", train=dataset(rows, label=CLASSES))
    before = set(tmp_path.iterdir())
    files = [row["file"] for row in read(folder, tmp_path)]
    assert set(tmp_path.iterdir()) - before <= {tmp_path / "out", tmp_path / "cache"}
    assert len(set(files)) == 2
    assert [(tmp_path / "out" / file).read_bytes() for file in files] == [wav(300), wav(600)]
    assert all((tmp_path / "out" / file).parent == tmp_path / "out" / "train" for file in files)
    assert render(folder, tmp_path).rendered == 2


def test_only_sounds_inside_the_dataset_are_found_by_relative_paths(tmp_path: Path) -> None:
    root = tmp_path / "root"
    inside, outside = write_tone(root / "a.wav"), write_tone(tmp_path / "b.wav")
    (root / "notes.txt").write_text("x")
    assert sound_of("a.wav", root).content == inside  # type: ignore[union-attr]
    for name in ("../b.wav", "notes.txt", "none.wav", "https://host/a.wav", "x" * 300 + ".wav"):
        assert sound_of({"bytes": None, "path": name}, root) is None
    assert sound_of("b.wav", None) is None
    assert sound_of(str(outside), root).content == outside  # type: ignore[union-attr]
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.writestr("in/a.wav", b"RIFFsound")
    found = sound_of(f"zip://in/a.wav::{tmp_path / 'all.zip'}", root)
    assert found is not None
    assert (found.content, found.name[:2]) == (b"RIFFsound", "a-")
    assert sound_of(f"zip://none.wav::{tmp_path / 'all.zip'}", root) is None


def test_names_of_files_are_safe() -> None:
    assert safe_name("Zoe\u0308 1") == "Zo\u00eb 1"
    assert safe_name("..\x00/:*") == "_"
    assert len(safe_name("\u4e2d" * 200).encode()) <= 100
    assert sound_of({"bytes": b"fLaC", "path": None}, None).name.endswith(".flac")  # type: ignore[union-attr]


def test_rows_that_cannot_be_used_are_named_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows = [{"audio": sound(300), "name": "ann"}, {"audio": {"bytes": None, "path": None}, "name": "ann"}]
    rows += [{"audio": sound(400), "name": name} for name in ("a/b", None, "..", "dataset.json", "x" * 300)]
    folder = parquet(tmp_path / "rows", train=dataset(rows, name=datasets.Value("string")))
    assert [row["label"] for row in read(folder, tmp_path)] == ["ann"]
    assert "row 2 of train has no sound; left out" in caplog.text
    assert "row 3 of train has the label 'a/b', which cannot be a folder's name; left out" in caplog.text
    assert "row 4 of train has no label; left out" in caplog.text
    assert "6 rows left out" in caplog.text


@pytest.mark.parametrize(
    ("value", "classes", "label"),
    [
        (1, ["a", "b"], "b"),
        (-1, ["a", "b"], ""),
        (None, None, ""),
        ([1, 0, 1], ["a", "b"], "a;b"),
        (["rain", "dog", None, ""], None, "dog;rain"),
        ([], None, ""),
        (float("nan"), None, ""),
        ({"name": "ann"}, None, ""),
        (3, None, "3"),
        ("  ann ", None, "ann"),
    ],
)
def test_labels_are_names(value: Any, classes: list[str] | None, label: str) -> None:
    assert label_text(value, classes) == label


def test_lists_of_classes_are_joined(tmp_path: Path) -> None:
    rows = [{"audio": sound(300), "tags": [1, 0]}, {"audio": sound(600), "tags": [0]}]
    folder = parquet(tmp_path / "tags", train=dataset(rows, tags=datasets.List(CLASSES)))
    assert [row["label"] for row in read(folder, tmp_path)] == ["cat;dog", "cat"]


def chosen(columns: dict[str, str] | None = None, **features: Any) -> dict[str, str]:
    found = choose_hub_columns({"sound": datasets.Audio(), **features}, Path("set"), columns or {})
    return found.columns.names


def test_columns_are_chosen_by_type_and_name() -> None:
    text = datasets.Value("string")
    assert chosen(transcription=text, emotion=CLASSES, speaker_id=text) == {"label": "emotion", "group": "speaker_id"}
    assert chosen(label=text, gender=CLASSES) == {"label": "label"}
    assert chosen(speaker_id=text, path=text) == {"label": "speaker_id"}
    assert chosen({"label": "words"}, words=text, label=CLASSES, fold=text) == {"label": "words", "split": "fold"}
    slices = {"slice_file_name": text, "start": text, "end": text, "class": text}
    assert chosen(**slices) == {"label": "class"}  # UrbanSound8K's times are of the source
    with pytest.raises(DatasetError, match=r"several columns of classes.*label=NAME, of intent, lang"):
        chosen(intent=CLASSES, lang=CLASSES, transcription=text)
    with pytest.raises(DatasetError, match=r"no column is named like a label.*label=NAME, of sound, words"):
        chosen(words=datasets.Value("int64"))
    with pytest.raises(DatasetError, match=r"has no column 'foo'.*sound, label"):
        chosen({"label": "foo"}, label=text)
    with pytest.raises(DatasetError, match=r"'label' holds no sounds.*columns are sound, label"):
        chosen({"file": "label"}, label=text)
    with pytest.raises(DatasetError, match=r"several columns of sounds.*file=NAME, of sound, other"):
        chosen(other=datasets.Audio(), label=text)
    assert chosen({"file": "other"}, other=datasets.Audio(), label=text) == {"label": "label"}


def test_what_is_no_dataset_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    good = parquet(tmp_path / "good", train=dataset(ANIMALS, label=CLASSES))
    content = next(good.iterdir()).read_bytes()
    (tmp_path / "damaged" / "train.parquet").write_bytes(content[: len(content) // 2])
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("hello\n")
    (tmp_path / "none").mkdir()
    rows = pq.read_table(next(good.iterdir())).slice(0, 0)
    pq.write_table(rows, tmp_path / "none" / "train.parquet")  # which some versions of datasets cannot
    for folder, message in (
        (tmp_path / "empty", "cannot be read as a dataset"),
        (tmp_path / "damaged", "cannot be read as a dataset"),
        (tmp_path / "text", "no column holds sounds.*its columns are text"),
        (tmp_path / "none", "it is empty|cannot be read as a dataset"),
    ):
        with pytest.raises(DatasetError, match=message) as found:
            read(folder, tmp_path)
        assert "\n" not in str(found.value)
        assert not (tmp_path / "out" / TABLE_NAME).exists()
        for left in (tmp_path / "out").glob("*") if (tmp_path / "out").exists() else ():
            left.unlink()


def test_damage_inside_a_parquet_file_keeps_the_earlier_table(tmp_path: Path) -> None:
    noise = [{"audio": {"bytes": np.random.default_rng(n).bytes(5000), "path": None}, "label": 0} for n in range(50)]
    folder = parquet(tmp_path / "set", train=dataset(noise, label=CLASSES))
    before = read(folder, tmp_path)
    (file,) = folder.iterdir()
    content = bytearray(file.read_bytes())
    content[4:200] = bytes(196)
    file.write_bytes(content)
    with pytest.raises(DatasetError, match="cannot be read as a dataset"):
        read(folder, tmp_path)
    with (tmp_path / "out" / TABLE_NAME).open(newline="") as table:
        assert list(csv.DictReader(table)) == before


def test_folders_of_others_are_left_alone(tmp_path: Path) -> None:
    folder = parquet(tmp_path / "set", train=dataset(ANIMALS, label=CLASSES))
    other = parquet(tmp_path / "other", train=dataset(ANIMALS[:1], label=CLASSES))
    mine = write_tone(tmp_path / "out" / "mine.wav")
    with pytest.raises(UsageError, match="holds files that dataset did not write"):
        read(folder, tmp_path)
    mine.unlink()
    read(folder, tmp_path)
    with pytest.raises(UsageError, match="holds the recordings of another dataset"):
        read(other, tmp_path)


def test_names_are_of_folders_or_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "c:d").mkdir()
    assert parse_hub_name("a/b") == HubName(tmp_path / "a" / "b", str(tmp_path / "a" / "b"), None)
    assert parse_hub_name("a/b:en").config == "en"
    assert parse_hub_name("c:d") == HubName(tmp_path / "c:d", str(tmp_path / "c:d"), None)
    assert parse_hub_name("owner/name:en") == HubName(None, "owner/name", "en")
    assert parse_hub_name("owner/name:en").folder_name == "owner--name-en"
    for text in ("parquet", "/none", "./none/x", "../none", "a b/c", "x/y/z", ""):
        with pytest.raises(UsageError, match="it must be a folder on disk, or a name of the hub"):
            parse_hub_name(text)


def test_a_name_of_the_hub_is_asked_for_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked = []
    found = datasets.DatasetDict(train=dataset(ANIMALS, label=CLASSES))
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *names: asked.append(names))
    monkeypatch.setattr(datasets, "load_dataset", lambda *names: asked.append(names) or found)
    assert list(open_splits(parse_hub_name("owner/name:en"))) == ["train"]
    assert asked == [("owner/name", "en")] * 2
    monkeypatch.setattr(datasets, "load_dataset_builder", lambda *names: 1 / 0)
    with pytest.raises(DatasetError, match="dataset owner/name: is not on disk and cannot be read as a dataset"):
        open_splits(parse_hub_name("owner/name"))


def test_settings_that_do_not_go_together_are_refused(tmp_path: Path) -> None:
    for settings in ({"labels": tmp_path}, {"audio_dir": tmp_path}, {"channel": "split"}):
        with pytest.raises(UsageError, match=f"{next(iter(settings))} is "):
            DataConfig(dataset="a/b", **settings)
    DataConfig(dataset="a/b", label_columns="label=x", background=True)
