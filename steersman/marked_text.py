"""English texts that a page translates later. Standard library only.

`makemessages` finds such texts by the name of the function, so packages that must not import Django can mark them too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field


def gettext_noop(text: str) -> str:
    """Return the text unchanged; the mark only adds it to the catalogue."""
    return text


@dataclass(frozen=True, slots=True)
class MarkedText:
    """A marked text with placeholders such as %(name)s, whose values may also be marked texts."""

    pattern: str
    places: Mapping[str, object] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.translated(str)

    def translated(self, gettext: Callable[[str], str]) -> str:
        """Return the text in the language of `gettext`, with its placeholders filled in."""
        # gettext("") would return the header of the catalogue.
        pattern = gettext(self.pattern) if self.pattern else ""
        if not self.places:
            return pattern
        return pattern % {
            name: each.translated(gettext) if isinstance(each, MarkedText) else each
            for name, each in self.places.items()
        }
