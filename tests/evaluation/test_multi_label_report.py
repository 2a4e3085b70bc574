"""Report of a model that answers with several labels at a time: pictures of its mistakes."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import html5lib
import numpy as np
import pytest
import soundfile
from PIL import Image

from audionet.cli.evaluate import main
from tests.support.chords import CHORD_SECONDS, chord


@pytest.fixture(scope="module")
def mislabelled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of two chunks, a low tone and then a high one, one of them in the folder of another tone."""
    folder = tmp_path_factory.mktemp("test")
    for label in ("high;low", "middle"):
        (folder / label).mkdir()
        parts = [chord((name,), CHORD_SECONDS, seed=3) for name in ("low", "high")]
        soundfile.write(folder / label / "a.wav", np.concatenate(parts), 16_000)
    return folder


def evaluate(model: Path, test: Path, report: Path, *flags: str) -> tuple[dict[str, Any], Any]:
    main([f"--graph={model}", f"--test_dir={test}", f"--report_dir={report}", *flags])
    page = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False).parse((report / "report.html").read_bytes())
    return json.loads((report / "report.json").read_bytes()), page


def text_of(element: Any) -> str:
    return " ".join(" ".join(element.itertext()).split())


def test_mistakes_are_shown_with_a_picture(
    chord_model: Path, mislabelled: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    content, page = evaluate(chord_model, mislabelled, tmp_path / "report")
    (mistake,) = content["mistakes"]
    assert mistake["missed"] == ["middle"]
    assert sorted(mistake["wrong"]) == ["high", "low"]
    (figure,) = (one for one in page.iter("figure") if next(one.iter("img")).get("class") != "plot")
    (image,) = figure.iter("img")
    first = mistake["wrong"][0]
    assert image.get("alt") == f"spectrogram in which {first}, wrongly answered, is most probable"
    start = {"low": "00:00.0", "high": "00:00.5"}[first]
    assert f"Labels: middle Missed: middle Wrong: {', '.join(mistake['wrong'])} at {start} in" in text_of(
        figure
    ).replace(" , ", ", ")
    assert "evidence" not in text_of(figure)
    assert f"Verdict: {content['verdict']['sentences'][0]}" in capsys.readouterr().out
    assert content["verdict"]["sentences"][0] in text_of(page)


def test_the_evidence_is_drawn_beside_it_if_asked_for(chord_model: Path, mislabelled: Path, tmp_path: Path) -> None:
    content, page = evaluate(chord_model, mislabelled, tmp_path / "report", "--explain")
    first = content["mistakes"][0]["wrong"][0]
    (evidence,) = (one for one in page.iter("img") if one.get("alt").startswith("the same with the evidence"))
    assert evidence.get("alt") == f"the same with the evidence for {first}"
    jpg = base64.b64decode(evidence.get("src").partition(",")[2])
    with Image.open(io.BytesIO(jpg), formats=["JPEG"]) as image:
        assert image.mode == "RGB"
        assert len(np.unique(np.asarray(image).reshape(-1, 3), axis=0)) > 100
    assert f"evidence for {first}" in text_of(page)


def test_no_mistakes_are_shown_if_none_are_asked_for(chord_model: Path, mislabelled: Path, tmp_path: Path) -> None:
    content, page = evaluate(chord_model, mislabelled, tmp_path / "report", "--worst=0")
    assert content["mistakes"] == []
    assert "--worst 0 shows none" in text_of(page)
    assert not [one for one in page.iter("img") if one.get("class") != "plot"]
