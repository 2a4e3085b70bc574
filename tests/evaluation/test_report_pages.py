"""Reports in a browser: at two widths, light and dark, with one label and with five hundred."""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import soundfile
from selenium.webdriver import Chrome

from audionet.audio.config import SpectrogramConfig
from audionet.cli.compare import main as compare
from audionet.cli.evaluate import main as evaluate
from audionet.evaluation import gallery, report
from audionet.evaluation.gallery import ChunkPicture
from audionet.evaluation.report import write_report
from audionet.inference.clip import Clip
from tests.support.browser import PHONE, WIDE, Page, chromium
from tests.support.chords import chord
from tests.support.evaluations import evaluated
from tests.support.sounds import SAMPLE_AUDIO, link_voices
from tests.support.trials import write_trials

MISSING = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]

LOOKS = [(size, scheme) for size in (PHONE, WIDE) for scheme in ("light", "dark")]
MEGABYTES_ALLOWED = 3
NAMES = ["ann", "מימין לשמאל", "<img src=x onerror=alert(1)>", "a_long_name_without_any_space_" * 8]


class Report(Page):
    """A report in a browser, opened as a file."""

    def open(self) -> None:
        self.driver.get(self.address)

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        return int(self.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def unfold(self) -> None:
        self.run("for (const folded of document.querySelectorAll('details')) folded.open = true;")

    def column(self, caption: str, column: int) -> list[str]:
        """Texts of a column of the folded table with this caption."""
        script = """
            const [caption, column] = arguments;
            const table = [...document.querySelectorAll("table.sortable")]
                .find((one) => one.caption.textContent.startsWith(caption));
            return [...table.tBodies[table.tBodies.length - 1].rows].map((row) => row.cells[column].textContent);
        """
        return list(self.run(script, caption, column))

    def click_heading(self, caption: str, column: int) -> None:
        script = """
            const [caption, column] = arguments;
            const table = [...document.querySelectorAll("table.sortable")]
                .find((one) => one.caption.textContent.startsWith(caption));
            table.tHead.rows[0].cells[column].querySelector("button").click();
        """
        self.run(script, caption, column)


@pytest.fixture(scope="module")
def driver() -> Iterator[Chrome]:
    with chromium(SAMPLE_AUDIO / "none.wav") as driver:
        yield driver


@pytest.fixture
def spoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Show real spectrograms of speech as the mistakes, and again as their evidence."""
    clips = sorted(SAMPLE_AUDIO.glob("*/unseen.mp3"))[:2]
    jpgs = [chunk.jpg for clip in clips for chunk in Clip(clip, SpectrogramConfig()) if chunk.jpg is not None]
    pictures = itertools.cycle(jpgs)
    monkeypatch.setattr(report, "chunk_at", lambda _, recorded, start: ChunkPicture(start, next(pictures)))
    evidence = gallery.data_uri(jpgs[0], "jpeg"), "most of the evidence for ann: 0.1 to 0.9 s"
    monkeypatch.setattr(gallery, "_evidence", lambda predictor, chunk, label: evidence)


def many(labels: int, **changes: Any) -> tuple[Any, dict[str, Any], Any]:
    """An evaluation in which an eighth of the recordings of many labels are mistaken."""
    wrong = range(0, 4 * labels, 8)
    return evaluated([f"speaker {number:03}" for number in range(labels)], wrong=wrong, **changes)


def check_looks(driver: Chrome, path: Path) -> Report:
    """Assert that a page fits, is readable for everybody, and asks nobody for anything, however it is looked at."""
    page = Report(driver, path.as_uri())
    for size, scheme in LOOKS:
        page.look(size, prefers_color_scheme=scheme)
        page.open()
        assert page.overflow() <= 0
        page.unfold()
        assert page.overflow() <= 0
        assert page.violations() == []
    dark = page.run("return getComputedStyle(document.body).backgroundColor")
    page.look(WIDE, prefers_color_scheme="light")
    assert page.run("return getComputedStyle(document.body).backgroundColor") != dark
    assert page.complaints() == []
    return page


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["ann", "bob"], "each": 1, "tested": 1, "unknown": 0, "wrong": 0},  # one recording
        {"labels": ["ann"], "each": 4, "unknown": 2, "wrong": 0},
        {"labels": NAMES, "costs": [f"{NAMES[0]}:{NAMES[1]}=5"]},
    ],
    ids=["one recording", "one label", "odd names"],
)
@pytest.mark.usefixtures("spoken")
def test_a_report_fits_and_is_accessible(driver: Chrome, tmp_path: Path, changes: dict[str, Any]) -> None:
    page = check_looks(driver, write_report(*evaluated(**changes), tmp_path, True)[0])
    assert page.is_shown("#verdict")
    assert "NaN" not in page.text("main")


@pytest.mark.usefixtures("spoken")
def test_fifty_labels_are_sorted_and_folded(driver: Chrome, tmp_path: Path) -> None:
    page = check_looks(driver, write_report(*many(50), tmp_path, True)[0])
    page.open()
    assert not page.is_shown("details table")
    caption = "Recall, precision and F1"
    before = page.column(caption, 6)
    assert before == sorted(before, key=lambda text: float(text[:-1]))
    page.click_heading(caption, 0)
    assert page.column(caption, 0) == [f"speaker {number:03}" for number in range(50)]
    page.click_heading(caption, 0)
    assert page.column(caption, 0) == [f"speaker {number:03}" for number in reversed(range(50))]
    page.click_heading(caption, 2)
    recalls = [float(text[:-1]) for text in page.column(caption, 2)]
    assert recalls == sorted(recalls)
    assert recalls[0] < recalls[-1]
    assert page.attribute("details [aria-sort]", "aria-sort") == "ascending"


@pytest.mark.usefixtures("spoken")
def test_what_is_folded_is_printed(driver: Chrome, tmp_path: Path) -> None:
    page = Report(driver, write_report(*many(50), tmp_path)[0].as_uri())
    count = "return document.querySelectorAll('details:not([open])').length"
    folded = page.run(count)
    assert folded > 3
    page.run("window.dispatchEvent(new Event('beforeprint'))")
    assert page.run(count) == 0
    page.run("window.dispatchEvent(new Event('afterprint'))")
    assert page.run(count) == folded


@pytest.mark.usefixtures("spoken")
def test_five_hundred_labels_stay_small(driver: Chrome, tmp_path: Path) -> None:
    path = write_report(*many(500), tmp_path, True)[0]
    assert path.stat().st_size < MEGABYTES_ALLOWED * 1e6
    page = Report(driver, path.as_uri())
    page.look(PHONE)
    assert page.overflow() <= 0
    assert page.violations() == []
    assert len(page.column("Recall, precision and F1", 0)) == 500
    assert len(page.column("Confusions, the most frequent first", 0)) == 250 + 1  # and unknown voices
    assert page.complaints() == []


def test_mistakes_of_several_labels(driver: Chrome, chord_model: Path, tmp_path: Path) -> None:
    for folder, names in (("high;low", ("high", "low")), ("middle", ("high",)), ("low", ("low", "middle"))):
        (tmp_path / "test" / folder).mkdir(parents=True)
        soundfile.write(tmp_path / "test" / folder / "a.wav", chord(names, 1, seed=5), 16_000)
    evaluate(
        [
            f"--graph={chord_model}",
            f"--test_dir={tmp_path / 'test'}",
            f"--report_dir={tmp_path / 'report'}",
            "--explain",
        ]
    )
    page = check_looks(driver, tmp_path / "report" / "report.html")
    assert len(page.all(".gallery img")) == 4


def test_trials(driver: Chrome, tone_model: Path, tmp_path: Path) -> None:
    voices = link_voices(tmp_path / "voices", 3, 2)
    path = write_trials(tmp_path / "list.txt", voices)
    evaluate(
        [f"--trials={path}", f"--audio_dir={voices}", f"--graph={tone_model}", f"--report_dir={tmp_path / 'report'}"]
    )
    check_looks(driver, tmp_path / "report" / "report.html")


def test_trainings(driver: Chrome, tone_model: Path, chord_model: Path, tmp_path: Path) -> None:
    shutil.copy(tone_model.with_name("retrained_model.json"), tmp_path / "tones_model.json")
    shutil.copy(chord_model.with_name("chords_model.json"), tmp_path / "chords_model.json")
    compare([f"--models_dir={tmp_path}", f"--to={tmp_path / 'trainings.html'}"])
    page = check_looks(driver, tmp_path / "trainings.html")
    page.click_heading("Trainings", 0)
    assert page.column("Trainings", 0) == ["chords", "tones"]
    page.click_heading("Trainings", 0)
    assert page.column("Trainings", 0) == ["tones", "chords"]
