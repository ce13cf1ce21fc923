"""Why a message was not sent, as a text without secrets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import quote, quote_plus, unquote, urlsplit

SHORTEST_SECRET = 4
LONGEST_ANSWER = 400
# Parts of addresses that are not secret.
_WORDS = {"robot", "send", "access_token", "webhook", "cgi-bin", "secret", "hook", "https", "http"}
_URL = re.compile(r"\b([a-z][a-z0-9+.-]*)://\S+", re.IGNORECASE)


class NotSent(Exception):
    """A message was not sent. `is_final`: a retry would fail too.

    The text is stored in English. A text is marked for translation in the source if it does not come from a server and
    has no values.
    """

    def __init__(self, text: str, is_final: bool = False) -> None:
        super().__init__(text)
        self.is_final = is_final


def redacted(text: str, secrets: Iterable[str]) -> str:
    """Return a text in one line without addresses and without any part of `secrets`."""
    hidden = {form for secret in secrets for part in _parts(secret) for form in (part, quote(part), quote_plus(part))}
    text = _URL.sub(lambda found: f"{found[1]}://…", text)
    for part in sorted(hidden, key=len, reverse=True):
        text = text.replace(part, "…")
    return " ".join(text.split())[:LONGEST_ANSWER]


def _parts(secret: str) -> set[str]:
    """Return a secret, and if it is a URL, the parts of it that may be keys."""
    found = {secret}
    if "://" in secret:
        rest = secret.partition("://")[2]
        found |= {rest, unquote(rest)} | set(re.split(r"[/?&=@:#]", rest)) | set(re.split(r"[/?&=@:#]", unquote(rest)))
        host = urlsplit(secret.replace("_", "-")).hostname or "" if "[" not in secret else ""
        found -= {host}
    return {part for part in found if len(part) >= SHORTEST_SECRET and part not in _WORDS}
