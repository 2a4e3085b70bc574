"""Archives that are damaged, escape their folder, hold links and devices, or burst."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audionet.data import unpack as module
from audionet.data.unpack import safe_path, unpack
from audionet.errors import DamagedError
from tests.support.archives import add_member, write_archive

FORMATS = (".zip", ".tar", ".tar.gz", ".tar.bz2", ".tar.xz")
NOISE = os.urandom(3000)


def wanted(path: str) -> str | None:
    """Wants the recordings, in a folder of their own."""
    return f"audio/{PurePosixPath(path).name}" if path.endswith(".wav") else None


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "around" / "out"
    folder.mkdir(parents=True)
    return folder


def everything(tmp_path: Path) -> set[str]:
    return {str(path.relative_to(tmp_path)) for path in (tmp_path / "around").rglob("*") if not path.is_dir()}


@pytest.mark.parametrize("suffix", FORMATS)
def test_wanted_files_alone_are_unpacked(tmp_path: Path, out: Path, suffix: str) -> None:
    files = {"set/a.wav": NOISE, "set/deep/b.wav": b"", "set/notes.txt": b"text", "__MACOSX/set/._a.txt": b"x"}
    archive = write_archive(tmp_path / f"set{suffix}", files)
    assert unpack(archive, out, wanted) == 2
    assert everything(tmp_path) == {"around/out/audio/a.wav", "around/out/audio/b.wav"}
    assert (out / "audio/a.wav").read_bytes() == NOISE


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize(
    "name", ["../a.wav", "set/../../a.wav", "/a.wav", "..", "C:/a.wav", "set\\..\\a.wav", "c:a.txt"]
)
def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, out: Path, suffix: str, name: str) -> None:
    archive = write_archive(tmp_path / f"set{suffix}", {name: NOISE, "set/b.wav": NOISE})
    with pytest.raises(DamagedError, match="leads out of its folder"):
        unpack(archive, out, wanted)
    assert everything(tmp_path) == set()


def test_what_the_caller_makes_of_a_path_does_not_lead_out_either(tmp_path: Path, out: Path) -> None:
    archive = write_archive(tmp_path / "set.zip", {"a.wav": NOISE})
    with pytest.raises(DamagedError, match="leads out"):
        unpack(archive, out, lambda path: f"../{path}")
    assert everything(tmp_path) == set()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_of_a_tar_archive_are_not_made(tmp_path: Path, out: Path, kind: bytes) -> None:
    for name, refused in (("set/notes", False), ("set/a.wav", True)):
        with tarfile.open(tmp_path / "set.tar.gz", "w:gz") as tar:
            add_member(tar, name, type=kind, linkname="/etc/passwd", devmajor=1, devminor=3)
            add_member(tar, "set/b.wav", NOISE)
        if refused:
            with pytest.raises(DamagedError, match=r"set/a\.wav in it is a link or a device"):
                unpack(tmp_path / "set.tar.gz", out, wanted)
        else:
            assert unpack(tmp_path / "set.tar.gz", out, wanted) == 1
    assert everything(tmp_path) == {"around/out/audio/b.wav"}


def test_a_file_behind_a_link_to_another_folder_stays_inside(tmp_path: Path, out: Path) -> None:
    (tmp_path / "around" / "elsewhere").mkdir()
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        add_member(tar, "audio", type=tarfile.SYMTYPE, linkname="../elsewhere")
        add_member(tar, "audio/a.wav", NOISE)
    assert unpack(tmp_path / "set.tar", out, wanted) == 1
    assert everything(tmp_path) == {"around/out/audio/a.wav"}


def test_links_of_a_zip_archive_are_not_made(tmp_path: Path, out: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as zipped:
        info = zipfile.ZipInfo("set/a.wav")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(DamagedError, match="is a link or a device"):
        unpack(tmp_path / "set.zip", out, wanted)
    assert everything(tmp_path) == set()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_bomb_is_refused_before_it_is_written(tmp_path: Path, out: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"set{suffix}", {"set/a.wav": NOISE, "set/b.wav": bytes(60_000_000)})
    if suffix == ".tar":  # which does not compress: but may lie
        info = tarfile.TarInfo("set/b.wav")
        info.size = 10**12
        archive.write_bytes(info.tobuf())
    with pytest.raises(DamagedError, match="far more than recordings can take"):
        unpack(archive, out, wanted)
    assert sum(path.stat().st_size for path in out.rglob("*") if path.is_file()) <= len(NOISE)


def test_a_bomb_beside_the_recordings_is_refused_too(tmp_path: Path, out: Path) -> None:
    archive = write_archive(tmp_path / "set.tar.gz", {"set/notes.txt": bytes(60_000_000), "set/a.wav": NOISE})
    with pytest.raises(DamagedError, match="far more"):
        unpack(archive, out, wanted)


def test_a_zip_that_says_it_is_small_is_damaged(tmp_path: Path, out: Path) -> None:
    archive = write_archive(tmp_path / "set.zip", {"a.wav": bytes(5_000_000)})
    content = archive.read_bytes()
    archive.write_bytes(content.replace(struct.pack("<I", 5_000_000), struct.pack("<I", 100)))
    with pytest.raises(DamagedError, match="damaged"):
        unpack(archive, out, wanted)
    assert sum(path.stat().st_size for path in out.rglob("*.wav")) <= 100


def test_a_million_files_are_refused(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MOST_MEMBERS", 50)
    archive = write_archive(tmp_path / "set.zip", {f"{i}.wav": b"" for i in range(51)})
    with pytest.raises(DamagedError, match="more than 50 files"):
        unpack(archive, out, wanted)


def test_a_header_without_end_is_refused(tmp_path: Path, out: Path) -> None:
    """`tarfile` reads it into memory as a whole."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        add_member(tar, "././@PaxHeader", bytes(20_000_000), type=tarfile.XHDTYPE)
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(buffer.getvalue()))
    with pytest.raises(DamagedError, match="header that is far too long"):
        unpack(tmp_path / "set.tar.gz", out, wanted)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_archive_is_damaged(tmp_path: Path, out: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"set{suffix}", {f"set/{i}.wav": os.urandom(20_000) for i in range(4)})
    content = archive.read_bytes()
    for length in (0, 3, 100, 30_000, len(content) // 2):
        archive.write_bytes(content[:length])
        for written in out.rglob("*.wav"):
            written.unlink()
        with pytest.raises(DamagedError, match=r"damaged or cut off|shorter"):
            unpack(archive, out, wanted)


@pytest.mark.parametrize("suffix", [".zip", ".tar.gz", ".tar.bz2", ".tar.xz"])
def test_a_changed_byte_is_noticed(tmp_path: Path, out: Path, suffix: str) -> None:
    archive = write_archive(tmp_path / f"set{suffix}", {"set/a.wav": os.urandom(50_000)})
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(DamagedError, match="damaged"):
        unpack(archive, out, wanted)


def test_an_archive_that_goes_on_behind_its_end_is_refused(tmp_path: Path, out: Path) -> None:
    archive = write_archive(tmp_path / "set.tar", {"set/a.wav": NOISE})
    content = archive.read_bytes() + bytes(20_000_000)
    (tmp_path / "set.tar.gz").write_bytes(gzip.compress(content))
    with pytest.raises(DamagedError, match="goes on behind its end"):
        unpack(tmp_path / "set.tar.gz", out, wanted)


def test_other_contents_are_no_archive(tmp_path: Path, out: Path) -> None:
    page = tmp_path / "set.zip"
    page.write_text("<html>Please sign in</html>" * 100)
    with pytest.raises(DamagedError, match="damaged or cut off"):
        unpack(page, out, wanted)


def test_two_files_for_one_place_are_refused(tmp_path: Path, out: Path) -> None:
    archive = write_archive(tmp_path / "set.tar", {"one/a.wav": NOISE, "two/a.wav": NOISE[::-1]})
    with pytest.raises(DamagedError, match=r"two/a\.wav twice"):
        unpack(archive, out, wanted)
    assert (out / "audio/a.wav").read_bytes() == NOISE


def test_an_encrypted_archive_is_said_to_be_one(tmp_path: Path, out: Path) -> None:
    archive = write_archive(tmp_path / "set.zip", {"a.wav": NOISE})
    content = bytearray(archive.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    archive.write_bytes(content)
    with pytest.raises(DamagedError, match="encrypted"):
        unpack(archive, out, wanted)


def test_a_full_disk_is_said_to_be_full(tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    archive = write_archive(tmp_path / "set.zip", {"a.wav": NOISE})
    with pytest.raises(OSError, match=r"1\.0 kB are free"):
        unpack(archive, out, wanted)


PARTS = st.lists(st.sampled_from(["..", ".", "", "a", "a.wav", "C:", "\\", "é", "\0", "~", "a" * 300]), max_size=6)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.text(max_size=30), PARTS.map("/".join)))
def test_whatever_a_path_is_it_stays_inside_or_is_refused(name: str) -> None:
    folder = "/top/out"
    try:
        inside = os.path.normpath(f"{folder}/{safe_path(name)}")
    except DamagedError:
        return
    assert inside == folder or inside.startswith(f"{folder}/")
    assert os.path.normpath(f"{folder}/{name}") == inside


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    names=st.lists(PARTS.map(lambda parts: "/".join(parts).replace("\0", "")), min_size=1, max_size=3), data=st.data()
)
def test_whatever_the_members_are_nothing_is_written_outside(
    tmp_path_factory: pytest.TempPathFactory, names: list[str], data: st.DataObject
) -> None:
    tmp_path = tmp_path_factory.mktemp("members")
    out = tmp_path / "around" / "out"
    out.mkdir(parents=True)
    kinds = st.sampled_from([tarfile.REGTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE])
    with tarfile.open(tmp_path / "set.tar", "w") as tar:
        for name in names:
            add_member(tar, name, b"x", type=data.draw(kinds), linkname=data.draw(st.sampled_from(["..", "/", "a"])))
    with contextlib.suppress(DamagedError, OSError):
        unpack(tmp_path / "set.tar", out, lambda path: path)
    assert all(path.startswith("around/out/") for path in everything(tmp_path))
    assert not any(path.is_symlink() for path in (tmp_path / "around").rglob("*"))
