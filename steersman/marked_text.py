"""The mark of an English text that a page translates later. Standard library only.

`makemessages` finds such texts by the name of the function, so packages that must not import Django can mark theirs.
"""

from __future__ import annotations


def gettext_noop(text: str) -> str:
    """Return the text as it is; the mark alone brings it into the catalogue."""
    return text
