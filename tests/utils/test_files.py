from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from audionet.errors import AudioNetError, ModelError
from audionet.utils import disk
from audionet.utils.files import (
    TEMPORARY_PREFIX,
    WriteBatch,
    atomic_path,
    exclusive_lock,
    file_sizes,
    make_folder,
    make_writable_folder,
    owner_name,
    owner_runs,
    read_json,
    sha256,
    temporary_path,
    write_bytes,
    write_json,
)
from audionet.utils.text import escape, first_line
from tests.support.disk import RecordedDisk
from tests.support.read_only import read_only


def test_a_folder_that_cannot_be_made_or_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for make in (make_folder, make_writable_folder):
        with pytest.raises(NotADirectoryError, match="is a file, and a folder is wanted") as found:
            make(tmp_path / "file")
        assert found.value.filename == str(tmp_path / "file")
    make_writable_folder(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "x"
    target.write_text("old")
    with pytest.raises(OSError, match="No space") as error, atomic_path(target) as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
    assert error.value.filename == str(target)  # a full disk alone does not say which file


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="tells which file is synced by /proc")
@pytest.mark.parametrize("whole", [True, False])
def test_files_are_on_the_disk_when_they_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: bool
) -> None:
    recorded = RecordedDisk(monkeypatch, tmp_path, whole)
    for content in (b"old", b"new"):
        write_bytes(tmp_path / "x", content)
        assert recorded.holds(tmp_path / "x")
        with WriteBatch() as batch:
            for name in "abc":
                batch.write(tmp_path / name, content)
            assert all(not path.exists() or path.read_bytes() == b"old" for path in map(tmp_path.joinpath, "abc"))
        assert all(recorded.holds(tmp_path / name) for name in "abc")
        with atomic_path(tmp_path / "folder") as temporary:
            (temporary / "below").mkdir(parents=True)
            (temporary / "below" / "y").write_bytes(content)
        assert recorded.holds(tmp_path / "folder")
        assert (tmp_path / "folder" / "below" / "y").read_bytes() == content


@pytest.mark.skipif(os.name != "posix", reason="nothing is synced there")
def test_a_file_system_without_sync_is_written_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> Callable[[int], None]:
        def sync(descriptor: int) -> None:
            raise OSError(number, os.strerror(number))

        return sync

    monkeypatch.setattr(os, "fsync", refuse(errno.EINVAL))
    monkeypatch.setattr(disk, "_syncfs", lambda: refuse(errno.ENOSYS))
    write_bytes(tmp_path / "x", b"1")
    with WriteBatch() as batch:
        batch.write(tmp_path / "y", b"2")
    assert [(tmp_path / name).read_bytes() for name in "xy"] == [b"1", b"2"]
    monkeypatch.setattr(disk, "_syncfs", lambda: refuse(errno.EIO))
    with pytest.raises(OSError, match="Input/output error"), WriteBatch() as batch:
        batch.write(tmp_path / "z", b"3")
    assert {path.name for path in tmp_path.iterdir()} == {"x", "y"}


def test_a_batch_drops_what_waits_when_it_fails_or_is_told_to(tmp_path: Path) -> None:
    (tmp_path / "old").write_bytes(b"old")
    with WriteBatch() as batch:
        for name in ("old", "new", "kept"):
            batch.write(tmp_path / name, b"new")
        batch.remove(tmp_path / "old")
        batch.remove(tmp_path / "new")
    with pytest.raises(FileNotFoundError) as error, WriteBatch() as batch:
        batch.write(tmp_path / "other", b"")
        batch.write(tmp_path / "none" / "x", b"")
    assert error.value.filename == str(tmp_path / "none" / "x")
    assert {path.name for path in tmp_path.iterdir()} == {"kept"}


def test_a_missing_folder_is_reported_by_the_targets_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error:
        write_bytes(tmp_path / "none" / "x", b"")
    assert error.value.filename == str(tmp_path / "none" / "x")


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    dead = subprocess.Popen(["true"])
    dead.wait()
    host = temporary_path(tmp_path).name.removeprefix(TEMPORARY_PREFIX).rpartition(f"-{os.getpid()}-")[0]
    other = f"{TEMPORARY_PREFIX}{host}-{os.getppid()}-0"  # of a run that is still at work
    elsewhere = f"{TEMPORARY_PREFIX}other-host-{dead.pid}-0"  # perhaps also
    old = f"{TEMPORARY_PREFIX}other-host-{dead.pid}-1"
    for name in (f"{TEMPORARY_PREFIX}{host}-{dead.pid}-0", f"{TEMPORARY_PREFIX}odd", "kept", other, elsewhere, old):
        (tmp_path / name).touch()
    os.utime(tmp_path / old, (0, 0))
    make_folder(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"kept", other, elsewhere}


def test_two_runs_keep_out_of_each_others_way(tmp_path: Path) -> None:
    with (
        exclusive_lock(tmp_path),
        pytest.raises(AudioNetError, match="another run is at work there"),
        exclusive_lock(tmp_path),
    ):
        pytest.fail("both got in")
    with exclusive_lock(tmp_path):
        pass


def test_a_read_only_folder_is_locked_only_where_it_has_a_lock(tmp_path: Path) -> None:
    with read_only(tmp_path), exclusive_lock(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
    with exclusive_lock(tmp_path):
        pass
    with (
        read_only(tmp_path),
        exclusive_lock(tmp_path),
        pytest.raises(AudioNetError, match="another run is at work there"),
        exclusive_lock(tmp_path),
    ):
        pytest.fail("both got in")


def test_a_read_only_folder_may_hold_what_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / f"{TEMPORARY_PREFIX}odd").touch()
    with read_only(tmp_path):
        make_folder(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"{TEMPORARY_PREFIX}odd"]


def test_json_takes_any_file_name(tmp_path: Path) -> None:
    content = {"file": "caf\udce9 ünï\n.wav"}
    write_json(tmp_path / "x.json", content)
    assert read_json(tmp_path / "x.json", ModelError, "") == content


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe", b"3", b"[" * 100_000])
def test_damaged_json_is_one_line_with_a_remedy(tmp_path: Path, damage: bytes) -> None:
    (tmp_path / "x.json").write_bytes(damage)
    with pytest.raises(ModelError, match="do this") as error:
        read_json(tmp_path / "x.json", ModelError, "do this")
    assert len(str(error.value).splitlines()) == 1


def test_sha256(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10_000
    (tmp_path / "x").write_bytes(data)
    assert sha256(tmp_path / "x") == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("name", "shown"),
    [("a b'c\"", "a b'c\""), ("x\ny", "x\\ny"), ("\x1b[2J", "\\x1b[2J"), ("caf\udce9", "caf\\udce9"), ("анна", "анна")],
)
def test_printable(name: str, shown: str) -> None:
    assert escape(name) == shown
    escape(name).encode("utf-8")


def test_first_line() -> None:
    assert first_line(ValueError("one\ntwo")) == "one"
    assert first_line(ValueError()) == "ValueError"


def test_a_batch_holds_no_file_that_could_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(path: Path, data: bytes) -> int:
        with path.open("wb") as stream:
            stream.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with WriteBatch() as batch:
        batch.write(tmp_path / "a", b"old")
        batch.write(tmp_path / "a", b"new")
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_bytes", half)
            with pytest.raises(OSError, match="No space left"):
                batch.write(tmp_path / "b", b"torn")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {"a": b"new"}


def test_a_file_that_vanishes_hides_no_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Vanished:
        name = "a.jpg"

        def stat(self, follow_symlinks: bool) -> None:
            raise FileNotFoundError

    (tmp_path / "b.jpg").write_bytes(b"x")
    scandir = os.scandir

    @contextlib.contextmanager
    def with_vanished(folder: Path) -> Iterator[list[object]]:
        with scandir(folder) as entries:
            yield [Vanished(), *entries]

    monkeypatch.setattr(os, "scandir", with_vanished)
    assert file_sizes(tmp_path, ".jpg") == {"b.jpg": 1}
    assert file_sizes(tmp_path, ".png") == {}


def test_no_process_has_an_absurd_number() -> None:
    host = owner_name().rpartition("-")[0].rpartition("-")[0]
    assert owner_runs(f"{host}-99999999999999999999-1") is False
    assert owner_runs("another-1-1") is None
