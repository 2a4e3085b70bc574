from __future__ import annotations

import dataclasses
import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audionet.audio.config import SpectrogramConfig
from audionet.augment.config import MAX_COPIES, AugmentConfig
from audionet.data.augmented_copies import copies_by_label, copies_of
from audionet.data.config import DataConfig
from audionet.data.dataset import find_images
from audionet.data.naming import parse_chunk_name
from audionet.data.render import render_folder
from audionet.data.split import split_images
from audionet.errors import UsageError
from tests.support.files import files_of
from tests.support.sounds import SAMPLE_AUDIO, write_tone

HALF = SpectrogramConfig(chunk_seconds=0.5)


@pytest.fixture
def data(tmp_path: Path) -> DataConfig:
    for number in range(4):
        write_tone(tmp_path / "audio" / "ann" / f"{number}.wav", 300 + 100 * number, seconds=2)
    write_tone(tmp_path / "audio" / "bob" / "0.wav", seconds=1.5)
    return DataConfig(tmp_path / "audio", tmp_path / "wav", tmp_path / "image", workers=2)


def copies_in(folder: Path) -> Counter[str]:
    return Counter(path.parent.name for path in folder.rglob("*") if parse_chunk_name(path.stem).copy)


@given(
    chunks=st.dictionaries(st.text(max_size=3), st.integers(0, 500), min_size=1, max_size=5),
    each=st.integers(0, 5),
    balance=st.booleans(),
)
def test_balance_gives_more_copies_to_smaller_labels(chunks: dict[str, int], each: int, balance: bool) -> None:
    wanted = copies_by_label(chunks, AugmentConfig(augment=each, balance=balance))
    most = max(number * (1 + each) for number in chunks.values())
    for label, number in chunks.items():
        if not balance:
            assert wanted[label] == each * number
        else:
            assert wanted[label] in (most - number, MAX_COPIES * number)
            assert each * number <= wanted[label] <= max(each, MAX_COPIES) * number


@given(st.integers(1, 40), st.integers(0, 200))
def test_copies_are_spread_evenly(chunks: int, total: int) -> None:
    found = copies_of("ann", [("x.wav", number) for number in range(chunks)], total)
    assert len(found) == total
    each = Counter(name.number for name in found)
    assert max(each.values(), default=0) - min((each[number] for number in range(chunks)), default=0) <= 1
    for number in range(chunks):
        assert {name.copy for name in found if name.number == number} == set(range(1, 1 + each[number]))


def test_an_unknown_label_is_refused_before_rendering(data: DataConfig) -> None:
    with pytest.raises(UsageError, match="augment_label crow: there is no such label"):
        render_folder(data, HALF, AugmentConfig(augment_label=("ann=1", "crow=2")))
    assert not data.image_dir.exists()


def test_copies_per_chunk_and_per_label(data: DataConfig) -> None:
    result = render_folder(data, HALF, AugmentConfig(augment=2, augment_label=("bob=3",)))
    assert (result.rendered, result.varied) == (5, 16 * 2 + 3 * 3)
    assert copies_in(data.image_dir) == copies_in(data.wav_dir) == {"ann": 32, "bob": 9}
    assert (data.image_dir / "bob" / "0.wav_nohash_0002_aug3.jpg").exists()
    described = json.loads((data.image_dir / "dataset.json").read_text())
    assert described["augmentation"]["seed"] == 0
    assert {label: summary["variants"] for label, summary in described["labels"].items()} == {"ann": 32, "bob": 9}


def test_balance_equalises_the_labels(data: DataConfig) -> None:
    render_folder(data, HALF, AugmentConfig(balance=True))
    assert copies_in(data.image_dir) == {"bob": 13}
    images = Counter(image.label for image in find_images(data.image_dir))
    assert images == {"ann": 16, "bob": 16}


def test_files_do_not_depend_on_workers_or_earlier_runs(data: DataConfig, tmp_path: Path) -> None:
    augment = AugmentConfig(augment=3)
    render_folder(data, HALF, augment)
    other = DataConfig(data.audio_dir, tmp_path / "two" / "wav", tmp_path / "two" / "image", workers=1)
    for step in (AugmentConfig(), AugmentConfig(augment=1, augment_seed=9), AugmentConfig(augment=5), augment):
        render_folder(other, HALF, step)
    assert files_of(other.wav_dir, other.image_dir) == files_of(data.wav_dir, data.image_dir)


def test_existing_copies_are_not_rendered_again(data: DataConfig) -> None:
    augment = AugmentConfig(augment=2)
    render_folder(data, HALF, augment)
    before = {path: path.stat().st_mtime_ns for path in data.image_dir.rglob("*")}
    result = render_folder(data, HALF, augment)
    assert (result.rendered, result.varied, result.removed) == (0, 0, 0)
    assert {path: path.stat().st_mtime_ns for path in data.image_dir.rglob("*")} == before
    lost = data.wav_dir / "ann" / "0.wav_nohash_0001_aug2.wav"
    lost.unlink()
    assert render_folder(data, HALF, augment).varied == 1
    assert lost.exists()
    assert render_folder(data, HALF, AugmentConfig(augment=3)).varied == 19
    fewer = render_folder(data, HALF, AugmentConfig(augment=1))
    assert (fewer.varied, fewer.removed) == (0, 2 * 2 * 19)
    assert render_folder(data, HALF).removed == 2 * 19
    assert not copies_in(data.image_dir)


def test_a_changed_recording_changes_its_copies(data: DataConfig, tmp_path: Path) -> None:
    augment = AugmentConfig(augment=2)
    render_folder(data, HALF, augment)
    write_tone(data.audio_dir / "ann" / "0.wav", 999, seconds=2)
    assert render_folder(data, HALF, augment).varied == 8
    anew = dataclasses.replace(data, wav_dir=tmp_path / "anew" / "wav", image_dir=tmp_path / "anew" / "image")
    render_folder(anew, HALF, augment)
    assert files_of(anew.wav_dir, anew.image_dir) == files_of(data.wav_dir, data.image_dir)
    (data.audio_dir / "ann" / "0.wav").unlink()
    render_folder(data, HALF, augment)
    assert not list(data.image_dir.glob("ann/0.wav*"))


def test_copies_of_a_run_killed_between_two_recipes_are_removed(data: DataConfig) -> None:
    render_folder(data, HALF, AugmentConfig(augment=1))
    path = data.image_dir / "dataset.json"
    half_way = json.loads(path.read_text()) | {"augmentation": {}, "complete": False}
    path.write_text(json.dumps(half_way))
    render_folder(data, HALF)
    assert not copies_in(data.image_dir)
    assert json.loads(path.read_text())["augmentation"] is None


def test_the_users_own_files_are_no_copies(data: DataConfig) -> None:
    render_folder(data, HALF, AugmentConfig(augment=1))
    mine = data.image_dir / "ann" / "theirs.wav_nohash_0000_aug1.jpg"
    mine.write_bytes(b"mine")
    render_folder(data, HALF)
    assert [path.name for path in data.image_dir.rglob("*_aug*")] == [mine.name]


def test_copies_are_in_the_training_set_only(tmp_path: Path) -> None:
    data = DataConfig(SAMPLE_AUDIO, tmp_path / "wav", tmp_path / "image")
    render_folder(data, SpectrogramConfig(), AugmentConfig(augment=1, augment_kinds="gain,codec"))
    images = find_images(data.image_dir)
    split = split_images(images, 20, 20)
    bare = split_images([image for image in images if not image.copy], 20, 20)
    assert {image.copy for image in split.sets["training"]} == {0, 1}
    for name in ("validation", "testing"):
        assert split.sets[name] == bare.sets[name]
    trained = {(image.label, image.recording) for image in bare.sets["training"]}
    assert {(image.label, image.recording) for image in split.sets["training"]} == trained
    assert len(split.sets["training"]) == 2 * len(bare.sets["training"])
    assert split.dropped == sum(len(bare.sets[name]) for name in ("validation", "testing"))


@pytest.mark.parametrize(("rate", "kind"), [(7000, "telephone"), (384_000, "codec")])
def test_a_sample_rate_unfit_for_telephone_or_codec_is_refused(data: DataConfig, rate: int, kind: str) -> None:
    with pytest.raises(UsageError, match=f"leave {kind} out of augment_kinds"):
        render_folder(data, SpectrogramConfig(sample_rate=rate, chunk_seconds=0.5), AugmentConfig(augment=1))


def test_empty_copies_are_rendered_again(data: DataConfig) -> None:
    augment = AugmentConfig(augment=1)
    render_folder(data, HALF, augment)
    before = files_of(data.image_dir, data.wav_dir)
    copies = [path for path in data.image_dir.rglob("*.jpg") if parse_chunk_name(path.stem).copy]
    for path in copies[:2]:
        path.write_bytes(b"")
    result = render_folder(data, HALF, augment)
    assert (result.rendered, result.varied, result.removed) == (0, 2, 0)
    assert files_of(data.image_dir, data.wav_dir) == before
