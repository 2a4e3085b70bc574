"""Pages of the documentation, taken apart: code, links, anchors, and the commands on them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.support.sounds import ROOT

README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = [README, *(ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "BENCHMARKS.md")), *DOCS]
SCRIPTS = {"data_maker": "data", "retrain": "train", "label_image": "label"}
"""Verbs of the scripts that have another name."""

_FENCE = re.compile(r"^( *)```([\w{}-]*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?:\]\(|src=\")(?!\w+:)([^)\"\s]+)")
_INLINE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


class Block(NamedTuple):
    """Fenced code: its language, or an empty string, and its text without the indentation."""

    language: str
    text: str


def blocks(text: str) -> list[Block]:
    """Return the fenced code of a page."""
    return [
        Block(language, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE))
        for indent, language, body in _FENCE.findall(text)
    ]


def prose(text: str) -> str:
    """Return a page without its fenced code."""
    return _FENCE.sub("", text)


def inline_code(text: str) -> list[str]:
    """Return the code within the sentences of a page, joined where a line ends in it."""
    return _INLINE.findall(re.sub(r"(?<=\S)\n *(?=\S)", " ", prose(text)))


def links(text: str) -> list[str]:
    """Return the targets of a page's links to other pages and files."""
    return _LINK.findall(_INLINE.sub("", prose(text)))


def anchors(text: str) -> set[str]:
    """Return the anchors that GitHub and the site give to a page's headings."""
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.+)$", prose(text), re.MULTILINE):
        name = re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")
        copies = (f"{name}-{number}" for number in range(1, 99))
        found.add(name if name not in found else next(copy for copy in copies if copy not in found))
    return found


def commands(text: str) -> Iterator[list[str]]:
    """Return the words of each line of a page's code that runs AudioNet or make, without what a shell does with it."""
    for block in blocks(text):
        if block.language not in ("", "bash"):
            continue
        for line in block.text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            stop = next((place for place, word in enumerate(words) if word in (">", "|", "&&")), len(words))
            yield from filter(None, [command(words[:stop])])


def command(words: list[str]) -> list[str] | None:
    """Return ``audionet VERB ...`` or ``make ...`` for a command in any of its forms; None for other programs."""
    match words:
        case ["audionet" | "make", *_]:
            return words
        case ["python", script, *rest] if script.startswith("scripts/"):
            name = Path(script).stem
            return ["audionet", SCRIPTS.get(name, name), *rest]
    return None
