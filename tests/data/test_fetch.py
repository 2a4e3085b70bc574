"""Public datasets by name, in small: fetched from loopback, checked, unpacked and labelled."""

from __future__ import annotations

import csv
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from audionet.data import download as download_module
from audionet.data.arrange import RECORD
from audionet.data.fetch import FetchConfig, FetchedDataset, fetch, fetch_dataset
from audionet.data.label_table import read_label_table
from audionet.data.named_datasets import DATASETS, NamedDataset
from audionet.errors import AudioNetError, DatasetError, UsageError
from audionet.utils.progress import calling
from tests.support.archives import write_archive, write_files
from tests.support.file_server import ServedFile, serving
from tests.support.files import files_of
from tests.support.public_datasets import SHAPES, small_dataset

DOWNLOADED = [name for name, dataset in DATASETS.items() if dataset.archive]
Fetch = Callable[..., FetchedDataset]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download_module, "WAIT_SECONDS", 0.001)
    monkeypatch.setenv("no_proxy", "127.0.0.1")


def use(monkeypatch: pytest.MonkeyPatch, name: str, dataset: NamedDataset) -> None:
    monkeypatch.setitem(DATASETS, name, dataset)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path) -> Fetch:
    def fetch_here(name: str, **settings: Any) -> FetchedDataset:
        return fetch_dataset(name, datasets_dir=tmp_path / "sets", downloads_dir=tmp_path / "downloads", **settings)

    return fetch_here


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ServedFile]:
    """Serves the digits."""
    dataset, path = small_dataset("fsdd", tmp_path / "remote")
    with serving(path.read_bytes(), path.name) as served:
        assert dataset.archive
        archive = dataclasses.replace(dataset.archive, url=served.url)
        use(monkeypatch, "fsdd", dataclasses.replace(dataset, archive=archive))
        yield served


def rows_of(table: Path) -> list[tuple[str, ...]]:
    with table.open(encoding="utf-8", newline="") as stream:
        header, *rows = map(tuple, csv.reader(stream))
    assert header == ("file", "label", "group", "split")
    return rows


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".audionet-lock") if folder.is_dir() else []


@pytest.mark.parametrize("name", DOWNLOADED)
def test_a_dataset_is_downloaded_checked_and_labelled(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Fetch, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, path = small_dataset(name, tmp_path / "remote")
    with serving(path.read_bytes(), path.name) as server:
        assert dataset.archive
        use(
            monkeypatch,
            name,
            dataclasses.replace(dataset, archive=dataclasses.replace(dataset.archive, url=server.url)),
        )
        for by, rows in SHAPES[name].rows.items():
            found = run(name, by=by)
            assert rows_of(found.labels) == sorted(rows)
            table = read_label_table(found.labels, found.folder)
            assert sorted(table.parts) == sorted({label for _, label, _, _ in rows})
            assert table.groups == {file: group for file, _, group, _ in rows if group}
            assert table.splits == {file: split for file, _, _, split in rows if split}
    assert len(server.requests) == 1
    assert found.recordings == SHAPES[name].recordings == len(list(found.folder.rglob("*.*")))
    assert left_in(tmp_path / "downloads") == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith(f"Licence: {dataset.licence}; cite: ")
    assert f"From: {server.url}; the whole archive is {dataset.archive.size_text}" in lines
    kept = {path.name for path in found.labels.parent.iterdir() if path.is_file()}
    assert kept >= {item.file for item in dataset.rows.metadata} | {RECORD}
    assert any(re.match("LICEN|README|FREESOUND", name) for name in kept)


@pytest.mark.parametrize("name", DATASETS)
@pytest.mark.parametrize("packed", [True, False])
def test_what_the_user_has_is_used_and_not_changed(
    name: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Fetch
) -> None:
    dataset, path = small_dataset(name, tmp_path / "own")
    use(monkeypatch, name, dataset)
    source = path if packed else write_files(tmp_path / "own" / "folder", SHAPES[name].files)
    before = files_of(tmp_path / "own")
    found = run(name, source=source)
    table = read_label_table(found.labels, found.folder)
    rows = next(iter(SHAPES[name].rows.values()))
    assert sum(len(parts) for parts in table.parts.values()) == len(rows)
    assert sorted(row[1:] for row in rows_of(found.labels)) == sorted(row[1:] for row in rows)
    assert files_of(tmp_path / "own") == before
    assert (found.folder == source) is not packed
    assert json.loads((found.labels.parent / RECORD).read_text())["source"] == str(source)


def test_a_complete_dataset_is_left_as_it_is(server: ServedFile, tmp_path: Path, run: Fetch) -> None:
    first = run("fsdd")
    before = files_of(tmp_path / "sets")
    again = run("fsdd", by="digit")
    assert (first.was_there, again.was_there) == (False, True)
    assert (again.folder, again.labels.name) == (first.folder, "digit.csv")
    assert files_of(tmp_path / "sets") == before
    assert len(server.requests) == 1


def test_an_interrupted_download_goes_on(server: ServedFile, tmp_path: Path, run: Fetch) -> None:
    server.breaks = [5_000, *[0] * 10]
    with pytest.raises(DatasetError, match="run it again to go on"):
        run("fsdd")
    assert left_in(tmp_path / "downloads") == ["fsdd.zip.part", "fsdd.zip.part.json"]
    server.breaks = []
    assert run("fsdd").recordings == SHAPES["fsdd"].recordings
    assert server.requests[-1]["Range"] == "bytes=5000-"


@pytest.mark.parametrize("work", ["Downloading", "Checking", "Unpacking"])
def test_whenever_it_is_interrupted_the_next_run_completes_it(
    work: str, server: ServedFile, tmp_path: Path, run: Fetch
) -> None:
    def interrupt(what: str, done: float, total: float) -> None:
        if what == work and done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("fsdd", progress=interrupt)
    assert left_in(tmp_path / "sets") == []
    assert left_in(tmp_path / "downloads")
    assert rows_of(run("fsdd").labels) == sorted(SHAPES["fsdd"].rows["speaker"])
    assert [request.get("Range") for request in server.requests] == [None]
    assert left_in(tmp_path / "downloads") == []


def refused(run: Fetch, tmp_path: Path, match: str, **settings: Any) -> None:
    """Fetching fails with one line, and leaves no dataset and no download behind."""
    with pytest.raises(DatasetError, match=match) as error:
        run("fsdd", **settings)
    assert len(str(error.value).splitlines()) == 1
    assert left_in(tmp_path / "sets") == []
    assert [name for name in left_in(tmp_path / "downloads") if not name.endswith((".part", ".part.json"))] == []


def test_other_contents_of_the_same_length_are_removed(server: ServedFile, tmp_path: Path, run: Fetch) -> None:
    right = server.content
    server.content = right[:-1] + b"\xff"
    refused(run, tmp_path, "its sha256 is .*it is another file; it is removed: run it again")
    server.content, server.version = right, '"2"'
    assert run("fsdd").recordings


def test_a_page_instead_of_an_archive_is_refused(server: ServedFile, tmp_path: Path, run: Fetch) -> None:
    server.content = b"<html>Please sign in</html>"
    refused(run, tmp_path, "is 27 bytes long, not .*a page that asks something")


def make_inexact(server: ServedFile, monkeypatch: pytest.MonkeyPatch, size: int | None = None) -> None:
    dataset = DATASETS["fsdd"]
    assert dataset.archive
    archive = dataclasses.replace(dataset.archive, size=size or len(server.content), exact=False)
    use(monkeypatch, "fsdd", dataclasses.replace(dataset, archive=archive))


def test_an_archive_that_is_packed_anew_is_checked_by_what_it_holds(
    server: ServedFile,
    tmp_path: Path,
    run: Fetch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make_inexact(server, monkeypatch)
    files = dict(reversed(SHAPES["fsdd"].files.items()))
    server.content = write_archive(tmp_path / "anew.zip", files).read_bytes()
    found = run("fsdd")
    assert "not the one seen before, as its server may pack it anew" in capsys.readouterr().out
    assert json.loads((found.labels.parent / RECORD).read_text())["checked"] == ""


def test_an_archive_without_known_hash_that_is_damaged_is_removed(
    server: ServedFile, tmp_path: Path, run: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_inexact(server, monkeypatch)
    right, server.chunked = server.content, True
    server.content = right[: len(right) // 2]
    refused(run, tmp_path, r"fsdd\.zip: it is damaged or cut off .*; the download is removed: run it again")
    changed = bytearray(right)
    changed[len(right) // 3] ^= 0xFF
    server.content, server.version = bytes(changed), '"2"'
    refused(run, tmp_path, "damaged or cut off")
    server.content, server.version = right, '"3"'
    assert run("fsdd").recordings


def test_an_archive_that_lacks_a_recording_is_refused(
    server: ServedFile, tmp_path: Path, run: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_inexact(server, monkeypatch)
    files = dict(SHAPES["fsdd"].files)
    del files[next(iter(files))]
    server.content = write_archive(tmp_path / "less.zip", files).read_bytes()
    refused(run, tmp_path, "holds 11 of the dataset's 12 recordings")
    assert run("fsdd", partial=True).recordings == 11


def test_an_archive_of_another_dataset_is_refused(server: ServedFile, tmp_path: Path, run: Fetch) -> None:
    other = write_archive(tmp_path / "other.zip", SHAPES["cremad"].files)
    refused(run, tmp_path, "is .* bytes long, not .*: it is (another file|cut off)", source=other)
    refused(run, tmp_path, "holds 0 of the dataset's 12 recordings", source=other, partial=True)
    assert other.exists()


def test_an_archive_that_leads_out_of_its_folder_is_refused(
    server: ServedFile, tmp_path: Path, run: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_inexact(server, monkeypatch)
    files = SHAPES["fsdd"].files | {"../../../0_evil_0.wav": b"x"}
    server.content = write_archive(tmp_path / "evil.zip", files).read_bytes()
    refused(run, tmp_path, "leads out of its folder")
    assert not list(tmp_path.rglob("*evil*.wav"))


def test_a_bomb_is_refused(server: ServedFile, tmp_path: Path, run: Fetch, monkeypatch: pytest.MonkeyPatch) -> None:
    make_inexact(server, monkeypatch, 100_000)
    files = SHAPES["fsdd"].files | {"recordings/9_theo_9.wav": bytes(50_000_000)}
    server.content = write_archive(tmp_path / "bomb.zip", files).read_bytes()
    refused(run, tmp_path, "far more than recordings can take")


def test_a_disk_without_room_keeps_the_download(
    server: ServedFile, tmp_path: Path, run: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    from audionet.data import unpack

    with monkeypatch.context() as patched:
        patched.setattr(unpack.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 9_000}))
        patched.setattr(download_module, "_check_room", lambda folder, needed: None)
        with pytest.raises(OSError, match=r"9\.0 kB are free"):
            run("fsdd")
    assert left_in(tmp_path / "sets") == []
    assert run("fsdd").recordings
    assert len(server.requests) == 1


def test_pointers_of_git_lfs_are_no_recordings(tmp_path: Path, run: Fetch) -> None:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 70000\n"
    source = write_files(tmp_path / "own", {"AudioWAV/1001_DFA_ANG_XX.wav": pointer})
    with pytest.raises(DatasetError, match=r"a pointer of Git LFS: clone .*CREMA-D with git lfs"):
        run("cremad", source=source, partial=True)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_pipe_is_no_recording(tmp_path: Path, run: Fetch) -> None:
    (tmp_path / "digits").mkdir()
    os.mkfifo(tmp_path / "digits" / "0_jackson_0.wav")
    with pytest.raises(DatasetError, match=r"0_jackson_0\.wav: is no file"):
        run("fsdd", source=tmp_path / "digits", partial=True)


def test_a_folder_with_a_recording_twice_is_refused(tmp_path: Path, run: Fetch) -> None:
    source = write_files(tmp_path / "own", {"a/0_theo_1.wav": b"RIFF", "b/0_theo_1.wav": b"RIFF"})
    with pytest.raises(DatasetError, match=r"holds 0_theo_1\.wav twice, as a/0_theo_1\.wav and b/0_theo_1\.wav"):
        run("fsdd", source=source, partial=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (None, r"esc50\.csv is missing"),
        (b"name,fold\n", "it has no column filename"),
        (b"filename,fold,category,esc10,src_file\n", r"does not name 1-100032-A-0\.wav"),
        (b'filename,fold\n"1-1', "cannot be read"),
        (b"filename,category\n\xff\xfe", "cannot be read"),
        (b"filename,fold\n1-100032-A-0.wav,1\n2-100210-B-36.wav,2\n5-9032-A-0.wav,5\n", "has no column category"),
    ],
)
def test_a_damaged_list_is_one_line(change: bytes | None, match: str, tmp_path: Path, run: Fetch) -> None:
    files = dict(SHAPES["esc50"].files)
    name = next(name for name in files if name.endswith(".csv"))
    files.pop(name) if change is None else files.update({name: change})
    with pytest.raises(DatasetError, match=match) as error:
        run("esc50", source=write_files(tmp_path / "own", files), partial=True)
    assert len(str(error.value).splitlines()) == 1
    assert left_in(tmp_path / "sets") == []


def test_voxceleb_is_used_without_its_split(tmp_path: Path, run: Fetch) -> None:
    files = {name: content for name, content in SHAPES["voxceleb1"].files.items() if name.endswith(".wav")}
    found = run("voxceleb1", source=write_files(tmp_path / "own", files), partial=True)
    assert {row[3] for row in rows_of(found.labels)} == {""}
    with pytest.raises(DatasetError, match="a line begins with neither 1, 2 nor 3"):
        run_elsewhere = tmp_path / "elsewhere"
        write_files(tmp_path / "own", {"iden_split.txt": b"4 id10006/nLEBBc9oIFs/00003.wav\n"})
        fetch("voxceleb1", FetchConfig(source=tmp_path / "own", partial=True, datasets_dir=run_elsewhere))


def test_a_folder_of_something_else_is_not_replaced(server: ServedFile, tmp_path: Path, run: Fetch) -> None:
    write_files(tmp_path / "sets" / "fsdd", {"mine.wav": b"mine"})
    with pytest.raises(DatasetError, match="holds something that audionet dataset has not written: move it"):
        run("fsdd")
    assert (tmp_path / "sets" / "fsdd" / "mine.wav").read_bytes() == b"mine"
    assert not server.requests


def test_a_record_that_is_damaged_or_whose_recordings_are_gone_is_one_line(
    tmp_path: Path, run: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, _ = small_dataset("fsdd", tmp_path)
    use(monkeypatch, "fsdd", dataset)
    source = write_files(tmp_path / "own", SHAPES["fsdd"].files)
    record = run("fsdd", source=source).labels.with_name(RECORD)
    source.rename(tmp_path / "moved")
    with pytest.raises(DatasetError, match="own is missing, and belongs to the dataset: put it back, or remove"):
        run("fsdd")
    record.write_text('{"format": 2}')
    with pytest.raises(DatasetError, match=r"is damaged: remove .*fsdd, and run it again"):
        run("fsdd")
    record.write_text("{")
    with pytest.raises(DatasetError, match=r"remove .*fsdd, and run it again"):
        run("fsdd")


@pytest.mark.parametrize(
    ("name", "settings", "match"),
    [
        ("fsd", {}, "there is no dataset fsd: is it fsdd?"),
        ("nothing", {}, "there is no dataset nothing; there are fsdd, mini_speech_commands"),
        ("fsdd", {"by": "emotion"}, "by is emotion: it must be one of speaker, digit for fsdd"),
        ("fsdd", {"url": "http://x/", "source": "y"}, "url is http://x/: it must be left out with source"),
        ("fsdd", {"source": "/dev/zero"}, "/dev/zero is neither an archive nor a folder"),
        ("fsdd", {"source": "nowhere"}, "nowhere is neither an archive nor a folder"),
        ("voxceleb1", {}, r"cannot be downloaded without asking its authors .*name the folder"),
    ],
)
def test_wrong_use_is_one_line(name: str, settings: dict[str, Any], match: str, run: Fetch) -> None:
    with pytest.raises(AudioNetError, match=re.escape(match) if "(" not in match and ".*" not in match else match):
        run(name, **settings)


def test_progress_is_reported(server: ServedFile, run: Fetch) -> None:
    seen: dict[str, tuple[float, float]] = {}
    run("fsdd", progress=lambda what, done, total: seen.update({what: (done, total)}))
    assert list(seen) == ["Downloading", "Checking", "Unpacking"]
    assert set(seen.values()) == {(len(server.content), len(server.content))}
    with calling(None), pytest.raises(UsageError):
        run("")


@pytest.mark.parametrize("name", DATASETS)
def test_every_dataset_says_what_it_is(name: str) -> None:
    dataset = DATASETS[name]
    assert all((dataset.title, dataset.licence, dataset.citation))
    assert dataset.homepage.startswith("https://")
    assert dataset.recordings > 1000
    assert list(SHAPES[name].rows) == list(dataset.tables)
    if archive := dataset.archive:
        assert archive.url.startswith("https://")
        assert archive.suffix in (".zip", ".tar.gz")
        assert not archive.digest or len(archive.digest) == hashlib.new(archive.algorithm).digest_size * 2
        assert archive.digest or not archive.exact
