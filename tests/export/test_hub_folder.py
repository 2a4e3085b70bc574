"""The folder for the hub: what the hub and other programs read of it, and that it labels as the model does."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import audionet
from audionet.backbones.litert import Runner
from audionet.classifier.head import Head, Layer
from audionet.classifier.model_files import load_model_files
from audionet.errors import ModelError, UsageError
from audionet.export import hub_folder
from audionet.export.hub_card import markdown
from audionet.export.hub_folder import export_model, without_paths
from audionet.export.litert import read_head
from audionet.export.model_metrics import card_metrics, report_metrics
from tests.inference.test_predictor import write_sound
from tests.support.files import files_of
from tests.support.models import TONES

huggingface_hub = pytest.importorskip("huggingface_hub")
safetensors = pytest.importorskip("safetensors")

STRANGE = ["yes", "1", "a: b", "#x", "Zo\u00eb \u4e2d\U0001f600"]


@pytest.fixture
def graph(tone_model: Path, tmp_path: Path) -> Path:
    for path in tone_model.parent.glob("retrained_*"):
        shutil.copy(path, tmp_path)
    return tmp_path / tone_model.name


def change_json(graph: Path, **changes: Any) -> dict[str, Any]:
    path = graph.with_name("retrained_model.json")
    card = json.loads(path.read_text()) | changes
    path.write_text(json.dumps(card))
    return card


def card_of(folder: Path) -> Any:
    return huggingface_hub.ModelCard.load(folder / "README.md")


def test_the_folder_labels_as_the_model_does(graph: Path, tmp_path: Path) -> None:
    folder = export_model(graph, tmp_path / "hub")
    assert {path.name for path in folder.iterdir()} == {
        *("README.md", "model.safetensors", "retrained_graph.tflite"),
        *("retrained_labels.txt", "retrained_model.json", "retrained_model.npz"),
    }
    clip = write_sound(tmp_path / "clip.wav", 1200, 2.0)
    found = audionet.load_model(folder / graph.name).predict(clip)
    assert found.label == TONES[2]
    assert found.probabilities == audionet.load_model(graph).predict(clip).probabilities


def test_the_front_matter_is_what_the_hub_reads(graph: Path, tmp_path: Path) -> None:
    card = change_json(graph, labels=STRANGE)
    folder = export_model(graph, tmp_path / "hub", license="cc-by-4.0", dataset="me/tones")
    data = card_of(folder).data
    assert (data.library_name, data.pipeline_tag, data.license) == ("audionet", "audio-classification", "cc-by-4.0")
    assert (data.datasets, data.model_name, data.labels) == (["me/tones"], "hub", STRANGE)
    first, second = data.eval_results
    expected = card["test"]["network"]
    assert first.metric_value == expected["recordings"]["right"] / expected["recordings"]["total"]
    assert first.metric_args["recordings"] == expected["recordings"]["total"] == 10
    assert second.metric_args["chunks"] == expected["chunks"]["total"]
    assert first.metric_args["interval_95"] == [expected["recordings"][end] for end in ("low", "high")]
    assert (first.dataset_type, first.dataset_name) == ("me/tones", "me/tones (test set)")
    again = huggingface_hub.ModelCardData(**data.to_dict())  # a round trip loses nothing
    assert again.to_yaml() == data.to_yaml()
    text = card_of(folder).text
    assert "yes, 1, a\\: b, \\#x, Zo\u00eb \u4e2d\U0001f600" in text
    assert "$" not in text


def test_nothing_is_invented_of_a_model_without_a_test(graph: Path, tmp_path: Path) -> None:
    change_json(graph, test=None)
    folder = export_model(graph, tmp_path / "hub")
    data = card_of(folder).data
    assert data.eval_results is None
    assert data.license is None
    assert "hold no test result" in card_of(folder).text


def test_a_report_of_the_same_model_adds_its_metrics(graph: Path, tmp_path: Path) -> None:
    own = json.loads(graph.with_name("retrained_model.json").read_text())
    report = {
        "model": {"graph_sha256": own["graph_sha256"]},
        "data": {"source": "/home/me/secret", "recordings": 40, "unseen": True, "cross_validated": False},
        "accuracy": {"recordings": {"right": 30, "total": 40, "low": 0.6, "high": 0.86}},
        "labels": {"macro": {"f1": 0.7}},
        "verification": {"pooled": {"equal_error_rate": 0.062, "area": 0.98, "targets": 40, "nontargets": 160}},
        "calibration": {"after": {"brier": None, "calibration_error": 0.03, "recordings": 40}},
    }
    (tmp_path / "report").mkdir()
    path = tmp_path / "report" / "report.json"
    path.write_text(json.dumps(report))
    folder = export_model(graph, tmp_path / "hub", report=tmp_path / "report", dataset="me/tones")
    found = {(one.metric_type, one.dataset_name): one for one in card_of(folder).data.eval_results}
    eer = found["eer", "own recordings (held-out recordings)"]
    assert (eer.metric_value, eer.metric_args) == (0.062, {"targets": 40, "nontargets": 160})
    assert eer.dataset_type == "recordings"  # not the dataset that it was trained on
    assert found["accuracy", "me/tones (test set)"].dataset_split == "test set"
    assert found["accuracy", "own recordings (held-out recordings)"].metric_value == 0.75
    assert {kind for kind, _ in found} == {"accuracy", "f1", "eer", "roc_auc", "ece"}
    text = (folder / "README.md").read_text()
    assert "secret" not in text
    assert "Equal error rate of verification: 6.2% (40 targets and 160 nontargets)" in text
    for changes, message in (
        ({"model": {"graph_sha256": "0"}}, "the report of another model"),
        ({"data": {"unseen": False}}, "were seen in training"),
        ({"model": ["a"]}, "the report of another model"),
        ({"data": 3}, "were seen in training"),
    ):
        path.write_text(json.dumps(report | changes))
        with pytest.raises(ModelError, match=message):
            export_model(graph, tmp_path / "hub", report=path)


def test_metrics_that_are_missing_or_of_another_form_are_left_out() -> None:
    for card in ({}, {"test": None}, {"test": {"network": {"recordings": {"right": 1}}}}, {"test": {"network": {}}}):
        assert card_metrics(card) == []
    assert report_metrics({}) == report_metrics({"verification": {"pooled": None}, "labels": {"macro": {}}}) == []


_KEYS = st.sampled_from(["recordings", "pooled", "after", "macro", "all_right", "brier", "right", "total"])
_DAMAGED = st.recursive(
    st.none() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(_KEYS, inner),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.too_slow])  # the first draw, by older versions of hypothesis
@given(
    st.dictionaries(
        st.sampled_from(["data", "accuracy", "labels", "verification", "calibration", "multi_label"]), _DAMAGED
    )
)
def test_no_damaged_report_stops_the_export_or_shows_what_is_no_number(report: dict[str, Any]) -> None:
    for metric in report_metrics(report):
        assert str(metric)
        assert all(isinstance(count, int) for count in metric.counts.values())


def test_other_programs_read_the_weights(graph: Path, tmp_path: Path) -> None:
    folder = export_model(graph, tmp_path / "hub")
    with safetensors.safe_open(folder / "model.safetensors", "np") as stream:
        metadata, arrays = stream.metadata(), {name: stream.get_tensor(name) for name in stream.keys()}  # noqa: SIM118
    files = load_model_files(graph)
    assert json.loads(metadata["labels"]) == list(TONES)
    assert json.loads(metadata["calibration"]) == files.card["calibration"]
    assert metadata["graph_sha256"] == hashlib.sha256(graph.read_bytes()).hexdigest()
    for name in ("centroids", "prototypes", "counts", "norms", "background", "cohort", "low", "high"):
        np.testing.assert_array_equal(arrays[f"speakers.{name}"], getattr(files.arrays.voices, name))
    image = np.random.default_rng(0).integers(0, 256, (1, 64, 48, 3)).astype(np.uint8)
    features = image.astype(np.float32).mean((2, 3))  # what this model's network computes
    logits = (features - arrays["head.offset"]) * arrays["head.scale"] @ arrays["head.last.weight"].T
    expected = np.exp(logits + arrays["head.last.bias"])
    embedding = features @ arrays["embedding.weight"].T + arrays["embedding.bias"]
    runner = Runner(files.network)
    np.testing.assert_allclose(runner(image), (expected / expected.sum())[0], atol=1e-4)
    assert embedding.shape == (1, arrays["speakers.centroids"].shape[1])


@pytest.mark.parametrize("kind", ["linear", "mlp", "cosine"])
def test_a_head_is_read_as_it_was_joined(kind: str, tone_model: Path, lite_backbone: Path, model_dir: Path) -> None:
    from audionet.backbones.registry import prepare
    from audionet.export.litert import join_head

    generator = np.random.default_rng(0)

    def layer(inputs: int, outputs: int) -> Layer:
        return Layer(*(generator.standard_normal(s).astype(np.float32) for s in ((inputs, outputs), (outputs,))))

    backbone = prepare(str(lite_backbone), model_dir, None, lambda size: np.zeros((1, *size, 3), np.uint8))
    offset, scale = generator.standard_normal((2, 64)).astype(np.float32)
    head = Head(
        offset, scale, layer(64, 8) if kind == "mlp" else None, kind == "cosine", layer(8 if kind == "mlp" else 64, 3)
    )
    space = layer(64, 5)
    found, found_space = read_head(join_head(backbone, head, "final_result", space))
    assert found.kind == kind
    for ours, theirs in ((head.last, found.last), (space, found_space), (head.hidden, found.hidden)):
        assert (ours is None) == (theirs is None)
        if ours is not None and theirs is not None:
            np.testing.assert_array_equal(ours.weights, theirs.weights)
            np.testing.assert_array_equal(ours.biases, theirs.biases)
    np.testing.assert_array_equal(found.offset, offset)
    np.testing.assert_array_equal(found.scale, scale)


def test_a_network_without_a_head_is_said(lite_backbone: Path) -> None:
    with pytest.raises(ModelError, match="holds no tensor 'standardise/offset'"):
        read_head((lite_backbone / "row_average.tflite").read_bytes())


def test_an_interrupted_export_leaves_no_folder(graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "model.safetensors":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    before = set(tmp_path.iterdir())
    with pytest.raises(OSError, match="No space left"):
        export_model(graph, tmp_path / "hub")
    assert set(tmp_path.iterdir()) == before


def test_an_earlier_export_is_replaced_and_other_files_stay(graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "clone"
    (folder / ".git").mkdir(parents=True)  # as git clone leaves an empty repository
    (folder / ".git" / "config").write_text("mine")
    export_model(graph, folder)
    (folder / "notes.txt").write_text("mine")
    export_model(graph, folder, license="mit")
    assert card_of(folder).data.license == "mit"
    assert (folder / ".git" / "config").read_text() == (folder / "notes.txt").read_text() == "mine"
    assert not list(folder.glob("README-*.md"))
    text = (folder / "README.md").read_text() + "More words.\n"
    (folder / "README.md").write_text(text)
    export_model(graph, folder)
    (kept,) = folder.glob("README-*.md")
    assert kept.read_text() == text
    assert audionet.load_model(folder / graph.name).labels == list(TONES)


def test_foreign_folders_are_refused(graph: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "README.md").write_text("# mine\n")
    before = files_of(folder)
    for target in (folder, folder / "README.md"):
        with pytest.raises(UsageError, match="holds files that no export wrote: name a new folder"):
            export_model(graph, target)
    assert files_of(folder) == before


def test_what_is_private_stays_out(graph: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    graph.with_name("retrained_enrolled.json").write_text("{}")
    change_json(graph, training={**load_model_files(graph).card["training"], "architecture": "/home/me/row_average"})
    folder = export_model(graph, tmp_path / "hub")
    assert not (folder / "retrained_enrolled.json").exists()
    assert "stay out of the export" in caplog.text
    exported = json.loads((folder / "retrained_model.json").read_text())
    assert exported["training"]["architecture"] == "row_average"
    assert without_paths({"a": ["/x/y", "x/y", 1, None]}) == {"a": ["y", "x/y", 1, None]}


def test_a_model_that_is_incomplete_is_not_exported(graph: Path, tmp_path: Path) -> None:
    graph.with_name("retrained_model.npz").unlink()
    with pytest.raises(ModelError, match=r"retrained_model\.npz, which belongs to"):
        export_model(graph, tmp_path / "hub")
    assert not (tmp_path / "hub").exists()


def test_text_is_shown_as_it_is() -> None:
    assert markdown("[x](y) <b> `c` | #\n") == r"\[x\]\(y\) \<b\> \`c\` \| \#\\n"


def test_the_command_says_what_it_wrote(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from audionet.cli import export

    export.main(["--graph", str(graph), "--to", str(tmp_path / "hub")])
    out = capsys.readouterr().out
    assert "model.safetensors" in out
    assert "No licence is stated" in out
    assert f"hf upload OWNER/NAME {tmp_path / 'hub'}" in out
    assert hub_folder.CARD_NAME in out


def test_a_model_of_several_labels_at_a_time_says_so(chord_model: Path, tmp_path: Path) -> None:
    export_model(chord_model, tmp_path / "hub")
    text = (tmp_path / "hub" / "README.md").read_text()
    assert "which of 3 labels, any number of them at a time" in text
    assert re.search(r"Mean average precision: [01]\.\d{3} \(40 recordings, 95 % interval [01]\.\d{3} to [01]\.", text)
    results = card_of(tmp_path / "hub").data.eval_results
    assert {result.metric_type for result in results} == {"mean_average_precision", "f1", "accuracy"}
    with safetensors.safe_open(tmp_path / "hub" / "model.safetensors", "numpy") as weights:
        assert weights.metadata()["activation"] == "logistic"
        assert len(json.loads(weights.metadata()["thresholds"])) == 3
    head, _ = read_head(next((tmp_path / "hub").glob("*.tflite")).read_bytes())
    assert head.independent
