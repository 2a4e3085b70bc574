from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import pytest

from audionet._paths import model_json_path
from audionet.audio.config import SpectrogramConfig
from audionet.data.config import DataConfig
from audionet.errors import UsageError
from audionet.inference.config import LabelConfig
from audionet.serving.config import ServeConfig
from audionet.training.config import RetrainConfig, StepConfig
from audionet.utils.settings import add_flags, from_flags


@pytest.mark.parametrize("config", [SpectrogramConfig, DataConfig, RetrainConfig, LabelConfig, ServeConfig])
def test_flags_are_the_fields_with_their_defaults(config: type) -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, config)
    assert from_flags(config, parser.parse_args([])) == config()
    parser.format_help()
    assert {action.dest for action in parser._actions} - {"help"} == {f.name for f in dataclasses.fields(config)} - {
        "steps"
    }


def test_flags_have_the_fields_types() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, RetrainConfig)
    flags = parser.parse_args(
        ["--image_dir", "a", "--unknown_fpr", "0.5", "--input_size", "96", "--print_misclassified_test_images"]
    )
    config = from_flags(RetrainConfig, flags)
    assert (config.image_dir, config.unknown_fpr, config.input_size) == (Path("a"), 0.5, 96)
    assert config.print_misclassified_test_images


def test_optional_flags_leave_no_trace_unless_given() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser, StepConfig, optional=True)
    assert vars(parser.parse_args([])) == {}
    flags = parser.parse_args(["--how_many_training_steps=500"])
    assert vars(flags) == {"how_many_training_steps": 500}
    assert from_flags(StepConfig, flags) == StepConfig()


def test_the_default_image_is_the_one_the_backbone_knows() -> None:
    config = SpectrogramConfig()
    assert (config.window_length, config.hop_length, config.fft_length) == (400, 160, 512)
    assert (config.chunk_length, config.frames) == (48_000, 297)


@pytest.mark.parametrize(
    ("config", "values"),
    [
        (SpectrogramConfig, {"chunk_seconds": 0}),
        (SpectrogramConfig, {"chunk_seconds": float("nan")}),
        (SpectrogramConfig, {"sample_rate": -1}),
        (SpectrogramConfig, {"hop_ms": 30.0}),
        (SpectrogramConfig, {"min_frequency": 8000.0}),
        (SpectrogramConfig, {"jpeg_quality": 101}),
        (SpectrogramConfig, {"max_frequency": float("inf")}),
        (SpectrogramConfig, {"max_frequency": float("nan")}),
        (SpectrogramConfig, {"chunk_seconds": 0.1, "window_ms": 100.0, "hop_ms": 100.0}),
        (RetrainConfig, {"seed": -1}),
        (RetrainConfig, {"input_size": 0}),
        (RetrainConfig, {"output_labels": Path("x.tflite"), "output_graph": Path("x.tflite")}),
        (RetrainConfig, {"output_labels": Path("x_model.json"), "output_graph": Path("x.tflite")}),
        (DataConfig, {"workers": 0}),
        (ServeConfig, {"port": 65536}),
        (ServeConfig, {"max_megabytes": float("nan")}),
        (ServeConfig, {"queue": 0}),
        (RetrainConfig, {"testing_percentage": 60.0, "validation_percentage": 40.0}),
        (RetrainConfig, {"testing_percentage": -1.0}),
        (StepConfig, {"learning_rate": float("nan")}),
        (StepConfig, {"how_many_training_steps": 0}),
        (RetrainConfig, {"folds": 1}),
        (RetrainConfig, {"repeats": 0}),
        (RetrainConfig, {"group": "("}),
        (RetrainConfig, {"output_graph": Path("graph.docx")}),
        (LabelConfig, {"top_k": -1}),
    ],
)
def test_nonsense_is_refused_by_flag_and_value(config: type, values: dict[str, object]) -> None:
    with pytest.raises(UsageError) as error:
        config(**values)
    name, value = next(iter(values.items()))
    assert f"{name}" in str(error.value)
    assert "must be" in str(error.value)
    if name != "testing_percentage":
        assert str(value) in str(error.value)


@pytest.mark.parametrize("key", ["brief", "long enough but with blanks", "schlüssel-schlüssel", ""])
def test_a_key_that_is_no_good_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(UsageError, match="api_key") as error:
        ServeConfig(api_key=key)
    assert not key or key not in str(error.value)


@pytest.mark.parametrize("origin", ["https://example.org/page", "*", "example.org", "https://*.example.org"])
def test_an_origin_is_a_scheme_and_a_host(origin: str) -> None:
    with pytest.raises(UsageError, match="cors_origin"):
        ServeConfig(cors_origin=(origin,))


def test_the_band_edge_follows_a_low_sample_rate() -> None:
    assert SpectrogramConfig(sample_rate=8_000).top_frequency == 4_000


@pytest.mark.parametrize(
    ("graph", "card"),
    [("retrained_graph.tflite", "retrained_model.json"), ("a/speakers.tflite", "a/speakers_model.json")],
)
def test_every_model_has_its_own_json(graph: str, card: str) -> None:
    assert model_json_path(Path(graph)) == Path(card)


@pytest.mark.parametrize("representation", ["linear", "chroma"])
def test_a_image_needs_bins(representation) -> None:
    with pytest.raises(UsageError, match=r"max_frequency is 10: .*FFT bins"):
        SpectrogramConfig(representation=representation, min_frequency=9, max_frequency=10)
