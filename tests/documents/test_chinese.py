"""Each Chinese document matches its English one: same headings, code, tables and files, and a link to each other."""

from __future__ import annotations

import io
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

import polib
import pytest

from tests.documents.reading import Block, blocks, headings, links, text_of, without_code
from tests.support.stack import ROOT

# A document links to the other language above its first paragraph.
LINES_ON_TOP = 5


@dataclass(frozen=True)
class Pair:
    english: Path
    chinese: Path

    def __str__(self) -> str:
        return self.chinese.name if self.chinese.parent == ROOT else f"zh-CN/{self.chinese.name}"


PAIRS = [
    Pair(ROOT / "README.md", ROOT / "README.zh-CN.md"),
    *(Pair(ROOT / "docs" / path.name, path) for path in sorted((ROOT / "docs" / "zh-CN").glob("*.md"))),
]
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=str)


def without_comments(block: Block) -> list[str]:
    """Return the lines of a block without comments, which may be translated, and without the spaces before them."""
    lines = block.code.splitlines()
    if block.language == "python":
        for token in tokenize.generate_tokens(io.StringIO(block.code).readline):
            # The first line names the file, which has the same name in both languages.
            if token.type == tokenize.COMMENT and token.start[0] > 1:
                lines[token.start[0] - 1] = lines[token.start[0] - 1][: token.start[1]].rstrip()
        return lines
    return [re.sub(r"(^|\s+)#\s.*$", "", line) for line in lines]


def rows_of_tables(text: str) -> list[int]:
    """Return the number of cells of each row of each table."""
    return [line.count(" |") for line in without_code(text).splitlines() if line.startswith("|")]


def files_of(path: Path) -> set[str]:
    """Return the files that a document links to; a Chinese document and its English one count as the same."""
    targets = {
        (path.parent / link.partition("#")[0]).resolve() for link in links(path.read_text()) if "://" not in link
    }
    return {target.name.replace(".zh-CN", "") for target in targets if target.suffix}


def test_there_are_pairs_to_compare():
    assert {pair.english.name for pair in PAIRS} >= {"README.md", "tutorial.md", "from_websockets.md"}


@each_pair
def test_the_headings_have_the_same_levels_in_the_same_order(pair: Pair):
    english, chinese = headings(pair.english.read_text()), headings(pair.chinese.read_text())
    assert [level for level, _ in chinese] == [level for level, _ in english]


@each_pair
def test_the_code_is_the_same(pair: Pair):
    english, chinese = blocks(pair.english.read_text()), blocks(pair.chinese.read_text())
    assert [block.language for block in chinese] == [block.language for block in english]
    for ours, theirs in zip(english, chinese, strict=True):
        assert without_comments(theirs) == without_comments(ours)


@each_pair
def test_the_tables_have_the_same_rows(pair: Pair):
    assert rows_of_tables(pair.chinese.read_text()) == rows_of_tables(pair.english.read_text())


@each_pair
def test_both_lead_to_the_same_files_and_to_each_other(pair: Pair):
    assert files_of(pair.chinese) == files_of(pair.english)
    for page, other in ((pair.english, pair.chinese), (pair.chinese, pair.english)):
        top = "\n".join(page.read_text().splitlines()[:LINES_ON_TOP])
        assert other in {(page.parent / link).resolve() for link in links(top)}


@pytest.mark.parametrize("name", ["README.zh-CN.md", "docs/zh-CN/tutorial.md", "docs/zh-CN/own_scripts.md"])
def test_the_words_of_the_portal_are_those_of_its_catalogue(name: str):
    """In these pages, text between single asterisks is text of the portal."""
    catalogues = [polib.pofile(str(path)) for path in (ROOT / "locale" / "zh_Hans" / "LC_MESSAGES").glob("*.po")]
    shown = {
        text
        for catalogue in catalogues
        for entry in catalogue
        for text in (entry.msgstr, *entry.msgstr_plural.values())
    }
    words = re.findall(r"(?<!\*)\*([^*\n]+)\*(?!\*)", re.sub(r"`[^`\n]*`", "", without_code(text_of(name))))
    assert words and not [word for word in words if word not in shown]
