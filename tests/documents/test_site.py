"""The site that `make docs` builds: its sidebar has every document, in the sections of the index."""

from __future__ import annotations

import runpy

from tests.documents.reading import documents, headings, text_of
from tests.support.stack import ROOT


def test_the_sidebar_has_every_document_in_the_sections_of_the_index():
    index = text_of("docs/index.md")
    contents = runpy.run_path(str(ROOT / "docs" / "site" / "conf.py"))["contents_of"](index)
    captions = [line.removeprefix(":caption: ") for line in contents.splitlines() if line.startswith(":caption: ")]
    assert captions == [words for level, words in headings(index) if level == 2]
    listed = [line for line in contents.splitlines() if line and not line.startswith((":", "```"))]
    found = [(ROOT / "docs" / f"{name}.md").resolve() for name in listed]
    assert sorted(found) == sorted(path for path in documents() if path != ROOT / "docs" / "index.md")
