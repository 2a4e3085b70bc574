"""Write docs/page.jpg, the picture of the page in the README: ``python -m tests.support.page_picture``.

Needs the model of ``make demo``, Chromium and chromedriver. The clip is one that the demo did not train on.
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

from tests.support.browser import Page, chromium
from tests.support.serving import serving
from tests.support.sounds import ROOT, SAMPLE_AUDIO

CLIP = SAMPLE_AUDIO / "flite-slt" / "unseen.mp3"
WIDTH = 960


def take_picture(graph: Path, target: Path) -> None:
    """Ask the page about the clip, and write its picture as far as the chunks' labels, as a JPEG."""
    with (
        tempfile.TemporaryDirectory() as spool,
        serving(graph, temporary=Path(spool)) as server,
        chromium(CLIP) as driver,
    ):
        page = Page(driver, server.url)
        page.look((WIDTH, 1200), prefers_color_scheme="light")
        page.run("document.documentElement.style.scrollbarWidth = 'none'")
        page.ask(CLIP)
        bottom = page.run("return document.getElementById('evidence').getBoundingClientRect().top")
        page.look((WIDTH, int(bottom)), prefers_color_scheme="light")
        png = driver.get_screenshot_as_png()
    Image.open(io.BytesIO(png)).convert("RGB").save(target, quality=80, optimize=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--graph", type=Path, default=ROOT / "tf_files" / "demo" / "retrained_graph.tflite")
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "page.jpg")
    options = parser.parse_args()
    take_picture(options.graph, options.to)
