from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from selenium.webdriver import ActionChains, Chrome, Keys

from audionet.inference.segmentation import Segment
from audionet.inference.timeline_files import CSV_HEADER, segment_to_audacity, segment_to_csv, segment_to_rttm
from tests.support.browser import PHONE, WIDE, Page, chromium
from tests.support.chords import chord
from tests.support.serving import copy_model, serving
from tests.support.sounds import tone

MISSING = [program for program in ("chromium", "chromedriver") if shutil.which(program) is None]
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")]

MANY_CHUNKS = 1200  # an hour, with chunks of three seconds
NAMES = ["ann", "מימין לשמאל", "<img src=x onerror=alert(1)>", "🐦 " + "a long name of a crow " * 8, "Unknown"]


def write_sound(path: Path, *parts: np.ndarray) -> Path:
    sound = np.concatenate(parts)
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(sound))
    soundfile.write(path, np.where(sound == 0, 0, sound + noise), 16_000)
    return path


@pytest.fixture(scope="module")
def sounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sounds")
    write_sound(folder / "c1200.wav", tone(1200, 4))
    write_sound(folder / "turns.wav", tone(300, 2), np.zeros(16_000), tone(4800, 2))
    write_sound(folder / "noise.wav", 0.5 * np.random.default_rng(1).uniform(-1, 1, 32_000))
    write_sound(folder / "<img src=x onerror=alert(1)>.wav", tone(600, 1))
    write_sound(folder / "heard.wav", tone(2400, 2), np.zeros(16_000), tone(2400, 1))
    (folder / "notes.txt").write_text("no sound in here\n" * 50)
    return folder


@pytest.fixture(scope="module")
def address(tone_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tone_model, temporary=tmp_path_factory.mktemp("server")) as server:
        yield server.url


@pytest.fixture(scope="module")
def driver(sounds: Path) -> Iterator[Chrome]:
    with chromium(sounds / "heard.wav") as driver:
        yield driver


@pytest.fixture
def page(driver: Chrome, address: str) -> Iterator[Page]:
    """Open the page; after the test, assert that it logged no error and requested nothing from other hosts."""
    page = Page(driver, address)
    yield page
    assert page.complaints() == []


def answer_of(names: list[str], chunks: int = 4, **changes: Any) -> dict[str, Any]:
    """Create an answer with chunks of half a second: speakers change every three chunks, every seventh is unknown."""
    said = [None if turn % 7 == 6 else names[turn % len(names)] for turn in (i // 3 for i in range(chunks))]
    labels = [{"label": name, "probability": 0.9 if i == 0 else 0.02} for i, name in enumerate(names)]
    common = {"score": 0.7, "threshold": 0.61}
    content: dict[str, Any] = {"file": "x", "seconds": chunks / 2, "chunks": chunks, "decision": names[0]}
    content |= {"unknown": False, "labels": labels, "model": "ab" * 32, "pauses": [], **common}
    content["voices"] = [{"label": names[0], "unknown": False, "seconds": chunks / 2}]
    content["per_chunk"] = [
        {"start": i / 2, "decision": name, "unknown": name is None, "labels": labels, **common}
        for i, name in enumerate(said)
    ]
    content["segments"] = [
        {"start": i / 2, "end": i / 2 + 0.5, "label": name, "unknown": name is None, "probability": 0.9, "score": 0.7}
        for i, name in enumerate(said)
    ]
    return content | changes


def give(page: Page, content: dict[str, Any]) -> None:
    """Answer the page's requests with this content, and without a spectrogram."""
    page.answers(f"""
        if (String(url).includes("classify")) return Response.json({json.dumps(content)});
        if (String(url).includes("spectrogram")) return Response.json({{detail: "no image today"}}, {{status: 500}});
        return real(url, options);
    """)


def drop(page: Page, name: str, content: bytes) -> None:
    """Drop a file on the page."""
    script = """
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(arguments[1])], arguments[0]));
        for (const type of ["dragenter", "dragover", "drop"])
            document.body.dispatchEvent(new DragEvent(type, {dataTransfer: files, bubbles: true, cancelable: true}));
    """
    page.run(script, name, list(content))


def overflow(page: Page) -> int:
    return int(page.run("return document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def press(page: Page, *keys: str) -> None:
    ActionChains(page.driver).send_keys(*keys).perform()


def focused(page: Page) -> str:
    return str(page.run("return document.activeElement.id || document.activeElement.localName"))


def tab_stops(page: Page) -> list[str]:
    """Return the elements that the tab key reaches, once around."""
    page.run("document.body.tabIndex = -1; document.body.focus(); document.body.removeAttribute('tabindex')")
    found: list[str] = []
    while len(found) < 40:
        press(page, Keys.TAB)
        if focused(page) == "body":
            break
        found.append(focused(page))
    return found


def test_a_chosen_file_gets_its_answer(page: Page, sounds: Path) -> None:
    assert page.ask(sounds / "c1200.wav") == "c1200"
    assert "% sure" in page.text("#sure")
    assert page.text("#file-name") == "c1200.wav, 4 s"
    assert page.text("#basis").startswith("8 chunks; all say the same.")
    assert page.driver.title == "c1200 – c1200.wav – AudioNet"
    assert page.run("return document.getElementById('status').textContent").startswith("c1200. ")
    assert page.is_shown(".sure")
    assert not page.is_shown(".unsure")


def test_labels_are_ranked_with_bars_as_long_as_they_are_probable(page: Page, sounds: Path) -> None:
    page.ask(sounds / "c1200.wav")
    rows = [row.text.split("\n") for row in page.all("#labels li")]
    widths = [bar.size["width"] for bar in page.all("#labels .fill")]
    assert len(rows) == 5
    assert rows[0][0] == "c1200"
    assert widths == sorted(widths, reverse=True)
    assert widths[0] > 10 * widths[1] > 0


def test_the_image_is_drawn_with_its_chunks_and_lanes(page: Page, sounds: Path) -> None:
    page.ask(sounds / "turns.wav")
    assert page.is_shown("#spectrogram")
    assert page.run("return document.getElementById('spectrogram').naturalWidth") > 100
    assert "turns.wav: 5 s" in page.attribute("#spectrogram", "alt")
    low, silence, high = (page.colour("#chunks", share) for share in (0.22, 0.5, 0.78))
    assert low[3] == high[3] == 255
    assert low != high
    assert silence[3] == 0
    assert [name.text.split("\n")[0] for name in page.all("div.lane")] == ["a300", "e4800"]
    assert page.colour("canvas.lane", 0.2) == low
    assert page.colour("canvas.lane", 0.8)[3] == 0
    assert page.text("#decision") == "a300 and e4800"
    assert page.text("#sure") == "a300 2 s, e4800 2 s."
    assert page.is_shown(".sure")


def test_a_stranger_gets_no_check_mark(page: Page, sounds: Path) -> None:
    """Where the sum of the chunks passes for a label that no chunk alone is enough like."""
    chunks = answer_of(["ann", "bob"], 4)["per_chunk"]
    give(
        page, answer_of(["ann", "bob"], 4, per_chunk=[chunk | {"decision": None, "unknown": True} for chunk in chunks])
    )
    assert page.ask(sounds / "c1200.wav") == "ann"
    assert page.text("#basis").startswith("4 chunks; none of them says so")
    assert page.is_shown(".unsure")
    assert not page.is_shown(".sure")
    voices = [{"label": name, "unknown": name is None, "seconds": 9.0} for name in ("ann", None)]
    give(page, answer_of(["ann", "bob"], 4, voices=voices))
    assert page.ask(sounds / "c1200.wav") == "ann and unknown"
    assert page.is_shown(".unsure")


def test_chunks_have_the_colours_of_the_lanes(page: Page, sounds: Path) -> None:
    segments = [{"start": 0, "end": 4, "label": "bob", "unknown": False, "probability": 0.9, "score": 0.7}]
    give(page, answer_of(["ann", "bob"], 8, segments=segments, seconds=4))
    page.ask(sounds / "c1200.wav")
    assert page.colour("#chunks", 0.02) == page.colour("canvas.lane", 0.02)
    assert "bob (alone: ann, " in page.text("#readout")
    assert page.attribute("#seek", "aria-valuetext").endswith(")")


def test_every_label_has_its_own_look(page: Page, sounds: Path) -> None:
    script = """
        const {look} = await import("./page/stage.js");
        const {state} = await import("./page/state.js");
        state.model = {...state.model, labels: Array.from({length: 40}, (_, i) => `label ${i}`), enrolled: []};
        arguments[0](state.model.labels.map((name) => JSON.stringify(look(name))));
    """
    looks = page.driver.execute_async_script(f"(async (...arguments) => {{ {script} }})(...arguments)")
    assert len(set(looks)) == 40


def test_several_files_get_a_table(page: Page, sounds: Path) -> None:
    page.choose(Path("\n".join(str(sounds / name) for name in ("c1200.wav", "notes.txt", "turns.wav"))))
    page.wait("document.querySelectorAll('#files-rows button').length === 2")
    page.wait_for_answer()
    assert [row.text.split("\n")[0].split()[0] for row in page.all("#files-rows tr")] == [
        "c1200.wav",
        "notes.txt",
        "turns.wav",
    ]
    assert page.text("#decision") == "c1200"
    assert "notes.txt: " in page.all("#files-rows tr")[1].text
    page.all("#files-rows button")[1].click()
    page.wait_for_answer()
    assert page.text("#decision") == "a300 and e4800"
    assert page.attribute("#files-rows tr:last-child button", "aria-current") == "true"
    saved = saves(page, "#save-answers")
    assert saved[0] == "answers.csv"
    first, second, _ = csv.DictReader(saved[1].splitlines())
    assert (first["file"], first["label"], first["problem"]) == ("c1200.wav", "c1200", "")
    assert second["problem"].startswith("notes.txt: ")
    page.look(PHONE)
    assert overflow(page) == 0
    assert page.violations() == []
    assert page.ask(sounds / "c1200.wav") == "c1200"
    assert not page.is_shown("#files-part")


def hold_back(page: Page, place: int) -> None:
    """Answer all recordings but one, by its place, which is answered when `window.release` is called."""
    page.answers(f"""
        if (!String(url).includes("classify")) return real(url, options);
        window.asked = (window.asked ?? 0) + 1;
        if (window.asked === {place}) await new Promise((resolve, reject) => {{
            window.release = resolve;
            options.signal.addEventListener("abort", () => reject(options.signal.reason));
        }});
        return real(url, options);
    """)


def test_an_answer_does_not_end_the_wait_for_those_of_other_files(page: Page, sounds: Path) -> None:
    hold_back(page, 2)
    page.choose(Path("\n".join(str(sounds / name) for name in ("c1200.wav", "turns.wav", "heard.wav"))))
    page.wait("window.release")
    assert page.text("#files-rows tr").split()[:2] == ["c1200.wav", "c1200"]
    for button in page.all("#files-rows button"):
        button.click()
    page.run("window.release()")
    page.wait("document.querySelectorAll('#files-rows button').length === 3")
    page.wait_for_answer()
    assert page.text("#decision") == "c1200"


def test_files_that_are_cancelled_no_longer_wait(page: Page, sounds: Path) -> None:
    hold_back(page, 2)
    page.choose(Path("\n".join(str(sounds / name) for name in ("c1200.wav", "turns.wav", "heard.wav"))))
    page.wait("window.release")
    page.element("#cancel").click()
    assert [row.text for row in page.all("#files-rows tr")][1:] == [
        "turns.wav Not classified.",
        "heard.wav Not classified.",
    ]
    page.element("#files-rows button").click()
    page.wait_for_answer()
    assert page.text("#decision") == "c1200"


def test_all_files_are_tried_again_when_all_failed(page: Page, sounds: Path) -> None:
    page.answers("""
        if (!window.well && String(url).includes("classify")) return Response.json({detail: "ill"}, {status: 500});
        return real(url, options);
    """)
    page.choose(Path("\n".join(str(sounds / name) for name in ("c1200.wav", "turns.wav"))))
    page.wait("!document.getElementById('again').hidden")
    page.run("window.well = true")
    page.element("#again").click()
    page.wait("document.querySelectorAll('#files-rows button').length === 2")
    page.wait_for_answer()


def saves(page: Page, selector: str) -> tuple[str, str]:
    """Press a button that saves a file; return its name and content."""
    script = """
        const click = HTMLAnchorElement.prototype.click;
        const make = URL.createObjectURL;
        URL.createObjectURL = (blob) => {
            URL.createObjectURL = make;
            blob.text().then((text) => { window.text = text; });
            return make.call(URL, blob);
        };
        HTMLAnchorElement.prototype.click = function () {
            HTMLAnchorElement.prototype.click = click;
            window.download = this.download;
        };
        document.querySelector(arguments[0]).dispatchEvent(new MouseEvent("click", {bubbles: true, cancelable: true}));
    """
    page.run("window.text = undefined")
    page.run(script, selector)
    page.wait("window.text !== undefined")
    return tuple(page.run("return [window.download, window.text]"))


def test_a_timeline_is_saved_as_the_command_writes_it(page: Page, sounds: Path) -> None:
    names = ["ann", 'b, "x"', "c\td <e> 100%"]
    content = answer_of(names, 21)
    give(page, content)
    page.ask(sounds / "c1200.wav")
    found = [
        Segment(it["start"], it["end"], it["label"], it["probability"] or 0.0, it["score"])
        for it in content["segments"]
    ]
    csv_text = "".join(f"{line}\r\n" for line in [CSV_HEADER, *map(segment_to_csv, found)])
    assert saves(page, "[data-format=csv]") == ("c1200.timeline.csv", csv_text)
    rttm = "".join(f"{segment_to_rttm(segment, 'c1200')}\n" for segment in found)
    assert saves(page, "[data-format=rttm]") == ("c1200.rttm", rttm)
    labels = "".join(f"{segment_to_audacity(segment)}\n" for segment in found)
    assert saves(page, "[data-format=audacity]") == ("c1200.txt", labels)


def test_the_cursor_passes_behind_names_and_times_on_a_phone(page: Page, sounds: Path) -> None:
    page.look(PHONE)
    page.ask(sounds / "turns.wav")
    script = """
        const box = document.querySelector(arguments[0]).getBoundingClientRect();
        const cursor = document.getElementById("cursor");
        cursor.style.pointerEvents = "auto";
        for (const it of document.querySelectorAll(".name, #ruler")) it.style.pointerEvents = "auto";
        const x = cursor.getBoundingClientRect().x;
        return document.elementFromPoint(x + 1, box.y + box.height / 2) === cursor;
    """
    page.run("arguments[0].scrollIntoView({block: 'center'})", page.element("#seek"))
    assert page.run(script, "#spectrogram-box")
    assert not page.run(script, "#ruler")
    assert not page.run(script, "div.name.lane")


def test_the_timeline_as_a_table(page: Page, sounds: Path) -> None:
    page.ask(sounds / "turns.wav")
    page.element("#segments-part summary").click()
    page.wait("document.querySelectorAll('#segments-rows tr').length")
    rows = [row.text for row in page.all("#segments-rows tr")]
    assert rows[0].startswith("0:00.0 0:02.0 a300 ")
    assert rows[-1].startswith("0:03.0 0:05.0 e4800 ")
    page.element("#chunk-part summary").click()
    page.wait("document.querySelectorAll('#chunk-rows tr').length === 8")


def test_a_file_can_be_dropped_anywhere(page: Page, sounds: Path) -> None:
    drop(page, "dropped.wav", (sounds / "c1200.wav").read_bytes())
    page.wait_for_answer()
    assert page.text("#decision") == "c1200"
    assert page.text("#file-name").startswith("dropped.wav")
    assert not page.is_shown("#drop-here")


def test_the_microphone_is_heard(page: Page) -> None:
    page.element("#record").click()
    page.wait("!document.getElementById('recorder').hidden")
    page.until(lambda: page.element("#level").size["width"] > 50, "the meter moves")
    page.wait("document.getElementById('elapsed').textContent >= '0:02'")
    assert page.element("#meter").aria_role == "meter"
    assert -40 < float(page.attribute("#meter", "aria-valuenow")) < 0
    assert page.attribute("#meter", "aria-valuetext").endswith(" decibels")
    page.until(lambda: page.text("#now").startswith("d2400 "), "a live answer")
    page.until(lambda: "d2400" in page.text("#live-turns"), "a segment, which a pause ends")
    page.element("#stop").click()
    page.wait_for_answer()
    assert page.text("#decision") == "d2400"
    assert page.text("#file-name").startswith("recording.wav, ")
    assert 2 <= page.run("return document.getElementById('player').duration") < 20


def test_without_a_live_answer_the_recording_is_classified_all_the_same(page: Page) -> None:
    page.run("window.WebSocket = class { constructor() { setTimeout(() => this.onclose()) } close() {} }")
    page.element("#record").click()
    page.wait("document.getElementById('now').textContent.startsWith('There is no live answer here')")
    page.wait("document.getElementById('elapsed').textContent >= '0:02'")
    page.element("#stop").click()
    page.wait_for_answer()
    assert page.text("#decision") == "d2400"


def test_a_recording_can_be_discarded(page: Page) -> None:
    page.element("#record").click()
    page.wait("!document.getElementById('recorder').hidden")
    page.element("#discard").click()
    assert page.is_shown("#offer")
    assert focused(page) == "choose"
    assert not page.is_shown("#waiting")


@pytest.mark.parametrize(
    ("obstacle", "says"),
    [
        (
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotAllowedError'))",
            "was refused",
        ),
        (
            "navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('', 'NotFoundError'))",
            "No microphone was found",
        ),
        ("Object.defineProperty(window, 'isSecureContext', {value: false})", "HTTPS"),
    ],
    ids=["refused", "missing", "insecure"],
)
def test_no_microphone_leaves_a_way_out(page: Page, sounds: Path, obstacle: str, says: str) -> None:
    page.run(obstacle)
    page.element("#record").click()
    page.wait("!document.getElementById('note').hidden")
    assert says in page.text("#note")
    assert "choose a file" in page.text("#note")
    assert page.ask(sounds / "c1200.wav") == "c1200"
    assert not page.is_shown("#note")


def test_an_error_is_told_in_the_servers_words_and_the_page_goes_on(page: Page, sounds: Path) -> None:
    page.choose(sounds / "notes.txt")
    page.wait("document.body.dataset.phase === 'failed'")
    assert page.text("#problem-text").startswith("notes.txt: ")
    assert page.text("#problem-text") == page.run("return document.getElementById('status').textContent")
    assert not page.is_shown("#again")
    assert page.ask(sounds / "c1200.wav") == "c1200"
    assert not page.is_shown("#problem")


def test_what_the_server_would_refuse_as_too_large_is_not_sent(page: Page) -> None:
    script = """
        const files = new DataTransfer();
        files.items.add(new File([new Uint8Array(arguments[0])], "long.wav"));
        document.body.dispatchEvent(new DragEvent("drop", {dataTransfer: files, bubbles: true, cancelable: true}));
    """
    limit = page.run("return fetch('v1/model').then((response) => response.json())")["limits"]["megabytes"]
    page.answers("throw new TypeError('it was sent')")
    page.run(script, int(limit * 1.1 * 2**20))
    page.wait("document.body.dataset.phase === 'failed'")
    assert page.text("#problem-text").startswith("long.wav has ")


def test_a_server_that_is_gone_can_be_asked_again(page: Page, sounds: Path) -> None:
    page.answers(
        "if (window.back || options.method !== 'POST') return real(url, options); throw new TypeError('gone');"
    )
    page.choose(sounds / "c1200.wav")
    page.wait("document.body.dataset.phase === 'failed'")
    assert "cannot be reached" in page.text("#problem-text")
    page.run("window.back = true")
    page.element("#again").click()
    page.wait_for_answer()


def test_unknown_looks_and_reads_different(page: Page, sounds: Path) -> None:
    assert page.ask(sounds / "noise.wav") == "Unknown"
    assert page.text("#sure") == "Not enough like any known label."
    assert page.text("#likeness-value").startswith("Likeness ")
    assert page.text("#likeness-limit").startswith("accepted from ")
    score, limit = (float(page.text(f"#likeness-{name}").split()[-1]) for name in ("value", "limit"))
    assert score < limit
    fill, scale = page.element("#likeness-fill").size["width"], page.element(".scale").size["width"]
    assert fill == pytest.approx(max(score, 0) * scale, abs=3)
    assert page.text("#labels-title") == "If it were one of these"
    assert page.is_shown(".unsure")
    assert not page.is_shown(".sure")
    assert page.element("#verdict").value_of_css_property("border-top-style") == "dashed"
    assert page.text("div.lane bdi") == "Unknown"
    painted = {page.colour("canvas.lane", 0.5 + step / 200)[3] > 128 for step in range(20)}
    assert painted == {True, False}, "hatched"


def test_everything_can_be_done_with_the_keyboard(page: Page, sounds: Path) -> None:
    page.run("document.getElementById('file').addEventListener('click', (event) => { window.asked = true; })")
    press(page, Keys.TAB)
    assert focused(page) == "choose"
    outline = page.element("#choose").value_of_css_property("outline-style")
    assert outline == "solid", "focus is seen"
    press(page, Keys.ENTER)
    assert page.run("return window.asked")
    press(page, Keys.TAB)
    assert focused(page) == "record"
    press(page, Keys.SPACE)
    page.wait("!document.getElementById('recorder').hidden")
    assert focused(page) == "stop"
    page.wait("document.getElementById('elapsed').textContent >= '0:01'")
    press(page, Keys.ENTER)
    page.wait_for_answer()
    assert focused(page) == "decision"
    stops = tab_stops(page)
    assert stops[:2] == ["choose", "record"]
    assert {"player", "seek"} <= set(stops)
    assert len(stops) < 20
    page.run("document.getElementById('seek').focus()")
    press(page, Keys.SPACE)
    page.wait("!document.getElementById('player').paused")
    press(page, Keys.SPACE)
    page.wait("document.getElementById('player').paused")


def test_the_cursor_follows_the_sound(page: Page, sounds: Path) -> None:
    page.ask(sounds / "c1200.wav")

    def place() -> float:
        return float(page.run("return parseFloat(document.getElementById('cursor').style.left)"))

    assert place() == 0
    page.run("document.getElementById('seek').focus()")
    press(page, Keys.SPACE)
    page.until(lambda: place() > 5, "the cursor moves")
    press(page, Keys.SPACE)
    page.wait("document.getElementById('player').paused")
    assert place() == pytest.approx(100 * page.run("return document.getElementById('player').currentTime") / 4, abs=0.5)


def test_arrows_and_clicks_move_cursor_and_sound(page: Page, sounds: Path) -> None:
    page.ask(sounds / "turns.wav")
    seek = page.element("#seek")
    page.run("arguments[0].focus()", seek)
    press(page, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    page.wait("document.getElementById('player').currentTime === 1")
    assert page.attribute("#seek", "aria-valuenow") == "1.0"
    assert "a300" in page.attribute("#seek", "aria-valuetext")
    press(page, Keys.END)
    assert page.attribute("#seek", "aria-valuenow") == "5.0"
    page.run("arguments[0].scrollIntoView({block: 'center'})", seek)
    ActionChains(page.driver).move_to_element(seek).click().perform()
    page.wait("Math.abs(document.getElementById('player').currentTime - 2.5) < 0.1")
    assert page.text("#readout").endswith("silence")


def test_what_the_browser_cannot_play_is_answered_all_the_same(page: Page, sounds: Path) -> None:
    give(page, answer_of(["ann", "bob"]))
    page.choose(sounds / "notes.txt")
    page.wait("!document.getElementById('player-note').hidden")
    assert not page.is_shown("#player")
    page.run("document.getElementById('seek').focus()")
    press(page, Keys.ARROW_RIGHT)
    assert page.attribute("#seek", "aria-valuenow") == "0.5"


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_the_evidence_is_shown_in_place_of_the_spectrogram_and_back(
    page: Page, sounds: Path, size: tuple[int, int]
) -> None:
    page.look(size)
    page.ask(sounds / "c1200.wav")
    page.wait("!document.getElementById('evidence').hidden")
    assert page.text("#evidence") == "Show the evidence"
    before = page.attribute("#spectrogram", "src")
    page.run("document.getElementById('evidence').focus()")
    press(page, Keys.ENTER)
    page.wait("document.getElementById('evidence').textContent === 'Show the spectrogram'")
    assert focused(page) == "evidence"
    assert "evidence for c1200" in page.text("#evidence-note")
    assert page.text("#evidence-note").endswith(". Orange speaks for it, blue against it.")
    assert page.run("return document.getElementById('status').textContent") == page.text("#evidence-note")
    assert page.attribute("#spectrogram", "alt").startswith("Evidence in c1200.wav: ")
    assert page.attribute("#spectrogram", "src") != before
    assert page.run("return document.getElementById('spectrogram').naturalWidth") > 100
    assert overflow(page) <= 0
    assert page.violations() == []
    press(page, Keys.ENTER)
    page.wait("document.getElementById('spectrogram').alt.startsWith('Spectrogram of c1200.wav')")
    assert not page.is_shown("#evidence-note")
    page.ask(sounds / "turns.wav")
    page.wait("!document.getElementById('evidence').hidden")
    assert page.text("#evidence") == "Show the evidence"


def test_evidence_that_cannot_be_found_leaves_the_spectrogram(page: Page, sounds: Path) -> None:
    page.answers("""
        if (String(url).includes("explain")) return Response.json({detail: "not today"}, {status: 500});
        return real(url, options);
    """)
    page.ask(sounds / "c1200.wav")
    page.wait("!document.getElementById('evidence').hidden")
    page.element("#evidence").click()
    page.wait("!document.getElementById('evidence-note').hidden")
    assert page.text("#evidence-note") == "The evidence is not known: not today"
    assert page.text("#evidence") == "Show the evidence"
    assert page.is_shown("#spectrogram")


def test_without_a_spectrogram_the_answer_stands(page: Page, sounds: Path) -> None:
    give(page, answer_of(["ann", "bob"]))
    assert page.ask(sounds / "c1200.wav") == "ann"
    assert page.text("#spectrogram-note") == "There is no spectrogram: no image today"
    assert page.colour("#chunks", 0.1)[3] == 255


def test_waiting_can_be_cancelled(page: Page, sounds: Path) -> None:
    slow = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 2000}
    page.driver.execute_cdp_cmd("Network.enable", {})
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow)
    try:
        page.choose(sounds / "c1200.wav")
        page.wait("!document.getElementById('waiting').hidden")
        assert page.text("#waiting-text") == "Listening to c1200.wav…"
        assert page.attribute("#outcome", "aria-busy") == "true"
        page.element("#cancel").click()
        assert not page.is_shown("#waiting")
        assert page.attribute("#outcome", "aria-busy") == "false"
        assert focused(page) == "choose"
    finally:
        page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", slow | {"uploadThroughput": -1})
    assert page.ask(sounds / "c1200.wav") == "c1200"


def test_another_file_takes_the_first_ones_place(page: Page, sounds: Path) -> None:
    page.answers("""
        if (window.asked) return real(url, options);
        window.asked = true;
        return new Promise((_, reject) => options.signal.addEventListener("abort", () => {
            window.aborted = true;
            reject(options.signal.reason);
        }));
    """)
    page.choose(sounds / "notes.txt")
    page.wait("window.asked")
    assert page.ask(sounds / "c1200.wav") == "c1200"
    assert page.run("return window.aborted")


def test_a_busy_server_is_asked_again_when_it_says(page: Page, sounds: Path) -> None:
    page.answers("""
        window.times = (window.times ?? 0) + 1;
        if (window.times > 2) return real(url, options);
        return Response.json({detail: "busy"}, {status: 503, headers: {"Retry-After": "1"}});
    """)
    page.choose(sounds / "c1200.wav")
    page.wait("document.getElementById('waiting-text').textContent.includes('busy')")
    assert page.text("#waiting-text") == "The server is busy. Trying again in 1 s (1 of 5)."
    page.wait_for_answer()
    assert page.run("return window.times") == 4


def test_a_key_is_asked_for_where_one_is_needed(page: Page, sounds: Path) -> None:
    assert not page.is_shown("#key-form")
    page.answers("""
        if (options.headers.get("Authorization") === "Bearer right") return real(url, options);
        return Response.json({detail: "a key is needed"}, {status: 401});
    """)
    page.choose(sounds / "c1200.wav")
    page.wait("!document.getElementById('key-form').hidden")
    assert focused(page) == "key"
    press(page, "wrong", Keys.ENTER)
    page.wait("document.getElementById('key-text').textContent.includes('refused')")
    press(page, "right", Keys.ENTER)
    page.wait_for_answer()
    assert page.text("#decision") == "c1200"
    assert not page.is_shown("#key-form")
    assert page.run("return Object.values(sessionStorage)") == ["right"]


def test_names_are_never_taken_for_html(page: Page, sounds: Path) -> None:
    before = len(page.all("img"))
    assert page.ask(sounds / "<img src=x onerror=alert(1)>.wav") == "b600"
    assert page.text("#file-name").startswith("<img src=x onerror=alert(1)>.wav")
    remark = "<b>damaged</b> after 12.0 s"
    give(page, answer_of(NAMES, 24, decision=NAMES[2], remark=remark, enrolled=[{"name": "<i>cy</i>", "score": 0.2}]))
    assert page.ask(sounds / "c1200.wav") == NAMES[2]
    assert page.text("#remark") == f"Note: {remark}."
    assert page.text("#enrolled bdi") == "<i>cy</i>"
    page.element("#chunk-part summary").click()
    page.wait("document.querySelectorAll('#chunk-rows tr').length === 24")
    assert len(page.all("img")) == before
    assert not page.all("main b:not(#elapsed), main i")


def test_a_decision_may_be_an_enrolled_voice_or_not_the_most_probable_label(page: Page, sounds: Path) -> None:
    enrolled = [{"name": "cy", "score": 0.83}]
    give(page, answer_of(["ann", "bob"], decision="cy", score=0.83, enrolled=enrolled))
    assert page.ask(sounds / "c1200.wav") == "cy"
    assert page.text("#sure") == "An enrolled speaker, likeness 0.83."
    assert page.text("#labels-title") == "Of those trained on"
    give(page, answer_of(["ann", "bob"], decision="bob"))
    assert page.ask(sounds / "c1200.wav") == "bob"
    assert page.text("#sure").startswith("2.0% sure. Another label is more probable")


def test_a_voice_is_enrolled_and_forgotten(driver: Chrome, tone_model: Path, sounds: Path, tmp_path: Path) -> None:
    graph = copy_model(tone_model, tmp_path / "model")
    write_sound(tmp_path / "stranger.wav", tone(3400, 12))
    write_sound(tmp_path / "again.wav", tone(3400, 3))
    with serving(graph, temporary=tmp_path / "temporary") as server:
        page = Page(driver, server.url)
        assert not page.is_shown("#speakers-part")
        assert page.ask(tmp_path / "stranger.wav") == "Unknown"
        page.element("#enrol-part summary").click()
        page.element("#enrol-name").send_keys("unknown", Keys.ENTER)
        page.wait("!document.getElementById('enrol-note').hidden")
        assert "not a valid name" in page.text("#enrol-note")
        assert page.violations() == []
        page.element("#enrol-name").clear()
        page.element("#enrol-name").send_keys(" <b>zoe</b> ", Keys.ENTER)
        page.until(lambda: "is enrolled" in page.text("#note"), "it says so")
        page.wait_for_answer()
        assert page.text("#note").startswith("<b>zoe</b> is enrolled, from ")
        assert page.text("#decision") == "<b>zoe</b>"
        assert page.ask(tmp_path / "again.wav") == "<b>zoe</b>"
        page.element("#speakers-part summary").click()
        assert [item.text.split("\n")[0] for item in page.all("#speakers li")] == ["<b>zoe</b>"]
        assert page.violations() == []
        page.look(PHONE)
        assert overflow(page) == 0
        page.element("#speakers button").click()
        page.until(lambda: not page.is_shown("#speakers-part"), "forgotten")
        assert page.ask(tmp_path / "again.wav") == "Unknown"
        assert page.complaints() == []


def test_the_report_is_linked_where_there_is_one(page: Page) -> None:
    assert not page.is_shown("#report")
    page.answers("""
        if (!String(url).includes("model")) return new Response("<p>the report</p>");
        return Response.json({...await (await real(url, options)).json(), report: true});
    """)
    page.run("sessionStorage.setItem('audionet-key', 'any')")
    page.run("document.getElementById('key').value = 'a'; document.getElementById('key-form').requestSubmit()")
    page.until(lambda: page.is_shown("#report"), "the link")
    assert saves(page, "#report") == ("report.html", "<p>the report</p>")


def test_an_hour_stays_quick_and_legible(page: Page, sounds: Path) -> None:
    give(page, answer_of([f"voice {i}" for i in range(40)], MANY_CHUNKS))
    page.ask(sounds / "c1200.wav")
    assert len(page.all("div.lane")) == 13
    assert [name.text.split("\n")[0] for name in page.all("div.lane")[-2:]] == ["29 others", "Unknown"]
    assert len(tab_stops(page)) < 20
    script = """
        const start = performance.now();
        for (let i = 0; i < 100; i++)
            document.getElementById("seek").dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
        return performance.now() - start;
    """
    assert page.run(script) < 500
    page.element("#chunk-part summary").click()
    page.wait(f"document.querySelectorAll('#chunk-rows tr').length === {MANY_CHUNKS}")


def test_nothing_overflows_a_phone(page: Page, sounds: Path) -> None:
    page.look(PHONE)
    assert overflow(page) == 0
    page.ask(sounds / "turns.wav")
    assert overflow(page) == 0
    give(page, answer_of(NAMES, 60, decision=NAMES[3], enrolled=[{"name": "x" * 200, "score": 0.1}]))
    page.ask(sounds / "c1200.wav")
    for summary in page.all("summary"):
        if summary.is_displayed():
            summary.click()
    assert overflow(page) == 0
    for target in page.all("button, summary, #seek, audio, footer a"):
        assert not 0 < target.size["height"] < 44, target.text


def test_follows_the_colour_scheme(page: Page, sounds: Path) -> None:
    page.ask(sounds / "c1200.wav")
    light = page.colour("#chunks", 0.02)
    page.look(prefers_color_scheme="dark")
    page.until(lambda: page.colour("#chunks", 0.02) != light, "the canvas is drawn anew")
    background = page.run("return getComputedStyle(document.body).backgroundColor")
    assert max(map(int, background.removeprefix("rgb(").removesuffix(")").split(","))) < 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["start", "recording", "answer", "turns", "unknown", "error"])
def test_nothing_stands_in_anybodys_way(page: Page, sounds: Path, state: str, scheme: str) -> None:
    page.look(prefers_color_scheme=scheme)
    if state == "recording":
        page.element("#record").click()
        page.wait("!document.getElementById('recorder').hidden")
    elif state == "error":
        page.choose(sounds / "notes.txt")
        page.wait("document.body.dataset.phase === 'failed'")
    elif state != "start":
        page.ask(sounds / {"answer": "c1200.wav", "turns": "turns.wav", "unknown": "noise.wav"}[state])
        page.element("#chunk-part summary").click()
        page.wait("document.querySelectorAll('#chunk-rows tr').length")
    assert page.violations() == []


def test_several_labels_at_a_time_are_all_named(
    driver: Chrome, chord_model: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("chords")
    soundfile.write(folder / "chord.wav", np.concatenate([chord(("low",), 3), chord(("high", "low"), 3)]), 16_000)
    soundfile.write(folder / "none.wav", chord((), 2), 16_000)
    with serving(chord_model, temporary=tmp_path_factory.mktemp("server")) as server:
        page = Page(driver, server.url)
        assert page.ask(folder / "chord.wav") == "high, low"
        assert page.text("#labels-title") == "Probability of each label"
        assert [lane.text.split()[0] for lane in page.all(".name.lane")] == ["low", "high"]
        assert page.text("#basis") == "12 chunks."
        page.element("#chunk-part summary").click()
        page.wait("document.querySelectorAll('#chunk-rows tr').length === 12")
        rows = [row.text.split(maxsplit=2)[2] for row in page.all("#chunk-rows tr")]
        assert rows[0].startswith("low ")
        assert rows[-1].startswith("high, low ")
        assert page.violations() == []
        assert page.ask(folder / "none.wav") == "None of the labels"
        assert page.complaints() == []
