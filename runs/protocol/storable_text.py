"""Characters that no text of the portal has, as no database takes them."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

# NUL, and half a character of a pair: how Python shows a byte of a command line that is no UTF-8.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def option_text(value: str) -> str:
    """Return the text of a command's option. Raises `ArgumentTypeError`: argparse names the option."""
    if UNSTORABLE.search(value):
        raise ArgumentTypeError(f"{ascii(value)} is not UTF-8 text; set the terminal to UTF-8 and give it again")
    return value
