"""Settings of the documentation's site: ``make docs``."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path

from docutils import nodes
from myst_parser.sphinx_ import Parser
from sphinx.application import Sphinx

DOCS = Path(__file__).parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT / "scripts"))

import audionet  # noqa: E402

project = "AudioNet"
copyright = author = "AudioNet contributors"
version = release = audionet.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "numpydoc"]
exclude_patterns = ["_build"]
source_suffix = {".md": "markdown", ".ipynb": "notebook"}
myst_enable_extensions = ["html_image"]  # a picture with a width
myst_heading_anchors = 4  # links to headings, by the names that GitHub gives them
autodoc_typehints = "none"  # the docstrings state types, with shapes and units
autodoc_member_order = "bysource"
numpydoc_show_class_members = False  # api.md chooses them
html_theme = "furo"
html_title = "AudioNet"
html_copy_source = False

TOP_PAGES = {name: f"{name.upper()}.md" for name in ("readme", "contributing", "changelog", "benchmarks")}
"""Pages of the site that lie in the repository's root; in docs/, files of these names hold a link."""

_LINK = re.compile(r"(\]\(|<img src=\")(?!\w+:|#)([^)#\"\s]+)")


class NotebookParser(Parser):
    """Parser of Jupyter notebooks without outputs, as Markdown: text cells, and code cells as Python blocks."""

    supported = ("notebook",)

    def parse(self, inputstring: str, document: nodes.document) -> None:
        """Parse the JSON of a notebook into a document."""
        parts = []
        for cell in json.loads(inputstring)["cells"]:
            source = "".join(cell["source"])
            parts.append(f"```python\n{source}\n```" if cell["cell_type"] == "code" else source)
        super().parse("\n\n".join(parts), document)


def read_page(app: Sphinx, name: str, source: list[str]) -> None:
    """Take pages from the repository's root, and point links to files outside of docs/ where the site has them."""
    folder = DOCS
    if name in TOP_PAGES:
        folder = ROOT
        source[0] = (ROOT / TOP_PAGES[name]).read_text("utf-8")
        app.env.note_dependency(str(ROOT / TOP_PAGES[name]))  # so that a change of it builds the page again

    def relink(match: re.Match[str]) -> str:
        path = (folder / match[2]).resolve()
        page = next((page for page, file in TOP_PAGES.items() if path == ROOT / file), None)
        target = os.path.relpath(path, DOCS) if page is None else f"{page}.md"
        is_inside = page is not None or path.is_relative_to(DOCS)
        return f"{match[1]}{'' if is_inside else 'path:'}{target}"

    if source and not source[0].startswith("{"):  # a notebook
        source[0] = _LINK.sub(relink, source[0])


def setup(app: Sphinx) -> None:
    """Connect the parser of notebooks and the reading of pages."""
    app.add_source_parser(NotebookParser)
    app.connect("source-read", read_page)
