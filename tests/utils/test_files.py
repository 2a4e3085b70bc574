from __future__ import annotations

import errno
import hashlib
import os
import subprocess
from pathlib import Path

import pytest

from audionet.errors import AudioNetError, ModelError
from audionet.utils.files import (
    TEMPORARY_PREFIX,
    atomic_path,
    exclusive_lock,
    make_folder,
    make_writable_folder,
    read_json,
    sha256,
    temporary_path,
    write_bytes,
    write_json,
)
from audionet.utils.text import escape, first_line


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
