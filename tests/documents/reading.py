"""Reads the documents: their blocks of code, headings and links."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from tests.support.stack import ROOT


@dataclass(frozen=True)
class Block:
    language: str
    code: str


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(text: str) -> list[Block]:
    return [Block(*found) for found in re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def saved_files(text: str) -> list[str]:
    """Return the names of the files that a reader is asked to save, in order."""
    return re.findall(r"^```python\n# (\w+\.py)\n", text, re.MULTILINE)


def saved_file(text: str, name: str) -> str:
    """Return the text of one of `saved_files`."""
    (found,) = re.findall(rf"```python\n(# {re.escape(name)}\n.*?)```", text, re.DOTALL)
    return str(found)


def headings(text: str) -> list[tuple[int, str]]:
    """Return the level and the text of each heading."""
    return [(len(marks), words) for marks, words in re.findall(r"^(#+) (.+)$", without_code(text), re.MULTILINE)]


def anchors(text: str) -> set[str]:
    """Return the valid fragments of links: each heading in the form that GitHub and Python-Markdown give it."""
    return {re.sub(r"[^\w\- ]", "", words.lower()).strip().replace(" ", "-") for _, words in headings(text)}


def links(text: str) -> list[str]:
    prose = re.sub(r"`[^`\n]*`", "", without_code(text))
    return re.findall(r"\]\(([^)\s]+)\)", prose)


def documents() -> list[Path]:
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
