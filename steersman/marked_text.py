"""English texts that a page translates later. Standard library only.

`makemessages` finds such texts by the name of the function, so packages that must not import Django can mark theirs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def gettext_noop(text: str) -> str:
    """Return the text as it is; the mark alone brings it into the catalogue."""
    return text


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A marked text with places such as %(name)s. The value of a place may also be a marked text."""

    pattern: str
    places: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.translated(str)

    def translated(self, gettext: Callable[[str], str]) -> str:
        """Return the text in the language of `gettext`, with its places filled in."""
        # gettext("") is the head of the catalogue.
        pattern = gettext(self.pattern) if self.pattern else ""
        if not self.places:
            return pattern
        return pattern % {
            name: each.translated(gettext) if isinstance(each, MarkedText) else each
            for name, each in self.places.items()
        }
