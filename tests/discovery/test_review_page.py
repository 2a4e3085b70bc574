"""The whole way in a browser: find voices, name and merge them, and train on the names."""

from __future__ import annotations

import csv
import io
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from selenium.webdriver import Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select, WebDriverWait

import audionet
from audionet.cli import data as data_command
from audionet.discovery.clustering import ClusterConfig
from audionet.discovery.config import DiscoverConfig
from audionet.discovery.discover import find_voices
from audionet.discovery.review import ReviewServer
from audionet.discovery.voice_folders import write_voices
from tests.support.browser import chromium
from tests.support.sounds import SAMPLE_AUDIO
from tests.support.talk import RATE, write_talk

MISSING = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]

SPEAKERS = ("espeak-en-gb-scotland+f4", "flite-awb", "flite-slt")


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings in which three voices take turns."""
    return write_talk(tmp_path_factory.mktemp("talk"), SPEAKERS, recordings=3, turns=1, seconds=9.0)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Chrome]:
    soundfile.write(tmp_path / "heard.wav", np.zeros(RATE), RATE)
    with chromium(tmp_path / "heard.wav") as driver:
        yield driver


def test_from_recordings_without_labels_to_a_model(
    talk: Path, browser: Chrome, tmp_path: Path, model_dir: Path
) -> None:
    config = DiscoverConfig(out=tmp_path / "out", model_dir=model_dir, workers=1)
    found = find_voices(talk, config, ClusterConfig())
    write_voices(found, config.out, 1)
    assert len(found.names) == 3
    speaker_of = {
        turn.voice: int((turn.start + turn.end) / 2 / 9.5) for turn in found.turns
    }  # voices take turns every 9.5 s

    def said() -> str:
        return browser.find_element(By.ID, "said").text

    with ReviewServer(config.out, 0) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        browser.get(server.url)

        def card(voice: int) -> WebElement:
            return browser.find_element(By.CSS_SELECTOR, f"section[data-voice='{voice}']")

        def name(voice: int, text: str) -> None:
            field = card(voice).find_element(By.CSS_SELECTOR, "h2 input")
            field.send_keys(Keys.CONTROL + "a")
            field.send_keys(text, Keys.ENTER)

        first = next(voice for voice, speaker in speaker_of.items() if speaker == 0)
        others = [voice for voice in speaker_of if voice != first]
        name(first, "Scot")
        name(others[0], "<b>Männer & Frauen</b>")
        assert "2 of 3 voices named" in browser.find_element(By.ID, "count").text
        Select(card(others[1]).find_element(By.TAG_NAME, "select")).select_by_visible_text("<b>Männer & Frauen</b>")
        assert len(browser.find_elements(By.TAG_NAME, "section")) == 2
        browser.find_element(By.ID, "undo").click()
        assert len(browser.find_elements(By.TAG_NAME, "section")) == 3
        Select(card(others[1]).find_element(By.TAG_NAME, "select")).select_by_visible_text("<b>Männer & Frauen</b>")
        browser.find_element(By.ID, "save").click()
        WebDriverWait(browser, 10).until(lambda _: said().startswith("Not saved"))
        assert "cannot be a folder's name" in said()
        name(others[0], "Others")
        browser.find_element(By.TAG_NAME, "body").click()
        card(first).find_element(By.CSS_SELECTOR, ".play").click()
        WebDriverWait(browser, 10).until(
            lambda driver: driver.execute_script("return document.getElementById('player').currentTime > 0")
        )
        browser.find_element(By.ID, "save").click()
        WebDriverWait(browser, 10).until(lambda _: said().startswith("Saved: 2 labels"))
        card(first).find_element(By.CSS_SELECTOR, "input[type=checkbox]").click()
        browser.find_element(By.ID, "discard").click()
        assert "1 turn discarded" in browser.find_element(By.ID, "count").text
        browser.find_element(By.TAG_NAME, "body").send_keys("z")
        browser.get(server.url)
        assert {field.get_attribute("value") for field in browser.find_elements(By.CSS_SELECTOR, "h2 input")} == {
            "Scot",
            "Others",
        }
        errors = [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
        server.shutdown()
        thread.join()
    assert [entry for entry in errors if "409" not in entry["message"] and "favicon" not in entry["message"]] == []
    rows = list(csv.DictReader(io.StringIO((config.out / "labels.csv").read_text("utf-8"))))
    assert {row["label"] for row in rows} == {"Scot", "Others"}

    folders = {name: tmp_path / name for name in ("wav", "image")}
    data_command.main(
        [f"--audio_dir={talk}", f"--labels={config.out / 'labels.csv'}", f"--wav_dir={folders['wav']}",
         f"--image_dir={folders['image']}", "--workers=1"]
    )  # fmt: skip
    run = audionet.train(
        folders["image"],
        bottleneck_dir=tmp_path / "bottlenecks",
        model_dir=model_dir,
        checkpoint_dir=tmp_path / "checkpoints",
        summaries_dir=tmp_path / "summaries",
    )
    model = audionet.load_model(run.save(tmp_path / "m.tflite"))
    probabilities = model.predict(SAMPLE_AUDIO / SPEAKERS[0] / "unseen.mp3").probabilities
    assert max(probabilities, key=probabilities.__getitem__) == "Scot"
    probabilities = model.predict(SAMPLE_AUDIO / SPEAKERS[1] / "unseen.mp3").probabilities
    assert max(probabilities, key=probabilities.__getitem__) == "Others"
