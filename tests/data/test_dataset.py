from __future__ import annotations

from pathlib import Path

import pytest

from audionet.audio.config import SpectrogramConfig
from audionet.data.dataset import dataset_json, find_images, read_spectrogram_config
from audionet.errors import DatasetError
from audionet.utils.files import write_json


def make_images(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_labels_are_folders_exactly_as_on_disk(tmp_path: Path) -> None:
    names = (
        "Ann/x_nohash_0001.jpg",
        "ann/x_nohash_0000.jpg",
        "Dr. Ö  /y.JPEG",
        ".hidden/z.jpg",
        "stray.jpg",
        "ann/.t.jpg",
    )
    make_images(tmp_path, *names)
    found = find_images(tmp_path)
    assert [(p.label, p.recording, p.index) for p in found] == [("Ann", "x", 1), ("Dr. Ö  ", "y", 0), ("ann", "x", 0)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), "holds no images"),
        (("ann/a.jpg",), "only 'ann' has images"),
        (("ann/a.jpg", "bob/notes.txt"), r"only 'ann' has images \(nothing in bob\)"),
        (("ann/a.jpg", "b\nb/a.jpg"), "line break"),
    ],
)
def test_unusable_image_folders_are_refused(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    make_images(tmp_path, *names)
    with pytest.raises(DatasetError, match=message):
        find_images(tmp_path)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        find_images(tmp_path / "nowhere")


def test_dataset_json_round_trip(tmp_path: Path) -> None:
    config = SpectrogramConfig(chunk_seconds=1.5, n_mels=64)
    assert read_spectrogram_config(tmp_path) is None
    write_json(tmp_path / "dataset.json", dataset_json(config, {}, None, complete=True))
    assert read_spectrogram_config(tmp_path) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "cannot be read"),
        ("[]", "no JSON object"),
        ('{"complete": false}', "stopped before it had finished"),
        ('{"complete": true, "picture": {"colour": "jet"}}', "not usable"),
        ('{"complete": true, "picture": {"n_mels": 2}}', "not usable"),
        ('{"complete": true}', "not usable"),
    ],
)
def test_a_damaged_dataset_json_is_one_line(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "dataset.json").write_text(content)
    with pytest.raises(DatasetError, match=message) as error:
        read_spectrogram_config(tmp_path)
    assert "run data_maker.py again" in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_of_the_wrong_type_are_refused(tmp_path: Path) -> None:
    for wrong in (
        {"representation": "cqt"},
        {"overlap": "0.5"},
        {"n_mels": True},
        {"loudness": "none"},
        {"hop_ms": None},
    ):
        settings = dataset_json(SpectrogramConfig(), {}, None, complete=True)
        settings["picture"] |= wrong
        write_json(tmp_path / "dataset.json", settings)
        with pytest.raises(DatasetError, match=f"{next(iter(wrong))} is .*run data_maker.py again"):
            read_spectrogram_config(tmp_path)


def test_one_label_in_two_encodings(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mac, others = "Jose\u0301", "Jos\u00e9"
    make_images(tmp_path, f"{mac}/a_nohash_0000.jpg", f"{others}/a_nohash_0000.jpg", "ann/b_nohash_0000.jpg")
    found = find_images(tmp_path)
    assert {image.label for image in found} == {mac, "ann"}
    assert len({(image.label, image.recording) for image in found}) == 3
    assert all(image.path.exists() for image in found)
    assert "joined as one label" in caplog.text
