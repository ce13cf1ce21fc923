"""Characters that no text of the portal contains, because databases refuse them."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError

# NUL, and lone surrogates, which stand for bytes of a command line that are not UTF-8.
UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def option_text(value: str) -> str:
    """Return the text of a command's option. Raises `ArgumentTypeError`, so that argparse names the option."""
    if UNSTORABLE.search(value):
        raise ArgumentTypeError(f"{ascii(value)} is not UTF-8 text; set the terminal to UTF-8 and enter the text again")
    return value
