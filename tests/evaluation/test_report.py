from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from audionet.audio.config import SpectrogramConfig
from audionet.audio.image import render
from audionet.evaluation import gallery as gallery_module
from audionet.evaluation import report, score_map
from audionet.evaluation.config import EvaluateConfig
from audionet.evaluation.page import PNGS, clock
from audionet.evaluation.recordings import HeldOutRecording
from audionet.evaluation.report import page, write_report
from audionet.evaluation.summary import summarise
from audionet.inference.explanation import ExplainedChunk
from tests.support.evaluations import evaluated
from tests.support.sounds import tone

PNG = b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x10\x00\x00\x00\x10"
NASTY = [
    "<script>alert(1)</script>",
    "br\udcffken & <b>",
    "a\n\"b\" 'c'",
    "\u202egnorw\u202c מימין",
    "{{ 7 * 7 }}",
    "]]>--><!--\x00\x0b\ufffe",
]


def parsed(html: str) -> Any:
    """The page's tree; the parser refuses what is not HTML5 to the letter."""
    return html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse(html)


def words(tree: Any, tag: str = "body") -> str:
    return " ".join("".join(" ".join(element.itertext()) for element in tree.iter(tag)).split())


def shown(*arguments: Any, **changes: Any) -> tuple[Any, str]:
    found, content, predictor = evaluated(*arguments, **changes)
    tree = parsed(page(found, content, predictor, report.draw(found, content, predictor)))
    return tree, words(tree)


def section(tree: Any, name: str) -> str:
    (element,) = (one for one in tree.iter("section") if one.get("aria-labelledby") == name)
    return " ".join(" ".join(element.itertext()).split())


def rows(tree: Any, caption: str) -> list[list[str]]:
    (table,) = (one for one in tree.iter("table") if words(one, "caption").startswith(caption))
    return [[" ".join("".join(cell.itertext()).split()) for cell in row] for row in table.iter("tr")]


def test_writes_the_page_the_numbers_and_the_plots(tmp_path: Path) -> None:
    found, content, predictor = evaluated(["ann", "bob", "cy"], costs=["ann:bob=5"])
    folder = tmp_path / "a" / "report"
    written = write_report(found, content, predictor, folder)
    assert [path.name for path in written] == ["report.html", "report.json", *PNGS]
    assert sorted(folder.iterdir()) == sorted(written)
    assert json.loads((folder / "report.json").read_bytes()) == json.loads(json.dumps(content))
    sources = [one.get("src") for one in parsed((folder / "report.html").read_text("utf-8")).iter("img")]
    inside = {base64.b64decode(source.partition(",")[2]) for source in sources}
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert inside == {(folder / name).read_bytes() for name in PNGS}


def test_plots_of_an_earlier_report_go_and_other_files_stay(tmp_path: Path) -> None:
    write_report(*evaluated(["ann", "bob"], costs=["ann:bob=5"]), tmp_path)
    (tmp_path / "mine.png").write_bytes(b"keep")
    written = write_report(*evaluated(["ann", "bob"]), tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([*written, tmp_path / "mine.png"])
    assert not {"cost.png", "confusion_before.png"} & {path.name for path in tmp_path.iterdir()}


def test_nothing_is_fetched_and_only_the_packages_script_runs() -> None:
    tree, _ = shown(["ann", "bob", "cy"], costs=["ann:bob=5"])
    assert not {one.tag for one in tree.iter()} & {"link", "iframe", "object", "base", "form"}
    (script,) = (one.text for one in tree.iter("script"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = (one.get("content") for one in tree.iter("meta") if one.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none';")
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    for element in tree.iter():
        assert not [name for name in element.attrib if name.startswith("on") or name in ("srcset", "style")]
        for name in ("src", "href"):
            assert element.get(name, "#").startswith(("data:", "#"))
    (style,) = (one.text for one in tree.iter("style"))
    assert "url(" not in style
    assert "@import" not in style
    assert "prefers-color-scheme: dark" in style
    assert "@media print" in style


def test_can_be_read_by_machines_and_screen_readers() -> None:
    tree, _ = shown(["ann", "bob", "cy"], costs=["ann:bob=5"])
    (html,) = tree.iter("html")
    assert html.get("lang") == "en"
    assert words(tree, "title") == "m: AudioNet report"
    assert words(tree, "h1") == "m"
    assert any(one.get("name") == "viewport" for one in tree.iter("meta"))
    assert len(list(tree.iter("h1"))) == 1
    assert all(one.get("alt") for one in tree.iter("img"))
    for table in tree.iter("table"):
        assert words(table, "caption")
        assert all(cell.get("scope") in ("row", "col") for cell in table.iter("th"))
        assert len({len(list(row)) for row in table.iter("tr")}) == 1
    identifiers = [one.get("id") for one in tree.iter() if one.get("id")]
    assert len(set(identifiers)) == len(identifiers)
    targets = {one.get("href")[1:] for one in tree.iter("a")}
    assert targets <= set(identifiers)
    assert {one.get("aria-labelledby") for one in tree.iter("section")} == targets | {"verdict"}


def test_every_number_stands_beside_what_it_was_counted_on() -> None:
    tree, text = shown(["ann", "bob", "cy"])
    assert "10 of 12 recordings are right: 83.3%" in text
    accuracy = rows(tree, "Accuracy of the most probable")
    assert [row[:5] for row in accuracy[1:]] == [
        ["this model", "recording", "10", "12", "83.3%"],
        ["MFCC statistics", "recording", "10", "12", "83.3%"],
        ["this model", "chunk", "20", "24", "83.3%"],
        ["MFCC statistics", "chunk", "20", "24", "83.3%"],
        ["a leaky split, at training", "chunk", "68", "69", "98.6%"],
    ]
    assert accuracy[1][5] == "55.2% to 95.3%"
    assert re.fullmatch(r"\d+\.\d% to 100\.0%", accuracy[1][6])
    assert "The network is no better than the baseline here" in text
    verification = rows(tree, "Equal error rate")
    assert verification[0] == ["label", "EER", "minDCF", "area", "targets", "nontargets"]
    assert verification[1][0] == "all, pooled"
    assert [row[-2:] for row in verification[1:]] == [["12", "33"], ["12", "24"], *[["4", "11"]] * 3]
    assert rows(tree, "Recall, precision")[1] == ["ann", "4", "50.0%", "0", "2", "100.0%", "66.7%"]
    assert rows(tree, "Recall, precision")[2][4:6] == ["6", "66.7%"]
    assert rows(tree, "Recordings whose")[1:] == [
        ["1", "10", "12", "83.3%"],
        ["2", rows(tree, "Recordings whose")[2][1], "12", rows(tree, "Recordings whose")[2][3]],
        ["3", "12", "12", "100.0%"],
    ]
    assert "0.50, fitted on 7 validation recordings" in text
    assert [row[4] for row in rows(tree, "Expected calibration")[1:]] == ["12", "12"]
    assert [row[1:3] for row in rows(tree, "Accuracy by clip")[1:]] == [["20", "24"], ["10", "12"], ["10", "12"]]
    assert rows(tree, "Separation of known")[1][1:4] == ["0", "3", "0.0%"]
    assert rows(tree, "Separation of known")[2][2] == "12"
    assert "The 2 most confident of 2 mistakes in 12 recordings" in text


def test_the_confusions_as_a_table() -> None:
    matrix = rows(shown(["ann", "bob", "cy"])[0], "Recordings by true label")
    assert matrix == [
        ["true label", "ann", "bob", "cy", "unknown", "N"],
        ["ann", "2", "2", "0", "0", "4"],
        ["bob", "0", "4", "0", "0", "4"],
        ["cy", "0", "0", "4", "0", "4"],
        ["unknown", "0", "0", "0", "3", "3"],
    ]
    many, _ = shown([f"label {i:02}" for i in range(21)], each=2, wrong=3, unknown=0)
    assert not [one for one in many.iter("table") if one.get("class") == "matrix"]
    assert rows(many, "Confusions, the most frequent first, of 42 recordings")[1:] == [
        ["label 00", "label 01", "2", "100.0%"],
        ["label 01", "label 02", "1", "50.0%"],
    ]


def test_the_verdict_comes_first_and_is_the_one_in_the_numbers() -> None:
    tree, text = shown(["ann", "bob", "cy"], wrong=3)
    _, content, _ = evaluated(["ann", "bob", "cy"], wrong=3)
    assert section(tree, "verdict").startswith(
        "Verdict Too few recordings for a verdict on closed sets of these 3 labels: 9 of 12"
    )
    assert all(sentence in text for sentence in (*content["verdict"]["sentences"], *content["verdict"]["advice"]))
    (main,) = tree.iter("main")
    assert next(iter(main)).get("class") == "verdict weak"


def test_says_on_top_whether_the_recordings_were_unseen() -> None:
    plain, _ = shown(["ann", "bob"])
    statement = next(one for one in plain.iter("div") if one.get("class", "").startswith("statement"))
    assert "Unseen: none of these 11 recordings was used in training" in words(statement, "p")
    _, text = shown(["ann", "bob"], heard_in_training=["ann"])
    assert "Only in part unseen: for 1 label the test chunks come from recordings also used in training" in text
    assert "fewer than three recordings: ann ." in text
    assert "Unseen" not in text
    bad, text = shown(["ann", "bob"], all_seen=True, seen=11)
    (statement,) = (one for one in bad.iter("div") if one.get("class", "") == "statement bad")
    assert "Warning: every one of these 11 recordings took part in training" in words(statement, "strong")
    assert "Unseen" not in text
    assert "5 recordings that took part in training or validation were found" in shown(["ann", "bob"], seen=5)[1]


def test_files_left_out_are_named_with_the_reason() -> None:
    skipped = [(HeldOutRecording("ann", f"{i}.wav", (Path(f"/a/{i}.wav"),)), "the file is empty") for i in range(23)]
    tree, text = shown(["ann", "bob"], skipped=skipped)
    files = rows(tree, "Files that could not be scored, 23 in all")
    assert files[1] == ["/a/0.wav", "the file is empty"]
    assert len(files) == 21
    assert "And 3 more files." in text
    found, content, predictor = evaluated(["ann", "bob"])
    content["data"]["judged_in_part"] = [{"file": "/nowhere/0/0.wav", "reason": "cut short"}]
    tree = parsed(page(found, content, predictor, report.draw(found, content, predictor)))
    assert rows(tree, "Files of which only a part")[1] == ["/nowhere/0/0.wav", "cut short"]


@pytest.mark.slow
def test_a_rule_in_words() -> None:
    two, text = shown(["ann", "bob"], costs=["ann:bob=9"])
    assert "at a probability of 0.9 or more the prediction is bob , below it ann" in text
    assert "ann predicted as bob : 9" in text
    assert rows(two, "Mean cost")[1][:2] == ["test", "8"]
    assert rows(two, "Mean cost")[2][:2] == ["validation recordings", "8"]
    assert "selected on 8 validation recordings" in text
    assert "raised to the power of 1, the cost exponent" in shown(["ann", "bob", "cy"], costs=["ann:bob=9"])[1]
    nothing = evaluated(["ann", "bob"], each=0, costs=["ann:bob=9"])
    assert "cost.png" not in report.draw(*nothing)
    assert "There were no recordings to select it on" in words(parsed(page(*nothing, report.draw(*nothing))))
    assert "Costs" not in shown(["ann", "bob"])[1]


def test_confusions_before_the_costs_are_of_the_most_probable_labels() -> None:
    found, content, predictor = evaluated(["ann", "bob"], wrong=0, costs=["ann:bob=1000", "bob:ann=0"])
    assert (found.given != found.most_probable).any()
    plots = report.draw(found, content, predictor)
    assert plots["confusion.png"] != plots["confusion_before.png"]
    assert plots["confusion_before.png"] == report.draw(*evaluated(["ann", "bob"], wrong=0))["confusion.png"]


def test_unknown_voices_left_out_at_training() -> None:
    tree, text = shown(["ann", "bob", "cy"], unknown=0)
    assert "each label in turn was left out of the training data" in text
    assert "The threshold was set on these clips" in text
    assert rows(tree, "Separation of known")[1][2] == "31"
    assert rows(tree, "Separation of known")[1][4] == "0.0% to 11.0%"


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"asked_rate": 0.0}, "--unknown_fpr 0"),
        ({}, "A threshold that accepts 5.0% of unknown voices needs 59 clips of left-out labels, and there were 31"),
    ],
)
def test_no_threshold(changes: dict[str, Any], why: str) -> None:
    tree, text = shown(["ann", "bob", "cy"], threshold=None, **changes)
    assert "This model never answers unknown: every voice is assigned one of the labels." in text
    assert why in text
    assert len(rows(tree, "Separation of known")) == 2


def test_the_worst_mistakes_with_their_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SpectrogramConfig()
    jpg = render((tone(440, 3) * 16_000).astype(np.int16), config)
    found, content, predictor = evaluated(["ann", "bob", "cy"])
    place, _ = found.mistakes(1)[0]
    (tmp_path / "c_nohash_0025.jpg").write_bytes(jpg)
    recorded = HeldOutRecording("ann", "c.wav", (tmp_path / "other.jpg", tmp_path / "c_nohash_0025.jpg"), (0.0, 74.96))
    prediction = found.predictions.recordings[place]
    object.__setattr__(prediction, "recorded", recorded)
    object.__setattr__(prediction, "starts", np.array([0.0, 74.96], np.float32))
    predictor.spectrogram = None
    (tmp_path / "other.jpg").write_bytes(render((tone(880, 3) * 16_000).astype(np.int16), config))
    content = summarise(found, predictor, EvaluateConfig())
    tree = parsed(page(found, content, predictor, report.draw(found, content, predictor)))
    images = [one for one in tree.iter("img") if "spectrogram" in one.get("alt")]
    assert [one.get("src").partition(",")[2] for one in images] == [base64.b64encode(jpg).decode()]
    assert images[0].get("alt") == "spectrogram of ann, predicted as bob"
    gallery = section(tree, "mistakes")
    assert "at 01:15.0 in c.wav" in gallery
    assert "c_nohash_0025.jpg" in gallery
    assert "The spectrogram cannot be rendered" in gallery
    assert f"{content['mistakes'][0]['probability']:.2%} over 2 chunks" in gallery
    assert "evidence" not in gallery
    shown = np.zeros((config.rows, config.frames), np.float32)
    shown[20:30, 100:120] = 0.1
    explained = ExplainedChunk(74.96, np.abs(shown), shown)
    monkeypatch.setattr(gallery_module, "explain_image", lambda _, start, image, index: explained)
    predictor.spectrogram, predictor.labels, predictor.names = None, found.labels, found.labels
    predictor.thresholds = None
    tree = parsed(page(found, content, predictor, report.draw(found, content, predictor), explains=True))
    images = [one for one in tree.iter("img") if "evidence" in one.get("alt")]
    assert [one.get("alt") for one in images] == ["the same with the evidence for bob"]
    picture = base64.b64decode(images[0].get("src").partition(",")[2])
    with Image.open(io.BytesIO(picture), formats=["JPEG"]) as image:
        assert image.size == (config.frames, config.rows)
    gallery = section(tree, "mistakes")
    assert "Below it the evidence for the wrong label" in gallery
    assert "most of the evidence for bob: frames " in gallery


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "00:00.0"), (59.96, "01:00.0"), (61.04, "01:01.0"), (7200, "120:00.0")]
)
def test_times(seconds: float, text: str) -> None:
    assert clock(seconds) == text


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["ann"], "unknown": 0, "wrong": 0},
        {"labels": ["ann"], "wrong": 0},
        {"labels": ["ann", "bob"], "each": 0, "unknown": 4},
        {"labels": ["ann", "bob"], "each": 0, "unknown": 4, "threshold": None, "costs": ["ann:bob=3"]},
        {"labels": ["ann", "bob"], "tested": 1, "unknown": 0, "wrong": 4, "each": 4},
        {"labels": ["ann", "bob", "cy"], "wrong": 0, "baseline": False, "test": None},
        {"labels": ["ann", "bob"], "calibration": {"temperature": 1.0, "recordings": 0}},
        {"labels": [f"label {i}" for i in range(120)], "tested": 60, "wrong": 57, "each": 1},
    ],
)
def test_what_is_missing_reads_well(changes: dict[str, Any]) -> None:
    tree, text = shown(changes.pop("labels"), **changes)
    assert not re.search(r"\b(nan|None|inf)\b", text)
    assert "%%" not in text
    for heading in ("Accuracy", "Confusion", "Labels", "Verification", "Calibration", "Clip length", "Unknown voices"):
        assert heading in words(tree, "h2")
    assert all(len(section(tree, name)) > 40 for name in ("accuracy", "confusion", "labels", "unknown", "mistakes"))


def test_a_share_of_nothing_is_not_a_number_on_the_page() -> None:
    assert "Not measured: there is no recording of a known label." in shown(["ann", "bob"], each=0, wrong=0)[1]
    tree, text = shown(["ann", "bob", "cy"], wrong=0, baseline=False, test=None)
    assert "No mistakes: all 12 recordings were classified correctly." in text
    assert "There is no baseline" in text
    assert "with a leaky split (a random split of chunks) was not measured at training" in text
    assert "the bootstrap interval has no width and is meaningless" in text
    assert len(rows(tree, "Accuracy of the most probable")) == 3
    tree, text = shown(["ann", "bob", "cy"], tested=1)
    assert rows(tree, "Recall, precision")[3] == ["cy", "0", "–", "0", "0", "–", "–"]
    assert "2 of 3 have no recording here: bob , cy" in text
    assert "2 labels have no target or no nontarget trials" in text


def test_of_many_labels_the_worst_are_shown_and_the_rest_counted() -> None:
    tree, text = shown([f"label {i:03}" for i in range(130)], each=1, wrong=range(70, 130), unknown=0)
    folded = [table for one in tree.iter("details") for table in one.iter("table")]
    for caption, first, shown_rows, count in (
        ("Equal error rate", "Highest equal error rates: 10 of 130", 1 + 2 + 10, 1 + 2 + 130),
        ("Recall, precision", "Labels with the lowest F1: 20 of 130", 1 + 20 + 1, 1 + 130 + 1),
        (
            "Confusions",
            "Most frequent confusions, with their share of the label’s recordings: 10 of 60",
            1 + 10,
            1 + 60,
        ),
    ):
        assert len(rows(tree, first)) == shown_rows
        assert len(rows(tree, caption)) == count
        assert any(words(one, "caption").startswith(caption) for one in folded)
        assert not any(words(one, "caption").startswith(first) for one in folded)
    scores = [float(row[-1][:-1]) for row in rows(tree, "Labels with the lowest F1")[1:-1]]
    assert scores == [0] * 20
    assert "of the labels, the 10 with the highest equal error rates" in text


def test_the_labels_hardest_to_verify_come_first() -> None:
    found, content, predictor = evaluated(["ann", "bob", "cy"])
    for entry, rate in zip(content["verification"]["labels"], (0.1, 0.3, 0.2), strict=True):
        entry["equal_error_rate"] = rate
    tree = parsed(page(found, content, predictor, report.draw(found, content, predictor)))
    assert [row[:2] for row in rows(tree, "Equal error rate")[3:]] == [
        ["bob", "30.00%"],
        ["cy", "20.00%"],
        ["ann", "10.00%"],
    ]


def test_no_name_becomes_a_tag() -> None:
    found, content, predictor = evaluated(NASTY, unknown=2)
    predictions = found.predictions
    plain = {one.tag for one in shown([f"label {i}" for i in range(len(NASTY))], unknown=2)[0].iter()}
    skipped = [(HeldOutRecording(name, name, (Path(name.replace("\0", "")),)), name) for name in NASTY]
    for field, value in {
        "skipped": skipped,
        "foreign_labels": NASTY,
        "missing_labels": NASTY,
        "source": NASTY[0],
    }.items():
        object.__setattr__(predictions, field, value)
    for one, name in zip(predictions.recordings, NASTY, strict=False):
        object.__setattr__(
            one, "recorded", HeldOutRecording(one.recorded.label, name, (Path("/") / name.replace("\0", ""),))
        )
    predictor.graph = Path(NASTY[0])
    predictor.card["backbone"]["name"] = NASTY[2]
    predictor.card["split"]["heard_in_training"] = NASTY
    content = summarise(found, predictor, EvaluateConfig())
    tree = parsed(page(found, content, predictor, report.draw(found, content, predictor)))
    assert {one.tag for one in tree.iter()} == plain
    text = words(tree)
    for seen in (
        "<script>alert(1)</script>",
        "br\\udcffken & <b>",
        "a\\n\"b\" 'c'",
        "\\u202egnorw",
        "מימין",
        "{{ 7 * 7 }}",
    ):
        assert seen in text
    assert not any("\u202e" in part or '\n"b"' in part for part in tree.itertext())


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(st.characters(), min_size=1), min_size=2, max_size=3, unique=True))
def test_any_label_makes_a_page_that_parses(labels: list[str]) -> None:
    found, content, predictor = evaluated(labels)
    parsed(page(found, content, predictor, dict.fromkeys(PNGS, PNG))).find("body")


def test_plots_are_shown_at_the_size_they_were_drawn_for() -> None:
    tree, _ = shown(["ann", "bob"])
    plot = next(one for one in tree.iter("img"))
    with Image.open(io.BytesIO(base64.b64decode(plot.get("src").partition(",")[2])), formats=["PNG"]) as image:
        assert int(plot.get("width")) == round(image.width * 96 / 130)
        assert int(plot.get("height")) == round(image.height * 96 / 130)


def test_a_map_shows_every_recording_and_what_it_was_taken_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found, content, predictor = evaluated(["ann", "bob", "cy"], threshold=None)
    asked: list[Any] = []
    monkeypatch.setattr(score_map, "map_plot", lambda *arguments: asked.append(arguments) or PNG)
    plots = report.draw(found, content, predictor)
    assert plots["map.png"] == PNG
    ((vectors, names, what, order, wrong),) = asked
    assert vectors.shape == (15, 3)
    assert names == [*4 * ["ann"], *4 * ["bob"], *4 * ["cy"], *3 * [None]]
    assert (what, order) == ("recordings", ["ann", "bob", "cy"])
    assert wrong.tolist() == [True, True, *10 * [False], *3 * [True]]
    tree = parsed(page(found, content, predictor, plots))
    assert "crosses are unknown voices" in section(tree, "map")
    (drawn,) = (one for one in tree.iter("img") if (one.get("alt") or "").startswith("map of the recordings"))
    assert drawn.get("src")


def test_fewer_than_three_recordings_have_no_map() -> None:
    found, content, predictor = evaluated(["ann", "bob"], each=1, unknown=0)
    plots = report.draw(found, content, predictor)
    assert "map.png" not in plots
    assert "#map" not in page(found, content, predictor, plots)
    found, content, predictor = evaluated(["ann", "bob"], each=1, unknown=1)
    assert "map.png" in report.draw(found, content, predictor)


def test_one_recording_of_many_labels_reads_well() -> None:
    tree, text = shown([f"label {i}" for i in range(30)], each=1, tested=1, wrong=0, unknown=0)
    assert "Unseen: this recording was not used in training." in text
    assert "1 of 1 recording is right: 100.0%" in text
    assert "There was no confusion in 1 recording." in section(tree, "confusion")
    assert not [one for one in tree.iter("img") if one.get("alt").startswith("confusion matrix")]
    assert len(rows(tree, "Labels with the lowest F1: 1 of 30")) == 1 + 1 + 1
