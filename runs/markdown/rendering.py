"""From Markdown to HTML that a page may show: no scripts, no styles, no pictures, and no headings above the page's own.

markdown-it-py reads the text as CommonMark with tables, strikethrough and bare addresses; nh3 then keeps the tags of
`TAGS` alone, whatever came out of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache, lru_cache

import nh3
from django.utils.safestring import SafeString, mark_safe
from markdown_it import MarkdownIt
from markdown_it.token import Token

# The page's title is h1, and the section with the text has an h2.
HIGHEST_HEADING = 3
LOWEST_HEADING = 6
TAGS = {
    "a", "blockquote", "br", "code", "del", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "strong",
    "table", "tbody", "td", "th", "thead", "tr", "ul",
}  # fmt: skip
ATTRIBUTES = {"a": {"href", "title"}, "ol": {"start"}}
SCHEMES = {"http", "https", "mailto"}
# A reader cannot see where a link leads that a person hid in a page of ours.
LINK_REL = "noopener noreferrer nofollow"
# A table without empty rows has fewer cells than its text has characters.
MOST_CELLS_PER_CHARACTER = 2
# Every open page of a run requests the HTML of the same new note, and each load of a page that of its description. The
# longest texts have 20,000 characters, so these take a few MB.
MOST_KEPT = 128
_NO_TEXT = re.compile(r"[\ud800-\udfff]")
_LINE_END = re.compile(r"\r\n?|\n")
_BLANK_LINE = re.compile(r"\n[ \t]*\n")


@lru_cache(MOST_KEPT)
def rendered(text: str) -> SafeString:
    """Return `text`, which anybody may have written, as HTML. An empty or blank text gives an empty one.

    A line break in the text is a line break on the page, as people expect of a note.
    """
    html: str = _reader(has_tables=not _has_too_many_cells(text)).render(_NO_TEXT.sub("�", text))
    clean = nh3.clean(html, tags=TAGS, attributes=ATTRIBUTES, url_schemes=SCHEMES, link_rel=LINK_REL)
    return mark_safe(clean.strip())  # noqa: S308  nh3 has just cleaned it


def _has_too_many_cells(text: str) -> bool:
    """Return whether a table in `text` may have far more cells than the text has characters.

    Rows get the cells that they lack, so a few kB with a wide head above many short lines would become a megabyte.
    """
    for block in _BLANK_LINE.split(_LINE_END.sub("\n", text)):
        lines = block.split("\n")
        columns = 1 + max(line.count("|") for line in lines)
        if columns * len(lines) > MOST_CELLS_PER_CHARACTER * max(1, len(block)):
            return True
    return False


@cache
def _reader(*, has_tables: bool) -> MarkdownIt:
    # "js-default" limits the depth to which quotes and lists nest, and takes no HTML.
    reader = MarkdownIt("js-default", {"linkify": True, "breaks": True})
    # A picture would be loaded from another host, which the policy of our pages forbids: its link stays.
    reader.disable("image")
    if not has_tables:
        reader.disable("table")
    # Only whole addresses: train.py is a file, and no host in Paraguay.
    assert reader.linkify is not None
    reader.linkify.set({"fuzzy_link": False, "fuzzy_email": False, "fuzzy_ip": False})
    reader.core.ruler.push("lower_headings", lambda state: _lower_headings(state.tokens))
    return reader


def _lower_headings(tokens: Sequence[Token]) -> None:
    for token in tokens:
        if token.type in ("heading_open", "heading_close"):
            level = int(token.tag.removeprefix("h")) + HIGHEST_HEADING - 1
            token.tag = f"h{min(level, LOWEST_HEADING)}"
