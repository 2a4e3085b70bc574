"""Inference: labels, unknown speakers, enrolment, costs, verification and diarization."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from audionet._paths import arrays_path, enrolled_path, model_json_path
from audionet.classifier.decision import Costs
from audionet.classifier.model_files import pack_arrays, parse_arrays
from audionet.cli.label import main as label
from audionet.errors import AudioNetError, ModelError, RecordingError, UsageError
from audionet.evaluation.costs import parse_costs
from audionet.inference.answer import Decision
from audionet.inference.clip import Clip
from audionet.inference.diarization import diarize_to_files
from audionet.inference.predictor import Predictor
from audionet.inference.verification import Verifier, enrol_from_clips, forget_voice
from audionet.utils.files import content_hash, write_json
from tests.support.encoding import encode_tracks
from tests.support.models import TONES
from tests.support.networks import edit_network
from tests.support.scripts import run_script
from tests.support.sounds import tone


@pytest.fixture
def graph(tone_model: Path, tmp_path: Path) -> Path:
    """Copy of the model that a test may change."""
    for name in ("retrained_graph.tflite", "retrained_model.json", "retrained_model.npz", "retrained_labels.txt"):
        shutil.copy(tone_model.with_name(name), tmp_path / name)
    return tmp_path / tone_model.name


def sound(frequency: float, seconds: float, seed: int = 0) -> np.ndarray:
    """Make a tone like the training data, with a little noise."""
    noise = np.random.default_rng(seed).standard_normal(round(seconds * 16_000))
    return 0.49 * (tone(frequency, seconds) + 0.05 * noise)


def write_sound(path: Path, frequency: float, seconds: float) -> Path:
    soundfile.write(path, sound(frequency, seconds), 16_000)
    return path


def change(graph: Path, **entries: object) -> None:
    path = model_json_path(graph)
    write_json(path, json.loads(path.read_text()) | entries)


def test_a_known_sound_gets_its_label_and_another_none(graph: Path, tmp_path: Path) -> None:
    predictor = Predictor(graph)
    assert predictor.rejection is not None
    answer = predictor.answer(write_sound(tmp_path / "known.wav", 1200, 2.0))
    threshold = predictor.rejection.several
    assert answer.decision == Decision("c1200", pytest.approx(answer.scores.max()), False, threshold)
    assert answer.decision.score >= threshold
    noise = 0.1 * np.random.default_rng(0).standard_normal(32_000)
    soundfile.write(tmp_path / "noise.wav", noise, 16_000)
    answer = predictor.answer(tmp_path / "noise.wav")
    assert answer.decision.label is None
    assert answer.decision.score < threshold
    assert answer.probabilities.sum() == pytest.approx(1, abs=1e-4)


def test_without_a_threshold_nothing_is_unknown(graph: Path, tmp_path: Path) -> None:
    card = json.loads(model_json_path(graph).read_text())
    change(graph, open_set=card["open_set"] | {"rejection": None})
    soundfile.write(tmp_path / "noise.wav", 0.1 * np.random.default_rng(0).standard_normal(32_000), 16_000)
    assert Predictor(graph).answer(tmp_path / "noise.wav").decision.label in TONES


def test_mistakes_that_cost_more_move_the_decision(graph: Path) -> None:
    predictor = Predictor(graph)
    probabilities = np.float32([0.7, 0.3, 0, 0, 0])
    scores = np.float32([1.0, 0.5, 0, 0, 0])
    assert predictor.decider.decide(probabilities, scores, 4).label == "a300"
    costs = parse_costs(["b600:a300=10"], TONES)
    predictor.rule = dataclasses.replace(predictor.rule, costs=costs)
    assert predictor.decider.decide(probabilities, scores, 4).label == "b600"
    change(graph, decision=predictor.rule.as_json(TONES))
    assert Predictor(graph).decider.decide(probabilities, scores, 4).label == "b600"
    change(graph, decision={"costs": [{"true": "x", "predicted": "b600", "cost": 2}], "caution": 1})
    with pytest.raises(ModelError, match="none of the model's labels"):
        Predictor(graph)
    assert Costs(5).exceptions == ()


def test_an_enrolled_speaker_is_recognised_until_it_is_removed(graph: Path, tmp_path: Path) -> None:
    clip = write_sound(tmp_path / "new.wav", 3400, 12.0)
    before = Predictor(graph).answer(clip)
    assert before.decision.label is None
    done = enrol_from_clips(Predictor(graph), "Ö 'x'", [clip])
    assert (done.seconds, done.replaced, done.failed) == (pytest.approx(12.0), False, {})
    assert done.norm < 0.5  # nothing like it was in training
    assert done.resembles is None
    assert enrol_from_clips(Predictor(graph), "b", [write_sound(tmp_path / "b.wav", 600, 12.0)]).resembles == "b600"
    forget_voice(Predictor(graph), "b")
    predictor = Predictor(graph)
    other = predictor.answer(write_sound(tmp_path / "again.wav", 3400, 3.0))
    assert other.decision.label == "Ö 'x'"
    assert other.decision.enrolled
    assert other.scores[:5].max() == pytest.approx(before.scores.max(), abs=0.05)
    assert predictor.answer(write_sound(tmp_path / "known.wav", 600, 2.0)).decision.label == "b600"
    forget_voice(predictor, "Ö 'x'")
    assert Predictor(graph).answer(clip).decision.label is None
    with pytest.raises(UsageError, match=r"no speaker of that name is enrolled \(enrolled: none\)"):
        forget_voice(Predictor(graph), "Ö 'x'")


def test_names_in_another_encoding_of_their_accents(graph: Path, tmp_path: Path) -> None:
    clip = write_sound(tmp_path / "new.wav", 3400, 12.0)
    enrol_from_clips(Predictor(graph), "Jose\u0301", [clip])
    assert enrol_from_clips(Predictor(graph), "Jos\u00e9", [clip]).replaced
    assert list(Predictor(graph).enrolled) == ["Jose\u0301"]
    assert Verifier(Predictor(graph), "Jos\u00e9").verify(clip).accepted
    forget_voice(Predictor(graph), "Jos\u00e9")
    assert not Predictor(graph).enrolled


def test_each_channel_is_a_clip_of_its_own(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = np.stack([sound(600, 4), sound(1200, 4, 1)], axis=1)
    soundfile.write(tmp_path / "call.wav", both, 16_000)
    label([str(tmp_path / "call.wav"), "--graph", str(graph), "--channels", "split", "--json"])
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(a["file"], a["channel"], a["decision"]) for a in answers] == [
        (str(tmp_path / "call.wav"), 1, "b600"),
        (str(tmp_path / "call.wav"), 2, "c1200"),
    ]
    soundfile.write(tmp_path / "half.wav", np.stack([np.zeros(64_000), sound(600, 4)], axis=1), 16_000)
    with pytest.raises(AudioNetError, match="1 of 2 clips could not be judged"):
        label([str(tmp_path / "half.wav"), "--graph", str(graph), "--channels", "split", "--json"])
    silent, heard = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (silent["channel"], silent["error"]) == (1, "is silent from beginning to end")
    assert (heard["channel"], heard["decision"]) == (2, "b600")
    label([str(tmp_path / "call.wav"), "--graph", str(graph), "--channel", "2"])
    assert "call.wav (channel 2) (4.0 s" in capsys.readouterr().out
    with pytest.raises(UsageError, match="a number from 1, auto, mean or split"):
        label([str(tmp_path / "call.wav"), "--graph", str(graph), "--channel", "left"])


def test_remarks_come_with_the_answer(graph: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    left = sound(600, 4)
    soundfile.write(tmp_path / "x.wav", np.stack([left, -left], axis=1), 16_000)
    answer = Predictor(graph).answer(tmp_path / "x.wav")
    assert answer.decision.label == "b600"
    assert answer.remark == "its channels cancel each other: where they do, channel 1 is used alone"
    label([str(tmp_path / "x.wav"), "--graph", str(graph)])
    assert f"  note: {answer.remark}" in capsys.readouterr().out


def test_answers_and_timelines_are_on_the_clock_of_the_film(graph: Path, tmp_path: Path) -> None:
    parts = [(5.0, sound(600, 6)), (20.0, sound(1200, 6))]
    path = encode_tracks(tmp_path / "film.mka", [("flac", parts)])
    answer = Predictor(graph).answer(path)
    assert answer.seconds == pytest.approx(26, abs=0.1)
    assert answer.chunks[0].start == pytest.approx(5, abs=0.05)
    assert answer.chunks[-1].start >= 20
    found = diarize_to_files(Predictor(graph), path, None, tmp_path / "out", "film")
    assert [(round(s.start), round(s.end)) for s in found.segments] == [(5, 11), (20, 26)]
    turns = (tmp_path / "out" / "film.rttm").read_text().splitlines()
    assert any(float(line.split()[3]) == pytest.approx(20, abs=0.1) for line in turns)


@pytest.mark.parametrize(
    ("name", "message"),
    [("c1200", "trained on a label of that name")]
    + [(name, "not a valid name") for name in ("", " ", "a\nb", "_unknown_", "unknown")],
)
def test_invalid_names_for_a_new_speaker(graph: Path, tmp_path: Path, name: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        enrol_from_clips(Predictor(graph), name, [write_sound(tmp_path / "x.wav", 3000, 1.0)])
    assert not enrolled_path(graph).exists()


def test_clips_that_cannot_be_enrolled_are_left_out(graph: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("words")
    soundfile.write(tmp_path / "silent.wav", np.zeros(16_000), 16_000)
    bad = [tmp_path / "text.wav", tmp_path / "silent.wav", tmp_path / "gone.wav"]
    with pytest.raises(RecordingError, match=r"no clip can be used to enrol ann: .*silent\.wav is silent"):
        enrol_from_clips(Predictor(graph), "ann", bad)
    done = enrol_from_clips(Predictor(graph), "ann", [*bad, write_sound(tmp_path / "x.wav", 3000, 4.0)])
    assert set(done.failed) == set(bad)
    assert done.failed[tmp_path / "silent.wav"] == "is silent from beginning to end"


def test_speakers_enrolled_before_the_model_was_trained_again_are_refused(graph: Path, tmp_path: Path) -> None:
    enrol_from_clips(Predictor(graph), "ann", [write_sound(tmp_path / "x.wav", 3000, 12.0)])
    path = enrolled_path(graph)
    write_json(path, json.loads(path.read_text()) | {"graph_sha256": "0"})
    with pytest.raises(ModelError, match="were enrolled in another model, or before this one was trained again"):
        Predictor(graph)


def test_arrays_that_do_not_belong_to_the_model_are_refused(graph: Path) -> None:
    arrays = parse_arrays(arrays_path(graph).read_bytes())
    arrays_path(graph).write_bytes(pack_arrays(dataclasses.replace(arrays, known=arrays.known[1:])))
    with pytest.raises(ModelError, match=r"does not belong to retrained_model\.npz"):
        Predictor(graph)
    change(graph, arrays_sha256=content_hash(arrays_path(graph)))
    Predictor(graph)
    arrays_path(graph).unlink()
    with pytest.raises(ModelError, match=r"retrained_model\.npz, which belongs to .* is missing: run retrain"):
        Predictor(graph)


def test_a_network_that_does_not_fit_its_labels_is_refused(graph: Path) -> None:
    def swap(_: Any, network: Any) -> None:
        network.outputs = network.outputs[::-1]

    def drop(_: Any, network: Any) -> None:
        network.outputs = network.outputs[:1]

    message = r"retrained_graph\.tflite takes or returns something else than retrained_model\.json says: run retrain"
    for edit in (swap, drop):
        original = graph.read_bytes()
        edit_network(graph, graph, edit)
        change(graph, graph_sha256=content_hash(graph))
        with pytest.raises(ModelError, match=message):
            Predictor(graph)
        graph.write_bytes(original)
    card = json.loads(model_json_path(graph).read_text())
    change(graph, graph_sha256=content_hash(graph), backbone=card["backbone"] | {"statistics": "mfcc"})
    with pytest.raises(ModelError, match=message):
        Predictor(graph)


def test_verification_accepts_only_the_speaker_itself(graph: Path, tmp_path: Path) -> None:
    own, other = write_sound(tmp_path / "own.wav", 600, 2.0), write_sound(tmp_path / "other.wav", 4800, 2.0)
    verifier = Verifier(Predictor(graph), "b600")
    accepted, refused = verifier.verify(own), verifier.verify(other)
    assert accepted.accepted
    assert not refused.accepted
    assert accepted.score > refused.score
    assert accepted.rate < 0.1 < refused.rate
    assert accepted.trials == refused.trials > 100
    with pytest.raises(UsageError, match="verify zoe: the model has no such speaker, it has a300, b600"):
        Verifier(Predictor(graph), "zoe")


def test_verification_needs_enough_impostor_trials(graph: Path) -> None:
    arrays = parse_arrays(arrays_path(graph).read_bytes())
    arrays_path(graph).write_bytes(pack_arrays(dataclasses.replace(arrays, impostors=arrays.impostors[:5])))
    change(graph, arrays_sha256=content_hash(arrays_path(graph)))
    with pytest.raises(ModelError, match=r"5 impostor trials, and a false acceptance rate of 10\.00% needs 9"):
        Verifier(Predictor(graph), "b600")


def long_recording(path: Path) -> Path:
    """Write ten seconds each of a known tone, another, silence, the first again, and noise, which is unknown."""
    unknown = 0.3 * np.random.default_rng(1).standard_normal(160_000)
    parts = [sound(600, 10), sound(2400, 10, 1), np.zeros(160_000), sound(600, 10, 2), unknown]
    soundfile.write(path, np.concatenate(parts), 16_000)
    return path


def test_diarization_of_a_long_recording(graph: Path, tmp_path: Path) -> None:
    whole = long_recording(tmp_path / "long.wav")
    found = diarize_to_files(Predictor(graph), whole, None, tmp_path / "out", "long.wav")
    assert found.seconds == 50.0
    assert [segment.label for segment in found.segments] == ["b600", "d2400", "b600", None]
    for segment, start in zip(found.segments, (0, 10, 30, 40), strict=True):
        assert segment.start == pytest.approx(start, abs=0.6)
        assert segment.end == pytest.approx(start + 10, abs=0.6)
    table, turns, *_, image = found.files
    assert len(table.read_text().splitlines()) == 5
    assert turns.read_text().splitlines()[3].split()[7] == "<unknown>"
    assert image.read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_diarization_writes_no_plot(
    graph: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    found = diarize_to_files(Predictor(graph), write_sound(tmp_path / "x.wav", 600, 2.0), None, tmp_path / "out", "x")
    assert [path.name for path in found.files] == ["x.csv", "x.rttm", "x.txt", "x.selections.txt"]
    assert sorted((tmp_path / "out").iterdir()) == sorted(found.files)
    assert "x.png is not written: matplotlib is not installed: pip install 'audionet[train]'" in caplog.text


def test_a_damaged_recording_is_diarized_up_to_the_damage(graph: Path, tmp_path: Path) -> None:
    whole = long_recording(tmp_path / "long.flac")
    data = whole.read_bytes()
    whole.write_bytes(data[: int(len(data) * 0.3)])
    found = diarize_to_files(Predictor(graph), whole, None, tmp_path / "out", "long")
    assert found.remark is not None
    assert found.segments[0].label == "b600"
    assert found.seconds < 30
    (tmp_path / "text.wav").write_text("words")
    with pytest.raises(RecordingError):
        diarize_to_files(Predictor(graph), tmp_path / "text.wav", None, tmp_path / "out", "text")
    soundfile.write(tmp_path / "silent.wav", np.zeros(64_000), 16_000)
    with pytest.raises(RecordingError, match="is silent"):
        diarize_to_files(Predictor(graph), tmp_path / "silent.wav", None, tmp_path / "out", "silent")
    names = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert names == ["long.csv", "long.png", "long.rttm", "long.selections.txt", "long.txt"]


def test_diarization_of_an_enrolled_speaker(graph: Path, tmp_path: Path) -> None:
    enrol_from_clips(Predictor(graph), "new", [write_sound(tmp_path / "new.wav", 3400, 12.0)])
    soundfile.write(tmp_path / "both.wav", np.concatenate([sound(600, 8), sound(3400, 8)]), 16_000)
    found = diarize_to_files(Predictor(graph), tmp_path / "both.wav", 0.25, tmp_path / "out", "both")
    assert [segment.label for segment in found.segments] == ["b600", "new"]


def test_silent_chunks_have_no_image(graph: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.concatenate([tone(600, 1), np.zeros(16_000)]), 16_000)
    clip = Clip(tmp_path / "x.wav", Predictor(graph).spectrogram)
    assert [chunk.jpg is None for chunk in clip] == [False, False, True, True]
    assert clip.seconds == 2.0


def test_the_command_line(graph: Path, tmp_path: Path) -> None:
    new, known = write_sound(tmp_path / "new.wav", 3400, 12.0), write_sound(tmp_path / "known.wav", 600, 2.0)
    model = f"--graph={graph}"
    done = run_script("label_image.py", model, "--json", new, known)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(a["decision"], a["unknown"]) for a in answers] == [(None, True), ("b600", False)]
    assert "  unknown  (likeness" in run_script("label_image.py", model, new).stdout
    done = run_script("label_image.py", model, "--enrol=zoe", known)
    assert done.stdout == "Enrolled: zoe, from 2.0 s of 1 clip\n"
    assert "2.0 s of sound are few: enrol again with 10 to 30 s" in done.stderr
    assert "in place of the previous one" in run_script("label_image.py", model, "--enrol=zoe", new).stdout
    assert "  zoe  (enrolled, likeness" in run_script("label_image.py", model, new).stdout
    done = run_script("label_image.py", model, "--verify=zoe", new, known, "--json")
    assert [json.loads(line)["verified"] for line in done.stdout.splitlines()] == [True, False]
    assert done.returncode == 3
    assert run_script("label_image.py", model, "--verify=zoe", new).returncode == 0
    assert run_script("label_image.py", model, "--verify=zoe", new, tmp_path / "gone.wav").returncode == 1
    out = f"--timeline_dir={tmp_path / 'out'}"
    done = run_script("label_image.py", model, "--timeline", out, new, known, tmp_path / "gone.wav")
    assert "12.0 s, 1 segment" in done.stdout
    assert done.returncode == 1
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".csv", ".rttm", ".png", ".txt"}
    assert {path.read_text().split()[1] for path in (tmp_path / "out").glob("*.rttm")} == {"new", "known"}
    talk = tmp_path / "my talk"
    talk.mkdir()
    clips = [shutil.copy(known, place) for place in (tmp_path / "my talk.wav", talk / "my talk.wav")]
    run_script("label_image.py", model, "--timeline", out, *clips)
    for name in ("my_talk", "my_talk-1"):
        assert (tmp_path / "out" / f"{name}.rttm").read_text().split()[1] == name
    assert run_script("label_image.py", model, "--forget=zoe").stdout == "Forgotten: zoe\n"
    done = run_script("label_image.py", model, "--verify=a", "--enrol=b", new)
    assert done.returncode == 2
    assert "--enrol and --verify cannot be combined" in done.stderr


@pytest.mark.parametrize(
    "entries",
    [
        {"labels": ["a"]},
        {"labels": 5},
        {"open_set": None},
        {"open_set": {}},
        {"calibration": {"temperature": "x", "head_weight": 1, "score_weight": 1}},
        {"calibration": {"temperature": 0, "head_weight": 1, "score_weight": 1}},
        {"calibration": {"temperature": 1, "head_weight": 1, "score_weight": -1}},
        {"calibration": {"temperature": 1}},
        {"speech": None},
        {"backbone": None},
        {"training": None},
        {"picture": 3},
        {"decision": []},
        {"labels": ["a300", "b600", "c1200", "d2400", "d2400"]},
        {"labels": []},
        {"exports": []},
        {"exports": {"x.pb": "0"}},
        {"exports": {"../x.pb": {"sha256": "0"}}},
        {"exports": {"": {"sha256": "0"}}},
        {"cross_validation": {}},
        {"graph_sha256": 5},
    ],
)
def test_a_damaged_card_is_one_line(graph: Path, entries: dict[str, object]) -> None:
    change(graph, **entries)
    with pytest.raises(ModelError, match=r"retrained_model\.json is damaged: run retrain\.py again"):
        Predictor(graph)


def test_a_network_of_other_labels_is_one_line(graph: Path) -> None:
    """All hashes are right: somebody put the files together."""
    card = json.loads(model_json_path(graph).read_text())
    arrays = parse_arrays(arrays_path(graph).read_bytes())
    voices, few = arrays.voices, int(arrays.voices.counts[:4].sum())
    kept = {name: getattr(voices, name)[:4] for name in ("centroids", "counts", "norms", "low", "high")}
    voices = dataclasses.replace(voices, prototypes=voices.prototypes[:few], **kept)
    arrays_path(graph).write_bytes(pack_arrays(dataclasses.replace(arrays, voices=voices, baseline=None)))
    change(graph, labels=card["labels"][:4], arrays_sha256=content_hash(arrays_path(graph)))
    with pytest.raises(ModelError, match="takes or returns something else than"):
        Predictor(graph)
    graph.write_bytes(b"network")
    change(graph, graph_sha256=content_hash(graph))
    with pytest.raises(ModelError, match=r"retrained_graph\.tflite is missing or no LiteRT model: run retrain"):
        Predictor(graph)


def test_diarization_follows_the_decision_rule(graph: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "x.wav", np.concatenate([sound(600, 8), sound(2400, 8, 1)]), 16_000)
    predictor = Predictor(graph)
    predictor.rule = dataclasses.replace(predictor.rule, costs=parse_costs(["e4800:b600=1e9"], TONES))
    found = diarize_to_files(predictor, tmp_path / "x.wav", None, tmp_path / "out", "x")
    assert found.segments[0].label != "b600"
    assert found.segments[-1].label == "d2400"


def test_diarization_refuses_images_and_bad_steps(graph: Path, tone_model: Path, tmp_path: Path) -> None:
    jpg = next((tone_model.parent / "data_image").rglob("*.jpg"))
    with pytest.raises(RecordingError, match="is an image"):
        diarize_to_files(Predictor(graph), jpg, None, tmp_path / "out", "x")
    for step in (0.01, 3.0):
        with pytest.raises(UsageError, match=r"timeline_step is .*it must be 0\.025 to 0\.5"):
            diarize_to_files(Predictor(graph), write_sound(tmp_path / "x.wav", 600, 2.0), step, tmp_path / "out", "x")


def test_a_recording_with_a_very_long_name(graph: Path, tmp_path: Path) -> None:
    clip = write_sound(tmp_path / f"{'x' * 250}.wav", 600, 2.0)
    done = run_script("label_image.py", f"--graph={graph}", "--timeline", f"--timeline_dir={tmp_path / 'out'}", clip)
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").iterdir())) == 5


def test_a_damaged_clip_is_enrolled_up_to_the_damage(graph: Path, tmp_path: Path) -> None:
    clip = tmp_path / "cut.flac"
    soundfile.write(clip, sound(3400, 12.0), 16_000)
    clip.write_bytes(clip.read_bytes()[:200_000])
    done = enrol_from_clips(Predictor(graph), "ann", [clip])
    assert list(done.in_part) == [clip]
    assert 2 < done.seconds < 11
