"""The text of the search field: words, and comparisons such as `learning_rate < 1e-3` or `author = me`."""

from __future__ import annotations

import re
from dataclasses import dataclass

# Names and values may be quoted, to contain blanks and signs.
_PART = re.compile(
    r"""(?P<name>"[^"]+"|[^\s<>=!~"]+)\s*(?P<sign><=|>=|!=|==|=|<|>|~)\s*(?P<value>"[^"]*"|[^\s"]+)"""
    r"""|"(?P<phrase>[^"]*)"|(?P<word>[^\s"]+)|(?P<quote>")"""
)
_PLAIN = re.compile(r"""[^\s<>=!~"]+""")
LONGEST_SEARCH = 500
MOST_TERMS = 20


@dataclass(frozen=True, slots=True)
class Term:
    """A comparison: `sign` is one of = != < <= > >= and ~ (contains)."""

    name: str
    sign: str
    value: str

    def __str__(self) -> str:
        return f"{_quoted(self.name)} {self.sign} {_quoted(self.value)}"


@dataclass(frozen=True, slots=True)
class Search:
    """A parsed search: a run must match every word and every term."""

    words: tuple[str, ...] = ()
    terms: tuple[Term, ...] = ()

    def __str__(self) -> str:
        return " ".join([*map(_quoted, self.words), *map(str, self.terms)])

    def with_term(self, term: Term) -> Search:
        """Return the search with an additional term."""
        return Search(self.words, tuple(dict.fromkeys((*self.terms, term))))

    def without(self, part: str | Term) -> Search:
        """Return the search without one of its words or terms."""
        return Search(
            tuple(word for word in self.words if word != part), tuple(term for term in self.terms if term != part)
        )


def parse(text: str) -> Search:
    """Return the search in `text`. Every text is valid: parts that are not comparisons are words."""
    words: list[str] = []
    terms: list[Term] = []
    for found in _PART.finditer(text[:LONGEST_SEARCH]):
        if (sign := found["sign"]) is not None:
            terms.append(Term(found["name"].strip('"'), "=" if sign == "==" else sign, found["value"].strip('"')))
        elif word := found["phrase"] or found["word"]:
            words.append(word)
    return Search(tuple(dict.fromkeys(words))[:MOST_TERMS], tuple(dict.fromkeys(terms))[:MOST_TERMS])


def _quoted(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else f'"{text}"'
