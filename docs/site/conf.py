"""The Sphinx configuration of the site of documents; `scripts/documents.py` runs Sphinx."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

project = "Steersman"
extensions = ["myst_parser"]
root_doc = "docs/index"
html_theme = "furo"
html_title = "Steersman"
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["tables.css"]
# Links to headings, as GitHub and the test of the links form them.
myst_heading_anchors = 4

SECTION = re.compile(r"^## (.+)$", re.MULTILINE)
LINK = re.compile(r"^- \[.*?\]\(([^)]+)\.md\)", re.MULTILINE)


def contents_of(index: str) -> str:
    """Return a table of contents for the sidebar: each section of the index, with the documents that it lists."""
    parts = SECTION.split(index)[1:]
    trees = []
    for caption, text in zip(parts[::2], parts[1::2], strict=True):
        documents = "\n".join(LINK.findall(text))
        trees.append(f"```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{documents}\n```")
    return "\n\n".join(trees)


def add_contents(_: Any, document: str, source: list[str]) -> None:
    if document == root_doc:
        source[0] = f"{source[0]}\n{contents_of(source[0])}\n"


def setup(app: Any) -> None:
    app.connect("source-read", add_contents)
    # Redirect people who open the folder: the index of the documents is one folder deeper.
    app.connect("build-finished", write_door)


def write_door(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.format == "html":
        (Path(app.outdir) / "index.html").write_text(f'<meta http-equiv="refresh" content="0; url={root_doc}.html">\n')
