from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from audionet.backbones.registry import BUNDLED, prepare
from audionet.backbones.voice_space import read_voice_space, write_voice_space
from audionet.errors import BackboneError
from audionet.utils.files import sha256
from tests.support.features import voice_space


def test_a_voice_space_comes_back_as_it_went(tmp_path: Path) -> None:
    space, path = voice_space(), tmp_path / "voice_space.npz"
    write_voice_space(path, space)
    found = read_voice_space(path, sha256(path))
    for name, value in dataclasses.asdict(space).items():
        np.testing.assert_allclose(getattr(found, name), value, atol=1e-3)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BackboneError, match=r"voice_space\.npz is damaged"):
        read_voice_space(path, "0")
    with pytest.raises(BackboneError, match=r"voice_space\.npz is damaged: reinstall"):
        read_voice_space(path, sha256(path))
    path.unlink()
    with pytest.raises(BackboneError, match="is missing"):
        read_voice_space(path, "0")


def test_appended_statistics_are_no_part_of_a_voice() -> None:
    space = voice_space()
    features = np.random.default_rng(0).standard_normal((3, len(space.projection))).astype(np.float32)
    more = np.concatenate([features, np.full((3, 40), 9, np.float32)], axis=1)
    np.testing.assert_array_equal(space.directions(more), space.directions(features))
    np.testing.assert_allclose(np.linalg.norm(space.directions(features), axis=1), 1, rtol=1e-5)


def test_the_bundled_backbone_has_a_voice_space_for_its_own_features(tmp_path: Path) -> None:
    found = prepare("inception_v3_speech", tmp_path, None, lambda size: np.zeros((1, *size, 3), np.uint8))
    space = found.voice_space
    assert space is not None
    assert space.projection.shape == (found.width, 128)
    np.testing.assert_allclose(np.linalg.norm(space.cohort, axis=1), 1, atol=1e-2)
    stored = json.loads((BUNDLED / "inception_v3_speech" / "backbone.json").read_text())["voice_space"]
    assert (BUNDLED / "inception_v3_speech" / stored["file"]).stat().st_size < 2_000_000
