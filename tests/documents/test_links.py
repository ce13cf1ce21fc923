"""Every document is in the index, and every link leads to a file and a heading that exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.documents.reading import anchors, documents, links, text_of
from tests.support.stack import ROOT


@pytest.mark.parametrize("path", documents(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_each_link_leads_somewhere(path: Path):
    text = path.read_text()
    broken = []
    for link in links(text):
        if link.startswith(("http://", "https://", "mailto:")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        if not target.exists() or (anchor and anchor not in anchors(target.read_text())):
            broken.append(link)
    assert not broken


def test_the_index_has_one_line_for_each_document():
    docs = ROOT / "docs"
    listed = [link for link in links(text_of("docs/index.md")) if not link.startswith("..")]
    assert sorted(listed) == sorted(
        path.relative_to(docs).as_posix() for path in docs.rglob("*.md") if path.name != "index.md"
    )
