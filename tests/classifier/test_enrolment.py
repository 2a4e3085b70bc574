from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from audionet._paths import enrolled_path
from audionet.classifier.enrolment import enrol, forget, read_enrolled
from audionet.classifier.prototypes import (
    unit_length,
)
from audionet.errors import ModelError


def test_enrolled_speakers_are_stored_replaced_and_removed(tmp_path: Path) -> None:
    path = enrolled_path(tmp_path / "retrained_graph.tflite")
    assert path.name == "retrained_enrolled.json"
    embeddings = unit_length(np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32))
    assert not enrol(path, "hash", 'Ann "Ö" \udcff', embeddings, 27.0)
    assert enrol(path, "hash", 'Ann "Ö" \udcff', embeddings[:3], 9.0)
    assert not enrol(path, "hash", "ben", embeddings, 27.0)
    found = read_enrolled(path, "hash", 5)
    assert list(found) == ['Ann "Ö" \udcff', "ben"]
    assert found["ben"].speaker.prototypes.shape == (3, 5)
    np.testing.assert_allclose(found["ben"].speaker.centroid, unit_length(embeddings.mean(axis=0)), atol=1e-5)
    assert forget(path, "hash", 5, "ben")
    assert not forget(path, "hash", 5, "ben")
    assert len(read_enrolled(path, "hash", 5)) == 1


def test_speakers_of_another_model_or_a_damaged_file_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "retrained_enrolled.json"
    enrol(path, "hash", "ann", np.eye(3, 5, dtype=np.float32), 9.0)
    with pytest.raises(ModelError, match="were enrolled in another model"):
        read_enrolled(path, "other", 5)
    with pytest.raises(ModelError, match="is damaged: delete it"):
        read_enrolled(path, "hash", 7)
    path.write_text('{"format": 1, "graph_sha256": "hash", "voices": {"ann": {"centroid": [1]}}}')
    with pytest.raises(ModelError, match="is damaged"):
        read_enrolled(path, "hash", 5)
