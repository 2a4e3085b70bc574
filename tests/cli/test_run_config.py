from __future__ import annotations

import json
from pathlib import Path

import pytest

from audionet._paths import model_json_path
from audionet.audio.config import SpectrogramConfig
from audionet.cli.data import parse_args as parse_data
from audionet.cli.run_config import flags_from_file
from audionet.cli.train import config_of, parse_args
from audionet.data.dataset import read_spectrogram_config
from audionet.errors import UsageError
from audionet.utils.settings import from_flags


def test_a_file_sets_what_no_flag_does(tmp_path: Path) -> None:
    path = tmp_path / "run.toml"
    path.write_text('seed = 7\nfolds = 3\nlearning_curve = true\nimage_dir = "my images"\n')
    config = config_of(parse_args([f"--config={path}", "--folds", "4"]))
    assert (config.seed, config.folds, config.learning_curve) == (7, 4, True)
    assert config.image_dir == Path("my images")
    (tmp_path / "run.json").write_text(json.dumps({"augment_label": ["crow=4", "owl=2"], "chunk_seconds": 2}))
    flags = parse_data(["--config", str(tmp_path / "run.json")])
    assert flags.augment_label == ["crow=4", "owl=2"]
    assert flags.chunk_seconds == 2


def test_a_training_is_repeated_from_its_record(chord_model: Path, tone_model: Path, tmp_path: Path) -> None:
    repeated = config_of(parse_args([f"--config={model_json_path(chord_model)}"]))
    assert repeated.architecture == json.loads(model_json_path(chord_model).read_text())["training"]["architecture"]
    assert not repeated.wants_split
    split = config_of(parse_args([f"--config={model_json_path(tone_model)}"]))
    assert split.percentages == (20, 20)
    assert split.unknown_fpr == 10
    assert split.exact


def test_images_are_rendered_again_as_their_record_says(chord_images: Path) -> None:
    flags = parse_data([f"--config={chord_images / 'dataset.json'}"])
    assert from_flags(SpectrogramConfig, flags) == read_spectrogram_config(chord_images)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", '{"seeed": 1}', "seeed is no setting of this command"),
        ("a.json", '{"seed": {"a": 1}}', "seed cannot be dict"),
        ("a.json", "[1]", "is no JSON object or TOML file"),
        ("a.toml", "seed = = 1", "is no JSON object or TOML file"),
        ("a.toml", "\udcff", "is no JSON object or TOML file"),
        ("missing.json", None, "cannot be read: No such file"),
    ],
)
def test_what_is_no_file_of_settings_is_named(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / name).write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(UsageError, match=message):
        flags_from_file(tmp_path / name, {"--seed"})
